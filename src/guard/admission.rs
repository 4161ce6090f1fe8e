//! Who may wait, for how long, and who of those is next: the deadline-aware queue.
//!
//! A key's queue is in one of four states:
//!
//! | state    | when                                                              | next is the | longest wait |
//! |----------|-------------------------------------------------------------------|-------------|--------------|
//! | short    | it was empty within the last `max_wait`                           | oldest      | `max_wait`   |
//! | draining | longer, but served so fast that it ends before `burst_wait`       | oldest      | `burst_wait` |
//! | standing | longer, and not: more arrive than can be served                   | newest      | [`short_wait`] |
//! | long     | standing for [`LONG_STANDING`] more                               | chosen, then newest | [`short_wait`] |
//!
//! First in, first out under overload serves everybody just as they give up. The newest first serves some at once and tells
//! the others early. While the queue is long standing the lot decides, by client and hour and not by transaction: a
//! function of five transactions works completely or not at all.
//!
//! Nothing is standing while the pool is being filled, is empty, or for [`AFTER_FAILOVER`] after the server has come back; and a
//! key that has less than its fair share is never hurried. A client's own deadline holds always.

use std::time::{Duration, Instant};

use super::gate::{Gate, Pool};
use super::keys::KeyId;
use super::queue::{End, Ticket, Waiter};
use super::terms::{Action, Admission, Caller, Home, PoolId, ShedReason};

/// A standing queue is long after this much more.
const LONG_STANDING: Duration = Duration::from_secs(5);
/// No wait is cut short for this long after the server has come back.
const AFTER_FAILOVER: Duration = Duration::from_secs(1);
/// The shortest wait that a standing queue grants, and for how many usual holds.
const SHORTEST_WAIT: (Duration, u32) = (Duration::from_millis(100), 4);
/// After a drain: another instance is up already, or will be soon.
const ELSEWHERE: Duration = Duration::from_millis(500);
/// How often queues are looked over while somebody waits.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// State of a key's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Short,
    Draining,
    Standing,
    Long,
}

impl Mode {
    /// More arrive than can be served: the newest goes first, and nobody waits for long.
    fn is_overload(self) -> bool {
        matches!(self, Mode::Standing | Mode::Long)
    }
}

impl Gate {
    /// Why this caller, who would have to wait, need not even begin to. None: let it.
    pub(super) fn hopeless(&mut self, now: Instant, pool: PoolId, caller: &Caller) -> Option<ShedReason> {
        if caller.urgent || self.pools[pool.index()].keys.get(caller.key).terms.reserved {
            return None;
        }
        if self.queue.waiting(pool) >= self.pools[pool.index()].limits.max_waiting {
            return Some(ShedReason::QueueFull);
        }
        if self.too_late(now, pool, caller) {
            let known = &mut self.pools[pool.index()];
            if known.limits.admission == Admission::Enforce {
                return Some(ShedReason::Estimate);
            }
            known.observed += 1;
        }
        None
    }

    /// Would the server come too late for the client, or not before the longest wait? Only asked of a pool that is full and
    /// whose holds are known: else nothing can be foretold.
    fn too_late(&self, now: Instant, pool: PoolId, caller: &Caller) -> bool {
        let known = &self.pools[pool.index()];
        let key = known.keys.get(caller.key);
        let may_grow = !self.slots.pool(pool).full() && self.slots.held_up_by(pool).is_none();
        if may_grow || self.unsettled(now, pool) {
            return false;
        }
        let Some((_, ninth)) = key.hold.known() else { return false };
        // The newest waits for hardly anybody.
        let wait = if self.mode(now, pool, caller.key).is_overload() {
            Duration::ZERO
        } else {
            self.estimate(pool, caller.key)
        };
        let needs = if caller.works_by_then { wait + ninth } else { wait };
        wait > known.limits.burst_wait || caller.patience.is_some_and(|patience| needs > patience)
    }

    /// How long the key's last waiter will wait, as far as one can tell.
    pub(super) fn estimate(&self, pool: PoolId, key: KeyId) -> Duration {
        self.time_for(pool, key, self.queue.waiting_of(pool, key))
    }

    /// How long the key's share of the pool takes for so many transactions of its usual length.
    fn time_for(&self, pool: PoolId, key: KeyId, transactions: usize) -> Duration {
        let Pool { keys, limits, .. } = &self.pools[pool.index()];
        let Some(hold) = keys.usual_hold(key) else { return Duration::ZERO };
        let live = self.slots.pool(pool).counts.live().min(limits.active_limit.unwrap_or(usize::MAX));
        let share = keys.fair_share(key, live).max(1.0);
        hold.mul_f64(transactions as f64 / share)
    }

