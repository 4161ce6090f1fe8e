//! One PostgreSQL server: its gate, its pools, and the tasks that keep its connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use deadpool::managed::Object;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Pool;
use super::books::{Books, Chores, Outcome};
use crate::guard::{
    DialCause, FAIL_FAST_AFTER, Gate, GateParams, GroupId, Home, LOCALITY_SLACK, Placement, PoolId,
    PoolLimits, RECLAIM_AFTER, Ticket, UpstreamLimits, UpstreamSnapshot,
};
use crate::lock::lock;
use crate::net::UpstreamAddress;
use crate::obs::{DestroyReason, DialResult};
use crate::server::{Connector, DialError, Server, UpstreamParams};

/// How often idle connections are looked over.
pub(super) const MAINTENANCE: Duration = Duration::from_secs(1);
/// Pause after the first failed dial; it doubles from there. An outage then costs at most ten dials in its first second,
/// and five in any later one.
const DIAL_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// A database that is back is noticed this late at most.
const DIAL_BACKOFF_MAX: Duration = Duration::from_millis(400);
/// Longest time without a tick while somebody waits, whatever the gate says: a new waiter may have an earlier deadline.
const LONGEST_TICK: Duration = Duration::from_millis(50);

/// One PostgreSQL server, with all pools that lead to it.
pub struct Upstream {
    pub(super) params: UpstreamParams,
    pub(super) connector: Arc<Connector>,
    books: Mutex<Books>,
    pools: OnceLock<Vec<Weak<Pool>>>,
    /// The runtimes of the I/O threads, by home.
    homes: Vec<Handle>,
    /// Somebody has begun to wait, or something is due.
    wake_ticker: Notify,
    /// How many connections PostgreSQL allows; zero until it was asked.
    allowed: AtomicU64,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("address", &self.params.address).finish_non_exhaustive()
    }
}

impl Upstream {
    /// An upstream without pools. `seed` is for the jitter of its back-off.
    pub(super) fn new(params: UpstreamParams, connector: Connector, homes: Vec<Handle>, seed: u64) -> Self {
        let gate = Gate::new(GateParams {
            max_connections: params.max_connections,
            reserved_connections: params.reserved_connections,
            max_dials: params.max_dials,
            dial_rate: params.dial_rate,
            dial_burst: params.dial_burst,
            dial_backoff_min: DIAL_BACKOFF_MIN,
            dial_backoff_max: DIAL_BACKOFF_MAX,
            fail_fast_after: FAIL_FAST_AFTER,
            homes: homes.len(),
            locality_slack: LOCALITY_SLACK,
            reclaim_after: RECLAIM_AFTER,
            seed,
        });
        Self {
            params,
            connector: Arc::new(connector),
            books: Mutex::new(Books::new(gate)),
            pools: OnceLock::new(),
            homes,
            wake_ticker: Notify::new(),
            allowed: AtomicU64::new(0),
        }
    }

    pub(super) fn add_group(&self, max_connections: usize) -> GroupId {
        lock(&self.books).gate.add_group(max_connections)
    }

    pub(super) fn add_pool(&self, group: GroupId, limits: PoolLimits) -> PoolId {
        lock(&self.books).gate.add_pool(group, limits)
    }

    pub(super) fn let_use_reserve(&self, pool: PoolId) {
        lock(&self.books).gate.let_use_reserve(pool);
    }

    /// Takes over what of new parameters may change while it runs.
    pub(super) fn reload(&self, params: &UpstreamParams) {
        let limits = UpstreamLimits {
            max_connections: params.max_connections,
            reserved_connections: params.reserved_connections,
            max_dials: params.max_dials,
            dial_rate: params.dial_rate,
            dial_burst: params.dial_burst,
        };
        self.with_books(|books| books.gate.resize(Instant::now(), &limits, &mut books.actions));
    }

    pub(super) fn resize_group(&self, group: GroupId, max: usize) {
        self.with_books(|books| books.gate.resize_group(Instant::now(), group, max, &mut books.actions));
    }

