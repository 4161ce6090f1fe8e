//! What all clients share: who may come in, and whether the house is open.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;

use super::jitter::Jitter;
use super::params::{ClientParams, TlsIdentity};
use super::roster::Roster;
use super::spool::Spool;
use super::turns::LoginTurns;
use crate::limits::{Limits, RateLimit};
use crate::lock::lock;
use crate::net::tls::{TlsSetupError, first_expiry, server_config};
use crate::obs::{LimitMetrics, Metrics, Refusal, SummaryLog};
use crate::pool::{Database, LiveBound, LiveDuration, Pool, Pools};
use crate::proto::auth::{ClientSecret, Mock, Prepared, Proven};
use crate::proto::statements::StatementCache;
use crate::proto::{ClientTlsMode, UserParams};
use crate::trace::Tracer;

/// How often, and how many times, it is looked whether a client that is to give way has gone: a second in all; and how many of
/// those looks it has.
const EVICTION: (Duration, usize, usize) = (Duration::from_millis(5), 200, 50);

/// What all clients share.
pub struct Door {
    /// Limits and log-in, as the configuration said at the start. What of it may change is beside it.
    pub params: ClientParams,
    /// Most clients, logged in or logging in.
    max_clients: AtomicUsize,
    /// How long a drain waits for transactions to finish.
    pub drain_timeout: LiveDuration,
    /// How long a client has to have been idle to give way to a login; zero: none does.
    evict_idle: LiveDuration,
    /// Where logins are counted.
    pub metrics: Metrics,
    /// What records transactions. None: nothing does.
    pub tracer: Option<Arc<Tracer>>,
    /// Where they may go.
    pub pools: Pools,
    /// Who is in.
    pub roster: Arc<Roster>,
    /// Prepared statements of all clients.
    pub statements: Mutex<StatementCache>,
    /// Replies that clients have not taken yet.
    pub spool: Spool,
    /// One line a second about logins that failed, however many did.
    pub login_failures: SummaryLog,
    /// The same about transactions that were not admitted.
    pub sheds: SummaryLog,
    /// The same about what goes wrong for clients that are in.
    pub(super) mishaps: SummaryLog,
    /// How many logins and transactions there may be in a time.
    rules: Mutex<Arc<Rules>>,
    /// Goes up when the rules are others.
    rules_version: AtomicU32,
    /// When clients that are refused are to come back.
    pub(super) jitter: Jitter,
    pub(super) tls: Option<TlsAcceptor>,
    /// When the certificate that clients see expires, in seconds since 1970. None: there is none.
    pub certificate_expiry: Option<f64>,
    pub(super) mock: Mock,
    /// Whose turn it is to log in.
    pub(super) turns: Arc<LoginTurns>,
    /// Derivations of keys at once: they take whole cores.
    pub(super) derivations: Arc<Semaphore>,
    /// Connections that were accepted and are not closed yet.
    pub connections: AtomicUsize,
    /// Clients that have said who they are, logged in or not.
    present: AtomicUsize,
    /// Logins that are let in as soon as a client has given way to them: nobody else gets such a place.
    promised: AtomicUsize,
    users: HashMap<String, Arc<User>>,
    draining: AtomicBool,
    pub(super) drained: Notify,
}

/// Rate limits, and where it is counted what is over them.
pub(super) struct Rules {
    pub(super) limits: Limits,
    pub(super) metrics: LimitMetrics,
}

impl Rules {
    fn new(limits: Limits, params: &[RateLimit], metrics: &Metrics) -> Self {
        let rules = params.iter().map(|rule| (rule.name.as_str(), rule.mode.as_str()));
        Self { limits, metrics: metrics.clients().limits(rules) }
    }
}

/// A user of the proxy.
pub(super) struct User {
    /// Most clients over all databases.
    pub(super) max_clients: LiveBound,
    /// Clients that are logged in.
    pub(super) clients: AtomicUsize,
    prepared: Prepared,
    derived: OnceLock<ClientSecret>,
    /// The password that was right last, as far as it has to be known again.
    pub(super) proven: Mutex<Proven>,
}

impl User {
    /// What a login is checked against; None while it is still to be derived.
    pub(super) fn secret(&self) -> Option<&ClientSecret> {
        match &self.prepared {
            Prepared::Ready(secret) => Some(secret),
            Prepared::Derive(_) => self.derived.get(),
        }
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("roster", &self.roster.len()).finish_non_exhaustive()
    }
}

