//! Cancel requests to PostgreSQL (manual, "Canceling Requests in Progress").

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::connector::Connector;

/// `(1234 << 16) | 5678`: what stands in the place of a protocol version in a CancelRequest.
const CANCEL_REQUEST_CODE: u32 = 80_877_102;

/// How to cancel what runs on one server connection.
#[derive(Debug)]
pub struct CancelTarget {
    process_id: i32,
    secret: Vec<u8>,
    connector: Arc<Connector>,
    timeout: Duration,
    /// Requests under way. While there is one the connection must not change hands: the signal could hit the next.
    under_way: AtomicUsize,
    over: Notify,
    /// A request was sent and PostgreSQL was not seen to act on it: it may still do so, whoever has the connection then.
    tainted: AtomicBool,
}

impl CancelTarget {
    pub(super) fn new(
        process_id: i32,
        secret: Vec<u8>,
        connector: Arc<Connector>,
        timeout: Duration,
    ) -> Self {
        Self {
            process_id,
            secret,
            connector,
            timeout,
            under_way: AtomicUsize::new(0),
            over: Notify::new(),
            tainted: AtomicBool::new(false),
        }
    }

    /// The server's process id, as in `pg_stat_activity`.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Announces a request. To be called while its client is known to hold the connection; the request itself may then be
    /// sent at leisure.
    pub fn begin(self: &Arc<Self>) -> CancelUnderWay {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        CancelUnderWay { target: Arc::clone(self), unanswered: false }
    }

    /// A request may yet take effect at any time: the connection must not change hands any more.
    #[inline]
    pub fn is_tainted(&self) -> bool {
        self.tainted.load(Ordering::SeqCst)
    }

    /// A request is announced and not over.
    #[inline]
    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0
    }

    /// Waits until no request is under way. Cancel safe.
    pub async fn over(&self) {
        loop {
            let over = self.over.notified();
            if !self.is_under_way() {
                return;
            }
            over.await;
        }
    }
}

/// One announced request; dropped, it is over.
#[derive(Debug)]
pub struct CancelUnderWay {
    target: Arc<CancelTarget>,
    /// It is sent, and PostgreSQL has not closed the connection yet.
    unanswered: bool,
}

impl CancelUnderWay {
    /// Sends the request and waits until PostgreSQL has acted on it: it closes the connection once the signal is sent.
    ///
    /// # Errors
    /// PostgreSQL cannot be reached, or has not answered within the cancel timeout.
    pub async fn send(mut self) -> std::io::Result<()> {
        let target = Arc::clone(&self.target);
        let CancelTarget { process_id, secret, connector, timeout, .. } = &*target;
        let exchange = async {
            let mut stream = connector.connect().await?;
            let mut packet = Vec::with_capacity(12 + secret.len());
            packet.extend((12 + secret.len() as u32).to_be_bytes());
            packet.extend(CANCEL_REQUEST_CODE.to_be_bytes());
            packet.extend(process_id.to_be_bytes());
            packet.extend_from_slice(secret);
            self.unanswered = true;
            stream.write_all(&packet).await?;
            stream.flush().await?;
            // No answer comes; a reset is an end like any other.
            let _ = stream.read(&mut [0; 16]).await;
            self.unanswered = false;
            Ok(())
        };
        tokio::time::timeout(*timeout, exchange).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }
}

impl Drop for CancelUnderWay {
    fn drop(&mut self) {
        if self.unanswered {
            self.target.tainted.store(true, Ordering::SeqCst);
        }
        if self.target.under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.target.over.notify_waiters();
        }
    }
}
