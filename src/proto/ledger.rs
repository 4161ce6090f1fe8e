//! What a server connection still owes: which replies belong to which message, and when it is free again.
//!
//! One ledger per server connection. The relay tells it every message that it sends and every reply that it reads; the
//! ledger says whether the reply is the client's or ours, and whether the connection may be given to somebody else. It
//! follows the manual's chapter "Message Flow", and `PostgresMain()` where the manual is silent.

use std::collections::VecDeque;

use super::pin::PinReason;
use super::statements::{Moment, Sequence};
use crate::wire::tag;

/// A message that the server will answer, or that marks a place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Query,
    /// In the place of a query that is refused: PostgreSQL's error for it is not what the client gets.
    RefusedQuery(Refused),
    /// A simple query of the proxy's own; the client sees none of its replies.
    Injected,
    /// The same, and its rows are wanted.
    Audit,
    /// The same, and it may fail.
    Spoil,
    FunctionCall,
    Parse(Sequence),
    /// As [`Sent::RefusedQuery`].
    RefusedParse(Refused),
    /// A Parse of the proxy's own. If it fails, the error is the client's: its message behind it would have met it.
    OwnParse(Sequence),
    /// The same, and it may fail: the client's message behind its Sync then fails by itself.
    TriedParse(Sequence),
    /// With what tells its statement's name from others ([`crate::proto::statements::tail`]).
    Bind(u32),
    DescribeStatement,
    DescribePortal,
    Execute,
    Close(Sequence),
    /// A Close of the proxy's own.
    OwnClose(Sequence),
    /// Not sent: the proxy answers it itself, once everything before it is answered.
    Answered(OwnAnswer, Sequence),
    Sync,
    /// The Sync of a batch that is sent again: the client gets the next one's reply.
    OwnSync,
    /// CopyDone or CopyFail, sent before the server said that it wants a COPY. It is answered by nothing, but a Sync
    /// before it is ignored by the server and one behind it is not.
    CopyEnd,
}

impl Sent {
    fn sequence(self) -> Option<Sequence> {
        match self {
            Self::Parse(sequence)
            | Self::OwnParse(sequence)
            | Self::TriedParse(sequence)
            | Self::Close(sequence)
            | Self::OwnClose(sequence)
            | Self::Answered(_, sequence) => Some(sequence),
            _ => None,
        }
    }
}

/// How the proxy answers a message that it has not sent to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnAnswer {
    /// ParseComplete; in a failed transaction, the error that says so.
    ParseComplete,
    /// ParseComplete, for a statement that ends a transaction: in a failed one, too.
    ParseCompleteAlways,
    /// CloseComplete.
    CloseComplete,
    /// The error that a statement gets in a failed transaction.
    FailedTransaction,
}

/// Why the proxy refuses a message of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It would keep the server connection.
    Pin(PinReason),
    /// What the client knows of its statement's result is out of date.
    Outdated,
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
    /// A row of an audit's answer.
    AuditRow,
    /// An audit failed.
    AuditFailed,
    /// An audit is over.
    AuditDone,
    /// An error that stands for a refusal of the proxy's own.
    Refused(Refused),
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
    /// Number of the last message that changes what statements there are.
    sequence: Sequence,
    /// The last of these that was answered.
    answered: Sequence,
    /// What was not run because of an error.
    voided: Option<Voided>,
    /// The last error has answered this Bind.
    failed_bind: Option<u32>,
    /// Number of the batch that is being sent.
    batch: u32,
    /// Number of the batch that is being answered.
    answering: u32,
}

/// After an error: messages that change what statements there are and that were not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voided {
    /// The last of them; the first is the one behind [`Ledger::answered`].
    pub through: Sequence,
    /// The one that has failed itself, if it is one of these.
    pub failed: Option<Sequence>,
}

