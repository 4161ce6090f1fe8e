//! SIGTERM under load: what runs is finished, who waits is refused, and nobody loses the answer of what was committed.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use super::Stage;
use crate::Test;
use crate::support::ground::{Ground, eventually, root};
use crate::support::tally::{Effect, Ending, SHAPES};

pub(super) const TESTS: &[Test] = &[("under_load_nobody_loses_an_answer", under_load)];

const POOL: usize = 3;
const CLIENTS: usize = 24;

fn under_load(ground: &Ground) {
    let mut stage = Stage::start(ground.cluster(), "net_drain", POOL, &[]);
    std::thread::scope(|scope| {
        let stage = &stage;
        for number in 0..CLIENTS {
            scope.spawn(move || until_refused(stage, number));
        }
        eventually("the load runs", || stage.tally.served() > 2 * CLIENTS);
        sleep(Duration::from_millis(100));
        stage.proxy.signal(Signal::TERM);
    });
    assert_eq!(stage.proxy.wait().code(), Some(0));
    let told = stage.tally.told();
    // In the queue and at login 57P03, between transactions 57P01.
    stage.tally.assert_endings(|told| {
        told.ending.is_one_of(&["57P01", "57P03", "53300"]) || told.ending == Ending::Closed
    });
    let refused = told.iter().filter(|told| told.detail.contains("reason=draining")).count();
    assert!(refused > 0, "nobody waited: {}", stage.tally.summary());
    let mut there = root(ground.cluster(), &stage.tenant.name);
    // A client that asked just when it was sent away does not know, but nothing has been done for it.
    for told in told.iter().filter(|told| told.effect == Effect::Unknown) {
        let count = there.value(&format!("select count(*) from tally where name = '{}'", told.name));
        assert_eq!(count, "0", "its answer was lost: {told:?}");
    }
    stage.server_is_at_rest(ground.cluster());
    stage.tally.assert_true(&mut there);
}

/// Works until the proxy does not want it any more. Overload (53300) is no reason to stop.
fn until_refused(stage: &Stage, number: usize) {
    let mut caller = stage.caller(number);
    for attempt in number.. {
        let told = caller.attempt(SHAPES[attempt % SHAPES.len()], Duration::from_millis(30));
        let goes_on = told.ending.is_one_of(&["53300"]);
        stage.tally.note(told);
        if !goes_on {
            return;
        }
    }
}
