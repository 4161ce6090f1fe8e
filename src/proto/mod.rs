//! (to come)

pub mod auth;
pub mod messages;
pub mod startup;
