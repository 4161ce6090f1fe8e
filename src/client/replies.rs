//! What the server says: passed on, kept back, or the end of the connection.

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use super::refusal;
use super::session::{Active, End, Session, State, Step};
use crate::obs::DestroyReason;
use crate::pool::PoolMode;
use crate::proto::ledger::{Status, Verdict, field, sqlstate};
use crate::proto::messages;
use crate::server::Fate;
use crate::wire::{Frame, Next, tag};

/// Longest ErrorResponse that is looked into; a longer one is passed on unseen.
const LONGEST_REPORT: usize = 16 * 1024;

/// Whether a reply is wanted whole: its body is looked at.
#[inline]
fn is_telling(kind: u8) -> bool {
    matches!(kind, tag::READY_FOR_QUERY | tag::ERROR_RESPONSE | tag::PARAMETER_STATUS | tag::COMMAND_COMPLETE)
}

/// What a frame means for the relay.
enum Meaning {
    Pass,
    Keep,
    /// The ReadyForQuery behind a DISCARD ALL.
    Discarded,
    Farewell,
    OutOfStep,
    /// The client's parameters could not be set; the server said why.
    ReplayFailed,
}

impl Session {
    /// Replies of the server: the client's are written on in as few pieces as there are, usually one.
    pub(super) fn from_server(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Step {
        let State::Active(Active { lease, .. }) = &mut self.state else { return Ok(()) };
        let mut at = lease.inbox.frames.resume(bytes);
        // The client's bytes that are not written yet begin here.
        let mut from = if lease.swallowing { at } else { 0 };
        loop {
            let State::Active(Active { lease, .. }) = &mut self.state else { return Ok(()) };
            let frame = match lease.inbox.frames.next(bytes, at, LONGEST_REPORT, is_telling) {
                Ok(Next::Frame(frame)) => frame,
                Ok(Next::End) => break,
                Ok(Next::Keep(rest)) => {
                    lease.inbox.keep(bytes.get(rest..).unwrap_or_default());
                    break;
                }
                Err(_) => {
                    self.write_client(cx, bytes.get(from..at).unwrap_or_default())?;
                    return self.out_of_step();
                }
            };
            at = frame.end;
            let meaning = self.meaning(frame, frame.body(bytes));
            if !matches!(meaning, Meaning::Pass) {
                self.write_client(cx, bytes.get(from..frame.start).unwrap_or_default())?;
                from = at;
            }
            match meaning {
                Meaning::Pass | Meaning::Keep => {}
                Meaning::Discarded => {
                    from = frame.start;
                    self.back_at_login(cx)?;
                }
                Meaning::OutOfStep => return self.out_of_step(),
                Meaning::ReplayFailed => return self.replay_failed(cx, bytes.get(frame.start..at)),
                Meaning::Farewell => {
                    let message = field(frame.body(bytes), b'M').unwrap_or_default();
                    return self.server_lost(cx, &String::from_utf8_lossy(message), Fate::Leaving);
                }
            }
        }
        self.passed(cx, bytes.get(from..at).unwrap_or_default())
    }

    /// The chunk is looked through: the server connection first goes to who waits for it, then the client gets its bytes.
    fn passed(&mut self, cx: &mut Context<'_>, rest: &[u8]) -> Step {
        let State::Active(Active { lease, exec_since, ready, .. }) = &mut self.state else { return Ok(()) };
        if std::mem::take(ready) && lease.ledger.is_settled() {
            let now = Instant::now();
            self.pool.metrics.executed(now.saturating_duration_since(*exec_since));
            if lease.ledger.status() != Status::Idle && self.pool.params.mode == PoolMode::Statement {
                self.write_client(cx, rest)?;
                return Err(End::Fatal(Box::new(refusal::no_transactions())));
            }
            self.settle_between_transactions(now);
        }
        self.write_client(cx, rest)?;
        let running = matches!(&self.state, State::Active(active) if active.lease.ledger.is_running());
        if self.leaving && !running { Err(End::Terminated) } else { Ok(()) }
    }

    #[inline]
    fn meaning(&mut self, frame: Frame, body: &[u8]) -> Meaning {
        let State::Active(Active { lease, ready, discarded, .. }) = &mut self.state else {
            return Meaning::Pass;
        };
        lease.swallowing = false;
        match lease.ledger.reply(frame.tag, body) {
            Verdict::Forward => match frame.tag {
                tag::READY_FOR_QUERY => {
                    *ready = true;
                    if lease.ledger.status() == Status::Idle {
                        self.pool.metrics.transaction();
                    }
                    if std::mem::take(discarded) { Meaning::Discarded } else { Meaning::Pass }
                }
                tag::COMMAND_COMPLETE => {
                    self.completed(body);
                    Meaning::Pass
                }
                tag::ERROR_RESPONSE => self.error(body),
                tag::PARAMETER_STATUS => {
                    self.parameter_changed(body);
                    Meaning::Pass
                }
                _ => Meaning::Pass,
            },
            Verdict::Swallow => {
                lease.swallowing = !frame.whole;
                Meaning::Keep
            }
            // The server ends, or the client's own cancel request has hit what it did not know of.
            Verdict::InjectedFailed if is_fatal(body) || sqlstate(body) == Some(b"57014") => {
                Meaning::Farewell
            }
            Verdict::InjectedFailed => Meaning::ReplayFailed,
            // Not an answer: a server that ends says so whenever it likes.
            Verdict::OutOfStep if frame.tag == tag::ERROR_RESPONSE && is_fatal(body) => self.error(body),
            Verdict::OutOfStep => Meaning::OutOfStep,
        }
    }

    fn error(&mut self, body: &[u8]) -> Meaning {
        self.pool.metrics.server_error();
        if !is_fatal(body) {
            return Meaning::Pass;
        }
        // What the client has broken it shall hear of, and it ends with that; anything else that ends the server is not
        // the client's end.
        if sqlstate(body).is_some_and(|state| state.starts_with(b"08")) {
            self.leaving = true;
            return Meaning::Pass;
        }
        Meaning::Farewell
    }

    #[inline]
    fn completed(&mut self, tag: &[u8]) {
        let State::Active(Active { lease, discarded, .. }) = &mut self.state else { return };
        *discarded |= lease.note_completed(tag) && tag.starts_with(b"DISCARD");
    }

    /// After DISCARD ALL a client has what it logged in with. PostgreSQL has just told it (right in front of ReadyForQuery)
    /// what the server connection logged in with, so it is told its own values behind that.
    fn back_at_login(&mut self, cx: &mut Context<'_>) -> Step {
        let State::Active(Active { lease, .. }) = &self.state else { return Ok(()) };
        // A client that keeps its server connection keeps what that one has now.
        if !self.pool.gives_back_after_transaction() {
            return Ok(());
        }
        self.wanted = Arc::clone(&self.login);
        let mut statuses = vec![];
        for (name, value) in self.login.iter().filter(|(name, _)| lease.base.get(name).is_some()) {
            messages::parameter_status(&mut statuses, name, value);
        }
        self.write_client(cx, &statuses)
    }

    /// The server reports a parameter: set by the client, or undone with its transaction. The client's next server
    /// connection shall have it too.
    fn parameter_changed(&mut self, body: &[u8]) {
        let State::Active(Active { lease, .. }) = &mut self.state else { return };
        let together = Arc::ptr_eq(&lease.parameters, &self.wanted);
        let Some((name, value)) = lease.note_parameter(body) else { return };
        self.wanted = if together {
            Arc::clone(&lease.parameters)
        } else {
            Arc::new(self.wanted.with(name, value, &lease.base))
        };
    }

    fn out_of_step(&mut self) -> Step {
        tracing::error!(pool = self.pool.name(), "a server connection is out of step and is closed");
        if let State::Active(active) = std::mem::replace(&mut self.state, State::Idle) {
            self.member.rests();
            active.lease.close(DestroyReason::OutOfStep);
        }
        Err(End::Fatal(Box::new(refusal::out_of_step())))
    }

    /// The client's parameters were taken once and are refused now, with its message already sent behind them. What the
    /// server does with that message is not what was asked for, so the connection is not used for anything any more.
    fn replay_failed(&mut self, cx: &mut Context<'_>, report: Option<&[u8]>) -> Step {
        if let State::Active(active) = std::mem::replace(&mut self.state, State::Idle) {
            self.member.rests();
            active.lease.close(DestroyReason::OutOfStep);
        }
        self.write_client(cx, report.unwrap_or_default())?;
        Err(End::Fatal(Box::new(refusal::parameters_refused())))
    }

    /// The server connection is gone. Every message that is still owed a reply gets an error; a client that was only
    /// sitting in a transaction hears of it with its next message.
    pub(super) fn server_lost(&mut self, cx: &mut Context<'_>, cause: &str, fate: Fate) -> Step {
        let State::Active(Active { mut lease, .. }) = std::mem::replace(&mut self.state, State::Idle) else {
            return Ok(());
        };
        self.member.rests();
        let half_sent = lease.is_mid_reply();
        let (owed, open) = (lease.ledger.ready_owed(), lease.ledger.wants_sync());
        lease.fate = fate;
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
            return Err(End::Fatal(Box::new(messages::Report {
                severity: messages::Severity::Fatal,
                ..report
            })));
        }
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
        self.write_client(cx, &reply)
    }
}

/// PostgreSQL ends the connection after this report (field `V`, which is never translated).
fn is_fatal(body: &[u8]) -> bool {
    matches!(field(body, b'V'), Some(b"FATAL" | b"PANIC"))
}
