//! The protocol's machines: pure, an event goes in and what to do about it comes out.

pub mod ledger;
pub mod parameters;