impl Door {
    /// Opens the door. Verifiers are derived by [`Door::derive_verifiers`].
    ///
    /// # Errors
    /// Certificate or key cannot be used.
    pub fn new(
        params: ClientParams,
        pools: Pools,
        metrics: Metrics,
        tracer: Option<Arc<Tracer>>,
    ) -> Result<Self, TlsSetupError> {
        let identity = params.tls.identity.as_ref().filter(|_| params.tls.mode != ClientTlsMode::Disable);
        let certificate_expiry =
            identity.map(|identity| first_expiry(&identity.cert_file)).transpose()?.flatten();
        let config = |identity: &TlsIdentity| server_config(&identity.cert_file, &identity.key_file);
        let tls = identity.map(config).transpose()?.map(TlsAcceptor::from);
        let user = |user: &UserParams| {
            let prepared = ClientSecret::prepare(params.auth, user, rand::random());
            let (clients, derived) = (AtomicUsize::new(0), OnceLock::new());
            let proven = Mutex::new(Proven::new(rand::random()));
            let max_clients = LiveBound::new(user.max_clients);
            let user_state = User { max_clients, clients, prepared, derived, proven };
            (user.name.clone(), Arc::new(user_state))
        };
        let users = params.users.iter().map(user).collect();
        let mock = Mock::new(rand::random(), params.users.iter());
        let turns = Arc::new(LoginTurns::new(params.max_handshakes, params.max_clients));
        // At least half of the cores are left for those who are in.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let derivations = Arc::new(Semaphore::new((cores / 2).max(1)));
        let (entries, bytes) = (params.statement_cache_entries, params.statement_cache_bytes);
        let statements = StatementCache::new(rand::random(), entries, bytes);
        let limits = Limits::new(&params.rate_limits, Instant::now(), rand::random());
        let rules = Rules::new(limits, &params.rate_limits, &metrics);
        Ok(Self {
            max_clients: AtomicUsize::new(params.max_clients),
            drain_timeout: LiveDuration::new(params.drain_timeout),
            evict_idle: LiveDuration::new(params.evict_idle),
            rules: Mutex::new(Arc::new(rules)),
            rules_version: AtomicU32::new(0),
            statements: Mutex::new(statements),
            spool: Spool::new(params.client_spool, params.max_spool),
            params,
            metrics,
            tracer,
            pools,
            roster: Arc::default(),
            login_failures: SummaryLog::new("logins failed"),
            sheds: SummaryLog::new("transactions shed"),
            mishaps: SummaryLog::new("mishaps"),
            jitter: Jitter::new(rand::random()),
            tls,
            certificate_expiry,
            mock,
            turns,
            derivations,
            connections: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            promised: AtomicUsize::new(0),
            users,
            draining: AtomicBool::new(false),
            drained: Notify::new(),
        })
    }

    /// Takes over what of new parameters may change while the proxy runs.
    pub fn reload(&self, params: &ClientParams) {
        self.max_clients.store(params.max_clients, Ordering::Relaxed);
        self.turns.set_max_waiting(params.max_clients);
        self.drain_timeout.set(params.drain_timeout);
        self.evict_idle.set(params.evict_idle);
        for user in &params.users {
            if let Some(known) = self.users.get(&user.name) {
                known.max_clients.set(user.max_clients);
            }
        }
        let mut rules = lock(&self.rules);
        let limits = rules.limits.succeeded_by(&params.rate_limits, Instant::now());
        *rules = Arc::new(Rules::new(limits, &params.rate_limits, &self.metrics));
        self.rules_version.fetch_add(1, Ordering::Release);
    }

    /// Most clients, logged in or logging in.
    pub(super) fn max_clients(&self) -> usize {
        self.max_clients.load(Ordering::Relaxed)
    }

    /// The rate limits now.
    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&lock(&self.rules))
    }

    /// Changes when the rate limits do.
    #[inline]
    pub(super) fn rules_version(&self) -> u32 {
        self.rules_version.load(Ordering::Acquire)
    }

    /// Derives the verifiers of users with a plain password: about a millisecond of CPU each, so off the I/O threads and
    /// before the first login, whose time would else tell that the user exists.
    pub fn derive_verifiers(&self) {
        for user in self.users.values() {
            if let Prepared::Derive(derivation) = &user.prepared {
                user.derived.get_or_init(|| ClientSecret::Verifier(derivation.verifier().into()));
            }
        }
    }

    /// Writes what the summaries of the log have to say. To be called once a second, and at the end.
    pub fn flush_summaries(&self) {
        [&self.login_failures, &self.sheds, &self.mishaps].into_iter().for_each(SummaryLog::flush);
    }

    /// Logins that wait for their turn.
    pub fn waiting_logins(&self) -> usize {
        self.turns.waiting()
    }

    pub(super) fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// The proxy is going down.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Ready once the proxy drains. Cancel safe.
    pub(super) async fn closing(&self) {
        let mut drained = std::pin::pin!(self.drained.notified());
        // Before the look at the flag, or the call in between would be missed.
        drained.as_mut().enable();
        if !self.is_draining() {
            drained.await;
        }
    }

    /// Lets nobody in any more, refuses who waits, and sends home who is between transactions.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for upstream in self.pools.upstreams() {
            upstream.drain();
        }
        self.drained.notify_waiters();
        self.roster.wake_all();
    }
}

