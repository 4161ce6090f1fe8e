//! After a transaction that may have changed the session: what PostgreSQL says of it, and what follows.

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use super::active::Active;
use super::line::line;
use super::refusal;
use super::session::{Session, State, Step};
use crate::proto::audit::{Suspects, question};
use crate::proto::ledger::Status;
use crate::proto::messages;
use crate::proto::parameters::{Parameters, is_utf8};
use crate::proto::pin::PinReason;
use crate::server::columns;

/// Most bytes of settings that follow a client. One with more keeps its server connection.
const MOST_BYTES: usize = 16 * 1024;
/// Most settings that follow a client.
const MOST_SETTINGS: usize = 200;

impl Session {
    /// Asks PostgreSQL, behind everything that was sent. Nobody waits for the answer but the server connection.
    pub(super) fn begin_audit(&mut self, cx: &mut Context<'_>) {
        let State::Active(active) = &mut self.state else { return };
        let suspects = active.suspects;
        if active.lease.ledger.status() == Status::Idle {
            active.suspects = Suspects::NONE;
        }
        active.auditing.insert(suspects);
        for (name, _) in self.wanted.iter().filter(|(name, _)| name.contains('.')) {
            active.note_name(name);
        }
        let extra = active.extra();
        (extra.answer, extra.overflow) = Default::default();
        let sql = question(suspects, extra.names.iter().map(String::as_str));
        self.pool.metrics.audited();
        // A simple query ends the unnamed statement.
        active.unnamed_here = false;
        active.lease.ledger.sent_audit();
        let mut message = vec![];
        crate::server::query(&mut message, &sql);
        let server = &mut *active.lease;
        // A server that is gone is noticed by the read that follows.
        let _ = server.outbox.write(&mut server.stream, cx, &message);
        self.watch(Instant::now());
    }

    /// A row of the answer.
    pub(super) fn audit_row(active: &mut Active, body: &[u8], whole: bool) {
        let row = columns(body).filter(|_| whole);
        let is_ascii = row.as_ref().is_none_or(|row| row.iter().flatten().all(|text| text.is_ascii()));
        let lease = &active.lease;
        let encoding = || lease.parameters.get("client_encoding").or(lease.base.get("client_encoding"));
        // Text in another encoding than the proxy's own is not to be sent again from there.
        let foreign = !is_ascii && !is_utf8(encoding());
        let extra = active.extra();
        extra.overflow |= foreign || !row.is_some_and(|row| extra.answer.row(&row));
        extra.overflow |= extra.answer.settings.len() > MOST_SETTINGS;
    }

    /// PostgreSQL would not answer; the server connection stays suspect, and is cleaned before anybody else has it.
    pub(super) fn audit_failed(&mut self) {
        self.seat.door().mishaps.count("cannot_ask");
        line!(debug, self, "cannot find out what a transaction has left behind");
        if let State::Active(active) = &mut self.state {
            active.extra().failed = true;
        }
    }

    /// The answer is complete.
    pub(super) fn audited(&mut self, cx: &mut Context<'_>) -> Step {
        let State::Active(active) = &mut self.state else { return Ok(()) };
        let asked = std::mem::take(&mut active.auditing);
        let resets = std::mem::take(&mut active.resets) | std::mem::take(&mut active.audit_resets);
        let extra = active.extra();
        let (answer, overflow) = (std::mem::take(&mut extra.answer), std::mem::take(&mut extra.overflow));
        let failed = std::mem::take(&mut extra.failed);
        extra.names.clear();
        let mut pins = answer.pins;
        if failed {
            // It may have left anything of this behind. It is asked again behind the client's next transaction.
            extra.ask_again = asked;
            pins = pins.union(asked.reasons());
        }
        if self.statements.as_ref().is_some_and(|all| all.are_on_server()) {
            pins.insert(PinReason::SqlPrepare);
        }
        for reason in asked.reasons().iter() {
            if pins.contains(reason) { active.pin(reason) } else { active.unpin(reason) }
        }
        let warnings = std::mem::take(&mut active.warnings);
        let mut words = vec![];
        for reason in warnings.iter() {
            messages::notice_response(&mut words, &refusal::pinned(reason));
        }
        if failed && !asked.contains(Suspects::SETTINGS) {
            // What was known of its settings holds.
        } else if failed || overflow || answer.settings.size() > MOST_BYTES {
            active.pin(PinReason::SessionMode);
        } else if asked.contains(Suspects::SETTINGS) {
            self.follow(&answer.settings, resets, &mut words);
        }
        let State::Active(active) = &mut self.state else { return Ok(()) };
        active.reshaped &= active.lease.ledger.status() != Status::Idle;
        if std::mem::take(&mut active.held_ready) {
            messages::ready_for_query(&mut words, active.lease.ledger.status().byte());
        }
        self.write_client(cx, &words)
    }

    /// The client's settings are these from now on; if some were reset, those that it has logged in with come back.
    fn follow(&mut self, settings: &Parameters, resets: bool, words: &mut Vec<u8>) {
        let State::Active(active) = &mut self.state else { return };
        active.unpin(PinReason::SessionMode);
        let lease = &mut active.lease;
        let base = Arc::clone(&lease.base);
        // What is set to its default stays set for a client that has logged in with something else.
        let has = settings
            .iter()
            .filter(|(name, value)| base.get(name) != Some(value) || self.login.get(name).is_some());
        let has = Arc::new(Parameters::collect(has));
        // A setting whose name is not known is taken back before the next use.
        lease.unsure = std::mem::take(&mut active.unknown_names);
        // What it logged in with is what RESET brings back directly; here the server has brought back its own.
        let mut wanted = Arc::clone(&has);
        for (name, value) in self.login.iter().filter(|_| resets) {
            if is_unset(settings, name) {
                Arc::make_mut(&mut wanted).set(name, value);
            }
            let now = |settings: &Parameters| settings.get(name).or(base.get(name)).map(str::to_owned);
            if let Some(value) = now(&wanted).filter(|value| now(&self.wanted).as_ref() != Some(value))
                && base.get(name).is_some()
            {
                messages::parameter_status(words, name, &value);
            }
        }
        lease.parameters = has;
        if lease.ledger.status() != Status::Idle {
            active.wanted_before.get_or_insert_with(|| Arc::clone(&self.wanted));
        }
        self.wants(wanted);
    }
}

/// A custom setting that was reset is empty.
fn is_unset(settings: &Parameters, name: &str) -> bool {
    settings.get(name).is_none_or(|value| value.is_empty() && name.contains('.'))
}
