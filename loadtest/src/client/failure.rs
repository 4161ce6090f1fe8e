//! Why something was not served, in the words of the server where it said some.

use crate::leg::{CONTRACT, FailureKind};
use std::fmt;
use std::time::Duration;

/// Why a connection could not be had or a statement was not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server sent an ErrorResponse.
    Server(ServerError),
    /// There is no connection, or it ended without an ErrorResponse: what the system said.
    Connection(String),
    /// What came is not the protocol, or not what it allows here.
    Protocol(String),
    /// The client's own timeout. The client itself never says so: its callers set the time.
    Timeout,
}

/// An ErrorResponse (PostgreSQL's manual, "Error and Notice Message Fields").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError {
    /// The session ends with it: severity FATAL or PANIC.
    pub fatal: bool,
    /// Five characters; empty if the server sent none.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// `reason=` of the DETAIL.
    pub reason: Option<String>,
    /// `retry_after_ms=` of the DETAIL.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// What kind it is to a report: an SQLSTATE of [`CONTRACT`] is a shed.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Server(error) if CONTRACT.contains(&error.sqlstate.as_str()) => FailureKind::Shed,
            Self::Server(_) => FailureKind::Sql,
            Self::Connection(_) => FailureKind::Connection,
            Self::Protocol(_) => FailureKind::Protocol,
            Self::Timeout => FailureKind::Timeout,
        }
    }

    /// The server's SQLSTATE.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.sqlstate),
            Self::Connection(_) | Self::Protocol(_) | Self::Timeout => None,
        }
    }

    /// What failures are grouped by: `reason=` of the DETAIL; else the server's message; else the text.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Server(error) => error.reason.as_deref().unwrap_or(&error.message),
            Self::Connection(text) | Self::Protocol(text) => text,
            Self::Timeout => "timeout",
        }
    }

    /// When the server would have the client try again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server(error) => error.retry_after,
            Self::Connection(_) | Self::Protocol(_) | Self::Timeout => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Connection(text) => f.write_str(text),
            Self::Protocol(text) => write!(f, "not the protocol: {text}"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        write!(f, "{severity}: {} ({})", self.message, self.sqlstate)
    }
}

impl ServerError {
    /// Reads the fields of an ErrorResponse's body, whatever is in it; the last one may be cut off.
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut error = Self::default();
        let mut detail = String::new();
        // Older servers have no `V`, the severity that is not translated.
        let mut untranslated = false;
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, value)) = field.split_first() else { break };
            let value = || String::from_utf8_lossy(value).into_owned();
            match kind {
                b'V' => {
                    untranslated = true;
                    error.fatal = is_fatal(&value());
                }
                b'S' if !untranslated => error.fatal = is_fatal(&value()),
                b'C' => error.sqlstate = value(),
                b'M' => error.message = value(),
                b'D' => detail = value(),
                _ => {}
            }
        }
        error.reason = word(&detail, "reason=").map(str::to_owned);
        error.retry_after =
            word(&detail, "retry_after_ms=").and_then(|text| text.parse().ok()).map(Duration::from_millis);
        error
    }
}

fn is_fatal(severity: &str) -> bool {
    matches!(severity, "FATAL" | "PANIC")
}

/// The value of `key=value` among the words of a text.
fn word<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.split_whitespace().find_map(|word| word.strip_prefix(key))?;
    Some(value.trim_end_matches([',', ';', '.'])).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let body = b"SFATAL\0VFATAL\0C53300\0Mno place in the queue\0\
            Dreason=queue_timeout pool=app/api wait_ms=412 retry_after_ms=730\0\0";
        let expected = ServerError {
            fatal: true,
            sqlstate: "53300".to_owned(),
            message: "no place in the queue".to_owned(),
            reason: Some("queue_timeout".to_owned()),
            retry_after: Some(Duration::from_millis(730)),
        };
        assert_eq!(ServerError::parse(body), expected);
        for cut in 0..body.len() {
            ServerError::parse(&body[..cut]);
        }
    }

    #[test]
    fn the_severity_that_is_not_translated_counts() {
        assert!(ServerError::parse(b"SFATAL\0C57P01\0Mx\0\0").fatal);
        assert!(ServerError::parse(b"SFATAL: schlimm\0VPANIC\0\0").fatal);
        assert!(!ServerError::parse(b"VERROR\0SFATAL\0\0").fatal);
        assert!(!ServerError::parse(b"\0").fatal);
    }

    #[test]
    fn words_of_a_detail() {
        assert_eq!(word("The reason=x, retry_after_ms=5.", "reason="), Some("x"));
        assert_eq!(word("no_reason=x reason=", "reason="), None);
        assert_eq!(ServerError::parse(b"Dretry_after_ms=99999999999999999999999\0").retry_after, None);
    }

    #[test]
    fn kinds_and_reasons_for_reports() {
        let server = |sqlstate: &str, reason: Option<&str>| {
            Failure::Server(ServerError {
                sqlstate: sqlstate.to_owned(),
                message: "told".to_owned(),
                reason: reason.map(str::to_owned),
                ..ServerError::default()
            })
        };
        let table = [
            (server("53300", Some("queue_full")), FailureKind::Shed, "queue_full"),
            (server("22012", None), FailureKind::Sql, "told"),
            (Failure::Connection("gone".to_owned()), FailureKind::Connection, "gone"),
            (Failure::Protocol("odd".to_owned()), FailureKind::Protocol, "odd"),
            (Failure::Timeout, FailureKind::Timeout, "timeout"),
        ];
        for (failure, kind, reason) in table {
            assert_eq!((failure.kind(), failure.reason()), (kind, reason));
        }
    }
}
