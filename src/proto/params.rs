//! What the configuration says about who may log in, and how.

use crate::secret::Secret;

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
