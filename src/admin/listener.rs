//! A listener for axum that keeps the admin address from hurting the proxy: few connections, and none for long.
//!
//! axum's own loop bounds neither, and hyper's timeout for headers is off without a timer. Both bounds are on the
//! connection as a whole, so that it does not matter what a peer is slow at; a stream of events, which has no end, is cut
//! off once nothing of it has been taken for as long.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Bounds of the admin address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Most connections at once; further ones wait in the kernel's backlog.
    pub(super) connections: usize,
    /// Longest life of a connection, from accept.
    pub(super) deadline: Duration,
}

impl Default for Limits {
    /// Scrapers and health checks are a handful. hyper buffers up to 400 KiB of headers, so this is 13 MB at worst. Ten
    /// seconds is Prometheus' default for a whole scrape.
    fn default() -> Self {
        Self { connections: 32, deadline: Duration::from_secs(10) }
    }
}

/// A [`TcpListener`] within [`Limits`].
pub(super) struct Bounded {
    tcp: TcpListener,
    permits: Arc<Semaphore>,
    deadline: Duration,
}

impl Bounded {
    pub(super) fn new(tcp: TcpListener, limits: Limits) -> Self {
        Self { tcp, permits: Arc::new(Semaphore::new(limits.connections)), deadline: limits.deadline }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    /// Cancel-safe: a permit without a connection goes back, and accepting is cancel-safe in tokio.
    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; if it were, the connection would merely go uncounted.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        // axum's implementation logs what goes wrong (EMFILE) and sleeps for a second, so it does not spin.
        let (tcp, address) = Listener::accept(&mut self.tcp).await;
        let deadline = Box::pin(tokio::time::sleep(self.deadline));
        let (patience, streams) = (self.deadline, Streams::default());
        (Connection { tcp, deadline, patience, streams, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Whether a connection sends a stream of events.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<AtomicBool>);

impl Streams {
    /// From now on the connection lives for as long as its peer takes what is written.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Streams {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.io().streams.clone()
    }
}

/// A connection that fails with `TimedOut` after its deadline, whatever it was doing.
pub(super) struct Connection {
    tcp: TcpStream,
    deadline: Pin<Box<Sleep>>,
    patience: Duration,
    streams: Streams,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// The stream, if there is time left. Else the task is woken at the deadline, as it polls this first.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.tcp)),
        }
    }

    /// Something was taken: a stream may go on.
    fn wrote(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(1..))) && self.streams.0.load(Ordering::Relaxed) {
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        result
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.in_time(cx)?.poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.in_time(cx)?.poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_connection_too_many_waits_until_another_is_closed() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let limits = Limits { connections: 2, ..Limits::default() };
        let mut bounded = Bounded::new(tcp, limits);
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let (first, _) = bounded.accept().await;
        let (_second, _) = bounded.accept().await;
        assert_eq!(bounded.permits.available_permits(), 0);
        assert!(bounded.accept().now_or_never().is_none());
        drop(first);
        bounded.accept().await;
    }
}