/// Messages that were sent, to be sent again.
#[derive(Debug, Default)]
pub struct Messages(Vec<Sent>);

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
            sequence: 0,
            answered: 0,
            voided: None,
            failed_bind: None,
            batch: 0,
            answering: 0,
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
        let ends = |sent: &&Sent| {
            matches!(sent, Sent::Query | Sent::RefusedQuery(_) | Sent::FunctionCall | Sent::Sync)
        };
        self.sent.iter().filter(ends).count()
    }

    /// When a message that is sent now, and changes what statements there are, would be sent.
    pub fn next_moment(&mut self) -> Moment {
        self.sequence = self.sequence.wrapping_add(1);
        Moment { sequence: self.sequence, batch: self.batch }
    }

    /// Number of the batch that is being sent: it goes up with each message that ReadyForQuery answers.
    #[inline]
    pub fn batch(&self) -> u32 {
        self.batch
    }

    /// Number of the batch that is being answered.
    pub fn answering(&self) -> u32 {
        self.answering
    }

    /// The last message that changes what statements there are, and was answered.
    #[inline]
    pub fn answered(&self) -> Sequence {
        self.answered
    }

    /// What an error has kept from being run.
    #[inline]
    pub fn take_voided(&mut self) -> Option<Voided> {
        self.voided.take()
    }

    /// A message of the client's goes to the server. `first` is the first byte of a Describe's body.
    #[inline]
    pub fn sent(&mut self, kind: u8, first: Option<u8>) {
        if self.skipping {
            // The server drops all of this unseen; only the Sync ends it.
            if kind == tag::SYNC {
                self.skipping = false;
                self.push(Sent::Sync);
            }
            return;
        }
        let sent = match kind {
            tag::QUERY => Sent::Query,
            tag::SYNC if self.copying_in => return,
            tag::SYNC => Sent::Sync,
            tag::PARSE => Sent::Parse(self.next_moment().sequence),
            tag::BIND => Sent::Bind(0),
            tag::EXECUTE => Sent::Execute,
            tag::DESCRIBE if first == Some(b'S') => Sent::DescribeStatement,
            tag::DESCRIBE => Sent::DescribePortal,
            tag::CLOSE => Sent::Close(self.next_moment().sequence),
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
        self.push(sent);
    }

    #[inline]
    fn push(&mut self, sent: Sent) {
        let ends = ends_batch(sent);
        self.unsynced = !ends;
        self.batch = self.batch.wrapping_add(u32::from(ends));
        self.sent.push_back(sent);
    }

    /// The client's Parse goes to the server, at a moment that it was given.
    pub fn sent_parse(&mut self, at: Moment) {
        self.push(Sent::Parse(at.sequence));
    }

    /// The client's Close goes to the server, at a moment that it was given.
    pub fn sent_close(&mut self, at: Moment) {
        self.push(Sent::Close(at.sequence));
    }

    /// The client's Bind goes to the server, for one of its statements that has another name there.
    pub fn sent_bind(&mut self, tail: u32) {
        self.push(Sent::Bind(tail));
    }

    /// What the last error has answered, if it is a Bind: as it was given to [`Ledger::sent_bind`].
    pub fn failed_bind(&self) -> Option<u32> {
        self.failed_bind
    }

    /// A Parse of the proxy's own goes to the server.
    pub fn sent_own_parse(&mut self, at: Moment) {
        self.push(Sent::OwnParse(at.sequence));
    }

    /// A Parse of the proxy's own that may fail goes to the server, and a Sync behind it.
    pub fn sent_tried_parse(&mut self, at: Moment) {
        self.push(Sent::TriedParse(at.sequence));
        self.push(Sent::OwnSync);
    }

    /// A Close of the proxy's own goes to the server.
    pub fn sent_own_close(&mut self, at: Moment) {
        self.push(Sent::OwnClose(at.sequence));
    }

    /// A message of the client's does not go to the server: the proxy answers it when [`Ledger::due`] says so.
    pub fn answers(&mut self, answer: OwnAnswer, at: Moment) {
        self.push(Sent::Answered(answer, at.sequence));
    }

    /// In the place of a message of the client's, one goes to the server that it will answer with an error.
    pub fn sent_refused(&mut self, kind: u8, reason: Refused) {
        self.push(if kind == tag::QUERY { Sent::RefusedQuery(reason) } else { Sent::RefusedParse(reason) });
    }

    /// A simple query of the proxy's own goes to the server.
    pub fn sent_injected(&mut self) {
        self.push(Sent::Injected);
    }

    /// A simple query of the proxy's own goes to the server; it is no matter if it fails.
    pub fn sent_spoil(&mut self) {
        self.push(Sent::Spoil);
    }

    /// A simple query of the proxy's own goes to the server, whose rows are wanted.
    pub fn sent_audit(&mut self) {
        self.push(Sent::Audit);
    }

    /// What the proxy is to answer now, if it is its turn. To be asked before each reply is looked at.
    #[inline]
    pub fn due(&mut self) -> Option<OwnAnswer> {
        match self.sent.front() {
            Some(&Sent::Answered(answer, sequence)) => self.own_answer(answer, sequence),
            _ => None,
        }
    }

    fn own_answer(&mut self, answer: OwnAnswer, sequence: Sequence) -> Option<OwnAnswer> {
        self.sent.pop_front();
        if answer != OwnAnswer::ParseComplete || self.status != Status::Failed {
            self.answered = sequence;
            return Some(answer);
        }
        // The transaction has failed since the message was taken. What follows it in its batch fails at the server, and that
        // error is this message's, too.
        self.voided = Some(Voided { through: sequence, failed: None });
        match self.sent.front() {
            Some(Sent::Sync | Sent::OwnSync) | None => Some(OwnAnswer::FailedTransaction),
            Some(_) => self.due(),
        }
    }

    /// The server has nothing to answer, and the proxy has: no reply will come that it could be sent along with.
    #[inline]
    pub fn has_only_own_answers(&self) -> bool {
        !self.sent.is_empty() && self.sent.iter().all(|sent| matches!(sent, Sent::Answered(..)))
    }

    /// The client is gone: what the proxy would have answered is of no interest.
    pub fn forget_own_answers(&mut self) {
        self.sent.retain(|sent| !matches!(sent, Sent::Answered(..)));
    }

    /// How many messages are not answered.
    pub fn unanswered(&self) -> usize {
        self.sent.len()
    }

    /// What is sent and not answered behind the first `ahead` messages, if it is one batch that ends in a Sync. To be kept in `messages`, whose memory is
    /// used again.
    pub fn one_batch(&self, ahead: usize, messages: &mut Messages) -> bool {
        messages.0.clear();
        let sent = self.sent.iter().skip(ahead);
        // What the proxy answers itself at the very beginning is answered by the time that anything fails.
        messages.0.extend(sent.skip_while(|sent| matches!(sent, Sent::Answered(..))));
        if messages.0.iter().any(|sent| matches!(sent, Sent::Answered(..))) {
            return false;
        }
        let syncs = messages.0.iter().filter(|sent| ends_batch(**sent)).count();
        syncs == 1 && messages.0.last() == Some(&Sent::Sync)
    }

    /// A batch has failed, and is sent again: its Sync's reply is not for the client.
    pub fn swallow_sync(&mut self) -> bool {
        match self.sent.front_mut() {
            Some(sync @ Sent::Sync) => {
                *sync = Sent::OwnSync;
                true
            }
            _ => false,
        }
    }

    /// Messages are sent again.
    pub fn sent_again(&mut self, messages: &Messages) {
        for sent in &messages.0 {
            let sequence = self.next_moment().sequence;
            self.push(match sent {
                Sent::Parse(_) => Sent::Parse(sequence),
                Sent::OwnParse(_) => Sent::OwnParse(sequence),
                Sent::Close(_) => Sent::Close(sequence),
                Sent::OwnClose(_) => Sent::OwnClose(sequence),
                other => *other,
            });
        }
    }

    /// A reply was read. `body` is needed of ReadyForQuery (its status) and ErrorResponse (its SQLSTATE).
    #[inline]
    pub fn reply(&mut self, kind: u8, body: &[u8]) -> Verdict {
        while matches!(self.sent.front(), Some(Sent::CopyEnd | Sent::Answered(..))) {
            self.sent.pop_front();
        }
        match (kind, self.sent.front()) {
            // The client has had it when it prepared the statement itself.
            (tag::NOTICE_RESPONSE, Some(Sent::OwnParse(_) | Sent::TriedParse(_))) => Verdict::Swallow,
            (
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS,
                Some(Sent::Injected | Sent::Audit | Sent::Spoil),
            ) => Verdict::Swallow,
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
            (Sent::Parse(_) | Sent::OwnParse(_) | Sent::TriedParse(_), tag::PARSE_COMPLETE)
            | (Sent::Bind(_), tag::BIND_COMPLETE)
            | (Sent::Close(_) | Sent::OwnClose(_), tag::CLOSE_COMPLETE)
            | (Sent::DescribeStatement | Sent::DescribePortal, tag::ROW_DESCRIPTION | tag::NO_DATA)
            | (Sent::Execute, tag::COMMAND_COMPLETE | tag::EMPTY_QUERY_RESPONSE | tag::PORTAL_SUSPENDED) => {
                true
            }
            (Sent::DescribeStatement, tag::PARAMETER_DESCRIPTION)
            | (Sent::FunctionCall, tag::FUNCTION_CALL_RESPONSE)
            | (
                Sent::Query | Sent::Injected | Sent::Audit,
                tag::ROW_DESCRIPTION | tag::EMPTY_QUERY_RESPONSE,
            )
            | (Sent::Query | Sent::Injected | Sent::Audit | Sent::Spoil, tag::COMMAND_COMPLETE)
            | (Sent::Query | Sent::Injected | Sent::Audit | Sent::Execute, tag::DATA_ROW)
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
            self.answered = head.sequence().unwrap_or(self.answered);
        }
        match head {
            Sent::Audit if kind == tag::DATA_ROW => Verdict::AuditRow,
            Sent::Injected
            | Sent::Audit
            | Sent::Spoil
            | Sent::OwnParse(_)
            | Sent::TriedParse(_)
            | Sent::OwnClose(_) => Verdict::Swallow,
            _ => Verdict::Forward,
        }
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
                Sent::Sync => {
                    self.sent.remove(1);
                    // It counts as a batch, and ReadyForQuery does not answer it.
                    self.answering = self.answering.wrapping_add(1);
                }
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
        self.failed_bind = if let Sent::Bind(tail) = head { Some(tail) } else { None };
        match head {
            Sent::Injected => return Verdict::InjectedFailed,
            Sent::Audit => return Verdict::AuditFailed,
            Sent::Spoil => return Verdict::Swallow,
            Sent::RefusedQuery(reason) => return Verdict::Refused(reason),
            Sent::Query if was_copying && self.sent.len() > 1 && sqlstate(body) == Some(b"08P01") => {
                // "unexpected message type during COPY from stdin": the message that broke the copy is used up by it.
                self.sent.remove(1);
            }
            // Its ReadyForQuery follows.
            Sent::Query | Sent::FunctionCall | Sent::Sync | Sent::OwnSync | Sent::CopyEnd => {}
            Sent::Answered(..) => return Verdict::OutOfStep,
            Sent::Parse(_)
            | Sent::RefusedParse(_)
            | Sent::OwnParse(_)
            | Sent::TriedParse(_)
            | Sent::Bind(_)
            | Sent::DescribeStatement
            | Sent::DescribePortal
            | Sent::Execute
            | Sent::Close(_)
            | Sent::OwnClose(_) => self.skip_batch(),
        }
        match head {
            Sent::RefusedParse(reason) => Verdict::Refused(reason),
            Sent::TriedParse(_) => Verdict::Swallow,
            _ => Verdict::Forward,
        }
    }

    /// Nothing up to the next Sync is run.
    fn skip_batch(&mut self) {
        let failed = self.sent.front().and_then(|sent| sent.sequence());
        while let Some(sent) = self.sent.front().filter(|sent| !matches!(sent, Sent::Sync | Sent::OwnSync)) {
            if let Some(through) = sent.sequence() {
                self.voided = Some(Voided { through, failed });
            }
            // A Query behind an error and before the Sync counts as a batch, and ReadyForQuery does not answer it.
            self.answering = self.answering.wrapping_add(u32::from(ends_batch(*sent)));
            self.sent.pop_front();
        }
        self.skipping = self.sent.is_empty();
    }

    fn ready(&mut self, head: Sent, body: &[u8]) -> Verdict {
        self.status = match body {
            b"I" => Status::Idle,
            b"T" => Status::InTransaction,
            b"E" => Status::Failed,
            _ => return Verdict::OutOfStep,
        };
        if !ends_batch(head) {
            return Verdict::OutOfStep;
        }
        self.sent.pop_front();
        self.answering = self.answering.wrapping_add(1);
        // An end of copy that nobody waited for leaves no reply; it must not keep the connection.
        while self.sent.front() == Some(&Sent::CopyEnd) {
            self.sent.pop_front();
        }
        match head {
            Sent::Audit => Verdict::AuditDone,
            Sent::Injected | Sent::Spoil | Sent::OwnSync => Verdict::Swallow,
            _ => Verdict::Forward,
        }
    }
}

/// Whether ReadyForQuery answers it, and the implicit transaction is over.
#[inline]
fn ends_batch(sent: Sent) -> bool {
    matches!(
        sent,
        Sent::Query
            | Sent::RefusedQuery(_)
            | Sent::Injected
            | Sent::Audit
            | Sent::Spoil
            | Sent::FunctionCall
            | Sent::Sync
            | Sent::OwnSync
    )
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
