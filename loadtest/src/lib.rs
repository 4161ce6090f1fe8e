//! Load for PostgreSQL poolers: function instances by the thousand, a throw-away PostgreSQL, comparisons.
//!
//! [`plan`] says what is fired, [`run`] fires it with the clients of [`client`], [`observe`] asks PostgreSQL what it saw of
//! that, [`leg`] is what is kept, and [`report`] what is made of it. [`postgres`] starts a server of its own and
//! [`poolers`] the poolers before it; neither leaves anything behind.

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
