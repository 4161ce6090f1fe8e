//! Short storms with faults at random, on both sides of the proxy at once.
//!
//! `PGCORRAL_FAULT_SEED=n` plays one storm again: the same faults at the same bytes and, as far as threads and sockets have
//! it, at the same times. `PGCORRAL_FAULT_STORMS=n`: so many with seeds of their own, instead of two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Over, PAUSE, Stage};
use crate::support::ground::Ground;
use crate::support::relay::{Arrival, BOTH, Fault, Planned, Relay, Way};
use crate::support::tally::{Caller, Ending, SHAPES};

/// These are played each time.
const FIXED: std::ops::RangeInclusive<u64> = 1..=5;
/// So many others.
const RANDOM: usize = 2;

const POOL: usize = 3;
const CLIENTS: usize = 16;
const TIME: Duration = Duration::from_secs(3);

/// Every bound is short, so that a storm and its calm are.
const TIMEOUTS: [&str; 7] = [
    "query_timeout = \"1s\"",
    "cancel_timeout = \"500ms\"",
    "server_connect_timeout = \"1s\"",
    "idle_in_transaction_timeout = \"1s\"",
    "client_stall_timeout = \"1s\"",
    "client_login_timeout = \"3s\"",
    "query_wait_timeout = \"1s\"",
];

/// What a client with a sound connection may be told.
const CONTRACT: [&str; 9] = ["53300", "57P03", "57014", "08006", "08001", "25P03", "57P05", "57P01", "57P02"];

pub(super) fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("PGCORRAL_FAULT_SEED") {
        Some(seed) => vec![seed],
        None => {
            let storms = number("PGCORRAL_FAULT_STORMS").map_or(RANDOM, |count| count as usize);
            FIXED.chain((0..storms).map(|_| rand::random_range(1000..1_000_000_000))).collect()
        }
    };
    let trial = |seed: u64| {
        let ground = Arc::clone(ground);
        Trial::test(format!("network::storms::seed_{seed}"), move || {
            storm(&ground, seed);
            Ok(())
        })
    };
    seeds.into_iter().map(trial).collect()
}

fn storm(ground: &Ground, seed: u64) {
    let stage = Stage::start(ground.cluster(), &format!("net_storm_{seed}"), POOL, &TIMEOUTS);
    let clients = Relay::start(stage.proxy.address);
    // Each gets its own: what one draws does not depend on how often another has.
    for (relay, salt) in [(&stage.servers, 1), (&clients, 2)] {
        relay.plan(move |link| {
            plan(&mut SmallRng::seed_from_u64(seed ^ (salt << 40) ^ ((link as u64) << 48)))
        });
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (stage, over) = (&stage, &over);
            // Half of the clients have a bad line themselves. They have little patience, and may hang.
            let caller = if number % 2 == 0 {
                stage.caller(number)
            } else {
                stage.caller_at(clients.address, number, Duration::from_secs(1))
            };
            scope.spawn(move || client(stage, caller, number, seed, over));
        }
        let _over = Over(&over);
        weather(&stage.servers, &clients, &mut SmallRng::seed_from_u64(seed));
    });
    clients.inflict(Fault::Cut);
    stage.servers.release();
    let fate = |number: &str| number.parse::<usize>().is_ok_and(|number| number < CLIENTS && number % 2 == 1);
    stage.tally.assert_endings(|told| {
        let bad_line = told.name.split('-').next().is_some_and(fate);
        bad_line || told.ending.is_one_of(&CONTRACT)
    });
    stage.calm(ground.cluster());
}

fn client(stage: &Stage, mut caller: Caller, number: usize, seed: u64, over: &AtomicBool) {
    let mut rng = SmallRng::seed_from_u64(seed ^ ((number as u64) << 32));
    while !over.load(Ordering::SeqCst) {
        let takes = Duration::from_millis(rng.random_range(0..60));
        let told = caller.attempt(SHAPES[rng.random_range(0..SHAPES.len())], takes);
        if told.ending == Ending::Hung {
            // As a function does whose time is up.
            caller.leave();
        }
        if told.ending != Ending::Served {
            sleep(PAUSE);
        }
        stage.tally.note(told);
        if rng.random_ratio(1, 10) {
            caller.leave();
        }
    }
}

/// What happens to one link. Most have nothing to fear.
fn plan(rng: &mut SmallRng) -> Vec<Planned> {
    if rng.random_ratio(2, 3) {
        return vec![];
    }
    let way = if rng.random() { Way::Forth } else { Way::Back };
    // A login is some hundred bytes each way, and a transaction a hundred more.
    let after = rng.random_range(0..2000);
    vec![Planned { way, after, fault: fault(rng) }]
}

fn fault(rng: &mut SmallRng) -> Fault {
    const WAYS: [&[Way]; 3] = [BOTH, &[Way::Forth], &[Way::Back]];
    let ways = WAYS[rng.random_range(0..WAYS.len())];
    match rng.random_range(0..10) {
        0..3 => Fault::Cut,
        3..5 => Fault::Hold(ways),
        5..8 => Fault::Pause(ways, Duration::from_millis(rng.random_range(0..1500))),
        _ => Fault::Slow(Duration::from_millis(rng.random_range(1..30))),
    }
}

/// What happens to all links at once, now and then.
fn weather(servers: &Relay, clients: &Relay, rng: &mut SmallRng) {
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        sleep(Duration::from_millis(rng.random_range(100..400)));
        let arrival = match rng.random_range(0..8) {
            0 => Arrival::Silent,
            1 => Arrival::Late(Duration::from_millis(rng.random_range(50..1500))),
            2 => Arrival::Reset,
            _ => Arrival::Linked,
        };
        servers.arrivals(arrival);
        match rng.random_range(0..8) {
            0 => servers.inflict(Fault::Cut),
            1 => clients.inflict(Fault::Cut),
            2 => servers.inflict(fault(rng)),
            _ => {}
        }
    }
}
