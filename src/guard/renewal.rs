//! Replacement before expiry: the successor of a server that is soon too old is dialled first, so that a warm pool does not
//! dip.
//!
//! Successors are dialled where the bounds have room, after all waiters; nobody gives way to them. Where there is no room,
//! an old server is closed at its end, and its place dialled again as for everybody. Whose successor a new server is does
//! not matter: as many old ones go as new ones have been stored.

use std::time::Instant;

use super::gate::Gate;
use super::terms::{Action, PoolId};

/// Old servers of one pool against new ones.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// Successors still to come.
    wanted: usize,
    /// Successors that are there while their predecessors are, too.
    arrived: usize,
}

impl Renewal {
    /// A server that was just dialled has gone into the store, because nobody waits.
    pub(super) fn stored(&mut self) {
        if self.wanted > 0 {
            self.wanted -= 1;
            self.arrived += 1;
        }
    }
}

impl Gate {
    /// So many idle servers of this pool reach their end soon. How many of them may be closed now, since their successors
    /// are there: each by [`take_idle`](Gate::take_idle), then `closed`. To be asked about once a second; what was said
    /// last holds.
    #[must_use = "old servers are closed once they have a successor"]
    pub fn renew(&mut self, now: Instant, pool: PoolId, due: usize, actions: &mut Vec<Action>) -> usize {
        let renewal = &mut self.pools[pool.index()].renewal;
        let replaced = renewal.arrived.min(due);
        // With none due any more, those that were are in use or gone; either way there is nobody left to replace.
        renewal.arrived = if due == 0 { 0 } else { renewal.arrived - replaced };
        renewal.wanted = due - replaced;
        self.note(pool);
        self.settle(now, actions);
        replaced
    }

    /// A dial under way is a successor if nobody waits for it.
    pub(super) fn lacks_successor(&self, pool: PoolId) -> bool {
        self.pools[pool.index()].renewal.wanted > self.slots.pool(pool).counts.dialling
    }
}
