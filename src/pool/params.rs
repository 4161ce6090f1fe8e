//! What the configuration says about one pool: the server connections of one (database, user).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::AdaptiveLimit;
use crate::guard::{Admission, KeyTerms, PoolLimits};
use crate::proto::pin::PinPolicies;
use crate::server::Credentials;

/// How long a client keeps a server connection. PgBouncer's `pool_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// From the first message of a transaction to `ReadyForQuery` outside one.
    Transaction,
    /// From the first message to the client's disconnect.
    Session,
    /// One statement at a time; transactions over several statements are refused.
    Statement,
}

impl PoolMode {
    /// The word of the configuration and of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Session => "session",
            Self::Statement => "statement",
        }
    }
}

/// One pool: the server connections of one (database, user).
#[derive(Debug, Clone)]
pub struct PoolParams {
    /// Name that clients log in with.
    pub database: String,
    /// User that clients log in with.
    pub user: String,
    /// Name of the database at the upstream.
    pub server_database: String,
    /// As whom the server connections log in.
    pub credentials: Credentials,
    /// When a server connection goes back.
    pub mode: PoolMode,
    /// Most server connections of this pool. PgBouncer's `pool_size`.
    pub size: usize,
    /// It may use the upstream's reserved connections.
    pub reserved: bool,
    /// Server connections kept open even without clients. PgBouncer's `min_pool_size`.
    pub min_idle: usize,
    /// Most clients in the queue; a memory guard.
    pub max_waiting: usize,
    /// Longest wait for a server connection. PgBouncer's `query_wait_timeout`.
    pub max_wait: Duration,
    /// Longest wait while the queue gets shorter so fast that everybody in it is served within this time.
    pub burst_wait: Duration,
    /// Whether waiters are refused early when the queue shows that waiting is of no use.
    pub admission: Admission,
    /// Whether it looks for a limit of its own below its size.
    pub adaptive_limit: AdaptiveLimit,
    /// That limit is never lower.
    pub adaptive_min: usize,
    /// What single functions may have of the pool, by their names. All others have the default.
    pub shares: Arc<HashMap<Box<str>, KeyTerms>>,
    /// A server connection this old is replaced when it is next idle; up to a tenth earlier, so that they do not all go
    /// at once. PgBouncer's `server_lifetime`. Zero: never.
    pub server_lifetime: Duration,
    /// A server connection idle this long is closed, down to `min_idle`. PgBouncer's `server_idle_timeout`. Zero: never.
    pub server_idle_timeout: Duration,
    /// Most clients of this user on this database. PgBouncer's `max_user_client_connections`. None: no bound of its own.
    pub max_clients: Option<usize>,
    /// What its clients' sessions may do, and for how long.
    pub session: SessionParams,
}

impl PoolParams {
    /// What the gate is told.
    pub fn limits(&self) -> PoolLimits {
        PoolLimits {
            size: self.size,
            min_idle: self.min_idle,
            max_waiting: self.max_waiting,
            max_wait: self.max_wait,
            burst_wait: self.burst_wait,
            admission: self.admission,
            active_limit: None,
        }
    }
}

/// What the sessions of a pool's clients may do, and for how long. A timeout of zero: none.
#[derive(Debug, Clone)]
pub struct SessionParams {
    /// Longest time from a request to its end at PostgreSQL; then it is cancelled (57014). PgBouncer's `query_timeout`.
    pub query_timeout: Duration,
    /// Longest transaction; then it is cancelled and rolled back (25P04). PgBouncer's `transaction_timeout`.
    pub transaction_timeout: Duration,
    /// Longest silence of a client inside a transaction; then it is rolled back (25P03). PgBouncer's
    /// `idle_transaction_timeout`.
    pub idle_in_transaction_timeout: Duration,
    /// Longest silence of a client outside a transaction; then it is disconnected (57P05). PgBouncer's
    /// `client_idle_timeout`.
    pub client_idle_timeout: Duration,
    /// Longest time for which a client takes no byte of what there is for it; then it is disconnected.
    pub client_stall_timeout: Duration,
    /// What becomes of a query whose client has vanished.
    pub abandoned: Abandoned,
    /// When a server connection is reset.
    pub reset: Reset,
    /// What may keep a server connection beyond a transaction.
    pub pins: PinParams,
    /// Prepared statements.
    pub statements: StatementParams,
}

/// What becomes of a query whose client has vanished. The transaction is rolled back either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It is cancelled: nobody wants its result.
    Cancel,
    /// It runs to its end.
    Finish,
}

/// When a server connection's session state is reset, besides when its client leaves state behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// When something was seen to have changed.
    Auto,
    /// After every transaction: for functions that change the session unseen.
    Always,
}

/// What may keep a server connection beyond a transaction.
#[derive(Debug, Clone)]
pub struct PinParams {
    /// Longest silence of a client that keeps a server connection outside a transaction; then it is disconnected (57P05).
    pub timeout: Duration,
    /// Share of the pool, above 0 and up to 1, that may be kept in this way; at least one connection.
    pub budget: f64,
    /// What happens for each reason.
    pub policies: PinPolicies,
}

/// Prepared statements of a pool's clients, in transaction and statement mode.
#[derive(Debug, Clone)]
pub struct StatementParams {
    /// Most statements kept prepared on each server connection. PgBouncer's `max_prepared_statements`. Zero: statements
    /// pass as they come, for poolers behind.
    pub max_per_server: usize,
    /// Unnamed statements that repeat are kept prepared as named ones are.
    pub promote_unnamed: bool,
    /// Trace comments are taken out of the statements that PostgreSQL prepares.
    pub strip_trace_comments: bool,
}
