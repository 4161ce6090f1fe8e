//! When a dial may start: how many at once and in a second, how long to leave a failing server alone, and who is told
//! that it is down.
//!
//! Failure is kept where its cause is: a server that cannot be reached or is full for the upstream, a refused login for
//! the pool. While something fails, one dial at a time probes it, after a back-off that doubles up to a maximum. The
//! first success resets. A server that fails some dials and not others is dialled less often (`throttle`).

use std::time::{Duration, Instant};

use super::pace::{Backoff, Pace, Tokens};
use super::snapshot::Breaker;
use super::terms::{DialCause, GateParams, PoolId, ShedReason, UpstreamLimits};
use super::throttle::Throttle;

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
    tokens: Tokens,
    throttle: Throttle,
    /// The throttle holds back dials until then.
    held_until: Option<Instant>,
    pub(super) pace: Pace,
    upstream: Backoff,
    /// The one dial under way began while the upstream was failing.
    probing: bool,
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
            tokens: Tokens::new(params.dial_rate, params.dial_burst),
            throttle: Throttle::default(),
            held_until: None,
            pace: Pace::new(params.dial_backoff_min, params.dial_backoff_max, params.seed),
            upstream: Backoff::default(),
            probing: false,
            down_since: None,
            pools: Vec::new(),
        }
    }

    pub(super) fn add_pool(&mut self) {
        self.pools.push(PoolDials::default());
    }

    /// How many dials may start now, with `dialling` under way over all pools.
    pub(super) fn budget(&self, now: Instant, dialling: usize) -> usize {
        if self.held_until.is_some_and(|until| until > now) {
            return 0;
        }
        let at_once = match self.upstream.failing() {
            true => usize::from(dialling == 0 && self.upstream.over(now)),
            false => self.max_dials.saturating_sub(dialling),
        };
        at_once.min(self.tokens.available(now))
    }

    /// A dial starts. If too many of the last ones failed, chance decides how long the next one is held back; never
    /// for longer than the longest back-off, so that a pool that needs servers goes on asking.
    pub(super) fn started(&mut self, now: Instant) {
        self.tokens.spend(now);
        self.held_until = None;
        self.probing = self.upstream.failing();
        if self.probing {
            return;
        }
        let (share, most) = (self.throttle.rejection(now), self.pace.longest());
        let mut hold = Duration::ZERO;
        while hold < most && self.pace.chance(share) {
            hold += self.pace.delay(1);
        }
        if !hold.is_zero() {
            self.held_until = now.checked_add(hold.min(most));
        }
    }

    /// May this pool dial, with `dialling` of its own under way? (Within the budget of all.)
    pub(super) fn ready(&self, now: Instant, pool: PoolId, dialling: usize) -> bool {
        let backoff = &self.pools[pool.index()].backoff;
        !backoff.failing() || (dialling == 0 && backoff.over(now))
    }

    /// When the pool's next dial is due, if time is what it waits for: the end of a back-off, a token, the end of a hold.
    /// Dials under way are waited for without a timer.
    pub(super) fn next_try(&self, pool: PoolId, pool_dialling: usize, dialling: usize) -> Option<Instant> {
        let own = &self.pools[pool.index()].backoff;
        let probed = (self.upstream.failing() && dialling > 0) || (own.failing() && pool_dialling > 0);
        if probed || dialling >= self.max_dials {
            return None;
        }
        self.upstream.not_before.max(own.not_before).max(self.next_dial_at())
    }

    /// When the rate and the throttle let the next dial start; in the past if they do now. None: they never held one back.
    pub(super) fn next_dial_at(&self) -> Option<Instant> {
        self.tokens.next().max(self.held_until)
    }

    pub(super) fn failed(&mut self, now: Instant, pool: PoolId, cause: DialCause, alive: Alive) {
        self.count(now, cause);
        match cause {
            DialCause::Unreachable => {
                self.upstream.failed(now, &mut self.pace);
                self.down_since = if alive.upstream == 0 { self.down_since.or(Some(now)) } else { None };
                return;
            }
            // It answered, so it is not down; but no pool will be let in.
            DialCause::TooManyConnections => self.upstream.failed(now, &mut self.pace),
            DialCause::Refused | DialCause::ConnectionLimit => self.upstream.succeeded(),
            DialCause::NoFiles => {}
        }
        let dials = &mut self.pools[pool.index()];
        if cause != DialCause::NoFiles {
            self.down_since = None;
        }
        if cause != DialCause::TooManyConnections {
            dials.backoff.failed(now, &mut self.pace);
        }
        let refused = cause == DialCause::Refused && alive.pool == 0;
        dials.refused_since = if refused { dials.refused_since.or(Some(now)) } else { None };
    }

    pub(super) fn succeeded(&mut self, now: Instant, pool: PoolId) {
        if self.hopelessly_down(now) {
            // An outage that is over says nothing about the server of now.
            self.throttle.clear();
        } else if !self.probing {
            self.throttle.note(now, true);
        }
        self.probing = false;
        self.upstream.succeeded();
        self.down_since = None;
        self.pools[pool.index()] = PoolDials::default();
    }

    /// Probes are few already, and what they find out is the breaker's matter; so they are not the throttle's. Dials that
    /// were under way together and fail together count once, as for the back-off.
    fn count(&mut self, now: Instant, cause: DialCause) {
        let probed = std::mem::take(&mut self.probing);
        let known = cause == DialCause::Unreachable && self.upstream.failing();
        if !probed && !known && cause != DialCause::NoFiles {
            self.throttle.note(now, cause != DialCause::Unreachable);
        }
    }

    /// What arrivals are told. With the back-off over and no probe under way, an arrival is let in, and is the reason for
    /// the next probe.
    pub(super) fn breaker(&self, now: Instant, dialling: usize) -> Breaker {
        match () {
            () if !self.hopelessly_down(now) => Breaker::Closed,
            () if dialling > 0 || self.upstream.over(now) => Breaker::HalfOpen,
            () => Breaker::Open,
        }
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
        match self.breaker(now, dialling) {
            Breaker::Open => return Some(ShedReason::ServerDown),
            Breaker::HalfOpen if dialling > 0 => return Some(ShedReason::ServerDown),
            Breaker::HalfOpen | Breaker::Closed => {}
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

    pub(super) fn set_limits(&mut self, now: Instant, limits: &UpstreamLimits) {
        self.max_dials = limits.max_dials.max(1);
        self.tokens.set(now, limits.dial_rate, limits.dial_burst);
    }

    fn hopeless(&self, now: Instant, since: Option<Instant>) -> bool {
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.fail_fast_after)
    }
}
