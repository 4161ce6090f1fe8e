//! `postgres://user:password@host:port/database?sslmode=…`, as in libpq (PostgreSQL manual, "Connection URIs").
//!
//! An error never quotes the URL: a password with an unescaped `/` or `:` may end up in any part of it. For the same
//! reason an `@` behind the host is refused and not taken for a part of the database's name.

use std::path::{Path, PathBuf};

use super::defaults;
use super::nearest::nearest;
use crate::net::UpstreamAddress;
use crate::secret::Secret;
use crate::server::{ServerTls, TlsVerify};

/// What a URL says.
#[derive(Debug, Clone)]
pub(super) struct UpstreamUrl {
    pub(super) address: UpstreamAddress,
    pub(super) tls: ServerTls,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<String>,
}

/// Parameters behind the `?`.
const PARAMETERS: [&str; 7] = ["host", "port", "user", "password", "dbname", "sslmode", "sslrootcert"];

const ESCAPE: &str = "(a / : @ ? or % in a user or password must be percent-encoded)";

/// Parts as they were written, decoded; empty ones count as absent.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    dbname: Option<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
}

impl UpstreamUrl {
    /// Reads a URL; a relative `sslrootcert` starts from `directory`.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence and without any part of the URL that may be secret.
    pub(super) fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        let parts = Parts::split(text)?;
        let address = parts.address()?;
        Ok(Self {
            tls: parts.tls(&address, directory)?,
            address,
            user: parts.user,
            password: parts.password.map(Secret::new),
            database: parts.dbname,
        })
    }
}

/// Reads the address of a server as `host:port`, `[::1]:5432`, `host`, or the path of its Unix socket, with or without
/// `unix:`: all the forms that the logs and metrics print.
pub(super) fn parse_address(text: &str) -> Result<UpstreamAddress, String> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(UpstreamAddress::Unix(path.into()));
    }
    let (host, port) = split_port(text)?;
    tcp(host, port)
}

/// Host and port; an IPv6 address has to be in brackets, or its last group might be meant as the port.
fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!("has more than one : in its host and port; an IPv6 address needs [ ] {ESCAPE}"));
    }
    Ok((host, port))
}

impl Parts {
    fn split(text: &str) -> Result<Self, String> {
        let rest = ["postgres://", "postgresql://"]
            .into_iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .ok_or("must begin with postgres:// or postgresql://")?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if tail.contains('@') {
            return Err(format!("has an @ behind the host {ESCAPE}"));
        }
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let mut parts = Self::default();
        parts.take_authority(authority)?;
        parts.take_path(path)?;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            parts.take_parameter(parameter)?;
        }
        Ok(parts)
    }

    fn take_authority(&mut self, authority: &str) -> Result<(), String> {
        let (login, host_and_port) = match authority.rsplit_once('@') {
            Some((login, host)) => (login, host),
            None => ("", authority),
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        self.user = decoded(user)?;
        self.password = decoded(password)?;
        if host_and_port.contains(',') {
            return Err("names several hosts; give each its own database".to_owned());
        }
        let (host, port) = split_port(host_and_port)?;
        self.host = decoded(host)?;
        self.port = decoded(port.unwrap_or_default())?;
        Ok(())
    }

    fn take_path(&mut self, path: &str) -> Result<(), String> {
        let name = path.strip_prefix('/').unwrap_or(path);
        if name.contains('/') {
            return Err(format!("has more than one / behind the host {ESCAPE}"));
        }
        self.dbname = decoded(name)?;
        Ok(())
    }

    fn take_parameter(&mut self, parameter: &str) -> Result<(), String> {
        let (name, value) = parameter.split_once('=').ok_or("has a parameter without a value")?;
        let name = decoded(name)?.unwrap_or_default();
        let slot = match name.as_str() {
            "host" => &mut self.host,
            "port" => &mut self.port,
            "user" => &mut self.user,
            "password" => &mut self.password,
            "dbname" => &mut self.dbname,
            "sslmode" => &mut self.sslmode,
            "sslrootcert" => &mut self.sslrootcert,
            _ => return Err(unknown_parameter(&name)),
        };
        let value = decoded(value)?;
        if slot.is_some() && value.is_some() {
            return Err(format!("gives the {name} twice"));
        }
        *slot = slot.take().or(value);
        Ok(())
    }

    fn address(&self) -> Result<UpstreamAddress, String> {
        let host =
            self.host.as_deref().ok_or("names no host (for a Unix socket add ?host=/its/directory)")?;
        let port = self.port.as_deref();
        if !host.starts_with('/') {
            return tcp(host, port);
        }
        let path = Path::new(host).join(format!(".s.PGSQL.{}", port_number(port)?));
        Ok(UpstreamAddress::Unix(path))
    }

    fn tls(&self, address: &UpstreamAddress, directory: &Path) -> Result<ServerTls, String> {
        let ca_file: Option<PathBuf> = self.sslrootcert.as_deref().map(|path| directory.join(path));
        let unix = matches!(address, UpstreamAddress::Unix(_));
        match (self.sslmode.as_deref(), ca_file) {
            (Some("require" | "verify-full"), _) if unix => {
                Err("has an sslmode that asks for TLS, which a Unix socket does not have".to_owned())
            }
            (None | Some("disable" | "prefer"), Some(_)) => {
                Err("has an sslrootcert that is not looked at: add sslmode=verify-full".to_owned())
            }
            (Some("require"), Some(_)) => {
                Err("has sslmode=require, which checks no certificate, and an sslrootcert: write verify-full, or \
                     leave it out"
                    .to_owned())
            }
            (Some("verify-full"), None) => {
                Err("has sslmode=verify-full but no sslrootcert=/path/to/ca.pem to check against".to_owned())
            }
            (Some("verify-full"), Some(ca_file)) => Ok(ServerTls::Require(TlsVerify::Full { ca_file })),
            (Some("require"), None) => Ok(ServerTls::Require(TlsVerify::Nothing)),
            (Some("disable"), None) => Ok(ServerTls::Disable),
            (None | Some("prefer"), None) => Ok(if unix { ServerTls::Disable } else { ServerTls::Prefer }),
            (Some(_), _) => Err("has an sslmode that is not one of disable, prefer, require, verify-full".to_owned()),
        }
    }
}

