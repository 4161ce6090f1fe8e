//! A pool, and how a client gets a server connection from it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadpool::managed::Object;

use super::books::{Books, Outcome, Refused};
use super::greeting::Greeting;
use super::pins::Pinned;
use super::stays::Stays;
use super::store::{Held, Store};
use super::upstream::{MAINTENANCE, Upstream};
use super::{Adaptive, Lease, PoolMode, PoolParams, Settings, Waiting};
use crate::guard::{
    Arrival, Caller, FunctionSnapshot, Home, KeyId, KeyTerms, Placement, PoolId, PoolLimits, PoolSnapshot,
    ShedReason,
};
use crate::lock::lock;
use crate::net::UpstreamAddress;
use crate::obs::{DestroyReason, PoolMetrics, WaitOutcome};
use crate::server::{DialError, Dialler, Server, farewell};

/// The function that the proxy itself is, as fairness sees it.
const OWN_KEY: &str = "pgcorral";

/// The server connections of one (database, user).
pub struct Pool {
    /// What the configuration said at the start. What of it may change is in `settings`.
    pub params: PoolParams,
    /// What may change while the pool runs, as it is now.
    pub settings: Settings,
    /// The limit that it finds for itself.
    pub adaptive: Adaptive,
    /// Where its transactions are counted.
    pub metrics: PoolMetrics,
    /// What clients are greeted with.
    pub greeting: Greeting,
    /// Clients that are logged in to it.
    pub clients: AtomicUsize,
    /// Clients that keep a server connection beyond their transactions.
    pub pinned: Pinned,
    /// Server connections that stay with clients who do nothing.
    pub stays: Stays,
    /// Goes up when a client has changed tables: what was prepared before may be out of date.
    pub schema: AtomicU32,
    pub(super) id: PoolId,
    /// The proxy's own: what it asks PostgreSQL for itself.
    own_key: KeyId,
    pub(super) upstream: Arc<Upstream>,
    stores: Vec<Store>,
    dialler: Dialler,
    /// Why the last dial failed, while none has succeeded since.
    failure: Mutex<Option<Arc<DialError>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.name())
    }
}

/// What a client that wants a server connection gets.
pub enum Checkout {
    /// One, at once.
    Granted(Lease),
    /// A place in the queue.
    Queued(Waiting),
    /// A refusal.
    Shed(Refused),
}

impl Pool {
    pub(super) fn new(
        params: PoolParams,
        metrics: PoolMetrics,
        id: PoolId,
        upstream: Arc<Upstream>,
        homes: usize,
        dialler: Dialler,
    ) -> Self {
        let stores = (0..homes).map(|_| Store::new(params.size)).collect();
        let (greeting, clients, failure) = (Greeting::default(), AtomicUsize::new(0), Mutex::new(None));
        let pinned = Pinned::default();
        let schema = AtomicU32::new(0);
        let enter = |books: &mut Books| books.gate.enter_key(id, OWN_KEY, KeyTerms::default());
        let own_key = upstream.with_books(enter);
        Self {
            settings: Settings::new(&params),
            adaptive: Adaptive::new(&params),
            params,
            metrics,
            greeting,
            clients,
            pinned,
            stays: Stays::default(),
            schema,
            id,
            own_key,
            upstream,
            stores,
            dialler,
            failure,
        }
    }

    /// `database/user`, as in the DETAIL of a refusal.
    pub fn name(&self) -> String {
        format!("{}/{}", self.params.database, self.params.user)
    }

    /// Asks for a server connection. Never waits: a queued client polls its [`Waiting`].
    pub fn checkout(self: &Arc<Self>, now: Instant, caller: &Caller) -> Checkout {
        loop {
            let (arrival, held) = self.upstream.with_books(|books| {
                match books.gate.arrive(now, self.id, caller, &mut books.actions) {
                    Arrival::Granted { from } => (None, self.store(from).take().map(|held| (held, from))),
                    Arrival::Queued(ticket) => (Some(Ok((ticket, books.queued(ticket)))), None),
                    Arrival::Shed(reason, retry_after) => {
                        let refused = Refused { reason, waited: Duration::ZERO, retry_after };
                        (Some(Err(refused)), None)
                    }
                }
            });
            match (arrival, held) {
                (_, Some((held, from))) => {
                    let lease = Lease::new(held, self, from, (caller.key, now));
                    if lease.is_alive() && !lease.is_expired(now) {
                        self.metrics.waited(WaitOutcome::Granted, Duration::ZERO);
                        return Checkout::Granted(lease);
                    }
                    lease.close_idle(now);
                }
                (Some(Ok((ticket, cell))), _) => {
                    self.upstream.wake_ticker();
                    return Checkout::Queued(Waiting::new(self, ticket, cell, (caller.key, now)));
                }
                (Some(Err(refused)), _) => {
                    self.metrics.waited(WaitOutcome::Shed, Duration::ZERO);
                    return Checkout::Shed(refused);
                }
                // The books and the store disagree, which nothing does; the place must not be lost all the same.
                (None, None) => {
                    tracing::error!(
                        pool = self.name(),
                        "the store is empty where the gate saw an idle server"
                    );
                    self.upstream.with_books(|books| {
                        let charge = (caller.key, Duration::ZERO);
                        books.gate.discard(now, self.id, charge, &mut books.actions);
                        books.gate.closed(now, self.id, &mut books.actions);
                    });
                }
            }
        }
    }

