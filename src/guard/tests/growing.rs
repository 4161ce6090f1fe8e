//! How a pool gets its servers: dials for waiters, `min_idle`, `warm`, and what a change of size does.

use super::shell::Shell;
use super::{limits, ms, params};
use crate::guard::{Arrival, DialCause, GateParams, Home, Placement, PoolLimits};

#[test]
fn the_first_arrival_dials_and_gets_the_server() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(2));
    let ticket = shell.queue(pool);
    assert_eq!(shell.counts(pool), [0, 0, 1, 0]);
    assert_eq!(shell.connect(pool), Placement::Hand(ticket));
    assert_eq!(shell.give_back(pool), Placement::Store);
    assert_eq!(shell.arrive(pool), Arrival::Granted { from: Home(0) });
}

/// Lesson 4: growth is not one connection per tick, and not one per waiter beyond what may be dialled.
#[test]
fn a_burst_dials_as_many_at_once_as_may_be_and_the_next_with_each_success() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(20));
    for _ in 0..1000 {
        shell.queue(pool);
    }
    assert_eq!(shell.dialling.len(), 4);
    let _ = shell.connect(pool);
    assert_eq!(shell.counts(pool), [0, 1, 4, 0]);
    shell.connect_all();
    assert_eq!(shell.counts(pool), [0, 20, 0, 0]);
    assert_eq!(shell.dials, 20);
}

#[test]
fn no_more_dials_than_waiters() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(20));
    shell.queue(pool);
    shell.queue(pool);
    assert_eq!(shell.dialling.len(), 2);
    shell.connect_all();
    assert_eq!(shell.counts(pool), [0, 2, 0, 0]);
}

#[test]
fn a_dial_whose_waiter_left_ends_in_the_store() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(2));
    let ticket = shell.queue(pool);
    assert!(shell.abandon(ticket));
    assert!(!shell.abandon(ticket));
    assert_eq!(shell.connect(pool), Placement::Store);
}

#[test]
fn min_idle_is_dialled_by_tick_and_kept_up() {
    let (mut shell, pool) = Shell::with_pool(params(), PoolLimits { min_idle: 3, ..limits(5) });
    shell.tick();
    assert_eq!(shell.dialling.len(), 3);
    shell.connect_all();
    assert_eq!(shell.counts(pool), [3, 0, 0, 0]);
    assert!(shell.take_idle(pool, Home(0)));
    assert_eq!(shell.counts(pool), [2, 0, 1, 1], "there is room, so it is replaced at once");
    shell.connect_all();
    shell.close_all();
    assert_eq!(shell.counts(pool), [3, 0, 0, 0]);
    let _ = shell.arrive(pool);
    shell.lose(pool);
    assert_eq!(shell.counts(pool), [2, 0, 1, 1]);
}

#[test]
fn min_idle_waits_for_room_and_gives_way_to_waiters() {
    let (mut shell, pool) = Shell::with_pool(params(), PoolLimits { min_idle: 2, ..limits(2) });
    shell.tick();
    shell.connect_all();
    assert!(shell.take_idle(pool, Home(0)));
    assert_eq!(shell.counts(pool), [1, 0, 0, 1]);
    shell.close_all();
    assert_eq!(shell.counts(pool), [1, 0, 1, 0]);

    let mut shell = Shell::new(GateParams { max_dials: 1, ..params() });
    let group = shell.add_group(10);
    let warm = shell.add_pool(group, PoolLimits { min_idle: 5, ..limits(5) });
    let busy = shell.add_pool(group, limits(5));
    shell.tick();
    shell.queue(busy);
    assert_eq!(shell.connect(warm), Placement::Store);
    assert_eq!(shell.counts(busy), [0, 0, 1, 0]);
}

#[test]
fn warm_makes_one_server_and_no_second() {
    let (mut shell, pool) = Shell::with_pool(GateParams { homes: 2, ..params() }, limits(5));
    shell.warm(pool, Home(1));
    shell.warm(pool, Home(1));
    assert_eq!(shell.dialling, [(pool, Home(1))]);
    shell.connect_all();
    shell.warm(pool, Home(0));
    assert_eq!(shell.counts(pool), [1, 0, 0, 0]);
}

#[test]
fn warm_respects_the_back_off_and_is_not_forgotten() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(5));
    shell.warm(pool, Home(0));
    shell.fail(pool, DialCause::TooManyConnections);
    shell.warm(pool, Home(0));
    assert_eq!(shell.dialling.len(), 0);
    shell.pass(ms(100));
    assert_eq!(shell.dialling.len(), 1);
}

#[test]
fn a_refused_login_is_not_tried_again_for_warmth() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(5));
    shell.warm(pool, Home(0));
    shell.fail(pool, DialCause::Refused);
    shell.pass(ms(10_000));
    assert_eq!(shell.dials, 1);
}

#[test]
fn dials_go_where_the_waiters_are() {
    let (mut shell, pool) = Shell::with_pool(GateParams { homes: 3, ..params() }, limits(5));
    for home in [Home(2), Home(0), Home(2)] {
        let _ = shell.arrive_at(pool, home);
    }
    assert_eq!(shell.dialling, [(pool, Home(2)), (pool, Home(0)), (pool, Home(2))]);
}

#[test]
fn a_smaller_pool_closes_idle_servers_now_and_active_ones_later() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(4));
    for _ in 0..4 {
        shell.queue(pool);
    }
    shell.connect_all();
    let _ = shell.give_back(pool);
    shell.resize_pool(pool, limits(2));
    assert_eq!(shell.counts(pool), [0, 3, 0, 1]);
    assert_eq!(shell.give_back(pool), Placement::Close);
    assert_eq!(shell.give_back(pool), Placement::Store);
    shell.close_all();
    assert_eq!(shell.counts(pool), [1, 1, 0, 0]);
}

#[test]
fn a_larger_pool_dials_for_its_waiters_at_once() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(1));
    for _ in 0..3 {
        shell.queue(pool);
    }
    shell.resize_pool(pool, limits(2));
    assert_eq!(shell.dialling.len(), 2);
}

#[test]
fn smaller_shared_bounds_are_reached() {
    let mut shell = Shell::new(params());
    let groups = [shell.add_group(10), shell.add_group(10)];
    let pools = groups.map(|group| shell.add_pool(group, limits(10)));
    for pool in pools {
        for _ in 0..5 {
            shell.queue(pool);
        }
    }
    shell.connect_all();
    shell.resize_group(groups[0], 3);
    assert_eq!(shell.give_back(pools[1]), Placement::Store, "the other group keeps its own");
    assert_eq!(shell.give_back(pools[0]), Placement::Close);
    assert_eq!(shell.give_back(pools[0]), Placement::Close);
    assert_eq!(shell.give_back(pools[0]), Placement::Store);
    shell.close_all();
    shell.resize(4);
    assert_eq!(shell.counts(pools[0])[3] + shell.counts(pools[1])[3], 2, "what is idle goes at once");
    assert_eq!(shell.give_back(pools[1]), Placement::Close);
    assert_eq!(shell.give_back(pools[1]), Placement::Close);
}
