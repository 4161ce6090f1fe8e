//! Waiters that are kept from idle servers by an active limit, and what ends that.

use super::shell::{End, Shell};
use super::{limits, params};
use crate::guard::{Arrival, GateParams, Home, KeyTerms, Placement, PoolId, PoolLimits};

fn limited(size: usize, active_limit: usize) -> (Shell, PoolId) {
    Shell::with_pool(params(), PoolLimits { active_limit: Some(active_limit), ..limits(size) })
}

/// So many clients have a server each, and so many more wait.
fn occupy(shell: &mut Shell, pool: PoolId, active: usize, waiting: usize) {
    for _ in 0..active + waiting {
        shell.queue(pool);
    }
    shell.connect_all();
    assert_eq!((shell.counts(pool)[1], shell.waiting_for(pool)), (active, waiting));
}

#[test]
fn no_more_are_dialled_than_may_be_active() {
    let (mut shell, pool) = limited(10, 3);
    occupy(&mut shell, pool, 3, 5);
    assert_eq!((shell.dials, shell.counts(pool)), (3, [0, 3, 0, 0]));
}

#[test]
fn a_lowered_limit_lets_servers_rest_beside_waiters() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(4));
    occupy(&mut shell, pool, 4, 2);
    shell.resize_pool(pool, PoolLimits { active_limit: Some(2), ..limits(4) });
    assert_eq!(shell.give_back(pool), Placement::Store);
    assert_eq!(shell.give_back(pool), Placement::Store);
    assert_eq!((shell.counts(pool), shell.waiting_for(pool)), ([2, 2, 0, 0], 2));
    assert!(matches!(shell.give_back(pool), Placement::Hand(_)), "at the limit it changes hands");
    assert_eq!((shell.counts(pool), shell.waiting_for(pool)), ([2, 2, 0, 0], 1));
}

#[test]
fn a_raised_limit_grants_what_is_idle() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(4));
    occupy(&mut shell, pool, 4, 3);
    shell.resize_pool(pool, PoolLimits { active_limit: Some(1), ..limits(4) });
    for _ in 0..3 {
        assert_eq!(shell.give_back(pool), Placement::Store);
    }
    let first = shell.waiting[0].ticket;
    shell.resize_pool(pool, PoolLimits { active_limit: Some(3), ..limits(4) });
    assert_eq!((shell.counts(pool), shell.waiting_for(pool)), ([1, 3, 0, 0], 1));
    assert_eq!(shell.end_of(first), Some(End::Handed));
}

#[test]
fn a_server_that_is_lost_makes_way_for_one_that_is_idle() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(2));
    occupy(&mut shell, pool, 2, 1);
    shell.resize_pool(pool, PoolLimits { active_limit: Some(1), ..limits(2) });
    assert_eq!(shell.give_back(pool), Placement::Store);
    shell.lose(pool);
    assert_eq!((shell.counts(pool)[0], shell.waiting_for(pool)), (0, 0), "granted at once");
}

#[test]
fn the_peak_is_told_once() {
    let (mut shell, pool) = Shell::with_pool(params(), limits(3));
    occupy(&mut shell, pool, 3, 0);
    for _ in 0..2 {
        let _ = shell.give_back(pool);
    }
    assert_eq!(shell.gate.take_peak(pool), 3);
    assert_eq!(shell.gate.take_peak(pool), 1);
}

#[test]
fn a_larger_max_share_grants_what_is_idle() {
    let mut gate = crate::guard::Gate::new(GateParams { max_dials: 4, ..params() });
    let group = gate.add_group(4);
    let pool = gate.add_pool(group, limits(4));
    let (now, mut actions) = (std::time::Instant::now(), vec![]);
    let half = KeyTerms { max_share: 0.5, ..KeyTerms::default() };
    let key = gate.enter_key(pool, "greedy", half);
    let caller = crate::guard::Caller {
        home: Home(0),
        key,
        lot: 0,
        patience: None,
        works_by_then: false,
        urgent: false,
    };
    for _ in 0..4 {
        let _ = gate.arrive(now, pool, &caller, &mut actions);
    }
    for _ in 0..4 {
        let _ = gate.dialled(now, pool, Home(0), &mut actions);
    }
    let seen = gate.snapshot(now, pool);
    assert_eq!((seen.active, seen.idle, seen.waiting), (2, 2, 2));
    assert!(matches!(gate.arrive(now, pool, &caller, &mut actions), Arrival::Queued(_)));
    actions.clear();
    gate.set_key_terms(
        now,
        pool,
        |name| if name == "greedy" { KeyTerms::default() } else { half },
        &mut actions,
    );
    let seen = gate.snapshot(now, pool);
    assert_eq!((seen.active, seen.idle, seen.waiting), (4, 0, 1));
    let grants = actions.iter().filter(|action| matches!(action, crate::guard::Action::Grant { .. }));
    assert_eq!(grants.count(), 2);
}

#[test]
fn dials_keep_to_new_limits() {
    let (mut shell, pool) = Shell::with_pool(GateParams { max_dials: 1, ..params() }, limits(9));
    for _ in 0..9 {
        shell.queue(pool);
    }
    assert_eq!(shell.counts(pool)[2], 1);
    shell.params = GateParams { max_dials: 5, max_connections: 7, reserved_connections: 2, ..params() };
    shell.resize_upstream();
    assert_eq!(shell.counts(pool)[2], 5);
    shell.connect_all();
    assert_eq!(shell.counts(pool), [0, 5, 0, 0], "two are kept for others from now on");
}
