//! `DATABASE_URL` as a function of each runtime has to be given it: their drivers read URLs differently.

use crate::plan::Runtime;
use crate::postgres::percent_encode;
use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;
use std::str::FromStr;
use tokio_postgres::config::{Config, Host};

/// Where functions connect to, read from a DSN.
#[derive(Clone)]
pub struct Database {
    /// A name, an address, or the directory of a Unix socket.
    host: String,
    port: u16,
    user: String,
    password: String,
    name: String,
    tls: Tls,
    options: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Tls {
    Disable,
    Prefer,
    Require,
    VerifyFull { roots: Option<String> },
}

/// What is wrong with a DSN for functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseError {
    /// It cannot be read; why.
    Unreadable(String),
    /// node-postgres and lib/pq take one host, so functions do.
    NotOneHost,
    /// A `hostaddr` beside a host: drivers know none and would look up the host, which nobody has checked.
    HostAddress,
    /// An `sslmode` that not all of the drivers know.
    SslMode(String),
}

impl Database {
    /// Reads a `postgres://` URL or a `key=value` DSN.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn parse(dsn: &str) -> Result<Self, DatabaseError> {
        let mut settings = TlsSettings::default();
        let rest = if dsn.starts_with("postgres://") || dsn.starts_with("postgresql://") {
            settings.take_from_url(dsn)
        } else {
            settings.take_from_pairs(dsn)?
        };
        let unreadable = |error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            DatabaseError::Unreadable(format!("{error}{}", cause.unwrap_or_default()))
        };
        let config = Config::from_str(&rest).map_err(unreadable)?;
        let host = match (config.get_hosts(), config.get_hostaddrs()) {
            ([Host::Tcp(name)], []) => name.clone(),
            ([Host::Unix(directory)], []) => directory.to_string_lossy().into_owned(),
            ([], [address]) => address.to_string(),
            ([_], _) => return Err(DatabaseError::HostAddress),
            _ => return Err(DatabaseError::NotOneHost),
        };
        let user = config.get_user().unwrap_or("postgres").to_owned();
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            password: String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned(),
            name: config.get_dbname().unwrap_or(&user).to_owned(),
            user,
            tls: settings.tls()?,
            options: config.get_options().map(str::to_owned),
        })
    }

    /// The same, as another role.
    #[must_use]
    pub fn with_role(mut self, user: &str, password: &str) -> Self {
        user.clone_into(&mut self.user);
        password.clone_into(&mut self.password);
        self
    }

    /// The same with startup options (`-c name=value`) behind its own, as tasks send them: of a name that is set twice
    /// the last value counts.
    #[must_use]
    pub fn with_options(mut self, options: Option<&str>) -> Self {
        self.options = match (self.options, options) {
            (Some(own), Some(more)) => Some(format!("{own} {more}")),
            (own, more) => own.or_else(|| more.map(str::to_owned)),
        };
        self
    }

    /// The URL for a driver. `sslmode=prefer` is libpq's alone: Node.js and Go connect without TLS then.
    #[must_use]
    pub fn url(&self, runtime: Runtime) -> String {
        let Self { user, password, name, host, port, .. } = self;
        let mut query = self.tls_query(runtime);
        // A socket's directory has no place in an URL's authority, and node-postgres keeps an IPv6 address' brackets.
        let authority = if host.starts_with('/') || host.parse::<Ipv6Addr>().is_ok() {
            query.push(("host", host.clone()));
            query.push(("port", port.to_string()));
            String::new()
        } else {
            format!("{host}:{port}")
        };
        if let Some(options) = &self.options {
            query.push(("options", options.clone()));
        }
        let [user, password, name] = [user, password, name].map(|text| percent_encode(text));
        let mut url = format!("postgres://{user}:{password}@{authority}/{name}");
        for (index, (key, value)) in query.iter().enumerate() {
            let sign = if index == 0 { '?' } else { '&' };
            let _ = write!(url, "{sign}{key}={}", percent_encode(value));
        }
        url
    }

    fn tls_query(&self, runtime: Runtime) -> Vec<(&'static str, String)> {
        let mode = match &self.tls {
            Tls::Prefer if runtime == Runtime::Python => "prefer",
            Tls::Disable | Tls::Prefer => "disable",
            Tls::Require => "require",
            Tls::VerifyFull { .. } => "verify-full",
        };
        let mut query = vec![("sslmode", mode.to_owned())];
        if self.tls == Tls::Require && runtime == Runtime::Node {
            // Otherwise node-postgres verifies the certificate, which libpq's `require` does not mean.
            query.push(("uselibpqcompat", "true".to_owned()));
        }
        if let Tls::VerifyFull { roots: Some(file) } = &self.tls {
            query.push(("sslrootcert", file.clone()));
        }
        query
    }
}

/// What of a DSN `tokio_postgres` does not read.
#[derive(Default)]
struct TlsSettings {
    mode: Option<String>,
    roots: Option<String>,
}

impl TlsSettings {
    /// Whether it was one of ours.
    fn took(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.roots = Some(value.to_owned()),
            _ => return false,
        }
        true
    }

    fn take_from_url(&mut self, url: &str) -> String {
        let Some((base, query)) = url.split_once('?') else { return url.to_owned() };
        let kept: Vec<_> = query
            .split('&')
            .filter(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                !self.took(key, &percent_decode(value))
            })
            .collect();
        format!("{base}?{}", kept.join("&"))
    }

    fn take_from_pairs(&mut self, dsn: &str) -> Result<String, DatabaseError> {
        let pairs = pairs(dsn).ok_or_else(|| DatabaseError::Unreadable("not key=value pairs".to_owned()))?;
        let kept = pairs.into_iter().filter(|(key, value)| !self.took(key, value));
        Ok(kept.fold(String::new(), |mut text, (key, value)| {
            let _ = write!(text, "{key}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'"));
            text
        }))
    }

    fn tls(self) -> Result<Tls, DatabaseError> {
        match self.mode.as_deref() {
            Some("disable") => Ok(Tls::Disable),
            None | Some("prefer") => Ok(Tls::Prefer),
            Some("require") => Ok(Tls::Require),
            Some("verify-full") => Ok(Tls::VerifyFull { roots: self.roots }),
            Some(other) => Err(DatabaseError::SslMode(other.to_owned())),
        }
    }
}

