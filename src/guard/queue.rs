//! Who waits for a server: for each pool and key, lanes in order of arrival.
//!
//! A key has a lane for each home, twice over: one for all, and one for those who go before the others while a queue has
//! stood for long (`admission`). Waiters live in one slab for all pools and are linked through it in both directions, so that
//! one whose client went away leaves in O(1). Memory is kept for reuse; it is bounded by the sum of the pools'
//! `max_waiting`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::keys::KeyId;
use super::terms::{Home, PoolId};

/// A place in the queue. It ends when it is handed a server, shed or abandoned, and is never valid again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// Who waits, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) pool: PoolId,
    pub(super) key: KeyId,
    pub(super) home: Home,
    /// Goes before others of its key, oldest first.
    pub(super) chosen: bool,
    pub(super) arrived: Instant,
    /// The client's own. None: it has not said.
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    waiter: Waiter,
    /// Towards the head of the lane.
    older: u32,
    /// Towards the tail of the lane; in a free place, the next free one.
    younger: u32,
    /// Counts the uses of this place. A ticket of an earlier use is not taken for this one's.
    generation: u32,
    waiting: bool,
}

/// Waiters in order of arrival.
#[derive(Debug, Clone, Copy)]
struct Lane {
    oldest: u32,
    youngest: u32,
}

const EMPTY: Lane = Lane { oldest: NIL, youngest: NIL };

/// Which end of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Oldest,
    Newest,
}

#[derive(Debug)]
struct KeyLanes {
    /// One for each home, then one for each home's chosen.
    lanes: Box<[Lane]>,
    waiting: usize,
}

#[derive(Debug)]
struct PoolLanes {
    keys: Vec<KeyLanes>,
    at_home: Box<[usize]>,
    waiting: usize,
}

/// The waiters of all pools of one upstream.
#[derive(Debug)]
pub(super) struct Queue {
    places: Vec<Place>,
    free: u32,
    pools: Vec<PoolLanes>,
    homes: usize,
    waiting: usize,
    /// Clients' own deadlines, the next one first; also of tickets that have ended, until they come up.
    deadlines: BinaryHeap<Reverse<(Instant, Ticket)>>,
}

impl Queue {
    pub(super) fn new(homes: usize) -> Self {
        let (places, pools, deadlines) = (Vec::new(), Vec::new(), BinaryHeap::new());
        Queue { places, free: NIL, pools, homes: homes.max(1), waiting: 0, deadlines }
    }

    pub(super) fn add_pool(&mut self) {
        let at_home = vec![0; self.homes].into_boxed_slice();
        self.pools.push(PoolLanes { keys: Vec::new(), at_home, waiting: 0 });
    }

    pub(super) fn push(&mut self, waiter: Waiter) -> Ticket {
        let homes = self.homes;
        let lanes = || KeyLanes { lanes: vec![EMPTY; 2 * homes].into_boxed_slice(), waiting: 0 };
        let queue = &mut self.pools[waiter.pool.index()];
        if queue.keys.len() <= waiter.key.index() {
            queue.keys.resize_with(waiter.key.index() + 1, lanes);
        }
        self.waiting += 1;
        queue.waiting += 1;
        queue.at_home[waiter.home.index()] += 1;
        queue.keys[waiter.key.index()].waiting += 1;
        let older = self.lane(&waiter).youngest;
        let place = Place { waiter, older, younger: NIL, generation: 0, waiting: true };
        let index = self.occupy(place);
        self.lane(&waiter).youngest = index;
        match older {
            NIL => self.lane(&waiter).oldest = index,
            older => self.places[older as usize].younger = index,
        }
        let ticket = self.ticket(index);
        if let Some(deadline) = waiter.deadline {
            self.remember(deadline, ticket);
        }
        ticket
    }

    /// Who waits with this ticket.
    pub(super) fn get(&self, ticket: Ticket) -> Option<&Waiter> {
        self.waits(ticket).then(|| &self.places[ticket.index()].waiter)
    }

