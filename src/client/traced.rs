//! Traces of a client's transactions: where they begin and end. Where there is no tracer, all of it is a branch that is not
//! taken.

use std::time::Instant;

use super::door::Door;
use super::session::{End, Session, State};
use crate::net::UpstreamAddress;
use crate::obs::Reason;
use crate::proto::parameters::Parameters;
use crate::proto::trace::TraceParent;
use crate::trace::{Ending, Subject, TraceId, Transaction};
use crate::wire::{Header, Side, header, tag};

/// The trace that a client belongs to until it says something else: a startup option (`-c pgcorral.traceparent=…`) or a
/// `SET`, since PostgreSQL lets anybody set a name with a dot.
pub(super) const TRACEPARENT: &str = "pgcorral.traceparent";

/// Where a client's transactions are noted, if there is a tracer.
pub(super) fn notes(door: &Door, wanted: &Parameters) -> Option<Box<Transaction>> {
    door.tracer.as_ref().map(|_| Box::new(Transaction::new(standing(wanted), Instant::now())))
}

/// What a client's settings say of the trace that it belongs to.
fn standing(wanted: &Parameters) -> Option<TraceParent> {
    let own = wanted.get(TRACEPARENT).and_then(|value| TraceParent::parse(value.trim().as_bytes()));
    own.or_else(|| TraceParent::of_name(wanted.get("application_name")?).map(|(parent, _)| parent))
}

impl Session {
    /// The trace that the client's transaction belongs to, if that is known.
    pub(super) fn trace_id(&self) -> Option<TraceId> {
        self.trace.as_ref()?.trace_id()
    }

    /// The client's settings are these from now on.
    pub(super) fn trace_follows(&mut self, wanted: &Parameters) {
        if let Some(trace) = &mut self.trace {
            trace.set_standing(standing(wanted));
        }
    }

    /// A transaction begins with these messages.
    #[cold]
    pub(super) fn trace_begins(&mut self, now: Instant, messages: &[u8]) {
        if let (Some(trace), Some(tracer)) = (&mut self.trace, &self.seat.door().tracer) {
            trace.begin(now, tracer);
        }
        self.trace_looks_at(messages);
    }

    /// Messages of the transaction; the last one may not have come whole.
    #[cold]
    pub(super) fn trace_looks_at(&mut self, messages: &[u8]) {
        let (Some(trace), Some(tracer)) = (&mut self.trace, &self.seat.door().tracer) else { return };
        let mut rest = messages;
        while trace.is_looking(tracer)
            && let Ok(Some(Header { tag, total })) = header(Side::Client, rest)
            && let Some((message, behind)) = rest.split_at_checked(total)
        {
            let body = message.get(Header::SIZE..).unwrap_or_default();
            if let Some(text) = text_of(tag, body) {
                trace.look_at(text, tracer);
            }
            rest = behind;
        }
    }

    /// It has a server connection.
    #[cold]
    pub(super) fn trace_is_granted(&mut self, now: Instant) {
        if let Some(trace) = &mut self.trace {
            trace.has_waited(now);
        }
    }

    /// The client is told of an error in it.
    #[inline]
    pub(super) fn trace_fails(&mut self, sqlstate: &[u8]) {
        if let Some(trace) = &mut self.trace {
            trace.failed(sqlstate);
        }
    }

    /// The transaction ends, if one has begun.
    #[inline]
    pub(super) fn trace_ends(&mut self, now: Instant, ending: Ending) {
        if self.trace.is_some() {
            self.record(now, ending);
        }
    }

    #[cold]
    fn record(&mut self, now: Instant, ending: Ending) {
        let Some(mut trace) = self.trace.take() else { return };
        if let Some(tracer) = &self.seat.door().tracer {
            trace.end(now, ending, tracer, || self.subject());
        }
        self.trace = Some(trace);
    }

    /// The session ends; so does what it had begun.
    pub(super) fn trace_ends_with(&mut self, end: &End) {
        let Some(trace) = &mut self.trace else { return };
        let ending = match end {
            End::Terminated => Ending::Broken("terminated"),
            End::ClientLeft => Ending::Broken("client_left"),
            End::Violation(_) => Ending::Stopped(Reason::ProtocolViolation),
            End::MidMessage => Ending::Stopped(Reason::ServerLost),
            End::Stalled => Ending::Stopped(Reason::ClientStallTimeout),
            End::Fatal(report) => {
                trace.failed(report.sqlstate.as_bytes());
                Ending::Broken("ended")
            }
        };
        self.trace_ends(Instant::now(), ending);
    }

    fn subject(&self) -> Subject {
        let params = &self.pool.params;
        let (server_address, server_port) = match self.pool.address() {
            UpstreamAddress::Tcp { host, port } => (host.clone(), Some(*port)),
            UpstreamAddress::Unix(path) => (path.display().to_string(), None),
        };
        let active = if let State::Active(active) = &self.state { Some(active) } else { None };
        let pins = active.into_iter().flat_map(|active| active.pins.iter());
        Subject {
            database: params.database.clone(),
            user: params.user.clone(),
            function: self.function.clone(),
            client: self.member.process_id,
            client_address: self.counted.address(),
            server_address,
            server_port,
            server_pid: active.map(|active| active.lease.cancel.process_id()),
            pins: pins.map(|pin| pin.as_str()).collect(),
        }
    }
}

/// The text of a Query or Parse message.
fn text_of(kind: u8, body: &[u8]) -> Option<&[u8]> {
    match kind {
        tag::QUERY => body.strip_suffix(b"\0"),
        tag::PARSE => body.split(|byte| *byte == 0).nth(1),
        _ => None,
    }
}
