//! How fast dials may follow each other, over many seeds on a virtual clock: a cold pool, outages, a server that answers
//! some dials, one that is full.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::shell::Shell;
use super::{caller, limits, ms, params};
use crate::guard::{Action, Arrival, DialCause, GateParams, Home, PoolId, PoolLimits};

/// As the proxy sets them.
fn real() -> GateParams {
    GateParams { dial_rate: 50, dial_burst: 40, ..params() }
}

fn patient(size: usize) -> PoolLimits {
    PoolLimits { max_wait: ms(3_600_000), max_waiting: 100_000, ..limits(size) }
}

/// A server that takes `TAKES` to answer each dial, by its own rule.
struct Server<F> {
    shell: Shell,
    pool: PoolId,
    /// When each dial under way is over; in the shell's order.
    over_at: Vec<Instant>,
    dialled_at: Vec<Instant>,
    answer: F,
}

const TAKES: Duration = Duration::from_millis(5);

impl<F: FnMut(Instant, usize) -> Result<(), DialCause>> Server<F> {
    /// A pool of this size with a thousand waiters. `answer` is given the time and the number of live servers.
    fn new(params: GateParams, size: usize, answer: F) -> Self {
        let (mut shell, pool) = Shell::with_pool(params, patient(size));
        (0..1000).for_each(|_| _ = shell.queue(pool));
        let mut server = Server { shell, pool, over_at: vec![], dialled_at: vec![], answer };
        server.note();
        server
    }

    fn note(&mut self) {
        while self.over_at.len() < self.shell.dialling.len() {
            self.over_at.push(self.shell.now + TAKES);
            self.dialled_at.push(self.shell.now);
        }
    }

    fn live(&self) -> usize {
        let [idle, active, ..] = self.shell.counts(self.pool);
        idle + active
    }

    fn run(&mut self, time: Duration) {
        let until = self.shell.now + time;
        loop {
            let due = self.shell.gate.poll_timeout().map(|due| due.max(self.shell.now));
            let next = self.over_at.first().copied().into_iter().chain(due).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.shell.now = next;
            if self.over_at.first() == Some(&next) {
                self.over_at.remove(0);
                let live = self.live();
                match (self.answer)(next, live) {
                    Ok(()) => _ = self.shell.connect(self.pool),
                    Err(cause) => self.shell.fail(self.pool, cause),
                }
            } else {
                self.shell.tick();
            }
            self.note();
        }
        self.shell.now = until;
    }
}

/// Most dials that began within a second.
fn most_in_a_second(dials: &[Instant]) -> usize {
    let within = |first: &Instant| dials.iter().filter(|at| *at >= first && **at - *first < ms(1000)).count();
    dials.iter().map(within).max().unwrap_or(0)
}

#[test]
fn a_cold_pool_of_twenty_fills_within_the_burst() {
    let mut server = Server::new(real(), 20, |_, _| Ok(()));
    let start = server.shell.now;
    server.run(ms(1000));
    assert_eq!(server.live(), 20);
    let last = *server.dialled_at.last().expect("dials");
    assert!(last + TAKES - start <= ms(30), "{:?}", last + TAKES - start);
}

#[test]
fn beyond_the_burst_the_rate_holds_and_nobody_is_forgotten() {
    let mut server = Server::new(GateParams { dial_rate: 10, dial_burst: 5, ..real() }, 50, |_, _| Ok(()));
    server.run(ms(2010));
    assert_eq!(server.live(), 25, "5 at once, and 10 in each second");
    server.run(ms(2500));
    assert_eq!(server.live(), 50);
}

#[test]
fn an_outage_costs_ten_dials_a_second_and_its_end_is_noticed_in_half_a_second() {
    for seed in 0..300 {
        let outage = ms(seed * 37 % 20_000 + 200);
        let start = Instant::now();
        let back = start + outage;
        let mut firsts = vec![];
        let answer = |now, _| {
            if now < back {
                return Err(DialCause::Unreachable);
            }
            firsts.push(now);
            Ok(())
        };
        let mut server = Server::new(GateParams { seed, ..real() }, 20, answer);
        server.shell.now = start;
        server.run(outage + ms(2000));
        let before: Vec<_> = server.dialled_at.iter().copied().filter(|at| *at < back).collect();
        let per_second = most_in_a_second(&before);
        assert!(per_second <= 10, "seed {seed}: {per_second} dials in a second of {outage:?}");
        assert_eq!(server.live(), 20, "seed {seed}");
        let (first, last) = (firsts[0] - back, firsts[19] - back);
        assert!(first <= ms(500), "seed {seed}: back for {first:?} before the first success");
        assert!(
            last <= first + ms(150),
            "seed {seed}: {last:?} until the pool is full, {first:?} for the first"
        );
    }
}

#[test]
fn with_half_of_all_dials_failing_the_pool_fills_and_the_server_has_peace() {
    for seed in 0..50 {
        let mut coin = SmallRng::seed_from_u64(seed);
        let answer = move |_, _| if coin.random_bool(0.5) { Ok(()) } else { Err(DialCause::Unreachable) };
        let mut server = Server::new(GateParams { seed, ..real() }, 100, answer);
        server.run(ms(20_000));
        assert_eq!(server.live(), 100, "seed {seed}");
        assert!(server.dialled_at.len() < 350, "seed {seed}: {} dials", server.dialled_at.len());
    }
}

