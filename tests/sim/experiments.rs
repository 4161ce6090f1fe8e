//! The experiments of the load-test kit on a virtual clock: the rules alone, without machine or network.

use std::time::{Duration, Instant};

use super::plan::{Function, Outage, Plan, ms};
use super::world::{End, World};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// E1: 100 callers, 2000 from 5 s to 20 s, on 20 servers and 50 ms.
fn surge(surge: Function) -> World {
    let surge = Function { start: s(5), stop: s(20), ..surge };
    let calm = Function::new("api", 100, ms(50));
    World::new(Plan::new(1, 20, s(30), vec![calm, surge])).run()
}

#[test]
fn a_surge_is_served_at_full_capacity_and_quickly() {
    let world = surge(Function::new("surge", 1900, ms(50)));
    let goodput = world.goodput((s(5), s(20)), None);
    let p50 = world.quantile(0.5, (s(5), s(20)), None);
    let after = world.ended((s(21), s(30)), None);
    let failed = after.filter(|outcome| outcome.end != End::Served).count();
    println!("E1: {goodput:.0}/s of 400, p50 {p50:?}, {} wasted, {failed} failed afterwards", world.wasted);
    assert!(goodput >= 380.0);
    assert!(p50 <= ms(150), "{p50:?}");
    assert!(world.wasted <= 20, "{}", world.wasted);
    assert_eq!(failed, 0);
}

#[test]
fn a_surge_of_clients_that_do_not_listen_is_served_at_full_capacity() {
    let world = surge(Function { listens: false, ..Function::new("surge", 1900, ms(50)) });
    let goodput = world.goodput((s(5), s(20)), None);
    println!("E1, deaf: {goodput:.0}/s of 400, p50 {:?}", world.quantile(0.5, (s(5), s(20)), None));
    assert!(goodput >= 380.0);
}

/// E1b: 1000 at once on 20 servers.
#[test]
fn a_burst_that_can_be_served_is_served_whole() {
    let burst = Function { think: None, timeout: s(6), retries: 0, ..Function::new("burst", 1000, ms(50)) };
    let world = World::new(Plan::new(1, 20, s(15), vec![burst])).run();
    let served = world.outcomes.iter().filter(|outcome| outcome.end == End::Served);
    let (count, last) = (served.clone().count(), served.map(|outcome| outcome.at).max().unwrap_or_default());
    println!("E1b: {count} of 1000 in {last:?}");
    assert_eq!(count, 1000);
    assert!(last <= ms(2750), "{last:?}");
}

/// The losing case: 3000 at once, and those who are refused use up their retries at once. First in, first out would serve
/// 2400 of them within their six seconds.
#[test]
fn a_burst_that_is_too_large_and_does_not_listen_is_served_in_part() {
    let deaf = Function {
        think: None,
        timeout: s(6),
        retries: 2,
        listens: false,
        ..Function::new("deaf", 3000, ms(50))
    };
    let world = World::new(Plan::new(1, 20, s(20), vec![deaf])).run();
    let served = world.outcomes.iter().filter(|outcome| outcome.end == End::Served).count();
    println!("E1b, deaf: {served} of 3000");
    assert!(served >= 800, "{served}");
}

/// E8: callers that come back without a pause, and would all wait for ten seconds. Their queue never gets shorter, and its
/// last is served within a second: there is no reason to refuse anybody.
#[test]
fn a_queue_that_stands_and_is_served_in_time_is_left_alone() {
    for (callers, other) in [(400, 0), (200, 200)] {
        let busy = Function {
            think: Some(Duration::ZERO),
            timeout: s(10),
            retries: 0,
            spread: true,
            ..Function::new("busy", callers, ms(50))
        };
        let more = Function { name: "more".into(), callers: other, ..busy.clone() };
        let world = World::new(Plan::new(1, 20, s(20), vec![busy, more])).run();
        let failed = world.ended((s(1), s(20)), None).filter(|outcome| outcome.end != End::Served).count();
        let goodput = world.goodput((s(2), s(20)), None);
        println!("E8, {callers} and {other}: {goodput:.0}/s of 400, {failed} not served");
        assert_eq!(failed, 0);
        assert!(goodput >= 390.0);
    }
}

