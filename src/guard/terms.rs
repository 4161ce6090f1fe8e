//! The words the gate and its shell speak: parameters, names, decisions and orders.

use std::fmt;
use std::time::Duration;

use super::keys::KeyId;
use super::queue::Ticket;

/// With no server alive, waiting is pointless after this long: three times the longest failover of a proxy in front
/// of PostgreSQL on the same network, and shorter than the usual timeout of a function.
pub const FAIL_FAST_AFTER: Duration = Duration::from_secs(3);

/// A server goes to a waiter of its own I/O thread unless another has waited this much longer. About the cost of a few
/// transactions: enough to save most wake-ups across threads, too little for a client to notice.
pub const LOCALITY_SLACK: Duration = Duration::from_millis(2);

/// An idle server used within this time stays with its pool, unless the pool that wants it has fewer servers. Without
/// it a busy pool would take a quiet one's only server between two of its transactions, and pay a dial for each.
pub const RECLAIM_AFTER: Duration = Duration::from_secs(1);

/// Parameters of the gate of one upstream server.
#[derive(Debug, Clone)]
pub struct GateParams {
    /// Most server connections over all pools, in any state.
    pub max_connections: usize,
    /// Those of them that only pools may use of which [`Gate::let_use_reserve`](super::Gate::let_use_reserve) was said. The
    /// others have at least one.
    pub reserved_connections: usize,
    /// Most dials under way at once, over all pools.
    pub max_dials: usize,
    /// Most dials in a second, over all pools, beyond `dial_burst`. At least one.
    pub dial_rate: u32,
    /// Dials that may start without regard to the rate after a time without any. At least one.
    pub dial_burst: u32,
    /// Back-off after the first failed dial. Jittered in [½, 1].
    pub dial_backoff_min: Duration,
    /// Longest back-off; it doubles up to here. Also how late a recovered server may be noticed.
    pub dial_backoff_max: Duration,
    /// After this long without a server and with failing dials, arrivals are shed at once. See [`FAIL_FAST_AFTER`].
    pub fail_fast_after: Duration,
    /// I/O threads, each with a store of idle servers. At least one.
    pub homes: usize,
    /// See [`LOCALITY_SLACK`].
    pub locality_slack: Duration,
    /// See [`RECLAIM_AFTER`].
    pub reclaim_after: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

/// Limits of the upstream that may change while it runs; see [`GateParams`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamLimits {
    /// Most server connections over all pools, in any state.
    pub max_connections: usize,
    /// Those of them that only some pools may use.
    pub reserved_connections: usize,
    /// Most dials under way at once, over all pools.
    pub max_dials: usize,
    /// Most dials in a second, over all pools, beyond `dial_burst`.
    pub dial_rate: u32,
    /// Dials that may start without regard to the rate after a time without any.
    pub dial_burst: u32,
}

/// Whether waiters are refused before their time has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// They are, when the queue shows that it is of no use to wait.
    Enforce,
    /// They are counted, and wait first in, first out, for up to `max_wait`.
    Observe,
}

/// Who wants a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The thread that its task lives on.
    pub home: Home,
    /// The function that it belongs to.
    pub key: KeyId,
    /// Its number in the draw that decides who is served while a queue is long standing. The same for one client over
    /// a long time.
    pub lot: u32,
    /// How long it wants to wait at most. None: it has not said.
    pub patience: Option<Duration>,
    /// The transaction is to be over by then, too.
    pub works_by_then: bool,
    /// It is inside a transaction as it sees it: it is not refused early, and goes before others of its function.
    pub urgent: bool,
}

/// Limits of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most server connections, in any state.
    pub size: usize,
    /// Server connections (idle, active or being dialled) kept even without clients, where there is room.
    pub min_idle: usize,
    /// Most waiters; the next arrival is shed with [`ShedReason::QueueFull`].
    pub max_waiting: usize,
    /// Longest wait; then [`ShedReason::QueueTimeout`], or what is known about the server. Shorter while the queue is
    /// standing.
    pub max_wait: Duration,
    /// Longest wait while the queue gets shorter so fast that everybody in it is served within this time.
    pub burst_wait: Duration,
    /// Whether waiters are refused before their time has run out.
    pub admission: Admission,
    /// Most servers that are active at once, of those that the pool may have. None: all.
    pub active_limit: Option<usize>,
}

