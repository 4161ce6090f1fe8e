//! What happens in a world.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Callers that do the same.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub callers: usize,
    /// When they begin, and when they stop asking for more.
    pub start: Duration,
    pub stop: Duration,
    /// Mean time that a transaction holds a server; exponential around it if `spread`.
    pub hold: Duration,
    pub spread: bool,
    /// Mean pause between one call and the next. None: one call each.
    pub think: Option<Duration>,
    /// After so long a caller gives up.
    pub timeout: Duration,
    pub retries: usize,
    /// Waits before it tries again as long as it was told to; else not at all.
    pub listens: bool,
    /// It says how long it will wait.
    pub says: bool,
    /// One transaction in so many is held for a second or more.
    pub freezes: Option<u32>,
    /// One waiter in so many leaves after a moment.
    pub cancels: Option<u32>,
}

impl Function {
    /// Patient callers that come back for more.
    pub fn new(name: &str, callers: usize, hold: Duration) -> Self {
        Function {
            name: name.to_owned(),
            callers,
            start: Duration::ZERO,
            stop: Duration::MAX,
            hold,
            spread: false,
            think: Some(ms(1000)),
            timeout: ms(3000),
            retries: 2,
            listens: true,
            says: false,
            freezes: None,
            cancels: None,
        }
    }
}

/// For some time no server can be reached, and those that were are lost.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub at: Duration,
    pub lasts: Duration,
}

/// A world.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub size: usize,
    pub homes: usize,
    pub dial: Duration,
    pub functions: Vec<Function>,
    pub outages: Vec<Outage>,
    pub lasts: Duration,
}

impl Plan {
    pub fn new(seed: u64, size: usize, lasts: Duration, functions: Vec<Function>) -> Self {
        Plan { seed, size, homes: 2, dial: ms(5), functions, outages: vec![], lasts }
    }
}

/// When the faults of a drawn world end, and from when on it has to be calm.
pub const FAULTS_END: Duration = Duration::from_secs(15);
pub const CALM: Duration = Duration::from_secs(22);
pub const END: Duration = Duration::from_secs(28);

/// A world full of faults, in which it is calm in the end: a few callers go on then, who want half of what there is.
pub fn drawn(seed: u64) -> Plan {
    let mut dice = SmallRng::seed_from_u64(seed);
    let size = dice.random_range(1..=40);
    let hold = ms(dice.random_range(2..=60));
    let mut functions: Vec<_> =
        (0..dice.random_range(1..=8)).map(|at| storm(&mut dice, at, size, hold)).collect();
    let per_second = size as f64 / hold.as_secs_f64();
    let quiet = Function {
        think: Some(ms(500)),
        retries: 0,
        ..Function::new("quiet", ((per_second * 0.5 * 0.5) as usize).clamp(1, 400), hold)
    };
    functions.push(quiet);
    let outages = (0..dice.random_range(0..3))
        .map(|_| Outage { at: ms(dice.random_range(0..12_000)), lasts: ms(dice.random_range(0..3000)) });
    let outages = outages.collect();
    let (homes, dial) = (dice.random_range(1..=4), ms(dice.random_range(1..=40)));
    Plan { seed, size, homes, dial, functions, outages, lasts: END }
}

/// A function that wants up to ten times of what there is.
fn storm(dice: &mut SmallRng, at: usize, size: usize, hold: Duration) -> Function {
    let hold = hold.mul_f64(dice.random_range(0.3..3.0));
    let think = ms(dice.random_range(0..1500));
    let enough = size as f64 * (hold + think).as_secs_f64() / hold.as_secs_f64();
    let most = (enough * dice.random_range(0.02..10.0)) as usize;
    let start = ms(dice.random_range(0..8000));
    Function {
        callers: most.clamp(1, 3000),
        start,
        stop: (start + ms(dice.random_range(10..10_000))).min(FAULTS_END),
        spread: dice.random_bool(0.5),
        think: dice.random_bool(0.8).then_some(think),
        timeout: ms(dice.random_range(200..6000)),
        retries: dice.random_range(0..4),
        listens: dice.random_bool(0.7),
        says: dice.random_bool(0.3),
        freezes: dice.random_bool(0.3).then(|| dice.random_range(20..500)),
        cancels: dice.random_bool(0.3).then(|| dice.random_range(2..50)),
        ..Function::new(&format!("storm-{at}"), 1, hold)
    }
}