    /// How the server stands.
    pub fn snapshot(&self) -> UpstreamSnapshot {
        lock(&self.books).gate.snapshot_upstream(Instant::now())
    }

    /// PostgreSQL allows so many connections of the proxy's roles.
    pub fn allows(&self, connections: u64) {
        self.allowed.store(connections, Ordering::Relaxed);
    }

    /// How many that is. None: it was not asked yet.
    pub fn allowed(&self) -> Option<u64> {
        Some(self.allowed.load(Ordering::Relaxed)).filter(|allowed| *allowed > 0)
    }

    /// Where it listens.
    pub fn address(&self) -> &UpstreamAddress {
        &self.params.address
    }

    /// Ties the pools to the upstream, once all are added, in the order of their ids.
    pub(super) fn set_pools(&self, pools: Vec<Weak<Pool>>) {
        let _ = self.pools.set(pools);
    }

    /// Starts the tasks that tick the gate and look over idle connections.
    pub(super) fn start(self: &Arc<Self>) {
        if let Some(home) = self.homes.first() {
            home.spawn(tick(Arc::downgrade(self)));
            home.spawn(maintain(Arc::downgrade(self)));
        }
    }

    /// Runs `work` on the books, then does what the gate ordered.
    #[inline]
    pub(super) fn with_books<R>(&self, work: impl FnOnce(&mut Books) -> R) -> R {
        let mut books = lock(&self.books);
        let result = work(&mut books);
        if let Some(chores) = books.chores() {
            // Under the lock, so that a store always holds what the books call idle.
            let closing = self.take_out(&chores.close_idle);
            let granted = self.grant(&mut books, &chores.grant);
            drop(books);
            for waker in granted {
                waker.wake();
            }
            for (pool, home, server) in closing {
                pool.close(server, home, DestroyReason::Evicted);
            }
            self.perform(chores);
        }
        result
    }

    /// The gate may have to be ticked sooner than the ticker knows.
    pub(super) fn wake_ticker(&self) {
        self.wake_ticker.notify_one();
    }

    /// Runs a task beside the sockets of this home.
    pub(super) fn spawn(&self, home: Home, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.homes.get(usize::from(home.0)) {
            runtime.spawn(task);
        }
    }

    /// Waiting clients are refused, idle connections are closed, and nobody new is let in.
    pub(crate) fn drain(&self) {
        self.with_books(|books| books.gate.drain(Instant::now(), &mut books.actions));
    }

    fn pool(&self, id: PoolId) -> Option<Arc<Pool>> {
        self.pools.get()?.get(id.index())?.upgrade()
    }

    fn perform(&self, chores: Chores) {
        for waker in chores.wake {
            waker.wake();
        }
        for (pool, home) in chores.dial {
            if let Some(pool) = self.pool(pool) {
                self.spawn(home, dial(pool, home));
            }
        }
    }

    /// The gate has given these idle connections to clients that wait.
    fn grant(&self, books: &mut Books, granted: &[(Ticket, PoolId, Home)]) -> Vec<Waker> {
        let grant = |(ticket, id, home): &(Ticket, PoolId, Home)| {
            let held = self.pool(*id)?.store(*home).take()?;
            books.end(*ticket, Outcome::Granted(held, *home))
        };
        granted.iter().filter_map(grant).collect()
    }

    /// The gate has moved these from idle to closing.
    fn take_out(&self, idle: &[(PoolId, Home)]) -> Vec<(Arc<Pool>, Home, Box<Server>)> {
        let take = |(id, home): &(PoolId, Home)| {
            let pool = self.pool(*id)?;
            let server = Object::take(pool.store(*home).take()?);
            Some((pool, *home, server))
        };
        idle.iter().filter_map(take).collect()
    }
}

