//! The gate of one upstream: one method per event, and what each leads to.
//!
//! An event first moves its slot or its waiter, and then settles what has become possible by it: dials for waiters,
//! then for `min_idle`, then room made at the cost of others (`share`). Events that make nothing possible (a grant, a
//! server stored or handed on) settle nothing, which keeps the hot path short.

use std::time::{Duration, Instant};

use super::admission::LOOK;
use super::budget::Budget;
use super::dialer::{Alive, Dialer};
use super::keys::{KeyId, KeyTerms, Keys};
use super::queue::{Queue, Ticket};
use super::renewal::Renewal;
use super::slots::{Slots, Step};
use super::terms::{
    Action, Arrival, Caller, DialCause, GateParams, GroupId, Home, Placement, PoolId, PoolLimits, ShedReason,
    UpstreamLimits,
};
use super::trend::Trend;

/// What the gate keeps of one pool beside its slots, waiters and dials.
#[derive(Debug)]
pub(super) struct Pool {
    /// As told, but that `burst_wait` is not less than `max_wait`.
    pub(super) limits: PoolLimits,
    /// Most active at once since it was last asked.
    peak: usize,
    /// Its functions.
    pub(super) keys: Keys,
    /// What became of all its waiters lately.
    pub(super) trend: Trend,
    /// Waiters that would have been refused early if that were enforced.
    pub(super) observed: u64,
    /// A login waits for a first server here, without being in the queue.
    pub(super) warm: Option<Home>,
    /// What PostgreSQL has refused it.
    pub(super) budget: Budget,
    /// Idle servers that are soon too old.
    pub(super) renewal: Renewal,
    /// When a client last got a server. None: never.
    pub(super) last_granted: Option<Instant>,
    /// Position in `Gate::wanting`.
    wanting_at: Option<usize>,
}

/// The admission machine in front of the pools of one upstream server. See the module's table of events.
pub struct Gate {
    pub(super) slots: Slots,
    pub(super) queue: Queue,
    pub(super) dialer: Dialer,
    /// What PostgreSQL has refused all pools.
    pub(super) budget: Budget,
    pub(super) pools: Vec<Pool>,
    /// Pools whose own budget is reduced.
    pub(super) reduced: Vec<PoolId>,
    /// Pools that would have more servers if they could: with waiters, with a login to warm up for, or below `min_idle`.
    pub(super) wanting: Vec<PoolId>,
    /// Whose dial probes a server that is down, so that its return is noticed without anybody waiting.
    probe: Option<PoolId>,
    /// When an idle server of another pool may next be taken for a waiter.
    pub(super) reclaim_at: Option<Instant>,
    /// When the server came back after it could not be reached.
    pub(super) recovered_at: Option<Instant>,
    /// When the queues were last looked over.
    looked_at: Option<Instant>,
    /// From when on hours are counted.
    pub(super) first_hour: Option<Instant>,
    seed: u64,
    /// When it was last settled what may be dialled. What was due by then and was not done waits for an event.
    settled_at: Option<Instant>,
    pub(super) locality_slack: Duration,
    pub(super) reclaim_after: Duration,
    pub(super) draining: bool,
    /// Events that contradicted the slots: faults of the caller, ignored.
    pub(super) misuses: u64,
}

impl Gate {
    /// A gate without pools.
    pub fn new(params: GateParams) -> Self {
        Gate {
            slots: Slots::new(params.max_connections, params.reserved_connections, params.homes),
            queue: Queue::new(params.homes),
            dialer: Dialer::new(&params),
            budget: Budget::default(),
            pools: Vec::new(),
            reduced: Vec::new(),
            wanting: Vec::new(),
            probe: None,
            reclaim_at: None,
            recovered_at: None,
            looked_at: None,
            first_hour: None,
            seed: params.seed,
            settled_at: None,
            locality_slack: params.locality_slack,
            reclaim_after: params.reclaim_after,
            draining: false,
            misuses: 0,
        }
    }

    /// A group of pools (a database) with `max` server connections between them.
    pub fn add_group(&mut self, max: usize) -> GroupId {
        self.slots.add_group(max)
    }

