//! A client that is logged in: between its messages, in the queue, or with a server connection.
//!
//! One task per client, and in it one hand-written poll function: buffers are borrowed from the thread for the length of
//! one poll, so a client that is idle holds none, and nothing on the way of a query allocates or switches tasks.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::active::Active;
use super::desk::DISCARD_SEQUENCES;
use super::door::Seat;
use super::function::{self, Standing};
use super::limited::Counted;
use super::refusal;
use super::relay::needs_more;
use super::roster::Member;
use super::traced;
use crate::guard::{Home, ShedReason};
use crate::net::{Inbox, Outbox, Stream};
use crate::obs::Shed;
use crate::pool::{Checkout, Lease, Pool, Refused, WaitEnd, Waiting};
use crate::proto::messages::{self, Report};
use crate::proto::parameters::Parameters;
use crate::proto::statements::{ClientStatements, named};
use crate::server::query;
use crate::trace::{Ending, Transaction};
use crate::wire::{FrameStream, Next, Side, Violation, tag};

thread_local! {
    /// The chunk that is being looked at, of whichever client this thread deals with.
    pub(super) static CHUNK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sets the size in bytes of this thread's buffer. To be called once by each I/O thread before it runs sessions.
pub fn size_buffer(bytes: usize) {
    CHUNK.with_borrow_mut(|chunk| chunk.resize(bytes, 0));
}

/// Most bytes of a waiting client's messages that are kept; what more it sends stays in its socket.
const LONGEST_BACKLOG: usize = 16 * 1024;
/// How often a client that is not read is looked after: its end does not show behind what is not read.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// A Describe is wanted whole: its first byte tells what its reply will be. PostgreSQL's limit for it is 10 000 bytes.
const LONGEST_DESCRIBE: usize = 10_001;
/// Leaves a server connection in a failed transaction: PostgreSQL itself then says what it has to say until ROLLBACK. The
/// savepoint's name is for who reads PostgreSQL's log.
const SPOIL: &str = "BEGIN; ROLLBACK TO SAVEPOINT pgcorral_has_ended_this_transaction";

/// A client that is logged in.
pub struct Session {
    pub(super) stream: Stream,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    pub(super) state: State,
    pub(super) member: Member,
    pub(super) pool: Arc<Pool>,
    pub(super) seat: Seat,
    /// The run-time parameters that its server connection shall have.
    pub(super) wanted: Arc<Parameters>,
    /// Those that it logged in with.
    pub(super) login: Arc<Parameters>,
    /// The function that it belongs to, by its current `application_name`.
    pub(super) function: Arc<str>,
    /// To be said instead of serving its next message.
    pub(super) pending: Option<Box<Report>>,
    /// The statements that it has prepared, if any.
    pub(super) statements: Option<Box<ClientStatements>>,
    /// Since when it has no server connection.
    pub(super) idle_since: Instant,
    /// Since when it has taken none of what there is for it.
    pub(super) stalled_since: Option<Instant>,
    /// Bytes of its that are counted in the spool.
    pub(super) spooled: usize,
    pub(super) home: Home,
    /// What the gate knows it by.
    pub(super) standing: Standing,
    /// As what its transactions are counted.
    pub(super) counted: Box<Counted>,
    /// What may have to be recorded of its transaction. None: nothing is traced.
    pub(super) trace: Option<Box<Transaction>>,
    /// The function is that of a tag.
    pub(super) is_tagged: bool,
    /// An error was reported; everything up to the next Sync is ignored.
    pub(super) skipping: bool,
    /// Its task can be woken by the roster.
    pub(super) registered: bool,
    /// It sent Terminate while a statement was running.
    pub(super) leaving: bool,
    /// The proxy has ended its transaction: to the client it is failed until it says ROLLBACK.
    pub(super) failed: bool,
}

/// Where a session stands.
pub(super) enum State {
    /// Outside a transaction, without a server connection.
    Idle,
    /// The same; what is kept of its messages was waiting for the answer of a server connection that is gone.
    GoesOn,
    /// In the queue.
    Waiting(Box<Queued>),
    /// With a server connection.
    Active(Active),
}

/// A client in the queue.
pub(super) struct Queued {
    waiting: Waiting,
    /// What it has sent so far, from a message's start.
    backlog: Vec<u8>,
    /// Set once the backlog is full.
    look: Option<Pin<Box<Sleep>>>,
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client sent Terminate.
    Terminated,
    /// The client's connection ended or broke.
    ClientLeft,
    /// The client broke the protocol.
    Violation(Violation),
    /// This is to be said to the client, and no more.
    Fatal(Box<Report>),
    /// Nothing can be said any more: a message to the client is half sent.
    MidMessage,
    /// The client takes nothing of what there is for it, so nothing can be said either.
    Stalled,
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

pub(super) type Step = Result<(), End>;

impl Session {
    pub(super) fn new(
        stream: Stream,
        member: Member,
        seat: Seat,
        wanted: Arc<Parameters>,
        home: Home,
    ) -> Self {
        let function = function::name(seat.door(), &wanted, &seat.pool().params.user);
        let standing = Standing::of(seat.pool(), &function, &wanted);
        let trace = traced::notes(seat.door(), &wanted);
        Self {
            trace,
            stream,
            function,
            inbox: Inbox::new(Side::Client),
            outbox: Outbox::default(),
            state: State::Idle,
            member,
            pool: Arc::clone(seat.pool()),
            login: Arc::clone(&wanted),
            standing,
            counted: Box::new(Counted::nothing()),
            is_tagged: false,
            wanted,
            pending: None,
            statements: None,
            idle_since: Instant::now(),
            stalled_since: None,
            spooled: 0,
            seat,
            home,
            skipping: false,
            registered: false,
            leaving: false,
            failed: false,
        }
    }

    /// Runs the session; ready with the reason of its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if self.seat.door().is_draining() {
                // Being woken for the drain has used its waker up, and what takes too long still does.
                self.member.waker.register(cx.waker());
            }
            if self.member.take_overdue(cx)
                && let Err(end) = self.overdue(cx, Instant::now())
            {
                return Poll::Ready(end);
            }
            let step = match self.state {
                State::Idle | State::GoesOn => self.poll_idle(cx),
                State::Waiting(_) => self.poll_waiting(cx),
                State::Active(_) => self.poll_active(cx),
            };
            if let Err(end) = ready!(step) {
                return Poll::Ready(end);
            }
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        ready!(self.poll_spool(cx))?;
        if self.seat.door().is_draining() {
            return Poll::Ready(Err(self.going_down()));
        }
        if matches!(self.state, State::GoesOn) {
            self.state = State::Idle;
            let kept = self.inbox.take_kept();
            return Poll::Ready(self.from_idle_client(cx, &kept));
        }
        CHUNK.with_borrow_mut(|chunk| {
            let bytes = ready!(self.poll_client(cx, chunk))?;
            Poll::Ready(self.from_idle_client(cx, bytes))
        })
    }

    /// The next bytes of the client.
    pub(super) fn poll_client<'a>(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &'a mut [u8],
    ) -> Poll<Result<&'a [u8], End>> {
        match ready!(self.inbox.poll_chunk(&mut self.stream, cx, chunk)) {
            Ok(Some(read)) => {
                self.pool.metrics.received(read as u64);
                Poll::Ready(Ok(chunk.get(..read).unwrap_or_default()))
            }
            Ok(None) | Err(_) => Poll::Ready(Err(End::ClientLeft)),
        }
    }

    /// Messages from a client that has no server connection: answers what needs none, and gets one for the rest.
    pub(super) fn from_idle_client(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Step {
        let mut at = self.inbox.frames.resume(bytes);
        let mut reply = vec![];
        loop {
            // A message that is wanted whole does not get a server connection before it is.
            let frame = match self.inbox.frames.next_unless(bytes, at, needs_more)? {
                Next::Frame(frame) => frame,
                Next::End => break,
                Next::Keep(from) => {
                    self.inbox.keep(bytes.get(from..).unwrap_or_default());
                    break;
                }
            };
            at = frame.end;
            match frame.tag {
                tag::TERMINATE => return Err(End::Terminated),
                tag::PASSWORD => return Err(Violation::UnknownType(tag::PASSWORD).into()),
                // Outside a transaction a Sync has nothing to end, so no server needs to hear of it.
                tag::SYNC => {
                    self.skipping = false;
                    if let Some(report) = self.pending.take() {
                        messages::error_response(&mut reply, &report);
                    }
                    messages::ready_for_query(&mut reply, self.status());
                }
                _ if self.skipping => {}
                // As PostgreSQL does outside a COPY.
                tag::FLUSH | tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
                tag::QUERY
                    if self.failed
                        && self.pending.is_none()
                        && frame.whole
                        && ends_transaction(frame.body(bytes)) =>
                {
                    self.failed = false;
                    messages::command_complete(&mut reply, "ROLLBACK");
                    messages::ready_for_query(&mut reply, self.status());
                }
                tag::CLOSE if self.closes_without_server(frame.body(bytes)) => {
                    messages::bare(&mut reply, tag::CLOSE_COMPLETE);
                }
                kind => {
                    let rest = bytes.get(frame.start..).unwrap_or_default();
                    match self.begin(cx, rest, &mut reply)? {
                        None => return Ok(()),
                        Some(report) => self.refuse(kind, &report, &mut reply),
                    }
                }
            }
        }
        self.write_client(cx, &reply)
    }

    /// The transaction status that the client is told while it has no server connection.
    fn status(&self) -> u8 {
        if self.failed { b'E' } else { b'I' }
    }

    /// A statement is closed that no server has to hear of: it is the client's name for it that goes.
    fn closes_without_server(&mut self, body: &[u8]) -> bool {
        let follows = self.pool.params.session.statements.max_per_server > 0;
        let Some((b'S', name)) = named(body).filter(|_| follows && self.pool.gives_back_after_transaction())
        else {
            return false;
        };
        match &mut self.statements {
            Some(statements) if name.is_empty() => statements.end_unnamed(),
            Some(statements) => statements.remove(name),
            None => {}
        }
        true
    }

    /// A transaction begins with `bytes`. Returns what the client is to be told if it is not admitted.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Option<Report>, End> {
        if let Some(report) = self.pending.take() {
            return Ok(Some(*report));
        }
        self.write_client(cx, &std::mem::take(reply))?;
        let now = Instant::now();
        // Also one that is refused has had something to do.
        self.member.asks(now);
        if !self.seat.door().params.functions.tags.is_empty() {
            self.look_for_tag(bytes);
        }
        if self.trace.is_some() {
            self.trace_begins(now, bytes);
        }
        if let Some(report) = self.over_limit(now) {
            return Ok(Some(report));
        }
        let caller = self.caller();
        match self.pool.checkout(now, &caller) {
            Checkout::Shed(refused) => return Ok(Some(self.shed(refused))),
            Checkout::Granted(lease) => self.start(cx, lease, now, bytes)?,
            Checkout::Queued(waiting) => {
                self.member.waits(waiting.canceller());
                if let Some(trace) = &mut self.trace {
                    trace.waits();
                }
                self.state = State::Waiting(Box::new(Queued { waiting, backlog: vec![], look: None }));
                self.inbox.frames = FrameStream::new(Side::Client);
                self.to_backlog(bytes)?;
            }
        }
        Ok(None)
    }

    fn shed(&mut self, refused: Refused) -> Report {
        self.is_shed(Shed::from(refused.reason));
        let door = self.seat.door();
        refusal::shed(&refused, &self.pool, door.jitter.spread(refused.retry_after))
    }

    /// The proxy drains, and this client is between transactions.
    pub(super) fn going_down(&self) -> End {
        let retry_after = self.seat.door().jitter.spread(self.pool.retry_after(ShedReason::Draining));
        End::Fatal(Box::new(refusal::going_down(retry_after)))
    }

    /// Reports an error in place of the message's reply, once up to the Sync that ends its batch.
    fn refuse(&mut self, kind: u8, report: &Report, reply: &mut Vec<u8>) {
        messages::error_response(reply, report);
        match kind {
            tag::QUERY | tag::FUNCTION_CALL => messages::ready_for_query(reply, self.status()),
            _ => self.skipping = true,
        }
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let State::Waiting(queued) = &mut self.state else { return Poll::Ready(Ok(())) };
        if let Poll::Ready(end) = queued.waiting.poll_end(cx) {
            return Poll::Ready(self.wait_ended(cx, end));
        }
        if let Poll::Ready(step) = self.poll_spool(cx) {
            step?;
        }
        let State::Waiting(queued) = &mut self.state else { return Poll::Ready(Ok(())) };
        // It is read all the same: a client that leaves, leaves the queue.
        if queued.backlog.len() >= LONGEST_BACKLOG {
            let look = queued.look.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK)));
            while look.as_mut().poll(cx).is_ready() {
                if self.stream.is_read_closed() {
                    return Poll::Ready(Err(End::ClientLeft));
                }
                look.as_mut().reset(tokio::time::Instant::now() + LOOK);
            }
            return Poll::Pending;
        }
        CHUNK.with_borrow_mut(|chunk| {
            let bytes = ready!(self.poll_client(cx, chunk))?;
            Poll::Ready(self.to_backlog(bytes))
        })
    }

    /// More messages of a client in the queue. Terminate ends its wait, and nothing of what it sent before is run.
    fn to_backlog(&mut self, bytes: &[u8]) -> Step {
        let State::Waiting(queued) = &mut self.state else { return Ok(()) };
        let mut at = self.inbox.frames.resume(bytes);
        loop {
            match self.inbox.frames.next(bytes, at, LONGEST_DESCRIBE, is_describe)? {
                Next::Frame(frame) if frame.tag == tag::TERMINATE => return Err(End::Terminated),
                Next::Frame(frame) => at = frame.end,
                Next::End => break,
                Next::Keep(from) => {
                    self.inbox.keep(bytes.get(from..).unwrap_or_default());
                    break;
                }
            }
        }
        queued.backlog.extend_from_slice(bytes.get(..at).unwrap_or_default());
        Ok(())
    }

    fn wait_ended(&mut self, cx: &mut Context<'_>, end: WaitEnd) -> Step {
        let State::Waiting(queued) = std::mem::replace(&mut self.state, State::Idle) else { return Ok(()) };
        // The backlog is gone through again from its start; what was kept behind it stays kept.
        self.inbox.frames = FrameStream::new(Side::Client);
        match end {
            WaitEnd::Granted(lease) => {
                let since = lease.since();
                self.trace_looks_at(&queued.backlog);
                return self.start(cx, lease, since, &queued.backlog);
            }
            WaitEnd::Shed(refused) => self.pending = Some(Box::new(self.shed(refused))),
            WaitEnd::Cancelled => {
                self.trace_ends(Instant::now(), Ending::Broken("cancelled"));
                self.pending = Some(Box::new(refusal::cancelled()));
            }
        }
        self.member.rests(Instant::now());
        self.from_idle_client(cx, &queued.backlog)
    }

    /// A server connection is here: brings it to the client's parameters and passes on what the client has sent, in one
    /// write.
    fn start(&mut self, cx: &mut Context<'_>, mut lease: Lease, now: Instant, bytes: &[u8]) -> Step {
        self.member.runs(&lease.cancel);
        if self.trace.is_some() {
            self.trace_is_granted(now);
        }
        self.inbox.frames = FrameStream::new(Side::Client);
        let mut front = vec![];
        for name in std::mem::take(&mut lease.debris) {
            lease.own_close(&mut front, &name);
        }
        if let Some(sql) = lease.change_to(&self.wanted) {
            lease.ledger.sent_injected();
            query(&mut front, &sql);
        }
        let mut active = Active::new(lease, now, self.member.process_id);
        if active.foreign && self.pool.pinned.reads_sequences() {
            active.foreign = false;
            active.lease.ledger.sent_spoil();
            query(&mut front, DISCARD_SEQUENCES);
        }
        if std::mem::take(&mut self.failed) {
            active.lease.ledger.sent_spoil();
            query(&mut front, SPOIL);
        }
        self.state = State::Active(active);
        self.watch_running(now);
        self.forward(cx, bytes, Some(front))
    }

    pub(super) fn write_client(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Step {
        if bytes.is_empty() {
            return Ok(());
        }
        self.pool.metrics.sent(bytes.len() as u64);
        self.outbox.write(&mut self.stream, cx, bytes).map_err(|_| End::ClientLeft)?;
        self.account_spool();
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.seat.door().spool.account(&mut self.spooled, 0);
        self.standing.leave(&self.pool);
    }
}

