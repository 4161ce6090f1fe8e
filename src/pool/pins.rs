//! How many clients keep a server connection beyond their transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Pool;

/// The clients of a pool that keep a server connection.
#[derive(Debug, Default)]
pub struct Pinned {
    count: AtomicUsize,
    /// Some client of the pool has asked for a value that a sequence gave it.
    reads_sequences: AtomicBool,
}

impl Pinned {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether some client has asked for a value that a sequence gave it.
    #[inline]
    pub fn reads_sequences(&self) -> bool {
        self.reads_sequences.load(Ordering::Relaxed)
    }

    /// A client asks for such a value.
    pub fn note_read_of_sequence(&self) {
        self.reads_sequences.store(true, Ordering::Relaxed);
    }
}

/// A client's place among them; dropped, it is free.
pub struct PinSlot(Arc<Pool>);

impl PinSlot {
    /// Takes a place, there or not: what a session has cannot be taken away.
    pub fn take(pool: &Arc<Pool>) -> Self {
        pool.pinned.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pool))
    }

    /// Takes one of the places that the pool's budget has left, if there is one.
    pub fn within_budget(pool: &Arc<Pool>) -> Option<Self> {
        let share = pool.settings.size.load(Ordering::Relaxed) as f64 * pool.params.session.pins.budget;
        let most = (share as usize).max(1);
        let more = |count: usize| (count < most).then_some(count + 1);
        pool.pinned.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(pool)))
    }
}

impl Drop for PinSlot {
    fn drop(&mut self) {
        self.0.pinned.count.fetch_sub(1, Ordering::Relaxed);
    }
}
