//! How many clients keep a server connection beyond their transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Pool;

/// The clients of a pool that keep a server connection.
#[derive(Debug, Default)]
pub struct Pinned(AtomicUsize);

impl Pinned {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client's place among them; dropped, it is free.
pub struct PinSlot(Arc<Pool>);

impl PinSlot {
    /// Takes a place, there or not: what a session has cannot be taken away.
    pub fn take(pool: &Arc<Pool>) -> Self {
        pool.pinned.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pool))
    }

    /// Whether the pool's budget has a place left.
    pub fn is_there(pool: &Pool) -> bool {
        let share = pool.settings.size.load(Ordering::Relaxed) as f64 * pool.params.session.pins.budget;
        pool.pinned.count() < (share as usize).max(1)
    }
}

impl Drop for PinSlot {
    fn drop(&mut self) {
        self.0.pinned.0.fetch_sub(1, Ordering::Relaxed);
    }
}
