//! The network between proxy and PostgreSQL swallows everything in the middle of queries.

use std::thread::sleep;
use std::time::Duration;

use super::Stage;
use crate::Test;
use crate::support::ground::{Ground, eventually};
use crate::support::relay::{Arrival, BOTH, Fault, Way};
use crate::support::tally::{Ending, Shape};

pub(super) const TESTS: &[Test] = &[
    ("one_that_heals_is_only_a_delay", heals),
    ("connections_that_are_reset_later_are_lost_servers", reset_later),
    ("one_that_never_heals_takes_no_place_for_ever", never_heals),
    ("query_timeout_answers_whatever_the_network_does", query_timeout),
];

const POOL: usize = 4;
const TAKES: Duration = Duration::from_millis(20);

/// The queue is served again in time, or not: what waits meanwhile may be refused.
const WAITED: [&str; 2] = ["53300", "57P03"];

fn heals(ground: &Ground) {
    let stage = Stage::start(ground.cluster(), "net_heals", POOL, &[]);
    stage.under_load(3 * POOL, TAKES, || {
        for ways in [BOTH, &[Way::Forth], &[Way::Back]] {
            eventually("queries run", || stage.servers.open() == POOL);
            stage.servers.arrivals(Arrival::Silent);
            stage.servers.inflict(Fault::Hold(ways));
            sleep(Duration::from_secs(2));
            stage.servers.release();
            let before = stage.tally.served();
            eventually("it goes on", || stage.tally.served() > before + 10 * POOL);
        }
    });
    // Nothing was lost, so nobody may have been told so.
    stage.tally.assert_endings(|told| told.ending.is_one_of(&WAITED));
    stage.calm(ground.cluster());
}

/// As the kernel's keepalive would have it: the proxy hears of the partition when it ends its connections.
fn reset_later(ground: &Ground) {
    let stage = Stage::start(ground.cluster(), "net_reset_later", POOL, &[]);
    stage.under_load(3 * POOL, TAKES, || {
        for ways in [BOTH, &[Way::Back]] {
            eventually("queries run", || stage.servers.open() == POOL);
            stage.servers.inflict(Fault::Hold(ways));
            sleep(Duration::from_millis(500));
            stage.servers.cut_held();
            let before = stage.tally.served();
            eventually("it goes on", || stage.tally.served() > before + 10 * POOL);
        }
    });
    stage.tally.assert_endings(|told| told.ending.is_one_of(&["08006", "53300", "57P03"]));
    let lost = stage.tally.told().iter().filter(|told| told.ending.is_one_of(&["08006"])).count();
    assert!(lost > 0, "nobody's query was under way: {}", stage.tally.summary());
    stage.calm(ground.cluster());
}

/// Nothing bounds a query here but its client's patience. When that is over the proxy cancels, waits for the end in
/// vain, and closes; PostgreSQL does not hear of it. Meanwhile there is another way to PostgreSQL.
fn never_heals(ground: &Ground) {
    let stage = Stage::start(ground.cluster(), "net_never", POOL, &["cancel_timeout = \"1s\""]);
    std::thread::scope(|scope| {
        for number in 0..POOL {
            let stage = &stage;
            scope.spawn(move || {
                let mut caller = stage.caller_at(stage.proxy.address, number, Duration::from_secs(3));
                let shape = if number % 2 == 0 { Shape::Alone } else { Shape::Transaction };
                let told = caller.attempt(shape, Duration::from_secs(1));
                assert_eq!(told.ending, Ending::Hung, "{told:?}");
                stage.tally.note(told);
            });
        }
        eventually("all have a server", || active(&stage) == POOL);
        sleep(Duration::from_millis(200));
        stage.servers.inflict(Fault::Hold(BOTH));
    });
    // The calm comes while the old connections are still held.
    stage.calm(ground.cluster());
}

fn active(stage: &Stage) -> usize {
    let prefix = format!("pgcorral_servers{{database=\"{}\",state=\"active\"", stage.tenant.name);
    stage.proxy.metric(&prefix) as usize
}

/// Whether its cancel request arrives or not. The client cannot know what has become of its query, only that it is over.
fn query_timeout(ground: &Ground) {
    let timeouts =
        ["query_timeout = \"500ms\"", "cancel_timeout = \"1s\"", "server_connect_timeout = \"1s\""];
    let stage = Stage::start(ground.cluster(), "net_query_timeout", POOL, &timeouts);
    let cases: [(Arrival, &'static [Way]); 3] =
        [(Arrival::Silent, BOTH), (Arrival::Linked, BOTH), (Arrival::Linked, &[Way::Back])];
    for (round, (arrival, ways)) in cases.into_iter().enumerate() {
        std::thread::scope(|scope| {
            for number in 0..POOL {
                let stage = &stage;
                scope.spawn(move || {
                    let mut caller = stage.caller(round * 100 + number);
                    let shape = if number % 2 == 0 { Shape::Alone } else { Shape::Transaction };
                    let told = caller.attempt(shape, Duration::from_millis(400));
                    assert!(told.ending.is_one_of(&["57014"]) && told.ending != Ending::Served, "{told:?}");
                    stage.tally.note(told);
                });
            }
            eventually("all have a server", || active(&stage) == POOL);
            sleep(Duration::from_millis(100));
            stage.servers.arrivals(arrival);
            stage.servers.inflict(Fault::Hold(ways));
        });
        stage.servers.release();
        stage.everybody_is_served();
    }
    stage.calm(ground.cluster());
}
