//! All instances of one process, as tasks.

use super::arrival::{Schedule, stop_of};
use super::body::{Body, Kept};
use super::draw::Drawn;
use super::instance::{Instance, State};
use super::line::{self, Turn};
use super::stage::{Counted, Part, Pending, Record, Stage, micros};
use super::wire::Wire;
use crate::plan::{Function, OnTimeout, Plan, Runtime};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// How often the generator looks at itself.
const LOOK: Duration = Duration::from_millis(100);

/// Which instances are this process' own: those whose number leaves `index` when divided by `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// This process, from 0.
    pub index: u32,
    /// All processes.
    pub of: u32,
}

impl Share {
    /// All of them.
    pub const ALL: Self = Self { index: 0, of: 1 };

    /// The numbers of the function's instances that are its own.
    pub fn instances(self, function: &Function) -> impl Iterator<Item = u32> + use<> {
        (self.index..function.instances).step_by(self.of.max(1) as usize)
    }

    /// Its own part of the function's open arrivals, `None` if it has no instances for them.
    #[must_use]
    pub fn turn(self, function: &Function) -> Option<Turn> {
        let takers = self.of.max(1).min(function.instances);
        (self.index < takers).then_some(Turn { first: self.index as usize, step: takers as usize })
    }

    /// The most files that its instances have open at once: a connection, and another one for a CancelRequest; for a
    /// process, whose connection is its own, three pipes.
    #[must_use]
    pub fn sockets(self, plan: &Plan) -> u64 {
        let of = |function: &Function| {
            let each = match (function.runtime, function.on_timeout) {
                (Runtime::Task, OnTimeout::Cancel) => 2,
                (Runtime::Task, OnTimeout::Fin | OnTimeout::Rst) => 1,
                _ => 3,
            };
            each * self.instances(function).count() as u64
        };
        plan.functions.iter().map(of).sum()
    }
}

/// How a leg ended, as far as its instances are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All outcomes are known, or the time was over.
    InTime,
    /// Somebody wanted it to end.
    Stopped,
    /// An instance's task panicked: a bug of ours, and what it said.
    Panicked(String),
}

/// Fires a share of the plan and waits until all is over, the leg's time is, or `stop` completes; what is still under
/// way then is cut off.
///
/// Cancel safety: dropped midway, everything is cut off.
pub async fn fire(stage: &Arc<Stage>, share: Share, stop: impl Future<Output = ()>) -> Ended {
    let mut tasks = JoinSet::new();
    for index in 0..stage.plan.functions.len() {
        let Some(part) = Part::new(stage, index) else { continue };
        match &stage.functions {
            Some(functions) if part.function().runtime != Runtime::Task => {
                spawn(&mut tasks, &part, share, |part| functions.body(part));
            }
            _ => spawn(&mut tasks, &part, share, Wire::new),
        }
    }
    let looking = tokio::spawn(look(Arc::clone(stage)));
    let ended = watch(&mut tasks, stage, stop).await;
    looking.abort();
    // Joined, so that everything that is recorded in passing has been.
    tasks.shutdown().await;
    let _ = looking.await;
    ended
}

async fn watch(tasks: &mut JoinSet<Option<Kept>>, stage: &Stage, stop: impl Future<Output = ()>) -> Ended {
    let Plan { duration, grace, .. } = &*stage.plan;
    let mut over = pin!(sleep_until(stage.moment(duration.duration() + grace.duration())));
    let mut stop = pin!(stop);
    let mut served = pin!(all_outcomes(stage));
    // Silent sockets stay open until the leg's end.
    let mut kept = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ended::Stopped,
            () = &mut over => return Ended::InTime,
            () = &mut served => return Ended::InTime,
            joined = tasks.join_next() => match joined {
                Some(Ok(left)) => kept.extend(left),
                Some(Err(error)) => return Ended::Panicked(said(error)),
                None => return Ended::InTime,
            },
        }
    }
}

/// Returns when every outcome is known, and who is awake has left. Instances that are frozen after their last invocation
/// would only keep everybody waiting.
async fn all_outcomes(stage: &Stage) {
    sleep_until(stage.moment(stage.plan.duration.duration())).await;
    // Twice in a row: an instance tidies up between an outcome and its leaving.
    let mut quiet = 0;
    while quiet < 2 {
        quiet = if stage.is_busy() { 0 } else { quiet + 1 };
        sleep(LOOK).await;
    }
}

fn said(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "cut off".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}

/// Spawns the share's instances of one function.
fn spawn<B: Body>(tasks: &mut JoinSet<Option<Kept>>, part: &Part, share: Share, body: impl Fn(Part) -> B) {
    let make = |number| Instance::new(part.clone(), number, body(part.clone()));
    let Some(schedule) = Schedule::of(&part.stage.plan, part.role().index) else { return };
    match schedule {
        Schedule::Once(starts) => {
            for (number, start) in share.instances(part.function()).filter_map(|own| start_of(own, &starts)) {
                tasks.spawn(once(make(number), start, part.stage.await_me()));
            }
        }
        Schedule::Loop(starts) => {
            for (number, start) in share.instances(part.function()).filter_map(|own| start_of(own, &starts)) {
                tasks.spawn(again_and_again(make(number), start, part.stage.await_me()));
            }
        }
        Schedule::Open(_) => {
            let Some(turn) = share.turn(part.function()) else { return };
            // As much room as instances: reporting never waits for long.
            let (freed, reports) = mpsc::channel(part.function().instances.max(1) as usize);
            let mut doors = BTreeMap::new();
            for number in share.instances(part.function()) {
                let (door, invocations) = mpsc::channel(1);
                doors.insert(number, door);
                tasks.spawn(line::serve(make(number), invocations, freed.clone()));
            }
            let handing_out = line::hand_out(part.clone(), turn, doors, reports);
            let awaited = part.stage.await_me();
            tasks.spawn(async move {
                handing_out.await;
                drop(awaited);
                None
            });
        }
    }
}

