//! As whom a client gets server connections: the function that it belongs to, and how long it wants to wait. Both come from
//! its parameters, and are kept up with them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::door::Door;
use super::session::Session;
use super::traced::TRACEPARENT;
use crate::guard::{Caller, KeyId};
use crate::pool::Pool;
use crate::proto::function;
use crate::proto::parameters::{Parameters, application_name};
use crate::proto::startup::StartupPacket;
use crate::proto::statements::tag as trace_tag;
use crate::wire::{Header, Side, header, tag};

const APPLICATION_NAME: &str = "application_name";

/// The client's own deadline for a transaction, from its beginning, in milliseconds: a startup option
/// (`-c pgcorral.deadline_ms=2500`) or a `SET`, since PostgreSQL lets anybody set a name with a dot.
const DEADLINE: &str = "pgcorral.deadline_ms";

const STATEMENT_TIMEOUT: &str = "statement_timeout";

/// The name of a client's function by what it has logged in with.
pub(super) fn name(door: &Door, wanted: &Parameters, user: &str) -> Arc<str> {
    // Nobody logs in without a user, so its address is not needed.
    let caller =
        function::Caller { tag: None, application_name: wanted.get(APPLICATION_NAME), user, address: None };
    door.params.functions.name(&caller).into()
}

/// The name of a client's function by what it says at login, before its parameters are settled.
pub(super) fn at_login(door: &Door, startup: &StartupPacket, address: Option<IpAddr>) -> String {
    let named = startup.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(APPLICATION_NAME));
    let named = named.map(|(_, value)| application_name(value));
    let (application_name, user) = (named.as_deref(), startup.user.as_str());
    door.params.functions.name(&function::Caller { tag: None, application_name, user, address })
}

/// What the gate knows a client by.
pub(super) struct Standing {
    key: KeyId,
    /// Zero: it has not said.
    patience_ms: u32,
    /// Its transactions are to be over by then.
    works_by_then: bool,
}

impl Standing {
    /// A client of this function with these parameters; until it leaves.
    pub(super) fn of(pool: &Pool, function: &str, wanted: &Parameters) -> Self {
        let (patience_ms, works_by_then) = patience(wanted);
        Self { key: pool.enter_function(function), patience_ms, works_by_then }
    }

    /// The client has gone, or goes by another name.
    pub(super) fn leave(&self, pool: &Pool) {
        pool.leave_function(self.key);
    }
}

impl Session {
    /// These are the parameters that its server connection shall have from now on.
    pub(super) fn wants(&mut self, wanted: Arc<Parameters>) {
        let changed = |name| self.wanted.get(name) != wanted.get(name);
        let is_renamed = changed(APPLICATION_NAME);
        let is_traced_anew = self.trace.is_some() && (is_renamed || changed(TRACEPARENT));
        if is_renamed {
            let function = name(self.seat.door(), &wanted, &self.pool.params.user);
            self.is_tagged = false;
            self.belongs_to(function, &wanted);
        } else if changed(DEADLINE) || changed(STATEMENT_TIMEOUT) {
            (self.standing.patience_ms, self.standing.works_by_then) = patience(&wanted);
        }
        if is_traced_anew {
            self.trace_follows(&wanted);
        }
        self.wanted = wanted;
    }

    fn belongs_to(&mut self, function: Arc<str>, wanted: &Parameters) {
        self.function = function;
        self.standing.leave(&self.pool);
        self.standing = Standing::of(&self.pool, &self.function, wanted);
        self.count_anew();
    }

    /// A transaction begins with this message, which may say by a tag which function it is of.
    #[cold]
    pub(super) fn look_for_tag(&mut self, message: &[u8]) {
        let functions = &self.seat.door().params.functions;
        let tag = text_of(message).and_then(|text| trace_tag(text, &functions.tags));
        let (application_name, user) = (None, self.pool.params.user.as_str());
        let function = match &tag {
            Some(tag) => {
                let tag = Some(tag.as_str());
                functions.name(&function::Caller { tag, application_name, user, address: None }).into()
            }
            None if self.is_tagged => name(self.seat.door(), &self.wanted, user),
            None => return,
        };
        self.is_tagged = tag.is_some();
        if self.function != function {
            let wanted = Arc::clone(&self.wanted);
            self.belongs_to(function, &wanted);
        }
    }

