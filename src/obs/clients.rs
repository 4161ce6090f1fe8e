//! The handles for clients before they have a pool: accept, login, refusal, cancel.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::labels::{CancelResult, LabelValue, LoginPhase, LoginResult, Refusal};
use super::metrics::{CounterBy, counter, counters, gauge, histograms};
use super::table;

/// What is counted about clients before they have a pool. Cheap to clone.
#[derive(Clone)]
pub struct ClientMetrics(Arc<Series>);

struct Series {
    connections: IntCounter,
    refused: CounterBy<Refusal>,
    tls_failures: IntCounter,
    logins: CounterBy<LoginResult>,
    login: Histogram,
    phases: Vec<Histogram>,
    handshakes: IntGauge,
    cancels: CounterBy<CancelResult>,
    rate_limited: IntCounterVec,
}

/// What is over each rate limit.
pub struct LimitMetrics(Vec<IntCounter>);

impl LimitMetrics {
    /// Something is over the rule with this place in the configuration.
    pub fn over(&self, rule: usize) {
        if let Some(counter) = self.0.get(rule) {
            counter.inc();
        }
    }
}

impl fmt::Debug for LimitMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitMetrics").field(&self.0.len()).finish()
    }
}

impl ClientMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let phases = histograms(registry, &table::LOGIN_PHASE_SECONDS)?;
        Ok(Self(Arc::new(Series {
            phases: LoginPhase::LABELS.iter().map(|phase| phases.with_label_values(&[*phase])).collect(),
            connections: counter(registry, &table::CONNECTIONS)?,
            refused: CounterBy::resolve(&counters(registry, &table::CONNECTIONS_REFUSED)?, &[]),
            tls_failures: counter(registry, &table::CLIENT_TLS_FAILURES)?,
            logins: CounterBy::resolve(&counters(registry, &table::LOGINS)?, &[]),
            login: histograms(registry, &table::LOGIN)?.get_metric_with_label_values::<&str>(&[])?,
            handshakes: gauge(registry, &table::HANDSHAKES)?,
            cancels: CounterBy::resolve(&counters(registry, &table::CANCELS)?, &[]),
            rate_limited: counters(registry, &table::RATE_LIMITED)?,
        })))
    }

    /// A connection was accepted. Keep the result until its login is over, and end it with one of its methods.
    #[must_use = "dropping it counts an abandoned login"]
    pub fn accepted(&self) -> Handshake {
        self.0.connections.inc();
        self.0.handshakes.inc();
        Handshake { clients: self.clone(), started: Instant::now(), counted: false }
    }

    /// The handles of rate limits, by name and mode (`enforce`, `observe`), in the order of the configuration.
    pub fn limits<'a>(&self, rules: impl IntoIterator<Item = (&'a str, &'a str)>) -> LimitMetrics {
        let counter = |(rule, mode)| self.0.rate_limited.with_label_values(&[rule, mode]);
        LimitMetrics(rules.into_iter().map(counter).collect())
    }

    /// A phase of a login is over, after `took`.
    pub fn phase(&self, phase: LoginPhase, took: Duration) {
        if let Some(histogram) = self.0.phases.get(phase.index()) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Logins that have succeeded.
    pub(super) fn logged_in(&self) -> u64 {
        self.0.login.get_sample_count()
    }

    /// Logins under way.
    pub(super) fn in_flight(&self) -> i64 {
        self.0.handshakes.get()
    }

    /// A TLS handshake failed.
    pub fn tls_failed(&self) {
        self.0.tls_failures.inc();
    }

    /// A CancelRequest was dealt with.
    pub fn cancelled(&self, result: CancelResult) {
        self.0.cancels.inc(result);
    }
}

impl fmt::Debug for ClientMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientMetrics").finish_non_exhaustive()
    }
}

/// One login under way. Dropped without a result, as when its task is cut off, it counts as abandoned.
#[derive(Debug)]
pub struct Handshake {
    clients: ClientMetrics,
    started: Instant,
    counted: bool,
}

impl Handshake {
    /// The login ended.
    pub fn finished(mut self, result: LoginResult) {
        self.count(result);
    }

    /// A limit or a rule ended the login.
    pub fn refused(mut self, reason: Refusal) {
        self.clients.0.refused.inc(reason);
        self.count(reason.login_result());
    }

    /// It was a CancelRequest, or a probe that sent nothing: no login at all.
    pub fn not_a_login(mut self) {
        self.counted = true;
    }

    fn count(&mut self, result: LoginResult) {
        self.counted = true;
        self.clients.0.logins.inc(result);
        if result == LoginResult::Ok {
            self.clients.0.login.observe(self.started.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if !self.counted {
            self.count(LoginResult::Abandoned);
        }
        self.clients.0.handshakes.dec();
    }
}
