//! Whose turn it is to log in.
//!
//! A login costs the proxy a TLS handshake and a proof of identity, so only so many are under way at once; others wait. Pure:
//! events go in, tickets whose turn it is come out. The next one is of the address that has fewest logins under way, and
//! among these of the one that was served longest ago; within an address users take turns; of one user the oldest is first.
//! So a thousand connects of one address keep another waiting for one place and not for a thousand.
//!
//! An address comes before a user because nobody has proved yet who it is: names can be invented, addresses hardly.

use std::collections::{BTreeSet, HashMap};

/// The most that one address may take of the places and of the waiting room, in fifths: the last one is never its own.
const MOST: usize = 4;
const FIFTHS: usize = 5;

/// Who comes, as hashes: so many addresses and users can be told apart that no two are mistaken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comer {
    /// Where it comes from.
    pub address: u64,
    /// The user that it claims to be; one value for all that have not said.
    pub user: u64,
}

/// A login that waits. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginTicket(u64);

/// What becomes of a login that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginArrival {
    /// It is its turn.
    Granted,
    /// It waits.
    Queued(LoginTicket),
    /// Too many wait, of its address or of all.
    Full,
}

/// The places for logins under way, and who waits for one.
#[derive(Debug)]
pub struct LoginQueue {
    places: usize,
    max_waiting: usize,
    taken: usize,
    waiting: usize,
    addresses: HashMap<u64, Address>,
    /// Addresses whose turn may come, the next one first: by logins under way, by when they were served last, and their key.
    eligible: BTreeSet<(usize, u64, u64)>,
    /// Counts what happens; gives tickets, and the times of turns.
    clock: u64,
}

/// What is under way from one address, and who waits. Kept only while there is either.
#[derive(Debug, Default)]
struct Address {
    under_way: usize,
    waiting: usize,
    served: u64,
    users: HashMap<u64, User>,
    /// Users that wait, the next one first: by when they were served last.
    turns: BTreeSet<(u64, u64)>,
}

#[derive(Debug, Default)]
struct User {
    served: u64,
    tickets: BTreeSet<LoginTicket>,
}

impl LoginQueue {
    /// So many logins under way at once, one at least, and so many that wait.
    pub fn new(places: usize, max_waiting: usize) -> Self {
        Self {
            places: places.max(1),
            max_waiting,
            taken: 0,
            waiting: 0,
            addresses: HashMap::new(),
            eligible: BTreeSet::new(),
            clock: 0,
        }
    }

    /// Another bound on those that wait. Who waits already stays.
    pub fn set_max_waiting(&mut self, max_waiting: usize) {
        self.max_waiting = max_waiting;
    }

    /// Logins that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// A login arrives. Granted, it is to be ended with [`LoginQueue::ended`].
    pub fn arrive(&mut self, comer: Comer) -> LoginArrival {
        let (most_places, most_waiting) = (most(self.places), most(self.max_waiting));
        let address = self.addresses.entry(comer.address).or_default();
        // Nobody who may have a place waits while there is one.
        let granted = self.taken < self.places && address.under_way < most_places;
        if !granted && (self.waiting >= self.max_waiting || address.waiting >= most_waiting) {
            self.forget_if_empty(comer.address);
            return LoginArrival::Full;
        }
        self.clock += 1;
        if granted {
            self.taken += 1;
            address.under_way += 1;
            address.served = self.clock;
            return LoginArrival::Granted;
        }
        let ticket = LoginTicket(self.clock);
        self.change(comer.address, |address| address.push(comer.user, ticket));
        self.waiting += 1;
        LoginArrival::Queued(ticket)
    }

    /// A login that waits has been given up. Not to be called once it was granted.
    pub fn gave_up(&mut self, comer: Comer, ticket: LoginTicket) {
        let was_there = self.change(comer.address, |address| address.remove(comer.user, ticket));
        self.waiting -= usize::from(was_there);
        self.forget_if_empty(comer.address);
    }

    /// A login that was under way has ended. Returns whose turn it is now.
    #[must_use = "whose turn it is waits to be told"]
    pub fn ended(&mut self, comer: Comer) -> Option<LoginTicket> {
        self.taken = self.taken.saturating_sub(1);
        self.change(comer.address, |address| address.under_way = address.under_way.saturating_sub(1));
        self.forget_if_empty(comer.address);
        self.next()
    }

