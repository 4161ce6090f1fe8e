//! Random interleavings of all events. The shell compares the gate's books with its own after each one; here are the
//! properties on top: nobody is stranded, every ticket ends once, and without faults the queue empties.

use proptest::prelude::*;

use super::shell::{End, Shell};
use super::{limits, ms};
use crate::guard::{DialCause, GateParams, Home, PoolLimits};

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrive(usize, u16),
    Abandon(usize),
    GiveBack(usize),
    Connect(usize),
    Fail(usize, DialCause),
    Lose(usize),
    TakeIdle(usize),
    Renew(usize, usize),
    Close(usize),
    Warm(usize, u16),
    Pass(u64),
    /// Time passes and nobody ticks.
    Oversleep(u64),
    ResizePool(usize, usize),
    ResizeGroup(usize, usize),
    Resize(usize),
    Drain,
}

fn event() -> impl Strategy<Value = Event> {
    let any = 0..1000usize;
    let cause = prop_oneof![
        Just(DialCause::Unreachable),
        Just(DialCause::Refused),
        Just(DialCause::TooManyConnections),
        Just(DialCause::ConnectionLimit),
        Just(DialCause::NoFiles),
    ];
    prop_oneof![
        30 => (any.clone(), 0..3u16).prop_map(|(pool, home)| Event::Arrive(pool, home)),
        5 => any.clone().prop_map(Event::Abandon),
        20 => any.clone().prop_map(Event::GiveBack),
        20 => any.clone().prop_map(Event::Connect),
        4 => (any.clone(), cause).prop_map(|(dial, cause)| Event::Fail(dial, cause)),
        3 => any.clone().prop_map(Event::Lose),
        3 => any.clone().prop_map(Event::TakeIdle),
        3 => (any.clone(), 0..4usize).prop_map(|(pool, due)| Event::Renew(pool, due)),
        15 => any.clone().prop_map(Event::Close),
        2 => (any.clone(), 0..3u16).prop_map(|(pool, home)| Event::Warm(pool, home)),
        8 => (0..700u64).prop_map(Event::Pass),
        2 => (0..700u64).prop_map(Event::Oversleep),
        1 => (any.clone(), 1..6usize).prop_map(|(pool, size)| Event::ResizePool(pool, size)),
        1 => (any.clone(), 1..8usize).prop_map(|(group, max)| Event::ResizeGroup(group, max)),
        1 => (1..12usize).prop_map(Event::Resize),
    ]
}

#[derive(Debug, Clone)]
struct Setting {
    params: GateParams,
    groups: Vec<usize>,
    /// With the index of their group.
    pools: Vec<(usize, PoolLimits)>,
}

fn setting() -> impl Strategy<Value = Setting> {
    let rate = prop_oneof![Just((1000, 1000)), (1..100u32, 1..10u32)];
    let connections = (1..12usize, prop_oneof![2 => Just(0), 1 => 1..4usize]);
    let params = (connections, 1..5usize, rate, 1..4usize, any::<u64>()).prop_map(
        |((max_connections, reserved_connections), max_dials, (dial_rate, dial_burst), homes, seed)| {
            GateParams {
                max_connections,
                reserved_connections,
                max_dials,
                dial_rate,
                dial_burst,
                homes,
                seed,
                ..super::params()
            }
        },
    );
    let pool = (0..2usize, 1..6usize, 0..3usize, 1..30usize, prop_oneof![Just(1500), Just(1_000_000_000)])
        .prop_map(|(group, size, min_idle, max_waiting, max_wait)| {
            (group, PoolLimits { min_idle, max_waiting, max_wait: ms(max_wait), ..limits(size) })
        });
    let groups = prop::collection::vec(1..8usize, 2);
    (params, groups, prop::collection::vec(pool, 1..5)).prop_map(|(params, groups, pools)| Setting {
        params,
        groups,
        pools,
    })
}

fn build(setting: &Setting) -> Shell {
    let mut shell = Shell::new(setting.params.clone());
    let groups: Vec<_> = setting.groups.iter().map(|max| shell.add_group(*max)).collect();
    for (at, (group, limits)) in setting.pools.iter().enumerate() {
        let pool = shell.add_pool(groups[*group], *limits);
        if at % 3 == 1 {
            shell.let_use_reserve(pool);
        }
    }
    shell.tick();
    shell
}

fn pick<T: Copy>(from: &[T], at: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[at % from.len()])
}

