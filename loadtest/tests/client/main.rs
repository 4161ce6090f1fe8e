//! The client against a real PostgreSQL, and against servers that no real one is as bad as.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy.toml exempts only `#[test]`"
)]

mod hostile;
mod logins;
mod sessions;
mod stub;
mod support;
