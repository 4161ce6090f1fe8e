//! What all clients share: how much is recorded, and the way to the exporter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::exporter::Exporter;
use super::params::TraceParams;
use super::record::Record;
use super::transport::{Transport, TransportError};
use crate::obs::{SpanMetrics, SpanResult};
use crate::proto::trace::Ratio;

/// Most records that wait for the exporter: some seconds of the busiest proxy that records one in a hundred, and a few MiB at
/// most.
const QUEUE: usize = 2048;

/// What goes to the exporter.
pub(super) enum Item {
    Record(Box<Record>),
    /// Everything before this is to be sent now.
    Flush(oneshot::Sender<()>),
}

/// Decides what is recorded, and takes records. Never blocks.
pub struct Tracer {
    queue: mpsc::Sender<Item>,
    metrics: SpanMetrics,
    /// A share, as the bits of a float.
    sample: AtomicU64,
    /// In nanoseconds.
    slow_wait: AtomicU64,
    keeps_texts: bool,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("waiting", &(QUEUE - self.queue.capacity())).finish_non_exhaustive()
    }
}

impl Tracer {
    /// A tracer and its exporter, which is to be run.
    ///
    /// # Errors
    /// The collector cannot be spoken to in this way, whether or not it is there.
    pub fn new(params: &TraceParams, metrics: SpanMetrics) -> Result<(Arc<Self>, Exporter), TransportError> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let exporter =
            Exporter::new(receiver, Transport::new(params)?, &params.service_name, metrics.clone());
        let tracer = Self {
            queue,
            metrics,
            sample: AtomicU64::default(),
            slow_wait: AtomicU64::default(),
            keeps_texts: params.query_text,
        };
        tracer.set(params.sample, params.slow_wait);
        Ok((Arc::new(tracer), exporter))
    }

    /// A tracer whose records the test takes itself.
    #[cfg(test)]
    pub(super) fn alone(sample: f64, slow_wait: Duration, keeps_texts: bool) -> (Self, mpsc::Receiver<Item>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let metrics = crate::obs::Metrics::new().expect("the table is sound").spans().clone();
        let (sample, slow_wait) =
            (AtomicU64::new(sample.to_bits()), AtomicU64::new(slow_wait.as_nanos() as u64));
        (Self { queue, metrics, sample, slow_wait, keeps_texts }, receiver)
    }

    /// How much is recorded from now on.
    pub fn set(&self, sample: f64, slow_wait: Duration) {
        self.sample.store(sample.to_bits(), Ordering::Relaxed);
        let slow_wait = u64::try_from(slow_wait.as_nanos()).unwrap_or(u64::MAX);
        self.slow_wait.store(slow_wait, Ordering::Relaxed);
    }

    /// Draws a lot: a trace that begins here, if it is to be recorded.
    pub(super) fn draw(&self) -> Option<[u8; 16]> {
        let ratio = Ratio::new(f64::from_bits(self.sample.load(Ordering::Relaxed)));
        ratio.takes(rand::random()).then(rand::random)
    }

    pub(super) fn is_too_long(&self, waited: Duration) -> bool {
        !waited.is_zero() && waited.as_nanos() >= u128::from(self.slow_wait.load(Ordering::Relaxed))
    }

    pub(super) fn keeps_texts(&self) -> bool {
        self.keeps_texts
    }

    /// Takes a record, or drops and counts it if too many wait.
    pub fn record(&self, record: Record) {
        let spans = record.spans();
        if self.queue.try_send(Item::Record(Box::new(record))).is_err() {
            self.metrics.count(SpanResult::Dropped, spans);
        }
    }

    /// Has everything sent that was recorded so far; waits for it for as long as this at most.
    pub async fn flush(&self, limit: Duration) {
        let (done, is_done) = oneshot::channel();
        let flush = async {
            self.queue.send(Item::Flush(done)).await.ok()?;
            is_done.await.ok()
        };
        let _ = tokio::time::timeout(limit, flush).await;
    }
}
