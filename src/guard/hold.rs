//! How long servers are held: a mean and a ninth decile that follow the times, in constant space.

use std::time::Duration;

/// Weight of a new value in the mean, once there are enough.
const WEIGHT: f64 = 0.05;
/// Part of the mean by which the decile moves.
const STEP: f64 = 0.1;
/// With fewer values nothing is foretold.
const ENOUGH: u32 = 20;

/// Smoothed durations, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hold {
    seen: u32,
    mean: f64,
    decile: f64,
}

impl Hold {
    pub(super) fn add(&mut self, held: Duration) {
        let held = held.as_secs_f64();
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            (self.mean, self.decile) = (held, held);
            return;
        }
        self.mean += (held - self.mean) * (1.0 / f64::from(self.seen)).max(WEIGHT);
        // Nine times as far up as down: at rest where one value in ten is above it.
        let step = self.mean * STEP;
        self.decile += if held > self.decile { step * 0.9 } else { -step * 0.1 };
        self.decile = self.decile.max(0.0);
    }

    /// None before the first.
    pub(super) fn mean(&self) -> Option<Duration> {
        (self.seen > 0).then(|| Duration::from_secs_f64(self.mean))
    }

    /// Mean and ninth decile, once there are enough to go by.
    pub(super) fn known(&self) -> Option<(Duration, Duration)> {
        let known = || (Duration::from_secs_f64(self.mean), Duration::from_secs_f64(self.decile));
        (self.seen >= ENOUGH).then(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_mean_and_the_ninth_decile() {
        let mut hold = Hold::default();
        assert!(hold.mean().is_none());
        for value in 0..20_000_u64 {
            hold.add(Duration::from_millis(1 + value * 7919 % 100));
        }
        let (mean, decile) = hold.known().unwrap();
        assert!((40..60).contains(&mean.as_millis()), "{mean:?}");
        assert!((80..100).contains(&decile.as_millis()), "{decile:?}");
        (0..2000).for_each(|_| hold.add(Duration::from_millis(5)));
        let (mean, decile) = hold.known().unwrap();
        assert!(mean.as_millis() <= 6 && decile.as_millis() <= 7, "{mean:?} {decile:?}");
    }

    #[test]
    fn too_few_foretell_nothing() {
        let mut hold = Hold::default();
        (0..ENOUGH - 1).for_each(|_| hold.add(Duration::from_millis(5)));
        assert!(hold.known().is_none());
        hold.add(Duration::ZERO);
        assert!(hold.known().is_some());
    }
}
