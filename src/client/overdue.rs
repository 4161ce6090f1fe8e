//! What takes too long: requests, transactions, silence.
//!
//! A client says when it is to be looked at ([`super::roster::Entry::look_at`]); somebody wakes its task then, and it finds
//! out for itself what is overdue. So a request costs no timer.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::active::Active;
use super::ending::give_back;
use super::line::line;
use super::refusal::{self, Timeout};
use super::session::{End, LOOK, Session, State, Step};
use crate::obs::LabelValue;
use crate::proto::ledger::Status;
use crate::proto::messages;
use crate::proto::parameters::Parameters;
use crate::server::Owed;
use crate::trace::Ending;

/// How long after its cancel request a statement may go on, over `cancel_timeout`, before its server connection is closed.
const GRACE: Duration = Duration::from_secs(5);

impl Session {
    /// The server begins to work.
    #[inline]
    pub(super) fn watch_running(&self, now: Instant) {
        let settings = &self.pool.settings;
        let (query, transaction) = (settings.query_timeout.now(), settings.transaction_timeout.now());
        if query.is_zero() && transaction.is_zero() {
            return;
        }
        let State::Active(active) = &self.state else { return };
        let due = [(now, query), (active.transaction_since, transaction)];
        let due = due.into_iter().filter(|(_, limit)| !limit.is_zero());
        self.member.look_at(due.filter_map(|(since, limit)| since.checked_add(limit)).min());
    }

    /// The client has no server connection any more.
    #[inline]
    pub(super) fn watch_idle(&self, now: Instant) {
        if !self.pool.settings.client_idle_timeout.now().is_zero() || self.stalled_since.is_some() {
            self.watch(now);
        } else if self.member.is_watched() {
            self.member.look_at(None);
        }
    }

    /// Says when the client is to be looked at next.
    pub(super) fn watch(&self, now: Instant) {
        if matches!(&self.state, State::Active(Active { wants_slot_since: Some(_), .. })) {
            return self.member.look_at(Some(now));
        }
        let look = self.does_not_read().then(|| now + LOOK);
        let due = self.deadlines().into_iter().flatten().map(|(due, _)| due).chain(look).min();
        self.member.look_at(due.map(|due| due.max(now)));
    }

    /// The client is not read: its end does not show until what it has sent can go on.
    fn does_not_read(&self) -> bool {
        matches!(&self.state, State::Active(active) if active.stalled || !active.auditing.is_empty())
    }

    /// What can be overdue in the state that the client is in, and when.
    fn deadlines(&self) -> [Option<(Instant, Timeout)>; 3] {
        let settings = &self.pool.settings;
        let after = |since: Instant, limit: Duration, timeout| {
            (!limit.is_zero()).then(|| since.checked_add(limit)).flatten().map(|due| (due, timeout))
        };
        let stall = self
            .stalled_since
            .and_then(|since| after(since, settings.client_stall_timeout.now(), Timeout::Stall));
        match &self.state {
            State::Idle | State::GoesOn => {
                [stall, after(self.idle_since, settings.client_idle_timeout.now(), Timeout::ClientIdle), None]
            }
            State::Waiting(_) => [stall, None, None],
            State::Active(Active { timed_out: Some(timeout), exec_since, lease, .. }) => {
                let patience = lease.pool().cancel_timeout() + GRACE;
                [stall, after(*exec_since, patience, *timeout), None]
            }
            State::Active(active) if !active.lease.ledger.is_settled() => [
                stall,
                after(active.exec_since, settings.query_timeout.now(), Timeout::Query),
                after(active.transaction_since, settings.transaction_timeout.now(), Timeout::Transaction),
            ],
            State::Active(active) if active.lease.ledger.status() != Status::Idle => [
                stall,
                after(
                    active.quiet_since,
                    settings.idle_in_transaction_timeout.now(),
                    Timeout::IdleInTransaction,
                ),
                after(active.transaction_since, settings.transaction_timeout.now(), Timeout::Transaction),
            ],
            State::Active(active) if !active.pins.is_empty() => {
                [stall, after(active.quiet_since, settings.pin_timeout.now(), Timeout::Pin), None]
            }
            State::Active(_) => [stall, None, None],
        }
    }

    /// Something may be overdue.
    pub(super) fn overdue(&mut self, cx: &mut Context<'_>, now: Instant) -> Step {
        if let State::Active(Active { wants_slot_since: Some(_), progress, .. }) = &mut self.state {
            *progress = true;
        }
        if self.does_not_read() && self.stream.is_read_closed() {
            return Err(End::ClientLeft);
        }
        if self.member.is_evicted() && !matches!(self.state, State::Idle | State::GoesOn) {
            self.member.stays();
        } else if self.member.is_evicted() {
            self.pool.metrics.timed_out(Timeout::EvictIdle);
            return Err(End::Fatal(Box::new(refusal::timeout(Timeout::EvictIdle))));
        }
        // What can go on does not take too long.
        if let Poll::Ready(step) = self.poll_spool(cx) {
            step?;
        }
        let late = self.deadlines().into_iter().flatten().find(|(due, _)| *due <= now);
        let Some((_, timeout)) = late else {
            self.watch(now);
            return Ok(());
        };
        self.pool.metrics.timed_out(timeout);
        line!(debug, self, reason = timeout.label(), "takes too long");
        match timeout {
            Timeout::Stall => Err(End::Stalled),
            Timeout::ClientIdle | Timeout::EvictIdle | Timeout::Pin => {
                Err(End::Fatal(Box::new(refusal::timeout(timeout))))
            }
            Timeout::IdleInTransaction => self.end_transaction(cx, timeout, now),
            Timeout::Query | Timeout::Transaction => self.stop(cx, timeout, now),
        }
    }

