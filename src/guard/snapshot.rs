//! What the gate looks like from outside: for metrics, the admin page and `/readyz`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::keys::{Key, KeyId};
use super::slots::Bound;
use super::terms::{GroupId, PoolId};

/// One pool now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoolSnapshot {
    /// Most server connections, as configured.
    pub size: usize,
    /// Most server connections now: fewer while PostgreSQL refuses more for a CONNECTION LIMIT. At least one.
    pub budget: usize,
    /// Servers in the stores.
    pub idle: usize,
    /// Servers with a client.
    pub active: usize,
    /// Dials under way.
    pub dialling: usize,
    /// Servers on their way out.
    pub closing: usize,
    /// Longest wait that it allows.
    pub max_wait: Duration,
    /// Clients in the queue.
    pub waiting: usize,
    /// How long the oldest of them has waited. Zero without waiters.
    pub oldest_wait: Duration,
    /// For how long the queue of a function has never been empty; the longest of all functions.
    pub standing: Duration,
    /// Connection-time that its clients have had since the start, in seconds.
    pub busy: f64,
    /// How long they hold a connection on the mean, lately. None: none has yet.
    pub mean_hold: Option<Duration>,
    /// Waiters that were served and would have been refused early if that were enforced, since the start.
    pub observed: u64,
    /// Dials failed in a row for a cause of the pool's own.
    pub dial_failures: u32,
    /// When the pool's own back-off ends or ended. None: none since the last success.
    pub backing_off_until: Option<Instant>,
    /// Since when the server refuses the pool's logins while it has no server alive.
    pub refused_since: Option<Instant>,
}

/// One function of a pool now.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionSnapshot {
    /// Its name; `other` for those that share a place.
    pub name: Arc<str>,
    /// Servers that it holds.
    pub active: usize,
    /// Its clients in the queue.
    pub waiting: usize,
    /// Connection-time that it has had since it was first seen, in seconds.
    pub held: f64,
    /// Transactions that were not admitted since then.
    pub sheds: u64,
    /// Transactions that were admitted and are over since then.
    pub done: u64,
    /// How long those that were admitted since then have waited, in seconds.
    pub waited: f64,
}

/// One group now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// Most server connections.
    pub max_connections: usize,
    /// Servers in the stores.
    pub idle: usize,
    /// Servers with a client.
    pub active: usize,
    /// Dials under way.
    pub dialling: usize,
    /// Servers on their way out.
    pub closing: usize,
}

/// The upstream now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamSnapshot {
    /// Most server connections, as configured.
    pub max_connections: usize,
    /// Most server connections now: fewer while PostgreSQL has no more slots for us. At least one.
    pub budget: usize,
    /// Servers in the stores.
    pub idle: usize,
    /// Servers with a client.
    pub active: usize,
    /// Dials under way.
    pub dialling: usize,
    /// Servers on their way out.
    pub closing: usize,
    /// Clients in the queues of all pools.
    pub waiting: usize,
    /// What arrivals are told.
    pub breaker: Breaker,
    /// Since when dials fail to reach it while none of its connections is alive.
    pub failing_since: Option<Instant>,
    /// Dials failed in a row because the server could not be reached, or had no slot left.
    pub dial_failures: u32,
    /// When the back-off of all pools ends or ended. None: none since the last success.
    pub backing_off_until: Option<Instant>,
    /// When the rate of dials and the throttle let the next one start, or did. None: they never held one back.
    pub next_dial_at: Option<Instant>,
    /// No transaction is admitted any more.
    pub draining: bool,
    /// Events of the caller that contradicted the gate's books. Anything but zero is a bug.
    pub misuses: u64,
}

/// What becomes of arrivals, given what is known of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// They are let in: the server is there, or has not been missing for long.
    Closed,
    /// They are refused at once: none of its connections is alive, and dials have failed for `fail_fast_after`.
    Open,
    /// The same, but a dial finds out whether the server is back, or the next arrival will be the reason for one.
    HalfOpen,
}

impl Breaker {
    /// Every state, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The metric's and the log's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Gate {
    /// One pool now.
    pub fn snapshot(&self, now: Instant, pool: PoolId) -> PoolSnapshot {
        let bound = self.slots.pool(pool);
        let counts = bound.counts;
        let oldest = self.waiting_since(pool).map(|arrived| now.saturating_duration_since(arrived));
        PoolSnapshot {
            size: bound.max,
            budget: bound.limit(),
            idle: counts.idle,
            active: counts.active,
            dialling: counts.dialling,
            closing: counts.closing,
            max_wait: self.pools[pool.index()].limits.max_wait,
            waiting: self.queue.waiting(pool),
            standing: self.pools[pool.index()].keys.standing(now),
            busy: self.pools[pool.index()].keys.busy(now),
            mean_hold: self.pools[pool.index()].keys.mean_hold(),
            observed: self.pools[pool.index()].observed,
            oldest_wait: oldest.unwrap_or_default(),
            dial_failures: self.dialer.pool_failures(pool),
            backing_off_until: self.dialer.pool_backing_off_until(pool),
            refused_since: self.dialer.refused_since(pool),
        }
    }

    /// The pool's functions now, in no order; at most [`super::EXACT_KEYS`] and [`super::SHARED_KEYS`].
    pub fn functions(&self, now: Instant, pool: PoolId) -> Vec<FunctionSnapshot> {
        let snapshot = |(id, key): (KeyId, &Key)| FunctionSnapshot {
            name: Arc::clone(&key.name),
            active: key.active,
            waiting: self.queue.waiting_of(pool, id),
            held: key.held(now),
            sheds: key.sheds,
            done: key.done,
            waited: key.waited,
        };
        self.pools[pool.index()].keys.iter().map(snapshot).collect()
    }

    /// One group now.
    pub fn snapshot_group(&self, group: GroupId) -> GroupSnapshot {
        let Bound { counts, max, .. } = *self.slots.group(group);
        GroupSnapshot {
            max_connections: max,
            idle: counts.idle,
            active: counts.active,
            dialling: counts.dialling,
            closing: counts.closing,
        }
    }

    /// The whole upstream now.
    pub fn snapshot_upstream(&self, now: Instant) -> UpstreamSnapshot {
        let bound = self.slots.upstream();
        let counts = bound.counts;
        UpstreamSnapshot {
            max_connections: bound.max,
            budget: bound.limit(),
            idle: counts.idle,
            active: counts.active,
            dialling: counts.dialling,
            closing: counts.closing,
            waiting: self.slots.pools().map(|pool| self.queue.waiting(pool)).sum(),
            breaker: self.dialer.breaker(now, counts.dialling),
            failing_since: self.dialer.down_since(),
            dial_failures: self.dialer.failures(),
            backing_off_until: self.dialer.backing_off_until(),
            next_dial_at: self.dialer.next_dial_at(),
            draining: self.draining,
            misuses: self.misuses,
        }
    }
}
