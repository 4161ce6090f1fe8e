//! The queue as callers see it: order, homes, deadlines, bounds, drain, and permits that come back on every path.

use super::shell::{End, Shell};
use super::{limits, ms, params};
use crate::guard::{Arrival, DialCause, GateParams, Home, Placement, PoolId, PoolLimits, ShedReason};

/// A pool whose servers are all active.
fn busy(params: GateParams, limits: PoolLimits) -> (Shell, PoolId) {
    let (mut shell, pool) = Shell::with_pool(params, limits);
    for _ in 0..limits.size {
        let home = Home((shell.dials % shell.params.homes) as u16);
        let _ = shell.arrive_at(pool, home);
    }
    shell.connect_all();
    assert_eq!(shell.counts(pool), [0, limits.size, 0, 0]);
    (shell, pool)
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    let (mut shell, pool) = busy(params(), limits(2));
    let tickets: Vec<_> = (0..5).map(|_| shell.queue(pool)).collect();
    for ticket in tickets {
        assert_eq!(shell.give_back(pool), Placement::Hand(ticket));
    }
    assert_eq!(shell.give_back(pool), Placement::Store);
}

#[test]
fn an_idle_server_at_home_is_preferred_and_one_elsewhere_is_taken() {
    let (mut shell, pool) = busy(GateParams { homes: 2, ..params() }, limits(2));
    let _ = shell.give_back(pool);
    let _ = shell.give_back(pool);
    assert_eq!(shell.arrive_at(pool, Home(1)), Arrival::Granted { from: Home(1) });
    assert_eq!(shell.arrive_at(pool, Home(1)), Arrival::Granted { from: Home(0) });
}

#[test]
fn a_waiter_elsewhere_is_passed_over_for_no_longer_than_the_slack() {
    let (mut shell, pool) = busy(GateParams { homes: 2, ..params() }, limits(2));
    let Arrival::Queued(there) = shell.arrive_at(pool, Home(1)) else { panic!() };
    shell.pass(ms(1));
    let Arrival::Queued(soon) = shell.arrive_at(pool, Home(0)) else { panic!() };
    shell.pass(ms(2));
    let Arrival::Queued(late) = shell.arrive_at(pool, Home(0)) else { panic!() };
    let at_home = |shell: &mut Shell| {
        shell.active.sort_by_key(|(_, home)| *home);
        shell.give_back(pool)
    };
    assert_eq!(at_home(&mut shell), Placement::Hand(soon));
    assert_eq!(at_home(&mut shell), Placement::Hand(there));
    assert_eq!(at_home(&mut shell), Placement::Hand(late));
}

#[test]
fn a_waiter_is_shed_when_its_time_has_run_out() {
    let (mut shell, pool) = busy(params(), limits(1));
    let early = shell.queue(pool);
    shell.pass(ms(1000));
    let late = shell.queue(pool);
    shell.pass(ms(499));
    assert_eq!(shell.end_of(early), None);
    shell.pass(ms(1));
    assert_eq!(shell.end_of(early), Some(End::Shed(ShedReason::QueueTimeout)));
    assert_eq!(shell.end_of(late), None);
    assert!(!shell.abandon(early));
    assert_eq!(shell.give_back(pool), Placement::Hand(late));
}

#[test]
fn a_server_is_not_handed_to_a_waiter_whose_time_has_run_out_before_the_tick() {
    let (mut shell, pool) = busy(params(), limits(1));
    let early = shell.queue(pool);
    shell.now += ms(1000);
    let late = shell.queue(pool);
    shell.now += ms(500);
    assert_eq!(shell.give_back(pool), Placement::Hand(late));
    assert_eq!(shell.end_of(early), Some(End::Shed(ShedReason::QueueTimeout)));
}

#[test]
fn a_full_queue_sheds_at_once() {
    let (mut shell, pool) = busy(params(), PoolLimits { max_waiting: 2, ..limits(1) });
    let first = shell.queue(pool);
    shell.queue(pool);
    assert!(matches!(shell.arrive(pool), Arrival::Shed(ShedReason::QueueFull, _)));
    assert!(shell.abandon(first));
    shell.queue(pool);
}

#[test]
fn an_endless_wait_is_not_an_overflow() {
    let (mut shell, pool) = busy(params(), PoolLimits { max_wait: std::time::Duration::MAX, ..limits(1) });
    shell.queue(pool);
    assert_eq!(shell.gate.poll_timeout(), None);
    shell.tick();
    assert_eq!(shell.waiting.len(), 1);
}

#[test]
fn no_timer_without_waiters() {
    let (mut shell, pool) = busy(params(), limits(1));
    assert_eq!(shell.gate.poll_timeout(), None);
    let ticket = shell.queue(pool);
    assert_eq!(shell.gate.poll_timeout(), Some(shell.now + ms(100)));
    shell.abandon(ticket);
    assert_eq!(shell.gate.poll_timeout(), None);
    assert!(shell.gate.wanting.is_empty(), "and nothing left to look at");
}

