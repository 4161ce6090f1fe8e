//! What the configuration says about clients: who may log in and how, and how many.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

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
    /// How long a drain waits for transactions to finish.
    pub drain_timeout: Duration,
    /// Who may log in.
    pub users: Vec<UserParams>,
}

/// How clients prove who they are. PgBouncer's `auth_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Whoever says so is believed, if the user is known.
    Trust,
    /// Clear text password.
    Password,
    /// MD5 challenge. Needs the plain password or its md5 hash.
    Md5,
    /// SCRAM-SHA-256 (RFC 5802, RFC 7677). Needs the plain password or a verifier.
    ScramSha256,
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

/// Whether clients may or must encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// SSLRequest is answered `N`.
    Disable,
    /// Clients choose.
    Prefer,
    /// Plain-text logins over TCP are refused (28000); Unix sockets are let in.
    Require,
}

/// One user of the proxy.
#[derive(Debug, Clone)]
pub struct UserParams {
    /// Role name as clients send it.
    pub name: String,
    /// What their proof is checked against. None: only `trust` lets them in.
    pub secret: Option<UserSecret>,
    /// Most clients of this user over all databases. None: no bound of its own.
    pub max_clients: Option<usize>,
}

/// What a client's proof is checked against.
#[derive(Debug, Clone)]
pub enum UserSecret {
    /// The password itself.
    Password(Secret),
    /// `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, as in `pg_authid.rolpassword`.
    ScramVerifier(Secret),
    /// `md5` and 32 hex digits, as in `pg_authid.rolpassword`.
    Md5Hash(Secret),
}
