//! `reserved_connections`: slots of the upstream that ordinary pools leave alone.

use super::shell::Shell;
use super::{limits, ms, params};
use crate::guard::{GateParams, PoolId, PoolLimits};

/// An upstream of 5, of which 2 are reserved: an ordinary pool, and one that may use them.
fn pools() -> (Shell, PoolId, PoolId) {
    let mut shell = Shell::new(GateParams { max_connections: 5, reserved_connections: 2, ..params() });
    let group = shell.add_group(10);
    let patient = PoolLimits { max_wait: ms(60_000), ..limits(5) };
    let (ordinary, admin) = (shell.add_pool(group, patient), shell.add_pool(group, patient));
    shell.let_use_reserve(admin);
    (shell, ordinary, admin)
}

fn fill(shell: &mut Shell, pool: PoolId) {
    (0..10).for_each(|_| _ = shell.arrive(pool));
    shell.connect_all();
}

#[test]
fn ordinary_pools_leave_the_reserve_alone() {
    let (mut shell, ordinary, admin) = pools();
    fill(&mut shell, ordinary);
    assert_eq!(shell.counts(ordinary), [0, 3, 0, 0]);
    fill(&mut shell, admin);
    assert_eq!(shell.counts(admin), [0, 2, 0, 0], "at once, and nobody had to give way");
}

#[test]
fn a_privileged_pool_may_have_all_and_ordinary_ones_get_their_share_back() {
    let (mut shell, ordinary, admin) = pools();
    fill(&mut shell, admin);
    assert_eq!(shell.counts(admin), [0, 5, 0, 0]);
    shell.queue(ordinary);
    let _ = shell.give_back(admin);
    shell.close_all();
    shell.connect_all();
    assert_eq!(shell.counts(ordinary), [0, 1, 0, 0]);
}

#[test]
fn without_a_reserve_nothing_changes() {
    let mut shell = Shell::new(GateParams { max_connections: 2, ..params() });
    let group = shell.add_group(10);
    let (ordinary, admin) = (shell.add_pool(group, limits(5)), shell.add_pool(group, limits(5)));
    shell.let_use_reserve(admin);
    fill(&mut shell, ordinary);
    assert_eq!(shell.counts(ordinary), [0, 2, 0, 0]);
    shell.queue(admin);
    let _ = shell.give_back(ordinary);
    shell.close_all();
    shell.connect_all();
    assert_eq!(shell.counts(admin), [0, 1, 0, 0], "max-min shares, as for all");
}

#[test]
fn a_reserve_of_everything_leaves_ordinary_pools_one() {
    let mut shell = Shell::new(GateParams { max_connections: 2, reserved_connections: 9, ..params() });
    let group = shell.add_group(10);
    let pool = shell.add_pool(group, limits(5));
    fill(&mut shell, pool);
    assert_eq!(shell.counts(pool), [0, 1, 0, 0]);
}

#[test]
fn a_smaller_upstream_keeps_its_reserve() {
    let (mut shell, ordinary, admin) = pools();
    fill(&mut shell, ordinary);
    shell.resize(4);
    let _ = shell.give_back(ordinary);
    shell.close_all();
    shell.connect_all();
    assert_eq!(shell.counts(ordinary)[1], 2);
    fill(&mut shell, admin);
    assert_eq!(shell.counts(admin), [0, 2, 0, 0]);
}
