//! What holds when the configuration does not say, and the ranges of what it may say; each with its reason.
//! `config/pgcorral.toml` shows the defaults to users, and a test compares the two.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::model::Preflight;
use crate::client::AuthMethod;
use crate::guard::Admission;
use crate::limits::{Mode, Prefixes};
use crate::pool::{Abandoned, AdaptiveLimit, PoolMode, Reset};
use crate::proto::pin::PinPolicy;
use crate::trace::TraceProtocol;

/// Loopback only: a proxy that answers the whole network must be asked to. 6432 is the port that PgBouncer made known.
pub const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6432));

/// Who is on the machine may see how the proxy does.
pub const ADMIN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9432));

/// What PostgreSQL itself uses since version 14; neither side of it can be replayed.
pub const AUTH: AuthMethod = AuthMethod::ScramSha256;

/// Too large a pool is a fault of somebody; a proxy that does not start is an outage.
pub const PREFLIGHT: Preflight = Preflight::Warn;

/// PostgreSQL's port.
pub const UPSTREAM_PORT: u16 = 5432;

/// Ten thousand idle clients fit into 25 MiB. The limit of open files has to be raised for them, as for any more than
/// a thousand.
pub const MAX_CLIENTS: usize = 10_000;

/// Lets a stampede of a thousand log in at one go, and bounds what TLS and SCRAM keep for strangers to some 50 MiB.
pub const MAX_HANDSHAKES: usize = 1_000;

/// A thousand connects within a millisecond must not overflow the kernel's queue: each one lost costs its client a
/// second (the first retransmission of SYN). The kernel cuts it down to `net.core.somaxconn`, 4096 on Linux since 5.4.
pub const LISTEN_BACKLOG: u32 = 4096;

/// PgBouncer's `default_pool_size`. Enough to keep a server of four to eight cores busy.
pub const POOL_SIZE: usize = 20;

/// A quiet pool may shrink to nothing: a login needs no server connection once one has been up.
pub const MIN_POOL_SIZE: usize = 0;

/// What the proxy is for. PgBouncer's default is `session`, which multiplexes nothing.
pub const POOL_MODE: PoolMode = PoolMode::Transaction;

/// A memory guard and not a policy: `query_wait_timeout` sheds long before.
pub const MAX_WAITING: usize = 20_000;

/// A dial costs PostgreSQL a fork and a SCRAM exchange; four at once fill a pool of 20 within a few tens of
/// milliseconds and do not slow down the queries that run.
pub const MAX_DIALS: usize = 4;

/// A fork and a SCRAM exchange are some milliseconds of a core: about a quarter of one at this rate.
pub const DIAL_RATE: u32 = 50;

/// Two pools of 20 fill as fast as `max_dials` lets them; only who goes on dialling meets the rate.
pub const DIAL_BURST: u32 = 40;

/// One TLS record; two of PostgreSQL's output buffers. There is one for each I/O thread, and what a slow peer does not
/// take at once is kept in as much.
pub const PKT_BUF: usize = 16 << 10;

/// Slow enough for a client behind a lossy line, short enough to shake off those who only connect.
pub const CLIENT_LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Shorter than the usual timeout of a function (3 s), so that who is shed can still do something about it.
pub const QUERY_WAIT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Four times as long, where it is of use: a burst of a few seconds is served whole.
pub const BURST_WAIT_TIMEOUT: Duration = Duration::from_secs(6);

/// What the proxy is for.
pub const ADMISSION: Admission = Admission::Enforce;

/// It is an experiment on a running database, which only who runs it may order.
pub const ADAPTIVE_LIMIT: AdaptiveLimit = AdaptiveLimit::Off;

/// The cores that count are those of the database's machine, which the proxy does not know; hardly one has fewer.
pub const ADAPTIVE_MIN: usize = 4;

