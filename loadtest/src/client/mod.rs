//! A light PostgreSQL client, made to misbehave on purpose: it can stop reading in the middle of a reply, leave
//! without a word or with a reset, and say good-bye behind a query that is still running.
//!
//! [`Target`] is a parsed DSN; [`Session`] is one connection of one function instance; [`Failure`] is why something
//! was not served. The engine and the probe use it. It knows nothing of plans but what they call protocols and ends.

mod failure;
mod leaving;
mod session;
mod target;

pub use failure::{Failure, ServerError};
pub use leaving::Silent;
pub use session::{ConnectTimes, Identity, Reply, Session};
pub use target::{Target, TargetError};
