//! Socket options and listeners.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{ListenAddress, Stream};

/// A silent peer is probed after this long; so a function instance that was killed without a FIN is noticed in half a
/// minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Probes without an answer that end the connection.
const KEEPALIVE_PROBES: u32 = 3;
/// Written bytes that are not acknowledged for this long end a client's connection (`TCP_USER_TIMEOUT`, RFC 5482). Not a
/// server's: it counts a full window too, and a server that waits for a lock does not read.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// A socket that clients connect to.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix-domain socket.
    Unix(UnixListener),
}

impl Listener {
    /// Binds and listens.
    ///
    /// # Errors
    /// The address is in use or not ours. A Unix socket file that nobody listens on any more is replaced.
    pub fn bind(address: &ListenAddress, backlog: u32) -> io::Result<Self> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        match address {
            ListenAddress::Tcp(address) => {
                let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.set_nonblocking(true)?;
                // Linux hands these on to the sockets it accepts: six system calls less for each login.
                tune(&socket)?;
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
                socket.bind(&(*address).into())?;
                socket.listen(backlog)?;
                Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
            }
            ListenAddress::Unix(path) => {
                remove_stale(path)?;
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                socket.bind(&socket2::SockAddr::unix(path)?)?;
                // As PostgreSQL's unix_socket_permissions: who may log in is decided by the login.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
                socket.listen(backlog)?;
                Ok(Self::Unix(UnixListener::from_std(socket.into())?))
            }
        }
    }

    /// The address that was bound; a port of 0 has become a real one.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => Ok(ListenAddress::Tcp(listener.local_addr()?)),
            Self::Unix(listener) => {
                let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
                path.map(ListenAddress::Unix).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
            }
        }
    }

    /// The next connection, registered with the calling thread's runtime. Cancel safe.
    ///
    /// # Errors
    /// What `accept(2)` says; only EMFILE and its like last, and they need a pause before the next call.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// A connection on its way from one thread's runtime to another's.
#[derive(Debug)]
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// Unix-domain socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Detached {
    /// Takes a plain connection from its runtime.
    ///
    /// # Errors
    /// It is encrypted, or the kernel does not let go of it.
    pub fn from_stream(stream: Stream) -> io::Result<Self> {
        match stream {
            Stream::Tcp(stream) => Ok(Self::Tcp(stream.into_std()?)),
            Stream::Unix(stream) => Ok(Self::Unix(stream.into_std()?)),
            Stream::Tls(_) | Stream::Closed => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Registers it with the runtime of the calling thread.
    ///
    /// # Errors
    /// The kernel has no room to watch it.
    pub fn into_stream(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => Ok(Stream::Tcp(TcpStream::from_std(stream)?)),
            Self::Unix(stream) => Ok(Stream::Unix(UnixStream::from_std(stream)?)),
        }
    }
}

/// No Nagle, and a dead peer is noticed.
///
/// # Errors
/// The connection is already broken.
pub fn tune<'a, S>(stream: &'a S) -> io::Result<()>
where
    SockRef<'a>: From<&'a S>,
{
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is in the way"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// No test waits for the kernel to give up a silent peer; that it would is all in these options.
    #[tokio::test]
    async fn accepted_sockets_notice_a_dead_peer() {
        let address = ListenAddress::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = Listener::bind(&address, 1).expect("a free port");
        let Ok(ListenAddress::Tcp(bound)) = listener.address() else { panic!("an address") };
        let near = TcpStream::connect(bound).await.expect("it listens");
        tune(&near).expect("a sound connection");
        let Ok(Stream::Tcp(accepted)) = listener.accept().await else { panic!("a connection over TCP") };
        for stream in [&near, &accepted] {
            let socket = SockRef::from(stream);
            assert!(socket.keepalive().expect("an option") && socket.tcp_nodelay().expect("an option"));
            assert_eq!(socket.tcp_keepalive_time().ok(), Some(KEEPALIVE_IDLE));
            assert_eq!(socket.tcp_keepalive_interval().ok(), Some(KEEPALIVE_INTERVAL));
            assert_eq!(socket.tcp_keepalive_retries().ok(), Some(KEEPALIVE_PROBES));
        }
        // Only towards clients: a server that waits for a lock does not read.
        assert_eq!(SockRef::from(&accepted).tcp_user_timeout().ok(), Some(Some(USER_TIMEOUT)));
        assert_eq!(SockRef::from(&near).tcp_user_timeout().ok(), Some(None));
    }
}
