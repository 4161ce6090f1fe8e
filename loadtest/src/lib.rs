//! Load for PostgreSQL poolers: a throw-away PostgreSQL, storms of cold invocations, comparisons of proxies.
//!
//! [`postgres`] starts a server of its own on a free port and leaves nothing behind; [`binaries`], [`account`] and
//! [`scratch`] are what it stands on. [`storm`] fires invocations at a server or proxy, [`backends`] counts what
//! PostgreSQL saw of them, and [`table`] shows it.

pub mod account;
pub mod backends;
pub mod binaries;
pub mod calibrate;
pub mod client;
pub mod document;
pub mod functions;
pub mod leg;
pub mod limits;
pub mod machine;
pub mod observe;
pub mod plan;
pub mod plans;
pub mod poolers;
pub mod postgres;
pub mod probe;
pub mod report;
pub mod run;
pub mod scratch;
pub mod table;