#[test]
fn a_server_that_answers_one_dial_in_ten_is_dialled_a_few_times_a_second() {
    for seed in 0..50 {
        let mut dials = 0;
        let answer = move |_, _| {
            dials += 1;
            if dials % 10 == 0 { Ok(()) } else { Err(DialCause::Unreachable) }
        };
        let mut server = Server::new(GateParams { seed, ..real() }, 100, answer);
        server.run(ms(60_000));
        let dials = server.dialled_at.len();
        assert!((100..600).contains(&dials), "seed {seed}: {dials} dials in 60 s");
        assert!(server.live() >= 10, "seed {seed}: {} servers", server.live());
    }
}

/// Others have taken what is missing; after `until` they give it back.
fn full(room: usize, until: Instant) -> impl FnMut(Instant, usize) -> Result<(), DialCause> {
    move |now, live| if live < room || now >= until { Ok(()) } else { Err(DialCause::TooManyConnections) }
}

#[test]
fn a_full_server_is_left_alone_and_found_again_when_it_has_room() {
    for seed in 0..50 {
        let start = Instant::now();
        let until = start + ms(120_000);
        let mut server = Server::new(GateParams { seed, ..real() }, 20, full(12, until));
        server.shell.now = start;
        server.run(ms(2000));
        let seen = server.shell.gate.snapshot_upstream(server.shell.now);
        assert_eq!((server.live(), seen.budget, seen.max_connections), (12, 12, 100), "seed {seed}");
        let before = server.dialled_at.len();
        server.run(ms(118_000));
        let asked = server.dialled_at.len() - before;
        assert!((3..=8).contains(&asked), "seed {seed}: {asked} dials in two minutes at a full server");
        server.run(ms(170_000));
        assert_eq!(server.live(), 20, "seed {seed}");
    }
}

#[test]
fn a_budget_that_is_not_needed_goes_back_by_itself() {
    let (mut shell, pool) = Shell::with_pool(params(), patient(5));
    shell.queue(pool);
    shell.queue(pool);
    let _ = shell.connect(pool);
    shell.fail(pool, DialCause::TooManyConnections);
    let budget = |shell: &Shell| shell.gate.snapshot_upstream(shell.now).budget;
    assert_eq!(budget(&shell), 1);
    shell.waiting.clone().iter().for_each(|waiter| assert!(shell.abandon(waiter.ticket)));
    shell.pass(ms(100_000));
    assert!((8..=30).contains(&budget(&shell)), "{}", budget(&shell));
    shell.pass(ms(1_000_000));
    assert_eq!((budget(&shell), shell.gate.poll_timeout()), (100, None));
}

#[test]
fn a_connection_limit_is_one_pools_matter() {
    let mut shell = Shell::new(params());
    let group = shell.add_group(100);
    let (limited, other) = (shell.add_pool(group, patient(10)), shell.add_pool(group, patient(10)));
    (0..10).for_each(|_| _ = shell.queue(limited));
    let _ = shell.connect(limited);
    let _ = shell.connect(limited);
    while shell.dialling.contains(&(limited, Home(0))) {
        shell.fail(limited, DialCause::ConnectionLimit);
    }
    let seen = shell.gate.snapshot(shell.now, limited);
    assert_eq!((seen.budget, seen.size), (2, 10));
    assert_eq!(shell.gate.snapshot_upstream(shell.now).budget, 100);
    (0..10).for_each(|_| _ = shell.queue(other));
    shell.connect_all();
    assert_eq!(shell.counts(other)[1], 10);
    shell.pass(ms(4000));
    assert_eq!(shell.counts(limited), [0, 2, 0, 0], "and no dial for it");
    shell.pass(ms(6000));
    assert_eq!(shell.counts(limited), [0, 2, 1, 0], "but for one after the quiet period");
}

#[test]
fn without_descriptors_only_the_pool_backs_off() {
    let (mut shell, pool) = Shell::with_pool(params(), patient(5));
    shell.queue(pool);
    shell.fail(pool, DialCause::NoFiles);
    let seen = shell.gate.snapshot_upstream(shell.now);
    assert_eq!((seen.budget, seen.dial_failures, seen.failing_since), (100, 0, None));
    assert_eq!(shell.dialling.len(), 0);
    shell.pass(ms(100));
    assert_eq!(shell.dialling.len(), 1);
}

/// The first server after an outage goes to whoever has waited longest.
#[test]
fn the_first_success_is_the_oldest_waiters() {
    let (mut shell, pool) = Shell::with_pool(real(), patient(5));
    let oldest = shell.queue(pool);
    shell.fail(pool, DialCause::Unreachable);
    shell.queue(pool);
    shell.pass(ms(400));
    assert_eq!(shell.connect(pool), crate::guard::Placement::Hand(oldest));
}

#[test]
fn a_gate_without_tokens_names_the_time_of_the_next() {
    let mut gate = crate::guard::Gate::new(GateParams { dial_rate: 4, dial_burst: 1, ..params() });
    let group = gate.add_group(10);
    let pool = gate.add_pool(group, patient(10));
    let (now, actions) = (Instant::now(), &mut Vec::new());
    for _ in 0..3 {
        let caller = caller(&mut gate, pool, Home(0));
        assert!(matches!(gate.arrive(now, pool, &caller, actions), Arrival::Queued(_)));
    }
    assert_eq!(std::mem::take(actions), [Action::Dial { pool, home: Home(0) }]);
    for after in [250, 500] {
        let due = now + ms(after);
        // Queues are looked over more often than that.
        let earlier = gate.poll_timeout().expect("a timer");
        gate.tick(earlier, actions);
        assert!(actions.is_empty() && earlier < due);
        gate.tick(due, actions);
        assert_eq!(std::mem::take(actions), [Action::Dial { pool, home: Home(0) }]);
    }
    gate.tick(now + ms(750), actions);
    assert!(actions.is_empty(), "three dials for three waiters");
}