fn start_of(number: u32, starts: &[Duration]) -> Option<(u32, Duration)> {
    Some((number, *starts.get(number as usize)?))
}

/// One invocation, and the end. `awaited` counts until the invocation does.
async fn once<B: Body>(mut instance: Instance<B>, start: Duration, awaited: Counted) -> Option<Kept> {
    let part = instance.part().clone();
    let due = part.stage.moment(start);
    sleep_until(due).await;
    let number = u64::from(instance.number());
    let mut drawn = Drawn::of(&part.stage.plan, part.role().index, number);
    let pending = Pending::new(&part, number, due);
    drop(awaited);
    let state = instance.invoke(pending, &mut drawn).await;
    let _awaited = part.stage.await_me();
    if state != State::Gone {
        instance.end().await;
    }
    instance.into_kept()
}

/// Invokes, thinks, invokes, and is connected until the function stops. `awaited` counts until the invocation does.
async fn again_and_again<B: Body>(
    mut instance: Instance<B>,
    start: Duration,
    mut awaited: Counted,
) -> Option<Kept> {
    let part = instance.part().clone();
    let stop = part.stage.moment(stop_of(&part.stage.plan, part.function()));
    let mut next = Some(part.stage.moment(start)).filter(|due| *due < stop);
    let mut number = u64::from(instance.number());
    while let Some(due) = next {
        instance.idle_until(due).await;
        let mut drawn = Drawn::of(&part.stage.plan, part.role().index, number);
        let pending = Pending::new(&part, number, due);
        drop(awaited);
        let state = instance.invoke(pending, &mut drawn).await;
        awaited = part.stage.await_me();
        if state == State::Gone {
            return instance.into_kept();
        }
        number += u64::from(part.function().instances);
        let pause = drawn.think.max(instance.least_pause());
        // What no clock can show is after any stop.
        next = Instant::now().checked_add(pause).filter(|due| *due < stop);
    }
    instance.idle_until(stop).await;
    instance.end().await;
    drop(awaited);
    instance.into_kept()
}

/// Records how the generator is, and how late it is in doing so.
async fn look(stage: Arc<Stage>) {
    let mut at = Duration::ZERO;
    loop {
        at += LOOK;
        let due = stage.moment(at);
        sleep_until(due).await;
        let sample = stage.sample(micros(at), due.elapsed());
        stage.record(Record::Progress(sample));
    }
}

#[cfg(test)]
mod tests {
    use super::super::leg::roles;
    use super::*;
    use crate::client::Target;
    use std::path::Path;

    fn plan(instances: u32) -> Plan {
        let text = format!(
            "title = \"t\"\nduration = \"1s\"\n[[function]]\nname = \"f\"\ninstances = {instances}\n\
             script = [\"select 1\"]\narrival = {{ kind = \"steady\", per_second = 9.0 }}\non_timeout = \"cancel\""
        );
        Plan::parse("t", &text, Path::new(".")).unwrap()
    }

    #[tokio::test]
    async fn a_generator_that_lags_loses_nothing_that_is_due() {
        let plan = Arc::new(plan(1));
        let target = Target::parse("t", "postgres://app@127.0.0.1:1/app").unwrap();
        let roles = roles(&plan, &target, &BTreeMap::new()).unwrap();
        let (records, _recorded) = mpsc::unbounded_channel();
        let stage = Arc::new(Stage::new(plan, target, roles, None, Instant::now(), records));
        // Due within the plan's second, and begun long after.
        let late = tokio::spawn({
            let (stage, awaited) = (Arc::clone(&stage), stage.await_me());
            async move {
                sleep(Duration::from_secs(2)).await;
                let part = Part::new(&stage, 0).unwrap();
                let pending = Pending::new(&part, 0, stage.moment(Duration::from_millis(900)));
                drop(awaited);
                sleep(Duration::from_secs(1)).await;
                drop(pending);
            }
        });
        all_outcomes(&stage).await;
        assert!(late.is_finished());
    }

    #[test]
    fn every_instance_and_every_arrival_belongs_to_exactly_one_process() {
        for (instances, of) in [(1, 1), (1, 4), (3, 4), (10, 4), (12, 3)] {
            let plan = plan(instances);
            let function = &plan.functions[0];
            let shares = || (0..of).map(|index| Share { index, of });
            let mut numbers: Vec<_> = shares().flat_map(|share| share.instances(function)).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..instances).collect::<Vec<_>>());
            let turns = shares().filter_map(|share| share.turn(function));
            let mut arrivals: Vec<_> =
                turns.flat_map(|turn| (0..100).skip(turn.first).step_by(turn.step)).collect();
            arrivals.sort_unstable();
            assert_eq!(arrivals, (0..100).collect::<Vec<_>>());
            // Whoever has arrivals has instances for them.
            assert!(
                shares()
                    .all(|share| share.turn(function).is_some() == (share.instances(function).count() > 0))
            );
        }
    }

    #[test]
    fn a_cancel_request_needs_a_socket_of_its_own() {
        assert_eq!(Share::ALL.sockets(&plan(5)), 10);
        assert_eq!(Share { index: 1, of: 2 }.sockets(&plan(5)), 4);
    }
}
