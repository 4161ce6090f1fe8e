//! The handles of one pool, labels resolved.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Metric as _;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::labels::{
    DestroyReason, DialResult, ErrorClass, LabelValue, Phase, Prepare, Shed, Timeout, WaitOutcome,
};
use super::metrics::{CounterBy, counters, histograms};
use super::table;
use crate::proto::pin::PinReason;

/// A SQLSTATE without a series of its own.
const OTHER: &str = "other";

/// How dials end, and with which SQLSTATE: what does not occur together has no series.
const DIALS: [(DialResult, &str); 12] = [
    (DialResult::Ok, ""),
    (DialResult::Unreachable, ""),
    (DialResult::Unreachable, "57P03"),
    (DialResult::Unreachable, OTHER),
    (DialResult::Refused, ""),
    (DialResult::Refused, "28000"),
    (DialResult::Refused, "28P01"),
    (DialResult::Refused, "3D000"),
    (DialResult::Refused, OTHER),
    (DialResult::TooManyConnections, "53300"),
    (DialResult::ConnectionLimit, "53300"),
    (DialResult::NoFiles, ""),
];

/// What is counted about one pool. Cheap to clone; every method is a few relaxed atomic operations.
#[derive(Clone)]
pub struct PoolMetrics(Arc<Series>);

struct Series {
    granted: Histogram,
    shed: Histogram,
    abandoned: Histogram,
    cancelled: Histogram,
    hold: Histogram,
    exec: Histogram,
    first_row: Histogram,
    dial: Histogram,
    transactions: IntCounter,
    queries: IntCounter,
    server_errors: CounterBy<ErrorClass>,
    received: IntCounter,
    sent: IntCounter,
    sheds: CounterBy<Shed>,
    dials: Vec<((DialResult, &'static str), IntCounter)>,
    destroyed: CounterBy<DestroyReason>,
    pins: CounterBy<PinReason>,
    timeouts: CounterBy<Timeout>,
    vanished: CounterBy<Phase>,
    prepares: CounterBy<Prepare>,
    reprepares: IntCounter,
    audits: IntCounter,
}

impl PoolMetrics {
    /// A client's wait for a server connection is over, after `wait`. A grant without waiting counts too, as zero.
    pub fn waited(&self, outcome: WaitOutcome, wait: Duration) {
        let series = &self.0;
        let histogram = match outcome {
            WaitOutcome::Granted => &series.granted,
            WaitOutcome::Shed => &series.shed,
            WaitOutcome::Abandoned => &series.abandoned,
            WaitOutcome::Cancelled => &series.cancelled,
        };
        histogram.observe(wait.as_secs_f64());
    }

    /// A client gave its server connection back, after `hold`.
    pub fn held(&self, hold: Duration) {
        self.0.hold.observe(hold.as_secs_f64());
    }

    /// PostgreSQL was ready for the next request `exec` after it got this one.
    pub fn executed(&self, exec: Duration) {
        self.0.exec.observe(exec.as_secs_f64());
    }

    /// A transaction is over.
    pub fn transaction(&self) {
        self.0.transactions.inc();
    }

    /// A request was answered with an overload error.
    pub fn shed(&self, reason: impl Into<Shed>) {
        self.0.sheds.inc(reason.into());
    }

    /// PostgreSQL has completed a statement.
    #[inline]
    pub fn query(&self) {
        self.0.queries.inc();
    }

    /// The first row of a request came `after` it.
    pub fn first_row(&self, after: Duration) {
        self.0.first_row.observe(after.as_secs_f64());
    }

    /// PostgreSQL answered a client with an ErrorResponse that has this SQLSTATE.
    pub fn server_error(&self, sqlstate: Option<&[u8]>) {
        self.0.server_errors.inc(ErrorClass::of(sqlstate));
    }

    /// So many bytes of messages came from a client.
    pub fn received(&self, bytes: u64) {
        self.0.received.inc_by(bytes);
    }

    /// So many bytes of messages went to a client.
    pub fn sent(&self, bytes: u64) {
        self.0.sent.inc_by(bytes);
    }

    /// An attempt to open a server connection is over, after `took`; with this SQLSTATE, if PostgreSQL has refused it.
    pub fn dialled(&self, result: DialResult, sqlstate: Option<&str>, took: Duration) {
        let of =
            |state: &str| self.0.dials.iter().find(|((known, code), _)| *known == result && *code == state);
        if let Some((_, counter)) = of(sqlstate.unwrap_or_default()).or_else(|| of(OTHER)).or_else(|| of(""))
        {
            counter.inc();
        }
        self.0.dial.observe(took.as_secs_f64());
    }

    /// A client begins to keep its server connection.
    pub fn pinned(&self, reason: PinReason) {
        self.0.pins.inc(reason);
    }

    /// Something took too long.
    pub fn timed_out(&self, timeout: Timeout) {
        self.0.timeouts.inc(timeout);
    }

    /// A client has vanished.
    pub fn abandoned(&self, phase: Phase) {
        self.0.vanished.inc(phase);
    }

    /// A prepared statement was asked for, and the server connection had it or not.
    pub fn prepared(&self, hit: bool) {
        self.0.prepares.inc(if hit { Prepare::Hit } else { Prepare::Miss });
    }

    /// A batch is sent again.
    pub fn reprepared(&self) {
        self.0.reprepares.inc();
    }

    /// PostgreSQL is asked what a transaction has left behind.
    pub fn audited(&self) {
        self.0.audits.inc();
    }

    /// A server connection was closed.
    pub fn destroyed(&self, reason: DestroyReason) {
        self.0.destroyed.inc(reason);
    }
}

/// What a histogram has counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Distribution {
    /// How many values are no larger than each bound, and how many there are.
    pub(super) buckets: Vec<u64>,
    /// Their sum, in seconds.
    pub(super) sum: f64,
}

impl Distribution {
    fn of(histogram: &Histogram) -> Self {
        let metric = histogram.metric();
        let counted = metric.get_histogram();
        let buckets = counted.get_bucket().iter().map(|bucket| bucket.cumulative_count());
        let all = counted.get_sample_count();
        Self { buckets: buckets.chain([all]).collect(), sum: counted.get_sample_sum() }
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.last().copied().unwrap_or_default()
    }
}

/// What a pool has counted since the start, as far as the live page shows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub(super) transactions: u64,
    pub(super) queries: u64,
    pub(super) errors: u64,
    /// In the order of the label's values.
    pub(super) sheds: Vec<u64>,
    /// Waits that ended with a server connection.
    pub(super) wait: Distribution,
    pub(super) hold: Distribution,
    pub(super) exec: Distribution,
}

