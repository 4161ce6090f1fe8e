//! The handles of one pool, labels resolved.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::labels::{DestroyReason, DialResult, LabelValue, Phase, Prepare, Shed, Timeout, WaitOutcome};
use super::metrics::{CounterBy, counters, histograms};
use super::table;
use crate::proto::pin::PinReason;

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
    dial: Histogram,
    transactions: IntCounter,
    server_errors: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    sheds: CounterBy<Shed>,
    dials: CounterBy<DialResult>,
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

    /// PostgreSQL answered a client with an ErrorResponse.
    pub fn server_error(&self) {
        self.0.server_errors.inc();
    }

    /// So many bytes of messages came from a client.
    pub fn received(&self, bytes: u64) {
        self.0.received.inc_by(bytes);
    }

    /// So many bytes of messages went to a client.
    pub fn sent(&self, bytes: u64) {
        self.0.sent.inc_by(bytes);
    }

    /// An attempt to open a server connection is over, after `took`.
    pub fn dialled(&self, result: DialResult, took: Duration) {
        self.0.dials.inc(result);
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
    dial: HistogramVec,
    transactions: IntCounterVec,
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
            dial: histograms(registry, &table::DIAL)?,
            transactions: counters(registry, &table::TRANSACTIONS)?,
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
        PoolMetrics(Arc::new(Series {
            granted: wait(WaitOutcome::Granted),
            shed: wait(WaitOutcome::Shed),
            abandoned: wait(WaitOutcome::Abandoned),
            cancelled: wait(WaitOutcome::Cancelled),
            hold: self.hold.with_label_values(&pool),
            exec: self.exec.with_label_values(&pool),
            dial: self.dial.with_label_values(&pool),
            transactions: self.transactions.with_label_values(&pool),
            server_errors: self.server_errors.with_label_values(&pool),
            received: self.received.with_label_values(&pool),
            sent: self.sent.with_label_values(&pool),
            sheds: CounterBy::resolve(&self.sheds, &pool),
            dials: CounterBy::resolve(&self.dials, &pool),
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
