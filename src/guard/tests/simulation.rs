//! A virtual clock and 10^5 callers: the gate alone, driven by a heap of what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::{caller as caller_of, limits, ms, params};
use crate::guard::{Action, Arrival, Gate, GateParams, Home, Placement, PoolId, PoolLimits, Ticket};

const CALLERS: usize = 100_000;
const SERVERS: usize = 20;
const HOLD: Duration = Duration::from_millis(50);
const DIAL: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Dialled(Home),
    Returned(Home),
}

struct Simulation {
    gate: Gate,
    pool: PoolId,
    start: Instant,
    now: Instant,
    agenda: BinaryHeap<Reverse<(Instant, usize, Event)>>,
    /// Which caller holds the ticket with this index.
    callers: Vec<usize>,
    served: Vec<usize>,
    actions: Vec<Action>,
    scheduled: usize,
    most: usize,
}

impl Simulation {
    fn new(homes: usize) -> Self {
        let max_connections = SERVERS + 10;
        let mut gate = Gate::new(GateParams { homes, max_connections, ..params() });
        let group = gate.add_group(max_connections);
        let patient = PoolLimits { max_waiting: CALLERS, max_wait: ms(3_600_000), ..limits(SERVERS) };
        let pool = gate.add_pool(group, patient);
        let start = Instant::now();
        Simulation {
            gate,
            pool,
            start,
            now: start,
            agenda: BinaryHeap::new(),
            callers: vec![usize::MAX; CALLERS],
            served: Vec::new(),
            actions: Vec::new(),
            scheduled: 0,
            most: 0,
        }
    }

    /// All callers at once, spread over the homes.
    fn burst(&mut self, homes: usize) {
        for caller in 0..CALLERS {
            let home = Home((caller % homes) as u16);
            let waiter = caller_of(&mut self.gate, self.pool, home);
            match self.gate.arrive(self.now, self.pool, &waiter, &mut self.actions) {
                Arrival::Queued(ticket) => self.callers[ticket.index()] = caller,
                other => panic!("caller {caller}: {other:?}"),
            }
            self.obey();
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, event))) = self.agenda.pop() {
            self.now = at;
            let (placement, home) = match event {
                Event::Dialled(home) => (self.gate.dialled(at, self.pool, home, &mut self.actions), home),
                Event::Returned(home) => {
                    let charge = (caller_of(&mut self.gate, self.pool, home).key, HOLD);
                    (self.gate.returned(at, self.pool, home, charge, &mut self.actions), home)
                }
            };
            match placement {
                Placement::Hand(ticket) => self.serve(ticket, home),
                Placement::Store => {}
                Placement::Close => panic!("nobody else wants it"),
            }
            self.obey();
            let seen = self.gate.snapshot_upstream(at);
            self.most = self.most.max(seen.idle + seen.active + seen.dialling + seen.closing);
        }
    }

    fn serve(&mut self, ticket: Ticket, home: Home) {
        self.served.push(self.callers[ticket.index()]);
        self.schedule(HOLD, Event::Returned(home));
    }

    fn obey(&mut self) {
        while let Some(action) = self.actions.pop() {
            match action {
                Action::Dial { home, .. } => self.schedule(DIAL, Event::Dialled(home)),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        self.agenda.push(Reverse((self.now + after, self.scheduled, event)));
    }
}

#[test]
fn a_burst_of_100_000_is_served_in_order_by_20() {
    let mut simulation = Simulation::new(1);
    simulation.burst(1);
    simulation.run();
    assert!(simulation.served.iter().copied().eq(0..CALLERS), "first in, first out");
    assert_eq!(simulation.most, SERVERS);
    // Five rounds of four dials, then all the time at full use.
    let full_use = HOLD * (CALLERS / SERVERS) as u32;
    assert!(simulation.now - simulation.start <= full_use + 5 * DIAL);
    let seen = simulation.gate.snapshot(simulation.now, simulation.pool);
    assert_eq!((seen.idle, seen.active, seen.waiting), (SERVERS, 0, 0));
}

#[test]
fn with_several_homes_each_is_served_in_its_order_and_nobody_is_left() {
    let homes = 4;
    let mut simulation = Simulation::new(homes);
    simulation.burst(homes);
    simulation.run();
    for home in 0..homes {
        let lane = simulation.served.iter().copied().filter(|caller| caller % homes == home);
        assert!(lane.eq((home..CALLERS).step_by(homes)));
    }
    assert_eq!(simulation.most, SERVERS);
}

/// E2 of the experiments: waiters whose clients went away cost nothing, from wherever in the queue they leave.
#[test]
fn nine_in_ten_leave_and_only_the_rest_are_served() {
    let mut simulation = Simulation::new(1);
    let mut stay = Vec::new();
    for caller in 0..CALLERS {
        let waiter = caller_of(&mut simulation.gate, simulation.pool, Home(0));
        match simulation.gate.arrive(simulation.now, simulation.pool, &waiter, &mut simulation.actions) {
            Arrival::Queued(ticket) => {
                simulation.callers[ticket.index()] = caller;
                stay.push((caller, ticket));
            }
            other => panic!("caller {caller}: {other:?}"),
        }
        simulation.obey();
    }
    // From the middle outwards, so that no end of the list is favoured.
    stay.sort_by_key(|(caller, _)| caller.abs_diff(CALLERS / 2));
    for (caller, ticket) in &stay {
        if caller % 10 != 0 {
            assert!(simulation.gate.abandon(simulation.now, *ticket).is_some());
        }
    }
    simulation.run();
    assert!(simulation.served.iter().copied().eq((0..CALLERS).step_by(10)));
}
