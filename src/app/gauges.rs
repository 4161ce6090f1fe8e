//! What a scrape and a health check see of the running parts.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::functions::Functions;
use crate::client::Door;
use crate::guard::Breaker;
use crate::lock::lock;
use crate::obs::{Kept, Metrics, PoolGauges, Readiness, Sources, UpstreamGauges};
use crate::pool::{Pool, Stay, Upstream};

/// The running parts, read when somebody asks.
#[derive(Debug)]
pub(super) struct Gauges {
    door: Arc<Door>,
    /// By pool, in the order of the pools.
    functions: Mutex<Vec<Functions>>,
}

impl Gauges {
    pub(super) fn new(door: Arc<Door>) -> Self {
        let functions = door.pools.iter().map(|_| Functions::default()).collect();
        Self { door, functions: Mutex::new(functions) }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.door.metrics
    }
}

impl Sources for Gauges {
    fn pools(&self) -> Vec<PoolGauges> {
        let mut functions = lock(&self.functions);
        self.door.pools.iter().zip(&mut *functions).map(|(pool, functions)| gauges(pool, functions)).collect()
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
        self.door.pools.upstreams().iter().map(gauges).collect()
    }

    fn clients(&self) -> Vec<(&'static str, usize)> {
        let mut states = self.door.roster.states().to_vec();
        let logged_in: usize = states.iter().map(|(_, count)| count).sum();
        states.insert(0, ("login", self.door.connections.load(Ordering::Relaxed).saturating_sub(logged_in)));
        states
    }

    fn kept(&self) -> Kept {
        let statements = lock(&self.door.statements);
        Kept {
            waiting_logins: self.door.waiting_logins(),
            spool_bytes: self.door.spool.bytes(),
            statements: statements.len(),
            statement_bytes: statements.bytes(),
        }
    }

    fn is_draining(&self) -> bool {
        self.door.is_draining()
    }

    fn certificate_expiry(&self) -> Option<f64> {
        self.door.certificate_expiry
    }

    fn readiness(&self) -> Readiness {
        if self.door.is_draining() {
            return Readiness::NotReady("draining".to_owned());
        }
        // Half open is ready: its dial may wait for the next arrival.
        if self.door.pools.upstreams().iter().all(|upstream| upstream.snapshot().breaker == Breaker::Open) {
            return Readiness::NotReady("the server is down".to_owned());
        }
        // A pool is fine while it has a server connection, or no dial of it has failed.
        let serves = |pool: &Arc<Pool>| {
            let now = pool.snapshot();
            now.idle + now.active > 0 || pool.failure().is_none()
        };
        if self.door.pools.iter().any(serves) {
            Readiness::Ready
        } else {
            Readiness::NotReady("no pool has a usable server".to_owned())
        }
    }
}

fn gauges(pool: &Pool, functions: &mut Functions) -> PoolGauges {
    let now = pool.snapshot();
    // Not of the same moment as the snapshot, and never more than there are.
    let mut active = now.active;
    let [in_transaction, kept, cancelling] =
        [Stay::InTransaction, Stay::Pinned, Stay::Cancelling].map(|stay| {
            let count = pool.stays.count(stay).min(active);
            active -= count;
            count
        });
    PoolGauges {
        database: pool.params.database.clone(),
        user: pool.params.user.clone(),
        mode: pool.params.mode.as_str(),
        idle: now.idle,
        active,
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
        functions: functions.gauges(pool.functions()),
        limit: now.budget,
        pinned: pool.pinned.count(),
        adaptive_limit: pool.adaptive.limit().map(|(mode, limit)| (mode.as_str(), limit)),
    }
}
