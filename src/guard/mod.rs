//! Admission control: who gets a server connection, who waits, who is told to go away.
//!
//! [`Gate`] stands in front of the pools of *one* upstream PostgreSQL server. It is pure: events and `now` go in,
//! decisions and [`Action`]s come out. It knows no socket, task, clock or metric, so a stampede of 10^5 callers is
//! a unit test. `pool` calls it under a mutex, once or twice per transaction, and does what it orders.
//!
//! ```text
//!                        size of the pool ≤ max of its group ≤ max_connections of the upstream
//!
//!             Dial             dialled              Grant
//!   Vacant ─────────► Dialling ───────► Active ◄──────────── Idle
//!     ▲  ▲               │              │  │ └──── Store ──────►│
//!     │  └─ dial_failed ─┘              │  └ Hand: to a waiter  │
//!     │                  discard, Close ▼                       │
//!     └─────────── closed ─────────── Closing ◄── CloseIdle, take_idle
//! ```
//!
//! | event                | says                                           | decides                       | may order            |
//! |----------------------|------------------------------------------------|-------------------------------|----------------------|
//! | [`Gate::arrive`]     | a client starts a transaction                  | `Granted`, `Queued` or `Shed` | `Dial`, `CloseIdle`  |
//! | [`Gate::abandon`]    | a waiter's client went away or cancelled       | was it still waiting?         |                      |
//! | [`Gate::returned`]   | an active server is free again                 | `Hand`, `Store` or `Close`    | `Shed`               |
//! | [`Gate::dialled`]    | a dial succeeded                               | `Hand`, `Store` or `Close`    | `Shed`, `Dial`, `CloseIdle` |
//! | [`Gate::dial_failed`]| a dial failed, and whose fault it was          | how long to back off          | `Dial`, `CloseIdle`  |
//! | [`Gate::discard`]    | an active server is being closed               |                               | `Dial`, `CloseIdle`  |
//! | [`Gate::take_idle`]  | an idle server is to be closed (age, health)   | is there one?                 | `Dial`, `CloseIdle`  |
//! | [`Gate::closed`]     | a closing server's socket is gone              |                               | `Dial`, `CloseIdle`  |
//! | [`Gate::renew`]      | idle servers are soon too old                  | how many have a successor     | `Dial`, `CloseIdle`  |
//! | [`Gate::warm`]       | a login needs what a server says at its start  |                               | `Dial`, `CloseIdle`  |
//! | [`Gate::tick`]       | time has passed ([`Gate::poll_timeout`])       |                               | all                  |
//! | [`Gate::resize_pool`] and the like | a bound moved                    |                               | `Dial`, `CloseIdle`, `Grant` |
//! | [`Gate::drain`]      | the proxy is going down                        |                               | `Shed`, `CloseIdle`  |
//!
//! What holds after every event:
//! - `idle + active + dialling + closing` never grows beyond the bound of a pool, a group or the upstream;
//! - nothing waits while a server of its pool is idle, unless an active limit or a `max_share` keeps it from it;
//! - a ticket ends exactly once: handed a server, shed, or abandoned;
//! - a waiter without a dial under way is held up by a bound, by `max_dials`, by a back-off or by the rate of dials, and
//!   by nothing else.
//!
//! What is expected of the caller: idle servers are put into and taken from the stores under the same lock as the
//! decision about them; every `Dial` is answered by `dialled` or `dial_failed`, every `Close`, `CloseIdle`,
//! `discard` and `take_idle` by `closed`; and `tick` is called when `poll_timeout` says.

mod adaptive;
mod admission;
mod budget;
mod dialer;
mod gate;
mod hold;
mod keys;
mod login;
mod pace;
mod queue;
mod renewal;
mod share;
mod slots;
mod snapshot;
mod terms;
#[cfg(test)]
mod tests;
mod throttle;
mod trend;

pub use adaptive::{Adaptive, AdaptiveParams, AdaptiveSnapshot, Verdict};
pub use gate::Gate;
pub use keys::{EXACT_KEYS, KeyId, KeyTerms, SHARED_KEYS};
pub use login::{Comer, LoginArrival, LoginQueue, LoginTicket};
pub use queue::Ticket;
pub use snapshot::{Breaker, FunctionSnapshot, GroupSnapshot, PoolSnapshot, UpstreamSnapshot};
pub use terms::{
    Action, Admission, Arrival, Caller, DialCause, FAIL_FAST_AFTER, GateParams, GroupId, Home,
    LOCALITY_SLACK, Placement, PoolId, PoolLimits, RECLAIM_AFTER, ShedReason, UpstreamLimits,
};
