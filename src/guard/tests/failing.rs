//! Dials that fail: back-off, probes, and who is told what.

use super::shell::{End, Shell};
use super::{limits, ms, params};
use crate::guard::{
    Arrival, Breaker, DialCause, GateParams, Home, Placement, PoolId, PoolLimits, ShedReason,
};

/// Fails every dial until this much time has passed.
fn outage(shell: &mut Shell, cause: DialCause, time: u64) {
    let until = shell.now + ms(time);
    while shell.now < until {
        while let Some((pool, _)) = shell.dialling.first().copied() {
            shell.fail(pool, cause);
        }
        shell.pass(ms(1));
    }
}

fn breaker(shell: &Shell) -> Breaker {
    shell.gate.snapshot_upstream(shell.now).breaker
}

#[test]
fn one_probe_at_a_time_and_few_of_them() {
    let (mut shell, pool) = Shell::with_pool(params(), PoolLimits { max_wait: ms(60_000), ..limits(20) });
    for _ in 0..100 {
        shell.queue(pool);
    }
    assert_eq!(shell.dialling.len(), 4);
    while !shell.dialling.is_empty() {
        shell.fail(pool, DialCause::Unreachable);
    }
    shell.pass(ms(49));
    assert_eq!(shell.dialling.len(), 0, "the jittered back-off is at least half of 100 ms");
    shell.pass(ms(51));
    assert_eq!(shell.dialling.len(), 1);
    shell.pass(ms(5000));
    assert_eq!(shell.dialling.len(), 1, "no second probe beside one that hangs");
    outage(&mut shell, DialCause::Unreachable, 10_000);
    assert!(shell.dials < 70, "{} dials in 15 s", shell.dials);
    shell.dialling.is_empty().then(|| shell.pass(ms(400)));
    let _ = shell.connect(pool);
    assert_eq!(shell.dialling.len(), 4, "the first success ends the back-off");
}

#[test]
fn after_three_seconds_without_a_server_arrivals_are_shed_at_once() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(5));
    shell.queue(pool);
    outage(&mut shell, DialCause::Unreachable, 2990);
    assert!(matches!(shell.arrive(pool), Arrival::Queued(_)));
    assert_eq!(breaker(&shell), Breaker::Closed);
    outage(&mut shell, DialCause::Unreachable, 20);
    assert!(matches!(shell.arrive(pool), Arrival::Shed(ShedReason::ServerDown, _)));
    assert_eq!(breaker(&shell), Breaker::Open);
    shell.pass(ms(400));
    assert_eq!((breaker(&shell), shell.dialling.len()), (Breaker::HalfOpen, 1));
    assert!(matches!(shell.arrive(pool), Arrival::Shed(ShedReason::ServerDown, _)), "the probe is under way");
    shell.fail(pool, DialCause::Unreachable);
    assert_eq!(breaker(&shell), Breaker::Open);
}

#[test]
fn the_servers_return_is_noticed_without_anybody_waiting() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(5));
    shell.queue(pool);
    outage(&mut shell, DialCause::Unreachable, 60_000);
    assert_eq!(shell.waiting.len(), 0);
    shell.pass(ms(400));
    assert_eq!(shell.connect(pool), Placement::Store);
    assert_eq!(breaker(&shell), Breaker::Closed);
    assert!(matches!(shell.arrive(pool), Arrival::Granted { .. }));
    shell.pass(ms(10_000));
    assert_eq!(shell.dialling.len(), 0, "and then nothing more is probed");
}

#[test]
fn a_waiter_shed_in_an_outage_is_told_of_it() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(5));
    let waiter = shell.queue(pool);
    outage(&mut shell, DialCause::Unreachable, 1500);
    assert_eq!(shell.end_of(waiter), Some(End::Shed(ShedReason::ServerDown)));
}

/// Lesson 5: exhaustion is never reported as "server down".
#[test]
fn servers_that_are_busy_or_slow_to_dial_are_not_down() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(2));
    let slow = shell.queue(pool);
    shell.pass(ms(1500));
    assert_eq!(
        shell.end_of(slow),
        Some(End::Shed(ShedReason::QueueTimeout)),
        "a dial is under way, none has failed"
    );
    let _ = shell.connect(pool);
    let _ = shell.arrive(pool);
    let waiter = shell.queue(pool);
    outage(&mut shell, DialCause::Unreachable, 5000);
    assert_eq!(shell.end_of(waiter), Some(End::Shed(ShedReason::QueueTimeout)), "one server is alive");
    shell.queue(pool);
    assert_eq!(breaker(&shell), Breaker::Closed);
}

#[test]
fn an_old_failure_does_not_make_a_fresh_loss_an_outage() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(2));
    shell.queue(pool);
    shell.connect_all();
    shell.queue(pool);
    shell.fail(pool, DialCause::Unreachable);
    shell.pass(ms(60_000));
    shell.lose(pool);
    shell.close_all();
    assert!(matches!(shell.arrive(pool), Arrival::Queued(_)));
}

#[test]
fn too_many_connections_backs_off_and_is_not_down() {
    let (mut shell, pool) = Shell::with_pool(params(), PoolLimits { max_wait: ms(60_000), ..limits(20) });
    let waiter = shell.queue(pool);
    shell.queue(pool);
    outage(&mut shell, DialCause::TooManyConnections, 20_000);
    assert!(shell.dials < 120, "{} dials in 20 s", shell.dials);
    assert!(shell.dials > 40, "with nothing at all it goes on asking: {} dials in 20 s", shell.dials);
    assert_eq!(breaker(&shell), Breaker::Closed);
    assert!(matches!(shell.arrive(pool), Arrival::Queued(_)));
    outage(&mut shell, DialCause::TooManyConnections, 40_000);
    assert_eq!(shell.end_of(waiter), Some(End::Shed(ShedReason::QueueTimeout)));
}

