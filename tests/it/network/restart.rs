//! PostgreSQL is shut down and started again under load, and what its clients were told is true afterwards.

use std::thread::sleep;
use std::time::Duration;

use loadtest::postgres::Cluster;

use super::Stage;
use crate::Test;
use crate::support::ground::{eventually, start_cluster};

pub(super) const TESTS: &[Test] = &[
    ("fast", |_| restarted("net_fast", Cluster::stop_fast)),
    ("immediate", |_| restarted("net_immediate", Cluster::stop_immediately)),
];

const POOL: usize = 4;

/// What may be said while PostgreSQL is away: a lost server, no server, and PostgreSQL's own words about its end.
const AWAY: [&str; 6] = ["08006", "53300", "57P01", "57P02", "57P03", "08001"];

fn restarted(name: &str, stop: fn(&mut Cluster)) {
    let mut cluster = start_cluster(30);
    let stage = Stage::start(&cluster, name, POOL, &[]);
    stage.under_load(4 * POOL, Duration::from_millis(10), || {
        // Shorter and longer than it takes until the proxy refuses at once.
        for away in [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(4)] {
            stop(&mut cluster);
            sleep(away);
            cluster.start_again().unwrap_or_else(|error| panic!("{error}"));
            let before = stage.tally.served();
            eventually("it goes on", || stage.tally.served() > before + 20 * POOL);
        }
    });
    stage.tally.assert_endings(|told| told.ending.is_one_of(&AWAY));
    stage.calm(&cluster);
}
