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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc::Receiver;

    use super::super::tracer::Item;
    use super::*;

    const SLOW: Duration = Duration::from_millis(250);
    const SAMPLED: &[u8] =
        b"select 1 /*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/";
    const UNSAMPLED: &[u8] =
        b"select 1 /*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00'*/";

    struct Client {
        transaction: Transaction,
        tracer: Tracer,
        records: Receiver<Item>,
        now: Instant,
    }

    impl Client {
        fn new(sample: f64) -> Self {
            let (tracer, records) = Tracer::alone(sample, SLOW, true);
            let now = Instant::now();
            Self { transaction: Transaction::new(None, now), tracer, records, now }
        }

        fn begin(&mut self, text: &[u8]) -> &mut Self {
            self.transaction.begin(self.now, &self.tracer);
            self.look_at(text)
        }

        fn look_at(&mut self, text: &[u8]) -> &mut Self {
            self.transaction.look_at(text, &self.tracer);
            self
        }

        fn wait(&mut self, time: Duration) -> &mut Self {
            self.transaction.waits();
            self.now += time;
            self.transaction.has_waited(self.now);
            self
        }

        fn end(&mut self, ending: Ending) -> Option<Record> {
            self.now += Duration::from_millis(10);
            self.transaction.end(self.now, ending, &self.tracer, || Subject {
                database: "app".into(),
                user: "web".into(),
                function: Arc::from("pay"),
                client: 1,
                client_address: None,
                server_address: "db".into(),
                server_port: None,
                server_pid: None,
                pins: vec![],
            });
            match self.records.try_recv() {
                Ok(Item::Record(record)) => Some(*record),
                _ => None,
            }
        }
    }

    #[test]
    fn the_callers_span_is_the_parent() {
        let mut client = Client::new(0.0);
        let record = client.begin(b"begin").look_at(SAMPLED).look_at(b"commit").end(Ending::Done).unwrap();
        assert_eq!(record.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(record.parent.map(|parent| parent[1]), Some(0xf0));
        assert_eq!((record.took, record.wait), (Duration::from_millis(10), None));
        assert_eq!(record.outcome, Outcome::default());
        assert_eq!(record.text.as_deref(), Some(SAMPLED), "the BEGIN says nothing");
        assert_eq!(client.begin(b"select 1").end(Ending::Done), None, "the next one has no parent");
        assert_eq!(client.end(Ending::Done), None, "none is open");
    }

    #[test]
    fn sheds_and_slow_waits_begin_a_trace_and_not_against_the_callers_will() {
        let shed = Ending::Shed(Reason::QueueTimeout);
        let mut client = Client::new(0.0);
        let record = client.begin(b"select 1").wait(Duration::from_millis(1)).end(shed).unwrap();
        assert_eq!((record.parent, record.spans()), (None, 2));
        assert_eq!(record.outcome.sqlstate, Some(*b"53300"));
        assert!(record.outcome.is_shed && record.outcome.is_error());
        let record = client.begin(b"select 1").wait(SLOW).end(Ending::Done).unwrap();
        assert_eq!(record.wait.map(|(_, waited)| waited), Some(SLOW));
        assert_eq!(client.begin(b"select 1").wait(SLOW - Duration::from_millis(1)).end(Ending::Done), None);
        assert_eq!(client.begin(UNSAMPLED).wait(SLOW).end(shed), None);
    }

    #[test]
    fn a_trace_that_begins_here_is_known_from_its_beginning() {
        let mut client = Client::new(1.0);
        assert_eq!(client.transaction.trace_id(), None);
        client.begin(b"select 1");
        let id = client.transaction.trace_id().unwrap();
        assert_eq!(client.end(Ending::Done).map(|record| TraceId(record.trace_id)), Some(id));
        assert_eq!(client.begin(UNSAMPLED).end(Ending::Done), None, "the caller knows better");
        client.begin(UNSAMPLED);
        assert_eq!(client.transaction.trace_id().unwrap().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn the_first_error_counts() {
        let mut client = Client::new(1.0);
        client.begin(b"select 1");
        client.transaction.failed(b"22012");
        client.transaction.failed(b"25P02");
        let record = client.end(Ending::Stopped(Reason::TransactionTimeout)).unwrap();
        assert_eq!(record.outcome.sqlstate, Some(*b"22012"));
        assert_eq!(record.outcome.reason, Some("transaction_timeout"));
        client.begin(b"select 1");
        client.transaction.failed(b"");
        assert_eq!(client.end(Ending::Done).unwrap().outcome.sqlstate, None);
    }

    #[test]
    fn what_does_not_fit_is_dropped() {
        let (tracer, mut records) = Tracer::alone(1.0, SLOW, false);
        let mut client = Client { tracer, ..Client::new(1.0) };
        for _ in 0..3000 {
            client.begin(b"select 1").end(Ending::Done);
        }
        let mut held = 0;
        while records.try_recv().is_ok() {
            held += 1;
        }
        assert_eq!(held, 2048);
    }
}
