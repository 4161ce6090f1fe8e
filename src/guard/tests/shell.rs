//! A shell without sockets: it does what the gate orders, keeps naive books of its own, and compares after each event.

use std::time::{Duration, Instant};

use super::caller;
use crate::guard::{
    Action, Arrival, DialCause, Gate, GateParams, GroupId, Home, Placement, PoolId, PoolLimits, ShedReason,
    Ticket, UpstreamLimits,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) pool: PoolId,
    pub(super) home: Home,
    pub(super) arrived: Instant,
}

/// How a ticket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Handed,
    Shed(ShedReason),
    Abandoned,
}

pub(super) struct Shell {
    pub(super) gate: Gate,
    pub(super) now: Instant,
    pub(super) params: GateParams,
    pub(super) groups: Vec<(GroupId, usize)>,
    pub(super) pools: Vec<(PoolId, GroupId, PoolLimits)>,
    pub(super) idle: Vec<(PoolId, Home)>,
    pub(super) active: Vec<(PoolId, Home)>,
    pub(super) dialling: Vec<(PoolId, Home)>,
    pub(super) closing: Vec<PoolId>,
    /// In order of arrival.
    pub(super) waiting: Vec<Waiter>,
    pub(super) ended: Vec<(Waiter, End)>,
    /// All dials ever ordered.
    pub(super) dials: usize,
    /// Pools that may use the reserve.
    pub(super) privileged: Vec<PoolId>,
}

impl Shell {
    pub(super) fn new(params: GateParams) -> Self {
        Shell {
            gate: Gate::new(params.clone()),
            now: Instant::now(),
            params,
            groups: Vec::new(),
            pools: Vec::new(),
            idle: Vec::new(),
            active: Vec::new(),
            dialling: Vec::new(),
            closing: Vec::new(),
            waiting: Vec::new(),
            ended: Vec::new(),
            dials: 0,
            privileged: Vec::new(),
        }
    }

    /// One group and one pool.
    pub(super) fn with_pool(params: GateParams, limits: PoolLimits) -> (Self, PoolId) {
        let mut shell = Shell::new(params);
        let group = shell.add_group(1000);
        let pool = shell.add_pool(group, limits);
        (shell, pool)
    }

    pub(super) fn add_group(&mut self, max: usize) -> GroupId {
        let group = self.gate.add_group(max);
        self.groups.push((group, max));
        group
    }

    pub(super) fn add_pool(&mut self, group: GroupId, limits: PoolLimits) -> PoolId {
        let pool = self.gate.add_pool(group, limits);
        self.pools.push((pool, group, limits));
        pool
    }

    pub(super) fn let_use_reserve(&mut self, pool: PoolId) {
        self.gate.let_use_reserve(pool);
        self.privileged.push(pool);
    }

    pub(super) fn arrive(&mut self, pool: PoolId) -> Arrival {
        self.arrive_at(pool, Home(0))
    }

    pub(super) fn arrive_at(&mut self, pool: PoolId, home: Home) -> Arrival {
        let mut actions = Vec::new();
        let caller = caller(&mut self.gate, pool, home);
        let arrival = self.gate.arrive(self.now, pool, &caller, &mut actions);
        match arrival {
            Arrival::Granted { from } => {
                take(&mut self.idle, (pool, from));
                self.active.push((pool, from));
            }
            Arrival::Queued(ticket) => {
                assert!(
                    self.waiting.iter().all(|waiter| waiter.ticket != ticket),
                    "a ticket was given twice"
                );
                self.waiting.push(Waiter { ticket, pool, home, arrived: self.now });
            }
            Arrival::Shed(..) => {}
        }
        self.obey(actions);
        arrival
    }

    pub(super) fn queue(&mut self, pool: PoolId) -> Ticket {
        match self.arrive(pool) {
            Arrival::Queued(ticket) => ticket,
            other => panic!("should have been queued: {other:?}"),
        }
    }

    pub(super) fn abandon(&mut self, ticket: Ticket) -> bool {
        let left = self.gate.abandon(self.now, ticket).is_some();
        if left {
            self.end(ticket, End::Abandoned);
        }
        self.check();
        left
    }

    /// The pool's server that has been active longest comes back.
    pub(super) fn give_back(&mut self, pool: PoolId) -> Placement {
        let at = self.active.iter().position(|(of, _)| *of == pool).expect("an active server");
        let (_, home) = self.active.remove(at);
        let mut actions = Vec::new();
        let charge = (caller(&mut self.gate, pool, home).key, Duration::ZERO);
        let placement = self.gate.returned(self.now, pool, home, charge, &mut actions);
        self.place(pool, home, placement);
        self.obey(actions);
        placement
    }

    /// The oldest dial of the pool succeeds.
    pub(super) fn connect(&mut self, pool: PoolId) -> Placement {
        let at = self.dialling.iter().position(|(of, _)| *of == pool).expect("a dial under way");
        let (_, home) = self.dialling.remove(at);
        let mut actions = Vec::new();
        let placement = self.gate.dialled(self.now, pool, home, &mut actions);
        self.place(pool, home, placement);
        self.obey(actions);
        placement
    }

