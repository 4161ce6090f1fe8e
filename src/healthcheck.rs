//! `pgcorral healthcheck`: asks a running proxy how it is. For container images, which have no other program to ask with.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time for the whole question. Who asks has a limit as well, often 5 s, and should hear the reason before that.
const DEADLINE: Duration = Duration::from_secs(3);

/// Most bytes of an answer that are read: there may be anybody at the address.
const MAX_ANSWER: u64 = 16 << 10;

/// Why a proxy is not healthy.
#[derive(Debug)]
pub enum Unhealthy {
    /// It cannot be asked.
    Unreachable(SocketAddr, io::Error),
    /// It has not answered in time.
    Silent(SocketAddr),
    /// It says so itself.
    Refused(String),
    /// What answers is no pgcorral.
    Foreign(SocketAddr),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(admin, error) => write!(f, "cannot ask {admin}: {error}"),
            Self::Silent(admin) => write!(f, "{admin} does not answer"),
            Self::Refused(reason) => f.write_str(reason),
            Self::Foreign(admin) => write!(f, "{admin} is not an admin address of pgcorral"),
        }
    }
}

impl std::error::Error for Unhealthy {}

/// Asks whether the proxy runs, or with `ready` whether it wants clients. What it answers, if it does.
///
/// # Errors
/// See [`Unhealthy`].
pub async fn ask(admin: SocketAddr, ready: bool) -> Result<String, Unhealthy> {
    ask_within(DEADLINE, reachable(admin), if ready { "/readyz" } else { "/healthz" }).await
}

/// Where a proxy that listens on all addresses of its machine is found on the same machine.
fn reachable(mut admin: SocketAddr) -> SocketAddr {
    match admin.ip() {
        IpAddr::V4(address) if address.is_unspecified() => admin.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(address) if address.is_unspecified() => admin.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    admin
}

async fn ask_within(deadline: Duration, admin: SocketAddr, path: &str) -> Result<String, Unhealthy> {
    let answer = match timeout(deadline, exchange(admin, path)).await {
        Ok(answer) => answer.map_err(|error| Unhealthy::Unreachable(admin, error))?,
        Err(_) => return Err(Unhealthy::Silent(admin)),
    };
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(Unhealthy::Foreign(admin))?;
    let body = body.trim_end().to_owned();
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(body),
        Some("503") => Err(Unhealthy::Refused(body)),
        _ => Err(Unhealthy::Foreign(admin)),
    }
}

/// One request, and all that comes until the other side closes.
async fn exchange(admin: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Somebody who gives this answer to one request, or none at all and stays.
    async fn answering(answer: Option<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /readyz HTTP/1.1\r\nHost: "));
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        address
    }

    async fn asked(answer: Option<&'static str>) -> Result<String, String> {
        let admin = answering(answer).await;
        let patience = if answer.is_some() { DEADLINE } else { Duration::from_millis(50) };
        let said = ask_within(patience, admin, "/readyz").await;
        said.map_err(|unhealthy| unhealthy.to_string().replace(&admin.to_string(), "ADMIN"))
    }

    #[tokio::test]
    async fn answers() {
        let is_foreign = Err("ADMIN is not an admin address of pgcorral".to_owned());
        for (answer, wanted) in [
            (Some("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nready\n"), Ok("ready".to_owned())),
            (
                Some("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready: draining\n"),
                Err("not ready: draining".to_owned()),
            ),
            (Some("HTTP/1.1 404 Not Found\r\n\r\n"), is_foreign.clone()),
            (Some("SSH-2.0-OpenSSH_9.2\r\n"), is_foreign.clone()),
            (Some("\r\n\r\n"), is_foreign),
            (None, Err("ADMIN does not answer".to_owned())),
        ] {
            assert_eq!(asked(answer).await, wanted, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = listener.local_addr().unwrap();
        drop(listener);
        let said = ask(admin, false).await.unwrap_err().to_string();
        assert!(said.starts_with(&format!("cannot ask {admin}: ")), "{said}");
    }

    #[test]
    fn all_addresses_are_asked_on_loopback() {
        for (admin, asked) in [
            ("0.0.0.0:9432", "127.0.0.1:9432"),
            ("[::]:9432", "[::1]:9432"),
            ("192.0.2.7:9432", "192.0.2.7:9432"),
        ] {
            assert_eq!(reachable(admin.parse().unwrap()).to_string(), asked);
        }
    }
}
