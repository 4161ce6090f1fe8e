//! Where every server connection stands, and the bounds they are counted against.
//!
//! A slot is a place for one server connection. Nobody keeps the slots themselves: identical ones are counted, per
//! pool, per group and for the upstream. All counters move in [`Slots::shift`] and nowhere else, so what a step may
//! do is said once, in [`Step::path`], and no path can take a permit and not give it back.

use super::terms::{GroupId, Home, PoolId};

/// State of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Room for a server; bounded by the fullest of pool, group and upstream.
    Vacant,
    /// Connecting or logging in.
    Dialling,
    /// In the store of its home.
    Idle,
    /// With a client.
    Active,
    /// On its way out, and counted by PostgreSQL until the socket is gone.
    Closing,
}

/// What happens to one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A dial starts.
    Dial,
    /// It failed.
    Fail,
    /// It succeeded; for a moment the server counts as active, then it is placed like a returned one.
    Connect,
    /// An idle server goes to a client.
    Grant,
    /// An active server goes straight to the next client.
    Hand,
    /// An active server goes back to the store.
    Store,
    /// An active server is closed.
    Discard,
    /// An idle server is closed.
    Evict,
    /// A closing server's socket is gone.
    Vacate,
}

impl Step {
    #[cfg(test)]
    pub(super) const ALL: [Step; 9] = [
        Step::Dial,
        Step::Fail,
        Step::Connect,
        Step::Grant,
        Step::Hand,
        Step::Store,
        Step::Discard,
        Step::Evict,
        Step::Vacate,
    ];

    /// From which state to which.
    pub(super) fn path(self) -> (Slot, Slot) {
        match self {
            Step::Dial => (Slot::Vacant, Slot::Dialling),
            Step::Fail => (Slot::Dialling, Slot::Vacant),
            Step::Connect => (Slot::Dialling, Slot::Active),
            Step::Grant => (Slot::Idle, Slot::Active),
            Step::Hand => (Slot::Active, Slot::Active),
            Step::Store => (Slot::Active, Slot::Idle),
            Step::Discard => (Slot::Active, Slot::Closing),
            Step::Evict => (Slot::Idle, Slot::Closing),
            Step::Vacate => (Slot::Closing, Slot::Vacant),
        }
    }
}

/// Slots in use, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) idle: usize,
    pub(super) active: usize,
    pub(super) dialling: usize,
    pub(super) closing: usize,
}

impl Counts {
    /// All that PostgreSQL may count as a connection now.
    pub(super) fn total(&self) -> usize {
        self.owned() + self.closing
    }

    /// Those that are or will be of use.
    pub(super) fn owned(&self) -> usize {
        self.live() + self.dialling
    }

    /// Those that are logged in.
    pub(super) fn live(&self) -> usize {
        self.idle + self.active
    }

    fn shift(&mut self, from: Slot, to: Slot) {
        if let Some(count) = self.of(from) {
            *count -= 1;
        }
        if let Some(count) = self.of(to) {
            *count += 1;
        }
    }

    fn of(&mut self, slot: Slot) -> Option<&mut usize> {
        match slot {
            Slot::Vacant => None,
            Slot::Dialling => Some(&mut self.dialling),
            Slot::Idle => Some(&mut self.idle),
            Slot::Active => Some(&mut self.active),
            Slot::Closing => Some(&mut self.closing),
        }
    }
}

/// A bound and what counts against it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) counts: Counts,
    /// Most slots in use, as configured. A bound lowered below what is in use is reached as servers come back.
    pub(super) max: usize,
    /// Most slots that PostgreSQL lets us have; see `budget`.
    budget: usize,
}

impl Bound {
    fn new(max: usize) -> Self {
        Bound { counts: Counts::default(), max, budget: usize::MAX }
    }

    /// Most slots in use now.
    pub(super) fn limit(&self) -> usize {
        self.max.min(self.budget)
    }

    /// How many more may be dialled.
    pub(super) fn room(&self) -> usize {
        self.limit().saturating_sub(self.counts.total())
    }

