//! Worlds drawn from seeds. After the faults, those who go on must get everything they want.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::plan::{CALM, END, drawn};
use super::world::{End, World};

const FIXED: u64 = 200;
const RANDOM: u64 = 20;

fn check(seed: u64) -> u64 {
    let again = format!("PGCORRAL_SIM_SEED={seed} cargo test --test sim -- --nocapture one_seed");
    let run = std::panic::catch_unwind(|| {
        let world = World::new(drawn(seed)).run();
        let calm: Vec<_> = world.ended((CALM, END), Some("quiet")).collect();
        assert!(!calm.is_empty(), "nobody was there");
        let failed = calm.iter().filter(|outcome| outcome.end != End::Served).count();
        assert_eq!(failed, 0, "of {} calls after the faults", calm.len());
        world.events
    });
    run.unwrap_or_else(|_| panic!("seed {seed} failed; run it again by\n  {again}"))
}

#[test]
fn fixed_seeds() {
    let (started, mut events) = (Instant::now(), 0);
    std::thread::scope(|threads| {
        let half = |odd| move || (0..FIXED).filter(|seed| seed % 2 == odd).map(check).sum::<u64>();
        let halves = [threads.spawn(half(0)), threads.spawn(half(1))];
        events = halves.into_iter().map(|half| half.join().expect("a seed failed")).sum();
    });
    println!("{events} events, {:.0} per second", events as f64 / started.elapsed().as_secs_f64());
}

#[test]
fn random_seeds() {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    (0..RANDOM).for_each(|at| {
        check(time.as_nanos() as u64 / 1000 + at);
    });
}

/// The one that is named, or the first.
#[test]
fn one_seed() {
    let seed = std::env::var("PGCORRAL_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let plan = drawn(seed);
    println!("{plan:#?}");
    let events = check(seed);
    println!("seed {seed}: {events} events");
}
