//! A session from its first message to its last word.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::active::Active;
use super::line::line;
use super::refusal;
use super::session::{End, Session, State};
use crate::obs::{DestroyReason, Phase};
use crate::pool::{Abandoned, PoolMode, Reset, Stay};
use crate::proto::audit::Suspects;
use crate::proto::ledger::Status;
use crate::proto::messages::{self, Report};
use crate::proto::pin::PinReason;
use crate::server::{Owed, Server, Unsettled};

/// How long a client may take to read its last message.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long a server may take to end what its client left behind, the cancel request not counted.
const SETTLE: Duration = Duration::from_secs(10);
/// What makes a server connection as good as new. Manual, "DISCARD".
const RESET: &str = "DISCARD ALL";

impl Session {
    /// Runs to the end; `early` is what the client has sent ahead of its greeting. Not cancel safe: given up, it closes its server connection.
    pub(super) async fn run(&mut self, mut early: Vec<u8>) {
        let end = poll_fn(|cx| {
            if !std::mem::replace(&mut self.registered, true) {
                // The same waker for as long as the task lives: once is enough until it is used.
                self.member.waker.register(cx.waker());
                self.watch_idle(Instant::now());
                if let Err(end) = self.from_idle_client(cx, &std::mem::take(&mut early)) {
                    return Poll::Ready(end);
                }
            }
            self.poll(cx)
        })
        .await;
        line!(debug, self, ?end, "client leaves");
        // Boxed: it is rare, and a session at work shall not carry its memory.
        Box::pin(self.finish(end)).await;
    }

    async fn finish(&mut self, end: End) {
        let owed = match (&end, self.pool.params.session.abandoned) {
            (End::Terminated, _) | (End::ClientLeft, Abandoned::Finish) => Owed::Finish,
            _ => Owed::Cancel,
        };
        if matches!(end, End::ClientLeft) {
            self.count_abandoned();
        }
        self.trace_ends_with(&end);
        let mut mid_reply = false;
        if let State::Active(active) = std::mem::replace(&mut self.state, State::Idle) {
            mid_reply = active.lease.is_mid_reply();
            self.member.rests(Instant::now());
            give_back(active, owed, self.inbox.frames.is_passing());
        }
        match end {
            End::ClientLeft | End::MidMessage | End::Stalled => {}
            End::Terminated => self.last_word(None).await,
            // Inside another message nothing can be said.
            End::Violation(_) | End::Fatal(_) if mid_reply => {}
            End::Violation(violation) => self.last_word(Some(&refusal::violation(violation))).await,
            End::Fatal(report) => self.last_word(Some(&report)).await,
        }
    }

    fn count_abandoned(&self) {
        let phase = match &self.state {
            State::Idle | State::GoesOn => return,
            State::Waiting(_) => Phase::Waiting,
            State::Active(active) if !active.lease.ledger.is_settled() => Phase::Query,
            State::Active(active) if active.lease.ledger.status() != Status::Idle => Phase::Transaction,
            State::Active(_) => Phase::Pinned,
        };
        self.pool.metrics.abandoned(phase);
    }

    /// Lets the client have what it is still to get, and the report behind it.
    async fn last_word(&mut self, report: Option<&Report>) {
        let mut message = vec![];
        match report {
            Some(report) => messages::error_response(&mut message, report),
            None if self.outbox.is_empty() => return,
            None => {}
        }
        let say = async {
            poll_fn(|cx| Poll::Ready(self.write_client(cx, &message))).await.ok()?;
            poll_fn(|cx| self.outbox.poll_drain(&mut self.stream, cx)).await.ok()?;
            self.stream.shutdown().await.ok()
        };
        let _ = tokio::time::timeout(LAST_WORD, say).await;
    }
}

/// Brings a server connection that its client does not need any more back into order, in a task of its own.
pub(super) fn give_back(mut active: Active, owed: Owed, mid_message: bool) {
    let soil = active.soil();
    // What was found out inside a transaction is no longer true once that is rolled back.
    active.lease.unsure |= active.suspects.contains(Suspects::SETTINGS);
    let pool = active.lease.pool();
    let query_timeout = pool.params.session.query_timeout;
    let reset = if pool.params.mode == PoolMode::Session {
        Some(RESET.to_owned())
    } else if !soil.is_empty() || pool.params.session.reset == Reset::Always {
        Some(Server::clean(soil))
    } else {
        None
    };
    // With its place in the budget for pins: until it is in order, nobody else has the server connection.
    let (lease, slot) = active.into_lease();
    if reset.is_none() && !mid_message && lease.is_free() {
        return lease.release(Instant::now());
    }
    let limit = match owed {
        Owed::Cancel => Some(SETTLE),
        Owed::Finish => Some(query_timeout).filter(|limit| !limit.is_zero()),
    };
    lease.run(move |mut lease| async move {
        if matches!(owed, Owed::Cancel) && !lease.is_free() {
            lease.stays(Some(Stay::Cancelling));
        }
        let settled = lease.settle(owed, mid_message, reset.as_deref(), limit).await;
        drop(slot);
        match settled {
            // What was loaded cannot be taken back.
            Ok(()) if soil.contains(PinReason::Load) => lease.close(DestroyReason::Soiled),
            Ok(()) => {
                if reset.is_some() {
                    lease.is_clean(soil);
                }
                lease.release(Instant::now());
            }
            Err(Unsettled::HalfSent | Unsettled::Timeout) => lease.close(DestroyReason::ClientLeft),
            Err(Unsettled::OutOfStep) => lease.close(DestroyReason::OutOfStep),
            Err(Unsettled::Lost(_)) => lease.close(DestroyReason::ServerClosed),
        }
    });
}