/// Whether a Query message does no more than end a transaction. One that the proxy has ended is so for the client alone: nobody
/// has to wait for a server connection in order to say so.
fn ends_transaction(body: &[u8]) -> bool {
    let text = body.strip_suffix(b"\0").unwrap_or(body).trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text).trim_ascii();
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let is = |word: Option<&[u8]>, known: &[&str]| {
        word.is_some_and(|word| known.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
    };
    let ends = is(words.next(), &["rollback", "abort", "commit", "end"]);
    let rest = words.next();
    ends && (rest.is_none() || is(rest, &["work", "transaction"])) && words.next().is_none()
}

/// Whether a message is wanted whole.
#[inline]
fn is_describe(kind: u8) -> bool {
    kind == tag::DESCRIBE
}

#[cfg(test)]
mod tests {
    use super::ends_transaction;

    #[test]
    fn what_ends_a_transaction_and_does_no_more() {
        for text in ["rollback", " ROLLBACK ; ", "commit work;", "Abort\ttransaction", "end"] {
            assert!(ends_transaction(format!("{text}\0").as_bytes()), "{text}");
        }
        for text in
            ["rollback to a", "rollback; select 1", "commit prepared 'x'", "rollback and chain", "", ";"]
        {
            assert!(!ends_transaction(format!("{text}\0").as_bytes()), "{text}");
        }
    }
}