/// Counts a connection for as long as it lives.
pub(super) struct Connection(Arc<Door>);

impl Connection {
    pub(super) fn new(door: &Arc<Door>) -> Self {
        door.connections.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(door))
    }

    pub(super) fn door(&self) -> &Arc<Door> {
        &self.0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A client's place under the limit on all clients; dropped, it is free again.
pub(super) struct Presence(Arc<Door>);

impl Presence {
    /// A place, if there is one that is not promised to somebody; `promised`: also if it is.
    fn take(door: &Arc<Door>, promised: bool) -> Result<Self, Full> {
        let limit = door.max_clients();
        let presence = Self(Arc::clone(door));
        let before = door.present.fetch_add(1, Ordering::SeqCst);
        let kept = if promised { 0 } else { door.promised.load(Ordering::SeqCst) };
        if before + kept >= limit { Err(Full { refusal: Refusal::MaxClients, limit }) } else { Ok(presence) }
    }

    /// A place, or a promise of one: who has proved who it is may have that of a client with nothing to do.
    pub(super) fn ask(door: &Arc<Door>) -> Result<Option<Self>, Full> {
        match Self::take(door, false) {
            Ok(presence) => Ok(Some(presence)),
            Err(_) if door.roster.has_idle(Instant::now(), door.evict_idle.now()) => Ok(None),
            Err(full) => Err(full),
        }
    }

    /// The place of a client that has had nothing to do for `evict_idle`. Cancel safe: nothing is taken before it is there.
    pub(super) async fn in_place_of_another(door: &Arc<Door>) -> Result<Self, Full> {
        let mut full = match Self::take(door, false) {
            Ok(presence) => return Ok(presence),
            Err(full) => full,
        };
        let _promise = Promise::new(door);
        for look in 0..EVICTION.1 {
            // The one that was chosen may have begun to work meanwhile: then another one.
            if look % EVICTION.2 == 0 && !door.roster.evict(Instant::now(), door.evict_idle.now()) {
                break;
            }
            tokio::time::sleep(EVICTION.0).await;
            match Self::take(door, true) {
                Ok(presence) => return Ok(presence),
                Err(still) => full = still,
            }
        }
        Err(full)
    }
}

/// Keeps a place that comes free for one login.
struct Promise<'d>(&'d Door);

impl<'d> Promise<'d> {
    fn new(door: &'d Door) -> Self {
        door.promised.fetch_add(1, Ordering::SeqCst);
        Self(door)
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.0.promised.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A client's place under every limit on clients; dropped, it is free again.
pub(super) struct Seat {
    presence: Presence,
    places: Places,
}

/// A client's place under the limits of user, database and pool; dropped, it is free again.
pub(super) struct Places {
    pool: Arc<Pool>,
    database: Arc<Database>,
    user: Arc<User>,
}

/// A limit on clients that is reached: its name, and what it is set to.
pub(super) struct Full {
    pub(super) refusal: Refusal,
    pub(super) limit: usize,
}

impl Places {
    /// Takes a place under each of the three.
    pub(super) fn take(user: &Arc<User>, database: &Arc<Database>, pool: &Arc<Pool>) -> Result<Self, Full> {
        let counters = [
            (&user.clients, user.max_clients.now(), Refusal::MaxUserClients),
            (&database.clients, database.max_clients.now(), Refusal::MaxDatabaseClients),
            (&pool.clients, pool.settings.max_clients.now(), Refusal::MaxUserClients),
        ];
        for (taken, (counter, limit, refusal)) in counters.iter().enumerate() {
            let before = counter.fetch_add(1, Ordering::SeqCst);
            if let Some(limit) = limit.filter(|limit| before >= *limit) {
                for (counter, ..) in counters.iter().take(taken + 1) {
                    counter.fetch_sub(1, Ordering::SeqCst);
                }
                return Err(Full { refusal: *refusal, limit });
            }
        }
        let (pool, database) = (Arc::clone(pool), Arc::clone(database));
        Ok(Self { pool, database, user: Arc::clone(user) })
    }
}

impl Seat {
    pub(super) fn new(presence: Presence, places: Places) -> Self {
        Self { presence, places }
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.places.pool
    }

    #[inline]
    pub(super) fn door(&self) -> &Arc<Door> {
        &self.presence.0
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for counter in [&self.user.clients, &self.database.clients, &self.pool.clients] {
            counter.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
