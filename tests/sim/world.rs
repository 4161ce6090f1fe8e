//! Runs a plan: callers, servers and the network are made up, the gate is the real one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use pgcorral::guard::{
    Action, Admission, Arrival, Caller, DialCause, FAIL_FAST_AFTER, Gate, GateParams, Home, KeyId, KeyTerms,
    LOCALITY_SLACK, Placement, PoolId, PoolLimits, RECLAIM_AFTER, ShedReason, Ticket,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::checks::Checks;
use super::plan::{Function, Plan, ms};

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Call(usize),
    GiveUp { caller: usize, attempt: u32 },
    Dialled { home: Home, epoch: u32 },
    Finished { server: usize, epoch: u32 },
    Closed,
    Crash,
    Tick,
}

/// Where a caller stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    Resting,
    Waiting(Ticket),
    Served,
    /// It has given up while its statement ran: nobody hears the result.
    Gone,
}

struct Client {
    function: usize,
    lot: u32,
    home: Home,
    doing: Doing,
    tries_left: usize,
    /// Counts attempts, so that an alarm of an earlier one is not taken for this one's.
    attempt: u32,
    asked_at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    home: Home,
    epoch: u32,
    caller: Option<usize>,
    since: Duration,
    idle: bool,
}

/// What became of one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub function: usize,
    pub at: Duration,
    pub took: Duration,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Served,
    Shed(ShedReason),
    TimedOut,
    Lost,
}

/// A run.
pub struct World {
    pub plan: Plan,
    gate: Gate,
    pool: PoolId,
    keys: Vec<KeyId>,
    start: Instant,
    now: Duration,
    agenda: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    scheduled: u64,
    dice: SmallRng,
    clients: Vec<Client>,
    by_ticket: Vec<usize>,
    servers: Vec<Server>,
    actions: Vec<Action>,
    /// Goes up when all servers are lost.
    epoch: u32,
    ticking: bool,
    pub checks: Checks,
    pub outcomes: Vec<Outcome>,
    pub events: u64,
    pub dials: usize,
    /// Transactions that went on for callers who were gone.
    pub wasted: usize,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut gate = Gate::new(GateParams {
            max_connections: plan.size,
            reserved_connections: 0,
            max_dials: 4,
            dial_rate: 50,
            dial_burst: 40,
            dial_backoff_min: ms(50),
            dial_backoff_max: ms(400),
            fail_fast_after: FAIL_FAST_AFTER,
            homes: plan.homes,
            locality_slack: LOCALITY_SLACK,
            reclaim_after: RECLAIM_AFTER,
            seed: plan.seed,
        });
        let group = gate.add_group(plan.size);
        let limits = PoolLimits {
            size: plan.size,
            min_idle: 0,
            max_waiting: 2_000_000,
            max_wait: ms(1500),
            burst_wait: ms(6000),
            admission: Admission::Enforce,
            active_limit: None,
        };
        let pool = gate.add_pool(group, limits);
        let mut enter = |function: &Function| {
            let one = |_| gate.enter_key(pool, &function.name, KeyTerms::default());
            (0..function.callers.max(1)).map(one).last().expect("one at least")
        };
        let keys = plan.functions.iter().map(&mut enter).collect();
        let mut world = World {
            gate,
            pool,
            keys,
            start: Instant::now(),
            now: Duration::ZERO,
            agenda: BinaryHeap::new(),
            scheduled: 0,
            dice: SmallRng::seed_from_u64(plan.seed ^ 0x5EED),
            clients: vec![],
            by_ticket: vec![],
            servers: vec![],
            actions: vec![],
            epoch: 0,
            ticking: false,
            checks: Checks::new(plan.size),
            outcomes: vec![],
            events: 0,
            dials: 0,
            wasted: 0,
            plan,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        for (function, what) in self.plan.functions.clone().iter().enumerate() {
            for _ in 0..what.callers {
                let home = Home(self.dice.random_range(0..self.plan.homes) as u16);
                let lot = self.dice.random();
                let caller = self.clients.len();
                let (doing, tries_left) = (Doing::Resting, what.retries);
                let asked_at = Duration::ZERO;
                self.clients.push(Client { function, lot, home, doing, tries_left, attempt: 0, asked_at });
                self.at(what.start, Event::Call(caller));
            }
        }
        for at in 0..self.plan.outages.len() {
            self.at(self.plan.outages[at].at, Event::Crash);
        }
    }

