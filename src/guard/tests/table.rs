//! Every state of a slot × every event: what follows, and what is caught as a contradiction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::{caller, limits, params};
use crate::guard::slots::{Slot, Slots, Step};
use crate::guard::{Action, Arrival, DialCause, Gate, Home, Placement, PoolId};

const HOME: Home = Home(0);
const STATES: [Slot; 5] = [Slot::Vacant, Slot::Dialling, Slot::Idle, Slot::Active, Slot::Closing];

type Event = (&'static str, fn(&mut Gate, Instant, PoolId, &mut Vec<Action>) -> String);

const EVENTS: &[Event] = &[
    ("arrive", |gate, now, pool, actions| match arrive(gate, now, pool, actions) {
        Arrival::Granted { .. } => "granted".into(),
        Arrival::Queued(_) => "queued".into(),
        Arrival::Shed(reason, _) => format!("shed {reason}"),
    }),
    ("returned", |gate, now, pool, actions| {
        let charge = (caller(gate, pool, HOME).key, Duration::ZERO);
        name(gate.returned(now, pool, HOME, charge, actions))
    }),
    ("dialled", |gate, now, pool, actions| name(gate.dialled(now, pool, HOME, actions))),
    ("dial_failed", |gate, now, pool, actions| {
        gate.dial_failed(now, pool, HOME, DialCause::Refused, actions);
        "ok".into()
    }),
    ("discard", |gate, now, pool, actions| {
        let charge = (caller(gate, pool, HOME).key, Duration::ZERO);
        gate.discard(now, pool, charge, actions);
        "ok".into()
    }),
    ("take_idle", |gate, now, pool, actions| gate.take_idle(now, pool, HOME, actions).to_string()),
    ("closed", |gate, now, pool, actions| {
        gate.closed(now, pool, actions);
        "ok".into()
    }),
    ("warm", |gate, now, pool, actions| {
        gate.warm(now, pool, HOME, actions);
        "ok".into()
    }),
    ("tick", |gate, now, _, actions| {
        gate.tick(now, actions);
        "ok".into()
    }),
    ("drain", |gate, now, _, actions| {
        gate.drain(now, actions);
        "ok".into()
    }),
];

fn arrive(gate: &mut Gate, now: Instant, pool: PoolId, actions: &mut Vec<Action>) -> Arrival {
    let caller = caller(gate, pool, HOME);
    gate.arrive(now, pool, &caller, actions)
}

const TABLE: &str = "
Vacant   arrive      queued  -> Dialling
Vacant   returned    caught
Vacant   dialled     caught
Vacant   dial_failed caught
Vacant   discard     caught
Vacant   take_idle   false   -> Vacant
Vacant   closed      caught
Vacant   warm        ok      -> Dialling
Vacant   tick        ok      -> Vacant
Vacant   drain       ok      -> Vacant
Dialling arrive      queued  -> Dialling
Dialling returned    caught
Dialling dialled     store   -> Idle
Dialling dial_failed ok      -> Vacant
Dialling discard     caught
Dialling take_idle   false   -> Dialling
Dialling closed      caught
Dialling warm        ok      -> Dialling
Dialling tick        ok      -> Dialling
Dialling drain       ok      -> Dialling
Idle     arrive      granted -> Active
Idle     returned    caught
Idle     dialled     caught
Idle     dial_failed caught
Idle     discard     caught
Idle     take_idle   true    -> Closing
Idle     closed      caught
Idle     warm        ok      -> Idle
Idle     tick        ok      -> Idle
Idle     drain       ok      -> Closing
Active   arrive      queued  -> Active
Active   returned    store   -> Idle
Active   dialled     caught
Active   dial_failed caught
Active   discard     ok      -> Closing
Active   take_idle   false   -> Active
Active   closed      caught
Active   warm        ok      -> Active
Active   tick        ok      -> Active
Active   drain       ok      -> Active
Closing  arrive      queued  -> Closing
Closing  returned    caught
Closing  dialled     caught
Closing  dial_failed caught
Closing  discard     caught
Closing  take_idle   false   -> Closing
Closing  closed      ok      -> Vacant
Closing  warm        ok      -> Closing
Closing  tick        ok      -> Closing
Closing  drain       ok      -> Closing
";

#[test]
fn every_state_and_event() {
    let mut seen = String::from("\n");
    for state in STATES {
        for (event, apply) in EVENTS {
            let outcome = outcome(state, *apply);
            seen += format!("{:<8} {event:<11} {outcome}", format!("{state:?}")).trim_end();
            seen += "\n";
        }
    }
    assert_eq!(seen, TABLE, "\nnow:{seen}");
}

/// A pool of one slot, in this state.
fn gate_in(state: Slot, now: Instant) -> (Gate, PoolId) {
    let mut gate = Gate::new(params());
    let group = gate.add_group(1);
    let pool = gate.add_pool(group, limits(1));
    let actions = &mut Vec::new();
    if state != Slot::Vacant {
        gate.warm(now, pool, HOME, actions);
    }
    if matches!(state, Slot::Idle | Slot::Active | Slot::Closing) {
        assert_eq!(gate.dialled(now, pool, HOME, actions), Placement::Store);
    }
    if matches!(state, Slot::Active | Slot::Closing) {
        assert!(matches!(arrive(&mut gate, now, pool, actions), Arrival::Granted { .. }));
    }
    if state == Slot::Closing {
        let charge = (caller(&mut gate, pool, HOME).key, Duration::ZERO);
        gate.discard(now, pool, charge, actions);
    }
    assert_eq!(state_of(&gate, now, pool), state);
    (gate, pool)
}

/// A contradiction panics in debug builds; in release builds it is counted, and nothing moves.
fn outcome(state: Slot, apply: fn(&mut Gate, Instant, PoolId, &mut Vec<Action>) -> String) -> String {
    let now = Instant::now();
    let (mut gate, pool) = gate_in(state, now);
    let said = catch_unwind(AssertUnwindSafe(|| apply(&mut gate, now, pool, &mut Vec::new())));
    let caught = gate.snapshot_upstream(now).misuses > 0;
    assert_eq!(said.is_err(), caught && cfg!(debug_assertions));
    if caught {
        assert_eq!(state_of(&gate, now, pool), state, "a contradiction moves nothing");
        return "caught".into();
    }
    format!("{:<7} -> {:?}", said.unwrap(), state_of(&gate, now, pool))
}

fn state_of(gate: &Gate, now: Instant, pool: PoolId) -> Slot {
    let seen = gate.snapshot(now, pool);
    match [seen.idle, seen.active, seen.dialling, seen.closing] {
        [0, 0, 0, 0] => Slot::Vacant,
        [1, 0, 0, 0] => Slot::Idle,
        [0, 1, 0, 0] => Slot::Active,
        [0, 0, 1, 0] => Slot::Dialling,
        [0, 0, 0, 1] => Slot::Closing,
        other => panic!("more than one slot: {other:?}"),
    }
}

fn name(placement: Placement) -> String {
    match placement {
        Placement::Hand(_) => "hand".into(),
        Placement::Store => "store".into(),
        Placement::Close => "close".into(),
    }
}

/// A step moves one slot along its path, and only if there is one at its start.
#[test]
fn every_state_and_step() {
    for state in STATES {
        for step in Step::ALL {
            let mut slots = Slots::new(1, 0, 1);
            let group = slots.add_group(1);
            let pool = slots.add_pool(group, 1);
            let way: &[Step] = match state {
                Slot::Vacant => &[],
                Slot::Dialling => &[Step::Dial],
                Slot::Idle => &[Step::Dial, Step::Connect, Step::Store],
                Slot::Active => &[Step::Dial, Step::Connect],
                Slot::Closing => &[Step::Dial, Step::Connect, Step::Discard],
            };
            assert!(way.iter().all(|step| slots.shift(pool, HOME, *step)));
            let before = slots.pool(pool).counts;
            let (from, to) = step.path();
            assert_eq!(slots.shift(pool, HOME, step), from == state, "{step:?} from {state:?}");
            let after = slots.pool(pool).counts;
            if from != state {
                assert_eq!(before, after);
            }
            assert_eq!(after.total(), usize::from(if from == state { to } else { state } != Slot::Vacant));
            assert_eq!(slots.upstream().counts, after);
            assert_eq!(slots.group(group).counts, after);
        }
    }
}
