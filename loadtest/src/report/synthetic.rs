//! Legs for tests and looks, made up by a seeded queueing model: no network, no clock.

use super::{Run, TargetInfo};
use crate::leg::{
    AttemptFailure, BackendSample, Connect, FailureKind, GeneratorLoad, Invocation, Leg, Outcome,
    ProgressSample, StatementCount,
};
use crate::plan::Plan;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::Mutex;

const TIMEOUT_US: u64 = 3_000_000;
const HOLD_US: f64 = 50_000.0;
const LASTING_US: u64 = 30_000_000;
const ATTEMPTS: u16 = 3;
const SAMPLE_US: u64 = 100_000;

/// A checked plan with these functions; `head` is TOML for its top.
pub fn plan(head: &str, functions: &[&str]) -> Plan {
    let functions: String = functions
        .iter()
        .map(|name| {
            format!(
                "[[function]]\nname = \"{name}\"\ninstances = 500\ntimeout = \"3s\"\nretries = 2\n\
                 arrival = {{ kind = \"poisson\", per_second = 150.0 }}\nscript = [\"select pg_sleep(0.05)\"]\n"
            )
        })
        .collect();
    let text = format!("title = \"Twice what the database can do, for ten seconds\"\n{head}\n{functions}");
    Plan::parse("surge", &text, Path::new(".")).unwrap()
}

/// The plan of [`leg`]: 300 per second, 900 from second 10 to 20, of which 400 can be served.
pub fn surge() -> Plan {
    plan(
        "about = \"A crowd arrives, stays for ten seconds, and leaves. What counts is how much of the work is still done.\"\n\
         duration = \"30s\"\ncapacity = 400.0\n\
         assert = [\"max_backends <= 20\", \"goodput >= 0.6\", \"of_capacity@surge >= 0.9\", \"p99@after <= 500ms\", \
         \"errors_outside_contract == 0\"]\n\
         [[phase]]\nname = \"calm\"\nfrom = \"0s\"\nto = \"10s\"\n\
         [[phase]]\nname = \"surge\"\nfrom = \"10s\"\nto = \"20s\"\n\
         [[phase]]\nname = \"after\"\nfrom = \"20s\"\nto = \"30s\"\n\
         [[event]]\nat = \"25s\"\nhook = \"failover\"\n",
        &["api", "batch"],
    )
}

/// Every target in every round, interleaved. `direct` refuses beyond 56, `fifo` queues for ever, `guard` sheds.
pub fn run(targets: &[&str], rounds: u32) -> Run {
    let legs = (0..rounds)
        .flat_map(|round| targets.iter().map(move |target| leg(target, round, u64::from(round) + 1)))
        .collect();
    let target = |name: &&str| TargetInfo {
        name: (*name).to_owned(),
        baseline: false,
        about: format!("{name} 1.2.3, made up"),
    };
    Run {
        plan: surge(),
        targets: targets.iter().map(target).collect(),
        legs,
        observed: true,
        machine: "2 cores, 8 GB, Linux 6.1".to_owned(),
        started_unix_ms: 1_767_225_600_000,
        version: "0.1.0".to_owned(),
    }
}

/// A thousand at once, once, at two targets that serve or refuse them.
pub fn burst() -> Run {
    let mut run = run(&[], 1);
    run.plan = plan(
        "about = \"A thousand functions start in the same second.\"\nduration = \"5s\"\n\
         assert = [\"max_backends <= 20\", \"goodput >= 0.99\"]\n",
        &["api"],
    );
    for target in ["direct", "pgcorral"] {
        run.targets.push(TargetInfo {
            name: target.to_owned(),
            baseline: target == "direct",
            about: String::new(),
        });
        let mut model = Model::new(target, 1);
        model.longest_wait_us = 30_000_000;
        run.legs.push(model.run(target, 0, &run.plan, &[0; 1000]));
    }
    run
}

/// Nothing was due, nothing happened.
pub fn empty_leg(plan: &Plan) -> Leg {
    Leg {
        wall_us: plan.duration.micros(),
        generator: GeneratorLoad { cpu_us: 0, cores: 2 },
        ..Leg::empty("guard", 0, plan.function_names())
    }
}

/// One leg of [`surge`].
pub fn leg(target: &str, round: u32, seed: u64) -> Leg {
    // Every test wants some, and they take a while without optimisation.
    static KNOWN: Mutex<BTreeMap<(String, u64), Leg>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    let leg = known.entry((target.to_owned(), seed)).or_insert_with(|| {
        let mut model = Model::new(target, seed);
        let intended = model.intended();
        model.run(target, 0, &surge(), &intended)
    });
    Leg { round, ..leg.clone() }
}

/// What happens next: at, invocation, attempt.
type Due = Reverse<(u64, usize, u16)>;

struct Model {
    random: SmallRng,
    /// When each server connection is free again.
    free: Vec<u64>,
    /// A longer wait is shed at once.
    longest_wait_us: u64,
    /// Beyond that many, the server itself refuses.
    refuses: bool,
    busy: Vec<(u64, u64)>,
}

impl Model {
    fn new(target: &str, seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        let (slots, longest_wait_us, refuses) = match target {
            "direct" => (56, 0, true),
            "fifo" => (20, TIMEOUT_US, false),
            _ => (20, 400_000, false),
        };
        Self { random, free: vec![0; slots], longest_wait_us, refuses, busy: Vec::new() }
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        let unit: f64 = self.random.random();
        ((-(1.0 - unit).ln()).min(10.0) * mean) as u64
    }