#[test]
fn a_drain_sheds_waiters_and_leaves_transactions_alone() {
    let (mut shell, pool) = busy(params(), limits(2));
    let _ = shell.give_back(pool);
    let _ = shell.arrive(pool);
    let waiter = shell.queue(pool);
    shell.drain();
    assert_eq!(shell.end_of(waiter), Some(End::Shed(ShedReason::Draining)));
    assert_eq!(shell.counts(pool), [0, 2, 0, 0]);
    assert!(matches!(shell.arrive(pool), Arrival::Shed(ShedReason::Draining, _)));
    assert_eq!(shell.give_back(pool), Placement::Close);
    assert_eq!(shell.give_back(pool), Placement::Close);
    shell.close_all();
    shell.warm(pool, Home(0));
    shell.tick();
    assert_eq!(shell.total(pool), 0);
    assert_eq!(shell.gate.poll_timeout(), None);
}

#[test]
fn a_drain_closes_what_is_idle_and_what_is_dialled() {
    let (mut shell, pool) = Shell::with_pool(params(), PoolLimits { min_idle: 2, ..limits(3) });
    shell.tick();
    let _ = shell.connect(pool);
    shell.drain();
    assert_eq!(shell.counts(pool), [0, 0, 1, 1]);
    assert_eq!(shell.connect(pool), Placement::Close);
    shell.close_all();
    assert_eq!(shell.total(pool), 0);
}

/// Lesson 1: every path that takes a permit gives exactly one back. After each, the pool still serves its whole size.
#[test]
fn every_hand_off_path_restores_exactly_one_permit() {
    type Path = (&'static str, fn(&mut Shell, PoolId));
    let paths: &[Path] = &[
        ("grant, return", |shell, pool| {
            let _ = shell.give_back(pool);
            let _ = shell.arrive(pool);
            let _ = shell.give_back(pool);
        }),
        ("hand", |shell, pool| {
            shell.queue(pool);
            let _ = shell.give_back(pool);
        }),
        ("hand, lose", |shell, pool| {
            shell.queue(pool);
            let _ = shell.give_back(pool);
            shell.lose(pool);
            shell.close_all();
        }),
        ("lose, close", |shell, pool| {
            shell.lose(pool);
            shell.close_all();
        }),
        ("lose while one waits, close, dial, hand", |shell, pool| {
            shell.queue(pool);
            shell.lose(pool);
            shell.close_all();
            shell.connect_all();
        }),
        ("wait, abandon", |shell, pool| {
            let ticket = shell.queue(pool);
            shell.abandon(ticket);
        }),
        ("wait, time out", |shell, pool| {
            shell.queue(pool);
            shell.pass(ms(1500));
        }),
        ("dial, abandon, store", |shell, pool| {
            shell.lose(pool);
            shell.close_all();
            let ticket = shell.queue(pool);
            shell.abandon(ticket);
            shell.connect_all();
        }),
        ("dial, fail, back off, dial", |shell, pool| {
            shell.lose(pool);
            shell.close_all();
            shell.queue(pool);
            shell.fail(pool, DialCause::Unreachable);
            shell.pass(ms(100));
            shell.connect_all();
        }),
        ("take idle, close", |shell, pool| {
            let _ = shell.give_back(pool);
            shell.take_idle(pool, Home(0));
            shell.close_all();
        }),
        ("resize down and up", |shell, pool| {
            shell.resize_pool(pool, limits(1));
            let _ = shell.give_back(pool);
            let _ = shell.give_back(pool);
            shell.close_all();
            shell.resize_pool(pool, limits(3));
        }),
        ("hand, and give way to another pool", |shell, pool| {
            let group = shell.pools[pool.index()].1;
            shell.resize_group(group, 3);
            let other = shell.add_pool(group, limits(3));
            shell.queue(pool);
            let waiter = shell.queue(other);
            assert_eq!(shell.give_back(pool), Placement::Close);
            shell.close_all();
            assert_eq!(shell.connect(other), Placement::Hand(waiter));
            let _ = shell.give_back(other);
            shell.resize_group(group, 1000);
            shell.connect_all();
        }),
    ];
    for (name, path) in paths {
        let (mut shell, pool) = busy(params(), limits(3));
        path(&mut shell, pool);
        while shell.active.iter().any(|(of, _)| *of == pool) {
            let _ = shell.give_back(pool);
        }
        for _ in 0..3 {
            let _ = shell.arrive(pool);
        }
        shell.connect_all();
        assert_eq!(shell.counts(pool), [0, 3, 0, 0], "after: {name}");
        assert_eq!(shell.waiting.len(), 0, "after: {name}");
        shell.queue(pool);
        assert_eq!(shell.counts(pool), [0, 3, 0, 0], "one more waits, after: {name}");
    }
}