/// E3: one function with 1800 callers and nine with 5 each, 20 ms; the heavy one's then take 100 ms.
#[test]
fn light_functions_do_not_feel_a_heavy_one() {
    let heavy = Function { timeout: s(30), retries: 0, ..Function::new("heavy", 1800, ms(20)) };
    let long = Function { name: "long".into(), hold: ms(100), start: s(8), ..heavy.clone() };
    let mut functions = vec![Function { stop: s(8), ..heavy }, long];
    let light = |at| Function {
        think: Some(ms(200)),
        timeout: s(30),
        retries: 0,
        ..Function::new(&format!("light-{at}"), 5, ms(20))
    };
    functions.extend((1..10).map(light));
    let world = World::new(Plan::new(1, 20, s(20), functions)).run();
    for span in [(s(2), s(8)), (s(10), s(20))] {
        let quantile = |part| world.quantile(part, span, Some("light-1"));
        println!("E3 {span:?}: p50 {:?}, p99 {:?}", quantile(0.5), quantile(0.99));
        assert!(quantile(0.5) <= ms(45) && quantile(0.99) <= ms(120));
        let failed = world.ended(span, Some("light-1")).filter(|outcome| outcome.end != End::Served).count();
        assert_eq!(failed, 0);
    }
    let total = world.goodput((s(2), s(8)), None);
    assert!(total >= 970.0, "{total} of 1000");
}

/// E5: 500 at once meet an empty pool; then the server is gone for three seconds.
#[test]
fn a_cold_pool_fills_at_once_and_a_lost_server_is_used_as_soon_as_it_is_back() {
    let burst = Function { think: None, ..Function::new("burst", 500, ms(20)) };
    let steady =
        Function { think: Some(ms(200)), retries: 20, start: s(3), ..Function::new("steady", 50, ms(20)) };
    let mut plan = Plan::new(1, 20, s(16), vec![burst, steady]);
    plan.outages.push(Outage { at: s(6), lasts: s(3) });
    let world = World::new(plan).run();
    let first = world.ended((ms(9000), s(16)), Some("steady")).find(|outcome| outcome.end == End::Served);
    let back = first.expect("it came back").at;
    println!("E5: first served {:?} after the outage, {} dials in all", back - s(9), world.dials);
    assert!(back <= ms(9500), "{back:?}");
    assert!(world.dials <= 20 + 30 + 20, "{}", world.dials);
    assert_eq!(world.goodput((s(0), s(2)), Some("burst")), 250.0);
}

/// Five transactions of one instance succeed together or not at all while an overload lasts.
#[test]
fn in_a_long_overload_some_clients_work_completely() {
    let world = surge(Function { retries: 0, think: Some(ms(200)), ..Function::new("surge", 1900, ms(50)) });
    let goodput = world.goodput((s(13), s(20)), None);
    println!("long overload: {goodput:.0}/s");
    assert!(goodput >= 380.0);
}

/// A million callers at once: what a stampede costs the gate.
#[test]
fn a_million_callers() {
    let started = Instant::now();
    let stampede = Function { timeout: s(2), ..Function::new("stampede", 1_000_000, ms(50)) };
    let world = World::new(Plan::new(1, 100, s(4), vec![stampede])).run();
    let per_second = world.events as f64 / started.elapsed().as_secs_f64();
    println!("{} events, {per_second:.0} per second", world.events);
    // Of 2000 per second. By then the pool is full, and all have given up once and come again at the same moment.
    let goodput = world.goodput((s(2), s(4)), None);
    assert!(goodput >= 1500.0, "{goodput}");
}

/// What is shared is the time that servers are held: two functions that both want everything get half each, however long
/// one's transactions are.
#[test]
fn long_holds_and_short_ones_get_the_same_time() {
    for hold in [100, 500] {
        let of = |name: &str, callers, hold| Function {
            think: Some(ms(1)),
            timeout: s(30),
            listens: false,
            ..Function::new(name, callers, ms(hold))
        };
        let functions = vec![of("short", 400, 20), of("long", 60, hold)];
        let world = World::new(Plan::new(1, 20, s(20), functions)).run();
        let time = |name, hold: u64| world.goodput((s(5), s(20)), Some(name)) * hold as f64;
        let share = time("long", hold) / (time("long", hold) + time("short", 20));
        println!("{hold} ms beside 20 ms: {share:.2} of the time");
        assert!((0.42..=0.58).contains(&share), "{share}");
    }
}

/// A burst of instances that all go by a name of their own is a burst, too.
#[test]
fn a_burst_of_a_thousand_functions_is_served_whole() {
    let one = |at| Function {
        think: None,
        timeout: s(6),
        retries: 0,
        ..Function::new(&format!("instance-{at}"), 1, ms(50))
    };
    let world = World::new(Plan::new(1, 20, s(15), (0..1000).map(one).collect())).run();
    let served = world.outcomes.iter().filter(|outcome| outcome.end == End::Served).count();
    assert_eq!(served, 1000);
}
