//! Which pool gives way when a bound that pools share is full.
//!
//! A pool that has waiters and is held up by its group's or the upstream's bound takes a server from another pool: an
//! idle one at once (`CloseIdle`), else an active one when it comes back (`Close` instead of `Store` or `Hand`). When
//! its socket is gone, `settle` dials for the pool that has least. Three rules keep that fair and free of thrashing:
//!
//! - from a pool that has waiters too, only if it has at least two servers more: this ends at max-min fair shares,
//!   where nothing moves;
//! - from a pool without waiters, if it has more servers, or has not used one for `reclaim_after`: a busy pool does not
//!   take a quiet one's only server between two of its transactions;
//! - with more pools than room, a pool without any server gets the only one of another after half its `max_wait`: time
//!   slices long enough to be worth a dial, short enough for its waiters.
//!
//! A server costs a dial to move, so no more are on their way out than may be dialled.

use std::time::Instant;

use super::gate::{Gate, earlier};
use super::slots::Shared;
use super::terms::{Action, PoolId};

impl Gate {
    /// Orders idle servers of other pools closed, as many as this pool has a claim to.
    pub(super) fn make_room(&mut self, now: Instant, pool: PoolId, actions: &mut Vec<Action>) {
        while let Some(shared) = self.claim(now, pool) {
            match self.victim(now, pool, shared) {
                Some(victim) => self.evict(victim, actions),
                None => return,
            }
        }
    }

    /// An active server of `giver` is free: should it be closed in favour of another pool?
    pub(super) fn owed_elsewhere(&mut self, now: Instant, giver: PoolId) -> bool {
        if self.slots.held_up_by(giver).is_none() {
            return false;
        }
        (0..self.wanting.len()).any(|at| {
            let taker = self.wanting[at];
            taker != giver
                && self.claim(now, taker).is_some_and(|shared| self.slots.covers(shared, giver))
                && self.gives_way(now, giver, taker)
        })
    }

    /// The shared bound under which the pool may ask others for a server: it could dial now if there were room, and not
    /// enough is on its way out already.
    fn claim(&self, now: Instant, pool: PoolId) -> Option<Shared> {
        let shared = self.slots.held_up_by(pool)?;
        let leaving = self.slots.shared(shared).counts.closing;
        let upstream = self.slots.upstream().counts;
        let due = leaving < self.need(pool)
            && leaving < self.dialer.budget(now, upstream.dialling)
            && self.dialer.ready(now, pool, self.slots.pool(pool).counts.dialling);
        if due { Some(shared) } else { None }
    }

    /// Among the pools with idle servers that must give way, the one served longest ago.
    fn victim(&mut self, now: Instant, taker: PoolId, shared: Shared) -> Option<PoolId> {
        if self.slots.shared(shared).counts.idle == 0 {
            return None;
        }
        let mut victim: Option<PoolId> = None;
        for pool in self.slots.pools() {
            let has_idle = self.slots.pool(pool).counts.idle > 0;
            if !has_idle || !self.slots.covers(shared, pool) || !self.spares(now, pool, taker) {
                continue;
            }
            let longer_ago = |than: PoolId| self.last_granted(pool) < self.last_granted(than);
            if victim.is_none_or(longer_ago) {
                victim = Some(pool);
            }
        }
        victim
    }

    fn gives_way(&mut self, now: Instant, giver: PoolId, taker: PoolId) -> bool {
        if self.queue.waiting(giver) == 0 {
            return self.spares(now, giver, taker);
        }
        let (has, wants) = (self.slots.pool(giver).counts.owned(), self.owned_soon(taker));
        wants + 1 < has || (has == 1 && wants == 0 && self.slice_over(now, giver, taker))
    }

    /// May a pool without waiters lose an idle server to this one? If not yet, notes when.
    fn spares(&mut self, now: Instant, giver: PoolId, taker: PoolId) -> bool {
        if self.owned_soon(taker) < self.slots.pool(giver).counts.owned() {
            return true;
        }
        let unused_at = self.last_granted(giver).and_then(|last| last.checked_add(self.reclaim_after));
        let unused = unused_at.is_none_or(|at| at <= now);
        if !unused {
            self.reclaim_at = earlier(self.reclaim_at, unused_at);
        }
        unused
    }

    /// The taker has waiters and has been without a server for half of what they would wait at most. So a server that many
    /// pools take turns with changes hands no more often than once for each of them in that time.
    fn slice_over(&self, now: Instant, giver: PoolId, taker: PoolId) -> bool {
        let Some(arrived) = self.waiting_since(taker) else { return false };
        let last = self.last_granted(taker);
        let without = now.saturating_duration_since(last.map_or(arrived, |last| last.max(arrived)));
        without >= self.pools[taker.index()].limits.max_wait / 2 && last < self.last_granted(giver)
    }

    /// What the pool has, and what is on its way out and may become its own.
    fn owned_soon(&self, taker: PoolId) -> usize {
        let leaving =
            self.slots.held_up_by(taker).map_or(0, |shared| self.slots.shared(shared).counts.closing);
        self.slots.pool(taker).counts.owned() + leaving
    }

    fn last_granted(&self, pool: PoolId) -> Option<Instant> {
        self.pools[pool.index()].last_granted
    }
}
