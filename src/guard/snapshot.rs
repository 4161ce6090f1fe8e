//! What the gate looks like from outside: for metrics, the admin page and `/readyz`.

use std::time::{Duration, Instant};

use super::gate::Gate;
use super::slots::Bound;
use super::terms::{GroupId, PoolId};

/// One pool now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// Most server connections.
    pub size: usize,
    /// Servers in the stores.
    pub idle: usize,
    /// Servers with a client.
    pub active: usize,
    /// Dials under way.
    pub dialling: usize,
    /// Servers on their way out.
    pub closing: usize,
    /// Clients in the queue.
    pub waiting: usize,
    /// How long the oldest of them has waited. Zero without waiters.
    pub oldest_wait: Duration,
    /// Dials failed in a row for a cause of the pool's own.
    pub dial_failures: u32,
    /// When the pool's own back-off ends or ended. None: none since the last success.
    pub backing_off_until: Option<Instant>,
    /// Since when the server refuses the pool's logins while it has no server alive.
    pub refused_since: Option<Instant>,
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
    /// Clients in the queues of all pools.
    pub waiting: usize,
    /// What is known of the server.
    pub state: UpstreamState,
    /// Dials failed in a row because the server could not be reached.
    pub dial_failures: u32,
    /// When the back-off of all pools ends or ended. None: none since the last success.
    pub backing_off_until: Option<Instant>,
    /// No transaction is admitted any more.
    pub draining: bool,
    /// Events of the caller that contradicted the gate's books. Anything but zero is a bug.
    pub misuses: u64,
}

/// What is known of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamState {
    /// No dial has failed to reach it since the last success.
    Up,
    /// Dials fail to reach it; others of its connections are alive, or it has not been long.
    Failing,
    /// None of its connections is alive and dials have failed for `fail_fast_after`: arrivals are shed at once.
    Down {
        /// The first failure without a live connection.
        since: Instant,
    },
}

impl UpstreamState {
    /// The metric's and the log's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Failing => "failing",
            Self::Down { .. } => "down",
        }
    }
}

impl Gate {
    /// One pool now.
    pub fn snapshot(&self, now: Instant, pool: PoolId) -> PoolSnapshot {
        let Bound { counts, max } = *self.slots.pool(pool);
        let oldest = self.waiting_since(pool).map(|arrived| now.saturating_duration_since(arrived));
        PoolSnapshot {
            size: max,
            idle: counts.idle,
            active: counts.active,
            dialling: counts.dialling,
            closing: counts.closing,
            waiting: self.queue.waiting(pool),
            oldest_wait: oldest.unwrap_or_default(),
            dial_failures: self.dialer.pool_failures(pool),
            backing_off_until: self.dialer.pool_backing_off_until(pool),
            refused_since: self.dialer.refused_since(pool),
        }
    }

    /// One group now.
    pub fn snapshot_group(&self, group: GroupId) -> GroupSnapshot {
        let Bound { counts, max } = *self.slots.group(group);
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
        let Bound { counts, max } = *self.slots.upstream();
        UpstreamSnapshot {
            max_connections: max,
            idle: counts.idle,
            active: counts.active,
            dialling: counts.dialling,
            closing: counts.closing,
            waiting: self.slots.pools().map(|pool| self.queue.waiting(pool)).sum(),
            state: self.upstream_state(now),
            dial_failures: self.dialer.failures(),
            backing_off_until: self.dialer.backing_off_until(),
            draining: self.draining,
            misuses: self.misuses,
        }
    }

    fn upstream_state(&self, now: Instant) -> UpstreamState {
        match self.dialer.down_since() {
            Some(since) if self.dialer.hopelessly_down(now) => UpstreamState::Down { since },
            _ if self.dialer.failures() > 0 => UpstreamState::Failing,
            _ => UpstreamState::Up,
        }
    }
}