    /// No more may be dialled.
    pub(super) fn full(&self) -> bool {
        self.counts.total() >= self.limit()
    }

    /// Some must be closed, beyond those that are closing already.
    pub(super) fn over(&self) -> bool {
        self.counts.owned() > self.limit()
    }
}

/// One pool's share of one I/O thread.
#[derive(Debug, Clone, Copy, Default)]
struct HomeCounts {
    idle: usize,
    dialling: usize,
}

struct PoolSlots {
    group: GroupId,
    /// It may use the slots that are kept for such pools.
    privileged: bool,
    bound: Bound,
    homes: Box<[HomeCounts]>,
}

/// A bound that several pools share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shared {
    Group(GroupId),
    /// What the upstream has for pools that may not use its reserve.
    Ordinary,
    Upstream,
}

/// The slots of one upstream.
pub(super) struct Slots {
    pools: Vec<PoolSlots>,
    groups: Vec<Bound>,
    /// Counts the pools that are not privileged; its bound is `reserved` below the upstream's.
    ordinary: Bound,
    upstream: Bound,
    reserved: usize,
    homes: usize,
}

impl Slots {
    /// `reserved` of the `max` slots are for privileged pools alone.
    pub(super) fn new(max: usize, reserved: usize, homes: usize) -> Self {
        Slots {
            pools: Vec::new(),
            groups: Vec::new(),
            ordinary: Bound::new(ordinary(max, reserved)),
            upstream: Bound::new(max),
            reserved,
            homes: homes.max(1),
        }
    }

    pub(super) fn add_group(&mut self, max: usize) -> GroupId {
        self.groups.push(Bound::new(max));
        GroupId((self.groups.len() - 1) as u32)
    }

    pub(super) fn add_pool(&mut self, group: GroupId, size: usize) -> PoolId {
        let homes = vec![HomeCounts::default(); self.homes].into_boxed_slice();
        self.pools.push(PoolSlots { group, privileged: false, bound: Bound::new(size), homes });
        PoolId((self.pools.len() - 1) as u32)
    }

    /// The pool may use the reserve. To be said before it has any server.
    pub(super) fn set_privileged(&mut self, pool: PoolId) {
        debug_assert_eq!(
            self.pools[pool.index()].bound.counts.total(),
            0,
            "its servers are counted as ordinary"
        );
        self.pools[pool.index()].privileged = true;
    }

    /// The one place where counters move. False, and nothing moved, if the pool (at this home, for idle and dialling
    /// ones) has no slot in the state that the step starts from.
    pub(super) fn shift(&mut self, pool: PoolId, home: Home, step: Step) -> bool {
        let (from, to) = step.path();
        if !self.has(pool, home, from) {
            return false;
        }
        let slots = &mut self.pools[pool.index()];
        let at_home = &mut slots.homes[home.index()];
        at_home.idle = at_home.idle + usize::from(to == Slot::Idle) - usize::from(from == Slot::Idle);
        at_home.dialling =
            at_home.dialling + usize::from(to == Slot::Dialling) - usize::from(from == Slot::Dialling);
        slots.bound.counts.shift(from, to);
        self.groups[slots.group.index()].counts.shift(from, to);
        if !slots.privileged {
            self.ordinary.counts.shift(from, to);
        }
        self.upstream.counts.shift(from, to);
        true
    }

    fn has(&self, pool: PoolId, home: Home, slot: Slot) -> bool {
        let slots = &self.pools[pool.index()];
        match slot {
            Slot::Vacant => !slots.bound.full() && self.held_up_by(pool).is_none(),
            Slot::Dialling => slots.homes[home.index()].dialling > 0,
            Slot::Idle => slots.homes[home.index()].idle > 0,
            Slot::Active => slots.bound.counts.active > 0,
            Slot::Closing => slots.bound.counts.closing > 0,
        }
    }

