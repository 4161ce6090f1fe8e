//! What a server connection still owes: which replies belong to which message, and when it is free again.
//!
//! One ledger per server connection. The relay tells it every message that it sends and every reply that it reads; the
//! ledger says whether the reply is the client's or ours, and whether the connection may be given to somebody else. It
//! follows the manual's chapter "Message Flow", and `PostgresMain()` where the manual is silent.

use std::collections::VecDeque;

use crate::wire::tag;

/// A message that the server will answer, or that marks a place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Query,
    /// A simple query of the proxy's own; the client sees none of its replies.
    Injected,
    FunctionCall,
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    Close,
    Sync,
    /// CopyDone or CopyFail, sent before the server said that it wants a COPY. It is answered by nothing, but a Sync
    /// before it is ignored by the server and one behind it is not.
    CopyEnd,
}

/// The transaction status byte of ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `I`: outside a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a failed transaction block.
    Failed,
}

impl Status {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// What to do with a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the client's.
    Forward,
    /// It answers something of ours.
    Swallow,
    /// It is an error in something of ours: the server connection is not in the state that we meant it to be in.
    InjectedFailed,
    /// No such reply can come now: the two sides have lost each other. The connection must not be used any more.
    OutOfStep,
}

/// Most messages that may be unanswered. Above what an unflushed output buffer of PostgreSQL (8 KiB) can hold back
/// at five bytes a reply, so that waiting for room here cannot wait for ever.
const MOST_UNANSWERED: usize = 16 * 1024;

/// The replies that a server connection owes.
#[derive(Debug)]
pub struct Ledger {
    sent: VecDeque<Sent>,
    status: Status,
    /// The server has met an error in the extended protocol and ignores everything up to a Sync that was not sent yet.
    skipping: bool,
    /// The server takes CopyData, and neither CopyDone nor CopyFail was sent yet.
    copying_in: bool,
    /// Messages of the extended protocol were sent and no Sync behind them: even if all are answered (Flush), what they
    /// did is not committed and their unnamed statement and portals are still wanted.
    unsynced: bool,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// The ledger of a connection that has just logged in.
    pub fn new() -> Self {
        Self {
            sent: VecDeque::new(),
            status: Status::Idle,
            skipping: false,
            copying_in: false,
            unsynced: false,
        }
    }

