//! Whether the load generator itself was the bottleneck.

use super::summary::nearest_rank;
use super::units::of_micros;
use crate::leg::Leg;

/// Later than this (microseconds), and what the generator adds to every latency can be seen: it is
/// half of the 50 ms that a plan's statement typically takes.
const LATE_US: u64 = 25_000;

/// A leg of five seconds has some fifty samples, of which the 99th percentile is the latest: so many have to be late, and
/// more than one in a hundred, so that a single hiccup of the machine is not told as the generator's limit.
const LATE_SAMPLES: usize = 3;

/// Busier than this (share of all its cores), and work waits for the generator about four times as long as it takes
/// (utilisation over idleness, 0.8 / 0.2), which would be told as the target's latency.
const BUSY: f64 = 0.8;

/// Who needs less than this share of all its cores and is late all the same is kept waiting by others.
const IDLE: f64 = 0.3;

/// How close the generator was to its own limits in one leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saturation {
    /// CPU time over wall time and cores: 1 is everything that it could have.
    pub cpu_share: f64,
    /// 99th percentile of its timers' lag, in microseconds; the most, of fewer than a hundred samples.
    pub lag_us: u64,
    /// Its timers were late so often (more than 1 %, and at least three times) that it is no accident.
    pub is_late: bool,
}

impl Saturation {
    /// In one leg.
    #[must_use]
    pub fn of(leg: &Leg) -> Self {
        let mut lags: Vec<u64> = leg.progress.iter().map(|sample| u64::from(sample.lag_us)).collect();
        lags.sort_unstable();
        let available = of_micros(leg.wall_us) * f64::from(leg.generator.cores);
        let cpu_share = if available > 0.0 { of_micros(leg.generator.cpu_us) / available } else { 0.0 };
        let late = lags.iter().filter(|lag| **lag > LATE_US).count();
        let is_late = late >= LATE_SAMPLES && late.saturating_mul(100) > lags.len();
        Self { cpu_share, lag_us: nearest_rank(&lags, 99).unwrap_or(0), is_late }
    }

    /// It was late and had little to do: others kept the cores busy.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.is_late && self.cpu_share < IDLE
    }

    /// The generator, not the target, was probably what limited this leg.
    #[must_use]
    pub fn is_likely(&self) -> bool {
        self.is_late || self.cpu_share > BUSY
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;
    use crate::leg::{GeneratorLoad, ProgressSample};

    fn leg(cpu_us: u64, lag_us: u32) -> Leg {
        let plan = synthetic::surge();
        let sample = ProgressSample { at_us: 0, in_flight: 0, connections: 0, lag_us };
        Leg {
            wall_us: 1_000_000,
            generator: GeneratorLoad { cpu_us, cores: 2 },
            progress: vec![sample; 10],
            ..synthetic::empty_leg(&plan)
        }
    }

    #[test]
    fn a_busy_or_late_generator_is_told() {
        assert!(!Saturation::of(&leg(1_500_000, 20_000)).is_likely());
        assert!(Saturation::of(&leg(1_700_000, 0)).is_likely());
        assert!(Saturation::of(&leg(0, 26_000)).is_likely());
        assert!(
            Saturation::of(&leg(0, 26_000)).is_starved()
                && !Saturation::of(&leg(1_700_000, 26_000)).is_starved()
        );
        let told = Saturation::of(&leg(500_000, 3));
        assert!((told.cpu_share - 0.25).abs() < 1e-9 && told.lag_us == 3);
    }

    #[test]
    fn a_hiccup_is_not_told_neither_in_a_short_leg_nor_in_a_long_one() {
        let is_told = |samples: usize, late: usize| {
            let mut leg = leg(0, 100);
            leg.progress.resize(samples, leg.progress[0]);
            leg.progress.iter_mut().take(late).for_each(|sample| sample.lag_us = 900_000);
            Saturation::of(&leg).is_likely()
        };
        assert!(!is_told(50, 1) && !is_told(50, 2) && is_told(50, 3), "five seconds");
        assert!(!is_told(1000, 10) && is_told(1000, 11), "a hundred seconds");
        assert!(!is_told(1, 1), "no leg to speak of");
    }

    #[test]
    fn a_leg_that_never_began_saturates_nothing() {
        assert!(!Saturation::of(&synthetic::empty_leg(&synthetic::surge())).is_likely());
    }
}
