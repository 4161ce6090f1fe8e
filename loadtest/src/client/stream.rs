//! The bytes below the protocol: TCP, a Unix socket, TLS over TCP.

use super::Failure;
use super::address::{Address, Place};
use super::tls::Encryption;
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustix::io::Errno;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An open connection. TLS is boxed: it is two orders of magnitude larger than a socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a server says to an SSLRequest.
pub(super) enum Opened {
    /// All is well.
    Ready(Stream),
    /// It began an ErrorResponse instead, whose first byte has been read: it cannot even serve this.
    Refused(Stream),
}

impl Stream {
    /// Opens a socket. Dropped midway, it is closed.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match &address.place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Place::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Encrypts as far as it is wanted (PostgreSQL's manual, "SSL Session Encryption"). Dropped midway, it is closed.
    pub async fn secured(self, encryption: &Encryption, address: &Address) -> Result<Opened, Failure> {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            other => return Ok(Opened::Ready(other)),
        };
        let (connector, always) = match encryption {
            Encryption::Never => return Ok(Opened::Ready(Self::Tcp(tcp))),
            Encryption::Always { connector, direct: true } => {
                return encrypted(tcp, connector, address).await.map(Opened::Ready);
            }
            Encryption::Always { connector, direct: false } => (connector, true),
            Encryption::IfWilling(connector) => (connector, false),
        };
        let (tcp, answer) = ask(tcp).await?;
        match answer {
            b'S' => encrypted(tcp, connector, address).await.map(Opened::Ready),
            b'N' if always => Err(Failure::Connection("the server does not support TLS".to_owned())),
            b'N' => Ok(Opened::Ready(Self::Tcp(tcp))),
            b'E' => Ok(Opened::Refused(Self::Tcp(tcp))),
            other => Err(Failure::Protocol(format!("\"{}\" in answer to SSLRequest", other.escape_ascii()))),
        }
    }

    /// The next close resets the connection, where that is possible: Unix sockets have no such thing.
    pub fn reset_on_close(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.set_zero_linger(),
            Self::Tls(tls) => tls.get_ref().0.set_zero_linger(),
            Self::Unix(_) => Ok(()),
        }
    }
}

async fn ask(mut tcp: TcpStream) -> Result<(TcpStream, u8), Failure> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(|error| lost(&error))?;
    // Exactly one byte: whatever is behind it belongs to TLS, or else it is somebody's injection (CVE-2021-23222).
    let answer = tcp.read_u8().await.map_err(|error| lost(&error))?;
    Ok((tcp, answer))
}

/// The handshake's state is large, and short-lived.
async fn encrypted(tcp: TcpStream, connector: &TlsConnector, address: &Address) -> Result<Stream, Failure> {
    let name = address.server_name().ok_or_else(|| {
        Failure::Connection(format!("TLS needs a host name or an IP address, not \"{}\"", address.host))
    })?;
    let handshake = Box::pin(connector.connect(name, tcp)).await;
    let stream = handshake.map_err(|error| Failure::Connection(format!("TLS handshake failed: {error}")))?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// There is no socket. What the load generator itself lacks is no fault of the target's, and said to be its own.
pub(super) fn not_opened(error: &io::Error, address: &Address) -> Failure {
    let own = match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => "the load generator is out of files: ",
        // Also what a machine without IPv6 says to ::1.
        Some(Errno::ADDRNOTAVAIL) => "the load generator is out of ports, or has no address of this kind: ",
        _ => "",
    };
    Failure::Connection(format!("{own}cannot connect to {address}: {error}"))
}

/// The same text for the same loss, so that reports can count it.
pub(super) fn lost(error: &io::Error) -> Failure {
    Failure::Connection(match error.kind() {
        io::ErrorKind::UnexpectedEof => CLOSED.to_owned(),
        _ => format!("connection lost: {error}"),
    })
}

/// The server closed without a word.
pub(super) const CLOSED: &str = "the server closed the connection";

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => match ready!(Pin::new(stream).poll_read(cx, buffer)) {
                // Closed without close_notify, as PostgreSQL's own servers do when they die.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                result => Poll::Ready(result),
            },
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_generator_lacks_is_its_own_fault() {
        let place = Place::Tcp("127.0.0.1:5432".parse().unwrap());
        let address = Address { host: "localhost".to_owned(), place };
        let told = |errno: Errno| not_opened(&errno.into(), &address).to_string();
        for (errno, lacks) in
            [(Errno::MFILE, "files"), (Errno::NFILE, "files"), (Errno::ADDRNOTAVAIL, "ports")]
        {
            let told = told(errno);
            assert!(told.starts_with(&format!("the load generator is out of {lacks}")), "{told}");
        }
        assert!(told(Errno::CONNREFUSED).starts_with("cannot connect to 127.0.0.1:5432: "));
    }
}