    /// The proxy itself as a caller.
    pub fn own_caller(&self, home: Home) -> Caller {
        Caller { home, key: self.own_key, lot: 0, patience: None, works_by_then: false, urgent: false }
    }

    /// The key of a client of this function, until [`Pool::leave_function`].
    pub fn enter_function(&self, name: &str) -> KeyId {
        let terms = self.settings.terms(name);
        self.upstream.with_books(|books| books.gate.enter_key(self.id, name, terms))
    }

    /// A client that goes by this function's name no more.
    pub fn leave_function(&self, key: KeyId) {
        self.upstream.with_books(|books| books.gate.leave_key(self.id, key));
    }

    /// When it is worth asking again for one who was refused for this reason; to be bounded and jittered.
    pub fn retry_after(&self, reason: ShedReason) -> Duration {
        let now = Instant::now();
        self.upstream.with_books(|books| books.gate.retry_after(now, self.id, self.own_key, reason))
    }

    /// Makes sure that a server connection is there or on its way: a login wants to know the server's parameters.
    pub fn warm(&self, home: Home) {
        self.upstream.with_books(|books| books.gate.warm(Instant::now(), self.id, home, &mut books.actions));
        self.upstream.wake_ticker();
    }

    /// Takes over what of new parameters may change while the pool runs. Server connections that are too many are closed
    /// as they become free.
    pub(super) fn reload(&self, params: &PoolParams) {
        for store in &self.stores {
            store.grow(params.size);
        }
        self.settings.set(params);
        self.adaptive.set(params);
        let limits = PoolLimits { active_limit: self.adaptive.enforced(), ..params.limits() };
        self.upstream.with_books(|books| {
            let now = Instant::now();
            books.gate.resize_pool(now, self.id, limits, &mut books.actions);
            let terms = |name: &str| params.shares.get(name).copied().unwrap_or_default();
            books.gate.set_key_terms(now, self.id, terms, &mut books.actions);
        });
    }

    /// Moves the adaptive limit, if that is on and it is time.
    pub(super) fn adapt(&self, now: Instant) {
        if !self.adaptive.is_on() {
            return;
        }
        let peak = self.upstream.with_books(|books| books.gate.take_peak(self.id));
        let Some(found) = self.adaptive.evaluate(now, peak) else { return };
        let (limit, reason, slowness) = (found.limit, found.verdict.as_str(), found.slowness);
        let enforced = self.adaptive.enforced();
        tracing::info!(
            pool = self.name(),
            limit,
            reason,
            slowness,
            enforced = enforced.is_some(),
            "adaptive limit"
        );
        if enforced.is_some() {
            self.upstream.with_books(|books| {
                books.gate.set_active_limit(now, self.id, enforced, &mut books.actions);
            });
        }
    }

    /// Why there is no server connection, if the last dial failed.
    pub fn failure(&self) -> Option<Arc<DialError>> {
        lock(&self.failure).clone()
    }

    /// How the pool stands.
    pub fn snapshot(&self) -> PoolSnapshot {
        self.upstream.with_books(|books| books.gate.snapshot(Instant::now(), self.id))
    }

    /// How its functions stand.
    pub fn functions(&self) -> Vec<FunctionSnapshot> {
        self.upstream.with_books(|books| books.gate.functions(Instant::now(), self.id))
    }

    /// Where its server listens.
    pub fn address(&self) -> &UpstreamAddress {
        self.upstream.address()
    }

    /// Longest time for a server to take a cancel request.
    pub fn cancel_timeout(&self) -> Duration {
        self.upstream.params.cancel_timeout
    }

    /// Transactions keep their server connection to their end only.
    pub fn gives_back_after_transaction(&self) -> bool {
        self.params.mode != PoolMode::Session
    }

    pub(super) fn store(&self, home: Home) -> &Store {
        // A home is an index of this vector by construction; the last one catches the impossible.
        &self.stores[usize::from(home.0).min(self.stores.len() - 1)]
    }

    pub(super) async fn connect(&self) -> Result<Box<Server>, DialError> {
        let server = Box::new(self.dialler.dial().await?);
        *lock(&self.failure) = None;
        Ok(server)
    }