    /// A request or its transaction takes too long.
    fn stop(&mut self, cx: &mut Context<'_>, timeout: Timeout, now: Instant) -> Step {
        let who = self.who();
        let State::Active(active) = &mut self.state else { return Ok(()) };
        if active.lease.ledger.is_settled() {
            return self.end_transaction(cx, timeout, now);
        }
        if active.timed_out.is_some() {
            return Err(End::Fatal(Box::new(refusal::unstoppable(timeout))));
        }
        active.timed_out = Some(timeout);
        active.exec_since = now;
        let request = active.lease.cancel.begin();
        let door = Arc::clone(self.seat.door());
        tokio::spawn(async move {
            if let Err(error) = request.send().await {
                door.mishaps.count("cannot_cancel");
                line!(debug, who, %error, "cannot cancel what takes too long");
            }
        });
        self.watch(now);
        Ok(())
    }

    /// The client's transaction is rolled back, and its server connection is free. It hears of it with its next message.
    pub(super) fn end_transaction(&mut self, cx: &mut Context<'_>, timeout: Timeout, now: Instant) -> Step {
        self.trace_ends(now, Ending::Stopped(timeout.into()));
        self.pending = Some(Box::new(refusal::timeout(timeout)));
        self.take_transaction(cx, now)
    }

    /// The same for a client that has heard of it already.
    pub(super) fn take_transaction(&mut self, cx: &mut Context<'_>, now: Instant) -> Step {
        self.trace_ends(now, Ending::Stopped(Timeout::Transaction.into()));
        let State::Active(active) = &self.state else { return Ok(()) };
        if !active.pins.is_empty() || !self.pool.gives_back_after_transaction() {
            // Its session's state would go with the server connection.
            let report =
                self.pending.take().unwrap_or_else(|| Box::new(refusal::timeout(Timeout::Transaction)));
            return Err(End::Fatal(Box::new(refusal::fatal(*report))));
        }
        if let State::Active(mut active) = std::mem::replace(&mut self.state, State::Idle) {
            self.member.rests(Instant::now());
            if let Some(statements) = &mut self.statements {
                statements.released();
            }
            if active.stalled {
                self.state = State::GoesOn;
            }
            self.settings_are_undone(cx, active.wanted_before.take(), &Arc::clone(&active.lease.base))?;
            let mid_message = self.inbox.frames.is_passing();
            give_back(active, Owed::Cancel, mid_message);
        }
        self.idle_since = now;
        self.failed = true;
        self.watch_idle(now);
        Ok(())
    }

    /// What the client has set in its transaction is undone with it; it is told so.
    pub(super) fn settings_are_undone(
        &mut self,
        cx: &mut Context<'_>,
        before: Option<Arc<Parameters>>,
        base: &Parameters,
    ) -> Step {
        let Some(before) = before else { return Ok(()) };
        let mut words = vec![];
        for (name, value) in base.iter() {
            let (was, is) = (before.get(name).unwrap_or(value), self.wanted.get(name).unwrap_or(value));
            if was != is {
                messages::parameter_status(&mut words, name, was);
            }
        }
        self.wants(before);
        self.write_client(cx, &words)
    }

    /// What there is for the client goes on its way. Ready once it has taken all.
    #[inline]
    pub(super) fn poll_spool(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let before = self.outbox.len();
        let result = self.outbox.poll_drain(&mut self.stream, cx);
        if self.outbox.len() < before {
            self.stalled_since = None;
        }
        self.account_spool();
        result.map(|result| result.map_err(|_| End::ClientLeft))
    }

    /// Brings the count of what the client has not taken up to date, and notes since when it takes nothing.
    #[inline]
    pub(super) fn account_spool(&mut self) {
        let held = self.outbox.len();
        if held == 0 && self.spooled == 0 {
            return;
        }
        self.seat.door().spool.account(&mut self.spooled, held);
        if held == 0 {
            self.stalled_since = None;
        } else if self.stalled_since.is_none() {
            let now = Instant::now();
            self.stalled_since = Some(now);
            self.watch(now);
        }
    }

    /// There is room for more that the client does not take.
    pub(super) fn may_spool(&self) -> bool {
        self.seat.door().spool.has_room(self.outbox.len())
    }
}
