//! The overload contract: what a client gets that cannot be served. SQLSTATEs, messages and HINTs are those of the table in
//! [`crate::obs::reason`]; what is added here is the DETAIL: `reason=…`, what it is about, and `retry_after_ms=…`.

use super::jitter::RetryAfter;
use crate::guard::{DialCause, ShedReason};
pub use crate::obs::Timeout;
use crate::obs::reason::{Ends, Retry, Terms};
use crate::obs::{Reason, Refusal, Shed};
use crate::pool::{Pool, Refused};
use crate::proto::messages::{Report, Severity};
use crate::proto::pin::PinReason;

/// What is said for this reason. FATAL only where nothing else can be: where it may be either, [`fatal`] decides.
fn report(reason: impl Into<Reason>, about: &str, retry_after: Option<RetryAfter>) -> Report {
    let reason = reason.into();
    let Terms { sqlstate, message, hint, ends, retry } = reason.terms();
    debug_assert_eq!(retry == Retry::After, retry_after.is_some(), "{reason}");
    let severity = if ends == Ends::Connection { Severity::Fatal } else { Severity::Error };
    let mut detail = format!("reason={reason}");
    for word in [about, &retry_after.map(|after| after.to_string()).unwrap_or_default()] {
        if !word.is_empty() {
            detail = format!("{detail} {word}");
        }
    }
    let report = Report::new(severity, sqlstate, message).with_detail(detail);
    Report { hint: hint.map(Into::into), ..report }
}

/// The same as the connection's end.
pub fn fatal(report: Report) -> Report {
    Report { severity: Severity::Fatal, ..report }
}

/// A cause is free text, so it comes last in a DETAIL.
fn with_cause(report: Report, cause: &str) -> Report {
    let detail = format!("{} cause={cause}", report.detail.as_deref().unwrap_or_default());
    report.with_detail(detail)
}

/// A transaction that is not admitted: ERROR inside the session.
pub fn shed(refused: &Refused, pool: &Pool, retry_after: RetryAfter) -> Report {
    let Refused { reason, waited, .. } = *refused;
    let about = format!("pool={} wait_ms={}", pool.name(), waited.as_millis());
    let report = report(Reason::from(Shed::from(reason)), &about, Some(retry_after));
    match (reason, pool.failure()) {
        (ShedReason::ServerDown | ShedReason::ServerRefused, Some(failure)) => {
            with_cause(report, &failure.to_string())
        }
        _ => report,
    }
}

/// A statement that would keep a server connection, and may not.
pub fn pin_rejected(reason: PinReason) -> Report {
    report(reason, "", None)
}

/// A statement that would keep a server connection, of which enough are kept already.
pub fn pin_budget(reason: PinReason, pool: &Pool, retry_after: RetryAfter) -> Report {
    let about = format!("pool={} pin={}", pool.name(), reason.as_str());
    report(Reason::PinBudget, &about, Some(retry_after))
}

/// A client is warned that it keeps its server connection.
pub fn pinned(reason: PinReason) -> Report {
    Report::new(Severity::Warning, "01000", "the session keeps its server connection")
        .with_detail(format!("reason={}", Reason::from(reason)))
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
    report(timeout, "", None)
}

/// A request that was cancelled for its timeout, and does not end all the same.
pub fn unstoppable(timeout: Timeout) -> Report {
    fatal(self::timeout(timeout))
}

/// A CancelRequest ended the client's wait. The message is PostgreSQL's own.
pub fn cancelled() -> Report {
    Report::error("57014", "canceling statement due to user request")
}

/// The server connection was lost under the client.
pub fn server_lost(cause: &str) -> Report {
    with_cause(report(Reason::ServerLost, "", None), cause)
}

/// The server connection's replies no longer fit.
pub fn out_of_step() -> Report {
    report(Reason::OutOfStep, "", None)
}

/// A transaction over several statements in statement mode. PgBouncer's own words would be for its users only.
pub fn no_transactions() -> Report {
    report(Reason::StatementMode, "", None)
}

/// The client broke the protocol. It is told how, in PostgreSQL's words.
pub fn violation(violation: crate::wire::Violation) -> Report {
    Report { message: violation.to_string().into(), ..report(Reason::ProtocolViolation, "", None) }
}

/// The proxy ends. SQLSTATE and message are those of a PostgreSQL that is shut down.
pub fn going_down(retry_after: RetryAfter) -> Report {
    report(Reason::Shutdown, "", Some(retry_after))
}

/// A limit or rule keeps a client from logging in. `about` is more for the DETAIL: `limit=100`.
pub fn login(refusal: Refusal, about: &str, retry_after: RetryAfter) -> Report {
    let reason = Reason::from(refusal);
    let retry_after = (reason.terms().retry == Retry::After).then_some(retry_after);
    fatal(report(reason, about, retry_after))
}

/// A transaction over a rate limit: ERROR inside the session.
pub fn rate_limited(about: &str, retry_after: RetryAfter) -> Report {
    report(Reason::RateLimited, about, Some(retry_after))
}

/// No such database, or not for this user. Said only to clients that have proved who they are.
pub fn unknown_database(database: &str) -> Report {
    Report::fatal("3D000", format!("database \"{database}\" does not exist"))
}

/// No server connection was ever up, so there are no parameters to greet the client with.
pub fn no_server(pool: &Pool, retry_after: RetryAfter) -> (Refusal, Report) {
    let failure = pool.failure();
    let refusal = match failure.as_ref().map(|failure| failure.cause()) {
        // It is up and has no room, which is not to be called "down".
        Some(DialCause::TooManyConnections) => Refusal::ServerFull,
        _ => Refusal::NoServer,
    };
    let report = login(refusal, &format!("pool={}", pool.name()), retry_after);
    match failure {
        Some(failure) => (refusal, with_cause(report, &failure.to_string())),
        None => (refusal, report),
    }
}

/// The parameters that the client logged in with are not taken any more.
pub fn parameters_refused() -> Report {
    report(Reason::ParametersRefused, "", None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::jitter::Jitter;

    fn retry_after() -> RetryAfter {
        Jitter::new(1).spread(std::time::Duration::from_secs(1))
    }

    #[test]
    fn a_detail_begins_with_the_reason_and_ends_with_when_to_retry() {
        let said = login(Refusal::MaxClients, "limit=3", retry_after());
        let detail = said.detail.unwrap_or_default();
        let rest = detail.strip_prefix("reason=max_clients limit=3 retry_after_ms=").unwrap_or_default();
        assert!(rest.parse::<u64>().is_ok_and(|ms| (500..=1500).contains(&ms)), "{detail}");
        assert_eq!(said.severity, Severity::Fatal);
    }

    #[test]
    fn what_is_not_to_be_retried_does_not_say_when() {
        let said = [
            login(Refusal::TlsRequired, "", retry_after()),
            pin_rejected(PinReason::Listen),
            timeout(Timeout::IdleInTransaction),
            server_lost("it crashed"),
        ];
        let details = said.map(|report| report.detail.unwrap_or_default().into_owned());
        let expected =
            ["tls_required", "listen", "idle_in_transaction_timeout", "server_lost cause=it crashed"];
        assert_eq!(details, expected.map(|words| format!("reason={words}")));
    }

    #[test]
    fn a_timeout_within_a_session_leaves_it_open_and_one_of_an_idle_session_does_not() {
        assert_eq!(timeout(Timeout::Transaction).severity, Severity::Error);
        assert_eq!(unstoppable(Timeout::Query).severity, Severity::Fatal);
        assert_eq!(timeout(Timeout::ClientIdle).severity, Severity::Fatal);
    }
}
