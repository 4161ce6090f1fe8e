//! Where idle server connections are kept: deadpool's managed pool, behind the gate and asked without waiting.
//!
//! The gate decides who gets a connection and when one is dialled; so "creating" an object here takes one that a dial
//! has already brought, and neither `create` nor `recycle` ever waits. See `docs/decisions/0002-deadpool-behind-the-gate.md`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, Pool, PoolError, QueueMode, RecycleResult, Timeouts};
use futures_util::FutureExt;

use crate::lock::lock;
use crate::server::Server;

/// A server connection that is checked out of a store. Dropped, it goes back to its store.
pub(super) type Held = Object<Arrivals>;

/// Connections that were dialled and have not been checked out yet.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<VecDeque<Box<Server>>>);

impl managed::Manager for Arrivals {
    /// Boxed: it changes hands several times in each transaction, and an idle client keeps a place for it.
    type Type = Box<Server>;
    type Error = Infallible;

    async fn create(&self) -> Result<Box<Server>, Infallible> {
        let arrived = lock(&self.0).pop_front();
        match arrived {
            Some(server) => Ok(server),
            // Dropped unfinished by `Store::take`, which asks once and does not wait.
            None => std::future::pending().await,
        }
    }

    /// Whether it still works is looked at by who takes it: a dead one has to go through the gate's books.
    async fn recycle(&self, _: &mut Box<Server>, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

/// The idle server connections of one pool whose sockets one I/O thread watches.
#[derive(Debug)]
pub(super) struct Store(Pool<Arrivals>);

impl Store {
    /// A store for `size` connections, in the hands of clients or here.
    pub(super) fn new(size: usize) -> Self {
        let pool = Pool::builder(Arrivals::default())
            .max_size(size)
            // The one used last is the one whose caches are warm; the others may reach their idle timeout.
            .queue_mode(QueueMode::Lifo)
            .build();
        match pool {
            Ok(pool) => Self(pool),
            Err(error) => unreachable!("only timeouts need a runtime, and none is set: {error}"),
        }
    }

    /// Takes an idle connection. None if there is none, which the gate's books exclude.
    pub(super) fn take(&self) -> Option<Held> {
        const AT_ONCE: Timeouts = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };
        let taken: Option<Result<Held, PoolError<Infallible>>> = self.0.timeout_get(&AT_ONCE).now_or_never();
        taken.and_then(Result::ok)
    }

    /// Adds a connection that was just dialled; it, or another, is what comes back, checked out.
    pub(super) fn adopt(&self, server: Box<Server>) -> Option<Held> {
        lock(&self.0.manager().0).push_back(server);
        // Idle ones are taken first; they go back once the new one has come through, so that none stays out of sight.
        let mut others = vec![];
        loop {
            let held = self.take()?;
            if lock(&self.0.manager().0).is_empty() {
                return Some(held);
            }
            others.push(held);
        }
    }

    /// Takes out the idle connections that `keep` does not hold for.
    #[expect(clippy::vec_box, reason = "that is how they come out of the store")]
    pub(super) fn retain(&self, mut keep: impl FnMut(&Server) -> bool) -> Vec<Box<Server>> {
        self.0.retain(|server, _| keep(server)).removed
    }

    /// How many idle connections this holds for.
    pub(super) fn count(&self, mut holds: impl FnMut(&Server) -> bool) -> usize {
        let mut count = 0;
        self.0.retain(|server, _| {
            count += usize::from(holds(server));
            true
        });
        count
    }

    /// There may be so many connections. It never shrinks: deadpool would drop idle ones behind the gate's back, and it is the
    /// gate that keeps the bound.
    pub(super) fn grow(&self, size: usize) {
        if size > self.0.status().max_size {
            self.0.resize(size);
        }
    }
}