    fn next(&mut self) -> Option<LoginTicket> {
        if self.taken >= self.places {
            return None;
        }
        let (_, _, key) = *self.eligible.first()?;
        self.clock += 1;
        let now = self.clock;
        let ticket = self.change(key, |address| {
            let ticket = address.pop(now)?;
            address.under_way += 1;
            address.served = now;
            Some(ticket)
        })?;
        self.taken += 1;
        self.waiting -= 1;
        Some(ticket)
    }

    /// Changes an address, with its place among the others kept up.
    fn change<R: Default>(&mut self, key: u64, act: impl FnOnce(&mut Address) -> R) -> R {
        let most_places = most(self.places);
        let Some(address) = self.addresses.get_mut(&key) else { return R::default() };
        self.eligible.remove(&(address.under_way, address.served, key));
        let result = act(address);
        if address.waiting > 0 && address.under_way < most_places {
            self.eligible.insert((address.under_way, address.served, key));
        }
        result
    }

    fn forget_if_empty(&mut self, key: u64) {
        if self.addresses.get(&key).is_some_and(|address| address.under_way == 0 && address.waiting == 0) {
            self.addresses.remove(&key);
        }
    }
}

/// What one address may have of so many; all of them if there are few.
fn most(places: usize) -> usize {
    (places * MOST).div_ceil(FIFTHS)
}

impl Address {
    fn push(&mut self, key: u64, ticket: LoginTicket) {
        let user = self.users.entry(key).or_default();
        user.tickets.insert(ticket);
        self.turns.insert((user.served, key));
        self.waiting += 1;
    }

    fn remove(&mut self, key: u64, ticket: LoginTicket) -> bool {
        let Some(user) = self.users.get_mut(&key) else { return false };
        if !user.tickets.remove(&ticket) {
            return false;
        }
        if user.tickets.is_empty() {
            self.turns.remove(&(user.served, key));
            self.users.remove(&key);
        }
        self.waiting -= 1;
        true
    }