    /// The shared bound that leaves the pool no room. Each but the last is named before those in which a slot freed in it is
    /// free, too; a slot freed for ordinary pools is not always one of the group, so that both may have to be waited for.
    pub(super) fn held_up_by(&self, pool: PoolId) -> Option<Shared> {
        let group = self.group_of(pool);
        if self.has_reserve() && !self.pools[pool.index()].privileged && self.ordinary.full() {
            Some(Shared::Ordinary)
        } else if self.groups[group.index()].full() {
            Some(Shared::Group(group))
        } else if self.upstream.full() {
            Some(Shared::Upstream)
        } else {
            None
        }
    }

    pub(super) fn has_reserve(&self) -> bool {
        self.reserved > 0
    }

    /// Does a bound that was lowered ask for one of this pool's servers?
    pub(super) fn over(&self, pool: PoolId) -> bool {
        let slots = &self.pools[pool.index()];
        slots.bound.over()
            || self.groups[slots.group.index()].over()
            || !slots.privileged && self.ordinary.over()
            || self.upstream.over()
    }

    /// The client's own home if an idle server is there, else the home with the most.
    pub(super) fn nearest_idle(&self, pool: PoolId, home: Home) -> Option<Home> {
        let slots = &self.pools[pool.index()];
        if slots.homes[home.index()].idle > 0 {
            return Some(home);
        }
        if slots.bound.counts.idle == 0 {
            return None;
        }
        self.homes().max_by_key(|at| slots.homes[at.index()].idle)
    }

    pub(super) fn pool(&self, pool: PoolId) -> &Bound {
        &self.pools[pool.index()].bound
    }

    pub(super) fn group_of(&self, pool: PoolId) -> GroupId {
        self.pools[pool.index()].group
    }

    pub(super) fn shared(&self, shared: Shared) -> &Bound {
        match shared {
            Shared::Group(group) => &self.groups[group.index()],
            Shared::Ordinary => &self.ordinary,
            Shared::Upstream => &self.upstream,
        }
    }

    pub(super) fn covers(&self, shared: Shared, pool: PoolId) -> bool {
        match shared {
            Shared::Group(group) => self.group_of(pool) == group,
            Shared::Ordinary => !self.pools[pool.index()].privileged,
            Shared::Upstream => true,
        }
    }

    pub(super) fn upstream(&self) -> &Bound {
        &self.upstream
    }

    pub(super) fn idle_at(&self, pool: PoolId, home: Home) -> usize {
        self.pools[pool.index()].homes[home.index()].idle
    }

    pub(super) fn dialling_at(&self, pool: PoolId, home: Home) -> usize {
        self.pools[pool.index()].homes[home.index()].dialling
    }

    pub(super) fn homes(&self) -> impl Iterator<Item = Home> + use<> {
        (0..self.homes as u16).map(Home)
    }

    pub(super) fn pools(&self) -> impl Iterator<Item = PoolId> + use<> {
        (0..self.pools.len() as u32).map(PoolId)
    }

    pub(super) fn group(&self, group: GroupId) -> &Bound {
        &self.groups[group.index()]
    }

    pub(super) fn set_pool_size(&mut self, pool: PoolId, size: usize) {
        self.pools[pool.index()].bound.max = size;
    }

    pub(super) fn set_upstream_budget(&mut self, budget: usize) {
        self.upstream.budget = budget;
    }

    pub(super) fn set_pool_budget(&mut self, pool: PoolId, budget: usize) {
        self.pools[pool.index()].bound.budget = budget;
    }

    pub(super) fn set_group_max(&mut self, group: GroupId, max: usize) {
        self.groups[group.index()].max = max;
    }

    /// `reserved` of the `max` slots are for privileged pools alone.
    pub(super) fn set_upstream_max(&mut self, max: usize, reserved: usize) {
        self.upstream.max = max;
        self.reserved = reserved;
        self.ordinary.max = ordinary(max, reserved);
    }
}

/// What is left for ordinary pools; never nothing, or they would wait for ever.
fn ordinary(max: usize, reserved: usize) -> usize {
    max.saturating_sub(reserved).max(1)
}
