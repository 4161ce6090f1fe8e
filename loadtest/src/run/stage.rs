//! What all instances of one process share during a leg: the plan, the clock, the gauges, and where records go.
//!
//! Nothing here is locked: gauges are atomics, records go into a channel that one reader empties. Whatever must be
//! recorded even when its task is cut off is recorded by a `Drop`: the leg's end simply drops the tasks.

use super::script::Script;
use crate::client::{ConnectTimes, Failure, Identity, Target};
use crate::functions::Functions;
use crate::leg::{AttemptFailure, Connect, Invocation, Outcome, ProgressSample};
use crate::plan::{Function, Plan};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// Characters that are kept of a failure's reason: enough to tell one cause from another.
const LONGEST_REASON: usize = 200;

/// Characters of an SQLSTATE.
const SQLSTATE: usize = 5;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// An invocation's outcome is known.
    Invocation(Invocation),
    /// An attempt failed.
    Failure(AttemptFailure),
    /// A connection was opened, or was not.
    Connect(Connect),
    /// The generator was looked at.
    Progress(ProgressSample),
}

/// One kind of instance: a function of the plan, made ready.
#[derive(Debug)]
pub struct Role {
    /// Its index in the plan.
    pub index: usize,
    /// Its index as records have it.
    pub id: u16,
    /// Who its instances are.
    pub identity: Identity,
    /// What they run.
    pub script: Script,
    /// How often each statement's completion reached a client.
    pub heard: Vec<AtomicU64>,
}

/// What all instances of one process share during a leg.
#[derive(Debug)]
pub struct Stage {
    /// What is fired.
    pub plan: Arc<Plan>,
    /// At whom.
    pub target: Target,
    /// One for each of the plan's functions.
    pub roles: Arc<[Role]>,
    /// What starts processes; `None` if none of the plan's functions is one.
    pub functions: Option<Functions>,
    started: Instant,
    in_flight: AtomicU32,
    awaited: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    records: UnboundedSender<Record>,
}

impl Stage {
    /// A stage whose clock shows zero at `started`. Everything recorded goes into `records`, which ends when the last
    /// clone of the stage is gone.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        target: Target,
        roles: Arc<[Role]>,
        functions: Option<Functions>,
        started: Instant,
        records: UnboundedSender<Record>,
    ) -> Self {
        let (in_flight, awaited, connections) = Default::default();
        Self { plan, target, roles, functions, started, in_flight, awaited, connections, records }
    }

    /// When it is so long after the leg's start.
    #[must_use]
    pub fn moment(&self, after_start: Duration) -> Instant {
        // Plans last no longer than a week.
        self.started.checked_add(after_start).unwrap_or(self.started)
    }

    /// Microseconds since the leg's start.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.us(Instant::now())
    }

    /// A moment in microseconds since the leg's start.
    #[must_use]
    pub fn us(&self, moment: Instant) -> u64 {
        micros(moment.saturating_duration_since(self.started))
    }

    /// Counts a connection for as long as the returned value lives: from before it is opened until it is closed.
    #[must_use]
    pub fn count_connection(&self) -> Counted {
        Counted::one_more(&self.connections)
    }

    /// Keeps a record. If nobody wants them any more, it is gone.
    pub fn record(&self, record: Record) {
        let _ = self.records.send(record);
    }

    /// Keeps the leg from ending for as long as the returned value lives: somebody may still begin an invocation, or has
    /// yet to leave as the plan says.
    #[must_use]
    pub fn await_me(&self) -> Counted {
        Counted::one_more(&self.awaited)
    }

    /// An invocation is under way, waits for an instance, or may still begin; or somebody has yet to leave.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) > 0 || self.in_flight.load(Ordering::SeqCst) > 0
    }

    /// The generator now, `lag` after the moment `at_us` at which somebody should have looked.
    #[must_use]
    pub fn sample(&self, at_us: u64, lag: Duration) -> ProgressSample {
        ProgressSample {
            at_us,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            lag_us: u32::try_from(lag.as_micros()).unwrap_or(u32::MAX),
        }
    }
}

/// One of something that is counted, for as long as it lives: a connection that is open or being opened, somebody whom
/// the leg waits for.
#[derive(Debug)]
pub struct Counted(Arc<AtomicU32>);

