//! The page that Prometheus reads: `GET /metrics`, on connections that are few and short.
//!
//! axum bounds neither their number nor their life, and whoever can reach the address must not be able to keep the
//! probe from probing.

use super::metrics::Metrics;
use axum::Router;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Sleep;

/// Scrapers are a handful; further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 8;

/// Prometheus' default for a whole scrape.
const LONGEST_CONNECTION: Duration = Duration::from_secs(10);

/// The page, until it is dropped.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    task: AbortHandle,
}

impl Page {
    /// Serves `metrics` at `address`; port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        let listener = Bounded { tcp, permits: Arc::new(Semaphore::new(CONNECTIONS)) };
        let router = Router::new().route("/metrics", get(async move || answer(&metrics)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self { address, task })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(metrics: &Metrics) -> Response {
    match metrics.render(Instant::now()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

struct Bounded {
    tcp: TcpListener,
    permits: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    /// Cancel-safe: a permit without a connection goes back, and accepting is cancel-safe in tokio.
    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; if it were, the connection would merely go uncounted.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        // axum's implementation sleeps for a second when something is wrong (EMFILE), so it does not spin.
        let (tcp, address) = Listener::accept(&mut self.tcp).await;
        let deadline = Box::pin(tokio::time::sleep(LONGEST_CONNECTION));
        (Connection { tcp, deadline, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A connection that fails once its time is over, whatever its peer is slow at.
struct Connection {
    tcp: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.tcp)),
        }
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
        self.in_time(cx)?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_shutdown(cx)
    }
}
