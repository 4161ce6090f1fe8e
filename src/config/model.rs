//! What a valid configuration amounts to: the parameters of each part, and nothing of the file's form.

use crate::admin::AdminParams;
use crate::client::ClientParams;
use crate::net::ListenAddress;
use crate::obs::logging::LogFilter;
use crate::pool::PoolParams;
use crate::server::UpstreamParams;
use crate::trace::TraceParams;

/// A whole, valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect. At least one.
    pub listen: Vec<ListenAddress>,
    /// Where metrics, health and the live page are served. None: nowhere.
    pub admin: Option<AdminParams>,
    /// I/O threads; each is one current-thread runtime. None: decided from the number of cores.
    pub threads: Option<usize>,
    /// What follows when PostgreSQL allows fewer connections than the pools may open.
    pub preflight: Preflight,
    /// What is logged, unless the command line says so.
    pub log: LogFilter,
    /// What is traced. None: nothing.
    pub traces: Option<TraceParams>,
    /// Size in bytes of each I/O thread's buffer, through which all messages pass. PgBouncer's `pkt_buf`.
    pub relay_buffer_bytes: usize,
    /// Limits and log-in of clients.
    pub clients: ClientParams,
    /// One entry per distinct upstream address, with the databases that lead to it.
    pub upstreams: Vec<UpstreamConfig>,
}

/// What follows when PostgreSQL allows fewer connections than the pools may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preflight {
    /// A warning in the log.
    Warn,
    /// The proxy does not start. (A server that cannot be asked is no reason: then it is a warning.)
    Refuse,
    /// Nobody asks.
    Off,
}

/// A PostgreSQL server and the databases that lead to it.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// The server.
    pub params: UpstreamParams,
    /// The databases on it.
    pub databases: Vec<DatabaseParams>,
}

/// A database that clients can name.
#[derive(Debug, Clone)]
pub struct DatabaseParams {
    /// Name that clients log in with.
    pub name: String,
    /// Most server connections over all its users. PgBouncer's `max_db_connections`.
    pub max_connections: usize,
    /// Most clients over all its users. PgBouncer's `max_db_client_connections`. None: no bound of its own.
    pub max_clients: Option<usize>,
    /// One pool for each user that may log in to it, sorted by user.
    pub pools: Vec<PoolParams>,
}
