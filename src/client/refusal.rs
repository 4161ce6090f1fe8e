//! The overload contract: what a client gets that cannot be served. One SQLSTATE table for the whole proxy.

use crate::guard::{DialCause, ShedReason};
use crate::obs::LabelValue;
pub use crate::obs::Timeout;
use crate::pool::{Pool, Refused};
use crate::proto::messages::{Report, Severity};
use crate::proto::pin::PinReason;

/// A transaction that is not admitted: ERROR inside the session, DETAIL with the reason as in the metric's label.
pub fn shed(refused: Refused, pool: &Pool) -> Report {
    let Refused { reason, waited, retry_after } = refused;
    let (sqlstate, message, hint) = match reason {
        ShedReason::QueueTimeout => (
            "53300",
            "no server connection became free in time",
            "The pool is busy. Retry after a pause that grows with each attempt.",
        ),
        ShedReason::QueueFull => (
            "53300",
            "too many clients wait for a server connection",
            "The pool is busy. Retry after a pause that grows with each attempt.",
        ),
        ShedReason::Estimate => (
            "53300",
            "no server connection would become free in time",
            "The pool is busy. Retry after a pause that grows with each attempt.",
        ),
        ShedReason::ServerDown => (
            "57P03",
            "the database server cannot be reached",
            "The proxy keeps trying. Retry after a pause that grows with each attempt.",
        ),
        ShedReason::ServerRefused => (
            "57P03",
            "the database server refuses the proxy's login",
            "The proxy's configuration or the database's roles have to be corrected.",
        ),
        ShedReason::Draining => {
            ("57P03", "the proxy is shutting down", "Connect again: another instance may be up.")
        }
    };
    let retry_after = retry_after.mul_f64(rand::random_range(0.5..=1.5));
    let mut detail = format!(
        "reason={reason} pool={} wait_ms={} retry_after_ms={}",
        pool.name(),
        waited.as_millis(),
        retry_after.as_millis()
    );
    if let (ShedReason::ServerDown | ShedReason::ServerRefused, Some(failure)) = (reason, pool.failure()) {
        detail = format!("{detail} cause={failure}");
    }
    Report::error(sqlstate, message).with_detail(detail).with_hint(hint)
}

/// A statement that would keep a server connection, and may not.
pub fn pin_rejected(reason: PinReason) -> Report {
    let hint = match reason {
        PinReason::Listen => "Poll, or listen on a connection of its own in session mode.",
        PinReason::AdvisoryLock => "Use pg_advisory_xact_lock: it is released with its transaction.",
        PinReason::TempTable => {
            "Use CREATE TEMPORARY TABLE ... ON COMMIT DROP in one transaction, or an ordinary table."
        }
        PinReason::HoldCursor => "Use a cursor WITHOUT HOLD in one transaction, or read by key.",
        PinReason::Load => "Use shared_preload_libraries or session_preload_libraries.",
        PinReason::SequenceValue => "Use INSERT ... RETURNING, or the value that nextval returned.",
        PinReason::SqlPrepare => "Prepare with the driver: statements of the protocol follow the client.",
        PinReason::SessionMode => "Set fewer or shorter settings.",
    };
    Report::error("0A000", "this would keep a server connection beyond the transaction")
        .with_detail(format!("reason={}", reason.as_str()))
        .with_hint(hint)
}

/// A statement that would keep a server connection, of which enough are kept already.
pub fn pin_budget(reason: PinReason, pool: &Pool) -> Report {
    let detail = format!("reason=pin_budget pool={} pin={}", pool.name(), reason.as_str());
    Report::error("53300", "too many clients keep their server connections")
        .with_detail(detail)
        .with_hint("Retry later, release what is kept, or raise pin_budget.")
}

/// A client is warned that it keeps its server connection.
pub fn pinned(reason: PinReason) -> Report {
    Report::new(Severity::Warning, "01000", "the session keeps its server connection")
        .with_detail(format!("reason={}", reason.as_str()))
        .with_hint("Others have to do without it for as long as this lasts.")
}

/// The client's statement was prepared when its result looked different. PostgreSQL's own words, and its routine: drivers
/// prepare it again when they see that.
pub fn outdated() -> Report {
    let report = Report::error("0A000", "cached plan must not change result type");
    Report { routine: Some("RevalidateCachedQuery"), ..report }
}

/// A statement in a failed transaction. PostgreSQL's own words.
pub fn failed_transaction() -> Report {
    let message = "current transaction is aborted, commands ignored until end of transaction block";
    Report::error("25P02", message)
}