/// Unknown parameters are named only by the one that was meant: without a user and host in front of it, what looks like
/// a parameter may be the end of a password.
fn unknown_parameter(name: &str) -> String {
    match nearest(name, PARAMETERS.into_iter()) {
        Some(known) => format!("has an unknown parameter; did you mean `{known}`?"),
        None => format!("has an unknown parameter; known are {}", PARAMETERS.join(", ")),
    }
}

fn tcp(host: &str, port: Option<&str>) -> Result<UpstreamAddress, String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(address) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "has a bad IPv6 address in [ ]")?;
            address
        }
        None => host,
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "[]/@,".contains(c)) {
        return Err(format!("has a host that is not a name or an IP address {ESCAPE}"));
    }
    if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() {
        return Err("has a host that is not a name or an IP address".to_owned());
    }
    // Names differ in case only for the eye, and the address is what makes two databases share one server.
    Ok(UpstreamAddress::Tcp { host: host.to_ascii_lowercase(), port: port_number(port)? })
}

fn port_number(text: Option<&str>) -> Result<u16, String> {
    let Some(text) = text else { return Ok(defaults::UPSTREAM_PORT) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| format!("has a port that is not a number from 1 to 65535 {ESCAPE}"))
}

/// Undoes percent-encoding, strictly: a stray `%` is an error in libpq, too, and would be half of a password here.
fn decoded(text: &str) -> Result<Option<String>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        (rest, bytes) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => (after, with(bytes, hex_pair(*high, *low)?)),
            (b'%', _) => return Err(format!("has a % without two hex digits behind it {ESCAPE}")),
            _ => (after, with(bytes, byte)),
        };
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 once percent-decoded")?;
    if text.contains('\0') {
        return Err("contains %00".to_owned());
    }
    Ok((!text.is_empty()).then_some(text))
}

fn with(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    bytes.push(byte);
    bytes
}