/// A server that takes longer than this to let one in is better treated as down.
pub const SERVER_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// PgBouncer's value: gives back what a backend has cached over time, and lets DNS changes through.
pub const SERVER_LIFETIME: Duration = Duration::from_secs(3600);

/// PgBouncer's value: a quiet pool shrinks, a busy one never does.
pub const SERVER_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// A cancel opens one more connection; whoever takes longer than for a login is not there.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than a function that is in use is frozen between two invocations, mostly.
pub const EVICT_IDLE: Duration = Duration::from_secs(60);

/// What Kubernetes and systemd grant between SIGTERM and SIGKILL, or less.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a query may take is known to whoever wrote it, and PostgreSQL has `statement_timeout`. PgBouncer's value.
pub const QUERY_TIMEOUT: Duration = Duration::ZERO;

/// As for a query: a transaction that works may take as long as it needs. PgBouncer's value.
pub const TRANSACTION_TIMEOUT: Duration = Duration::ZERO;

/// A function that is suspended inside a transaction holds its locks and its server connection until it is thawed, maybe
/// never. No living one pauses as long as this between two statements. PgBouncer's default is none.
pub const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// A suspended function is silent for minutes and goes on afterwards; it should not find its connection closed, and an
/// idle client costs next to nothing. PgBouncer's value.
pub const CLIENT_IDLE_TIMEOUT: Duration = Duration::ZERO;

/// Who takes nothing for this long, with a full socket before it, is suspended or gone, and its server connection waits
/// with it. A bad line rarely takes as long.
pub const CLIENT_STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// More than most functions ever ask for at once; what does not fit is written by a server connection that waits.
pub const CLIENT_SPOOL: usize = 256 << 10;

/// Enough for 256 clients that all leave a whole spool unread at one time, and no more memory than any machine has.
pub const MAX_SPOOL: usize = 64 << 20;

/// More distinct statements than most applications have; the others are forgotten again.
pub const STATEMENT_CACHE_ENTRIES: usize = 10_000;

/// Some 6.5 KiB for each of the entries; most statements are shorter.
pub const STATEMENT_CACHE_SIZE: usize = 64 << 20;

/// Nobody wants the result of a query whose client has vanished, and others wait for its server connection.
pub const ABANDONED: Abandoned = Abandoned::Cancel;

/// A reset after every transaction would cost each of them a round trip; what changes a session is seen, unless a function
/// does it.
pub const RESET: Reset = Reset::Auto;

/// PgBouncer's value since 1.24. More than most applications use often; each costs every backend that has it some tens
/// of KiB or more, for its plan.
pub const MAX_PREPARED_STATEMENTS: usize = 200;

/// Many drivers send everything as unnamed statements, and PostgreSQL would parse and plan it anew each time.
pub const PROMOTE_UNNAMED: bool = true;

/// With an identifier of its own in each request, a statement would never be the same twice.
pub const STRIP_TRACE_COMMENTS: bool = true;

/// As long as a server connection may be idle in its pool.
pub const PIN_TIMEOUT: Duration = Duration::from_secs(600);

/// However many clients keep one, half of a pool remains for transactions.
pub const PIN_BUDGET: f64 = 0.5;

/// Everything that works without the proxy works through it; `PIN_BUDGET` bounds what it may cost.
pub const PIN_POLICY: PinPolicy = PinPolicy::Allow;

/// What instances and versions of one function differ by, at the end of their `application_name`: `-v12`, `:1.2.3-rc.1`,
/// `/42`, a hash of seven digits or more, `:$LATEST`, the suffixes of Cloud Run (`-00012-tug`) and Kubernetes
/// (`-7d4b9c6f5d-x2x9k`), a UUID; and several of these.
pub const NAME_PATTERN: &str = r"(?i)([-_.:@/#](v?[0-9]+([._][0-9]+)*([-+.]?(alpha|beta|rc|dev|pre|build)[.-]?[0-9]*)?|(sha256:)?[0-9a-f]{7,}|\$latest|[0-9]{5}-[a-z]{3}|[b-df-hj-np-tv-z2-9]{6,10}-[b-df-hj-np-tv-z2-9]{5}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}))+$";