    /// A pool of this group. Its `min_idle` is dialled at the next `tick`: call one when all pools are added.
    pub fn add_pool(&mut self, group: GroupId, limits: PoolLimits) -> PoolId {
        self.queue.add_pool();
        self.dialer.add_pool();
        self.pools.push(Pool {
            limits: limits.consistent(),
            peak: 0,
            keys: Keys::new(self.seed),
            trend: Trend::default(),
            observed: 0,
            warm: None,
            budget: Budget::default(),
            renewal: Renewal::default(),
            last_granted: None,
            wanting_at: None,
        });
        let pool = self.slots.add_pool(group, limits.size);
        self.note(pool);
        pool
    }

    /// This pool, which has no server yet, may use the upstream's `reserved_connections`.
    pub fn let_use_reserve(&mut self, pool: PoolId) {
        self.slots.set_privileged(pool);
    }

    /// A client of this pool has logged in or goes by a new name: the key for its transactions, until [`Gate::leave_key`].
    pub fn enter_key(&mut self, pool: PoolId, name: &str, terms: KeyTerms) -> KeyId {
        self.pools[pool.index()].keys.enter(name, terms)
    }

    /// The client goes by that name no more. Once for each `enter_key`.
    pub fn leave_key(&mut self, pool: PoolId, key: KeyId) {
        self.pools[pool.index()].keys.leave(key);
    }

    /// A client starts a transaction.
    pub fn arrive(
        &mut self,
        now: Instant,
        pool: PoolId,
        caller: &Caller,
        actions: &mut Vec<Action>,
    ) -> Arrival {
        let reason = match self.slots.nearest_idle(pool, caller.home) {
            _ if self.draining => ShedReason::Draining,
            Some(from) if self.may_have_idle(pool, caller.key) => {
                self.take_from_store(now, pool, caller.key, from, None);
                return Arrival::Granted { from };
            }
            _ => match self.enqueue(now, pool, caller, actions) {
                Ok(ticket) => return Arrival::Queued(ticket),
                Err(reason) => reason,
            },
        };
        self.pools[pool.index()].keys.shed(caller.key);
        Arrival::Shed(reason, self.retry_after(now, pool, caller.key, reason))
    }

    /// The waiter's client went away or cancelled: it leaves the queue in O(1). How long it had waited; None if the ticket
    /// had ended already, in which case a server or a refusal is on its way to it.
    pub fn abandon(&mut self, now: Instant, ticket: Ticket) -> Option<Duration> {
        let waiter = self.leave(ticket)?;
        Some(now.saturating_duration_since(waiter.arrived))
    }

    /// An active server, which lives at `home`, is free again: outside a transaction, in step, fit for the next client. It
    /// was held for so long by a client of this key.
    pub fn returned(
        &mut self,
        now: Instant,
        pool: PoolId,
        home: Home,
        (key, held): (KeyId, Duration),
        actions: &mut Vec<Action>,
    ) -> Placement {
        if self.slots.pool(pool).counts.active == 0 {
            self.misused();
            return Placement::Close;
        }
        let keys = &mut self.pools[pool.index()].keys;
        keys.returned(now, key, held);
        keys.get_mut(key).done += 1;
        self.place(now, pool, home, actions)
    }

    /// A dial ordered for this pool and home succeeded.
    pub fn dialled(
        &mut self,
        now: Instant,
        pool: PoolId,
        home: Home,
        actions: &mut Vec<Action>,
    ) -> Placement {
        if !self.shift(pool, home, Step::Connect) {
            return Placement::Close;
        }
        if self.dialer.failures() > 0 {
            self.recovered_at = Some(now);
        }
        self.dialer.succeeded(now, pool);
        self.prove(now, pool);
        self.pools[pool.index()].warm = None;
        self.set_probe(None);
        let placement = self.place(now, pool, home, actions);
        if placement == Placement::Store {
            self.pools[pool.index()].renewal.stored();
            self.note(pool);
        }
        self.settle(now, actions);
        placement
    }

    /// A dial ordered for this pool and home failed.
    pub fn dial_failed(
        &mut self,
        now: Instant,
        pool: PoolId,
        home: Home,
        cause: DialCause,
        actions: &mut Vec<Action>,
    ) {
        if !self.shift(pool, home, Step::Fail) {
            return;
        }
        let alive = Alive {
            pool: self.slots.pool(pool).counts.live(),
            upstream: self.slots.upstream().counts.live(),
        };
        self.dialer.failed(now, pool, cause, alive);
        self.shrink(now, pool, cause);
        if cause == DialCause::Refused {
            // The login that asked for it would be refused again.
            self.pools[pool.index()].warm = None;
        }
        self.set_probe(self.dialer.down_since().map(|_| pool));
        self.note(pool);
        self.settle(now, actions);
    }

