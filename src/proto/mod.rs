//! The protocol's machines: pure, an event goes in and what to do about it comes out.

pub mod audit;
pub mod auth;
pub mod function;
pub mod ledger;
pub mod messages;
pub mod parameters;
mod params;
pub mod pin;
pub mod sql;
pub mod startup;
pub mod statements;
pub mod trace;

pub use params::{AuthMethod, ClientTlsMode, UserParams, UserSecret};