    /// The oldest dial of the pool fails.
    pub(super) fn fail(&mut self, pool: PoolId, cause: DialCause) {
        let at = self.dialling.iter().position(|(of, _)| *of == pool).expect("a dial under way");
        let (_, home) = self.dialling.remove(at);
        let mut actions = Vec::new();
        self.gate.dial_failed(self.now, pool, home, cause, &mut actions);
        self.obey(actions);
    }

    /// The pool's oldest active server is lost.
    pub(super) fn lose(&mut self, pool: PoolId) {
        let at = self.active.iter().position(|(of, _)| *of == pool).expect("an active server");
        self.active.remove(at);
        self.closing.push(pool);
        let mut actions = Vec::new();
        let charge = (caller(&mut self.gate, pool, Home(0)).key, Duration::ZERO);
        self.gate.discard(self.now, pool, charge, &mut actions);
        self.obey(actions);
    }

    pub(super) fn take_idle(&mut self, pool: PoolId, home: Home) -> bool {
        let mut actions = Vec::new();
        let taken = self.gate.take_idle(self.now, pool, home, &mut actions);
        if taken {
            take(&mut self.idle, (pool, home));
            self.closing.push(pool);
        }
        self.obey(actions);
        taken
    }

    /// The socket of one of the pool's closing servers is gone.
    pub(super) fn close(&mut self, pool: PoolId) {
        take(&mut self.closing, pool);
        let mut actions = Vec::new();
        self.gate.closed(self.now, pool, &mut actions);
        self.obey(actions);
    }

    pub(super) fn close_all(&mut self) {
        while let Some(pool) = self.closing.first().copied() {
            self.close(pool);
        }
    }

    /// All dials succeed, also those ordered meanwhile.
    pub(super) fn connect_all(&mut self) {
        while let Some((pool, _)) = self.dialling.first().copied() {
            let _ = self.connect(pool);
        }
    }

    pub(super) fn warm(&mut self, pool: PoolId, home: Home) {
        let mut actions = Vec::new();
        self.gate.warm(self.now, pool, home, &mut actions);
        self.obey(actions);
    }

    /// So many idle servers of the pool are soon too old; those with a successor are closed.
    pub(super) fn renew(&mut self, pool: PoolId, due: usize) -> usize {
        let mut actions = Vec::new();
        let replaced = self.gate.renew(self.now, pool, due, &mut actions);
        self.obey(actions);
        for _ in 0..replaced {
            if let Some((_, home)) = self.idle.iter().copied().find(|(of, _)| *of == pool) {
                self.take_idle(pool, home);
            }
        }
        replaced
    }

    pub(super) fn tick(&mut self) {
        let mut actions = Vec::new();
        self.gate.tick(self.now, &mut actions);
        self.obey(actions);
        if let Some(due) = self.gate.poll_timeout() {
            assert!(due > self.now, "a timer that is due after its tick would never rest");
        }
    }

