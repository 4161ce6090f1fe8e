//! A connection to PostgreSQL that is logged in.

use std::io;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use super::cancel::CancelTarget;
use super::replay::Replay;
use crate::net::{Inbox, Outbox, Stream};
use crate::proto::ledger::Ledger;
use crate::proto::parameters::{Parameters, is_settable, parameter_status};
use crate::proto::pin::{PinReason, Pins};
use crate::proto::statements::{Moment, ServerStatements, parse};
use crate::wire::tag;

/// Takes back every parameter that a client may have set. RESET ALL leaves the role and the user as they are.
const RESET: &str = "SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL";
/// Takes back what else a client may leave behind, but for LISTEN, which a standby refuses, and prepared statements.
/// What DISCARD ALL does besides (manual, "DISCARD") is of no concern or would cost the next client.
const CLEAN: &str = "CLOSE ALL; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD SEQUENCES; DISCARD TEMP";

/// A server connection. It is always in exactly one place: in a store, in a client's hands, or on its way out.
#[derive(Debug)]
pub struct Server {
    /// The socket.
    pub stream: Stream,
    /// What comes from the server.
    pub inbox: Inbox,
    /// What goes to the server.
    pub outbox: Outbox,
    /// What the server owes.
    pub ledger: Ledger,
    /// Parameters that differ from those it logged in with.
    pub parameters: Arc<Parameters>,
    /// Parameters that it reported at login.
    pub base: Arc<Parameters>,
    /// How to cancel what runs on it.
    pub cancel: Arc<CancelTarget>,
    /// When it is to be replaced.
    pub expires: Option<Instant>,
    /// When it was last given back.
    pub idle_since: Instant,
    /// The reply that is half read is not for the client.
    pub swallowing: bool,
    /// Its parameters may differ from `parameters` in ways that PostgreSQL does not report.
    pub unsure: bool,
    /// How it may be taken leave of.
    pub fate: Fate,
    /// The statements that are prepared on it under the proxy's names.
    pub statements: ServerStatements,
    /// Statements under clients' names that are to be closed before it is used again.
    pub debris: Vec<Box<[u8]>>,
    /// The class of the request that runs, where there is an adaptive limit. Here and not with the client, so that an idle
    /// client stays small.
    pub class: u8,
    /// The last batch, while it may have to be sent again.
    pub replay: Replay,
    /// Whose values its sequences may have.
    pub sequences: Sequences,
}

/// Whose values of sequences a session may have: what `currval` and `lastval` say. Clients are known by the process id that
/// they were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sequences {
    /// Nobody's.
    #[default]
    Unused,
    /// This client's, and nobody else's.
    Of(i32),
    /// Several clients'.
    Mixed,
}

impl Sequences {
    /// A client uses the session. Whether there may be values of others.
    pub fn used_by(&mut self, client: i32) -> bool {
        let foreign = *self != Self::Unused && *self != Self::Of(client);
        *self = if foreign { Self::Mixed } else { Self::Of(client) };
        foreign
    }
}

/// How a connection may be taken leave of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// With Terminate.
    Sound,
    /// A message to it is half written: anything sent now would be taken for its rest.
    HalfSent,
    /// The server has said that it ends; its backend is there until it closes the connection.
    Leaving,
    /// The server has closed it, or it broke.
    Lost,
}

impl Server {
    /// Looks, without a system call unless something has arrived, whether an idle connection is still of use: PostgreSQL
    /// may have closed it, or may have said something that nobody asked for.
    pub fn is_alive(&self) -> bool {
        // A word from an idle server is a notice, a changed default or a farewell. All are rare, and a new connection
        // has the new defaults, so they are not told apart.
        self.stream.is_quiet()
    }

