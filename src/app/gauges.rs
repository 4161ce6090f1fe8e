//! What a scrape and a health check see of the running parts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::client::Door;
use crate::guard::{Breaker, FunctionSnapshot};
use crate::lock::lock;
use crate::obs::{FunctionGauges, Kept, PoolGauges, Readiness, Sources, UpstreamGauges};
use crate::pool::{Pool, Stay, Upstream};

/// The running parts, read when somebody asks.
pub(super) struct Gauges(pub(super) Arc<Door>);

impl Sources for Gauges {
    fn pools(&self) -> Vec<PoolGauges> {
        self.0.pools.iter().map(|pool| gauges(pool)).collect()
    }

    fn upstreams(&self) -> Vec<UpstreamGauges> {
        let gauges = |upstream: &Arc<Upstream>| {
            let now = upstream.snapshot();
            UpstreamGauges {
                address: upstream.address().to_string(),
                budget: now.budget,
                limit: now.max_connections,
                max_connections: upstream.allowed(),
                breaker: now.breaker.as_str(),
            }
        };
        self.0.pools.upstreams().iter().map(gauges).collect()
    }

    fn clients(&self) -> Vec<(&'static str, usize)> {
        let mut states = self.0.roster.states().to_vec();
        let logged_in: usize = states.iter().map(|(_, count)| count).sum();
        states.insert(0, ("login", self.0.connections.load(Ordering::Relaxed).saturating_sub(logged_in)));
        states
    }

    fn kept(&self) -> Kept {
        let statements = lock(&self.0.statements);
        Kept {
            waiting_logins: self.0.waiting_logins(),
            spool_bytes: self.0.spool.bytes(),
            statements: statements.len(),
            statement_bytes: statements.bytes(),
        }
    }

    fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    fn certificate_expiry(&self) -> Option<f64> {
        self.0.certificate_expiry
    }

    fn readiness(&self) -> Readiness {
        if self.0.is_draining() {
            return Readiness::NotReady("draining".to_owned());
        }
        // Half open is ready: its dial may wait for the next arrival.
        if self.0.pools.upstreams().iter().all(|upstream| upstream.snapshot().breaker == Breaker::Open) {
            return Readiness::NotReady("the server is down".to_owned());
        }
        // A pool is fine while it has a server connection, or no dial of it has failed.
        let serves = |pool: &Arc<Pool>| {
            let now = pool.snapshot();
            now.idle + now.active > 0 || pool.failure().is_none()
        };
        if self.0.pools.iter().any(serves) {
            Readiness::Ready
        } else {
            Readiness::NotReady("no pool has a usable server".to_owned())
        }
    }
}

fn gauges(pool: &Pool) -> PoolGauges {
    let now = pool.snapshot();
    let stays = |stay| pool.stays.count(stay);
    let [in_transaction, kept, cancelling] = [Stay::InTransaction, Stay::Pinned, Stay::Cancelling].map(stays);
    PoolGauges {
        database: pool.params.database.clone(),
        user: pool.params.user.clone(),
        mode: pool.params.mode.as_str(),
        idle: now.idle,
        // The counts are not of the same moment.
        active: now.active.saturating_sub(in_transaction + kept + cancelling),
        idle_in_transaction: in_transaction,
        kept,
        cancelling,
        clients: pool.clients.load(Ordering::Relaxed),
        busy_seconds: now.busy,
        mean_hold_seconds: now.mean_hold.unwrap_or_default().as_secs_f64(),
        patience_seconds: now.max_wait.as_secs_f64(),
        dialling: now.dialling,
        closing: now.closing,
        waiting: now.waiting,
        max_waiting: pool.settings.max_waiting.load(Ordering::Relaxed),
        oldest_wait_seconds: now.oldest_wait.as_secs_f64(),
        standing_seconds: now.standing.as_secs_f64(),
        observed: now.observed,
        functions: functions(pool.functions()),
        limit: now.budget,
        pinned: pool.pinned.count(),
        adaptive_limit: pool.adaptive.limit().map(|(mode, limit)| (mode.as_str(), limit)),
    }
}

/// Functions with a line of their own in a scrape; the others are one. However clients call themselves, there are no more.
const MOST_FUNCTIONS: usize = 50;
/// The name of those; also of those that share a place in the gate.
const OTHER: &str = "other";

/// Those that have had most of the pool's time, and the rest together.
fn functions(mut all: Vec<FunctionSnapshot>) -> Vec<FunctionGauges> {
    all.sort_by(|a, b| b.held.total_cmp(&a.held));
    let (mut gauges, mut others) = (vec![], None);
    for (at, function) in all.into_iter().enumerate() {
        if at < MOST_FUNCTIONS && &*function.name != OTHER {
            gauges.push(add(
                FunctionGauges { name: function.name.to_string(), ..Default::default() },
                &function,
            ));
        } else {
            let before =
                others.unwrap_or_else(|| FunctionGauges { name: OTHER.into(), ..Default::default() });
            others = Some(add(before, &function));
        }
    }
    gauges.extend(others);
    gauges
}

fn add(to: FunctionGauges, function: &FunctionSnapshot) -> FunctionGauges {
    FunctionGauges {
        active: to.active + function.active,
        waiting: to.waiting + function.waiting,
        held_seconds: to.held_seconds + function.held,
        sheds: to.sheds + function.sheds,
        transactions: to.transactions + function.done,
        waited_seconds: to.waited_seconds + function.waited,
        ..to
    }
}
