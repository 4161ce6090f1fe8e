//! Open arrivals: invocations are due whether an instance is free or not. One takes an idle warm instance (the one that
//! was used last, as platforms do), else starts a cold one, else waits in line.

use super::arrival::{Schedule, stop_of};
use super::body::{Body, Kept};
use super::draw::Drawn;
use super::instance::{Instance, State};
use super::stage::{Part, Pending};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Which of the function's arrivals are handled here: every `step`th, from the `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Number of the first.
    pub first: usize,
    /// Distance to the next; at least 1.
    pub step: usize,
}

/// An instance's report that it is free, or gone.
#[derive(Debug, Clone, Copy)]
pub struct Freed {
    number: u32,
    state: State,
}

/// Where a waiting instance gets its next invocation.
type Doors = BTreeMap<u32, mpsc::Sender<Pending>>;

/// Invocations that wait, and instances that wait for them. One of the two is empty.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Pending>,
    warm: Vec<u32>,
    cold: Vec<u32>,
}

impl Line {
    /// Who takes what is due next.
    fn next(&mut self) -> Option<(u32, Pending)> {
        if self.waiting.is_empty() {
            return None;
        }
        let number = self.warm.pop().or_else(|| self.cold.pop())?;
        self.waiting.pop_front().map(|pending| (number, pending))
    }

    fn take_back(&mut self, freed: Freed) {
        match freed.state {
            State::Warm => self.warm.push(freed.number),
            State::Cold => self.cold.push(freed.number),
            State::Gone => {}
        }
    }
}

/// Hands out a function's invocations as they arrive; ends when the last was handed out and the function stops, and the
/// instances end with it. The line is as long as there are arrivals at most.
///
/// Cancel safety: dropped midway, what waits is recorded as unfinished.
pub async fn hand_out(part: Part, turn: Turn, mut doors: Doors, mut freed: mpsc::Receiver<Freed>) {
    let Some(Schedule::Open(arrivals)) = Schedule::of(&part.stage.plan, part.role().index) else { return };
    let mut arrivals = arrivals.enumerate().skip(turn.first).step_by(turn.step.max(1)).peekable();
    let mut line = Line { cold: doors.keys().rev().copied().collect(), ..Line::default() };
    while arrivals.peek().is_some() || !line.waiting.is_empty() {
        let due = arrivals.peek().map(|(_, due)| part.stage.moment(*due));
        tokio::select! {
            biased;
            Some(freed) = freed.recv() => line.take_back(freed),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                while let Some((number, due)) = arrivals.next_if(|(_, due)| is_past(&part, *due)) {
                    line.waiting.push_back(Pending::new(&part, number as u64, part.stage.moment(due)));
                }
            }
            // Every place is taken by a silent socket: nobody will come.
            else => return,
        }
        while let Some((number, pending)) = line.next() {
            pass(&mut doors, number, pending);
        }
    }
    // Until then instances stay connected, idle ones too. Their reports have room.
    sleep_until(part.stage.moment(stop_of(&part.stage.plan, part.function()))).await;
}

fn is_past(part: &Part, due: Duration) -> bool {
    part.stage.moment(due) <= Instant::now()
}

/// An idle instance has room for one; what it cannot take is recorded as unfinished by being dropped.
fn pass(doors: &mut Doors, number: u32, pending: Pending) {
    if let Some(door) = doors.get(&number)
        && door.try_send(pending).is_err()
    {
        doors.remove(&number);
    }
}

/// An instance that is handed invocations, until there are no more.
///
/// Cancel safety: dropped midway, its invocation is recorded as unfinished.
pub async fn serve<B: Body>(
    mut instance: Instance<B>,
    mut door: mpsc::Receiver<Pending>,
    freed: mpsc::Sender<Freed>,
) -> Option<Kept> {
    let number = instance.number();
    let stage = Arc::clone(&instance.part().stage);
    loop {
        // Whom the leg's end waits for: all but those that are frozen after an invocation.
        let awaited = stage.await_me();
        let pending = tokio::select! {
            biased;
            pending = door.recv() => pending,
            never = instance.idle() => never,
        };
        let Some(pending) = pending else {
            instance.end().await;
            return instance.into_kept();
        };
        drop(awaited);
        let part = instance.part();
        let mut drawn = Drawn::of(&part.stage.plan, part.role().index, pending.number);
        let state = instance.invoke(pending, &mut drawn).await;
        // Nobody listens any more when everything was handed out.
        let _ = freed.send(Freed { number, state }).await;
        if state == State::Gone {
            return instance.into_kept();
        }
    }
}
