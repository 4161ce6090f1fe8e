//! What the sessions of a pool's clients may do. What is said of a user wins over what is said of its database, that over
//! what is said of all, and that over the default.

use std::time::Duration;

use super::defaults;
use super::file::{SessionKeys, SessionTimeouts};
use super::pools::first;
use super::reader::Read;
use crate::pool::{PinParams, SessionParams, StatementParams};
use crate::proto::pin::{PinPolicies, PinReason};

/// The sessions of one user of a database, by its own keys, those of the database, and the timeouts of all.
pub(super) fn params(own: &SessionKeys, database: &SessionKeys, all: &SessionTimeouts) -> SessionParams {
    let timeout = |pick: fn(&SessionTimeouts) -> &Read<Duration>, default: Duration| {
        first([pick(&own.timeouts), pick(&database.timeouts), pick(all)], default)
    };
    SessionParams {
        query_timeout: timeout(|keys| &keys.query_timeout, defaults::QUERY_TIMEOUT),
        transaction_timeout: timeout(|keys| &keys.transaction_timeout, defaults::TRANSACTION_TIMEOUT),
        idle_in_transaction_timeout: timeout(
            |keys| &keys.idle_in_transaction_timeout,
            defaults::IDLE_IN_TRANSACTION_TIMEOUT,
        ),
        client_idle_timeout: timeout(|keys| &keys.client_idle_timeout, defaults::CLIENT_IDLE_TIMEOUT),
        client_stall_timeout: timeout(|keys| &keys.client_stall_timeout, defaults::CLIENT_STALL_TIMEOUT),
        abandoned: first([&own.abandoned, &database.abandoned], defaults::ABANDONED),
        reset: first([&own.reset, &database.reset], defaults::RESET),
        pins: PinParams {
            timeout: first([&own.pin_timeout, &database.pin_timeout], defaults::PIN_TIMEOUT),
            budget: first([&own.pin_budget, &database.pin_budget], defaults::PIN_BUDGET),
            policies: policies(own, database),
        },
        statements: statements(own, database),
    }
}

fn statements(own: &SessionKeys, database: &SessionKeys) -> StatementParams {
    StatementParams {
        max_per_server: first(
            [&own.max_prepared_statements, &database.max_prepared_statements],
            defaults::MAX_PREPARED_STATEMENTS,
        ),
        promote_unnamed: first([&own.promote_unnamed, &database.promote_unnamed], defaults::PROMOTE_UNNAMED),
        strip_trace_comments: first(
            [&own.trace_comments, &database.trace_comments],
            defaults::STRIP_TRACE_COMMENTS,
        ),
    }
}

/// Each reason for itself: a user's policy for one leaves its database's for the others.
fn policies(own: &SessionKeys, database: &SessionKeys) -> PinPolicies {
    let mut policies = PinPolicies::default();
    let unsaid = PinReason::ALL.map(|reason| (reason, defaults::PIN_POLICY));
    for (reason, policy) in unsaid.iter().chain(&database.pins).chain(&own.pins) {
        policies.set(*reason, *policy);
    }
    policies
}
