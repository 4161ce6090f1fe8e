//! What the configuration says about one PostgreSQL server.

use std::time::Duration;

use crate::net::UpstreamAddress;
use crate::secret::Secret;

/// One PostgreSQL server, shared by all pools whose URL names the same address.
#[derive(Debug, Clone)]
pub struct UpstreamParams {
    /// Where it listens.
    pub address: UpstreamAddress,
    /// Whether and how its connections are encrypted.
    pub tls: ServerTls,
    /// Most server connections over all pools of this upstream.
    pub max_connections: usize,
    /// Those of them that only pools of reserved users may use.
    pub reserved_connections: usize,
    /// Most dials (connect and login) under way at once.
    pub max_dials: usize,
    /// Most dials in a second, beyond `dial_burst`.
    pub dial_rate: u32,
    /// Dials that may start without regard to the rate after a time without any.
    pub dial_burst: u32,
    /// Longest time for connect, TLS and login together.
    pub connect_timeout: Duration,
    /// Longest time to wait for a cancel request to be taken.
    pub cancel_timeout: Duration,
}

/// TLS towards PostgreSQL; names as in libpq's `sslmode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerTls {
    /// Never.
    Disable,
    /// If the server offers it; its certificate is not checked.
    Prefer,
    /// Always; what of its certificate is checked is said by [`TlsVerify`].
    Require(TlsVerify),
}

/// How the server's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsVerify {
    /// Not at all (`sslmode=require`).
    Nothing,
    /// Chain and host name (`sslmode=verify-full`), against the certificates in this PEM file.
    Full {
        /// PEM file of the authorities trusted.
        ca_file: std::path::PathBuf,
    },
}

/// As whom the proxy logs in to PostgreSQL.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Role name.
    pub user: String,
    /// Absent for `trust` and for Unix-socket `peer`.
    pub password: Option<Secret>,
}