    /// It is older than `server_lifetime`.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// It may be given to another client: nothing is owed, half read or half written.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.ledger.is_free() && self.outbox.is_empty() && self.inbox.at_boundary()
    }

    /// A statement is done (the body of its CommandComplete). SET, RESET and DISCARD ALL may have changed parameters that
    /// PostgreSQL does not report.
    #[inline]
    pub fn note_completed(&mut self, tag: &[u8]) {
        match tag {
            b"SET\0" | b"RESET\0" => self.unsure = true,
            b"DISCARD ALL\0" => {
                self.unsure = true;
                self.statements.clear();
            }
            b"DEALLOCATE ALL\0" => self.statements.clear(),
            _ => {}
        }
    }

    /// The server reports a parameter (the body of a ParameterStatus), set by a client or undone with its transaction.
    /// Returns its name and value if it is one that clients can set.
    pub fn note_parameter<'a>(&mut self, body: &'a [u8]) -> Option<(&'a str, &'a str)> {
        let (name, value) = parameter_status(body).filter(|(name, _)| is_settable(name))?;
        self.parameters = Arc::new(self.parameters.with(name, value, &self.base));
        Some((name, value))
    }

    /// The statement that gives the connection these parameters, if there is anything to change. To be sent with
    /// [`Ledger::sent_injected`].
    #[inline]
    pub fn change_to(&mut self, wanted: &Arc<Parameters>) -> Option<String> {
        if Arc::ptr_eq(&self.parameters, wanted) && !self.unsure {
            return None;
        }
        let sql = if std::mem::take(&mut self.unsure) {
            let set = Parameters::default().change_to(wanted).unwrap_or_default();
            Some(format!("{RESET}; {set}"))
        } else {
            self.parameters.change_to(wanted)
        };
        self.parameters = Arc::clone(wanted);
        sql
    }

    /// The statement that takes back everything that a client may have left behind for these reasons, and its settings.
    pub fn clean(reasons: Pins) -> String {
        let mut sql = format!("{RESET}; {CLEAN}");
        if reasons.contains(PinReason::Listen) {
            sql.push_str("; UNLISTEN *");
        }
        if reasons.contains(PinReason::SqlPrepare) {
            sql.push_str("; DEALLOCATE ALL");
        }
        sql
    }

    /// Everything that a client may have set or left behind was taken back.
    pub fn is_clean(&mut self, reasons: Pins) {
        self.parameters = Arc::default();
        self.unsure = false;
        self.sequences = Sequences::Unused;
        if reasons.contains(PinReason::SqlPrepare) {
            self.statements.clear();
        }
    }

    /// Keeps account of the statements after a reply: what was done, and what an error has kept from being done.
    #[inline]
    pub fn note_answered(&mut self) {
        if let Some(voided) = self.ledger.take_voided() {
            self.statements.void(voided);
        }
        self.statements.confirm(self.ledger.answered());
    }

    /// A Parse of the proxy's own, to be appended to what is sent.
    pub fn own_parse(&mut self, out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u8]) -> Moment {
        let at = self.ledger.next_moment();
        self.ledger.sent_own_parse(at);
        parse(out, name, text, types);
        at
    }

    /// A Parse of the proxy's own in front of a Query, which would not be run if the Parse failed without a Sync behind it.
    pub fn tried_parse(&mut self, out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u8]) {
        let at = self.ledger.next_moment();
        self.ledger.sent_tried_parse(at);
        parse(out, name, text, types);
        out.extend_from_slice(&[tag::SYNC, 0, 0, 0, 4]);
    }

    /// A Close of the proxy's own, to be appended to what is sent.
    pub fn own_close(&mut self, out: &mut Vec<u8>, name: &[u8]) {
        let at = self.ledger.next_moment();
        self.ledger.sent_own_close(at);
        crate::proto::statements::close(out, tag::CLOSE, name);
    }

    /// A reply that is the client's is passed on in part.
    pub fn is_mid_reply(&self) -> bool {
        !self.inbox.frames.at_boundary() && !self.swallowing
    }

    /// Sends a statement of the proxy's own.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn inject(&mut self, cx: &mut Context<'_>, sql: &str) -> io::Result<()> {
        let mut message = Vec::with_capacity(sql.len() + 6);
        query(&mut message, sql);
        self.ledger.sent_injected();
        self.outbox.write(&mut self.stream, cx, &message)
    }
}

/// A simple query's message.
pub fn query(message: &mut Vec<u8>, sql: &str) {
    message.push(tag::QUERY);
    // Bounded by the startup packet's 10 KB that parameters come from, and by constants.
    message.extend((sql.len() as u32 + 5).to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.push(0);
}
