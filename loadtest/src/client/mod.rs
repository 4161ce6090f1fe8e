//! A light PostgreSQL client, made to misbehave on purpose: it can stop reading in the middle of a reply, leave
//! without a word or with a reset, and say good-bye behind a query that is still running.
//!
//! [`Target`] is a parsed DSN; [`Session`] is one connection of one function instance; [`Failure`] is why something
//! was not served. The engine and the probe use it. It knows nothing of plans but what they call protocols and ends,
//! sets no timeouts but those of the DSN, and never retries.

mod address;
mod dsn;
mod failure;
mod inbox;
mod leaving;
mod login;
mod raw;
mod scram;
mod session;
mod statements;
mod stream;
mod target;
mod tls;
mod wire;

pub use failure::{Failure, ServerError};
pub use leaving::Silent;
pub use login::Identity;
pub use session::{ConnectTimes, Reply, Session};
pub use target::{Target, TargetError};
