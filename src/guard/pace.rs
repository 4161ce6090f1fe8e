//! When something that fails, or that costs, may be tried again: back-offs, and a bucket of tokens. Part of the
//! [`Dialer`](super::dialer::Dialer), which says what they are for.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How long to leave something alone that fails.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    pub(super) failures: u32,
    pub(super) not_before: Option<Instant>,
}

impl Backoff {
    pub(super) fn failing(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// Dials that were under way together and fail together count once: they are one piece of news.
    pub(super) fn failed(&mut self, now: Instant, pace: &mut Pace) {
        if self.failing() && !self.over(now) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.checked_add(pace.delay(self.failures));
    }

    pub(super) fn succeeded(&mut self) {
        *self = Backoff::default();
    }
}

/// Lengths of back-offs, and all other chance in the decisions about dials.
#[derive(Debug)]
pub(super) struct Pace {
    min: Duration,
    max: Duration,
    jitter: SmallRng,
}

impl Pace {
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Pace { min, max, jitter: SmallRng::seed_from_u64(seed) }
    }

    /// Doubles with each failure up to the maximum, then is cut by up to a half, so that the replicas of a proxy do not
    /// knock in step.
    pub(super) fn delay(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let delay = self.min.checked_mul(1 << doublings).map_or(self.max, |delay| delay.min(self.max));
        self.shortened(delay)
    }

    /// The same span, cut by up to a half.
    pub(super) fn shortened(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.jitter.random_range(0.5..=1.0))
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.jitter.random_bool(probability.min(1.0))
    }

    pub(super) fn longest(&self) -> Duration {
        self.max
    }
}

/// A bucket of tokens: one is spent by each dial, and `rate` come back in a second, up to `burst`.
///
/// Kept as the time at which the bucket will be full again (GCRA): it needs no timer to be filled, and when the next token
/// is due does not depend on when one asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens {
    /// Time in which one token comes back.
    each: Duration,
    burst: u32,
    full_at: Option<Instant>,
}

impl Tokens {
    /// At least one token a second, and room for one.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        Tokens { each: Duration::from_secs(1) / rate.max(1), burst: burst.max(1), full_at: None }
    }

    /// Another rate and burst. The tokens that are missing go on missing, up to the burst.
    pub(super) fn set(&mut self, now: Instant, rate: u32, burst: u32) {
        let other = Tokens::new(rate, burst);
        let missing = (self.burst as usize - self.available(now)).min(other.burst as usize) as u32;
        let full_at = self.full_at.and_then(|_| now.checked_add(other.each * missing));
        *self = Tokens { full_at, ..other };
    }

    pub(super) fn available(&self, now: Instant) -> usize {
        let Some(full_at) = self.full_at else { return self.burst as usize };
        let missing = full_at.saturating_duration_since(now).as_nanos().div_ceil(self.each.as_nanos().max(1));
        (self.burst as usize).saturating_sub(missing as usize)
    }

    /// Spends one. Whoever spends what is not there waits longer for the next.
    pub(super) fn spend(&mut self, now: Instant) {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = full_at.checked_add(self.each);
    }

    /// When there is or was a token again. None: nothing was ever spent.
    pub(super) fn next(&self) -> Option<Instant> {
        self.full_at?.checked_sub(self.each * (self.burst - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_millis(450);

    fn pace(seed: u64) -> Pace {
        Pace::new(MIN, MAX, seed)
    }

    #[test]
    fn back_offs_double_up_to_the_maximum_and_are_jittered_down_to_a_half() {
        let mut pace = pace(1);
        for (failures, full) in [(1, 100), (2, 200), (3, 400), (4, 450), (5, 450), (u32::MAX, 450)] {
            let full = Duration::from_millis(full);
            for _ in 0..100 {
                let delay = pace.delay(failures);
                assert!(delay >= full / 2 && delay <= full, "{failures} failures: {delay:?}");
            }
        }
    }

    #[test]
    fn two_seeds_do_not_knock_in_step_and_one_seed_repeats() {
        let delays = |seed| {
            let mut pace = pace(seed);
            (1..10).map(|failures| pace.delay(failures)).collect::<Vec<_>>()
        };
        assert_ne!(delays(1), delays(2));
        assert_eq!(delays(1), delays(1));
    }

    #[test]
    fn dials_that_fail_together_count_once() {
        let (mut pace, mut backoff, now) = (pace(1), Backoff::default(), Instant::now());
        for _ in 0..4 {
            backoff.failed(now, &mut pace);
        }
        assert_eq!(backoff.failures, 1);
        backoff.failed(now + MAX, &mut pace);
        assert_eq!(backoff.failures, 2);
        backoff.succeeded();
        assert!(!backoff.failing() && backoff.over(now));
    }

    #[test]
    fn a_burst_of_tokens_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut tokens = Tokens::new(50, 3);
        assert_eq!((tokens.available(now), tokens.next()), (3, None));
        for left in [2, 1, 0] {
            tokens.spend(now);
            assert_eq!(tokens.available(now), left);
        }
        let due = tokens.next().expect("something was spent");
        assert_eq!(due - now, Duration::from_millis(20));
        assert_eq!((tokens.available(due - Duration::from_nanos(1)), tokens.available(due)), (0, 1));
        assert_eq!(tokens.available(now + Duration::from_millis(59)), 2);
        assert_eq!(tokens.available(now + Duration::from_secs(60)), 3, "no more than the burst");
    }

    #[test]
    fn another_rate_keeps_what_is_missing() {
        let now = Instant::now();
        let mut tokens = Tokens::new(10, 4);
        tokens.set(now, 20, 6);
        assert_eq!((tokens.available(now), tokens.next()), (6, None));
        tokens.spend(now);
        tokens.spend(now);
        tokens.set(now, 1, 3);
        assert_eq!(tokens.available(now), 1);
        assert_eq!(tokens.available(now + Duration::from_secs(1)), 2);
        tokens.set(now, 1, 1);
        assert_eq!((tokens.available(now), tokens.next()), (0, now.checked_add(Duration::from_secs(1))));
    }

    #[test]
    fn over_ten_seconds_tokens_are_the_burst_and_the_rate() {
        for (rate, burst) in [(1, 1), (7, 3), (50, 40), (1_000_000, 1)] {
            let (start, mut tokens, mut spent) = (Instant::now(), Tokens::new(rate, burst), 0);
            let mut now = start;
            let seconds = if rate > 1000 { 0.01 } else { 10.0 };
            while (now - start).as_secs_f64() < seconds {
                while tokens.available(now) > 0 {
                    tokens.spend(now);
                    spent += 1;
                }
                now = tokens.next().expect("something was spent").max(now);
            }
            let most = f64::from(burst) + f64::from(rate) * seconds;
            assert!(
                f64::from(spent) <= most && f64::from(spent) >= most - 2.0,
                "{rate}/s: {spent} of {most}"
            );
        }
    }
}
