//! The one task that sends records to the collector.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::otlp::Spans;
use super::record::Record;
use super::tracer::Item;
use super::transport::{Failure, Transport};
use crate::obs::{SpanMetrics, SpanResult};

/// Most records of one request; each is one span or two.
const BATCH: usize = 256;
/// How long a record waits for others to go with.
const LINGER: Duration = Duration::from_secs(1);
/// How long it takes breath before it tries again. After the last one a batch is given up: meanwhile others come.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Takes records out of the queue and sends them.
#[derive(Debug)]
pub struct Exporter {
    queue: Receiver<Item>,
    transport: Transport,
    spans: Spans,
    metrics: SpanMetrics,
    /// Whether the last batch was lost, so that an outage of the collector is two lines in the log.
    is_down: bool,
}

impl Exporter {
    pub(super) fn new(
        queue: Receiver<Item>,
        transport: Transport,
        service_name: &str,
        metrics: SpanMetrics,
    ) -> Self {
        Self { queue, transport, spans: Spans::new(service_name), metrics, is_down: false }
    }

    /// Runs until the last tracer is gone.
    pub async fn run(mut self) {
        loop {
            let (batch, flushes, is_last) = self.batch().await;
            if !batch.is_empty() {
                self.export(&batch).await;
            }
            for done in flushes {
                // Whoever wanted to know may have given up.
                let _ = done.send(());
            }
            if is_last {
                return;
            }
        }
    }

    /// The next records, who wants to know that they are sent, and whether they are the last ones. Not cancel safe.
    async fn batch(&mut self) -> (Vec<Record>, Vec<oneshot::Sender<()>>, bool) {
        let mut batch = vec![];
        let mut next = self.queue.recv().await;
        let due = Instant::now() + LINGER;
        loop {
            match next {
                Some(Item::Record(record)) => batch.push(*record),
                Some(Item::Flush(done)) => return (batch, vec![done], false),
                None => return (batch, vec![], true),
            }
            if batch.len() >= BATCH {
                return (batch, vec![], false);
            }
            match timeout_at(due, self.queue.recv()).await {
                Ok(item) => next = item,
                Err(_) => return (batch, vec![], false),
            }
        }
    }

    async fn export(&mut self, batch: &[Record]) {
        let spans = batch.iter().map(Record::spans).sum();
        match self.send(batch).await {
            Ok(rejected) => {
                let rejected = rejected.min(spans);
                self.metrics.count(SpanResult::Exported, spans - rejected);
                self.metrics.count(SpanResult::Failed, rejected);
                if std::mem::take(&mut self.is_down) {
                    tracing::info!("the collector takes traces again");
                }
            }
            Err(failure) => {
                self.metrics.count(SpanResult::Failed, spans);
                if !std::mem::replace(&mut self.is_down, true) {
                    tracing::warn!(error = %failure.why, "the collector takes no traces; they are lost meanwhile");
                }
            }
        }
    }

    /// Sends a batch, some times if need be. How many spans were not taken.
    async fn send(&mut self, batch: &[Record]) -> Result<u64, Failure> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let failure = match self.transport.send(self.spans.request(batch)).await {
                Ok(rejected) => return Ok(rejected),
                Err(failure) => failure,
            };
            tracing::debug!(error = %failure.why, "traces were not taken");
            match pauses.next().filter(|_| failure.may_pass) {
                Some(pause) => sleep(pause).await,
                None => return Err(failure),
            }
        }
    }
}