    /// The oldest login of the user whose turn it is.
    fn pop(&mut self, now: u64) -> Option<LoginTicket> {
        let (_, key) = self.turns.pop_first()?;
        let user = self.users.get_mut(&key)?;
        let ticket = user.tickets.pop_first()?;
        user.served = now;
        if user.tickets.is_empty() {
            self.users.remove(&key);
        } else {
            self.turns.insert((now, key));
        }
        self.waiting -= 1;
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn comer(address: u64, user: u64) -> Comer {
        Comer { address, user }
    }

    /// Arrives; the ticket of one that has to wait.
    fn queued(queue: &mut LoginQueue, comer: Comer) -> LoginTicket {
        match queue.arrive(comer) {
            LoginArrival::Queued(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_crowd_keeps_another_address_waiting_for_one_place() {
        let mut queue = LoginQueue::new(10, 10_000);
        let crowd: Vec<_> = (0..1000).map(|_| queue.arrive(comer(1, 1))).collect();
        let granted = crowd.iter().filter(|arrival| **arrival == LoginArrival::Granted).count();
        assert_eq!((granted, queue.waiting()), (8, 992));
        // The last fifth is free for others.
        assert_eq!(queue.arrive(comer(2, 1)), LoginArrival::Granted);
        assert_eq!(queue.arrive(comer(2, 1)), LoginArrival::Granted);
        let third = queued(&mut queue, comer(2, 1));
        assert_eq!(queue.ended(comer(1, 1)), Some(third));
    }

    #[test]
    fn addresses_and_users_take_turns() {
        let mut queue = LoginQueue::new(1, 100);
        assert_eq!(queue.arrive(comer(9, 9)), LoginArrival::Granted);
        let mut names = HashMap::new();
        for (name, address, user) in
            [("a1", 1, 1), ("a2", 1, 1), ("a3", 1, 1), ("b1", 1, 2), ("c1", 2, 1), ("c2", 2, 1)]
        {
            names.insert(queued(&mut queue, comer(address, user)), (name, comer(address, user)));
        }
        let mut order = vec![];
        let mut last = comer(9, 9);
        while let Some(ticket) = queue.ended(last) {
            let (name, comer) = names[&ticket];
            order.push(name);
            last = comer;
        }
        assert_eq!(order, ["a1", "c1", "b1", "c2", "a2", "a3"]);
        assert!(queue.addresses.is_empty() && queue.eligible.is_empty());
    }

    #[test]
    fn one_that_gave_up_takes_no_turn() {
        let mut queue = LoginQueue::new(1, 100);
        assert_eq!(queue.arrive(comer(1, 1)), LoginArrival::Granted);
        let first = queued(&mut queue, comer(1, 1));
        let second = queued(&mut queue, comer(1, 1));
        queue.gave_up(comer(1, 1), first);
        queue.gave_up(comer(1, 1), first);
        assert_eq!(queue.waiting(), 1);
        assert_eq!(queue.ended(comer(1, 1)), Some(second));
        assert_eq!(queue.ended(comer(1, 1)), None);
    }

    #[test]
    fn another_bound_on_those_who_wait_is_kept_from_then_on() {
        let mut queue = LoginQueue::new(1, 2);
        assert!(matches!(queue.arrive(comer(1, 1)), LoginArrival::Granted));
        (2..4).for_each(|address| _ = queued(&mut queue, comer(address, 1)));
        assert!(matches!(queue.arrive(comer(4, 1)), LoginArrival::Full));
        queue.set_max_waiting(3);
        let _ = queued(&mut queue, comer(4, 1));
        assert!(matches!(queue.arrive(comer(5, 1)), LoginArrival::Full));
    }

    #[test]
    fn one_address_does_not_fill_the_waiting_room() {
        let mut queue = LoginQueue::new(1, 5);
        assert_eq!(queue.arrive(comer(1, 1)), LoginArrival::Granted);
        let crowd: Vec<_> = (0..5).map(|_| queue.arrive(comer(1, 1))).collect();
        assert_eq!(crowd[4], LoginArrival::Full);
        assert!(matches!(queue.arrive(comer(2, 1)), LoginArrival::Queued(_)));
        assert_eq!(queue.arrive(comer(3, 1)), LoginArrival::Full);
        assert_eq!(queue.addresses.len(), 2);
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Arrive(u64, u64),
        GiveUp(usize),
        End(usize),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            3 => (0..5_u64, 0..3_u64).prop_map(|(address, user)| Event::Arrive(address, user)),
            1 => any::<usize>().prop_map(Event::GiveUp),
            2 => any::<usize>().prop_map(Event::End),
        ];
        prop::collection::vec(event, 0..300)
    }

    proptest! {
        /// Places are never overdrawn, everybody is granted or gone once, nobody waits in vain, and nothing is left behind.
        #[test]
        fn whatever_happens(places in 1..12_usize, max_waiting in 0..20_usize, events in events()) {
            let mut queue = LoginQueue::new(places, max_waiting);
            let mut waiting: Vec<(LoginTicket, Comer)> = vec![];
            let mut under_way: Vec<Comer> = vec![];
            for event in events {
                let granted = match event {
                    Event::Arrive(address, user) => {
                        let comer = comer(address, user);
                        match queue.arrive(comer) {
                            LoginArrival::Granted => under_way.push(comer),
                            LoginArrival::Queued(ticket) => waiting.push((ticket, comer)),
                            LoginArrival::Full => prop_assert!(
                                waiting.len() >= max_waiting
                                    || waiting.iter().filter(|(_, other)| other.address == address).count()
                                        >= most(max_waiting)
                            ),
                        }
                        None
                    }
                    Event::GiveUp(at) if !waiting.is_empty() => {
                        let (ticket, comer) = waiting.remove(at % waiting.len());
                        queue.gave_up(comer, ticket);
                        None
                    }
                    Event::End(at) if !under_way.is_empty() => {
                        let comer = under_way.remove(at % under_way.len());
                        queue.ended(comer)
                    }
                    _ => None,
                };
                if let Some(ticket) = granted {
                    let at = waiting.iter().position(|(other, _)| *other == ticket);
                    prop_assert!(at.is_some(), "granted twice, or to one that is gone");
                    let (_, comer) = waiting.remove(at.unwrap());
                    let fewest = waiting.iter().map(|(_, other)| of(&under_way, other.address)).min();
                    prop_assert!(fewest.is_none_or(|fewest| of(&under_way, comer.address) <= fewest));
                    under_way.push(comer);
                }
                prop_assert!(under_way.len() <= places);
                prop_assert_eq!((queue.taken, queue.waiting()), (under_way.len(), waiting.len()));
                let in_vain = waiting.iter().any(|(_, other)| of(&under_way, other.address) < most(places));
                prop_assert!(under_way.len() == places || !in_vain, "somebody waits beside a free place");
            }
            while let Some(comer) = under_way.pop() {
                if let Some(ticket) = queue.ended(comer) {
                    let at = waiting.iter().position(|(other, _)| *other == ticket).unwrap();
                    under_way.push(waiting.remove(at).1);
                }
            }
            prop_assert!(waiting.is_empty() && queue.addresses.is_empty() && queue.eligible.is_empty());
        }
    }

    fn of(under_way: &[Comer], address: u64) -> usize {
        under_way.iter().filter(|comer| comer.address == address).count()
    }
}