fn two_pools(params: GateParams) -> (Shell, PoolId, PoolId) {
    let mut shell = Shell::new(params);
    let group = shell.add_group(10);
    let first = shell.add_pool(group, limits(5));
    let second = shell.add_pool(group, limits(5));
    (shell, first, second)
}

#[test]
fn a_wrong_password_is_one_pools_matter() {
    let (mut shell, wrong, right) = two_pools(params());
    let waiter = shell.queue(wrong);
    outage(&mut shell, DialCause::Refused, 1500);
    assert_eq!(shell.end_of(waiter), Some(End::Shed(ShedReason::ServerRefused)));
    shell.queue(right);
    assert_eq!(shell.dialling, [(right, Home(0))], "no back-off for the other pool");
    assert_eq!(breaker(&shell), Breaker::Closed);
    let _ = shell.connect(right);
    assert!(shell.gate.snapshot(shell.now, wrong).dial_failures > 0, "nor does its success excuse this one");
}

#[test]
fn a_refused_pool_sheds_at_once_and_probes_only_on_demand() {
    let (mut shell, pool) = Shell::with_pool(params(), PoolLimits { max_wait: ms(60_000), ..limits(5) });
    let first = shell.queue(pool);
    outage(&mut shell, DialCause::Refused, 3100);
    while let Some((of, _)) = shell.dialling.first().copied() {
        shell.fail(of, DialCause::Refused);
    }
    assert!(matches!(shell.arrive(pool), Arrival::Shed(ShedReason::ServerRefused, _)));
    shell.abandon(first);
    let dials = shell.dials;
    shell.pass(ms(10_000));
    assert_eq!(shell.dials, dials, "nobody asks, so nobody is refused");
    let probing = shell.queue(pool);
    assert!(
        matches!(shell.arrive(pool), Arrival::Shed(ShedReason::ServerRefused, _)),
        "while the probe is under way"
    );
    assert_eq!(shell.connect(pool), Placement::Hand(probing));
    assert!(matches!(shell.arrive(pool), Arrival::Queued(_)));
}

#[test]
fn an_answer_of_any_kind_ends_the_outage() {
    for cause in [DialCause::Refused, DialCause::ConnectionLimit] {
        let (mut shell, first, second) = two_pools(params());
        shell.queue(first);
        outage(&mut shell, DialCause::Unreachable, 4000);
        shell.dialling.is_empty().then(|| shell.pass(ms(400)));
        shell.fail(first, cause);
        assert_eq!(breaker(&shell), Breaker::Closed);
        assert!(matches!(shell.arrive(second), Arrival::Queued(_)));
        assert_eq!(shell.counts(second), [0, 0, 1, 0]);
    }
}

#[test]
fn a_full_upstream_that_failed_once_still_makes_room_for_a_probe() {
    let mut shell = Shell::new(GateParams { max_connections: 2, ..params() });
    let group = shell.add_group(10);
    let (idle, other) = (shell.add_pool(group, limits(5)), shell.add_pool(group, limits(5)));
    shell.queue(idle);
    shell.connect_all();
    shell.queue(idle);
    shell.fail(idle, DialCause::Unreachable);
    shell.pass(ms(100));
    shell.connect_all();
    for _ in 0..2 {
        let _ = shell.give_back(idle);
    }
    let waiter = shell.queue(other);
    shell.close_all();
    assert_eq!(shell.connect(other), Placement::Hand(waiter));
}

#[test]
fn a_failed_dial_makes_way_for_the_next_pool_at_once() {
    let (mut shell, wrong, right) = two_pools(GateParams { max_dials: 1, ..params() });
    shell.queue(wrong);
    shell.queue(right);
    assert_eq!(shell.counts(right), [0, 0, 0, 0]);
    shell.fail(wrong, DialCause::Refused);
    assert_eq!(shell.counts(right), [0, 0, 1, 0]);
}

#[test]
fn with_no_probe_under_way_an_arrival_is_the_reason_for_one() {
    let (mut shell, probed, other) = two_pools(params());
    shell.queue(probed);
    outage(&mut shell, DialCause::Unreachable, 4000);
    shell.resize_pool(probed, limits(0));
    while let Some((pool, _)) = shell.dialling.first().copied() {
        shell.fail(pool, DialCause::Unreachable);
    }
    assert!(matches!(shell.arrive(other), Arrival::Shed(ShedReason::ServerDown, _)));
    shell.pass(ms(400));
    assert!(matches!(shell.arrive(other), Arrival::Queued(_)));
    assert_eq!(shell.counts(other), [0, 0, 1, 0]);
    assert!(matches!(shell.arrive(other), Arrival::Shed(ShedReason::ServerDown, _)), "while it is under way");
}

#[test]
fn a_refused_login_beside_a_live_server_is_a_matter_of_waiting() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(2));
    shell.queue(pool);
    shell.connect_all();
    let waiter = shell.queue(pool);
    outage(&mut shell, DialCause::Refused, 5000);
    assert_eq!(shell.end_of(waiter), Some(End::Shed(ShedReason::QueueTimeout)));
    assert!(matches!(shell.arrive(pool), Arrival::Queued(_)));
}
