//! Pools that compete for a bound: who gives way, and that it ends.

use super::shell::{End, Shell};
use super::{limits, ms, params};
use crate::guard::{GateParams, Placement, PoolId, PoolLimits, ShedReason};

/// Pools of size 20 with patient waiters, in one group, on an upstream with this many connections.
fn pools<const N: usize>(max_connections: usize) -> (Shell, [PoolId; N]) {
    let mut shell = Shell::new(GateParams { max_connections, ..params() });
    let group = shell.add_group(1000);
    let limits = PoolLimits { max_wait: ms(60_000), max_waiting: 100_000, ..limits(20) };
    let pools = std::array::from_fn(|_| shell.add_pool(group, limits));
    (shell, pools)
}

fn fill(shell: &mut Shell, pool: PoolId, servers: usize) {
    for _ in 0..servers {
        shell.queue(pool);
    }
    shell.connect_all();
    assert_eq!(shell.counts(pool)[1], servers);
}

fn store(shell: &mut Shell, pool: PoolId, servers: usize) {
    for _ in 0..servers {
        assert_eq!(shell.give_back(pool), Placement::Store);
    }
}

fn owned(shell: &Shell, pool: PoolId) -> usize {
    let [idle, active, dialling, _] = shell.counts(pool);
    idle + active + dialling
}

/// Keeps these pools overloaded: servers come back in turn, closed ones vanish, dials succeed.
fn overload(shell: &mut Shell, pools: &[PoolId], rounds: usize) {
    for _ in 0..rounds {
        for &pool in pools {
            while shell.waiting_for(pool) < 50 {
                shell.queue(pool);
            }
            if shell.counts(pool)[1] > 0 {
                let _ = shell.give_back(pool);
            }
        }
        shell.close_all();
        shell.connect_all();
        shell.pass(ms(5));
    }
}

#[test]
fn an_idle_server_of_another_pool_makes_room() {
    let (mut shell, [idle, other]) = pools(2);
    fill(&mut shell, idle, 2);
    store(&mut shell, idle, 2);
    let waiter = shell.queue(other);
    assert_eq!(shell.counts(idle), [1, 0, 0, 1], "one waiter, one server");
    shell.close_all();
    assert_eq!(shell.connect(other), Placement::Hand(waiter));
}

#[test]
fn the_one_that_was_used_longest_ago_goes_first() {
    let (mut shell, [fresh, stale, other]) = pools(2);
    fill(&mut shell, stale, 1);
    store(&mut shell, stale, 1);
    shell.pass(ms(10));
    fill(&mut shell, fresh, 1);
    store(&mut shell, fresh, 1);
    shell.queue(other);
    assert_eq!((shell.counts(fresh)[0], shell.counts(stale)[0]), (1, 0));
}

#[test]
fn min_idle_of_others_does_not_let_a_pool_starve() {
    let mut shell = Shell::new(GateParams { max_connections: 2, ..params() });
    let group = shell.add_group(10);
    let spare = shell.add_pool(group, PoolLimits { min_idle: 2, ..limits(2) });
    let other = shell.add_pool(group, limits(2));
    shell.tick();
    shell.connect_all();
    let waiter = shell.queue(other);
    shell.close_all();
    assert_eq!(shell.connect(other), Placement::Hand(waiter));
    let _ = shell.give_back(other);
    shell.tick();
    assert_eq!(shell.counts(spare), [1, 0, 0, 0], "and min_idle takes nothing from anybody");
}

#[test]
fn a_full_group_helps_itself_only() {
    let mut shell = Shell::new(params());
    let (small, large) = (shell.add_group(2), shell.add_group(10));
    let elsewhere = shell.add_pool(large, limits(5));
    let (busy, other) = (shell.add_pool(small, limits(2)), shell.add_pool(small, limits(2)));
    fill(&mut shell, elsewhere, 3);
    store(&mut shell, elsewhere, 3);
    fill(&mut shell, busy, 2);
    shell.queue(other);
    assert_eq!(shell.counts(elsewhere), [3, 0, 0, 0]);
    assert_eq!(shell.give_back(busy), Placement::Close, "it would be idle beside a waiter of its group");
    shell.close_all();
    assert_eq!(shell.counts(other), [0, 0, 1, 0]);
}

