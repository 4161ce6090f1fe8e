//! Where the load goes: a DSN, read once.

use super::Identity;
use super::address::{Address, Named};
use super::dsn::Split;
use super::scram::SaltedKeys;
use super::tls::Encryption;
use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio_postgres::config::{ChannelBinding, Config, LoadBalanceHosts, TargetSessionAttrs};

/// A server or proxy under test. Cheap to clone; clones share the addresses and the salted keys of logins.
#[derive(Clone)]
pub struct Target {
    /// What reports call it.
    pub name: String,
    parts: Arc<Parts>,
}

/// What every session of a target needs.
pub(super) struct Parts {
    dsn: String,
    user: String,
    password: String,
    pub database: String,
    pub options: Option<String>,
    pub connect_timeout: Option<Duration>,
    pub encryption: Encryption,
    pub salted: SaltedKeys,
    hosts: Vec<Named>,
    addresses: OnceCell<Vec<Arc<Address>>>,
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
        address: IpAddr,
    },
    /// The certificates that `sslrootcert` names cannot be used.
    Certificates(String),
}

impl Target {
    /// Reads a `postgres://` URL or a `key=value` DSN. Nothing is taken from the environment.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(name: &str, dsn: &str) -> Result<Self, TargetError> {
        let split = Split::new(dsn);
        let config: Config = split.rest.parse().map_err(|error| TargetError::Dsn(told(&error)))?;
        refuse_unsupported(&config)?;
        let Some(user) = config.get_user().filter(|user| !user.is_empty()) else {
            return Err(TargetError::Dsn("the DSN names no user".to_owned()));
        };
        let encryption = Encryption::new(
            config.get_ssl_mode(),
            config.get_ssl_negotiation(),
            split.check,
            split.root_file.as_deref(),
        )?;
        let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec());
        let parts = Parts {
            dsn: dsn.to_owned(),
            user: user.to_owned(),
            password: password.map_err(|_| TargetError::Dsn("the DSN's password is not UTF-8".to_owned()))?,
            database: config.get_dbname().unwrap_or(user).to_owned(),
            options: config.get_options().map(str::to_owned),
            connect_timeout: config.get_connect_timeout().copied(),
            encryption,
            salted: SaltedKeys::default(),
            hosts: Named::all(&config)?,
            addresses: OnceCell::new(),
        };
        Ok(Self { name: name.to_owned(), parts: Arc::new(parts) })
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
        let addresses = self.parts.addresses(allow_remote).await?;
        if allow_remote { Ok(()) } else { refuse_remote(addresses) }
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

    pub(super) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }
}

impl Parts {
    /// Where to connect. What was looked up before is not checked again: whoever looked it up has.
    pub async fn addresses(&self, allow_remote: bool) -> Result<&[Arc<Address>], TargetError> {
        let lookup = || async {
            let mut addresses = Vec::new();
            for host in &self.hosts {
                addresses.extend(host.resolve().await?.into_iter().map(Arc::new));
            }
            if !allow_remote {
                refuse_remote(&addresses)?;
            }
            Ok(addresses)
        };
        self.addresses.get_or_try_init(lookup).await.map(Vec::as_slice)
    }
}

fn refuse_remote(addresses: &[Arc<Address>]) -> Result<(), TargetError> {
    let remote = addresses.iter().find_map(|address| Some((address, address.remote()?)));
    remote
        .map_or(Ok(()), |(address, ip)| Err(TargetError::Remote { host: address.host.clone(), address: ip }))
}

/// What a DSN may ask for, and would not get.
fn refuse_unsupported(config: &Config) -> Result<(), TargetError> {
    let unsupported = |word: &str| Err(TargetError::Dsn(format!("{word} is not supported here")));
    if config.get_target_session_attrs() != TargetSessionAttrs::Any {
        return unsupported("target_session_attrs");
    }
    if config.get_load_balance_hosts() != LoadBalanceHosts::Disable {
        return unsupported("load_balance_hosts");
    }
    if config.get_channel_binding() == ChannelBinding::Require {
        return unsupported("channel_binding=require");
    }
    Ok(())
}

/// With its cause: "invalid connection string" alone helps nobody.
fn told(error: &tokio_postgres::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("invalid DSN: {cause}"))
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("hosts", &self.hosts).finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_is_read() {
        let target = Target::parse("x", "postgres://u:p%40@127.0.0.1:1/d?options=-c%20a%3Db").unwrap();
        assert_eq!((target.user(), target.password(), target.database()), ("u", "p@", "d"));
        assert_eq!(target.parts.options.as_deref(), Some("-c a=b"));
        assert_eq!(Target::parse("x", "host=/tmp user=u").unwrap().database(), "u");
        assert!(!format!("{target:?}").contains("p@"));
        assert!(!format!("{:?}", target.identity("f")).contains("p@"));
    }

    #[test]
    fn a_mistake_is_told() {
        for (dsn, told) in [
            ("postgres://h/d", "no user"),
            ("user=u", "no host"),
            ("user=u host=h prot=1", "`prot`"),
            ("user=u host=h sslmode=verify-full", "sslrootcert"),
            ("user=u host=h sslmode=verify-full sslrootcert=/nowhere", "/nowhere"),
            ("user=u host=h target_session_attrs=read-write", "target_session_attrs"),
            ("user=u host=h channel_binding=require", "channel_binding"),
            ("postgres://u@h?sslnegotiation=direct", "sslmode=require"),
        ] {
            let error = Target::parse("x", dsn).unwrap_err().to_string();
            assert!(error.contains(told), "{dsn}: {error}");
        }
    }

    #[tokio::test]
    async fn other_machines_are_refused_unless_they_are_allowed() {
        let refused = |host: &str| format!("user=u host={host}");
        for host in ["192.0.2.1", "0.0.0.0", "127.0.0.1,192.0.2.1", "::ffff:192.0.2.1"] {
            let target = Target::parse("x", &refused(host)).unwrap();
            let error = target.resolve(false).await.unwrap_err();
            assert!(matches!(error, TargetError::Remote { .. }), "{host}: {error}");
            assert!(error.to_string().contains("--allow-remote"), "{error}");
            assert_eq!(target.resolve(true).await, Ok(()), "{host}");
            assert!(target.resolve(false).await.is_err(), "{host}: looked up before");
        }
        for host in ["127.0.0.1", "localhost", "::1", "/tmp", "127.0.0.1,/tmp"] {
            assert_eq!(Target::parse("x", &refused(host)).unwrap().resolve(false).await, Ok(()), "{host}");
        }
        let nowhere = Target::parse("x", &refused("nowhere.invalid")).unwrap();
        let error = nowhere.resolve(true).await.unwrap_err().to_string();
        assert!(error.contains("nowhere.invalid"), "{error}");
    }
}
