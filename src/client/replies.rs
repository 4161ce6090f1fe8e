//! What the server says: passed on, kept back, or the end of the connection.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Instant;

use super::active::{Active, SLOT_PATIENCE};
use super::line::line;
use super::refusal::{self, Timeout};
use super::session::{End, Session, State, Step};
use crate::obs::{DestroyReason, Reason, Shed};
use crate::pool::{PoolMode, Stay};
use crate::proto::audit::{Suspects, suspects_of_tag};
use crate::proto::ledger::{OwnAnswer, Refused, Status, Verdict, field, sqlstate};
use crate::proto::messages::{self, Report};
use crate::proto::parameters::{Parameters, is_utf8};
use crate::proto::pin::{PinPolicy, PinReason, Pins};
use crate::proto::statements::{NameBuffer, SERVER_NAME_PREFIX};
use crate::server::{Fate, Used};
use crate::trace::Ending;
use crate::wire::{Frame, Next, tag};

/// Longest ErrorResponse that is looked into; a longer one is passed on unseen.
const LONGEST_REPORT: usize = 16 * 1024;

thread_local! {
    /// Memory for what the proxy answers itself, with the server's replies behind it.
    static AHEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Whether a reply is wanted whole: its body is looked at. Rows are if some of them may be ours.
#[inline]
fn is_telling(kind: u8, rows: bool) -> bool {
    let telling = matches!(
        kind,
        tag::READY_FOR_QUERY | tag::ERROR_RESPONSE | tag::PARAMETER_STATUS | tag::COMMAND_COMPLETE
    );
    telling || rows && kind == tag::DATA_ROW
}

/// What a frame means for the relay.
enum Meaning {
    Pass,
    Keep,
    /// The ReadyForQuery behind a DISCARD ALL.
    Discarded,
    /// The tag of a DEALLOCATE that stands for DEALLOCATE ALL.
    DeallocatedAll,
    /// The client gets this error instead.
    Report(Box<Report>),
    /// The client gets this message instead.
    Instead(Vec<u8>),
    /// PostgreSQL has said what a transaction has left behind.
    Audited,
    /// What is prepared is out of date: the batch is sent again.
    SendAgain,
    Farewell,
    OutOfStep,
    /// The client's parameters could not be set; the server said why.
    ReplayFailed,
}

/// The client's replies of one chunk on their way to it.
struct Incoming<'b> {
    chunk: &'b [u8],
    /// Its bytes that are not written yet begin here.
    from: usize,
    /// To be written before them.
    ahead: Vec<u8>,
}

impl Drop for Incoming<'_> {
    /// Its memory is used again: no more than a chunk and some words.
    fn drop(&mut self) {
        self.ahead.clear();
        AHEAD.set(std::mem::take(&mut self.ahead));
    }
}

