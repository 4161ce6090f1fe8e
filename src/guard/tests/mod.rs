//! Tests of the gate: examples by subject, a table of every slot state and event, properties against naive books,
//! and a simulation of a large burst.

mod adaptive;
mod dialling;
mod failing;
mod growing;
mod limiting;
mod properties;
mod renewal;
mod reserve;
mod sharing;
mod shell;
mod simulation;
mod table;
mod waiting;

use std::time::Duration;

use super::{Admission, Caller, Gate, GateParams, Home, KeyTerms, PoolId, PoolLimits};

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A roomy upstream with one I/O thread; tests change what they are about.
pub(super) fn params() -> GateParams {
    GateParams {
        max_connections: 100,
        reserved_connections: 0,
        max_dials: 4,
        dial_rate: 1000,
        dial_burst: 1000,
        dial_backoff_min: ms(100),
        dial_backoff_max: ms(400),
        fail_fast_after: ms(3000),
        homes: 1,
        locality_slack: ms(2),
        reclaim_after: ms(1000),
        seed: 7,
    }
}

/// First in, first out: tests of the rules of admission enforce them.
pub(super) fn limits(size: usize) -> PoolLimits {
    PoolLimits {
        size,
        min_idle: 0,
        max_waiting: 1000,
        max_wait: ms(1500),
        burst_wait: ms(6000),
        admission: Admission::Observe,
        active_limit: None,
    }
}

/// A caller of the pool's only function.
pub(super) fn caller(gate: &mut Gate, pool: PoolId, home: Home) -> Caller {
    let key = gate.enter_key(pool, "api", KeyTerms::default());
    Caller { home, key, lot: 0, patience: None, works_by_then: false, urgent: false }
}