impl Totals {
    pub(super) fn shed_sum(&self) -> u64 {
        self.sheds.iter().sum()
    }
}

impl PoolMetrics {
    /// In the order of the label's values.
    pub(super) fn sheds(&self) -> Vec<u64> {
        self.0.sheds.values().collect()
    }

    pub(super) fn totals(&self) -> Totals {
        let series = &self.0;
        Totals {
            transactions: series.transactions.get(),
            queries: series.queries.get(),
            errors: series.server_errors.values().sum(),
            sheds: self.sheds(),
            wait: Distribution::of(&series.granted),
            hold: Distribution::of(&series.hold),
            exec: Distribution::of(&series.exec),
        }
    }
}

impl fmt::Debug for PoolMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMetrics").finish_non_exhaustive()
    }
}

/// The metrics of all pools, before a pool's names are filled in.
pub(super) struct PoolVectors {
    wait: HistogramVec,
    hold: HistogramVec,
    exec: HistogramVec,
    first_row: HistogramVec,
    dial: HistogramVec,
    transactions: IntCounterVec,
    queries: IntCounterVec,
    server_errors: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    sheds: IntCounterVec,
    dials: IntCounterVec,
    destroyed: IntCounterVec,
    pins: IntCounterVec,
    timeouts: IntCounterVec,
    vanished: IntCounterVec,
    prepares: IntCounterVec,
    reprepares: IntCounterVec,
    audits: IntCounterVec,
}

impl PoolVectors {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            wait: histograms(registry, &table::WAIT)?,
            hold: histograms(registry, &table::HOLD)?,
            exec: histograms(registry, &table::EXEC)?,
            first_row: histograms(registry, &table::FIRST_ROW)?,
            dial: histograms(registry, &table::DIAL)?,
            transactions: counters(registry, &table::TRANSACTIONS)?,
            queries: counters(registry, &table::QUERIES)?,
            server_errors: counters(registry, &table::SERVER_ERRORS)?,
            received: counters(registry, &table::CLIENT_RECEIVED)?,
            sent: counters(registry, &table::CLIENT_SENT)?,
            sheds: counters(registry, &table::SHEDS)?,
            dials: counters(registry, &table::DIALS)?,
            destroyed: counters(registry, &table::SERVERS_DESTROYED)?,
            pins: counters(registry, &table::PINS)?,
            timeouts: counters(registry, &table::TIMEOUTS)?,
            vanished: counters(registry, &table::ABANDONED)?,
            prepares: counters(registry, &table::PREPARES)?,
            reprepares: counters(registry, &table::REPREPARES)?,
            audits: counters(registry, &table::AUDITS)?,
        })
    }

    pub(super) fn resolve(&self, database: &str, user: &str) -> PoolMetrics {
        let pool = [database, user];
        let wait = |outcome: WaitOutcome| self.wait.with_label_values(&[database, user, outcome.label()]);
        let dials = |(result, sqlstate): (DialResult, &'static str)| {
            let labels = [database, user, result.label(), sqlstate];
            ((result, sqlstate), self.dials.with_label_values(&labels))
        };
        PoolMetrics(Arc::new(Series {
            granted: wait(WaitOutcome::Granted),
            shed: wait(WaitOutcome::Shed),
            abandoned: wait(WaitOutcome::Abandoned),
            cancelled: wait(WaitOutcome::Cancelled),
            hold: self.hold.with_label_values(&pool),
            exec: self.exec.with_label_values(&pool),
            first_row: self.first_row.with_label_values(&pool),
            dial: self.dial.with_label_values(&pool),
            transactions: self.transactions.with_label_values(&pool),
            queries: self.queries.with_label_values(&pool),
            server_errors: CounterBy::resolve(&self.server_errors, &pool),
            received: self.received.with_label_values(&pool),
            sent: self.sent.with_label_values(&pool),
            sheds: CounterBy::resolve(&self.sheds, &pool),
            dials: DIALS.map(dials).to_vec(),
            destroyed: CounterBy::resolve(&self.destroyed, &pool),
            pins: CounterBy::resolve(&self.pins, &pool),
            timeouts: CounterBy::resolve(&self.timeouts, &pool),
            vanished: CounterBy::resolve(&self.vanished, &pool),
            prepares: CounterBy::resolve(&self.prepares, &pool),
            reprepares: self.reprepares.with_label_values(&pool),
            audits: self.audits.with_label_values(&pool),
        }))
    }
}