    /// Takes a waiter out, wherever it stands. None if the ticket has ended already.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter> {
        if !self.waits(ticket) {
            return None;
        }
        let place = self.places[ticket.index()];
        self.unlink(&place);
        self.vacate(ticket.index);
        Some(place.waiter)
    }

    /// Who of a key is next at this home. While there are chosen ones: the oldest of them; else the one at this end of the
    /// queue. One here is preferred to one elsewhere that is no more than `slack` nearer to the end.
    pub(super) fn next(
        &self,
        pool: PoolId,
        key: KeyId,
        home: Home,
        end: End,
        slack: Duration,
    ) -> Option<(Ticket, Waiter)> {
        let (all, chosen) = self.pools[pool.index()].keys.get(key.index())?.lanes.split_at(self.homes);
        match end {
            End::Oldest => {
                let ends = [self.at_end(all, home, end, slack), self.at_end(chosen, home, end, slack)];
                ends.into_iter().flatten().min_by_key(|(_, waiter)| waiter.arrived)
            }
            End::Newest => self
                .at_end(chosen, home, End::Oldest, slack)
                .or_else(|| self.at_end(all, home, End::Newest, slack)),
        }
    }

    fn at_end(&self, lanes: &[Lane], home: Home, end: End, slack: Duration) -> Option<(Ticket, Waiter)> {
        let best = lanes.iter().filter_map(|lane| self.end_of(lane, end));
        let best = match end {
            End::Oldest => best.min_by_key(|(_, waiter)| waiter.arrived),
            End::Newest => best.max_by_key(|(_, waiter)| waiter.arrived),
        }?;
        let here = self.end_of(&lanes[home.index()], end).filter(|(_, here)| {
            let (a, b) = (here.arrived, best.1.arrived);
            a.max(b).saturating_duration_since(a.min(b)) <= slack
        });
        here.or(Some(best))
    }

    /// The key's oldest waiter.
    pub(super) fn oldest(&self, pool: PoolId, key: KeyId) -> Option<(Ticket, Waiter)> {
        let lanes = &self.pools[pool.index()].keys.get(key.index())?.lanes;
        let heads = lanes.iter().filter_map(|lane| self.end_of(lane, End::Oldest));
        heads.min_by_key(|(_, waiter)| waiter.arrived)
    }

    /// The oldest waiter of those who go before the others.
    pub(super) fn oldest_chosen(&self, pool: PoolId, key: KeyId) -> Option<Waiter> {
        let lanes = self.pools[pool.index()].keys.get(key.index())?.lanes.get(self.homes..)?;
        let heads = lanes.iter().filter_map(|lane| self.end_of(lane, End::Oldest));
        heads.map(|(_, waiter)| waiter).min_by_key(|waiter| waiter.arrived)
    }

    /// The next client's own deadline. Not a wait's that has ended.
    pub(super) fn next_deadline(&mut self) -> Option<(Instant, Ticket)> {
        while let Some(Reverse((at, ticket))) = self.deadlines.peek().copied() {
            if self.waits(ticket) {
                return Some((at, ticket));
            }
            self.deadlines.pop();
        }
        None
    }

    /// When [`Self::next_deadline`] is due, or somewhat earlier.
    pub(super) fn deadline_due(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn waiting(&self, pool: PoolId) -> usize {
        self.pools[pool.index()].waiting
    }

    pub(super) fn waiting_at(&self, pool: PoolId, home: Home) -> usize {
        self.pools[pool.index()].at_home[home.index()]
    }

    pub(super) fn waiting_of(&self, pool: PoolId, key: KeyId) -> usize {
        self.pools[pool.index()].keys.get(key.index()).map_or(0, |lanes| lanes.waiting)
    }

    /// Those that have ended take no more room than those that have not.
    fn remember(&mut self, deadline: Instant, ticket: Ticket) {
        if self.deadlines.len() > 2 * self.waiting + 64 {
            let mut deadlines = std::mem::take(&mut self.deadlines);
            deadlines.retain(|Reverse((_, ticket))| self.waits(*ticket));
            self.deadlines = deadlines;
        }
        self.deadlines.push(Reverse((deadline, ticket)));
    }

    fn waits(&self, ticket: Ticket) -> bool {
        self.places
            .get(ticket.index())
            .is_some_and(|place| place.waiting && place.generation == ticket.generation)
    }

    fn lane(&mut self, waiter: &Waiter) -> &mut Lane {
        let at = waiter.home.index() + if waiter.chosen { self.homes } else { 0 };
        &mut self.pools[waiter.pool.index()].keys[waiter.key.index()].lanes[at]
    }

    fn end_of(&self, lane: &Lane, end: End) -> Option<(Ticket, Waiter)> {
        let index = if end == End::Oldest { lane.oldest } else { lane.youngest };
        let place = self.places.get(index as usize)?;
        Some((Ticket { index, generation: place.generation }, place.waiter))
    }

    fn ticket(&self, index: u32) -> Ticket {
        Ticket { index, generation: self.places[index as usize].generation }
    }

    fn occupy(&mut self, place: Place) -> u32 {
        if self.free == NIL {
            self.places.push(place);
            return (self.places.len() - 1) as u32;
        }
        let index = self.free;
        let free = &mut self.places[index as usize];
        self.free = free.younger;
        *free = Place { generation: free.generation, ..place };
        index
    }

    fn vacate(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        place.waiting = false;
        place.generation = place.generation.wrapping_add(1);
        place.younger = self.free;
        self.free = index;
    }

    fn unlink(&mut self, place: &Place) {
        let Place { waiter, older, younger, .. } = *place;
        let queue = &mut self.pools[waiter.pool.index()];
        self.waiting -= 1;
        queue.waiting -= 1;
        queue.at_home[waiter.home.index()] -= 1;
        queue.keys[waiter.key.index()].waiting -= 1;
        match older {
            NIL => self.lane(&waiter).oldest = younger,
            older => self.places[older as usize].younger = younger,
        }
        match younger {
            NIL => self.lane(&waiter).youngest = older,
            younger => self.places[younger as usize].older = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{KeyTerms, Keys};
    use super::*;

    const POOL: PoolId = PoolId(0);
    const SLACK: Duration = Duration::from_millis(2);

    /// A waiter of the only key.
    fn waiter(home: u16, arrived: Instant) -> Waiter {
        let key = Keys::new(0).enter("api", KeyTerms::default());
        Waiter { pool: POOL, key, home: Home(home), chosen: false, arrived, deadline: None }
    }

    fn queue(homes: usize) -> (Queue, Instant) {
        let mut queue = Queue::new(homes);
        queue.add_pool();
        (queue, Instant::now())
    }

    fn drain_from(queue: &mut Queue, home: Home, end: End) -> Vec<Ticket> {
        let mut order = Vec::new();
        let key = waiter(0, Instant::now()).key;
        while let Some((ticket, _)) = queue.next(POOL, key, home, end, SLACK) {
            assert!(queue.remove(ticket).is_some());
            order.push(ticket);
        }
        order
    }

    #[test]
    fn first_in_first_out_with_one_home() {
        let (mut queue, now) = queue(1);
        let tickets: Vec<_> = (0..5).map(|_| queue.push(waiter(0, now))).collect();
        assert_eq!(drain_from(&mut queue, Home(0), End::Oldest), tickets);
        assert_eq!(queue.waiting(POOL), 0);
    }

    #[test]
    fn a_waiter_leaves_from_anywhere_and_the_rest_keep_their_order() {
        for gone in 0..4 {
            let (mut queue, now) = queue(1);
            let mut tickets: Vec<_> = (0..4).map(|_| queue.push(waiter(0, now))).collect();
            assert!(queue.remove(tickets[gone]).is_some());
            tickets.remove(gone);
            assert_eq!(drain_from(&mut queue, Home(0), End::Oldest), tickets, "without the one at {gone}");
        }
    }

    #[test]
    fn an_ended_ticket_stays_ended_when_its_place_is_reused() {
        let (mut queue, now) = queue(1);
        let first = queue.push(waiter(0, now));
        assert!(queue.remove(first).is_some());
        let second = queue.push(waiter(0, now));
        assert_eq!(first.index(), second.index());
        assert!(queue.remove(first).is_none());
        assert_eq!(queue.waiting(POOL), 1);
    }

    #[test]
    fn a_server_prefers_its_own_home_within_the_slack() {
        let (mut queue, now) = queue(2);
        let there = queue.push(waiter(0, now));
        let here = queue.push(waiter(1, now + SLACK));
        let late = queue.push(waiter(1, now + SLACK + Duration::from_micros(1)));
        assert_eq!(drain_from(&mut queue, Home(1), End::Oldest), [here, there, late]);
    }

    #[test]
    fn the_newest_goes_first_when_asked_for_and_the_chosen_before_it() {
        let (mut queue, now) = queue(1);
        let tickets: Vec<_> = (0..3).map(|after| queue.push(waiter(0, now + SLACK * after))).collect();
        let chosen: Vec<_> = (0..2)
            .map(|after| queue.push(Waiter { chosen: true, ..waiter(0, now + SLACK * after) }))
            .collect();
        assert_eq!(queue.oldest_chosen(POOL, waiter(0, now).key).unwrap().arrived, now);
        let order = drain_from(&mut queue, Home(0), End::Newest);
        assert_eq!(order, [chosen[0], chosen[1], tickets[2], tickets[1], tickets[0]]);
    }

    #[test]
    fn deadlines_come_up_in_their_order_and_those_of_the_dead_do_not() {
        let (mut queue, now) = queue(1);
        let with = |after| Waiter { deadline: Some(now + SLACK * after), ..waiter(0, now) };
        let tickets: Vec<_> = [3, 1, 2].into_iter().map(|after| queue.push(with(after))).collect();
        queue.remove(tickets[1]).unwrap();
        assert_eq!(queue.next_deadline(), Some((now + SLACK * 2, tickets[2])));
        queue.remove(tickets[2]).unwrap();
        assert_eq!(queue.next_deadline(), Some((now + SLACK * 3, tickets[0])));
        for _ in 0..10_000 {
            let ticket = queue.push(with(1000));
            queue.remove(ticket).unwrap();
        }
        assert!(queue.deadlines.len() <= 70, "{}", queue.deadlines.len());
    }

    #[test]
    fn places_are_reused() {
        let (mut queue, now) = queue(1);
        for _ in 0..100 {
            let pair = [queue.push(waiter(0, now)), queue.push(waiter(0, now))];
            assert!(pair.iter().all(|ticket| ticket.index() < 2));
            assert!(pair.iter().all(|ticket| queue.remove(*ticket).is_some()));
        }
    }
}