/// Brings one server connection to a pool, or tells the gate why not.
async fn dial(pool: Arc<Pool>, home: Home) {
    let started = Instant::now();
    let result = pool.connect().await;
    let now = Instant::now();
    let sqlstate = result.as_ref().err().and_then(DialError::sqlstate);
    pool.metrics.dialled(dial_result(&result), sqlstate, now - started);
    match result {
        Ok(server) => arrived(&pool, home, server, now),
        Err(error) => {
            let cause = error.cause();
            pool.note_failure(error);
            pool.upstream.with_books(|books| {
                books.gate.dial_failed(now, pool.id, home, cause, &mut books.actions);
            });
            // Behind the gate: who hears of it and asks again must find the gate ready to dial.
            pool.greeting.dial_failed();
            pool.upstream.wake_ticker();
        }
    }
}

fn dial_result(result: &Result<Box<Server>, DialError>) -> DialResult {
    match result {
        Ok(_) => DialResult::Ok,
        Err(error) => match error.cause() {
            DialCause::Unreachable => DialResult::Unreachable,
            DialCause::Refused => DialResult::Refused,
            DialCause::TooManyConnections => DialResult::TooManyConnections,
            DialCause::ConnectionLimit => DialResult::ConnectionLimit,
            DialCause::NoFiles => DialResult::NoFiles,
        },
    }
}

fn arrived(pool: &Arc<Pool>, home: Home, server: Box<Server>, now: Instant) {
    pool.greeting.learn(&server.base);
    let (closed, waker) = pool.upstream.with_books(|books| {
        let placement = books.gate.dialled(now, pool.id, home, &mut books.actions);
        if placement == Placement::Close {
            return (Some(server), None);
        }
        // Always there: it was just put in. Dropped, it stays in the store.
        let held = pool.store(home).adopt(server);
        match (placement, held) {
            (Placement::Hand(ticket), Some(held)) => (None, books.end(ticket, Outcome::Granted(held, home))),
            _ => (None, None),
        }
    });
    if let Some(waker) = waker {
        waker.wake();
    }
    if let Some(server) = closed {
        // The gate has counted it as closing.
        pool.close(server, home, DestroyReason::Evicted);
    }
}

/// Ticks the gate while something is due.
async fn tick(upstream: Weak<Upstream>) {
    loop {
        let Some(this) = upstream.upgrade() else { return };
        let due = this.with_books(|books| {
            let now = Instant::now();
            books.gate.tick(now, &mut books.actions);
            books.gate.poll_timeout().map(|due| due.saturating_duration_since(now))
        });
        // A millisecond is the timer's grain; less would spin.
        let pause = due.map(|due| due.clamp(Duration::from_millis(1), LONGEST_TICK));
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => this.wake_ticker.notified().await,
        }
    }
}

/// Closes idle connections that are dead, too old or idle for too long; and says what has become of budgets.
async fn maintain(upstream: Weak<Upstream>) {
    let mut told = HashMap::new();
    loop {
        tokio::time::sleep(MAINTENANCE).await;
        let Some(this) = upstream.upgrade() else { return };
        let UpstreamSnapshot { budget, max_connections, .. } = this.snapshot();
        tell_budget(&mut told, None, &this.params.address, budget, max_connections);
        for pool in this.pools.get().into_iter().flatten().filter_map(Weak::upgrade) {
            let now = pool.snapshot();
            tell_budget(&mut told, Some(pool.id), &pool.name(), now.budget, now.size);
            pool.look_over_idle(Instant::now());
            pool.adapt(Instant::now());
        }
        this.wake_ticker();
    }
}

/// Logs a budget that has changed since it was last looked at. Every second at most, so that what dials under way together
/// were refused is one line.
fn tell_budget(
    told: &mut HashMap<Option<PoolId>, usize>,
    of: Option<PoolId>,
    name: &dyn std::fmt::Display,
    budget: usize,
    configured: usize,
) {
    let before = told.insert(of, budget).unwrap_or(configured);
    match () {
        () if budget == before => {}
        () if budget >= configured => {
            tracing::warn!(of = %name, budget, "PostgreSQL has room for all connections again")
        }
        () if budget > before => {
            tracing::warn!(of = %name, budget, configured, "one connection more is tried")
        }
        () => {
            tracing::warn!(of = %name, budget, configured, "PostgreSQL has no room for more connections (53300)");
        }
    }
}
