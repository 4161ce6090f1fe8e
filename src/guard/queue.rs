//! Who waits for a server, and who is next: for each pool, one first-in-first-out lane per home.
//!
//! Waiters live in one slab for all pools and are linked through it in both directions, so that one whose client went
//! away leaves in O(1). Memory is kept for reuse; it is bounded by the sum of the pools' `max_waiting`.

use std::time::{Duration, Instant};

use super::terms::{Home, PoolId};

/// A place in the queue. It ends when it is handed a server, shed or abandoned, and is never valid again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    index: u32,
    generation: u32,
}

impl Ticket {
    /// Which of the queue's places. Unique among the tickets alive, small, and reused: an index for the shell's table.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// End of a list.
const NIL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Waiter {
    pool: PoolId,
    home: Home,
    arrived: Instant,
    /// Towards the head of the lane.
    older: u32,
    /// Towards the tail of the lane; in a free place, the next free one.
    younger: u32,
    /// Counts the uses of this place. A ticket of an earlier use is not taken for this one's.
    generation: u32,
    waiting: bool,
}

/// One home's waiters for one pool, in order of arrival.
#[derive(Debug, Clone, Copy)]
struct Lane {
    oldest: u32,
    youngest: u32,
    len: usize,
}

const EMPTY: Lane = Lane { oldest: NIL, youngest: NIL, len: 0 };

#[derive(Debug)]
struct PoolLanes {
    lanes: Box<[Lane]>,
    waiting: usize,
}

/// The waiters of all pools of one upstream.
#[derive(Debug)]
pub(super) struct Queue {
    waiters: Vec<Waiter>,
    free: u32,
    pools: Vec<PoolLanes>,
    homes: usize,
}

impl Queue {
    pub(super) fn new(homes: usize) -> Self {
        Queue { waiters: Vec::new(), free: NIL, pools: Vec::new(), homes: homes.max(1) }
    }

    pub(super) fn add_pool(&mut self) {
        self.pools.push(PoolLanes { lanes: vec![EMPTY; self.homes].into_boxed_slice(), waiting: 0 });
    }

    pub(super) fn push(&mut self, pool: PoolId, home: Home, now: Instant) -> Ticket {
        let older = self.pools[pool.index()].lanes[home.index()].youngest;
        let index = self.occupy(Waiter {
            pool,
            home,
            arrived: now,
            older,
            younger: NIL,
            generation: 0,
            waiting: true,
        });
        let queue = &mut self.pools[pool.index()];
        queue.waiting += 1;
        let lane = &mut queue.lanes[home.index()];
        lane.len += 1;
        lane.youngest = index;
        match older {
            NIL => lane.oldest = index,
            older => self.waiters[older as usize].younger = index,
        }
        self.ticket(index)
    }

    /// Takes a waiter out, wherever it stands. None if the ticket has ended already.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<(PoolId, Instant)> {
        let waiter = *self.waiters.get(ticket.index())?;
        if !waiter.waiting || waiter.generation != ticket.generation {
            return None;
        }
        self.unlink(&waiter);
        self.vacate(ticket.index);
        Some((waiter.pool, waiter.arrived))
    }

    /// Who gets a server that is free at this home: the oldest here, unless one elsewhere came more than `slack` earlier.
    pub(super) fn next(&self, pool: PoolId, home: Home, slack: Duration) -> Option<(Ticket, Instant)> {
        let oldest = self.oldest(pool)?;
        match self.head(&self.pools[pool.index()].lanes[home.index()]) {
            Some(here) if here.1.saturating_duration_since(oldest.1) <= slack => Some(here),
            _ => Some(oldest),
        }
    }

    /// The pool's oldest waiter, and when it arrived.
    pub(super) fn oldest(&self, pool: PoolId) -> Option<(Ticket, Instant)> {
        let queue = &self.pools[pool.index()];
        if queue.waiting == 0 {
            return None;
        }
        queue.lanes.iter().filter_map(|lane| self.head(lane)).min_by_key(|(_, arrived)| *arrived)
    }

    pub(super) fn waiting(&self, pool: PoolId) -> usize {
        self.pools[pool.index()].waiting
    }

    pub(super) fn waiting_at(&self, pool: PoolId, home: Home) -> usize {
        self.pools[pool.index()].lanes[home.index()].len
    }