/// libpq's `key = 'value'` pairs: quotes hold spaces together, a backslash takes the next character as it is.
fn pairs(dsn: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = dsn.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let quoted = after.starts_with('\'');
        let mut characters = after.char_indices().skip(usize::from(quoted));
        let mut value = String::new();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => value.push(characters.next()?.1),
                Some((at, '\'')) if quoted => break at + 1,
                Some((at, character)) if !quoted && character.is_whitespace() => break at,
                Some((_, character)) => value.push(character),
                None if quoted => return None,
                None => break after.len(),
            }
        };
        found.push((key.trim().to_owned(), value));
        rest = after.get(end..)?.trim_start();
    }
    Some(found)
}

/// What is not a percent sign with two hexadecimal digits stays as it is.
fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                decoded.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "the DSN cannot be read: {why}"),
            Self::NotOneHost => f.write_str("functions that are processes need a DSN with one host"),
            Self::HostAddress => f.write_str(
                "functions that are processes need a DSN with a host or a hostaddr: their drivers know no hostaddr beside \
                 a host",
            ),
            Self::SslMode(mode) => write!(
                f,
                "sslmode {mode:?}: functions that are processes know disable, prefer, require and verify-full"
            ),
        }
    }
}

impl std::error::Error for DatabaseError {}

impl fmt::Debug for Database {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, name, .. } = self;
        write!(f, "Database({user}@{host}:{port}/{name})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(dsn: &str, runtime: Runtime) -> String {
        Database::parse(dsn).map_or_else(|error| error.to_string(), |database| database.url(runtime))
    }

    #[test]
    fn each_driver_is_told_of_tls_in_its_own_way() {
        let plain = "postgres://app:p%40ss@127.0.0.1:6432/shop";
        assert_eq!(url(plain, Runtime::Python), format!("{plain}?sslmode=prefer"));
        assert_eq!(url(plain, Runtime::Node), format!("{plain}?sslmode=disable"));
        let required = format!("{plain}?sslmode=require");
        assert_eq!(url(&required, Runtime::Go), required);
        assert_eq!(url(&required, Runtime::Node), format!("{required}&uselibpqcompat=true"));
        let verified = format!("{plain}?sslmode=verify-full&sslrootcert=%2Fa%20b.pem");
        for runtime in [Runtime::Python, Runtime::Node, Runtime::Go] {
            assert_eq!(url(&verified, runtime), verified);
        }
    }

    #[test]
    fn pairs_sockets_and_ipv6_become_urls() {
        let socket = r"host=/run/pg port=5433 user=app password='it\'s a' dbname=shop sslmode=disable";
        assert_eq!(
            url(socket, Runtime::Node),
            "postgres://app:it%27s%20a@/shop?sslmode=disable&host=%2Frun%2Fpg&port=5433"
        );
        let six = "postgres://app@[::1]/shop?sslmode=disable";
        assert_eq!(url(six, Runtime::Go), "postgres://app:@/shop?sslmode=disable&host=%3A%3A1&port=5432");
    }

    #[test]
    fn the_role_can_be_the_functions_own() {
        let database = Database::parse("host=db user=app sslmode=disable");
        let url = database.map(|database| database.with_role("report", "x").url(Runtime::Python));
        assert_eq!(url.as_deref(), Ok("postgres://report:x@db:5432/app?sslmode=disable"));
    }

    #[test]
    fn the_functions_options_come_behind_those_of_the_dsn() {
        for (own, more, both) in [
            ("options='-c a=b'", Some("-c c=d"), Some("-c a=b -c c=d")),
            ("options='-c a=b'", None, Some("-c a=b")),
            ("", Some("-c c=d"), Some("-c c=d")),
            ("", None, None),
        ] {
            let database = Database::parse(&format!("host=db user=app {own}")).unwrap();
            assert_eq!(database.with_options(more).options.as_deref(), both);
        }
    }

    /// What was checked to be this machine has to be what drivers connect to.
    #[test]
    fn a_checked_address_cannot_hide_another_host() {
        for dsn in [
            "host=db.prod hostaddr=127.0.0.1 user=app",
            "postgres://app@db.prod/shop?hostaddr=127.0.0.1",
            "host=/run/pg hostaddr=127.0.0.1 user=app",
        ] {
            assert_eq!(Database::parse(dsn).unwrap_err(), DatabaseError::HostAddress, "{dsn}");
        }
        assert!(url("hostaddr=127.0.0.1 user=app", Runtime::Go).contains("@127.0.0.1:5432/"));
    }

    #[test]
    fn what_the_drivers_cannot_do_is_told() {
        assert!(url("postgres://app@one,two/shop", Runtime::Go).contains("one host"));
        assert!(url("postgres://app@one/shop?sslmode=allow", Runtime::Go).contains("\"allow\""));
        assert!(url("no dsn", Runtime::Go).contains("cannot be read"));
        assert!(url("host='open", Runtime::Go).contains("cannot be read"));
    }
}
