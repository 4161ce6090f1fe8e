//! What is known of a recorded transaction, on its way to the exporter.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A transaction that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The trace that it belongs to.
    pub trace_id: [u8; 16],
    /// Its own span.
    pub span_id: [u8; 8],
    /// The caller's span. None: the trace begins here.
    pub parent: Option<[u8; 8]>,
    /// When its first message came.
    pub began: SystemTime,
    /// From there to its end.
    pub took: Duration,
    /// Its time in the queue, as a span of its own. None: it did not have to wait.
    pub wait: Option<([u8; 8], Duration)>,
    /// How it ended.
    pub outcome: Outcome,
    /// The text of its first query, as it was sent. Only if that is asked for.
    pub text: Option<Vec<u8>>,
    /// Whose it was.
    pub subject: Subject,
}

impl Record {
    /// How many spans it becomes.
    pub(super) fn spans(&self) -> u64 {
        1 + u64::from(self.wait.is_some())
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The SQLSTATE of the first error that the client was told.
    pub sqlstate: Option<[u8; 5]>,
    /// The proxy's word for what ended it, if it was not the client or PostgreSQL.
    pub reason: Option<&'static str>,
    /// It was not admitted.
    pub is_shed: bool,
}

impl Outcome {
    pub(super) fn is_error(&self) -> bool {
        self.sqlstate.is_some() || self.reason.is_some()
    }
}

/// Whose transaction it was, and where it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The database as clients name it.
    pub database: String,
    /// The user as clients name it.
    pub user: String,
    /// The function.
    pub function: Arc<str>,
    /// The client's id in the log and its process id.
    pub client: i32,
    /// Where the client comes from, if not from a Unix socket.
    pub client_address: Option<IpAddr>,
    /// PostgreSQL's host or path.
    pub server_address: String,
    /// PostgreSQL's port.
    pub server_port: Option<u16>,
    /// The process id of the server connection. None: there was none.
    pub server_pid: Option<i32>,
    /// Why the client keeps the server connection.
    pub pins: Vec<&'static str>,
}
