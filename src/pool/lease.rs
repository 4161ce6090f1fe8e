//! A server connection in a client's hands.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Pool;
use super::stays::Stay;
use super::store::Held;
use crate::guard::{Home, KeyId};
use crate::obs::DestroyReason;
use crate::server::Server;

/// A server connection in a client's hands. Dropped without having been released, it is closed: only [`Lease::release`]
/// vouches for its state.
pub struct Lease {
    held: Option<Held>,
    pool: Arc<Pool>,
    home: Home,
    /// The function that it is charged to.
    key: KeyId,
    since: Instant,
    stay: Option<Stay>,
}

impl Lease {
    pub(super) fn new(held: Held, pool: &Arc<Pool>, home: Home, (key, since): (KeyId, Instant)) -> Self {
        Self { held: Some(held), pool: Arc::clone(pool), home, key, since, stay: None }
    }

    fn charge(&self, now: Instant) -> (KeyId, Duration) {
        (self.key, now.saturating_duration_since(self.since))
    }

    /// The client does nothing with it now, for this reason; None: it works.
    #[inline]
    pub fn stays(&mut self, stay: Option<Stay>) {
        self.pool.stays.change(std::mem::replace(&mut self.stay, stay), stay);
    }

    /// Lets go of the connection, whatever becomes of it.
    fn take(&mut self) -> Option<Held> {
        self.stays(None);
        self.held.take()
    }

    /// Whose it is.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// When it was checked out.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Gives the connection back. Its server must be free ([`Server::is_free`]); one that is not is closed. While a
    /// cancel request is under way for it, it stays out of use.
    pub fn release(mut self, now: Instant) {
        let Some(mut held) = self.take() else { return };
        self.pool.metrics.held(now.saturating_duration_since(self.since));
        held.idle_since = now;
        let (pool, home, key, since) = (Arc::clone(&self.pool), self.home, self.key, self.since);
        let charge = self.charge(now);
        if !held.is_free() {
            pool.discard(held, home, charge, DestroyReason::OutOfStep);
        } else if held.is_expired(now) {
            pool.discard(held, home, charge, DestroyReason::Lifetime);
        } else if held.cancel.is_under_way() {
            let upstream = Arc::clone(&pool.upstream);
            pool.stays.change(None, Some(Stay::Cancelling));
            upstream.spawn(home, async move {
                held.cancel.over().await;
                pool.stays.change(Some(Stay::Cancelling), None);
                let now = Instant::now();
                let charge = (key, now.saturating_duration_since(since));
                if held.cancel.is_tainted() {
                    pool.discard(held, home, charge, DestroyReason::Cancel);
                } else {
                    pool.give_back(held, home, charge, now);
                }
            });
        } else if held.cancel.is_tainted() {
            pool.discard(held, home, charge, DestroyReason::Cancel);
        } else {
            pool.give_back(held, home, charge, now);
        }
    }

    /// Closes a connection that turned out to be dead or too old.
    pub(super) fn close_idle(self, now: Instant) {
        let reason = if self.is_expired(now) { DestroyReason::Lifetime } else { DestroyReason::ServerClosed };
        self.close(reason);
    }

    /// Closes the connection; its place is free once PostgreSQL has closed its side.
    pub fn close(mut self, reason: DestroyReason) {
        if let Some(held) = self.take() {
            self.pool.discard(held, self.home, self.charge(Instant::now()), reason);
        }
    }

    /// Runs `task` on the thread that watches this connection's socket.
    pub fn run<F: Future<Output = ()> + Send + 'static>(self, task: impl FnOnce(Self) -> F) {
        let (upstream, home) = (Arc::clone(&self.pool.upstream), self.home);
        upstream.spawn(home, task(self));
    }
}

impl Deref for Lease {
    type Target = Server;

    fn deref(&self) -> &Server {
        match &self.held {
            Some(held) => held,
            None => unreachable!("a lease lets go of its connection only when it is consumed"),
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Server {
        match &mut self.held {
            Some(held) => held,
            None => unreachable!("a lease lets go of its connection only when it is consumed"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(held) = self.take() {
            let charge = self.charge(Instant::now());
            self.pool.discard(held, self.home, charge, DestroyReason::ClientLeft);
        }
    }
}
