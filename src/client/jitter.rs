//! When refused clients are to come back: spread, so that those who were refused together do not return together.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::lock::lock;

/// Shortest pause before its jitter: below it a retry costs more than the wait that it saves.
const SHORTEST: Duration = Duration::from_millis(50);
/// Longest pause before its jitter: beyond it nobody knows anything.
const LONGEST: Duration = Duration::from_secs(60);

/// When a refused client may try again, jittered: the `retry_after_ms` of its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryAfter(Duration);

/// Where the jitter comes from: one for all clients, with a seed of its own.
#[derive(Debug)]
pub(super) struct Jitter(Mutex<SmallRng>);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed)))
    }

    /// `base` from half to one and a half times, itself held between 50 ms and a minute.
    pub(super) fn spread(&self, base: Duration) -> RetryAfter {
        let factor = lock(&self.0).random_range(0.5..=1.5);
        RetryAfter(base.clamp(SHORTEST, LONGEST).mul_f64(factor))
    }

    /// `least` up to one and a half times: before it, one more is sure to be refused.
    pub(super) fn beyond(&self, least: Duration) -> RetryAfter {
        let factor = lock(&self.0).random_range(1.0..=1.5);
        RetryAfter(least.max(SHORTEST).mul_f64(factor))
    }
}

/// As it stands in a DETAIL.
impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "retry_after_ms={}", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn spread(base: Duration) -> Vec<u128> {
        let jitter = Jitter::new(7);
        (0..1000).map(|_| jitter.spread(base).0.as_millis()).collect()
    }

    #[test]
    fn pauses_are_from_half_to_one_and_a_half_times_and_fill_that_range() {
        let pauses = spread(1000 * MS);
        assert!(pauses.iter().all(|pause| (500..=1500).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause < 550) && pauses.iter().any(|pause| *pause > 1450));
    }

    #[test]
    fn bases_have_a_floor_and_a_cap() {
        assert!(spread(Duration::ZERO).iter().all(|pause| (25..=75).contains(pause)));
        assert!(spread(Duration::MAX).iter().all(|pause| (30_000..=90_000).contains(pause)));
    }

    #[test]
    fn nobody_is_told_to_come_too_early() {
        let jitter = Jitter::new(7);
        let pauses: Vec<_> = (0..1000).map(|_| jitter.beyond(100 * MS).0.as_millis()).collect();
        assert!(pauses.iter().all(|pause| (100..=150).contains(pause)), "{pauses:?}");
        assert!(
            jitter.beyond(Duration::ZERO).0 >= SHORTEST
                && jitter.beyond(3600 * 1000 * MS).0 >= 3600 * 1000 * MS
        );
    }

    #[test]
    fn one_seed_repeats_and_two_do_not_agree() {
        let pauses = |seed| {
            let jitter = Jitter::new(seed);
            [0; 8].map(|_| jitter.spread(1000 * MS).to_string())
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
        assert!(pauses(1).iter().all(|pause| pause.starts_with("retry_after_ms=")));
    }
}
