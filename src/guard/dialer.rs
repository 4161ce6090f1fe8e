//! When a dial may start: how many at once, how long to leave a failing server alone, and who is told that it is down.
//!
//! Failure is kept where its cause is: connectivity for the upstream, a refused login for the pool. While something
//! fails, one dial at a time probes it, after a back-off that doubles up to a maximum. The first success resets.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::terms::{DialCause, GateParams, PoolId, ShedReason};

/// How long to leave something alone that fails.
#[derive(Debug, Clone, Copy, Default)]
struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl Backoff {
    fn failing(&self) -> bool {
        self.failures > 0
    }

    fn over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// Dials that were under way together and fail together count once: they are one piece of news.
    fn failed(&mut self, now: Instant, pace: &mut Pace) {
        if self.failing() && !self.over(now) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.checked_add(pace.delay(self.failures));
    }

    fn succeeded(&mut self) {
        *self = Backoff::default();
    }
}

/// Lengths of back-offs.
#[derive(Debug)]
struct Pace {
    min: Duration,
    max: Duration,
    jitter: SmallRng,
}

impl Pace {
    /// Doubles with each failure up to the maximum, then is cut by up to a half, so that the replicas of a proxy do not
    /// knock in step.
    fn delay(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let delay = self.min.checked_mul(1 << doublings).map_or(self.max, |delay| delay.min(self.max));
        delay.mul_f64(self.jitter.random_range(0.5..=1.0))
    }
}

#[derive(Debug, Default)]
struct PoolDials {
    backoff: Backoff,
    /// First refused login since the pool last had a server. While set, the pool has no live server.
    refused_since: Option<Instant>,
}

/// The dials of one upstream.
#[derive(Debug)]
pub(super) struct Dialer {
    max_dials: usize,
    fail_fast_after: Duration,
    pace: Pace,
    upstream: Backoff,
    /// First failure since the upstream last had a server or answered. While set, none of its servers is alive.
    down_since: Option<Instant>,
    pools: Vec<PoolDials>,
}

/// What the caller knows of the slots when a dial has failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alive {
    /// Servers of the pool that are logged in.
    pub(super) pool: usize,
    /// Servers of all pools that are logged in.
    pub(super) upstream: usize,
}

impl Dialer {
    pub(super) fn new(params: &GateParams) -> Self {
        Dialer {
            max_dials: params.max_dials.max(1),
            fail_fast_after: params.fail_fast_after,
            pace: Pace {
                min: params.dial_backoff_min,
                max: params.dial_backoff_max,
                jitter: SmallRng::seed_from_u64(params.seed),
            },
            upstream: Backoff::default(),
            down_since: None,
            pools: Vec::new(),
        }
    }

    pub(super) fn add_pool(&mut self) {
        self.pools.push(PoolDials::default());
    }

    /// How many dials may start now, with `dialling` under way over all pools.
    pub(super) fn budget(&self, now: Instant, dialling: usize) -> usize {
        if !self.upstream.failing() {
            return self.max_dials.saturating_sub(dialling);
        }
        usize::from(dialling == 0 && self.upstream.over(now))
    }

    /// May this pool dial, with `dialling` of its own under way? (Within the budget of all.)
    pub(super) fn ready(&self, now: Instant, pool: PoolId, dialling: usize) -> bool {
        let backoff = &self.pools[pool.index()].backoff;
        !backoff.failing() || (dialling == 0 && backoff.over(now))
    }

    /// When the pool's next dial is due, if a back-off is what it waits for. Dials under way are waited for without
    /// a timer.
    pub(super) fn next_try(&self, pool: PoolId, pool_dialling: usize, dialling: usize) -> Option<Instant> {
        let own = &self.pools[pool.index()].backoff;
        let probed = (self.upstream.failing() && dialling > 0) || (own.failing() && pool_dialling > 0);
        if probed { None } else { self.upstream.not_before.max(own.not_before) }
    }

    pub(super) fn failed(&mut self, now: Instant, pool: PoolId, cause: DialCause, alive: Alive) {
        let dials = &mut self.pools[pool.index()];
        if cause == DialCause::Unreachable {
            self.upstream.failed(now, &mut self.pace);
            self.down_since = if alive.upstream == 0 { self.down_since.or(Some(now)) } else { None };
            return;
        }
        // The server answered, so it is not down.
        self.upstream.succeeded();
        self.down_since = None;
        dials.backoff.failed(now, &mut self.pace);
        let refused = cause == DialCause::Refused && alive.pool == 0;
        dials.refused_since = if refused { dials.refused_since.or(Some(now)) } else { None };
    }

    pub(super) fn succeeded(&mut self, pool: PoolId) {
        self.upstream.succeeded();
        self.down_since = None;
        self.pools[pool.index()] = PoolDials::default();
    }

    /// Why an arrival need not wait: it has failed for long enough, and nobody is about to find out otherwise. With the
    /// back-off over and no probe under way the arrival is let in, and is the reason for the next probe.
    pub(super) fn refusal(
        &self,
        now: Instant,
        pool: PoolId,
        pool_dialling: usize,
        dialling: usize,
    ) -> Option<ShedReason> {
        let own = &self.pools[pool.index()];
        if self.hopeless(now, self.down_since) && (dialling > 0 || !self.upstream.over(now)) {
            return Some(ShedReason::ServerDown);
        }
        if self.hopeless(now, own.refused_since) && (pool_dialling > 0 || !own.backoff.over(now)) {
            return Some(ShedReason::ServerRefused);
        }
        None
    }

    /// Why a waiter's time has run out. Servers that are busy with others are never called down.
    pub(super) fn blame(&self, pool: PoolId) -> ShedReason {
        if self.down_since.is_some() {
            ShedReason::ServerDown
        } else if self.pools[pool.index()].refused_since.is_some() {
            ShedReason::ServerRefused
        } else {
            ShedReason::QueueTimeout
        }
    }

    pub(super) fn hopelessly_down(&self, now: Instant) -> bool {
        self.hopeless(now, self.down_since)
    }

    pub(super) fn down_since(&self) -> Option<Instant> {
        self.down_since
    }

    pub(super) fn refused_since(&self, pool: PoolId) -> Option<Instant> {
        self.pools[pool.index()].refused_since
    }

    pub(super) fn failures(&self) -> u32 {
        self.upstream.failures
    }

    pub(super) fn pool_failures(&self, pool: PoolId) -> u32 {
        self.pools[pool.index()].backoff.failures
    }

    pub(super) fn backing_off_until(&self) -> Option<Instant> {
        self.upstream.not_before
    }

    pub(super) fn pool_backing_off_until(&self, pool: PoolId) -> Option<Instant> {
        self.pools[pool.index()].backoff.not_before
    }

    pub(super) fn set_max_dials(&mut self, max_dials: usize) {
        self.max_dials = max_dials.max(1);
    }

    fn hopeless(&self, now: Instant, since: Option<Instant>) -> bool {
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.fail_fast_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_millis(450);

    fn pace(seed: u64) -> Pace {
        Pace { min: MIN, max: MAX, jitter: SmallRng::seed_from_u64(seed) }
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
}
