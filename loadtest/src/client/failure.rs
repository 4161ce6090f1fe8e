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