/// What collectors listen for first, and what one connection is enough for.
pub const TRACE_PROTOCOL: TraceProtocol = TraceProtocol::Grpc;

/// One in a hundred shows how it is as a rule; what is not as a rule is recorded anyway.
pub const TRACE_SAMPLE: f64 = 0.01;

/// A quarter of a second more is what people notice.
pub const TRACE_SLOW_WAIT: Duration = Duration::from_millis(250);

/// Texts may tell of what nobody but the application should know, even without their constants.
pub const TRACE_QUERY_TEXT: bool = false;

/// By what the proxy is found among other services.
pub const TRACE_SERVICE_NAME: &str = "pgcorral";

/// A collector is near. OTLP's own default is 10 s, in which more would have to be dropped.
pub const TRACE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whoever writes a limit wants it kept.
pub const LIMIT_MODE: Mode = Mode::Enforce;

/// What one subscriber or one cloud network has, more or less.
pub const NETWORK: Prefixes = Prefixes { ipv4: 24, ipv6: 64 };

/// Some hundred bytes each; more functions, or attackers, come at one time only where a network is the better key.
pub const MAX_LIMIT_KEYS: usize = 10_000;

/// PostgreSQL's own bound on backends (`MAX_BACKENDS`, 2^18 - 1, in `src/include/postmaster/postmaster.h`).
pub(super) const SERVER_CONNECTIONS: RangeInclusive<usize> = 1..=262_143;

/// Each client is an open file; the kernel's usual bound for a process (`fs.nr_open`) is 2^20.
pub(super) const CLIENTS: RangeInclusive<usize> = 1..=1 << 20;

/// Nobody waits who is not a client. Zero: no queue, whoever finds no idle server is shed.
pub(super) const WAITING: RangeInclusive<usize> = 0..=1 << 20;

/// More than this at once is the stampede that the proxy is there to prevent.
pub(super) const DIALS: RangeInclusive<usize> = 1..=1024;

/// A function that weighs more than a thousand others is a pool of its own.
pub(super) const WEIGHTS: RangeInclusive<usize> = 1..=1000;

/// The same as of `DIALS`, in a second.
pub(super) const DIAL_RATES: RangeInclusive<usize> = 1..=10_000;

/// The kernel keeps `somaxconn` in 16 bits on older Linux.
pub(super) const BACKLOG: RangeInclusive<usize> = 1..=65_535;

/// More threads than any machine has cores.
pub(super) const THREADS: RangeInclusive<usize> = 1..=1024;

/// Below, an error message that is looked into might not fit; above, it no longer fits a processor's cache.
pub(super) const BUFFER: RangeInclusive<usize> = 16 << 10..=1 << 20;

/// Zero: replies wait for their client. Above, a single client that does not read takes all that there is by default.
pub(super) const CLIENT_SPOOLS: RangeInclusive<usize> = 0..=64 << 20;

/// Above, a unit was mistyped: nobody keeps so much for clients that do not read.
pub(super) const MAX_SPOOLS: RangeInclusive<usize> = 0..=64 << 30;

/// Below, statements would be forgotten before they come again; above, nobody prepares so many that come again.
pub(super) const CACHE_ENTRIES: RangeInclusive<usize> = 100..=1_000_000;

/// Below, a few long statements fill it; above, a unit was mistyped.
pub(super) const CACHE_SIZES: RangeInclusive<usize> = 1 << 20..=4 << 30;

/// Above, a single rule takes more memory than all clients.
pub(super) const LIMIT_KEYS: RangeInclusive<usize> = 1..=1_000_000;

/// Zero: statements pass as they come. Above, the plans of a single backend take gigabytes.
pub(super) const PREPARED_STATEMENTS: RangeInclusive<usize> = 0..=10_000;
