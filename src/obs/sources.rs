//! What is read when somebody asks, instead of being counted all the time: how pools, clients and the process stand.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::monitor::Monitor;
use super::process;
use super::recent::Recent;
use super::table::{self, Definition, Kind};

/// The app, as a scrape and a health check see it. Each call may take the locks that the hot path takes, for no longer
/// than it takes to copy some numbers.
pub trait Sources: Send + Sync {
    /// Every pool of the configuration, each once.
    fn pools(&self) -> Vec<PoolGauges>;

    /// Every PostgreSQL server of the configuration, each once.
    fn upstreams(&self) -> Vec<UpstreamGauges>;

    /// Number of clients in each state: `login`, `idle`, `waiting`, `active`.
    fn clients(&self) -> Vec<(&'static str, usize)>;

    /// What is kept for clients in memory.
    fn kept(&self) -> Kept;

    /// Whether a client that comes now would be served.
    fn readiness(&self) -> Readiness;

    /// Whether the proxy is going down.
    fn is_draining(&self) -> bool;

    /// When the certificate that clients see expires, in seconds since 1970. None: there is none.
    fn certificate_expiry(&self) -> Option<f64>;
}

/// How one PostgreSQL server stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamGauges {
    /// Where it listens.
    pub address: String,
    /// Most server connections now.
    pub budget: usize,
    /// Most server connections, as configured.
    pub limit: usize,
    /// What PostgreSQL allows the proxy's roles, if it has said so.
    pub max_connections: Option<u64>,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
}

/// What is kept for clients in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Logins that wait for their turn.
    pub waiting_logins: usize,
    /// Bytes of replies that clients have not taken yet.
    pub spool_bytes: usize,
    /// Prepared statements that the proxy knows.
    pub statements: usize,
    /// Bytes of prepared statements that the proxy or a client knows.
    pub statement_bytes: usize,
}

/// How one pool stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolGauges {
    /// The database as clients name it.
    pub database: String,
    /// The user as clients name it.
    pub user: String,
    /// `transaction`, `session` or `statement`.
    pub mode: &'static str,
    /// Server connections that serve nobody.
    pub idle: usize,
    /// Server connections that work for a client.
    pub active: usize,
    /// Server connections being opened.
    pub dialling: usize,
    /// Server connections being closed; they still count against the limit.
    pub closing: usize,
    /// Server connections whose clients are in a transaction and send nothing.
    pub idle_in_transaction: usize,
    /// Server connections whose clients keep them beyond their transactions, and send nothing.
    pub kept: usize,
    /// Server connections that nobody has because something is being cancelled there.
    pub cancelling: usize,
    /// Clients that are logged in.
    pub clients: usize,
    /// Connection-time that clients have had, in seconds.
    pub busy_seconds: f64,
    /// How long a client holds a connection on the mean, in seconds; zero if none has yet.
    pub mean_hold_seconds: f64,
    /// `query_wait_timeout`, in seconds.
    pub patience_seconds: f64,
    /// Clients in the queue.
    pub waiting: usize,
    /// Most clients in the queue.
    pub max_waiting: usize,
    /// Age of the longest wait; zero if nobody waits.
    pub oldest_wait_seconds: f64,
    /// For how long the queue of a function has never been empty; the longest of all functions.
    pub standing_seconds: f64,
    /// Waiters that were served and would have been refused early if that were enforced.
    pub observed: u64,
    /// Its functions, a bounded number.
    pub functions: Vec<FunctionGauges>,
    /// Most server connections.
    pub limit: usize,
    /// Clients that keep a server connection beyond their transactions.
    pub pinned: usize,
    /// `observe` or `enforce`, and the adaptive limit. None: it is off.
    pub adaptive_limit: Option<(&'static str, usize)>,
}

impl PoolGauges {
    /// How many server connections are in each of [`table::SERVER_STATES`].
    pub(super) fn servers(&self) -> [usize; 7] {
        let Self { idle, active, idle_in_transaction, kept, dialling, cancelling, closing, .. } = *self;
        [idle, active, idle_in_transaction, kept, dialling, cancelling, closing]
    }
}

/// One function of a pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FunctionGauges {
    /// Its name; `other` for all that have no line of their own.
    pub name: String,
    /// Server connections that it holds.
    pub active: usize,
    /// Its clients in the queue.
    pub waiting: usize,
    /// Connection-time that it has had.
    pub held_seconds: f64,
    /// Its transactions that were not admitted.
    pub sheds: u64,
    /// Its transactions that were admitted and are over.
    pub transactions: u64,
    /// How long those that were admitted have waited, in seconds.
    pub waited_seconds: f64,
}