    fn intended(&mut self) -> Vec<u64> {
        let mut due = Vec::new();
        let mut at = 0;
        loop {
            let rate = if (10_000_000..20_000_000).contains(&at) { 900.0 } else { 300.0 };
            at += self.exponential(1e6 / rate);
            if at >= LASTING_US {
                return due;
            }
            due.push(at);
        }
    }

    /// When an attempt that begins at `at` ends, and how.
    fn attempt(&mut self, at: u64) -> (u64, Outcome) {
        let hold = if self.refuses { HOLD_US * 2.5 } else { HOLD_US };
        let hold = self.exponential(hold);
        let slot = (0..self.free.len()).min_by_key(|slot| self.free[*slot]).unwrap();
        let begins = at.max(self.free[slot]);
        if self.refuses && begins > at {
            return (at + 3000, Outcome::Shed);
        }
        if begins - at > self.longest_wait_us {
            let patient = self.longest_wait_us >= TIMEOUT_US;
            return (at + self.longest_wait_us, if patient { Outcome::Timeout } else { Outcome::Shed });
        }
        // A queue that does not notice that its clients are gone works for them all the same.
        self.free[slot] = begins + hold;
        self.busy.push((begins, begins + hold));
        let gives_up = at + TIMEOUT_US.max(self.longest_wait_us);
        if begins + hold > gives_up {
            return (gives_up, Outcome::Timeout);
        }
        (begins + hold + 800, Outcome::Served)
    }

    fn run(mut self, target: &str, round: u32, plan: &Plan, intended: &[u64]) -> Leg {
        let mut leg = Leg { target: target.to_owned(), round, ..empty_leg(plan) };
        let mut due: BinaryHeap<Due> =
            intended.iter().enumerate().map(|(invocation, at)| Reverse((*at, invocation, 1))).collect();
        while let Some(Reverse((at, invocation, attempt))) = due.pop() {
            let function = u16::from(plan.functions.len() > 1 && invocation % 5 == 0);
            leg.connects.push(Connect {
                at_us: at,
                function,
                again: attempt > 1,
                connect_us: Some(180),
                login_us: Some(2100),
            });
            let (ended_us, outcome) = self.attempt(at);
            leg.failures.extend(failure(outcome, ended_us, function, self.refuses));
            if outcome != Outcome::Served && attempt < ATTEMPTS {
                let pause = 50_000 + self.exponential(300_000.0);
                due.push(Reverse((ended_us + pause, invocation, attempt + 1)));
                continue;
            }
            let intended_us = intended[invocation];
            let cold = attempt == 1 && invocation < 500;
            let started_us = intended_us + 90;
            leg.invocations.push(Invocation {
                function,
                intended_us,
                started_us,
                ended_us,
                attempts: attempt,
                cold,
                outcome,
            });
        }
        leg.invocations.sort_by_key(|invocation| invocation.ended_us);
        leg.wall_us = leg.invocations.last().map_or(0, |last| last.ended_us);
        leg.statements = Some(StatementCount { executed: self.busy.len() as u64, heard: leg.served() });
        leg.generator.cpu_us = leg.wall_us / 3;
        self.observe(&mut leg);
        leg
    }

    fn observe(&mut self, leg: &mut Leg) {
        let flights: Vec<_> =
            leg.invocations.iter().map(|invocation| (invocation.intended_us, invocation.ended_us)).collect();
        let (busy, flights) = (covered(&self.busy, leg.wall_us), covered(&flights, leg.wall_us));
        let mut most = 0;
        for at_us in (0..leg.wall_us).step_by(SAMPLE_US as usize) {
            let sample = (at_us / SAMPLE_US) as usize;
            let busy = busy[sample];
            most = if self.refuses { busy } else { most.max(busy) };
            let idle_in_transaction = busy / 7;
            let active = busy - idle_in_transaction;
            leg.backends.push(BackendSample { at_us, total: most, active, idle_in_transaction });
            let in_flight = flights[sample];
            let lag_us = self.random.random_range(50..3000);
            let connections = in_flight.min(500);
            leg.progress.push(ProgressSample { at_us, in_flight, connections, lag_us });
        }
    }
}

/// At each sample's time, how many of them are under way.
fn covered(spans: &[(u64, u64)], wall_us: u64) -> Vec<u32> {
    let mut change = vec![0i64; (wall_us / SAMPLE_US) as usize + 2];
    let last = change.len() - 1;
    for (from, to) in spans {
        change[(from.div_ceil(SAMPLE_US) as usize).min(last)] += 1;
        change[(to.div_ceil(SAMPLE_US) as usize).min(last)] -= 1;
    }
    let mut now = 0;
    change
        .into_iter()
        .map(|change| {
            now += change;
            now as u32
        })
        .collect()
}

fn failure(outcome: Outcome, at_us: u64, function: u16, by_server: bool) -> Option<AttemptFailure> {
    let (kind, sqlstate, reason) = match outcome {
        Outcome::Shed if by_server => (FailureKind::Shed, Some("53300"), "sorry, too many clients already"),
        Outcome::Shed => (FailureKind::Shed, Some("53300"), "queue_timeout"),
        Outcome::Timeout => (FailureKind::Timeout, None, "no answer in 3s"),
        _ => return None,
    };
    let sqlstate = sqlstate.map(str::to_owned);
    Some(AttemptFailure { at_us, function, kind, sqlstate, reason: reason.to_owned(), at_login: by_server })
}

trait Served {
    fn served(&self) -> u64;
}

impl Served for Leg {
    fn served(&self) -> u64 {
        self.invocations.iter().filter(|invocation| invocation.outcome == Outcome::Served).count() as u64
    }
}