impl Session {
    /// Replies of the server: the client's are written on in as few pieces as there are, usually one.
    pub(super) fn from_server(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Step {
        let State::Active(Active { lease, auditing, progress, .. }) = &mut self.state else { return Ok(()) };
        *progress = true;
        let rows = !auditing.is_empty();
        let mut at = lease.inbox.frames.resume(bytes);
        let from = if lease.swallowing { at } else { 0 };
        let mut incoming = Incoming { chunk: bytes, from, ahead: AHEAD.take() };
        loop {
            let State::Active(Active { lease, .. }) = &mut self.state else { return Ok(()) };
            let wanted = |kind| is_telling(kind, rows);
            let frame = match lease.inbox.frames.next(bytes, at, LONGEST_REPORT, wanted) {
                Ok(Next::Frame(frame)) => frame,
                Ok(Next::End) => break,
                Ok(Next::Keep(rest)) => {
                    lease.inbox.keep(bytes.get(rest..).unwrap_or_default());
                    break;
                }
                Err(_) => {
                    self.write_up_to(cx, &mut incoming, at)?;
                    return self.out_of_step();
                }
            };
            at = frame.end;
            self.answer_ahead(cx, &mut incoming, frame)?;
            let meaning = self.meaning(frame, frame.body(bytes));
            if !matches!(meaning, Meaning::Pass) {
                self.write_up_to(cx, &mut incoming, frame.start)?;
                incoming.from = at;
            }
            match meaning {
                Meaning::Pass | Meaning::Keep => {}
                Meaning::Discarded => {
                    incoming.from = frame.start;
                    self.back_at_login(cx)?;
                }
                Meaning::DeallocatedAll => messages::command_complete(&mut incoming.ahead, "DEALLOCATE ALL"),
                Meaning::Instead(message) => incoming.ahead.extend_from_slice(&message),
                Meaning::Report(report) => messages::error_response(&mut incoming.ahead, &report),
                Meaning::Audited => self.audited(cx)?,
                Meaning::SendAgain => self.send_again(cx),
                Meaning::OutOfStep => return self.out_of_step(),
                Meaning::ReplayFailed => return self.replay_failed(cx, bytes.get(frame.start..at)),
                Meaning::Farewell => {
                    let message = field(frame.body(bytes), b'M').unwrap_or_default();
                    return self.server_lost(cx, &String::from_utf8_lossy(message), Fate::Leaving);
                }
            }
        }
        self.passed(cx, incoming, at)
    }

    /// Writes what is the client's up to this place of the chunk.
    fn write_up_to(&mut self, cx: &mut Context<'_>, incoming: &mut Incoming<'_>, at: usize) -> Step {
        let bytes = incoming.chunk.get(incoming.from..at).unwrap_or_default();
        incoming.from = at;
        if incoming.ahead.is_empty() {
            return self.write_client(cx, bytes);
        }
        incoming.ahead.extend_from_slice(bytes);
        let result = self.write_client(cx, &incoming.ahead);
        incoming.ahead.clear();
        result
    }

    /// What the proxy answers by itself before this reply, in the same write.
    #[inline]
    fn answer_ahead(&mut self, cx: &mut Context<'_>, incoming: &mut Incoming<'_>, frame: Frame) -> Step {
        let State::Active(Active { lease, .. }) = &mut self.state else { return Ok(()) };
        let Some(mut answer) = lease.ledger.due() else { return Ok(()) };
        if incoming.from < frame.start {
            self.write_up_to(cx, incoming, frame.start)?;
        }
        loop {
            own_answer(&mut incoming.ahead, answer);
            let State::Active(Active { lease, .. }) = &mut self.state else { return Ok(()) };
            match lease.ledger.due() {
                Some(next) => answer = next,
                None => break,
            }
        }
        self.note_answered();
        Ok(())
    }

    /// Messages about statements are answered, or an error has kept them from being run.
    pub(super) fn note_answered(&mut self) {
        let State::Active(active) = &mut self.state else { return };
        let (voided, answered) = (active.lease.ledger.take_voided(), active.lease.ledger.answered());
        if let Some(voided) = voided {
            active.lease.statements.void(voided);
            active.were_not_run(answered, voided.through);
        }
        active.lease.statements.confirm(answered);
        if let Some(statements) = &mut self.statements {
            if let Some(voided) = voided {
                statements.void(voided);
            }
            statements.confirm(answered);
        }
    }

    /// The chunk is looked through: the server connection first goes to who waits for it, then the client gets its bytes.
    fn passed(&mut self, cx: &mut Context<'_>, mut incoming: Incoming<'_>, at: usize) -> Step {
        let State::Active(active) = &mut self.state else { return Ok(()) };
        let (ready, audited) = (std::mem::take(&mut active.ready), std::mem::take(&mut active.audited));
        let first_row = std::mem::take(&mut active.has_row) && std::mem::take(&mut active.awaits_row);
        let done = (ready || audited) && active.lease.ledger.is_settled();
        if first_row && !(done && ready) {
            self.pool.metrics.first_row(active.exec_since.elapsed());
        }
        if done {
            let now = Instant::now();
            active.quiet_since = now;
            let is_idle = active.lease.ledger.status() == Status::Idle;
            if let Some(extra) = active.some_extra() {
                // What was prepared to be deallocated, and was not.
                extra.deallocating.clear();
                extra.altering = false;
                extra.binds_clearing &= !is_idle;
                let again = if ready { std::mem::take(&mut extra.ask_again) } else { Suspects::NONE };
                active.suspects.insert(again);
            }
            if ready {
                let exec = now.saturating_duration_since(active.exec_since);
                self.pool.metrics.executed(exec);
                if first_row {
                    self.pool.metrics.first_row(exec);
                }
                if self.pool.adaptive.is_on() {
                    self.pool.adaptive.executed(u32::from(active.lease.class), exec);
                }
            }
            let status = active.lease.ledger.status();
            let warnings = std::mem::take(&mut active.warnings);
            if status == Status::Idle && std::mem::take(&mut active.changed_schema) {
                self.pool.schema.fetch_add(1, Ordering::Relaxed);
            }
            active.reshaped &= status != Status::Idle || !active.suspects.is_empty();
            if ready && status == Status::Idle {
                self.trace_ends(now, Ending::Done);
            }
            if status != Status::Idle && self.pool.params.mode == PoolMode::Statement {
                self.write_up_to(cx, &mut incoming, at)?;
                return Err(End::Fatal(Box::new(refusal::no_transactions())));
            }
            if !warnings.is_empty() {
                self.write_up_to(cx, &mut incoming, at)?;
                for reason in warnings.iter() {
                    messages::notice_response(&mut incoming.ahead, &refusal::pinned(reason));
                }
            }
            if !self.settle_between_transactions(cx, now) {
                self.kept(cx, &mut incoming, at, now)?;
            }
        }
        self.write_up_to(cx, &mut incoming, at)?;
        let State::Active(active) = &self.state else { return Ok(()) };
        if self.leaving && !active.lease.ledger.is_running() {
            return Err(End::Terminated);
        }
        self.answer_alone(cx)
    }

    /// The server is done, and the client keeps it: for its transaction, or for what it has there.
    fn kept(&mut self, cx: &mut Context<'_>, incoming: &mut Incoming<'_>, at: usize, now: Instant) -> Step {
        let State::Active(active) = &mut self.state else { return Ok(()) };
        let in_transaction = active.lease.ledger.status() != Status::Idle;
        // A reset inside a transaction is to bring back what the client has logged in with, and not only behind it.
        if in_transaction
            && !self.inbox.frames.is_passing()
            && active.resets
            && active.lease.ledger.status() != Status::Failed
            && !self.login.is_empty()
        {
            active.resets = false;
            active.audit_resets = true;
            self.begin_audit(cx);
            return Ok(());
        }
        if let Some(timeout) = active.timed_out.take().filter(|_| in_transaction)
            && timeout == Timeout::Transaction
        {
            let failed = active.lease.ledger.status() == Status::Failed;
            self.write_up_to(cx, incoming, at)?;
            // What ran may have been done before it could be cancelled; then nobody has told the client.
            return if failed {
                self.take_transaction(cx, now)
            } else {
                self.end_transaction(cx, timeout, now)
            };
        }
        if active.auditing.is_empty() {
            active.lease.stays(Some(if in_transaction { Stay::InTransaction } else { Stay::Pinned }));
        }
        self.watch(now);
        Ok(())
    }

    #[inline]
    fn meaning(&mut self, frame: Frame, body: &[u8]) -> Meaning {
        let State::Active(active) = &mut self.state else { return Meaning::Pass };
        let lease = &mut active.lease;
        lease.swallowing = false;
        match lease.ledger.reply(frame.tag, body) {
            Verdict::Forward => match frame.tag {
                tag::READY_FOR_QUERY => {
                    active.ready = true;
                    if lease.ledger.status() == Status::Idle {
                        active.wanted_before = None;
                        self.pool.metrics.transaction();
                        active.timed_out = None;
                    }
                    self.ready()
                }
                tag::COMMAND_COMPLETE => self.completed(body),
                tag::ERROR_RESPONSE => self.error(body),
                tag::PARAMETER_STATUS => self.parameter_changed(body),
                tag::PARSE_COMPLETE | tag::CLOSE_COMPLETE => {
                    lease.replay.armed = false;
                    self.note_answered();
                    Meaning::Pass
                }
                tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE => Meaning::Pass,
                _ => {
                    lease.replay.armed = false;
                    active.has_row |= frame.tag == tag::DATA_ROW;
                    Meaning::Pass
                }
            },
            Verdict::Swallow => {
                lease.swallowing = !frame.whole;
                match frame.tag {
                    tag::PARSE_COMPLETE | tag::CLOSE_COMPLETE => self.note_answered(),
                    tag::COMMAND_COMPLETE => {
                        lease.note_completed(body);
                        active.note_discarded(body, self.member.process_id);
                    }
                    tag::ERROR_RESPONSE => active.keep_guard(),
                    _ => {}
                }
                Meaning::Keep
            }
            // The server ends, or the client's own cancel request has hit what it did not know of.
            Verdict::InjectedFailed | Verdict::AuditFailed if is_fatal(body) => Meaning::Farewell,
            Verdict::InjectedFailed if sqlstate(body) == Some(b"57014") => Meaning::Farewell,
            Verdict::InjectedFailed => Meaning::ReplayFailed,
            Verdict::AuditRow => {
                lease.swallowing = !frame.whole;
                Self::audit_row(active, body, frame.whole);
                Meaning::Keep
            }
            Verdict::AuditFailed => {
                self.audit_failed();
                Meaning::Keep
            }
            Verdict::AuditDone => {
                active.audited = true;
                Meaning::Audited
            }
            Verdict::Refused(_) if is_fatal(body) => Meaning::Farewell,
            Verdict::Refused(reason) => {
                self.note_answered();
                Meaning::Report(Box::new(self.refusal(reason)))
            }
            // Not an answer: a server that ends says so whenever it likes.
            Verdict::OutOfStep if frame.tag == tag::ERROR_RESPONSE && is_fatal(body) => self.error(body),
            Verdict::OutOfStep => Meaning::OutOfStep,
        }
    }

    /// PostgreSQL is ready.
    fn ready(&mut self) -> Meaning {
        let State::Active(active) = &mut self.state else { return Meaning::Pass };
        // Nothing behind it was sent.
        active.reset_open &= !active.lease.ledger.is_settled();
        if std::mem::take(&mut active.discarded) {
            return Meaning::Discarded;
        }
        let ledger = &active.lease.ledger;
        let audits = active.suspects.contains(Suspects::SETTINGS) && ledger.status() != Status::Failed;
        let may_ask = ledger.is_settled() && !self.inbox.frames.is_passing();
        if active.resets && audits && may_ask && !self.login.is_empty() {
            // The client hears of it once settings are as it logged in with them.
            active.held_ready = true;
            return Meaning::Keep;
        }
        Meaning::Pass
    }

    /// What the client is told whose message was refused.
    fn refusal(&mut self, refused: Refused) -> Report {
        let Refused::Pin(reason) = refused else { return refusal::outdated() };
        if self.pool.params.session.pins.policies.of(reason) == PinPolicy::Reject {
            let report = refusal::pin_rejected(reason);
            self.trace_fails(report.sqlstate.as_bytes());
            return report;
        }
        self.is_shed(Shed::PinBudget);
        refusal::pin_budget(reason, &self.pool, self.seat.door().jitter.spread(SLOT_PATIENCE))
    }

    fn error(&mut self, body: &[u8]) -> Meaning {
        self.note_answered();
        if self.is_outdated(body) {
            return Meaning::SendAgain;
        }
        self.pool.metrics.server_error(sqlstate(body));
        let State::Active(active) = &mut self.state else { return Meaning::Pass };
        active.lease.replay.armed = false;
        active.keep_guard();
        let failed = active.lease.ledger.answering();
        if let Some(extra) = active.some_extra() {
            extra.deallocating.retain(|(batch, _)| *batch != failed);
        }
        if let Some(timeout) = active.timed_out
            && sqlstate(body) == Some(b"57014")
        {
            let report = refusal::timeout(timeout);
            self.trace_fails(report.sqlstate.as_bytes());
            return Meaning::Report(Box::new(report));
        }
        self.trace_fails(sqlstate(body).unwrap_or_default());
        if !is_fatal(body) {
            return self.in_clients_words(body).map_or(Meaning::Pass, Meaning::Instead);
        }
        // What the client has broken it shall hear of, and it ends with that; anything else that ends the server is not
        // the client's end.
        if sqlstate(body).is_some_and(|state| state.starts_with(b"08")) {
            self.leaving = true;
            return Meaning::Pass;
        }
        Meaning::Farewell
    }

    /// The error with the client's name for the statement in it; None if none is named.
    fn in_clients_words(&self, body: &[u8]) -> Option<Vec<u8>> {
        let at = server_name_at(body)?;
        let digits = body.get(at.start + SERVER_NAME_PREFIX.len()..at.end)?;
        let id = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let State::Active(Active { lease, .. }) = &self.state else { return None };
        let name = match lease.ledger.failed_bind() {
            // It may be another one by now, which leaves no trace.
            Some(0) => b"",
            bound => self.statements.as_ref()?.name_of(id, bound)?,
        };
        let parts = [body.get(..at.start)?, name, body.get(at.end..)?];
        let length = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut message = vec![tag::ERROR_RESPONSE];
        message.extend_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
        parts.iter().for_each(|part| message.extend_from_slice(part));
        Some(message)
    }

    /// The error says that a statement is prepared no more, or prepared for tables that look different now.
    fn is_outdated(&mut self, body: &[u8]) -> bool {
        let State::Active(Active { lease, .. }) = &mut self.state else { return false };
        let routine = field(body, b'R');
        match sqlstate(body) {
            // "cached plan must not change result type"
            Some(b"0A000") if routine == Some(b"RevalidateCachedQuery") => {
                lease.replay.used.iter().for_each(|used| used.statement.outdate());
            }
            // Somebody has deallocated what was not his, this one or all.
            Some(b"26000") if server_name_at(body).is_some() => lease.statements.distrust(),
            _ => return false,
        }
        // Under other settings it would become another statement for everybody who has it.
        let is_alike = |used: &Used| used.statement.is_read_under(&self.wanted);
        std::mem::take(&mut lease.replay.armed)
            && lease.replay.used.iter().all(is_alike)
            && lease.ledger.swallow_sync()
    }

    /// The batch that has just failed is sent again, behind what prepares its statements anew.
    fn send_again(&mut self, cx: &mut Context<'_>) {
        self.pool.metrics.reprepared();
        let State::Active(Active { lease, .. }) = &mut self.state else { return };
        let mut message = vec![];
        let schema = self.pool.schema.load(Ordering::Relaxed);
        let used = std::mem::take(&mut lease.replay.used);
        for Used { statement, prepares, .. } in &used {
            lease.own_close(&mut message, statement.short_name(&mut NameBuffer::default()));
            let at = lease.ledger.next_moment();
            lease.statements.prepare(at, statement, schema);
            if !prepares {
                lease.ledger.sent_own_parse(at);
                statement.parse(&mut message);
            }
        }
        let server = &mut **lease;
        server.ledger.sent_again(&server.replay.messages);
        message.extend_from_slice(&server.replay.bytes);
        // A server that is gone is noticed by the read that follows.
        let _ = server.outbox.write(&mut server.stream, cx, &message);
        let used: Vec<_> = used.into_iter().map(|used| used.statement).collect();
        if let Some(statements) = &mut self.statements {
            statements.renew(&used);
        }
    }

    #[inline]
    fn completed(&mut self, tag: &[u8]) -> Meaning {
        let State::Active(active) = &mut self.state else { return Meaning::Pass };
        active.lease.replay.armed = false;
        self.pool.metrics.query();
        if self.pool.params.mode == PoolMode::Session {
            active.lease.note_completed(tag);
            return Meaning::Pass;
        }
        if tag == b"SET\0" && self.was_local() {
            return Meaning::Pass;
        }
        let State::Active(active) = &mut self.state else { return Meaning::Pass };
        let suspects = suspects_of_tag(tag, active.pins);
        let rare = !suspects.is_empty() || matches!(tag.first(), Some(b'A' | b'D' | b'L'));
        if !rare {
            return Meaning::Pass;
        }
        active.suspects.insert(suspects);
        active.lease.note_completed(tag);
        self.completed_rare(tag)
    }

    /// A SET has changed nothing beyond its transaction: everything that was sent was looked at, and could be.
    fn was_local(&self) -> bool {
        let State::Active(active) = &self.state else { return false };
        let has = |name: &str| self.wanted.get(name).or(active.lease.base.get(name));
        // Where a backslash may hide a quote, be it half of a letter, texts are not cut as PostgreSQL cuts them.
        let is_utf8 = is_utf8(has("client_encoding"));
        let is_standard = has("standard_conforming_strings").is_none_or(|value| value == "on");
        let looked_at = active.is_clear() && self.pool.params.session.statements.max_per_server > 0;
        looked_at && !active.suspects.contains(Suspects::SETTINGS) && is_utf8 && is_standard
    }

    /// A command of those that change the session itself.
    fn completed_rare(&mut self, tag: &[u8]) -> Meaning {
        let State::Active(active) = &mut self.state else { return Meaning::Pass };
        match tag.strip_suffix(b"\0").unwrap_or(tag) {
            b"DISCARD ALL" => {
                active.discarded = true;
                // Everything is as it was at the server connection's login: there is nothing to ask.
                active.suspects = Suspects::NONE;
                active.resets = false;
                active.lease.is_clean(Pins::NONE);
                active.note_discarded(tag, self.member.process_id);
                // What was loaded stays.
                for reason in active.pins.iter().filter(|reason| *reason != PinReason::Load) {
                    active.unpin(reason);
                }
                if let Some(statements) = &mut self.statements {
                    statements.remove_all();
                }
            }
            b"DISCARD SEQUENCES" => {
                active.note_discarded(tag, self.member.process_id);
                active.unpin(PinReason::SequenceValue);
            }
            b"LOAD" => active.pin(PinReason::Load),
            b"DEALLOCATE" => return self.deallocated(),
            b"DEALLOCATE ALL" => {
                self.deallocated();
                self.statements.iter_mut().for_each(|statements| statements.remove_all());
            }
            tag if tag.starts_with(b"ALTER ") || tag.starts_with(b"DROP ") => {
                // For the client itself, and for all others once it is committed.
                self.pool.schema.fetch_add(1, Ordering::Relaxed);
                active.changed_schema = true;
            }
            _ => {}
        }
        Meaning::Pass
    }

    fn deallocated(&mut self) -> Meaning {
        let State::Active(active) = &mut self.state else { return Meaning::Pass };
        let answering = active.lease.ledger.answering();
        let name = active.some_extra().and_then(|extra| {
            // Of several statements in one text nothing was noted.
            let is_next = extra.deallocating.front().is_some_and(|(batch, _)| *batch == answering);
            if is_next { extra.deallocating.pop_front() } else { None }
        });
        let name = name.map(|(_, name)| name);
        let (Some(name), statements) = (name, self.statements.get_or_insert_default()) else {
            return Meaning::Pass;
        };
        match name {
            Some(name) => {
                statements.remove(&name);
                Meaning::Pass
            }
            None => {
                statements.remove_all();
                Meaning::DeallocatedAll
            }
        }
    }

    /// After DISCARD ALL a client has what it logged in with. PostgreSQL has just told it (right in front of ReadyForQuery)
    /// what the server connection logged in with, so it is told its own values behind that.
    fn back_at_login(&mut self, cx: &mut Context<'_>) -> Step {
        let State::Active(Active { lease, .. }) = &self.state else { return Ok(()) };
        // A client that keeps its server connection keeps what that one has now.
        if !self.pool.gives_back_after_transaction() {
            return Ok(());
        }
        let mut statuses = vec![];
        for (name, value) in self.login.iter().filter(|(name, _)| lease.base.get(name).is_some()) {
            messages::parameter_status(&mut statuses, name, value);
        }
        self.wants(Arc::clone(&self.login));
        self.write_client(cx, &statuses)
    }

    /// The server reports a parameter: set by the client, or undone with its transaction. The client's next server
    /// connection shall have it too.
    fn parameter_changed(&mut self, body: &[u8]) -> Meaning {
        let State::Active(Active { lease, resets, wanted_before, .. }) = &mut self.state else {
            return Meaning::Pass;
        };
        wanted_before.get_or_insert_with(|| Arc::clone(&self.wanted));
        let together = Arc::ptr_eq(&lease.parameters, &self.wanted);
        let base = Arc::clone(&lease.base);
        let Some((name, value)) = lease.note_parameter(body) else { return Meaning::Pass };
        // The server connection has its default back, and not what the client has logged in with.
        if *resets && self.login.get(name).is_some() && base.get(name) == Some(value) {
            return Meaning::Keep;
        }
        let wanted = match self.login.get(name) {
            // What has its default again by a SET does not have what the client has logged in with: it stays as it was set.
            Some(_) => Arc::new(self.wanted.with(name, value, &Parameters::default())),
            None if together => Arc::clone(&lease.parameters),
            None => Arc::new(self.wanted.with(name, value, &base)),
        };
        self.wants(wanted);
        Meaning::Pass
    }

    fn out_of_step(&mut self) -> Step {
        line!(error, self, "a server connection is out of step and is closed");
        self.trace_ends(Instant::now(), Ending::Stopped(Reason::OutOfStep));
        if let State::Active(active) = std::mem::replace(&mut self.state, State::Idle) {
            self.member.rests(Instant::now());
            active.lease.close(DestroyReason::OutOfStep);
        }
        Err(End::Fatal(Box::new(refusal::out_of_step())))
    }

    /// The client's parameters were taken once and are refused now, with its message already sent behind them. What the
    /// server does with that message is not what was asked for, so the connection is not used for anything any more.
    fn replay_failed(&mut self, cx: &mut Context<'_>, report: Option<&[u8]>) -> Step {
        self.trace_ends(Instant::now(), Ending::Stopped(Reason::ParametersRefused));
        if let State::Active(active) = std::mem::replace(&mut self.state, State::Idle) {
            self.member.rests(Instant::now());
            active.lease.close(DestroyReason::OutOfStep);
        }
        self.write_client(cx, report.unwrap_or_default())?;
        Err(End::Fatal(Box::new(refusal::parameters_refused())))
    }

    /// The server connection is gone. Every message that is still owed a reply gets an error; a client that was only
    /// sitting in a transaction hears of it with its next message.
    pub(super) fn server_lost(&mut self, cx: &mut Context<'_>, cause: &str, fate: Fate) -> Step {
        self.trace_ends(Instant::now(), Ending::Stopped(Reason::ServerLost));
        let State::Active(Active { mut lease, held_ready, wanted_before, stalled, .. }) =
            std::mem::replace(&mut self.state, State::Idle)
        else {
            return Ok(());
        };
        self.member.rests(Instant::now());
        self.idle_since = Instant::now();
        if stalled {
            self.state = State::GoesOn;
        }
        if let Some(statements) = &mut self.statements {
            statements.leave_server();
        }
        let half_sent = lease.is_mid_reply();
        let (owed, open) = (lease.ledger.ready_owed() + usize::from(held_ready), lease.ledger.wants_sync());
        lease.fate = fate;
        let base = Arc::clone(&lease.base);
        lease.close(DestroyReason::ServerClosed);
        if half_sent {
            return Err(End::MidMessage);
        }
        let report = refusal::server_lost(cause);
        if self.leaving {
            return Err(End::Terminated);
        }
        if self.pool.params.mode == PoolMode::Session {
            // The session's state went with it.
            return Err(End::Fatal(Box::new(refusal::fatal(report))));
        }
        self.settings_are_undone(cx, wanted_before, &base)?;
        let mut reply = vec![];
        for _ in 0..owed {
            messages::error_response(&mut reply, &report);
            messages::ready_for_query(&mut reply, b'I');
        }
        if open {
            messages::error_response(&mut reply, &report);
            self.skipping = true;
        } else if owed == 0 {
            self.pending = Some(Box::new(report));
        }
        self.watch_idle(self.idle_since);
        self.write_client(cx, &reply)
    }
}

/// What the proxy answers in PostgreSQL's place.
pub(super) fn own_answer(out: &mut Vec<u8>, answer: OwnAnswer) {
    match answer {
        OwnAnswer::ParseComplete | OwnAnswer::ParseCompleteAlways => messages::bare(out, tag::PARSE_COMPLETE),
        OwnAnswer::CloseComplete => messages::bare(out, tag::CLOSE_COMPLETE),
        OwnAnswer::FailedTransaction => messages::error_response(out, &refusal::failed_transaction()),
    }
}

/// Where an error names a statement as the proxy does.
fn server_name_at(body: &[u8]) -> Option<Range<usize>> {
    let start = memchr::memmem::find(body, SERVER_NAME_PREFIX)?;
    let digits = start + SERVER_NAME_PREFIX.len();
    let length = body.get(digits..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (length > 0).then_some(start..digits + length)
}

/// PostgreSQL ends the connection after this report (field `V`, which is never translated).
fn is_fatal(body: &[u8]) -> bool {
    matches!(field(body, b'V'), Some(b"FATAL" | b"PANIC"))
}