/// Whether a client that comes now would be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It would.
    Ready,
    /// It would not, and why in a few words: `draining`, `no pool has a usable server`.
    NotReady(String),
}

/// When things happened, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) started: f64,
    pub(super) configured: f64,
}

/// All families that are read at the scrape; those without a sample are left out.
pub(super) fn families(sources: &dyn Sources, monitor: &Monitor, times: Times) -> Vec<MetricFamily> {
    let pools = sources.pools();
    let mut all = pool_families(&pools);
    all.extend(recent_families(&pools, monitor));
    all.extend(upstream_families(&sources.upstreams()));
    let clients = sources.clients().into_iter().map(|(state, count)| sample(&[state], count as f64));
    all.push(family(&table::CLIENTS, clients));
    let kept = sources.kept();
    all.push(family(&table::LOGINS_WAITING, [sample(&[], kept.waiting_logins as f64)]));
    all.push(family(&table::SPOOL, [sample(&[], kept.spool_bytes as f64)]));
    all.push(family(&table::STATEMENTS, [sample(&[], kept.statements as f64)]));
    all.push(family(&table::STATEMENT_BYTES, [sample(&[], kept.statement_bytes as f64)]));
    let ready = f64::from(u8::from(sources.readiness() == Readiness::Ready));
    all.push(family(&table::READY, [sample(&[], ready)]));
    all.push(family(&table::BUILD_INFO, [sample(&[env!("CARGO_PKG_VERSION")], 1.0)]));
    all.push(family(&table::START_TIME, [sample(&[], times.started)]));
    all.push(family(&table::RELOADED_AT, [sample(&[], times.configured)]));
    let draining = f64::from(u8::from(sources.is_draining()));
    all.push(family(&table::DRAINING, [sample(&[], draining)]));
    let expiry = sources.certificate_expiry().map(|at| sample(&[], at));
    all.push(family(&table::CERTIFICATE_EXPIRY, expiry));
    all.extend(process_families());
    all.retain(|family| !family.get_metric().is_empty());
    all
}

fn pool_families(pools: &[PoolGauges]) -> Vec<MetricFamily> {
    let by_pool = |definition, value: fn(&PoolGauges) -> f64| {
        family(definition, pools.iter().map(|pool| sample(&[&pool.database, &pool.user], value(pool))))
    };
    let servers = pools.iter().flat_map(|pool| {
        let counts = pool.servers();
        let of = |(state, count): (&&str, usize)| sample(&[&pool.database, &pool.user, state], count as f64);
        table::SERVER_STATES.iter().zip(counts).map(of).collect::<Vec<_>>()
    });
    let info = pools.iter().map(|pool| sample(&[&pool.database, &pool.user, pool.mode], 1.0));
    let adaptive = pools.iter().filter_map(|pool| {
        let (mode, limit) = pool.adaptive_limit?;
        Some(sample(&[&pool.database, &pool.user, mode], limit as f64))
    });
    vec![
        family(&table::ADAPTIVE_LIMIT, adaptive),
        family(&table::POOL_INFO, info),
        family(&table::SERVERS, servers),
        by_pool(&table::POOL_CLIENTS, |pool| pool.clients as f64),
        by_pool(&table::BUSY, |pool| pool.busy_seconds),
        by_pool(&table::PINNED, |pool| pool.pinned as f64),
        by_pool(&table::POOL_LIMIT, |pool| pool.limit as f64),
        by_pool(&table::QUEUE_DEPTH, |pool| pool.waiting as f64),
        by_pool(&table::QUEUE_LIMIT, |pool| pool.max_waiting as f64),
        by_pool(&table::QUEUE_OLDEST, |pool| pool.oldest_wait_seconds),
        by_pool(&table::QUEUE_STANDING, |pool| pool.standing_seconds),
        by_pool(&table::SHEDS_OBSERVED, |pool| pool.observed as f64),
        by_function(&table::FUNCTION_HELD, pools, |function| function.held_seconds),
        by_function(&table::FUNCTION_SHEDS, pools, |function| function.sheds as f64),
        by_function(&table::FUNCTION_TRANSACTIONS, pools, |function| function.transactions as f64),
        by_function(&table::FUNCTION_WAIT, pools, |function| function.waited_seconds),
        by_function(&table::FUNCTION_SERVERS, pools, |function| function.active as f64),
        by_function(&table::FUNCTION_WAITING, pools, |function| function.waiting as f64),
    ]
}

