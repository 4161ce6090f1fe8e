//! A client's transaction while it runs, as far as it may have to be recorded.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use super::record::{Outcome, Record, Subject};
use super::tracer::Tracer;
use crate::obs::Reason;
use crate::proto::sql::is_transaction_begin;
use crate::proto::trace::{TraceParent, is_recorded};

/// Most bytes of a query's text that are kept.
const LONGEST_TEXT: usize = 2048;

/// What may have to be told of a client's transaction. One for each client, used again: a transaction that is not recorded
/// allocates nothing.
#[derive(Debug)]
pub struct Transaction {
    /// What the client's settings say, until they say something else.
    standing: Option<TraceParent>,
    /// What a comment of this transaction says.
    said: Option<TraceParent>,
    /// The trace that begins here, if the lot has fallen so.
    drawn: Option<[u8; 16]>,
    is_open: bool,
    began: Instant,
    waits: bool,
    waited: Duration,
    sqlstate: Option<[u8; 5]>,
    text: Vec<u8>,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As PostgreSQL has said.
    Done,
    /// It was not admitted.
    Shed(Reason),
    /// The proxy has ended it.
    Stopped(Reason),
    /// Something else, by a word.
    Broken(&'static str),
}

impl Transaction {
    /// None yet, of a client whose settings say this.
    pub fn new(standing: Option<TraceParent>, now: Instant) -> Self {
        Self {
            standing,
            said: None,
            drawn: None,
            is_open: false,
            began: now,
            waits: false,
            waited: Duration::ZERO,
            sqlstate: None,
            text: vec![],
        }
    }

    /// The client's settings say this from now on.
    pub fn set_standing(&mut self, standing: Option<TraceParent>) {
        self.standing = standing;
    }

    /// It begins.
    pub fn begin(&mut self, now: Instant, tracer: &Tracer) {
        self.text.clear();
        let (standing, text) = (self.standing, std::mem::take(&mut self.text));
        let drawn = if standing.is_none() { tracer.draw() } else { None };
        *self = Self { drawn, is_open: true, text, ..Self::new(standing, now) };
    }

    /// Whether it has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether texts may still say something.
    pub fn is_looking(&self, tracer: &Tracer) -> bool {
        self.is_open && (self.said.is_none() || tracer.keeps_texts() && self.text.is_empty())
    }

    /// The text of a statement of it.
    #[inline]
    pub fn look_at(&mut self, text: &[u8], tracer: &Tracer) {
        if self.said.is_none() {
            self.said = TraceParent::of_statement(text);
        }
        if tracer.keeps_texts() && self.text.is_empty() && !is_transaction_begin(text) {
            self.text.extend_from_slice(text.get(..LONGEST_TEXT).unwrap_or(text));
        }
    }

    /// It waits for a server connection.
    pub fn waits(&mut self) {
        self.waits = true;
    }

    /// The wait is over.
    pub fn has_waited(&mut self, now: Instant) {
        if self.waits && self.waited.is_zero() {
            self.waited = now.saturating_duration_since(self.began);
        }
    }

    /// The client is told of an error. The first one counts.
    pub fn failed(&mut self, sqlstate: &[u8]) {
        self.sqlstate = self.sqlstate.or_else(|| sqlstate.try_into().ok());
    }

    fn parent(&self) -> Option<TraceParent> {
        self.said.or(self.standing)
    }

    /// The trace that it belongs to, as far as it is known.
    pub fn trace_id(&self) -> Option<TraceId> {
        let parent = self.parent().map(|parent| parent.trace_id);
        parent.or(self.drawn).filter(|_| self.is_open).map(TraceId)
    }

    /// It ends. What `subject` says is asked only if it is recorded.
    pub fn end(&mut self, now: Instant, ending: Ending, tracer: &Tracer, subject: impl FnOnce() -> Subject) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        self.has_waited(now);
        let parent = self.parent();
        let shed = matches!(ending, Ending::Shed(_));
        let too_long = tracer.is_too_long(self.waited);
        if !is_recorded(parent, self.drawn.is_some(), shed, too_long) {
            return;
        }
        let own = || self.drawn.unwrap_or_else(rand::random);
        let took = now.saturating_duration_since(self.began);
        tracer.record(Record {
            trace_id: parent.map_or_else(own, |parent| parent.trace_id),
            span_id: rand::random(),
            parent: parent.map(|parent| parent.span_id),
            began: SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH),
            took,
            wait: self.waits.then(|| (rand::random(), self.waited)),
            outcome: self.outcome(ending),
            text: (!self.text.is_empty()).then(|| self.text.clone()),
            subject: subject(),
        });
    }

    fn outcome(&self, ending: Ending) -> Outcome {
        let by = |reason: Reason| (Some(reason.as_str()), reason.terms().sqlstate.as_bytes().try_into().ok());
        let (reason, sqlstate) = match ending {
            Ending::Done => (None, None),
            Ending::Shed(reason) | Ending::Stopped(reason) => by(reason),
            Ending::Broken(word) => (Some(word), None),
        };
        Outcome { sqlstate: self.sqlstate.or(sqlstate), reason, is_shed: matches!(ending, Ending::Shed(_)) }
    }
}

/// The id of a trace, as it is written everywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