    /// When somebody who is refused now may be served: when those who wait and those who were refused lately could all have
    /// been, or when the server is tried again. To be bounded and jittered by the shell.
    pub fn retry_after(&self, now: Instant, pool: PoolId, key: KeyId, reason: ShedReason) -> Duration {
        match reason {
            ShedReason::QueueTimeout | ShedReason::QueueFull | ShedReason::Estimate => {
                let trend = &self.pools[pool.index()].keys.get(key).trend;
                self.time_for(pool, key, self.queue.waiting_of(pool, key) + trend.recently_shed())
            }
            ShedReason::ServerDown | ShedReason::ServerRefused => {
                let again = self.dialer.backing_off_until().max(self.dialer.pool_backing_off_until(pool));
                again.map_or(Duration::ZERO, |again| again.saturating_duration_since(now))
            }
            ShedReason::Draining => ELSEWHERE,
        }
    }

    /// Puts a caller into the queue.
    pub(super) fn join(&mut self, now: Instant, pool: PoolId, caller: &Caller) -> Ticket {
        let long = self.mode(now, pool, caller.key) == Mode::Long;
        let lot = self.lot(now, caller);
        let known = &mut self.pools[pool.index()];
        known.keys.backlog(now, caller.key);
        let trend = &mut known.keys.get_mut(caller.key).trend;
        trend.arrived();
        if self.queue.waiting(pool) == 0 {
            known.trend.begin(now);
        }
        known.trend.arrived();
        let chosen = caller.urgent || long && f64::from(lot) < trend.admitted * f64::from(u32::MAX);
        let deadline = caller.patience.and_then(|patience| now.checked_add(patience));
        let (key, home) = (caller.key, caller.home);
        self.queue.push(Waiter { pool, key, home, chosen, arrived: now, deadline })
    }

    /// The caller's number in this hour's draw.
    fn lot(&mut self, now: Instant, caller: &Caller) -> u32 {
        let first = *self.first_hour.get_or_insert(now);
        let hour = now.saturating_duration_since(first).as_secs() / 3600;
        caller.lot.wrapping_add((hour as u32).wrapping_mul(0x9E37_79B9))
    }

