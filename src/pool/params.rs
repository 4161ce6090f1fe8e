//! What the configuration says about one pool: the server connections of one (database, user).

use std::time::Duration;

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
    /// Server connections kept open even without clients. PgBouncer's `min_pool_size`.
    pub min_idle: usize,
    /// Most clients in the queue; a memory guard.
    pub max_waiting: usize,
    /// Longest wait for a server connection. PgBouncer's `query_wait_timeout`.
    pub max_wait: Duration,
    /// A server connection this old is replaced when it is next idle; up to a tenth earlier, so that they do not all go
    /// at once. PgBouncer's `server_lifetime`. Zero: never.
    pub server_lifetime: Duration,
    /// A server connection idle this long is closed, down to `min_idle`. PgBouncer's `server_idle_timeout`. Zero: never.
    pub server_idle_timeout: Duration,
    /// Most clients of this user on this database. PgBouncer's `max_user_client_connections`. None: no bound of its own.
    pub max_clients: Option<usize>,
}
