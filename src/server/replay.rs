//! A batch that was sent outside a transaction, kept until its first reply: should PostgreSQL say that what it has prepared
//! is out of date, the batch is sent again, once.

use std::sync::Arc;

use crate::proto::ledger::{Ledger, Messages, Status};
use crate::proto::statements::Statement;

/// A larger batch is not kept: its client gets the error, as it might directly.
const LONGEST: usize = 16 * 1024;
/// Most statements of a batch that is kept.
const MOST_STATEMENTS: usize = 64;

/// The last batch, while it can be sent again. Its memory is used again.
#[derive(Debug, Default)]
pub struct Replay {
    /// It can be sent again.
    pub armed: bool,
    /// As it was sent.
    pub bytes: Vec<u8>,
    /// What the ledger holds of it.
    pub messages: Messages,
    /// The statements that it uses.
    pub used: Vec<Used>,
    /// It asks what its results look like.
    pub describes: bool,
}

/// A statement in a batch.
#[derive(Debug)]
pub struct Used {
    /// The statement.
    pub statement: Arc<Statement>,
    /// The batch prepares it on the server connection.
    pub prepares: bool,
    /// The client prepares it in this batch.
    pub is_new: bool,
}

impl Replay {
    /// Another batch begins.
    #[inline]
    pub fn begin(&mut self) {
        self.armed = false;
        self.describes = false;
        self.used.clear();
    }

    /// A statement is used.
    pub fn uses(&mut self, statement: &Arc<Statement>, prepares: bool, is_new: bool) {
        if self.used.len() <= MOST_STATEMENTS
            && !self.used.iter().any(|used| used.statement.id == statement.id)
        {
            self.used.push(Used { statement: Arc::clone(statement), prepares, is_new });
        }
    }

    /// A whole batch is about to be sent, `ahead` messages of the proxy's own in front of it: keeps it if it can be sent again. A client that neither prepares in it nor asks what
    /// the results look like would take them for what they were: it gets the error, as directly.
    #[inline]
    pub fn keep(&mut self, ledger: &Ledger, ahead: usize, bytes: &[u8]) {
        if self.used.is_empty() || self.used.len() > MOST_STATEMENTS || bytes.len() > LONGEST {
            return;
        }
        if !self.describes && !self.used.iter().all(|used| used.is_new) {
            return;
        }
        if ledger.status() == Status::Idle && ledger.one_batch(ahead, &mut self.messages) {
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
            self.armed = true;
        }
    }
}