    /// Who asks for a server connection.
    #[inline]
    pub(super) fn caller(&self) -> Caller {
        let Standing { key, patience_ms, works_by_then } = self.standing;
        let patience = (patience_ms > 0).then(|| Duration::from_millis(u64::from(patience_ms)));
        // A number that says nothing about the order in which clients came.
        let number = self.member.process_id as u32;
        let lot = number.wrapping_mul(0x9E37_79B9).rotate_left(15).wrapping_mul(0x85EB_CA6B);
        Caller { home: self.home, key, lot, patience, works_by_then, urgent: self.failed }
    }
}

/// The text of a Query or Parse message; None if it is another one, or has not all come.
fn text_of(message: &[u8]) -> Option<&[u8]> {
    let Header { tag, total } = header(Side::Client, message).ok()??;
    let body = message.get(Header::SIZE..total)?;
    match tag {
        tag::QUERY => body.strip_suffix(b"\0"),
        tag::PARSE => body.split(|byte| *byte == 0).nth(1),
        _ => None,
    }
}

/// How long the client wants to wait, and whether its transactions are to be over by then: the deadline that it has set, or
/// else the time after which PostgreSQL is to give up on a statement. Who waits for longer than that is served in vain.
fn patience(parameters: &Parameters) -> (u32, bool) {
    let own = parameters.get(DEADLINE).and_then(|value| value.trim().parse().ok()).filter(|ms| *ms > 0);
    let timeout = || parameters.get(STATEMENT_TIMEOUT).and_then(milliseconds);
    (own.or_else(timeout).unwrap_or(0), own.is_some())
}

/// PostgreSQL's notation of a time whose unit is the millisecond (manual, "Setting Parameters"). None: none, or not understood.
fn milliseconds(value: &str) -> Option<u32> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let factor = match unit.trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let time = number.parse::<f64>().ok()? * factor;
    (time >= 1.0 && time <= f64::from(u32::MAX)).then_some(time as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_messages() {
        for (message, text) in [
            (&b"Q\0\0\0\x0dselect 1\0"[..], Some(&b"select 1"[..])),
            (b"Q\0\0\0\x0dselect 1\0Q\0", Some(b"select 1")),
            (b"Q\0\0\0\x0dselect", None),
            (b"P\0\0\0\x11a\0select 1\0\0\0", Some(b"select 1")),
            (b"S\0\0\0\x04", None),
            (b"", None),
        ] {
            assert_eq!(text_of(message), text, "{message:?}");
        }
    }

    #[test]
    fn a_deadline_is_the_clients_own_or_its_statement_timeout() {
        let of = |pairs: &[(&str, &str)]| patience(&Parameters::collect(pairs.iter().copied())).0;
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[("pgcorral.deadline_ms", "2500")]), 2500);
        assert_eq!(of(&[("statement_timeout", "3s"), ("pgcorral.deadline_ms", "2500")]), 2500);
        assert_eq!(of(&[("statement_timeout", "3s"), ("pgcorral.deadline_ms", "")]), 3000);
        for (value, ms) in
            [("0", 0), ("1500", 1500), ("1.5s", 1500), ("2min", 120_000), ("soon", 0), ("9us", 0)]
        {
            assert_eq!(of(&[("statement_timeout", value)]), ms, "{value}");
        }
        for odd in ["-1", "1e9", "99999999999", "\u{0}", "1 2"] {
            assert_eq!(of(&[("pgcorral.deadline_ms", odd)]), 0, "{odd}");
        }
    }
}