    /// An active server of this pool is being closed (lost, out of step, too old), after it was held for so long by a client
    /// of this key. It counts until `closed`.
    pub fn discard(
        &mut self,
        now: Instant,
        pool: PoolId,
        (key, held): (KeyId, Duration),
        actions: &mut Vec<Action>,
    ) {
        self.pools[pool.index()].keys.returned(now, key, held);
        self.shift(pool, Home(0), Step::Discard);
        self.use_idle(now, pool, actions);
        self.settle(now, actions);
    }

    /// May an idle server of this pool and home be taken out of its store and closed (lost, too old, idle for too long)?
    /// If true it counts until `closed`; if false there is none, or it has just been granted.
    pub fn take_idle(&mut self, now: Instant, pool: PoolId, home: Home, actions: &mut Vec<Action>) -> bool {
        if self.slots.idle_at(pool, home) == 0 {
            return false;
        }
        self.shift(pool, home, Step::Evict);
        self.settle(now, actions);
        true
    }

    /// The socket of a closing server is gone for good, and PostgreSQL no longer counts it.
    pub fn closed(&mut self, now: Instant, pool: PoolId, actions: &mut Vec<Action>) {
        self.shift(pool, Home(0), Step::Vacate);
        self.settle(now, actions);
    }

    /// Sees to it that the pool gets a server if it has none, as fast as back-offs and bounds allow. For a login
    /// that needs what PostgreSQL reports at its start.
    pub fn warm(&mut self, now: Instant, pool: PoolId, home: Home, actions: &mut Vec<Action>) {
        if self.draining || self.slots.pool(pool).counts.live() > 0 {
            return;
        }
        self.pools[pool.index()].warm = Some(home);
        self.note(pool);
        self.settle(now, actions);
    }