    pub(super) fn note_failure(&self, error: DialError) {
        let error = Arc::new(error);
        let before = lock(&self.failure).replace(Arc::clone(&error));
        // Once for each cause: an outage must not fill the log.
        if before.is_none_or(|before| before.to_string() != error.to_string()) {
            tracing::warn!(pool = self.name(), %error, "cannot open a server connection");
        } else {
            tracing::debug!(pool = self.name(), %error, "cannot open a server connection");
        }
    }

    /// Closes idle connections that are dead, too old or idle for too long; and those that are soon too old, once they have
    /// successors.
    pub(super) fn look_over_idle(self: &Arc<Self>, now: Instant) {
        let mut replaced = self.renew(now);
        let server_idle_timeout = self.settings.server_idle_timeout.now();
        let min_idle = self.settings.min_idle.load(Ordering::Relaxed);
        for (index, store) in self.stores.iter().enumerate() {
            let home = Home(index as u16);
            let mut closing = vec![];
            self.upstream.with_books(|books| {
                let snapshot = books.gate.snapshot(now, self.id);
                let mut spare = (snapshot.idle + snapshot.active).saturating_sub(min_idle);
                closing = store.retain(|server| {
                    let idle = now.saturating_duration_since(server.idle_since);
                    let tired = !server_idle_timeout.is_zero() && idle >= server_idle_timeout && spare > 0;
                    spare -= usize::from(tired);
                    let expired = server.is_expired(now);
                    let over = replaced > 0 && !expired && self.is_due(server, now);
                    replaced -= usize::from(over);
                    server.is_alive() && !expired && !tired && !over
                });
                for _ in &closing {
                    books.gate.take_idle(now, self.id, home, &mut books.actions);
                }
            });
            for server in closing {
                let reason = match () {
                    () if self.is_due(&server, now) => DestroyReason::Lifetime,
                    () if server.is_alive() => DestroyReason::Idle,
                    () => DestroyReason::ServerClosed,
                };
                self.close(server, home, reason);
            }
        }
    }

    /// How many of the idle connections that are soon too old, and not yet, have successors already; the others' are dialled.
    fn renew(&self, now: Instant) -> usize {
        self.upstream.with_books(|books| {
            let count = |which: &dyn Fn(&Server) -> bool| -> usize {
                self.stores.iter().map(|store| store.count(|server| which(server))).sum()
            };
            let due = count(&|server| self.is_due(server, now));
            let replaced = books.gate.renew(now, self.id, due, &mut books.actions);
            // Those at their end go in any case, so the successors are theirs first.
            replaced.saturating_sub(count(&|server| server.is_expired(now)))
        })
    }

    /// Its successor is to be dialled: it reaches its end within a twentieth of `server_lifetime`, and five looks before it
    /// at least, some of which may be late.
    fn is_due(&self, server: &Server, now: Instant) -> bool {
        let lifetime = self.params.server_lifetime;
        let margin = (lifetime / 20).max(5 * MAINTENANCE).min(lifetime / 2);
        server.expires.is_some_and(|expires| expires <= now + margin)
    }

    /// Closes a connection that the gate counts as closing, and tells it when the server is gone for good.
    pub(super) fn close(self: &Arc<Self>, server: Box<Server>, home: Home, reason: DestroyReason) {
        self.metrics.destroyed(reason);
        let pool = Arc::clone(self);
        self.upstream.spawn(home, async move {
            farewell(*server).await;
            pool.upstream.with_books(|books| books.gate.closed(Instant::now(), pool.id, &mut books.actions));
        });
    }

    /// A connection that is free goes to the next client, or into its store.
    pub(super) fn give_back(
        self: &Arc<Self>,
        held: Held,
        home: Home,
        charge: (KeyId, Duration),
        now: Instant,
    ) {
        let mut held = Some(held);
        let waker = self.upstream.with_books(|books| {
            let placement = books.gate.returned(now, self.id, home, charge, &mut books.actions);
            match (placement, held.take()) {
                (Placement::Hand(ticket), Some(server)) => books.end(ticket, Outcome::Granted(server, home)),
                // Back into the store, under the lock: the gate calls it idle from now on.
                (Placement::Store, server) => {
                    drop(server);
                    None
                }
                (_, server) => {
                    held = server;
                    None
                }
            }
        });
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(held) = held {
            self.close(Object::take(held), home, DestroyReason::Evicted);
        }
    }

    /// A connection that nobody may use any more.
    pub(super) fn discard(
        self: &Arc<Self>,
        held: Held,
        home: Home,
        charge: (KeyId, Duration),
        reason: DestroyReason,
    ) {
        self.upstream.with_books(|books| {
            books.gate.discard(Instant::now(), self.id, charge, &mut books.actions);
        });
        self.close(Object::take(held), home, reason);
    }
}
