//! Server connections that clients keep without work for them, and those that a cancel request may still hit.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Why a server connection that is not idle does nothing for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// The client is in a transaction and sends nothing.
    InTransaction,
    /// The client keeps it beyond its transactions, and sends nothing.
    Pinned,
    /// It is kept from everybody: what its client left is being cancelled or rolled back, or a cancel request for it is
    /// under way.
    Cancelling,
}

/// How many of a pool's server connections stay, and why.
#[derive(Debug, Default)]
pub struct Stays([AtomicUsize; 3]);

impl Stays {
    /// How many stay for this reason.
    pub fn count(&self, stay: Stay) -> usize {
        self.0[stay as usize].load(Ordering::Relaxed)
    }

    /// One stays for another reason than before, or none any more.
    #[inline]
    pub(super) fn change(&self, from: Option<Stay>, to: Option<Stay>) {
        if from == to {
            return;
        }
        if let Some(stay) = from {
            self.0[stay as usize].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(stay) = to {
            self.0[stay as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}
