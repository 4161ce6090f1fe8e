//! The registry: everything in the table that is counted, and the text of a scrape.
//!
//! One per process, made by the app and handed to whoever counts. Handles are resolved when a pool or the listener is
//! built, never per query.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    exponential_buckets,
};

use super::clients::ClientMetrics;
use super::labels::{LabelValue, ReloadResult, SpanResult};
use super::monitor::Monitor;
use super::pool::{PoolMetrics, PoolVectors};
use super::sources::{PoolGauges, Sources, Times, families};
use super::status::{Asked, Logins, Status};
use super::table::{BUCKETS, Definition, Kind, RELOADS, SPANS};
use super::warnings::Warnings;
use crate::lock::lock;

/// All counters, histograms and counted gauges. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    pools: PoolVectors,
    resolved: Mutex<HashMap<(String, String), PoolMetrics>>,
    clients: ClientMetrics,
    reloads: CounterBy<ReloadResult>,
    spans: SpanMetrics,
    monitor: Mutex<Monitor>,
    times: Mutex<Times>,
}

impl Metrics {
    /// An empty set of metrics. Every value of a label is a series from the start: a rate over a series that appears with
    /// its first event misses that event.
    ///
    /// # Errors
    /// If the table of metrics is wrong (a name twice, a bad label). A test makes one, so this does not happen in a
    /// program that was tested.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let now = seconds_since_1970();
        Ok(Self(Arc::new(Inner {
            pools: PoolVectors::register(&registry)?,
            resolved: Mutex::default(),
            clients: ClientMetrics::register(&registry)?,
            reloads: CounterBy::resolve(&counters(&registry, &RELOADS)?, &[]),
            spans: SpanMetrics(Arc::new(CounterBy::resolve(&counters(&registry, &SPANS)?, &[]))),
            monitor: Mutex::default(),
            times: Mutex::new(Times { started: now, configured: now }),
            registry,
        })))
    }

    /// The handles of one pool. Only for pools of the configuration, never for names that a client merely sent: each
    /// is some 180 series, kept until the process ends. The same names give the same series again.
    pub fn pool(&self, database: &str, user: &str) -> PoolMetrics {
        let mut resolved = lock(&self.0.resolved);
        let resolve = || self.0.pools.resolve(database, user);
        resolved.entry((database.to_owned(), user.to_owned())).or_insert_with(resolve).clone()
    }

    /// The handles for everything about clients before they have a pool.
    pub fn clients(&self) -> &ClientMetrics {
        &self.0.clients
    }

    /// The configuration was read again.
    pub fn reloaded(&self, result: ReloadResult) {
        self.0.reloads.inc(result);
        if result == ReloadResult::Ok {
            lock(&self.0.times).configured = seconds_since_1970();
        }
    }

    /// Looks at the pools, for what is shown of the last seconds and minutes: to be called every [`TICK`](super::TICK).
    pub fn tick(&self, now: Instant, sources: &dyn Sources) {
        let totals = |pool: PoolGauges| {
            let totals = self.pool(&pool.database, &pool.user).totals();
            (pool, totals)
        };
        let pools: Vec<_> = sources.pools().into_iter().map(totals).collect();
        let logins = self.0.clients.logged_in();
        lock(&self.0.monitor).tick(now, seconds_since_1970(), &pools, logins);
    }

    /// The state of everything as JSON: what the live page shows. Takes as long as a scrape.
    ///
    /// # Errors
    /// None: what is shown can be written as JSON.
    pub fn status(
        &self,
        sources: &dyn Sources,
        warnings: &Warnings,
        with_history: bool,
    ) -> serde_json::Result<String> {
        let monitor = lock(&self.0.monitor);
        let logins = Logins {
            in_flight: self.0.clients.in_flight(),
            per_second: monitor.logins_per_second(),
            ..Logins::default()
        };
        let asked = Asked {
            sources,
            monitor: &monitor,
            logins,
            warnings: warnings.latest(),
            with_history,
            sheds: &|pool| self.pool(&pool.database, &pool.user).sheds(),
        };
        let started = lock(&self.0.times).started;
        serde_json::to_string(&Status::of(asked, started, seconds_since_1970()))
    }

    /// The handle for spans.
    pub fn spans(&self) -> &SpanMetrics {
        &self.0.spans
    }

    /// The text of a scrape: what was counted, and how `sources` and the process stand now. Takes locks and reads
    /// `/proc`; call it where blocking for some milliseconds is fine.
    ///
    /// # Errors
    /// If the encoder refuses a family; it does so for empty ones only, which are left out before.
    pub fn render(&self, sources: &dyn Sources) -> prometheus::Result<String> {
        let mut all = self.0.registry.gather();
        all.extend(families(sources, &lock(&self.0.monitor), *lock(&self.0.times)));
        TextEncoder::new().encode_to_string(&all)
    }
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What became of spans. Cheap to clone.
#[derive(Clone)]
pub struct SpanMetrics(Arc<CounterBy<SpanResult>>);