/// What took too long.
pub fn timeout(timeout: Timeout) -> Report {
    let report = match timeout {
        Timeout::Query => Report::error("57014", "canceling statement due to query timeout"),
        Timeout::Transaction => Report::error("25P04", "terminating transaction due to transaction timeout")
            .with_hint("The transaction was rolled back. End it with ROLLBACK; the session goes on."),
        Timeout::IdleInTransaction => {
            Report::error("25P03", "the transaction was rolled back due to idle-in-transaction timeout")
                .with_hint("End it with ROLLBACK; the session goes on.")
        }
        Timeout::ClientIdle | Timeout::Pin => {
            Report::fatal("57P05", "terminating connection due to idle-session timeout")
        }
        Timeout::Stall => Report::fatal("08006", "terminating connection because it takes no replies"),
    };
    report.with_detail(format!("reason={}", timeout.label()))
}

/// A request that was cancelled for its timeout, and does not end all the same.
pub fn unstoppable(timeout: Timeout) -> Report {
    Report { severity: Severity::Fatal, ..self::timeout(timeout) }
}

/// A CancelRequest ended the client's wait. The message is PostgreSQL's own.
pub fn cancelled() -> Report {
    Report::error("57014", "canceling statement due to user request")
}

/// The server connection was lost under the client.
pub fn server_lost(cause: &str) -> Report {
    Report::error("08006", "the connection to the database server was lost")
        .with_detail(format!("{cause}."))
        .with_hint("Any open transaction was rolled back. Retry it if it may run twice.")
}

/// The server connection's replies no longer fit.
pub fn out_of_step() -> Report {
    Report::fatal("08006", "the connection to the database server is out of step")
}

/// A transaction over several statements in statement mode. PgBouncer's own words would be for its users only.
pub fn no_transactions() -> Report {
    Report::fatal("0A000", "transactions over several statements are not allowed in statement mode")
        .with_hint("Set pool_mode = \"transaction\" for this database.")
}

/// The client broke the protocol.
pub fn violation(violation: crate::wire::Violation) -> Report {
    Report::fatal("08P01", violation.to_string())
}

/// The proxy ends. SQLSTATE and message are those of a PostgreSQL that is shut down.
pub fn going_down() -> Report {
    Report::fatal("57P01", "terminating connection due to administrator command")
}

/// No new login while the proxy drains.
pub fn draining() -> Report {
    Report::fatal("57P03", "the proxy is shutting down").with_detail("reason=draining")
}

/// A limit on clients. `whose` is `max_clients` of the proxy, a database or a user.
pub fn too_many_clients(reason: &'static str, limit: usize) -> Report {
    Report::fatal("53300", "sorry, too many clients already")
        .with_detail(format!("reason={reason} limit={limit}"))
}

/// The login was not over in time.
pub fn login_timeout() -> Report {
    Report::fatal("57P05", "login timeout").with_detail("reason=login_timeout")
}

/// No such database, or not for this user. Said only to clients that have proved who they are.
pub fn unknown_database(database: &str) -> Report {
    Report::fatal("3D000", format!("database \"{database}\" does not exist"))
}

/// `replication` in the startup packet.
pub fn no_replication() -> Report {
    Report::fatal("0A000", "replication connections are not supported")
        .with_hint("Connect to the database server itself.")
}

/// No server connection was ever up, so there are no parameters to greet the client with.
pub fn no_server(pool: &Pool) -> Report {
    let failure = pool.failure();
    let (sqlstate, message, reason) = match failure.as_ref().map(|failure| failure.cause()) {
        // It is up and has no room, which is not to be called "down".
        Some(DialCause::TooManyConnections) => {
            ("53300", "the database server has no connection to spare", "server_full")
        }
        Some(DialCause::Refused) => {
            ("08001", "the database server refuses the proxy's login", ShedReason::ServerRefused.as_str())
        }
        _ => ("08001", "cannot connect to the database server", ShedReason::ServerDown.as_str()),
    };
    let cause = failure.map(|failure| format!(" cause={failure}")).unwrap_or_default();
    Report::fatal(sqlstate, message).with_detail(format!("reason={reason} pool={}{cause}", pool.name()))
}

/// The parameters that the client logged in with are not taken any more.
pub fn parameters_refused() -> Report {
    Report::fatal("08006", "the session's parameters could not be set on a server connection")
}
