//! From the hosts that a DSN names to addresses that can be connected to.

use super::TargetError;
use rustls::pki_types::ServerName;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tokio_postgres::config::{Config, Host};

/// PostgreSQL's own.
const DEFAULT_PORT: u16 = 5432;

/// One address, and the host of the DSN that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// As the DSN names it; what its certificate is checked for.
    pub host: String,
    /// Where it is.
    pub place: Place,
}

/// What a socket connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The socket's file.
    Unix(PathBuf),
}

/// A host of a DSN, not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// Nothing is left to look up.
    Known(Address),
    /// A name and a port.
    Name(String, u16),
}

impl Address {
    /// What TLS calls the server; `None` if a certificate cannot be for such a name.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }

    /// Its IP address, where that is another machine's.
    pub fn remote(&self) -> Option<IpAddr> {
        match &self.place {
            Place::Tcp(address) => Some(address.ip()).filter(|ip| !ip.to_canonical().is_loopback()),
            Place::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(address) => address.fmt(f),
            Place::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Named {
    /// The hosts of a DSN, in its order. With `hostaddr` nothing is looked up; `host` is then the name for TLS.
    pub fn all(config: &Config) -> Result<Vec<Self>, TargetError> {
        let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let count = hosts.len().max(addresses.len());
        let fits = |length: usize| length == 0 || length == count;
        if count == 0 {
            return Err(TargetError::Dsn("the DSN names no host".to_owned()));
        }
        if !fits(hosts.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
            return Err(TargetError::Dsn("the DSN has not as many ports as hosts".to_owned()));
        }
        let named = (0..count).map(|at| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
            Self::one(hosts.get(at), addresses.get(at).copied(), port)
        });
        Ok(named.collect())
    }

    fn one(host: Option<&Host>, address: Option<IpAddr>, port: u16) -> Self {
        let known = |host: String, place| Self::Known(Address { host, place });
        let tcp = |ip: IpAddr| Place::Tcp(SocketAddr::new(ip, port));
        match (host, address) {
            (Some(Host::Unix(directory)), _) => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                known(directory.display().to_string(), Place::Unix(path))
            }
            (Some(Host::Tcp(name)), Some(ip)) => known(name.clone(), tcp(ip)),
            (Some(Host::Tcp(name)), None) => match name.parse() {
                Ok(ip) => known(name.clone(), tcp(ip)),
                Err(_) => Self::Name(name.clone(), port),
            },
            (None, Some(ip)) => known(ip.to_string(), tcp(ip)),
            // There are as many pairs as the longer list has entries.
            (None, None) => Self::Name(String::new(), port),
        }
    }

    /// Its addresses, in the resolver's order.
    pub async fn resolve(&self) -> Result<Vec<Address>, TargetError> {
        let (host, port) = match self {
            Self::Known(address) => return Ok(vec![address.clone()]),
            Self::Name(host, port) => (host, *port),
        };
        let unresolved = |why: String| TargetError::Unresolved { host: host.clone(), why };
        let found = tokio::net::lookup_host((host.as_str(), port)).await;
        let found = found.map_err(|error| unresolved(error.to_string()))?;
        let addresses: Vec<_> =
            found.map(|address| Address { host: host.clone(), place: Place::Tcp(address) }).collect();
        if addresses.is_empty() { Err(unresolved("no address".to_owned())) } else { Ok(addresses) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(dsn: &str) -> Vec<String> {
        let config: Config = dsn.parse().unwrap();
        let show = |named: Named| match named {
            Named::Known(address) => format!("{} {address}", address.host),
            Named::Name(host, port) => format!("{host} {port}?"),
        };
        Named::all(&config).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn hosts_ports_and_addresses_belong_together() {
        assert_eq!(
            shown("postgres://a:1,127.0.0.1,[::1]:3/d"),
            ["a 1?", "127.0.0.1 127.0.0.1:5432", "::1 [::1]:3"]
        );
        assert_eq!(shown("host=/run/x port=7"), ["/run/x /run/x/.s.PGSQL.7"]);
        assert_eq!(shown("host=a,b hostaddr=127.0.0.1,127.0.0.2 port=9"), ["a 127.0.0.1:9", "b 127.0.0.2:9"]);
        assert_eq!(shown("hostaddr=127.0.0.1"), ["127.0.0.1 127.0.0.1:5432"]);
        for dsn in ["user=x", "host=a,b,c port=1,2", "host=a,b hostaddr=127.0.0.1"] {
            assert!(Named::all(&dsn.parse().unwrap()).is_err(), "{dsn}");
        }
    }

    #[test]
    fn loopback_is_what_cannot_leave_the_machine() {
        for (ip, remote) in [
            ("127.9.9.9", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("10.0.0.1", true),
        ] {
            let place = Place::Tcp(SocketAddr::new(ip.parse().unwrap(), 1));
            assert_eq!(Address { host: String::new(), place }.remote().is_some(), remote, "{ip}");
        }
    }
}