impl PoolLimits {
    /// A burst may wait for as long as anybody.
    pub(super) fn consistent(self) -> Self {
        Self { burst_wait: self.burst_wait.max(self.max_wait), ..self }
    }
}

/// A pool of this gate: the server connections of one (database, user).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub(super) u32);

/// A group of pools under one bound: a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub(super) u32);

/// The I/O thread that a client or a server connection lives on. Less than [`GateParams::homes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Home(pub u16);

impl PoolId {
    /// Position in the order of `add_pool`, from zero: an index for the shell's own tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl GroupId {
    /// Position in the order of `add_group`, from zero.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Home {
    /// The thread's number, from zero.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Why a transaction was not admitted. The word of the error's DETAIL, the metric's label and the log's field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShedReason {
    /// Waited for `max_wait`; the servers were busy with others. 53300.
    QueueTimeout,
    /// `max_waiting` others wait already. 53300.
    QueueFull,
    /// A server would come too late for the client, or not before the longest wait. 53300.
    Estimate,
    /// The server cannot be reached and none of its connections is alive. 57P03.
    ServerDown,
    /// The server answers, and refuses this pool's logins (password, database, role). 57P03.
    ServerRefused,
    /// The proxy is going down. 57P03.
    Draining,
}

impl ShedReason {
    /// Every reason, in the order of declaration.
    pub const ALL: &[ShedReason] = &[
        Self::QueueTimeout,
        Self::QueueFull,
        Self::Estimate,
        Self::ServerDown,
        Self::ServerRefused,
        Self::Draining,
    ];

    /// The reason's one name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueTimeout => "queue_timeout",
            Self::QueueFull => "queue_full",
            Self::Estimate => "estimate",
            Self::ServerDown => "server_down",
            Self::ServerRefused => "server_refused",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for ShedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose fault a failed dial is. It decides who backs off, and whether anybody is told that the server is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialCause {
    /// No connection, no answer in time, a lost connection, or `57P03` (starting up, shutting down): the upstream is at
    /// fault, and all its pools back off.
    Unreachable,
    /// The server answered with an error for this pool (`28P01`, `28000`, `3D000`, …), or TLS failed: the pool backs off.
    Refused,
    /// `53300` from PostgreSQL for its `max_connections`: the upstream's budget becomes what is there now, and nobody is
    /// told that the server is down.
    TooManyConnections,
    /// `53300` for a role's or a database's CONNECTION LIMIT: the same for the pool alone.
    ConnectionLimit,
    /// This process has no file descriptor left: the pool backs off. Says nothing about the server.
    NoFiles,
}

/// What becomes of a client that wants a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Arrival {
    /// Take an idle server from the store of this home. It is active now.
    Granted {
        /// Whose store: the client's own home if it has one.
        from: Home,
    },
    /// Wait: for [`Placement::Hand`] or [`Action::Shed`] with this ticket.
    Queued(Ticket),
    /// Not admitted; when trying again is of use, to be jittered.
    Shed(ShedReason, Duration),
}

/// What becomes of a server that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Placement {
    /// It is active for this waiter. The ticket has ended.
    Hand(Ticket),
    /// It is idle: put it into the store of its home.
    Store,
    /// Close it, then say `closed`.
    Close,
}

/// What the gate orders. All orders of an event are to be carried out, in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// This waiter is not admitted. The ticket has ended.
    Shed {
        /// Whose.
        ticket: Ticket,
        /// Why.
        reason: ShedReason,
        /// Since its arrival.
        waited: Duration,
        /// When trying again is of use, to be jittered.
        retry_after: Duration,
    },
    /// Take an idle server from the store of this home: it is active for this waiter. The ticket has ended.
    Grant {
        /// Whose.
        ticket: Ticket,
        /// Of which pool.
        pool: PoolId,
        /// From which store.
        from: Home,
    },
    /// Connect and log in to the server, then say `dialled` or `dial_failed` with the same pool and home.
    Dial {
        /// For which pool.
        pool: PoolId,
        /// On which thread.
        home: Home,
    },
    /// Take an idle server from the store of this home and close it, then say `closed`.
    CloseIdle {
        /// Of which pool.
        pool: PoolId,
        /// From which store.
        home: Home,
    },
}