    /// Nothing is owed and no transaction is open: the connection may go to another client.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.is_settled() && !self.unsynced && self.status == Status::Idle
    }

    /// Nothing is owed, whatever the transaction's status.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.sent.is_empty() && !self.skipping
    }

    /// The server ignores everything up to the next Sync.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// The server waits for CopyData, CopyDone or CopyFail.
    pub fn is_copying_in(&self) -> bool {
        self.copying_in
    }

    /// The status byte of the last ReadyForQuery.
    #[inline]
    pub fn status(&self) -> Status {
        self.status
    }

    /// No more may be sent before some of it is answered.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.sent.len() >= MOST_UNANSWERED
    }

    /// The message that is answered next ends in a ReadyForQuery only once a Sync is sent.
    pub fn wants_sync(&self) -> bool {
        self.skipping || self.unsynced
    }

    /// Whether a ReadyForQuery will come even if nothing more is sent.
    pub fn is_running(&self) -> bool {
        self.ready_owed() > 0 && !self.copying_in
    }

    /// How many ReadyForQuery the client is still to get.
    pub fn ready_owed(&self) -> usize {
        let ends = |sent: &&Sent| matches!(sent, Sent::Query | Sent::FunctionCall | Sent::Sync);
        self.sent.iter().filter(ends).count()
    }

    /// A message of the client's goes to the server. `first` is the first byte of a Describe's body.
    #[inline]
    pub fn sent(&mut self, kind: u8, first: Option<u8>) {
        if self.skipping {
            // The server drops all of this unseen; only the Sync ends it.
            if kind == tag::SYNC {
                self.skipping = false;
                self.unsynced = false;
                self.sent.push_back(Sent::Sync);
            }
            return;
        }
        let sent = match kind {
            tag::QUERY => Sent::Query,
            tag::SYNC if self.copying_in => return,
            tag::SYNC => Sent::Sync,
            tag::PARSE => Sent::Parse,
            tag::BIND => Sent::Bind,
            tag::EXECUTE => Sent::Execute,
            tag::DESCRIBE if first == Some(b'S') => Sent::DescribeStatement,
            tag::DESCRIBE => Sent::DescribePortal,
            tag::CLOSE => Sent::Close,
            tag::FUNCTION_CALL => Sent::FunctionCall,
            tag::COPY_DONE | tag::COPY_FAIL => {
                if !std::mem::take(&mut self.copying_in) && !self.sent.is_empty() {
                    self.sent.push_back(Sent::CopyEnd);
                }
                return;
            }
            // CopyData and Flush are answered by nothing.
            _ => return,
        };
        self.unsynced = !ends_batch(sent);
        self.sent.push_back(sent);
    }

    /// A simple query of the proxy's own goes to the server.
    pub fn sent_injected(&mut self) {
        self.unsynced = false;
        self.sent.push_back(Sent::Injected);
    }

    /// A reply was read. `body` is needed of ReadyForQuery (its status) and ErrorResponse (its SQLSTATE).
    #[inline]
    pub fn reply(&mut self, kind: u8, body: &[u8]) -> Verdict {
        while self.sent.front() == Some(&Sent::CopyEnd) {
            self.sent.pop_front();
        }
        match (kind, self.sent.front()) {
            (tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS, Some(Sent::Injected)) => Verdict::Swallow,
            (tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS | tag::NOTIFICATION_RESPONSE, _) => {
                Verdict::Forward
            }
            (_, None) => Verdict::OutOfStep,
            (tag::ERROR_RESPONSE, Some(&head)) => self.error(head, body),
            (tag::READY_FOR_QUERY, Some(&head)) => self.ready(head, body),
            (_, Some(&head)) => self.answer(head, kind),
        }
    }

    fn answer(&mut self, head: Sent, kind: u8) -> Verdict {
        let last = match (head, kind) {
            (Sent::Parse, tag::PARSE_COMPLETE)
            | (Sent::Bind, tag::BIND_COMPLETE)
            | (Sent::Close, tag::CLOSE_COMPLETE)
            | (Sent::DescribeStatement | Sent::DescribePortal, tag::ROW_DESCRIPTION | tag::NO_DATA)
            | (Sent::Execute, tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED) => {
                true
            }
            (Sent::DescribeStatement, tag::PARAMETER_DESCRIPTION)
            | (Sent::FunctionCall, tag::FUNCTION_CALL_RESPONSE)
            | (Sent::Query | Sent::Injected, tag::ROW_DESCRIPTION | tag::EMPTY_QUERY_RESPONSE)
            | (Sent::Query | Sent::Injected, tag::COMMAND_COMPLETE)
            | (Sent::Query | Sent::Injected | Sent::Execute, tag::DATA_ROW)
            | (Sent::Query | Sent::Execute, tag::COPY_OUT_RESPONSE | tag::COPY_DATA | tag::COPY_DONE) => {
                false
            }
            (Sent::Query | Sent::Execute, tag::COPY_IN_RESPONSE) => {
                self.copy_in_begins();
                false
            }
            _ => return Verdict::OutOfStep,
        };
        if last {
            self.sent.pop_front();
        }
        if head == Sent::Injected { Verdict::Swallow } else { Verdict::Forward }
    }

    /// From here on the server ignores Sync until the copy's end. What was sent behind the COPY's message without
    /// waiting for this reply it meets in that mode.
    fn copy_in_begins(&mut self) {
        self.copying_in = true;
        self.drop_ignored();
        // A Sync that is ignored has ended nothing.
        let last = self.sent.iter().rev().find(|sent| **sent != Sent::CopyEnd);
        self.unsynced = last.is_some_and(|last| !ends_batch(*last));
    }

    fn drop_ignored(&mut self) {
        while let Some(&next) = self.sent.get(1) {
            match next {
                Sent::Sync => drop(self.sent.remove(1)),
                Sent::CopyEnd => {
                    self.sent.remove(1);
                    self.copying_in = false;
                    return;
                }
                _ => return,
            }
        }
    }

    fn error(&mut self, head: Sent, body: &[u8]) -> Verdict {
        let was_copying = std::mem::take(&mut self.copying_in);
        match head {
            Sent::Injected => return Verdict::InjectedFailed,
            Sent::Query if was_copying && self.sent.len() > 1 && sqlstate(body) == Some(b"08P01") => {
                // "unexpected message type during COPY from stdin": the message that broke the copy is used up by it.
                self.sent.remove(1);
            }
            // Its ReadyForQuery follows.
            Sent::Query | Sent::FunctionCall | Sent::Sync | Sent::CopyEnd => {}
            Sent::Parse
            | Sent::Bind
            | Sent::DescribeStatement
            | Sent::DescribePortal
            | Sent::Execute
            | Sent::Close => {
                while self.sent.front().is_some_and(|sent| *sent != Sent::Sync) {
                    self.sent.pop_front();
                }
                self.skipping = self.sent.is_empty();
            }
        }
        Verdict::Forward
    }

    fn ready(&mut self, head: Sent, body: &[u8]) -> Verdict {
        self.status = match body {
            b"I" => Status::Idle,
            b"T" => Status::InTransaction,
            b"E" => Status::Failed,
            _ => return Verdict::OutOfStep,
        };
        if !matches!(head, Sent::Query | Sent::Injected | Sent::FunctionCall | Sent::Sync) {
            return Verdict::OutOfStep;
        }
        self.sent.pop_front();
        // An end of copy that nobody waited for leaves no reply; it must not keep the connection.
        while self.sent.front() == Some(&Sent::CopyEnd) {
            self.sent.pop_front();
        }
        if head == Sent::Injected { Verdict::Swallow } else { Verdict::Forward }
    }
}

/// Whether ReadyForQuery answers it, and the implicit transaction is over.
#[inline]
fn ends_batch(sent: Sent) -> bool {
    matches!(sent, Sent::Query | Sent::Injected | Sent::FunctionCall | Sent::Sync)
}

/// The SQLSTATE (field `C`) in the body of an ErrorResponse or NoticeResponse.
pub fn sqlstate(body: &[u8]) -> Option<&[u8]> {
    field(body, b'C')
}

/// One field of the body of an ErrorResponse or NoticeResponse (manual, "Error and Notice Message Fields").
pub fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[code]))
}

#[cfg(test)]
mod tests;
