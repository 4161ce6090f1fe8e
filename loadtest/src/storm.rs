//! A storm of cold function invocations: everybody connects, logs in, runs one transaction, and goes away, at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_postgres::{Client, Config, Error, NoTls};

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What is fired.
#[derive(Debug, Clone)]
pub struct Storm {
    /// How many invocations, all at once.
    pub invocations: usize,
    /// How long each holds its transaction: `pg_sleep`, which costs no CPU, so that queueing is what is measured.
    pub hold: Duration,
    /// When an invocation gives up, connecting and waiting included.
    pub patience: Duration,
}

impl Default for Storm {
    fn default() -> Self {
        Self { invocations: 1000, hold: Duration::from_millis(20), patience: Duration::from_secs(30) }
    }
}

/// How far a storm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Invocations whose transaction was committed.
    pub served: usize,
    /// Invocations that failed, for whatever reason.
    pub refused: usize,
    /// All invocations.
    pub total: usize,
}

/// What became of one invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Committed and disconnected.
    Served {
        /// From the start of the connect to the end of COMMIT.
        latency: Duration,
    },
    /// Failed.
    Refused(Refusal),
}

/// Why an invocation failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// PostgreSQL, or the proxy in its name, answered with this SQLSTATE.
    Sqlstate(String),
    /// No connection, or it broke without an answer.
    Connection,
    /// Nothing came within the invocation's patience.
    Timeout,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlstate(code) => f.write_str(code),
            Self::Connection => f.write_str("connection"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}

/// What a storm did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Latencies of those served, ascending.
    latencies: Vec<Duration>,
    /// How many were refused, by reason.
    pub refused: BTreeMap<Refusal, usize>,
    /// From the first connect to the last outcome.
    pub wall: Duration,
}

impl Report {
    /// How many were served.
    #[must_use]
    pub fn served(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that `per_thousand` of those served did not exceed (nearest rank); `None` if nobody was served.
    #[must_use]
    pub fn latency(&self, per_thousand: usize) -> Option<Duration> {
        let rank = (self.latencies.len() * per_thousand).div_ceil(1000);
        self.latencies.get(rank.saturating_sub(1)).copied()
    }

    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Served { latency } => self.latencies.push(latency),
            Outcome::Refused(refusal) => *self.refused.entry(refusal).or_default() += 1,
        }
    }
}

impl Storm {
    /// Fires at `url` and waits for every outcome; `on_progress` is called some ten times a second, and at the end.
    /// Needs one file descriptor per invocation (see [`crate::limits`]). Dropping the future ends the storm.
    ///
    /// # Errors
    /// The URL is wrong. Whatever happens later is an outcome.
    pub async fn fire(&self, url: &str, mut on_progress: impl FnMut(Progress)) -> Result<Report, Error> {
        let target: Arc<Config> = Arc::new(url.parse()?);
        let counters = Arc::new(Counters::default());
        let started = Instant::now();
        let mut invocations = JoinSet::new();
        for _ in 0..self.invocations {
            let (target, counters, storm) = (Arc::clone(&target), Arc::clone(&counters), self.clone());
            invocations.spawn(async move {
                let outcome = storm.invoke(&target).await;
                counters.count(&outcome);
                outcome
            });
        }
        let mut report = Report::default();
        let mut ticks = interval(PROGRESS_INTERVAL);
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => on_progress(counters.progress(self.invocations)),
                joined = invocations.join_next() => match joined {
                    // A task that did not end by itself answered nobody.
                    Some(outcome) => report.add(outcome.unwrap_or(Outcome::Refused(Refusal::Connection))),
                    None => break,
                },
            }
        }
        report.wall = started.elapsed();
        report.latencies.sort_unstable();
        on_progress(counters.progress(self.invocations));
        Ok(report)
    }

    async fn invoke(&self, target: &Config) -> Outcome {
        let started = Instant::now();
        let transaction = Box::pin(connect_and_commit(target, self.hold));
        match timeout(self.patience, transaction).await {
            Ok(Ok(())) => Outcome::Served { latency: started.elapsed() },
            Ok(Err(error)) => Outcome::Refused(refusal_of(&error)),
            Err(_) => Outcome::Refused(Refusal::Timeout),
        }
    }
}

/// What a function does: a fresh connection, one transaction of a few round trips, Terminate.
async fn connect_and_commit(target: &Config, hold: Duration) -> Result<(), Error> {
    let (client, connection) = target.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let outcome = transaction(&client, hold).await;
    drop(client);
    // Ends once Terminate is sent; how it ended does not matter, the transaction is over.
    let _ = connection.await;
    outcome
}

async fn transaction(client: &Client, hold: Duration) -> Result<(), Error> {
    client.batch_execute("begin").await?;
    client.batch_execute(&format!("select pg_sleep({})", hold.as_secs_f64())).await?;
    client.batch_execute("select 1").await?;
    client.batch_execute("commit").await
}

fn refusal_of(error: &Error) -> Refusal {
    error.code().map_or(Refusal::Connection, |state| Refusal::Sqlstate(state.code().to_owned()))
}

#[derive(Debug, Default)]
struct Counters {
    served: AtomicUsize,
    refused: AtomicUsize,
}

impl Counters {
    fn count(&self, outcome: &Outcome) {
        let counter = if matches!(outcome, Outcome::Served { .. }) { &self.served } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn progress(&self, total: usize) -> Progress {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        Progress { served: read(&self.served), refused: read(&self.refused), total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(milliseconds: impl IntoIterator<Item = u64>) -> Report {
        Report {
            latencies: milliseconds.into_iter().map(Duration::from_millis).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let report = report_of(1..=100);
        let percentiles = [500, 900, 990, 1000].map(|share| report.latency(share).unwrap().as_millis());
        assert_eq!(percentiles, [50, 90, 99, 100]);
        assert_eq!(report_of([7]).latency(500), Some(Duration::from_millis(7)));
        assert_eq!(report_of([]).latency(990), None);
    }

    #[test]
    fn outcomes_are_counted_by_reason() {
        let mut report = Report::default();
        report.add(Outcome::Served { latency: Duration::from_millis(3) });
        for _ in 0..2 {
            report.add(Outcome::Refused(Refusal::Sqlstate("53300".to_owned())));
        }
        report.add(Outcome::Refused(Refusal::Timeout));
        assert_eq!(report.served(), 1);
        let refused: Vec<_> =
            report.refused.iter().map(|(reason, count)| (reason.to_string(), *count)).collect();
        assert_eq!(refused, [("53300".to_owned(), 2), ("timeout".to_owned(), 1)]);
    }
}
