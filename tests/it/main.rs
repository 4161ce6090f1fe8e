//! Everything that needs a real PostgreSQL: the proxy as a process, a server as its oracle.
//!
//! The harness is libtest-mimic, so that the shared servers are started by the first test that needs them and are
//! gone, with their files, when `main` ends.

#![allow(
    clippy::expect_used,
    reason = "a test that cannot go on has failed; clippy.toml exempts only `#[test]`"
)]

mod abandoned;
mod cancels;
mod check;
mod conformance;
mod container;
mod contract;
mod corners;
mod cuts;
mod dashboards;
mod dialling;
mod drivers;
mod faults;
mod harness;
mod limits;
mod login;
mod logins_gate;
mod modes;
mod network;
mod page;
mod pieces;
mod pins;
mod poolers;
mod queue;
mod regressions;
mod reload;
mod retry_snippets;
mod session_state;
mod statements;
mod storm;
mod support;
mod timeouts;
mod traces;
mod transports;
mod watching;

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use support::ground::Ground;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    // The storms open a thousand sockets, and an ordinary user's soft limit is often 1024.
    loadtest::limits::raise_open_files(4096).expect("enough open files");
    let ground = Arc::new(Ground::default());
    let mut trials = Vec::new();
    trials.extend(harness::trials(&ground));
    trials.extend(conformance::trials(&ground));
    trials.extend(cuts::trials(&ground));
    trials.extend(check::trials(&ground));
    trials.extend(container::trials(&ground));
    trials.extend(drivers::trials(&ground));
    for group in [
        login::trials,
        contract::trials,
        logins_gate::trials,
        queue::trials,
        reload::trials,
        cancels::trials,
        storm::trials,
        dashboards::trials,
        dialling::trials,
        faults::trials,
        limits::trials,
        modes::trials,
        network::trials,
        page::trials,
        poolers::trials,
        regressions::trials,
        retry_snippets::trials,
        session_state::trials,
        statements::trials,
        corners::trials,
        pieces::trials,
        pins::trials,
        timeouts::trials,
        traces::trials,
        abandoned::trials,
        transports::trials,
        watching::trials,
    ] {
        trials.extend(group(&ground));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(ground);
    conclusion.exit_code()
}

/// A test's name and what it does. It fails by panicking.
pub type Test = (&'static str, fn(&Ground));

/// One trial for each of a file's tests.
pub fn trials(group: &str, ground: &Arc<Ground>, tests: &[Test]) -> Vec<Trial> {
    let trial = |&(name, test): &Test| {
        let ground = Arc::clone(ground);
        Trial::test(format!("{group}::{name}"), move || {
            test(&ground);
            Ok(())
        })
    };
    tests.iter().map(trial).collect()
}