fn apply(shell: &mut Shell, event: Event) {
    let homes = shell.params.homes as u16;
    match event {
        Event::Arrive(at, home) => {
            let pool = shell.pools[at % shell.pools.len()].0;
            let _ = shell.arrive_at(pool, Home(home % homes));
        }
        Event::Abandon(at) => {
            // One that waits, or one that ended long ago.
            let ended = pick(&shell.ended, at).map(|(waiter, _)| waiter.ticket);
            let waiting = pick(&shell.waiting, at).map(|waiter| waiter.ticket);
            if let Some(ticket) = waiting {
                assert!(shell.abandon(ticket));
            }
            if let Some(ticket) = ended {
                assert!(!shell.abandon(ticket), "it ended before");
            }
        }
        Event::GiveBack(at) => {
            if let Some((pool, _)) = pick(&shell.active, at) {
                let _ = shell.give_back(pool);
            }
        }
        Event::Connect(at) => {
            if let Some((pool, _)) = pick(&shell.dialling, at) {
                let _ = shell.connect(pool);
            }
        }
        Event::Fail(at, cause) => {
            if let Some((pool, _)) = pick(&shell.dialling, at) {
                shell.fail(pool, cause);
            }
        }
        Event::Lose(at) => {
            if let Some((pool, _)) = pick(&shell.active, at) {
                shell.lose(pool);
            }
        }
        Event::TakeIdle(at) => {
            let pool = shell.pools[at % shell.pools.len()].0;
            let home = Home((at % shell.params.homes) as u16);
            let there = shell.idle.contains(&(pool, home));
            assert_eq!(shell.take_idle(pool, home), there);
        }
        Event::Renew(at, due) => {
            let pool = shell.pools[at % shell.pools.len()].0;
            let _ = shell.renew(pool, due.min(shell.counts(pool)[0]));
        }
        Event::Close(at) => {
            if let Some(pool) = pick(&shell.closing, at) {
                shell.close(pool);
            }
        }
        Event::Warm(at, home) => {
            let pool = shell.pools[at % shell.pools.len()].0;
            shell.warm(pool, Home(home % homes));
        }
        Event::Pass(millis) => shell.pass(ms(millis)),
        Event::Oversleep(millis) => shell.now += ms(millis),
        Event::ResizePool(at, size) => {
            let (pool, _, limits) = shell.pools[at % shell.pools.len()];
            shell.resize_pool(pool, PoolLimits { size, ..limits });
        }
        Event::ResizeGroup(at, max) => {
            let (group, _) = shell.groups[at % shell.groups.len()];
            shell.resize_group(group, max);
        }
        Event::Resize(max) => shell.resize(max),
        Event::Drain => shell.drain(),
    }
}

/// A waiter without a dial is held up by a bound, by `max_dials`, by a back-off or by the rate; and where time is all that
/// it waits for, a tick is due no later.
fn assert_nobody_is_stranded(shell: &Shell) {
    let upstream = shell.gate.snapshot_upstream(shell.now);
    let backing_off = upstream.dial_failures > 0 || upstream.dialling >= shell.params.max_dials;
    let held_until = upstream.next_dial_at.filter(|until| *until > shell.now);
    let tick = shell.gate.poll_timeout();
    let all: usize = shell.pools.iter().map(|(pool, _, _)| shell.total(*pool)).sum();
    let ordinary = shell.pools.iter().filter(|(pool, _, _)| !shell.privileged.contains(pool));
    let ordinary: usize = ordinary.map(|(pool, _, _)| shell.total(*pool)).sum();
    let reserved = shell.params.reserved_connections;
    let for_ordinary =
        if reserved == 0 { usize::MAX } else { upstream.max_connections.saturating_sub(reserved).max(1) };
    for &(pool, group, limits) in &shell.pools {
        let in_group =
            shell.pools.iter().filter(|(_, of, _)| *of == group).map(|(pool, _, _)| shell.total(*pool));
        let seen = shell.gate.snapshot(shell.now, pool);
        assert!((1..=limits.size.max(1)).contains(&seen.budget.max(1)));
        let full = shell.total(pool) >= seen.budget
            || in_group.sum::<usize>() >= shell.groups[group.index()].1
            || all >= upstream.budget
            || !shell.privileged.contains(&pool) && ordinary >= for_ordinary;
        let held_up = full || backing_off || seen.dial_failures > 0;
        let served = held_up || seen.waiting <= seen.dialling;
        assert!(served || held_until.is_some(), "{pool:?}: waiters and nothing in their way: {seen:?}");
        assert!(
            served || tick.is_some_and(|tick| held_until >= Some(tick)),
            "{pool:?}: the rate lets a dial start at {held_until:?}, and the next tick is at {tick:?}"
        );
    }
}

/// From now on all goes well: dials succeed, servers come back, sockets close. How many rounds until nobody waits?
fn run_without_faults(shell: &mut Shell) {
    for _ in 0..5000 {
        if shell.waiting.is_empty() {
            return;
        }
        shell.close_all();
        shell.connect_all();
        for (pool, _) in shell.active.clone() {
            let _ = shell.give_back(pool);
        }
        shell.pass(ms(10));
    }
    panic!("still waiting: {:?}", shell.waiting);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(setting in setting(), events in prop::collection::vec(event(), 1..250)) {
        let mut shell = build(&setting);
        let mut overslept = false;
        for event in events {
            apply(&mut shell, event);
            if overslept {
                shell.tick();
            }
            overslept = matches!(event, Event::Oversleep(_));
            if !overslept {
                assert_nobody_is_stranded(&shell);
            }
        }
        let impatient = setting.pools.iter().map(|(_, limits)| limits.max_wait <= ms(1500)).collect::<Vec<_>>();
        let ended = shell.ended.len();
        run_without_faults(&mut shell);
        for (waiter, end) in &shell.ended[ended..] {
            prop_assert!(impatient[waiter.pool.index()] || *end == End::Handed, "{:?} ended as {:?}", waiter, end);
        }
        prop_assert_eq!(shell.gate.snapshot_upstream(shell.now).misuses, 0);
    }

    #[test]
    fn a_drain_ends(setting in setting(), events in prop::collection::vec(event(), 1..100), after in prop::collection::vec(event(), 1..100)) {
        let mut shell = build(&setting);
        for event in events.into_iter().chain([Event::Drain]).chain(after) {
            apply(&mut shell, event);
        }
        prop_assert!(shell.waiting.is_empty());
        shell.connect_all();
        for (pool, _) in shell.active.clone() {
            let _ = shell.give_back(pool);
        }
        shell.close_all();
        for (pool, _, _) in shell.pools.clone() {
            prop_assert_eq!(shell.total(pool), 0);
        }
        prop_assert_eq!(shell.gate.poll_timeout(), None);
    }
}
