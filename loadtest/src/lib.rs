//! Load for PostgreSQL poolers: a throw-away PostgreSQL, storms of cold invocations, comparisons of proxies.
//!
//! [`postgres`] starts a server of its own on a free port and leaves nothing behind; [`binaries`], [`account`] and
//! [`scratch`] are what it stands on.

pub mod account;
pub mod binaries;
pub mod postgres;
pub mod scratch;