impl SpanMetrics {
    /// This became of some spans.
    pub fn count(&self, result: SpanResult, spans: u64) {
        self.0.add(result, spans);
    }
}

impl fmt::Debug for SpanMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanMetrics").finish_non_exhaustive()
    }
}

/// One counter for each value of a label, found by position.
pub(super) struct CounterBy<V> {
    counters: Vec<IntCounter>,
    values: std::marker::PhantomData<fn(V)>,
}

impl<V: LabelValue> CounterBy<V> {
    /// Resolves all values of the last label; `first` are the values of the labels before it.
    pub(super) fn resolve(vector: &IntCounterVec, first: &[&str]) -> Self {
        let resolve = |value: &&str| vector.with_label_values(&[first, &[*value]].concat());
        Self { counters: V::LABELS.iter().map(resolve).collect(), values: std::marker::PhantomData }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = u64> {
        self.counters.iter().map(IntCounter::get)
    }

    pub(super) fn inc(&self, value: V) {
        self.add(value, 1);
    }

    pub(super) fn add(&self, value: V, count: u64) {
        if let Some(counter) = self.counters.get(value.index()) {
            counter.inc_by(count);
        }
    }
}

pub(super) fn counters(registry: &Registry, definition: &Definition) -> prometheus::Result<IntCounterVec> {
    debug_assert_eq!(definition.kind, Kind::Counter, "{}", definition.name);
    let vector = IntCounterVec::new(Opts::new(definition.name, definition.help), &label_names(definition))?;
    registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

pub(super) fn counter(registry: &Registry, definition: &Definition) -> prometheus::Result<IntCounter> {
    counters(registry, definition)?.get_metric_with_label_values::<&str>(&[])
}

pub(super) fn gauge(registry: &Registry, definition: &Definition) -> prometheus::Result<IntGauge> {
    debug_assert_eq!(definition.kind, Kind::Gauge, "{}", definition.name);
    let gauge = IntGauge::new(definition.name, definition.help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

pub(super) fn histograms(registry: &Registry, definition: &Definition) -> prometheus::Result<HistogramVec> {
    debug_assert_eq!(definition.kind, Kind::Histogram, "{}", definition.name);
    let (first, count) = BUCKETS;
    let options =
        HistogramOpts::new(definition.name, definition.help).buckets(exponential_buckets(first, 2.0, count)?);
    let vector = HistogramVec::new(options, &label_names(definition))?;
    registry.register(Box::new(vector.clone()))?;
    Ok(vector)
}

fn label_names(definition: &Definition) -> Vec<&'static str> {
    definition.labels.iter().map(|label| label.name).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::obs::table::TABLE;
    use crate::obs::{
        CancelResult, DestroyReason, DialResult, FunctionGauges, Kept, LoginResult, PoolGauges, Readiness,
        Refusal, Shed, UpstreamGauges, WaitOutcome,
    };

    struct Standing;

    impl Sources for Standing {
        fn pools(&self) -> Vec<PoolGauges> {
            vec![PoolGauges {
                database: "app".into(),
                user: "we\"ird\\\nname".into(),
                mode: "transaction",
                active: 3,
                limit: 20,
                clients: 5,
                mean_hold_seconds: 0.01,
                adaptive_limit: Some(("observe", 12)),
                oldest_wait_seconds: 0.25,
                functions: vec![FunctionGauges { name: "checkout".into(), ..FunctionGauges::default() }],
                ..PoolGauges::default()
            }]
        }

        fn upstreams(&self) -> Vec<UpstreamGauges> {
            let address = "db:5432".into();
            let max_connections = Some(97);
            vec![UpstreamGauges { address, budget: 12, limit: 20, max_connections, breaker: "closed" }]
        }

        fn clients(&self) -> Vec<(&'static str, usize)> {
            vec![("idle", 7), ("login", 1)]
        }

        fn kept(&self) -> Kept {
            Kept::default()
        }

        fn readiness(&self) -> Readiness {
            Readiness::NotReady("draining".into())
        }

        fn is_draining(&self) -> bool {
            true
        }

        fn certificate_expiry(&self) -> Option<f64> {
            Some(1.8e9)
        }
    }

    fn metrics() -> Metrics {
        Metrics::new().unwrap()
    }

    fn scrape(metrics: &Metrics) -> String {
        metrics.render(&Standing).unwrap()
    }

    /// Value of the sample line that starts with exactly this name and labels.
    fn value(text: &str, series: &str) -> Option<f64> {
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn every_row_of_the_table_is_in_a_scrape_with_its_type_and_nothing_else_is() {
        let metrics = metrics();
        let _pool = metrics.pool("app", "web");
        let _limits = metrics.clients().limits([("logins", "enforce")]);
        let start = Instant::now();
        metrics.tick(start, &Standing);
        metrics.pool("app", "we\"ird\\\nname").waited(WaitOutcome::Granted, Duration::ZERO);
        metrics.tick(start + Duration::from_secs(1), &Standing);
        let text = scrape(&metrics);
        let types: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        let table: BTreeMap<&str, &str> =
            TABLE.iter().map(|metric| (metric.name, metric.kind.as_str())).collect();
        assert_eq!(types, table);
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample_with_the_labels_of_its_row() {
        let metrics = metrics();
        let _pool = metrics.pool("app", "web");
        for line in scrape(&metrics).lines().filter(|line| !line.starts_with('#')) {
            let (series, number) = line.rsplit_once(' ').unwrap();
            number.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let row = TABLE
                .iter()
                .find(|row| {
                    let suffix = name.strip_prefix(row.name);
                    matches!((row.kind, suffix), (_, Some("")))
                        || row.kind == Kind::Histogram
                            && matches!(suffix, Some("_bucket" | "_sum" | "_count"))
                })
                .unwrap_or_else(|| panic!("not in the table: {line}"));
            let mut given: BTreeSet<&str> = labels
                .trim_end_matches('}')
                .split(',')
                .filter_map(|pair| pair.split_once('=').map(|(name, _)| name))
                .collect();
            given.remove("le");
            let expected: BTreeSet<&str> = row.labels.iter().map(|label| label.name).collect();
            assert_eq!(given, expected, "{line}");
        }
    }

    #[test]
    fn a_pool_counts_what_happened_in_it() {
        let metrics = metrics();
        let pool = metrics.pool("app", "web");
        pool.waited(WaitOutcome::Granted, Duration::from_micros(700));
        pool.waited(WaitOutcome::Cancelled, Duration::from_secs(1));
        pool.held(Duration::from_millis(3));
        pool.executed(Duration::from_secs(100));
        pool.transaction();
        pool.shed(Shed::QueueFull);
        pool.shed(Shed::QueueFull);
        pool.server_error(Some(b"53200"));
        pool.server_error(Some(b"ZZ000"));
        pool.query();
        pool.first_row(Duration::from_millis(2));
        pool.received(10);
        pool.sent(500);
        pool.dialled(DialResult::TooManyConnections, Some("53300"), Duration::from_millis(1));
        pool.destroyed(DestroyReason::OutOfStep);

        let text = scrape(&metrics);
        let of = |name: &str, more: &str| {
            value(&text, &format!("pgcorral_{name}{{database=\"app\"{more},user=\"web\"}}"))
        };
        let first = "pgcorral_wait_seconds_bucket{database=\"app\",outcome=\"granted\",user=\"web\"";
        assert_eq!(value(&text, &format!("{first},le=\"0.0005\"}}")), Some(0.0));
        assert_eq!(value(&text, &format!("{first},le=\"0.001\"}}")), Some(1.0));
        assert_eq!(of("wait_seconds_count", ",outcome=\"cancelled\""), Some(1.0));
        assert_eq!(of("wait_seconds_count", ",outcome=\"shed\""), Some(0.0));
        assert_eq!(of("hold_seconds_sum", ""), Some(0.003));
        let last = "pgcorral_exec_seconds_bucket{database=\"app\",user=\"web\"";
        assert_eq!(value(&text, &format!("{last},le=\"32.768\"}}")), Some(0.0));
        assert_eq!(value(&text, &format!("{last},le=\"+Inf\"}}")), Some(1.0));
        assert_eq!(of("transactions_total", ""), Some(1.0));
        assert_eq!(of("sheds_total", ",reason=\"queue_full\""), Some(2.0));
        assert_eq!(of("sheds_total", ",reason=\"queue_timeout\""), Some(0.0));
        let errors = |class: &str| {
            value(
                &text,
                &format!("pgcorral_server_errors_total{{class=\"{class}\",database=\"app\",user=\"web\"}}"),
            )
        };
        assert_eq!([errors("53"), errors("other"), errors("57")], [Some(1.0), Some(1.0), Some(0.0)]);
        assert_eq!(of("queries_total", ""), Some(1.0));
        assert_eq!(of("first_row_seconds_count", ""), Some(1.0));
        assert_eq!(of("client_received_bytes_total", ""), Some(10.0));
        assert_eq!(of("client_sent_bytes_total", ""), Some(500.0));
        let dials = |result: &str, state: &str| {
            let labels = format!("database=\"app\",result=\"{result}\",sqlstate=\"{state}\",user=\"web\"");
            value(&text, &format!("pgcorral_dials_total{{{labels}}}"))
        };
        assert_eq!(dials("too_many_connections", "53300"), Some(1.0));
        assert_eq!(dials("ok", ""), Some(0.0));
        assert_eq!(of("dial_seconds_count", ""), Some(1.0));
        assert_eq!(of("servers_destroyed_total", ",reason=\"out_of_step\""), Some(1.0));
    }

    #[test]
    fn the_same_pool_twice_is_one_series() {
        let metrics = metrics();
        metrics.pool("app", "web").transaction();
        metrics.pool("app", "web").transaction();
        let series = "pgcorral_transactions_total{database=\"app\",user=\"web\"}";
        assert_eq!(value(&scrape(&metrics), series), Some(2.0));
    }

    #[test]
    fn every_login_ends_in_exactly_one_result() {
        let metrics = metrics();
        let clients = metrics.clients();
        let (good, refused, vanished, cancel) =
            (clients.accepted(), clients.accepted(), clients.accepted(), clients.accepted());
        assert_eq!(value(&scrape(&metrics), "pgcorral_handshakes_in_flight"), Some(4.0));
        good.finished(LoginResult::Ok);
        refused.refused(Refusal::MaxClients);
        drop(vanished);
        cancel.not_a_login();
        clients.cancelled(CancelResult::Sent);
        clients.tls_failed();

        let text = scrape(&metrics);
        assert_eq!(value(&text, "pgcorral_handshakes_in_flight"), Some(0.0));
        assert_eq!(value(&text, "pgcorral_client_connections_total"), Some(4.0));
        assert_eq!(value(&text, "pgcorral_logins_total{result=\"ok\"}"), Some(1.0));
        assert_eq!(value(&text, "pgcorral_logins_total{result=\"refused\"}"), Some(1.0));
        assert_eq!(value(&text, "pgcorral_logins_total{result=\"abandoned\"}"), Some(1.0));
        assert_eq!(value(&text, "pgcorral_login_seconds_count"), Some(1.0));
        assert_eq!(
            value(&text, "pgcorral_client_connections_refused_total{reason=\"max_clients\"}"),
            Some(1.0)
        );
        assert_eq!(value(&text, "pgcorral_cancels_total{result=\"sent\"}"), Some(1.0));
        assert_eq!(value(&text, "pgcorral_client_tls_failures_total"), Some(1.0));
    }

    #[test]
    fn what_is_read_at_the_scrape_is_there_with_names_escaped() {
        let text = scrape(&metrics());
        let pool = r#"database="app",user="we\"ird\\\nname""#;
        assert_eq!(value(&text, &format!("pgcorral_pool_limit{{{pool}}}")), Some(20.0));
        assert_eq!(value(&text, &format!("pgcorral_queue_oldest_seconds{{{pool}}}")), Some(0.25));
        let active = r#"pgcorral_servers{database="app",user="we\"ird\\\nname",state="active"}"#;
        assert_eq!(value(&text, active), Some(3.0));
        assert_eq!(value(&text, "pgcorral_clients{state=\"idle\"}"), Some(7.0));
        assert_eq!(value(&text, "pgcorral_ready"), Some(0.0));
    }
}