    /// Takes a waiter out of the queue.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.queue.remove(ticket)?;
        if self.queue.waiting_of(waiter.pool, waiter.key) == 0 {
            self.pools[waiter.pool.index()].keys.clear(waiter.key);
        }
        self.note(waiter.pool);
        Some(waiter)
    }

    /// Takes out who gets a server that is free at this home. Those found whose time has run out are shed.
    pub(super) fn next_waiter(
        &mut self,
        now: Instant,
        pool: PoolId,
        home: Home,
        actions: &mut Vec<Action>,
    ) -> Option<(Ticket, KeyId, Duration)> {
        if self.queue.waiting(pool) == 0 {
            return None;
        }
        loop {
            let size = self.slots.pool(pool).max;
            let key = self.pools[pool.index()].keys.next(now, size)?;
            let mode = self.mode(now, pool, key);
            let longest = self.longest_wait(pool, key, mode);
            let end = if mode.is_overload() { End::Newest } else { End::Oldest };
            let (ticket, waiter) = self.queue.next(pool, key, home, end, self.locality_slack)?;
            let late = waiter.deadline.is_some_and(|deadline| deadline <= now);
            let waited = now.saturating_duration_since(waiter.arrived);
            if !late && waited < longest {
                self.leave(ticket);
                let known = &mut self.pools[pool.index()];
                known.keys.get_mut(key).trend.granted();
                known.trend.granted();
                self.observe(now, &waiter);
                return Some((ticket, key, waited));
            }
            self.shed(now, ticket, self.dialer.blame(pool), actions);
        }
    }

    /// Sheds the pool's waiters whose time has run out, and looks how its queues are doing.
    pub(super) fn look_over(&mut self, now: Instant, pool: PoolId, actions: &mut Vec<Action>) {
        self.pools[pool.index()].trend.roll(now);
        // Backwards, because a key without waiters is replaced by the last one.
        for at in (0..self.pools[pool.index()].keys.backlogged().len()).rev() {
            let key = self.pools[pool.index()].keys.backlogged()[at];
            self.steer(now, pool, key);
            let mode = self.mode(now, pool, key);
            let longest = self.longest_wait(pool, key, mode);
            let kept = if mode == Mode::Standing { self.served_in_time(now, pool, key) } else { 0 };
            let burst_wait = self.pools[pool.index()].limits.burst_wait;
            while let Some((ticket, waiter)) = self.queue.oldest(pool, key)
                && let age = now.saturating_duration_since(waiter.arrived)
                && age >= longest
                && (age >= burst_wait || self.queue.waiting_of(pool, key) > kept)
            {
                self.shed(now, ticket, self.dialer.blame(pool), actions);
            }
        }
    }

    /// How many of a standing queue can be served before `burst_wait`, besides those who arrive meanwhile. They are kept:
    /// if all were sent away at once, the pool would be idle until they come back.
    fn served_in_time(&self, now: Instant, pool: PoolId, key: KeyId) -> usize {
        let known = &self.pools[pool.index()];
        let trend = &known.keys.get(key).trend;
        let left = known.limits.burst_wait.saturating_sub(trend.standing(now));
        (trend.spare_rate(now) * left.as_secs_f64()) as usize
    }

    /// Sheds those whose own deadline has come.
    pub(super) fn shed_late(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some((at, ticket)) = self.queue.next_deadline()
            && at <= now
        {
            let Some(waiter) = self.queue.get(ticket) else { return };
            self.shed(now, ticket, self.dialer.blame(waiter.pool), actions);
        }
    }

    /// Moves the share of clients that are served while the queue is long standing: down while even those wait too long, up
    /// while they leave room for others.
    fn steer(&mut self, now: Instant, pool: PoolId, key: KeyId) {
        let long = self.mode(now, pool, key) == Mode::Long;
        let chosen = self.queue.oldest_chosen(pool, key);
        let short = self.short_wait(pool, key);
        let trend = &mut self.pools[pool.index()].keys.get_mut(key).trend;
        if !trend.roll(now) {
            return;
        }
        if !long {
            trend.admitted = trend.share_served();
            return;
        }
        let late = |waiter: Waiter| now.saturating_duration_since(waiter.arrived) > short / 2;
        trend.admitted = match chosen {
            Some(waiter) if late(waiter) => trend.admitted * 0.8,
            Some(_) => trend.admitted,
            None => (trend.admitted * 1.1 + 0.01).min(1.0),
        };
    }

    /// Counts who would not have been served if the rules were enforced.
    fn observe(&mut self, now: Instant, waiter: &Waiter) {
        let Waiter { pool, key, arrived, .. } = *waiter;
        if self.pools[pool.index()].limits.admission == Admission::Enforce {
            return;
        }
        let longest = self.longest_wait(pool, key, self.true_mode(now, pool, key));
        if now.saturating_duration_since(arrived) >= longest {
            self.pools[pool.index()].observed += 1;
        }
    }

    pub(super) fn mode(&self, now: Instant, pool: PoolId, key: KeyId) -> Mode {
        match self.pools[pool.index()].limits.admission {
            Admission::Enforce => self.true_mode(now, pool, key),
            Admission::Observe => Mode::Short,
        }
    }

    /// As it would be if it were enforced.
    fn true_mode(&self, now: Instant, pool: PoolId, key: KeyId) -> Mode {
        let known = &self.pools[pool.index()];
        let trend = &known.keys.get(key).trend;
        let standing = trend.standing(now);
        if standing < known.limits.max_wait || self.slots.pool(pool).counts.live() == 0 {
            return Mode::Short;
        }
        if self.unsettled(now, pool) {
            return Mode::Draining;
        }
        // Its own queue, or all of them: a burst of many functions with a caller or two each is one, too.
        let own = trend.drained_in(now, self.queue.waiting_of(pool, key));
        let all = known.trend.drained_in(now, self.queue.waiting(pool));
        let soon = |drained: Duration| standing + drained <= known.limits.burst_wait;
        if own.is_some_and(soon) || all.is_some_and(soon) {
            return Mode::Draining;
        }
        if self.cannot_be_late(now, pool, key) {
            return Mode::Short;
        }
        let long = standing > known.limits.max_wait.saturating_add(LONG_STANDING);
        if long { Mode::Long } else { Mode::Standing }
    }

    /// Even if all clients of the key waited at once, the last would be served in time: callers that come back without a pause
    /// keep a queue standing for ever, and need not be refused for that.
    fn cannot_be_late(&self, now: Instant, pool: PoolId, key: KeyId) -> bool {
        let Pool { keys, limits, .. } = &self.pools[pool.index()];
        let key = keys.get(key);
        key.clients as f64 <= key.trend.served_rate(now) * limits.max_wait.as_secs_f64()
    }

    /// The pool does not have yet, or again, what it will have.
    fn unsettled(&self, now: Instant, pool: PoolId) -> bool {
        let counts = self.slots.pool(pool).counts;
        counts.dialling > 0 || counts.live() == 0 || self.recovering(now)
    }

    fn recovering(&self, now: Instant) -> bool {
        self.recovered_at.is_some_and(|at| now.saturating_duration_since(at) < AFTER_FAILOVER)
    }

    fn longest_wait(&self, pool: PoolId, key: KeyId, mode: Mode) -> Duration {
        let known = &self.pools[pool.index()];
        match mode {
            Mode::Short => known.limits.max_wait,
            Mode::Draining => known.limits.burst_wait,
            Mode::Standing | Mode::Long => {
                let keys = &known.keys;
                let active = self.slots.pool(pool).counts.active;
                let fair = keys.fair_share(key, active);
                let entitled = keys.get(key).terms.reserved || (keys.get(key).active + 1) as f64 <= fair;
                if entitled { known.limits.burst_wait } else { self.short_wait(pool, key) }
            }
        }
    }

    fn short_wait(&self, pool: PoolId, key: KeyId) -> Duration {
        let known = &self.pools[pool.index()];
        let hold = known.keys.usual_hold(key).unwrap_or_default();
        SHORTEST_WAIT.0.max(hold * SHORTEST_WAIT.1).min(known.limits.max_wait)
    }
}
