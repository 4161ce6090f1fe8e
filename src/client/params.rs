//! What the configuration says about clients: who may log in and how, and how many.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits::RateLimit;
use crate::proto::function::FunctionRules;
use crate::proto::{AuthMethod, ClientTlsMode, UserParams};

/// Limits and log-in of clients.
#[derive(Debug, Clone)]
pub struct ClientParams {
    /// How clients prove who they are.
    pub auth: AuthMethod,
    /// Encryption of client connections.
    pub tls: ClientTls,
    /// Most clients logged in or logging in. PgBouncer's `max_client_conn`.
    pub max_clients: usize,
    /// Most logins under way at once; further ones wait their turn.
    pub max_handshakes: usize,
    /// Longest time from accept to `ReadyForQuery`. PgBouncer's `client_login_timeout`.
    pub login_timeout: Duration,
    /// Pending connections the kernel keeps for us (`listen(2)`). PgBouncer's `listen_backlog`.
    pub listen_backlog: u32,
    /// A client that has had nothing to do for so long gives way to a login while `max_clients` others are connected. Zero:
    /// never.
    pub evict_idle: Duration,
    /// How long a drain waits for transactions to finish.
    pub drain_timeout: Duration,
    /// Most bytes of replies kept for one client that does not read, so that its server connection is free.
    pub client_spool: usize,
    /// Most bytes of replies kept for all clients together.
    pub max_spool: usize,
    /// Most prepared statements known to the proxy, each once whatever the number of clients.
    pub statement_cache_entries: usize,
    /// Most bytes of their texts.
    pub statement_cache_bytes: usize,
    /// How functions are told apart.
    pub functions: FunctionRules,
    /// How many logins and transactions there may be in a time.
    pub rate_limits: Vec<RateLimit>,
    /// Who may log in.
    pub users: Vec<UserParams>,
}

/// Encryption of client connections. PgBouncer's `client_tls_sslmode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Whether clients may or must encrypt.
    pub mode: ClientTlsMode,
    /// PEM chain and key. None only with [`ClientTlsMode::Disable`].
    pub identity: Option<TlsIdentity>,
}

/// PEM files of a certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// Certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}