/// What the pools have done lately.
fn recent_families(pools: &[PoolGauges], monitor: &Monitor) -> [MetricFamily; 4] {
    let by_pool = |definition, value: fn(&Recent) -> Option<f64>| {
        let of = |pool: &PoolGauges| {
            let value = value(monitor.recent(pool)?)?;
            Some(sample(&[&pool.database, &pool.user], value))
        };
        family(definition, pools.iter().filter_map(of))
    };
    [
        by_pool(&table::UTILISATION, |recent| Some(recent.utilisation)),
        by_pool(&table::ERLANGS, |recent| Some(recent.erlangs)),
        by_pool(&table::COLLAPSE_RATIO, |recent| Some(recent.collapse_ratio)),
        by_pool(&table::HEADROOM, |recent| recent.headroom),
    ]
}

fn by_function(
    definition: &Definition,
    pools: &[PoolGauges],
    value: fn(&FunctionGauges) -> f64,
) -> MetricFamily {
    let of = |pool: &PoolGauges| {
        let one = |function: &FunctionGauges| {
            sample(&[&pool.database, &pool.user, &function.name], value(function))
        };
        pool.functions.iter().map(one).collect::<Vec<_>>()
    };
    family(definition, pools.iter().flat_map(of))
}

fn upstream_families(upstreams: &[UpstreamGauges]) -> [MetricFamily; 4] {
    let by_upstream = |definition, value: fn(&UpstreamGauges) -> usize| {
        family(
            definition,
            upstreams.iter().map(|upstream| sample(&[&upstream.address], value(upstream) as f64)),
        )
    };
    let states = table::BREAKER.labels.last().map_or(&[][..], |label| label.values);
    let breakers = upstreams.iter().flat_map(|upstream| {
        let is = |state: &&'static str| f64::from(u8::from(*state == upstream.breaker));
        states.iter().map(move |state| sample(&[&upstream.address, state], is(state)))
    });
    [
        by_upstream(&table::BUDGET, |upstream| upstream.budget),
        by_upstream(&table::UPSTREAM_LIMIT, |upstream| upstream.limit),
        family(&table::BREAKER, breakers),
        family(
            &table::UPSTREAM_MAX,
            upstreams
                .iter()
                .filter_map(|upstream| Some(sample(&[&upstream.address], upstream.max_connections? as f64))),
        ),
    ]
}

/// What the kernel does not tell is left out rather than reported as zero.
fn process_families() -> [MetricFamily; 4] {
    let single = |definition, value: Option<f64>| family(definition, value.map(|value| sample(&[], value)));
    [
        single(&table::OPEN_FILES, process::open_files().map(|files| files as f64)),
        single(&table::MAX_FILES, process::max_files().map(|files| files as f64)),
        single(&table::RESIDENT_MEMORY, process::resident_bytes().map(|bytes| bytes as f64)),
        single(&table::CPU, process::cpu_seconds()),
    ]
}

/// One value, and the values of its labels in the order of the table.
struct Sample {
    labels: Vec<String>,
    value: f64,
}

fn sample(labels: &[&str], value: f64) -> Sample {
    Sample { labels: labels.iter().map(|label| (*label).to_owned()).collect(), value }
}

fn family(definition: &Definition, samples: impl IntoIterator<Item = Sample>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(definition.name.to_owned());
    family.set_help(definition.help.to_owned());
    family.set_field_type(match definition.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge | Kind::Histogram => MetricType::GAUGE,
    });
    family.set_metric(samples.into_iter().map(|sample| metric(definition, sample)).collect());
    family
}

fn metric(definition: &Definition, sample: Sample) -> Metric {
    debug_assert_eq!(definition.labels.len(), sample.labels.len(), "{}", definition.name);
    let pair = |(label, value): (&table::Label, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(label.name.to_owned());
        pair.set_value(value);
        pair
    };
    let mut metric = Metric::from_label(definition.labels.iter().zip(sample.labels).map(pair).collect());
    if definition.kind == Kind::Counter {
        let mut counter = Counter::default();
        counter.set_value(sample.value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(sample.value);
        metric.set_gauge(gauge);
    }
    metric
}