    fn head(&self, lane: &Lane) -> Option<(Ticket, Instant)> {
        let waiter = self.waiters.get(lane.oldest as usize)?;
        Some((Ticket { index: lane.oldest, generation: waiter.generation }, waiter.arrived))
    }

    fn ticket(&self, index: u32) -> Ticket {
        Ticket { index, generation: self.waiters[index as usize].generation }
    }

    fn occupy(&mut self, waiter: Waiter) -> u32 {
        if self.free == NIL {
            self.waiters.push(waiter);
            return (self.waiters.len() - 1) as u32;
        }
        let index = self.free;
        let place = &mut self.waiters[index as usize];
        self.free = place.younger;
        *place = Waiter { generation: place.generation, ..waiter };
        index
    }

    fn vacate(&mut self, index: u32) {
        let place = &mut self.waiters[index as usize];
        place.waiting = false;
        place.generation = place.generation.wrapping_add(1);
        place.younger = self.free;
        self.free = index;
    }

    fn unlink(&mut self, waiter: &Waiter) {
        let queue = &mut self.pools[waiter.pool.index()];
        let lane = &mut queue.lanes[waiter.home.index()];
        queue.waiting -= 1;
        lane.len -= 1;
        match waiter.older {
            NIL => lane.oldest = waiter.younger,
            older => self.waiters[older as usize].younger = waiter.younger,
        }
        match waiter.younger {
            NIL => lane.youngest = waiter.older,
            younger => self.waiters[younger as usize].older = waiter.older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: PoolId = PoolId(0);
    const SLACK: Duration = Duration::from_millis(2);

    fn queue(homes: usize) -> (Queue, Instant) {
        let mut queue = Queue::new(homes);
        queue.add_pool();
        (queue, Instant::now())
    }

    fn drain_from(queue: &mut Queue, home: Home) -> Vec<Ticket> {
        let mut order = Vec::new();
        while let Some((ticket, _)) = queue.next(POOL, home, SLACK) {
            assert!(queue.remove(ticket).is_some());
            order.push(ticket);
        }
        order
    }

    #[test]
    fn first_in_first_out_with_one_home() {
        let (mut queue, now) = queue(1);
        let tickets: Vec<_> = (0..5).map(|_| queue.push(POOL, Home(0), now)).collect();
        assert_eq!(drain_from(&mut queue, Home(0)), tickets);
        assert_eq!(queue.waiting(POOL), 0);
    }

    #[test]
    fn a_waiter_leaves_from_anywhere_and_the_rest_keep_their_order() {
        for gone in 0..4 {
            let (mut queue, now) = queue(1);
            let mut tickets: Vec<_> = (0..4).map(|_| queue.push(POOL, Home(0), now)).collect();
            assert!(queue.remove(tickets[gone]).is_some());
            tickets.remove(gone);
            assert_eq!(drain_from(&mut queue, Home(0)), tickets, "without the one at {gone}");
        }
    }

    #[test]
    fn an_ended_ticket_stays_ended_when_its_place_is_reused() {
        let (mut queue, now) = queue(1);
        let first = queue.push(POOL, Home(0), now);
        assert!(queue.remove(first).is_some());
        let second = queue.push(POOL, Home(0), now);
        assert_eq!(first.index(), second.index());
        assert!(queue.remove(first).is_none());
        assert_eq!(queue.waiting(POOL), 1);
    }

    #[test]
    fn a_server_prefers_its_own_home_within_the_slack() {
        let (mut queue, now) = queue(2);
        let there = queue.push(POOL, Home(0), now);
        let here = queue.push(POOL, Home(1), now + SLACK);
        let late = queue.push(POOL, Home(1), now + SLACK + Duration::from_micros(1));
        assert_eq!(drain_from(&mut queue, Home(1)), [here, there, late]);
    }

    #[test]
    fn places_are_reused() {
        let (mut queue, now) = queue(1);
        for _ in 0..100 {
            let pair = [queue.push(POOL, Home(0), now), queue.push(POOL, Home(0), now)];
            assert!(pair.iter().all(|ticket| ticket.index() < 2));
            assert!(pair.iter().all(|ticket| queue.remove(*ticket).is_some()));
        }
    }
}
