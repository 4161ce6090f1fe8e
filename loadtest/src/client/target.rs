//! Where the load goes: a DSN, read once.

use super::Identity;
use std::fmt;
use std::sync::Arc;

/// A server or proxy under test. Cheap to clone; clones share the addresses and the salted keys of logins.
#[derive(Clone)]
pub struct Target {
    /// What reports call it.
    pub name: String,
    parts: Arc<Parts>,
}

struct Parts {
    dsn: String,
    user: String,
    password: String,
    database: String,
}

/// What is wrong with a DSN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetError {
    /// It cannot be read, or asks for something that this client does not do.
    Dsn(String),
    /// A host that does not resolve.
    Unresolved {
        /// As the DSN names it.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// A host that is not this machine, and `--allow-remote` was not given.
    Remote {
        /// As the DSN names it.
        host: String,
        /// What it resolves to.
        address: std::net::IpAddr,
    },
    /// The certificates that `sslrootcert` names cannot be used.
    Certificates(String),
}

impl Target {
    /// Reads a `postgres://` URL or a `key=value` DSN.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(name: &str, dsn: &str) -> Result<Self, TargetError> {
        let _ = (name, dsn);
        todo!()
    }

    /// Looks the hosts up, once: later connects go to these addresses. Without `allow_remote` every one of them has to
    /// be a loopback address or a Unix socket. A [`Session::connect`](super::Session::connect) before this resolves
    /// without `allow_remote`.
    ///
    /// # Errors
    /// See [`TargetError`].
    ///
    /// Cancel safety: dropped midway, nothing is resolved.
    pub async fn resolve(&self, allow_remote: bool) -> Result<(), TargetError> {
        let _ = allow_remote;
        todo!()
    }

    /// As it was given, with its password.
    #[must_use]
    pub fn dsn(&self) -> &str {
        &self.parts.dsn
    }

    /// The role.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.parts.user
    }

    /// Its password; empty if the DSN has none.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.parts.password
    }

    /// The database; the role's name if the DSN has none.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.parts.database
    }

    /// The DSN's own role, as a function of that name.
    #[must_use]
    pub fn identity(&self, application_name: &str) -> Identity {
        Identity {
            user: self.user().to_owned(),
            password: self.password().to_owned(),
            application_name: application_name.to_owned(),
            options: None,
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dsn(why) => f.write_str(why),
            Self::Unresolved { host, why } => write!(f, "host \"{host}\" does not resolve: {why}"),
            Self::Remote { host, address } => write!(
                f,
                "host \"{host}\" ({address}) is not this machine; --allow-remote permits load on other machines"
            ),
            Self::Certificates(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for TargetError {}