#[test]
fn a_busy_pool_leaves_a_quiet_one_its_server_between_two_transactions() {
    let (mut shell, [busy, quiet]) = pools(10);
    fill(&mut shell, quiet, 1);
    fill(&mut shell, busy, 9);
    for _ in 0..50 {
        shell.queue(busy);
    }
    let dials = shell.dials;
    for _ in 0..100 {
        assert_eq!(shell.give_back(quiet), Placement::Store);
        shell.pass(ms(50));
        let _ = shell.arrive(quiet);
        shell.pass(ms(50));
    }
    assert_eq!(shell.dials, dials);
    assert_eq!(shell.give_back(quiet), Placement::Store);
    shell.pass(ms(949));
    assert_eq!(shell.counts(quiet), [1, 0, 0, 0]);
    shell.pass(ms(1));
    assert_eq!(shell.counts(quiet), [0, 0, 0, 1], "unused for a second: spare");
}

#[test]
fn all_active_a_pool_below_its_share_takes_from_one_above_until_both_have_theirs() {
    let (mut shell, [large, small]) = pools(20);
    fill(&mut shell, large, 20);
    overload(&mut shell, &[large, small], 100);
    assert_eq!((owned(&shell, large), owned(&shell, small)), (10, 10));
    let dials = shell.dials;
    overload(&mut shell, &[large, small], 200);
    assert_eq!(shell.dials, dials, "at fair shares nothing moves");
}

#[test]
fn what_a_small_pool_cannot_use_is_shared_by_the_others() {
    let (mut shell, [first, second, third]) = pools(20);
    shell.resize_pool(third, PoolLimits { max_wait: ms(60_000), ..limits(4) });
    fill(&mut shell, first, 20);
    overload(&mut shell, &[first, second, third], 200);
    assert_eq!([first, second, third].map(|pool| owned(&shell, pool)), [8, 8, 4]);
}

#[test]
fn an_odd_server_does_not_wander() {
    let (mut shell, [first, second]) = pools(5);
    fill(&mut shell, first, 5);
    overload(&mut shell, &[first, second], 100);
    let (dials, split) = (shell.dials, (owned(&shell, first), owned(&shell, second)));
    assert_eq!(split, (3, 2));
    overload(&mut shell, &[first, second], 200);
    assert_eq!((shell.dials, owned(&shell, first)), (dials, 3));
}

#[test]
fn no_more_servers_are_on_their_way_out_than_may_be_dialled() {
    let (mut shell, [idle, other]) = pools(20);
    fill(&mut shell, idle, 20);
    store(&mut shell, idle, 20);
    for _ in 0..50 {
        shell.queue(other);
    }
    assert_eq!(shell.counts(idle), [16, 0, 0, 4]);
    shell.close(idle);
    assert_eq!(shell.counts(other), [0, 0, 1, 0]);
    assert_eq!(shell.counts(idle), [16, 0, 0, 3], "a dial counts too");
}

#[test]
fn more_pools_than_room_take_turns() {
    let (mut shell, pools) = pools::<3>(1);
    for (pool, _, limits) in shell.pools.clone() {
        shell.resize_pool(pool, PoolLimits { max_wait: ms(1000), ..limits });
    }
    fill(&mut shell, pools[0], 1);
    overload(&mut shell, &pools, 2000);
    for pool in pools {
        let handed =
            shell.ended.iter().filter(|(waiter, end)| waiter.pool == pool && *end == End::Handed).count();
        assert!(handed > 100, "{pool:?} was served {handed} times");
    }
    // Ten seconds, slices of half a second, three pools.
    assert!(shell.dials <= 61, "{} dials", shell.dials);
    assert!(
        shell.ended.iter().all(|(_, end)| matches!(end, End::Handed | End::Shed(ShedReason::QueueTimeout)))
    );
}
