//! One connection: connect, log in, send statements, read replies.

use super::{Failure, Target};
use crate::plan::Protocol;
use std::time::Duration;

/// Who an instance is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The role.
    pub user: String,
    /// Its password; empty if it has none.
    pub password: String,
    /// The function's name.
    pub application_name: String,
    /// Startup options (`-c name=value`), behind those of the DSN.
    pub options: Option<String>,
}

/// How long the phases of a connect took; `None` for one that was not completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectTimes {
    /// TCP and TLS.
    pub connect: Option<Duration>,
    /// From the StartupMessage to the first ReadyForQuery.
    pub login: Option<Duration>,
}

/// What a statement was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reply {
    /// Rows.
    pub rows: u64,
    /// All bytes of the reply, those of the protocol included.
    pub bytes: u64,
    /// Statements that were completed: a simple query can hold several.
    pub completed: u64,
}

/// One connection of one instance. Dropping it is a plain close without a word (a FIN).
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Connects and logs in. Fills in `times` as the phases are completed.
    ///
    /// # Errors
    /// [`Failure::Connection`] if no address can be reached; [`Failure::Server`] if the server refuses the login.
    ///
    /// Cancel safety: dropped midway, the connection is closed.
    pub async fn connect(
        target: &Target,
        identity: &Identity,
        times: &mut ConnectTimes,
    ) -> Result<Self, Failure> {
        let _ = (target, identity, times);
        todo!()
    }

    /// Sends a statement and reads its reply to the end.
    ///
    /// # Errors
    /// See [`Failure`]. After a [`Failure::Server`] that is not fatal the session is usable.
    ///
    /// Cancel safety: dropped midway, the session is not usable, unless [`finish`](Self::finish) ends what was begun.
    pub async fn run(&mut self, sql: &str, protocol: Protocol) -> Result<Reply, Failure> {
        self.send(sql, protocol).await?;
        self.finish().await
    }

    /// Sends a statement, and reads nothing.
    ///
    /// # Errors
    /// The session is not usable, or the statement cannot be sent.
    ///
    /// Cancel safety: dropped midway, [`finish`](Self::finish) sends the rest.
    pub async fn send(&mut self, sql: &str, protocol: Protocol) -> Result<(), Failure> {
        let _ = (sql, protocol);
        todo!()
    }

    /// Waits for the first bytes of the reply.
    ///
    /// # Errors
    /// The connection is lost.
    ///
    /// Cancel safety: nothing is lost; call it again.
    pub async fn first_bytes(&mut self) -> Result<(), Failure> {
        todo!()
    }

    /// Reads the rest of the reply.
    ///
    /// # Errors
    /// See [`Failure`]. After a [`Failure::Server`] that is not fatal the session is usable.
    ///
    /// Cancel safety: nothing is lost; call it again, for instance after a [`cancel`](Self::cancel).
    pub async fn finish(&mut self) -> Result<Reply, Failure> {
        todo!()
    }

    /// Reads while nothing is asked: returns only when the server ends the session (57P01, say), or is lost.
    ///
    /// Cancel safety: nothing is lost; the session can be used afterwards.
    pub async fn watch(&mut self) -> Failure {
        todo!()
    }

    /// Asks the server, over a connection of its own, to cancel what this session runs; returns when the server has
    /// closed that connection.
    ///
    /// # Errors
    /// The server cannot be reached.
    ///
    /// Cancel safety: dropped midway, the request may have been sent or not.
    pub async fn cancel(&self) -> Result<(), Failure> {
        todo!()
    }

    /// The last reply left a transaction open, be it a failed one.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        todo!()
    }

    /// It can take a statement: no reply is under way, and it is not lost.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        todo!()
    }

    /// Statements that were completed since the login, also in replies that ended with an error or never ended.
    #[must_use]
    pub fn completed(&self) -> u64 {
        todo!()
    }
}
