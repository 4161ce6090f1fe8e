//! Servers that are soon too old: the successor comes first where there is room, and the pool never grows by it.

use super::shell::Shell;
use super::{limits, ms, params};
use crate::guard::{DialCause, GateParams, Home, PoolId, PoolLimits};

/// A pool with this many idle servers.
fn idle(size: usize, servers: usize) -> (Shell, PoolId) {
    let (mut shell, pool) = Shell::with_pool(params(), limits(size));
    (0..servers).for_each(|_| _ = shell.queue(pool));
    shell.connect_all();
    (0..servers).for_each(|_| _ = shell.give_back(pool));
    (shell, pool)
}

#[test]
fn the_successor_is_there_before_the_old_one_goes() {
    let (mut shell, pool) = idle(5, 3);
    assert_eq!(shell.renew(pool, 2), 0);
    assert_eq!(shell.counts(pool), [3, 0, 2, 0]);
    assert_eq!(shell.renew(pool, 2), 0);
    assert_eq!(shell.counts(pool), [3, 0, 2, 0], "asked again while they are dialled");
    let _ = shell.connect(pool);
    assert_eq!(shell.renew(pool, 2), 1);
    assert_eq!(shell.counts(pool), [3, 0, 1, 1]);
    shell.connect_all();
    assert_eq!(shell.renew(pool, 1), 1);
    shell.close_all();
    assert_eq!((shell.renew(pool, 0), shell.counts(pool)), (0, [3, 0, 0, 0]));
}

#[test]
fn with_a_full_pool_the_old_one_stays_to_its_end() {
    let (mut shell, pool) = idle(3, 3);
    assert_eq!((shell.renew(pool, 1), shell.counts(pool)), (0, [3, 0, 0, 0]));
    shell.pass(ms(10_000));
    assert!(shell.take_idle(pool, Home(0)), "at its end");
    assert_eq!(shell.counts(pool), [2, 0, 0, 1]);
}

#[test]
fn nobody_gives_way_to_a_successor() {
    let mut shell = Shell::new(GateParams { max_connections: 3, ..params() });
    let group = shell.add_group(10);
    let (old, other) = (shell.add_pool(group, limits(5)), shell.add_pool(group, limits(5)));
    shell.queue(old);
    shell.queue(other);
    shell.queue(other);
    shell.connect_all();
    for pool in [old, other, other] {
        let _ = shell.give_back(pool);
    }
    assert_eq!(shell.renew(old, 1), 0);
    assert_eq!((shell.counts(old), shell.counts(other)), ([1, 0, 0, 0], [2, 0, 0, 0]));
}

#[test]
fn a_successor_that_a_waiter_takes_is_followed_by_another() {
    let (mut shell, pool) = idle(5, 1);
    assert_eq!(shell.renew(pool, 1), 0);
    let _ = shell.arrive(pool);
    shell.queue(pool);
    let _ = shell.connect(pool);
    assert_eq!(shell.counts(pool), [0, 2, 1, 0], "the old one is in use, too, and may come back");
    assert_eq!(shell.renew(pool, 0), 0);
    shell.connect_all();
    for _ in 0..2 {
        let _ = shell.give_back(pool);
    }
    assert_eq!(shell.counts(pool), [3, 0, 0, 0]);
}

#[test]
fn an_old_one_that_was_in_use_goes_once_it_is_seen_again() {
    let (mut shell, pool) = idle(5, 1);
    assert_eq!(shell.renew(pool, 1), 0);
    shell.connect_all();
    assert_eq!(shell.counts(pool), [2, 0, 0, 0]);
    assert_eq!(shell.renew(pool, 1), 1);
    assert_eq!(shell.counts(pool), [1, 0, 0, 1]);
}

#[test]
fn a_successor_waits_for_the_end_of_a_back_off() {
    let (mut shell, pool) = idle(5, 2);
    assert_eq!(shell.renew(pool, 1), 0);
    shell.fail(pool, DialCause::Unreachable);
    assert_eq!(shell.counts(pool), [2, 0, 0, 0]);
    shell.pass(ms(100));
    assert_eq!(shell.counts(pool), [2, 0, 1, 0]);
}

#[test]
fn min_idle_does_not_dip() {
    let (mut shell, pool) = Shell::with_pool(params(), PoolLimits { min_idle: 3, ..limits(5) });
    shell.tick();
    shell.connect_all();
    for _ in 0..3 {
        assert_eq!(shell.renew(pool, 1), 0);
        shell.connect_all();
        assert_eq!(shell.counts(pool), [4, 0, 0, 0]);
        assert_eq!(shell.renew(pool, 1), 1);
        assert_eq!(shell.counts(pool)[0], 3);
        shell.close_all();
    }
}