fn hex_pair(high: u8, low: u8) -> Result<u8, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(high).zip(digit(low)).map(|(high, low)| high * 16 + low);
    value
        .and_then(|value| u8::try_from(value).ok())
        .ok_or_else(|| format!("has a % without two hex digits behind it {ESCAPE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<UpstreamUrl, String> {
        UpstreamUrl::parse(text, Path::new("/etc/pgcorral"))
    }

    /// A URL on one line: address, TLS, user, password, database.
    fn shown(text: &str) -> String {
        let url = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let tls = match url.tls {
            ServerTls::Disable => "disable".to_owned(),
            ServerTls::Prefer => "prefer".to_owned(),
            ServerTls::Require(TlsVerify::Nothing) => "require".to_owned(),
            ServerTls::Require(TlsVerify::Full { ca_file }) => format!("verify {}", ca_file.display()),
        };
        let password = url.password.as_ref().map_or("-", Secret::reveal);
        let (user, database) = (url.user.as_deref().unwrap_or("-"), url.database.as_deref().unwrap_or("-"));
        format!("{} {tls} {user} {password} {database}", url.address)
    }

    #[test]
    fn good_urls() {
        let cases = [
            ("postgres://h", "h:5432 prefer - - -"),
            ("postgresql://u:p@h:6000/d", "h:6000 prefer u p d"),
            ("postgres://u@H.Example/d", "h.example:5432 prefer u - d"),
            ("postgres://u:p%40%2F%3a@h/d%20b", "h:5432 prefer u p@/: d b"),
            ("postgres://u:p#a@ss@h/d", "h:5432 prefer u p#a@ss d"),
            ("postgres://u:a:b@h/d", "h:5432 prefer u a:b d"),
            ("postgres://[::1]:7/d", "[::1]:7 prefer - - d"),
            ("postgres://[::1]", "[::1]:5432 prefer - - -"),
            ("postgres://u@/d?host=/run/pg&port=5433", "unix:/run/pg/.s.PGSQL.5433 disable u - d"),
            ("postgres://%2Frun%2Fpg/d", "unix:/run/pg/.s.PGSQL.5432 disable - - d"),
            ("postgres:///?host=h&user=u&password=p%26&dbname=d", "h:5432 prefer u p& d"),
            ("postgres://h/d?sslmode=disable", "h:5432 disable - - d"),
            ("postgres://h/d?sslmode=require", "h:5432 require - - d"),
            (
                "postgres://h?sslmode=verify-full&sslrootcert=ca.pem",
                "h:5432 verify /etc/pgcorral/ca.pem - - -",
            ),
            ("postgres://h?sslmode=verify-full&sslrootcert=/ca.pem", "h:5432 verify /ca.pem - - -"),
        ];
        for (text, wanted) in cases {
            assert_eq!(shown(text), wanted, "{text}");
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let cases = [
            ("mysql://h/d", "must begin with postgres://"),
            ("h:5432/d", "must begin with postgres://"),
            ("postgres://", "names no host"),
            ("postgres://u:p@/d", "names no host"),
            ("postgres://a,b/d", "several hosts"),
            ("postgres://h:x/d", "a port that is not"),
            ("postgres://h:0/d", "a port that is not"),
            ("postgres://h:+5/d", "a port that is not"),
            ("postgres://h:65536/d", "a port that is not"),
            ("postgres://[::x]/d", "bad IPv6"),
            ("postgres://::1:5/d", "more than one :"),
            ("postgres://u:p%4@h/d", "% without two hex digits"),
            ("postgres://u:p%zz@h/d", "% without two hex digits"),
            ("postgres://u:p%ff@h/d", "not UTF-8"),
            ("postgres://u:p%00@h/d", "%00"),
            ("postgres://h/d/e", "more than one /"),
            ("postgres://h/d?host=i", "the host twice"),
            ("postgres://h/d?ssl_mode=require", "did you mean `sslmode`"),
            ("postgres://h/d?pool_timeout=3", "unknown parameter; known are"),
            ("postgres://h/d?sslmode", "without a value"),
            ("postgres://h/d?sslmode=verify-ca", "not one of disable, prefer, require, verify-full"),
            ("postgres://h/d?sslmode=verify-full", "no sslrootcert"),
            ("postgres://h/d?sslrootcert=/ca", "add sslmode=verify-full"),
            ("postgres://h/d?sslmode=require&sslrootcert=/ca", "checks no certificate"),
            ("postgres:///d?host=/run&sslmode=require", "a Unix socket does not have"),
        ];
        for (text, wanted) in cases {
            let error = parse(text).expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn an_unescaped_password_never_shows() {
        for password in
            ["s3c/ret", "s3c?ret", "s3c:ret", "s3c%ret", "12345/s3cret", "s3c/re?t=1", "s3c]/ret", "/s3cret"]
        {
            for text in [format!("postgres://u:{password}@h/d"), format!("postgres://{password}@h:1/d?x=1")] {
                let (said, address) = match parse(&text) {
                    Ok(url) => (format!("{url:?}"), url.address.to_string()),
                    Err(error) => (error, String::new()),
                };
                assert!(!address.contains("s3c") && !address.contains("12345"), "{text}: {address}");
                assert!(!said.contains("s3c") || text.starts_with("postgres://s3c:"), "{text}: {said}");
            }
        }
    }

    #[test]
    fn addresses() {
        let cases = [
            ("h:1", "h:1"),
            ("H", "h:5432"),
            ("[::1]:1", "[::1]:1"),
            ("[::1]", "[::1]:5432"),
            ("unix:/run/.s.PGSQL.1", "unix:/run/.s.PGSQL.1"),
            ("/run/.s.PGSQL.1", "unix:/run/.s.PGSQL.1"),
        ];
        for (text, wanted) in cases {
            assert_eq!(
                parse_address(text).map(|address| address.to_string()),
                Ok(wanted.to_owned()),
                "{text}"
            );
        }
        for text in ["", ":1", "h:", "a b:1", "a:b:1"] {
            assert!(parse_address(text).is_err(), "{text:?}");
        }
    }
}
