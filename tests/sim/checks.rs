//! What must hold whatever happens. It sees the gate from outside, and nothing of the world's plans.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pgcorral::guard::{PoolSnapshot, Ticket};

/// The longest that anybody may wait: `burst_wait`, and how late a look at the queue may be.
const LONGEST: Duration = Duration::from_millis(6000 + 150);

pub struct Checks {
    size: usize,
    waiting: HashMap<Ticket, Instant>,
}

impl Checks {
    pub fn new(size: usize) -> Self {
        Checks { size, waiting: HashMap::new() }
    }

    pub fn queued(&mut self, ticket: Ticket, now: Instant) {
        assert!(self.waiting.insert(ticket, now).is_none(), "a ticket was given twice");
    }

    pub fn ended(&mut self, ticket: Ticket, now: Instant) {
        let arrived = self.waiting.remove(&ticket).expect("a ticket ends once");
        assert!(now - arrived <= LONGEST, "it waited for {:?}", now - arrived);
    }

    pub fn look(&self, pool: &PoolSnapshot, now: Instant) {
        let PoolSnapshot { idle, active, dialling, closing, waiting, .. } = *pool;
        assert!(idle + active + dialling + closing <= self.size, "more servers than there may be: {pool:?}");
        assert_eq!(waiting, self.waiting.len(), "the queue's length is wrong");
        assert!(waiting == 0 || idle == 0, "a waiter beside an idle server: {pool:?}");
        assert!(pool.oldest_wait <= LONGEST, "somebody is forgotten at {now:?}: {pool:?}");
    }
}
