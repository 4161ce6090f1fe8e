//! Where to listen and where to connect.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest path of a Unix socket, in bytes (`sun_path` in `unix(7)`, less its final NUL).
const MAX_SOCKET_PATH: usize = 107;

/// An address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `127.0.0.1:6432`, `[::]:6432`.
    Tcp(SocketAddr),
    /// The path of the socket file itself, as `/run/pgcorral/.s.PGSQL.6432`.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    /// Reads `127.0.0.1:6432`, `[::]:6432`, or the absolute path of a Unix socket, with or without `unix:`.
    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if !path.starts_with('/') {
            return text.parse().map(Self::Tcp).map_err(|_| {
                format!("{text:?} is neither an IP address with a port, as 127.0.0.1:6432, nor the path of a socket")
            });
        }
        if path.len() > MAX_SOCKET_PATH || path.contains('\0') {
            return Err(format!(
                "{text:?} is not a path that a socket can have (at most {MAX_SOCKET_PATH} bytes)"
            ));
        }
        Ok(Self::Unix(path.into()))
    }
}

/// Where a PostgreSQL server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// A host name or address, resolved at each dial, and a port.
    Tcp {
        /// Name or IP address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The path of the socket file itself, as `/var/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_read_as_they_are_printed() {
        for text in ["127.0.0.1:6432", "[::]:0", "unix:/run/pgcorral/.s.PGSQL.6432"] {
            assert_eq!(text.parse::<ListenAddress>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("/run/x".parse(), Ok(ListenAddress::Unix("/run/x".into())));
        let long = format!("/{}", "x".repeat(MAX_SOCKET_PATH));
        for text in
            ["", "localhost:6432", "*:6432", "6432", "127.0.0.1", "unix:run/x", "127.0.0.1:65536", &long]
        {
            assert!(text.parse::<ListenAddress>().is_err(), "{text:?}");
        }
    }
}
