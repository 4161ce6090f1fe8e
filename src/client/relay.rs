//! A client with a server connection: messages and replies pass between the two.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::active::{Active, Clearing};
use super::class;
use super::desk::{Desk, Taken};
use super::ending::give_back;
use super::outgoing::Outgoing;
use super::replies::own_answer;
use super::session::{CHUNK, End, Session, State, Step};
use crate::pool::Reset;
use crate::proto::ledger::Status;
use crate::proto::statements::BindParts;
use crate::server::{Fate, Owed, query};
use crate::wire::{Header, Next, Violation, tag};

/// Longest message that is looked into; a longer one passes in pieces. The least `pkt_buf`.
const LONGEST: usize = 16 * 1024;
/// How much of the beginning of a longer message is looked at; longer names are not found.
const LONGEST_NAMES: usize = 8 * 1024;
/// A buffer for rewritten messages that has become larger than this is not kept.
const MOST_KEPT: usize = 64 * 1024;

thread_local! {
    /// Memory for rewritten messages.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Whether more of a message has to come before it is looked at; `part` is what is there of its body.
#[inline]
pub(super) fn needs_more(Header { tag, total }: Header, part: &[u8]) -> bool {
    match tag {
        tag::QUERY | tag::PARSE | tag::DESCRIBE | tag::CLOSE if total <= LONGEST => true,
        tag::BIND => part.len() < LONGEST_NAMES && BindParts::of(part).is_none(),
        // Enough to see what it begins with.
        tag::QUERY | tag::PARSE => part.len() < LONGEST_NAMES,
        _ => false,
    }
}

impl Session {
    /// Passes messages of the client on to its server. `front`, if its server connection is new, goes before them in the
    /// same write.
    pub(super) fn forward(&mut self, cx: &mut Context<'_>, bytes: &[u8], front: Option<Vec<u8>>) -> Step {
        let settled = matches!(&self.state, State::Active(active) if active.lease.ledger.is_settled());
        let continues = front.is_none() && !settled;
        let frames = self.inbox.frames;
        let is_looked_at = front.is_some();
        let mut front = match front {
            Some(front) => front,
            // Nothing goes into the middle of a message, not even of one that PostgreSQL does not answer.
            None if frames.is_passing() => vec![],
            None => self.request_begins(),
        };
        if self.trace.is_some() && !is_looked_at && !frames.is_passing() {
            self.trace_looks_at(bytes);
        }
        let State::Active(active) = &mut self.state else { return Ok(()) };
        if !continues && self.pool.adaptive.is_on() {
            active.lease.class = class::of(bytes);
        }
        let ahead = active.lease.ledger.unanswered();
        if front.is_empty() {
            front = SCRATCH.take();
        }
        let before = front.len();
        let mut out = Outgoing::new(bytes, frames, front);
        let broken = self.look_through(&mut out).err();
        self.inbox.frames = out.frames();
        let State::Active(Active { lease, stalled, .. }) = &mut self.state else { return Ok(()) };
        // What the ledger has noted has to be sent, also in front of a violation.
        let server = &mut **lease;
        let passing = out.frames().is_passing();
        let message = out.sent();
        debug_assert_eq!(
            frames.passed(message).map(|to| to.is_passing()),
            Some(passing),
            "what is sent is no messages"
        );
        if !*stalled && !continues && !passing && broken.is_none() {
            server.replay.keep(&server.ledger, ahead, message.get(before..).unwrap_or_default());
        }
        // A server that is gone is noticed by the read that follows, which may still bring its last words.
        let _ = server.outbox.write(&mut server.stream, cx, message);
        give_scratch_back(out.into_memory());
        if let Some(violation) = broken {
            return Err(violation.into());
        }
        self.answer_alone(cx)?;
        let State::Active(Active { lease, stalled, .. }) = &self.state else { return Ok(()) };
        if *stalled {
            self.watch(Instant::now());
        }
        // Without a Sync or the end of a COPY before its Terminate, there is nothing to wait for.
        if self.leaving && !lease.ledger.is_running() { Err(End::Terminated) } else { Ok(()) }
    }

    /// Looks at each message of a chunk: what is to be sent is behind that in `out`.
    fn look_through(&mut self, out: &mut Outgoing<'_>) -> Result<(), Violation> {
        let State::Active(active) = &mut self.state else { return Ok(()) };
        active.lease.replay.begin();
        if !out.piece().is_empty() {
            active.passes(out.piece());
        }
        let cache = &self.seat.door().statements;
        let statements = &mut self.statements;
        let (wanted, logs_in_with) = (&self.wanted, !self.login.is_empty());
        let mut desk = Desk { active, statements, pool: &self.pool, cache, wanted, logs_in_with };
        loop {
            match out.next(needs_more)? {
                // PostgreSQL, too, looks at it only once it has done what came before.
                Next::Frame(frame) if frame.tag == tag::TERMINATE => {
                    self.leaving = true;
                    return Ok(());
                }
                Next::Frame(frame) if frame.tag == tag::PASSWORD => {
                    return Err(Violation::UnknownType(tag::PASSWORD));
                }
                Next::Frame(frame) => {
                    if desk.take(out, frame) == Taken::Stall {
                        desk.active.stalled = true;
                        self.inbox.keep(out.put_back(frame));
                        return Ok(());
                    }
                    out.passed(frame);
                }
                Next::End => return Ok(()),
                Next::Keep(from) => {
                    self.inbox.keep(out.left(from));
                    return Ok(());
                }
            }
        }
    }

    /// The client sends on a server connection that it has already: what is to go in front of it.
    fn request_begins(&mut self) -> Vec<u8> {
        let mut front = vec![];
        let State::Active(active) = &mut self.state else { return front };
        let lease = &mut active.lease;
        if lease.ledger.unanswered() == 0
            && let Some(extra) = active.extra.as_deref_mut()
        {
            extra.clearing = Clearing::No;
        }
        // In the middle of a batch a simple query would end its implicit transaction.
        if !lease.ledger.is_settled() || lease.ledger.wants_sync() {
            return front;
        }
        let now = Instant::now();
        lease.stays(None);
        active.exec_since = now;
        active.awaits_row = true;
        let begins = lease.ledger.status() == Status::Idle;
        if begins {
            active.transaction_since = now;
        }
        for name in std::mem::take(&mut lease.debris) {
            lease.own_close(&mut front, &name);
        }
        if lease.ledger.status() != Status::Failed
            && !lease.unsure
            && !Arc::ptr_eq(&lease.parameters, &self.wanted)
            && let Some(sql) = lease.change_to(&self.wanted)
        {
            lease.ledger.sent_injected();
            query(&mut front, &sql);
            // A simple query ends the unnamed statement.
            active.unnamed_here = false;
        }
        if begins && self.trace.is_some() {
            self.trace_begins(now, &[]);
        }
        self.watch_running(now);
        front
    }

    /// What the proxy answers by itself, if no reply of the server's will come that it could go along with.
    pub(super) fn answer_alone(&mut self, cx: &mut Context<'_>) -> Step {
        let State::Active(Active { lease, .. }) = &mut self.state else { return Ok(()) };
        if !lease.ledger.has_only_own_answers() {
            return Ok(());
        }
        let mut answers = vec![];
        while let Some(answer) = lease.ledger.due() {
            own_answer(&mut answers, answer);
        }
        self.note_answered();
        self.write_client(cx, &answers)
    }

    pub(super) fn poll_active(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let mut moved = false;
            if let Poll::Ready(step) = self.poll_server(cx) {
                step?;
                moved = true;
            }
            if !matches!(self.state, State::Active(_)) {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(step) = self.poll_client_active(cx) {
                step?;
                moved = true;
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Server to client.
    fn poll_server(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Poll::Ready(step) = self.poll_spool(cx) {
            step?;
        } else if !self.may_spool() {
            return Poll::Pending;
        }
        CHUNK.with_borrow_mut(|chunk| {
            let State::Active(Active { lease, .. }) = &mut self.state else { return Poll::Ready(Ok(())) };
            let server = &mut **lease;
            let read = ready!(server.inbox.poll_chunk(&mut server.stream, cx, chunk));
            Poll::Ready(match read {
                Ok(Some(read)) => self.from_server(cx, chunk.get(..read).unwrap_or_default()),
                Ok(None) => self.server_lost(cx, "The server closed the connection", Fate::Lost),
                Err(error) => self.server_lost(cx, &error.to_string(), Fate::Lost),
            })
        })
    }

    /// Client to server.
    fn poll_client_active(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let State::Active(Active { lease, .. }) = &mut self.state else { return Poll::Ready(Ok(())) };
        let server = &mut **lease;
        if !server.outbox.is_empty() {
            // A broken connection shows when it is read.
            if ready!(server.outbox.poll_drain(&mut server.stream, cx)).is_err() {
                return Poll::Pending;
            }
            if self.settle_between_transactions(cx, Instant::now()) {
                return Poll::Ready(Ok(()));
            }
        }
        let State::Active(active) = &mut self.state else { return Poll::Ready(Ok(())) };
        // What it sends now may depend on the answer to what PostgreSQL is being asked.
        if self.leaving || active.lease.ledger.is_full() || !active.auditing.is_empty() {
            return Poll::Pending;
        }
        if active.stalled {
            if !std::mem::take(&mut active.progress) {
                return Poll::Pending;
            }
            active.stalled = false;
            let kept = self.inbox.take_kept();
            return Poll::Ready(self.forward(cx, &kept, None));
        }
        if self.seat.door().is_draining() && active.lease.ledger.is_free() && self.inbox.at_boundary() {
            return Poll::Ready(Err(self.going_down()));
        }
        CHUNK.with_borrow_mut(|chunk| {
            let bytes = ready!(self.poll_client(cx, chunk))?;
            self.forward(cx, bytes, None)?;
            // What it sent may have been the rest of a message that nobody waited for any more.
            self.settle_between_transactions(cx, Instant::now());
            Poll::Ready(Ok(()))
        })
    }

    /// Gives the server connection back if its transaction is over and has left nothing behind. True if it did.
    pub(super) fn settle_between_transactions(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let State::Active(active) = &mut self.state else { return false };
        let free = active.lease.is_free() && !self.inbox.frames.is_passing();
        if !free || self.leaving || !self.pool.gives_back_after_transaction() {
            return false;
        }
        if !active.suspects.is_empty() {
            self.begin_audit(cx);
            return false;
        }
        if !active.pins.is_empty() || active.stalled {
            return false;
        }
        self.member.rests(now);
        self.idle_since = now;
        if let Some(statements) = &mut self.statements {
            statements.released();
        }
        if let State::Active(active) = std::mem::replace(&mut self.state, State::Idle) {
            if self.pool.params.session.reset == Reset::Always {
                give_back(active, Owed::Finish, false);
            } else {
                active.lease.release(now);
            }
        }
        self.watch_idle(now);
        true
    }
}

fn give_scratch_back(mut memory: Vec<u8>) {
    if memory.capacity() <= MOST_KEPT {
        memory.clear();
        SCRATCH.set(memory);
    }
}