    /// Runs to the end of the plan.
    pub fn run(mut self) -> Self {
        while let Some(Reverse((at, _, event))) = self.agenda.pop() {
            if at > self.plan.lasts {
                break;
            }
            self.now = at;
            self.events += 1;
            self.happen(event);
            self.obey();
            self.checks.look(&self.gate.snapshot(self.clock(), self.pool), self.clock());
            self.wind_up();
        }
        let misuses = self.gate.snapshot_upstream(self.clock()).misuses;
        assert_eq!(misuses, 0, "the world contradicted the gate");
        self
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Call(caller) => self.call(caller),
            Event::GiveUp { caller, attempt } => self.give_up(caller, attempt),
            Event::Dialled { home, epoch } => self.dialled(home, epoch),
            Event::Finished { server, epoch } => self.finished(server, epoch),
            Event::Closed => self.gate.closed(self.clock(), self.pool, &mut self.actions),
            Event::Crash => self.crash(),
            Event::Tick => {
                self.ticking = false;
                self.gate.tick(self.clock(), &mut self.actions);
            }
        }
    }

    fn clock(&self) -> Instant {
        self.start + self.now
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.agenda.push(Reverse((at, self.scheduled, event)));
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now.saturating_add(time), event);
    }

    fn around(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.dice.random::<f64>()).ln())
    }

    /// The gate is ticked when it asks for it, as the shell does: no finer than a millisecond, no later than 50.
    fn wind_up(&mut self) {
        if self.ticking {
            return;
        }
        if let Some(due) = self.gate.poll_timeout() {
            self.ticking = true;
            let pause = due.saturating_duration_since(self.clock()).clamp(ms(1), ms(50));
            self.after(pause, Event::Tick);
        }
    }

    fn call(&mut self, caller: usize) {
        let now = self.now;
        let client = &mut self.clients[caller];
        let function = &self.plan.functions[client.function];
        if client.doing != Doing::Resting || now >= function.stop {
            return;
        }
        client.attempt += 1;
        client.asked_at = now;
        let (attempt, timeout) = (client.attempt, function.timeout);
        let patience = function.says.then_some(timeout);
        let cancels = function.cancels;
        let who = Caller {
            home: client.home,
            key: self.keys[client.function],
            lot: client.lot,
            patience,
            works_by_then: true,
            urgent: false,
        };
        match self.gate.arrive(self.clock(), self.pool, &who, &mut self.actions) {
            Arrival::Granted { from } => {
                let at = self.servers.iter().position(|server| server.idle && server.home == from);
                let server = at.expect("the gate saw an idle server");
                self.serve(server, caller);
            }
            Arrival::Queued(ticket) => {
                self.clients[caller].doing = Doing::Waiting(ticket);
                if self.by_ticket.len() <= ticket.index() {
                    self.by_ticket.resize(ticket.index() + 1, usize::MAX);
                }
                self.by_ticket[ticket.index()] = caller;
                self.checks.queued(ticket, self.start + now);
            }
            Arrival::Shed(reason, retry_after) => return self.shed(caller, reason, retry_after),
        }
        let leaves_early = cancels.is_some_and(|one_in| self.dice.random_range(0..one_in) == 0);
        let after = if leaves_early { self.around(ms(100)) } else { timeout };
        self.after(after, Event::GiveUp { caller, attempt });
    }

    fn serve(&mut self, server: usize, caller: usize) {
        self.clients[caller].doing = Doing::Served;
        let function = &self.plan.functions[self.clients[caller].function];
        let (mean, spread, freezes) = (function.hold, function.spread, function.freezes);
        let mut hold = if spread { self.around(mean) } else { mean };
        if freezes.is_some_and(|one_in| self.dice.random_range(0..one_in) == 0) {
            hold += ms(1000);
        }
        let held = &mut self.servers[server];
        (held.idle, held.caller, held.since) = (false, Some(caller), self.now);
        let epoch = held.epoch;
        self.after(hold, Event::Finished { server, epoch });
    }

    fn finished(&mut self, server: usize, epoch: u32) {
        let Server { home, epoch: born, caller: Some(caller), since, .. } = self.servers[server] else {
            return;
        };
        if born != epoch || epoch != self.epoch {
            return;
        }
        self.end_service(caller, End::Served);
        self.servers[server].caller = None;
        let charge = (self.keys[self.clients[caller].function], self.now - since);
        let placement = self.gate.returned(self.clock(), self.pool, home, charge, &mut self.actions);
        self.place(server, placement);
    }

    fn place(&mut self, server: usize, placement: Placement) {
        match placement {
            Placement::Hand(ticket) => {
                let caller = self.by_ticket[ticket.index()];
                self.checks.ended(ticket, self.clock());
                assert_eq!(
                    self.clients[caller].doing,
                    Doing::Waiting(ticket),
                    "handed to one that does not wait"
                );
                self.serve(server, caller);
            }
            Placement::Store => self.servers[server].idle = true,
            Placement::Close => {
                self.servers[server].epoch = u32::MAX;
                self.after(ms(1), Event::Closed);
            }
        }
    }

    /// What a caller was served, or lost.
    fn end_service(&mut self, caller: usize, end: End) {
        match self.clients[caller].doing {
            Doing::Gone => {
                self.wasted += 1;
                self.clients[caller].doing = Doing::Resting;
                self.rest(caller, None);
            }
            _ => {
                self.note(caller, end);
                self.rest(caller, (end != End::Served).then_some(Duration::ZERO));
            }
        }
    }

    fn note(&mut self, caller: usize, end: End) {
        let Client { function, asked_at, .. } = self.clients[caller];
        self.outcomes.push(Outcome { function, at: self.now, took: self.now - asked_at, end });
    }

    fn shed(&mut self, caller: usize, reason: ShedReason, retry_after: Duration) {
        self.note(caller, End::Shed(reason));
        // As the shell does.
        let bounded = retry_after.clamp(ms(50), ms(60_000));
        let jittered = bounded.mul_f64(self.dice.random_range(0.5..=1.5));
        self.rest(caller, Some(jittered));
    }

    /// Until the next try, which is after `again` if there is one left, or the next call.
    fn rest(&mut self, caller: usize, again: Option<Duration>) {
        let function = &self.plan.functions[self.clients[caller].function];
        let (think, retries, listens) = (function.think, function.retries, function.listens);
        let client = &mut self.clients[caller];
        client.doing = Doing::Resting;
        client.attempt += 1;
        if let Some(after) = again.filter(|_| client.tries_left > 0) {
            client.tries_left -= 1;
            // A client that does not listen still needs a moment.
            let pause = if listens { after.max(ms(1)) } else { self.around(ms(20)) };
            return self.after(pause, Event::Call(caller));
        }
        client.tries_left = retries;
        if let Some(think) = think {
            let pause = self.around(think).max(ms(1));
            self.after(pause, Event::Call(caller));
        }
    }

    fn give_up(&mut self, caller: usize, attempt: u32) {
        let client = &mut self.clients[caller];
        if client.attempt != attempt {
            return;
        }
        match client.doing {
            Doing::Waiting(ticket) => {
                let waited = self.gate.abandon(self.clock(), ticket);
                assert!(waited.is_some(), "it was waiting");
                self.checks.ended(ticket, self.clock());
            }
            Doing::Served => {
                // Its statement runs on; the caller is back when that is over, which is kind to the proxy.
                self.clients[caller].doing = Doing::Gone;
                return self.note(caller, End::TimedOut);
            }
            Doing::Resting | Doing::Gone => return,
        }
        self.note(caller, End::TimedOut);
        self.rest(caller, Some(Duration::ZERO));
    }

    fn crash(&mut self) {
        self.epoch += 1;
        for server in 0..self.servers.len() {
            if self.servers[server].epoch == u32::MAX {
                continue;
            }
            self.servers[server].epoch = u32::MAX;
            let Server { home, caller, since, idle, .. } = self.servers[server];
            if let Some(caller) = caller {
                self.servers[server].caller = None;
                let charge = (self.keys[self.clients[caller].function], self.now - since);
                self.end_service(caller, End::Lost);
                self.gate.discard(self.clock(), self.pool, charge, &mut self.actions);
            } else if idle {
                self.servers[server].idle = false;
                assert!(self.gate.take_idle(self.clock(), self.pool, home, &mut self.actions));
            }
            self.after(ms(1), Event::Closed);
        }
    }

    fn is_down(&self) -> bool {
        self.plan
            .outages
            .iter()
            .any(|outage| (outage.at..outage.at.saturating_add(outage.lasts)).contains(&self.now))
    }

    fn dialled(&mut self, home: Home, epoch: u32) {
        if epoch != self.epoch || self.is_down() {
            let cause = DialCause::Unreachable;
            return self.gate.dial_failed(self.clock(), self.pool, home, cause, &mut self.actions);
        }
        let placement = self.gate.dialled(self.clock(), self.pool, home, &mut self.actions);
        let fresh = Server { home, epoch, caller: None, since: self.now, idle: false };
        let place = self.servers.iter().position(|server| server.epoch == u32::MAX);
        let server = match place {
            Some(at) => {
                self.servers[at] = fresh;
                at
            }
            None => {
                self.servers.push(fresh);
                self.servers.len() - 1
            }
        };
        self.place(server, placement);
    }

    fn obey(&mut self) {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                match action {
                    Action::Shed { ticket, reason, retry_after, .. } => {
                        self.checks.ended(ticket, self.clock());
                        let caller = self.by_ticket[ticket.index()];
                        assert_eq!(self.clients[caller].doing, Doing::Waiting(ticket), "shed twice");
                        self.shed(caller, reason, retry_after);
                    }
                    Action::Dial { home, .. } => {
                        self.dials += 1;
                        self.after(self.plan.dial, Event::Dialled { home, epoch: self.epoch });
                    }
                    Action::CloseIdle { .. } | Action::Grant { .. } => {
                        panic!("one pool, no limit: {action:?}")
                    }
                }
            }
        }
    }
}

impl World {
    /// Attempts that ended in this time, of this function if one is said.
    pub fn ended(
        &self,
        (from, to): (Duration, Duration),
        function: Option<&str>,
    ) -> impl Iterator<Item = &Outcome> {
        let at = function.map(|name| {
            let found = self.plan.functions.iter().position(|function| function.name == name);
            found.expect("a function of the plan")
        });
        self.outcomes.iter().filter(move |outcome| {
            (from..to).contains(&outcome.at) && at.is_none_or(|at| at == outcome.function)
        })
    }

    /// Served per second.
    pub fn goodput(&self, (from, to): (Duration, Duration), function: Option<&str>) -> f64 {
        let served = self.ended((from, to), function).filter(|outcome| outcome.end == End::Served).count();
        served as f64 / (to - from).as_secs_f64()
    }

    /// A quantile of how long those that were served had to wait for it.
    pub fn quantile(&self, part: f64, span: (Duration, Duration), function: Option<&str>) -> Duration {
        let served = self.ended(span, function).filter(|outcome| outcome.end == End::Served);
        let mut took: Vec<_> = served.map(|outcome| outcome.took).collect();
        took.sort();
        took.get(((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}