    /// Time has passed: sheds the waiters whose time has run out, starts the dials that are due.
    pub fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.looked_at = Some(now);
        self.shed_late(now, actions);
        // Backwards, because a pool that wants nothing any more is replaced by the last one.
        for at in (0..self.wanting.len()).rev() {
            let pool = self.wanting[at];
            self.look_over(now, pool, actions);
            self.use_idle(now, pool, actions);
        }
        self.settle(now, actions);
    }

    /// When `tick` is next needed. None: not before another event. Cheap enough to ask after every event; a grant, a store
    /// and a hand-over do not bring it forward, except where pools compete for a shared bound.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.draining {
            return None;
        }
        let due = earlier(earlier(self.reclaim_at, self.regrow_at()), self.queue.deadline_due());
        self.wanting.iter().fold(due, |due, &pool| {
            let due = earlier(due, self.look_due(pool));
            earlier(due, self.next_try(pool))
        })
    }

    /// New limits for a pool. What is idle beyond them is closed at once, what is active when it comes back.
    pub fn resize_pool(&mut self, now: Instant, pool: PoolId, limits: PoolLimits, actions: &mut Vec<Action>) {
        self.pools[pool.index()].limits = limits.consistent();
        self.slots.set_pool_size(pool, limits.size);
        self.note(pool);
        self.trim(now, actions);
        self.use_idle(now, pool, actions);
    }

    /// So many servers of the pool may be active at once; None: as many as there are. Nothing is closed.
    pub fn set_active_limit(
        &mut self,
        now: Instant,
        pool: PoolId,
        limit: Option<usize>,
        actions: &mut Vec<Action>,
    ) {
        self.pools[pool.index()].limits.active_limit = limit;
        self.use_idle(now, pool, actions);
        self.settle(now, actions);
    }

    /// Most active servers of the pool at once since this was last asked.
    pub fn take_peak(&mut self, pool: PoolId) -> usize {
        let active = self.slots.pool(pool).counts.active;
        std::mem::replace(&mut self.pools[pool.index()].peak, active)
    }

    /// New terms for the functions of a pool, by their names. Clients that come later bring theirs to
    /// [`enter_key`](Self::enter_key).
    pub fn set_key_terms(
        &mut self,
        now: Instant,
        pool: PoolId,
        terms_of: impl Fn(&str) -> KeyTerms,
        actions: &mut Vec<Action>,
    ) {
        self.pools[pool.index()].keys.set_terms(now, terms_of);
        self.use_idle(now, pool, actions);
    }

    /// A new bound for a group. As with [`resize_pool`](Self::resize_pool).
    pub fn resize_group(&mut self, now: Instant, group: GroupId, max: usize, actions: &mut Vec<Action>) {
        self.slots.set_group_max(group, max);
        self.trim(now, actions);
    }

    /// New bounds for the upstream: server connections, and dials. As with [`resize_pool`](Self::resize_pool).
    pub fn resize(&mut self, now: Instant, limits: &UpstreamLimits, actions: &mut Vec<Action>) {
        self.slots.set_upstream_max(limits.max_connections, limits.reserved_connections);
        self.dialer.set_limits(now, limits);
        self.trim(now, actions);
    }

    /// Going down: waiters are shed, arrivals will be, idle servers are closed, active ones when they come back. Those
    /// in a transaction keep their server. There is no way back.
    pub fn drain(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.draining = true;
        self.reclaim_at = None;
        for pool in self.slots.pools() {
            self.pools[pool.index()].warm = None;
            while let Some(key) = self.pools[pool.index()].keys.backlogged().first().copied()
                && let Some((ticket, _)) = self.queue.oldest(pool, key)
            {
                self.shed(now, ticket, ShedReason::Draining, actions);
            }
            while self.slots.pool(pool).counts.idle > 0 {
                self.evict(pool, actions);
            }
            self.note(pool);
        }
    }

    fn enqueue(
        &mut self,
        now: Instant,
        pool: PoolId,
        caller: &Caller,
        actions: &mut Vec<Action>,
    ) -> Result<Ticket, ShedReason> {
        let dialling = self.slots.upstream().counts.dialling;
        let own_dialling = self.slots.pool(pool).counts.dialling;
        if let Some(reason) = self.dialer.refusal(now, pool, own_dialling, dialling) {
            return Err(reason);
        }
        if let Some(reason) = self.hopeless(now, pool, caller) {
            return Err(reason);
        }
        let ticket = self.join(now, pool, caller);
        self.note(pool);
        // What is possible for others has not changed by one more waiter here.
        if self.may_dial(now, pool) {
            self.dial(now, pool, actions);
        } else {
            self.make_room(now, pool, actions);
        }
        Ok(ticket)
    }

    /// May a client of this key have a server that is idle?
    fn may_have_idle(&self, pool: PoolId, key: KeyId) -> bool {
        let keys = &self.pools[pool.index()].keys;
        self.below_active_limit(pool) && keys.below_cap(key, self.slots.pool(pool).max)
    }

    fn below_active_limit(&self, pool: PoolId) -> bool {
        let active = self.slots.pool(pool).counts.active;
        self.pools[pool.index()].limits.active_limit.is_none_or(|limit| active < limit)
    }

    fn take_from_store(
        &mut self,
        now: Instant,
        pool: PoolId,
        key: KeyId,
        from: Home,
        waited: Option<Duration>,
    ) {
        self.shift(pool, from, Step::Grant);
        self.note_granted(now, pool, key, waited);
    }

    fn note_granted(&mut self, now: Instant, pool: PoolId, key: KeyId, waited: Option<Duration>) {
        let active = self.slots.pool(pool).counts.active;
        let known = &mut self.pools[pool.index()];
        known.peak = known.peak.max(active);
        known.last_granted = Some(now);
        known.keys.granted(now, key, waited);
    }

    /// Idle servers for waiters that were kept from them by a limit which does not hold any more.
    fn use_idle(&mut self, now: Instant, pool: PoolId, actions: &mut Vec<Action>) {
        while self.queue.waiting(pool) > 0
            && self.below_active_limit(pool)
            && let Some(from) = self.slots.nearest_idle(pool, Home(0))
            && let Some((ticket, key, waited)) = self.next_waiter(now, pool, from, actions)
        {
            self.take_from_store(now, pool, key, from, Some(waited));
            actions.push(Action::Grant { ticket, pool, from });
        }
    }

    /// Decides what becomes of an active server that is free.
    fn place(&mut self, now: Instant, pool: PoolId, home: Home, actions: &mut Vec<Action>) -> Placement {
        if self.draining || self.slots.over(pool) || self.owed_elsewhere(now, pool) {
            self.shift(pool, home, Step::Discard);
            return Placement::Close;
        }
        let active = self.slots.pool(pool).counts.active;
        let within = self.pools[pool.index()].limits.active_limit.is_none_or(|limit| active <= limit);
        let next = if within { self.next_waiter(now, pool, home, actions) } else { None };
        let Some((ticket, key, waited)) = next else {
            self.shift(pool, home, Step::Store);
            return Placement::Store;
        };
        self.shift(pool, home, Step::Hand);
        self.note_granted(now, pool, key, Some(waited));
        Placement::Hand(ticket)
    }

    pub(super) fn shed(
        &mut self,
        now: Instant,
        ticket: Ticket,
        reason: ShedReason,
        actions: &mut Vec<Action>,
    ) {
        let Some(waiter) = self.leave(ticket) else { return };
        let waited = now.saturating_duration_since(waiter.arrived);
        let retry_after = self.retry_after(now, waiter.pool, waiter.key, reason);
        self.pools[waiter.pool.index()].keys.shed(waiter.key);
        actions.push(Action::Shed { ticket, reason, waited, retry_after });
    }

    /// Does whatever has become possible: dials while there is room and budget, then makes room for the rest.
    pub(super) fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.draining {
            return;
        }
        self.settled_at = Some(now);
        self.reclaim_at = None;
        self.regrow(now);
        while let Some(pool) = self.next_to_dial(now) {
            self.dial(now, pool, actions);
        }
        for at in 0..self.wanting.len() {
            self.make_room(now, self.wanting[at], actions);
        }
    }

    /// Waiters before `min_idle`; then the pool that has least; then the one served longest ago.
    fn next_to_dial(&self, now: Instant) -> Option<PoolId> {
        if self.dialer.budget(now, self.slots.upstream().counts.dialling) == 0 {
            return None;
        }
        self.wanting.iter().copied().filter(|pool| self.may_dial(now, *pool)).min_by_key(|pool| {
            let owned = self.slots.pool(*pool).counts.owned();
            (self.need(*pool) == 0, owned, self.pools[pool.index()].last_granted, pool.index())
        })
    }

    fn may_dial(&self, now: Instant, pool: PoolId) -> bool {
        self.wants_dial(pool)
            && !self.yields(pool)
            && self.slots.held_up_by(pool).is_none()
            && self.dialer.budget(now, self.slots.upstream().counts.dialling) > 0
            && self.dialer.ready(now, pool, self.slots.pool(pool).counts.dialling)
    }

    /// Nobody waits for the dial, and somebody waits for room. With a reserve a waiter may be held up by two bounds, neither
    /// within the other: what is closed for it in one must not be dialled again before the other has room.
    fn yields(&self, pool: PoolId) -> bool {
        let held_up = |other: &PoolId| self.need(*other) > 0 && self.slots.held_up_by(*other).is_some();
        self.slots.has_reserve() && self.need(pool) == 0 && self.wanting.iter().any(held_up)
    }

    fn wants_dial(&self, pool: PoolId) -> bool {
        self.need(pool) > 0
            || (self.lacks_idle(pool) || self.lacks_successor(pool)) && !self.slots.pool(pool).full()
    }

    fn dial(&mut self, now: Instant, pool: PoolId, actions: &mut Vec<Action>) {
        let home = self.home_for_dial(pool);
        if self.shift(pool, home, Step::Dial) {
            self.dialer.started(now);
            actions.push(Action::Dial { pool, home });
        }
    }

    /// Where the most waiters are without a dial; or where the login is; or where the fewest servers are.
    fn home_for_dial(&self, pool: PoolId) -> Home {
        let warm = self.pools[pool.index()].warm;
        let best = self.slots.homes().max_by_key(|&home| {
            let waiting = self.queue.waiting_at(pool, home) as i64;
            let there = (self.slots.dialling_at(pool, home) + self.slots.idle_at(pool, home)) as i64;
            (waiting - there, warm == Some(home), std::cmp::Reverse(home))
        });
        best.unwrap_or(Home(0))
    }

    /// Servers that waiters (and logins and probes) ask for, beyond the dials under way, up to the pool's own size.
    pub(super) fn need(&self, pool: PoolId) -> usize {
        let bound = self.slots.pool(pool);
        let first = usize::from(self.pools[pool.index()].warm.is_some() || self.probe == Some(pool));
        // What no waiter may have is not asked for.
        let limit = self.pools[pool.index()].limits.active_limit.unwrap_or(usize::MAX);
        let usable = limit.saturating_sub(bound.counts.live());
        // Who waits beside an idle server is kept from it by a limit, and would be kept from the next one, too.
        let waiting = if bound.counts.idle > 0 { 0 } else { self.queue.waiting(pool) };
        let asked_for = waiting.min(usable).max(first);
        asked_for.saturating_sub(bound.counts.dialling).min(bound.room())
    }

    fn lacks_idle(&self, pool: PoolId) -> bool {
        self.slots.pool(pool).counts.owned() < self.pools[pool.index()].limits.min_idle
    }

    /// When the pool's queues are next to be looked over: now and then, and when the oldest waiter's time runs out.
    fn look_due(&self, pool: PoolId) -> Option<Instant> {
        let oldest = self.waiting_since(pool)?;
        let over = oldest.checked_add(self.pools[pool.index()].limits.max_wait)?;
        let look = self.looked_at.max(Some(oldest)).and_then(|at| at.checked_add(LOOK));
        if Some(over) > self.looked_at { earlier(look, Some(over)) } else { look }
    }

    /// The pool's oldest waiter's arrival.
    pub(super) fn waiting_since(&self, pool: PoolId) -> Option<Instant> {
        let keys = self.pools[pool.index()].keys.backlogged();
        let oldest = keys.iter().filter_map(|key| self.queue.oldest(pool, *key));
        oldest.map(|(_, waiter)| waiter.arrived).min()
    }

    /// When a back-off or a hold is over, or a token is there, that keeps the pool from a dial it wants.
    fn next_try(&self, pool: PoolId) -> Option<Instant> {
        if !self.wants_dial(pool) {
            return None;
        }
        let own_dialling = self.slots.pool(pool).counts.dialling;
        let at = self.dialer.next_try(pool, own_dialling, self.slots.upstream().counts.dialling)?;
        // What was due when everything was last settled is held up by a bound, and no timer helps.
        if Some(at) > self.settled_at { Some(at) } else { None }
    }

    /// Closes what is idle beyond bounds that were lowered, and uses what raised ones allow.
    fn trim(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for pool in self.slots.pools() {
            while self.slots.over(pool) && self.slots.pool(pool).counts.idle > 0 {
                self.evict(pool, actions);
            }
        }
        self.settle(now, actions);
    }

    /// Orders one idle server of the pool closed, from the store that has the most.
    pub(super) fn evict(&mut self, pool: PoolId, actions: &mut Vec<Action>) {
        let fullest = self.slots.homes().max_by_key(|home| self.slots.idle_at(pool, *home));
        let home = fullest.unwrap_or(Home(0));
        if self.shift(pool, home, Step::Evict) {
            actions.push(Action::CloseIdle { pool, home });
        }
    }

    fn set_probe(&mut self, probe: Option<PoolId>) {
        let before = std::mem::replace(&mut self.probe, probe);
        for pool in [before, probe].into_iter().flatten() {
            self.note(pool);
        }
    }

    /// Moves a slot. False if there is none in the state that the step starts from: a fault of the caller, since the gate
    /// looks before it orders.
    fn shift(&mut self, pool: PoolId, home: Home, step: Step) -> bool {
        let moved = self.slots.shift(pool, home, step);
        if moved {
            self.note(pool);
        } else {
            self.misused();
        }
        moved
    }

    /// Such an event is ignored where it cannot be refused: a bound that is kept matters more than a count of it.
    fn misused(&mut self) {
        self.misuses += 1;
        debug_assert!(false, "an event contradicts the slots of its pool");
    }

    /// Keeps `wanting` up to date after a change of the pool's slots, waiters or limits.
    pub(super) fn note(&mut self, pool: PoolId) {
        let known = &self.pools[pool.index()];
        let asked = known.warm.is_some() || self.probe == Some(pool) || self.queue.waiting(pool) > 0;
        let wants = !self.draining && (asked || self.lacks_idle(pool) || self.lacks_successor(pool));
        match (known.wanting_at, wants) {
            (None, true) => {
                self.pools[pool.index()].wanting_at = Some(self.wanting.len());
                self.wanting.push(pool);
            }
            (Some(at), false) => {
                self.pools[pool.index()].wanting_at = None;
                self.wanting.swap_remove(at);
                if let Some(moved) = self.wanting.get(at) {
                    self.pools[moved.index()].wanting_at = Some(at);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
