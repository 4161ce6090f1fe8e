//! The gate against a world that is made up: a virtual clock, callers in thousands, servers that crash, and one seed that
//! decides everything. No socket, no task, no real time: what takes half a minute of an overload takes a fraction of a
//! second here, and happens again in the same way.
//!
//! `plan` draws a world from a seed, `world` runs it, `checks` watches what the gate does and knows nothing of why. One
//! seed is run again by `PGCORRAL_SIM_SEED=n cargo test --test sim -- --nocapture one_seed`.

#![allow(
    clippy::expect_used,
    reason = "a test that cannot go on has failed; clippy.toml exempts only `#[test]`"
)]

mod checks;
mod experiments;
mod plan;
mod seeds;
mod world;
