//! A server connection in a client's hands.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Pool;
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
}

impl Lease {
    pub(super) fn new(held: Held, pool: &Arc<Pool>, home: Home, (key, since): (KeyId, Instant)) -> Self {
        Self { held: Some(held), pool: Arc::clone(pool), home, key, since }
    }

    fn charge(&self, now: Instant) -> (KeyId, Duration) {
        (self.key, now.saturating_duration_since(self.since))
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
        let Some(mut held) = self.held.take() else { return };
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
            upstream.spawn(home, async move {
                held.cancel.over().await;
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
        if let Some(held) = self.held.take() {
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
        if let Some(held) = self.held.take() {
            let charge = self.charge(Instant::now());
            self.pool.discard(held, self.home, charge, DestroyReason::ClientLeft);
        }
    }
}
