//! Replies that clients have not taken yet: kept, within bounds, so that their server connections are free for others.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What all clients' spools hold, and what they may.
#[derive(Debug)]
pub struct Spool {
    most_of_one: usize,
    most: usize,
    bytes: AtomicUsize,
}

impl Spool {
    pub(super) fn new(most_of_one: usize, most: usize) -> Self {
        Self { most_of_one, most, bytes: AtomicUsize::new(0) }
    }

    /// Bytes in all spools.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A client whose spool holds so much may have more.
    pub(super) fn has_room(&self, held: usize) -> bool {
        held < self.most_of_one && self.bytes() < self.most
    }

    /// A client's spool has changed. `counted` is what was counted for it, and is brought up to date.
    #[inline]
    pub(super) fn account(&self, counted: &mut usize, held: usize) {
        if held > *counted {
            self.bytes.fetch_add(held - *counted, Ordering::Relaxed);
        } else if held < *counted {
            self.bytes.fetch_sub(*counted - held, Ordering::Relaxed);
        }
        *counted = held;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds() {
        let spool = Spool::new(100, 150);
        let (mut one, mut other) = (0, 0);
        assert!(spool.has_room(one));
        spool.account(&mut one, 100);
        assert!(!spool.has_room(one) && spool.has_room(other));
        spool.account(&mut other, 60);
        assert!(!spool.has_room(other));
        spool.account(&mut one, 0);
        assert_eq!((spool.bytes(), spool.has_room(other)), (60, true));
    }
}