impl Counted {
    fn one_more(gauge: &Arc<AtomicU32>) -> Self {
        gauge.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(gauge))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A function on its stage: what an instance knows of both.
#[derive(Debug, Clone)]
pub struct Part {
    /// Shared by all.
    pub stage: Arc<Stage>,
    role: usize,
}

impl Part {
    /// Of the plan's function with this index; `None` if there is none.
    #[must_use]
    pub fn new(stage: &Arc<Stage>, index: usize) -> Option<Self> {
        let has = index < stage.roles.len() && index < stage.plan.functions.len();
        has.then(|| Self { stage: Arc::clone(stage), role: index })
    }

    /// The function.
    #[must_use]
    pub fn function(&self) -> &Function {
        // `new` made sure that both are there.
        &self.stage.plan.functions[self.role]
    }

    /// The function, made ready.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.stage.roles[self.role]
    }

    /// A statement's completion reached a client.
    pub fn hear(&self, statement: usize) {
        if let Some(heard) = self.role().heard.get(statement) {
            heard.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records an attempt's failure, or what an idle session was told. What a server says is clipped: it may be long, and
    /// failures many.
    pub fn record_failure(&self, failure: &Failure, at_login: bool) {
        self.stage.record(Record::Failure(AttemptFailure {
            at_us: self.stage.now_us(),
            function: self.role().id,
            kind: failure.kind(),
            sqlstate: failure.sqlstate().map(|text| clipped(text, SQLSTATE)),
            reason: clipped(failure.reason(), LONGEST_REASON),
            at_login,
        }));
    }
}

/// An invocation that is due and whose outcome is not known yet. Dropped before that, it is recorded as unfinished.
#[derive(Debug)]
pub struct Pending {
    part: Part,
    /// Counted from 0 within the function.
    pub number: u64,
    /// How often it was tried.
    pub attempts: u16,
    intended_us: u64,
    started_us: Option<u64>,
    cold: bool,
    is_over: bool,
}

impl Pending {
    /// One that is due at `intended`.
    #[must_use]
    pub fn new(part: &Part, number: u64, intended: Instant) -> Self {
        part.stage.in_flight.fetch_add(1, Ordering::SeqCst);
        let intended_us = part.stage.us(intended);
        Self {
            part: part.clone(),
            number,
            attempts: 0,
            intended_us,
            started_us: None,
            cold: false,
            is_over: false,
        }
    }

    /// An instance is there for it; `cold` if it had to be started.
    pub fn begin(&mut self, cold: bool) {
        self.started_us = Some(self.part.stage.now_us());
        self.cold = cold;
    }

    /// Its outcome is known now. Only the first counts.
    pub fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let Part { stage, .. } = &self.part;
        let ended_us = stage.now_us().max(self.intended_us);
        stage.in_flight.fetch_sub(1, Ordering::SeqCst);
        stage.record(Record::Invocation(Invocation {
            function: self.part.role().id,
            intended_us: self.intended_us,
            started_us: self.started_us.unwrap_or(ended_us),
            ended_us,
            attempts: self.attempts.max(1),
            cold: self.cold,
            outcome,
        }));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.end(Outcome::Unfinished);
    }
}

/// An attempt to connect. One that is cut off by the leg's end is not recorded: nothing became of it.
#[derive(Debug)]
pub struct Connecting<'part> {
    part: &'part Part,
    at_us: u64,
    again: bool,
    /// Filled in as its phases are completed.
    pub times: ConnectTimes,
}

impl<'part> Connecting<'part> {
    /// It begins now; `again` if the instance had been connected before.
    #[must_use]
    pub fn begin(part: &'part Part, again: bool) -> Self {
        Self { part, at_us: part.stage.now_us(), again, times: ConnectTimes::default() }
    }

    /// It has succeeded, or failed.
    pub fn end(self) {
        let short =
            |time: Option<Duration>| time.map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        self.part.stage.record(Record::Connect(Connect {
            at_us: self.at_us,
            function: self.part.role().id,
            again: self.again,
            connect_us: short(self.times.connect),
            login_us: short(self.times.login),
        }));
    }
}

fn clipped(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// Whole microseconds.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
