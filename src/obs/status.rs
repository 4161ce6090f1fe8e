//! `/status`: all that the live page shows, as JSON. The page and other programs read it; names stay as they are.

use std::collections::BTreeMap;

use serde::Serialize;

use super::monitor::{Monitor, Point, STEP};
use super::process;
use super::recent::Recent;
use super::sources::{FunctionGauges, PoolGauges, Readiness, Sources, UpstreamGauges};
use super::table::{SERVER_STATES, SHEDS};
use super::warnings::Warning;

/// What a pool has counted of itself.
pub(super) type ShedCounts = Vec<u64>;

#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    /// Seconds since 1970, as all times here.
    pub(super) started: f64,
    pub(super) now: f64,
    ready: bool,
    /// Why not.
    reason: Option<String>,
    draining: bool,
    clients: BTreeMap<&'static str, usize>,
    logins: Logins,
    process: Process,
    upstreams: Vec<Upstream>,
    pools: Vec<Pool>,
    /// Per second, by reason, over all pools.
    sheds: BTreeMap<&'static str, f64>,
    warnings: Vec<Warning>,
    /// The newest point of the history.
    point: Option<Point>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<History>,
}

#[derive(Debug, Serialize)]
struct History {
    step: f64,
    points: Vec<Point>,
}

/// Logins now and lately.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Logins {
    pub(super) in_flight: i64,
    pub(super) waiting: usize,
    pub(super) per_second: f64,
}

#[derive(Debug, Serialize)]
struct Process {
    open_files: Option<u64>,
    max_files: Option<u64>,
    memory_bytes: Option<u64>,
    spool_bytes: usize,
}

#[derive(Debug, Serialize)]
struct Upstream {
    address: String,
    budget: usize,
    limit: usize,
    max_connections: Option<u64>,
    breaker: &'static str,
}

#[derive(Debug, Serialize)]
struct Pool {
    database: String,
    user: String,
    mode: &'static str,
    limit: usize,
    clients: usize,
    servers: BTreeMap<&'static str, usize>,
    waiting: usize,
    oldest_wait_seconds: f64,
    standing_seconds: f64,
    utilisation: f64,
    erlangs: f64,
    collapse_ratio: f64,
    headroom: Option<f64>,
    per_second: PerSecond,
    /// Since the start, by reason; without those that are zero.
    sheds: BTreeMap<&'static str, u64>,
    functions: Vec<Function>,
}

#[derive(Debug, Serialize)]
struct PerSecond {
    transactions: f64,
    queries: f64,
    sheds: f64,
    errors: f64,
}

#[derive(Debug, Serialize)]
struct Function {
    name: String,
    active: usize,
    waiting: usize,
    /// Of the pool's connection-time lately.
    share: f64,
    held_seconds: f64,
    transactions: u64,
    sheds: u64,
    /// Mean wait of its transactions that were admitted.
    wait_seconds: f64,
}

/// Who asks, and for what.
pub(super) struct Asked<'a> {
    pub(super) sources: &'a dyn Sources,
    pub(super) monitor: &'a Monitor,
    pub(super) logins: Logins,
    pub(super) warnings: Vec<Warning>,
    pub(super) with_history: bool,
    /// Of each pool.
    pub(super) sheds: &'a dyn Fn(&PoolGauges) -> ShedCounts,
}

impl Status {
    pub(super) fn of(asked: Asked<'_>, started: f64, now: f64) -> Self {
        let Asked { sources, monitor, logins, warnings, with_history, sheds } = asked;
        let reason = match sources.readiness() {
            Readiness::Ready => None,
            Readiness::NotReady(reason) => Some(reason),
        };
        let (kept, pools) = (sources.kept(), sources.pools());
        let history =
            || History { step: STEP.as_secs_f64(), points: monitor.points().iter().cloned().collect() };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started,
            now,
            ready: reason.is_none(),
            reason,
            draining: sources.is_draining(),
            clients: sources.clients().into_iter().collect(),
            logins: Logins { waiting: kept.waiting_logins, ..logins },
            process: Process {
                open_files: process::open_files(),
                max_files: process::max_files(),
                memory_bytes: process::resident_bytes(),
                spool_bytes: kept.spool_bytes,
            },
            upstreams: sources.upstreams().into_iter().map(Upstream::of).collect(),
            sheds: shed_rates(&pools, monitor),
            pools: pools
                .into_iter()
                .map(|pool| Pool::of(monitor.recent(&pool), sheds(&pool), pool))
                .collect(),
            warnings,
            point: monitor.points().back().cloned(),
            history: with_history.then(history),
        }
    }
}

/// Names of the reasons for sheds, in the order in which they are counted.
fn reasons() -> &'static [&'static str] {
    SHEDS.labels.last().map_or(&[], |label| label.values)
}

fn shed_rates(pools: &[PoolGauges], monitor: &Monitor) -> BTreeMap<&'static str, f64> {
    let mut rates = BTreeMap::new();
    for recent in pools.iter().filter_map(|pool| monitor.recent(pool)) {
        for (reason, rate) in reasons().iter().zip(&recent.sheds).filter(|(_, rate)| **rate > 0.0) {
            *rates.entry(*reason).or_default() += rate;
        }
    }
    rates
}

impl Upstream {
    fn of(upstream: UpstreamGauges) -> Self {
        let UpstreamGauges { address, budget, limit, max_connections, breaker } = upstream;
        Self { address, budget, limit, max_connections, breaker }
    }
}

impl Pool {
    fn of(recent: Option<&Recent>, sheds: ShedCounts, pool: PoolGauges) -> Self {
        let recent = recent.cloned().unwrap_or_default();
        let servers = SERVER_STATES.iter().copied().zip(pool.servers()).collect();
        let held: f64 = recent.functions.values().sum();
        let functions = pool.functions.into_iter();
        Self {
            database: pool.database,
            user: pool.user,
            mode: pool.mode,
            limit: pool.limit,
            clients: pool.clients,
            servers,
            waiting: pool.waiting,
            oldest_wait_seconds: pool.oldest_wait_seconds,
            standing_seconds: pool.standing_seconds,
            utilisation: recent.utilisation,
            erlangs: recent.erlangs,
            collapse_ratio: recent.collapse_ratio,
            headroom: recent.headroom,
            per_second: PerSecond {
                transactions: recent.transactions,
                queries: recent.queries,
                sheds: recent.sheds.iter().sum(),
                errors: recent.errors,
            },
            sheds: reasons().iter().copied().zip(sheds).filter(|(_, count)| *count > 0).collect(),
            functions: functions.map(|function| Function::of(function, &recent, held)).collect(),
        }
    }
}

impl Function {
    fn of(function: FunctionGauges, recent: &Recent, held_by_all: f64) -> Self {
        let held = recent.functions.get(&function.name).copied().unwrap_or_default();
        let admitted = function.transactions + function.active as u64;
        Self {
            share: if held_by_all > 0.0 { held / held_by_all } else { 0.0 },
            wait_seconds: if admitted > 0 { function.waited_seconds / admitted as f64 } else { 0.0 },
            name: function.name,
            active: function.active,
            waiting: function.waiting,
            held_seconds: function.held_seconds,
            transactions: function.transactions,
            sheds: function.sheds,
        }
    }
}