    /// Time passes, with a tick whenever the gate asks for one.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.gate.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.tick();
        }
        self.now = until;
    }

    pub(super) fn resize_pool(&mut self, pool: PoolId, limits: PoolLimits) {
        self.pools[pool.index()].2 = limits;
        let mut actions = Vec::new();
        self.gate.resize_pool(self.now, pool, limits, &mut actions);
        self.obey(actions);
    }

    pub(super) fn resize_group(&mut self, group: GroupId, max: usize) {
        self.groups[group.index()].1 = max;
        let mut actions = Vec::new();
        self.gate.resize_group(self.now, group, max, &mut actions);
        self.obey(actions);
    }

    pub(super) fn resize(&mut self, max_connections: usize) {
        self.params.max_connections = max_connections;
        self.resize_upstream();
    }

    /// The upstream's limits are those of `params` from now on.
    pub(super) fn resize_upstream(&mut self) {
        let GateParams { max_connections, reserved_connections, max_dials, dial_rate, dial_burst, .. } =
            self.params;
        let limits =
            UpstreamLimits { max_connections, reserved_connections, max_dials, dial_rate, dial_burst };
        let mut actions = Vec::new();
        self.gate.resize(self.now, &limits, &mut actions);
        self.obey(actions);
    }

    pub(super) fn drain(&mut self) {
        let mut actions = Vec::new();
        self.gate.drain(self.now, &mut actions);
        self.obey(actions);
    }

    /// How the ticket ended; None while it waits.
    pub(super) fn end_of(&self, ticket: Ticket) -> Option<End> {
        self.ended.iter().rev().find(|(waiter, _)| waiter.ticket == ticket).map(|(_, end)| *end)
    }

    /// Idle, active, dialling and closing servers of the pool, by these books.
    pub(super) fn counts(&self, pool: PoolId) -> [usize; 4] {
        let of = |servers: &[(PoolId, Home)]| servers.iter().filter(|(of, _)| *of == pool).count();
        let closing = self.closing.iter().filter(|of| **of == pool).count();
        [of(&self.idle), of(&self.active), of(&self.dialling), closing]
    }

    pub(super) fn total(&self, pool: PoolId) -> usize {
        self.counts(pool).iter().sum()
    }

    pub(super) fn waiting_for(&self, pool: PoolId) -> usize {
        self.waiting.iter().filter(|waiter| waiter.pool == pool).count()
    }

    fn place(&mut self, pool: PoolId, home: Home, placement: Placement) {
        match placement {
            Placement::Hand(ticket) => {
                self.assert_is_next(pool, home, ticket);
                self.end(ticket, End::Handed);
                self.active.push((pool, home));
            }
            Placement::Store => self.idle.push((pool, home)),
            Placement::Close => self.closing.push(pool),
        }
    }

    /// The oldest of all still waiting, or the oldest at this home within the slack. (The books still hold those that were
    /// shed by the same event; their time has run out.)
    fn assert_is_next(&self, pool: PoolId, home: Home, ticket: Ticket) {
        let max_wait = self.pools[pool.index()].2.max_wait;
        let mut alive =
            self.waiting.iter().filter(|waiter| waiter.pool == pool && self.now - waiter.arrived < max_wait);
        let oldest = alive.clone().next().expect("somebody waits");
        let chosen = alive.clone().find(|waiter| waiter.ticket == ticket).expect("the ticket is waiting");
        if chosen.arrived == oldest.arrived && chosen.home != home {
            return; // ties between lanes are decided either way
        }
        if chosen == oldest {
            return;
        }
        let here = alive.find(|waiter| waiter.home == home);
        assert_eq!(Some(chosen), here, "neither the oldest nor the oldest at home");
        assert!(
            chosen.arrived - oldest.arrived <= self.params.locality_slack,
            "another waited too much longer"
        );
    }

    fn end(&mut self, ticket: Ticket, end: End) {
        let at = self.waiting.iter().position(|waiter| waiter.ticket == ticket).expect("a ticket ends once");
        let waiter = self.waiting.remove(at);
        self.ended.push((waiter, end));
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Grant { ticket, pool, from } => {
                    take(&mut self.idle, (pool, from));
                    self.end(ticket, End::Handed);
                    self.active.push((pool, from));
                }
                Action::Shed { ticket, reason, waited, .. } => {
                    let arrived =
                        self.waiting.iter().find(|waiter| waiter.ticket == ticket).expect("waits").arrived;
                    assert_eq!(waited, self.now - arrived);
                    self.end(ticket, End::Shed(reason));
                }
                Action::Dial { pool, home } => {
                    self.dialling.push((pool, home));
                    self.dials += 1;
                    self.assert_bounds(pool);
                }
                Action::CloseIdle { pool, home } => {
                    take(&mut self.idle, (pool, home));
                    self.closing.push(pool);
                }
            }
        }
        self.check();
    }

    /// A dial never takes a bound beyond its limit. (A bound may be lowered below what is in use.)
    fn assert_bounds(&self, pool: PoolId) {
        let (_, group, limits) = self.pools[pool.index()];
        let in_group =
            self.pools.iter().filter(|(_, of, _)| *of == group).map(|(pool, _, _)| self.total(*pool));
        let all = self.pools.iter().map(|(pool, _, _)| self.total(*pool));
        assert!(self.total(pool) <= limits.size, "the pool's bound");
        assert!(in_group.sum::<usize>() <= self.groups[group.index()].1, "the group's bound");
        assert!(all.sum::<usize>() <= self.params.max_connections, "the upstream's bound");
        let ordinary = self.pools.iter().filter(|(pool, _, _)| !self.privileged.contains(pool));
        let ordinary: usize = ordinary.map(|(pool, _, _)| self.total(*pool)).sum();
        let most = self.params.max_connections.saturating_sub(self.params.reserved_connections).max(1);
        assert!(self.privileged.contains(&pool) || ordinary <= most, "the reserve");
        assert!(self.dialling.len() <= self.params.max_dials, "too many dials at once");
    }

    /// The gate's books agree with these, and nobody waits beside an idle server.
    fn check(&self) {
        for &(pool, _, _) in &self.pools {
            let seen = self.gate.snapshot(self.now, pool);
            assert_eq!([seen.idle, seen.active, seen.dialling, seen.closing], self.counts(pool), "{pool:?}");
            assert_eq!(seen.waiting, self.waiting_for(pool), "{pool:?}");
            let limited = self.limits_are_met(pool, seen.active);
            assert!(
                seen.waiting == 0 || seen.idle == 0 || limited,
                "{pool:?}: a waiter beside an idle server"
            );
        }
    }
}

impl Shell {
    /// An active limit keeps waiters from servers that are idle.
    fn limits_are_met(&self, pool: PoolId, active: usize) -> bool {
        self.pools[pool.index()].2.active_limit.is_some_and(|limit| active >= limit)
    }
}

fn take<T: PartialEq + std::fmt::Debug>(from: &mut Vec<T>, what: T) {
    let at = from.iter().position(|it| *it == what);
    from.remove(at.unwrap_or_else(|| panic!("the gate ordered {what:?}, which is not there")));
}
