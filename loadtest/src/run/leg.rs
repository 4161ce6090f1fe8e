//! One leg from its preparation to its end.

use super::crowd::{Ended, Share, fire};
use super::early::EarlyEnd;
use super::gather::{Gathered, Sorted};
use super::hooks::Hooks;
use super::processes::{Worker, Workers};
use super::script::Script;
use super::stage::{Record, Role, Stage, micros};
use super::{Progress, RunError, usage};
use crate::client::{ConnectTimes, Failure, Identity, Session, Target};
use crate::functions::Functions;
use crate::leg::{GeneratorLoad, Leg};
use crate::limits::raise_open_files;
use crate::observe::{Observed, Observer, is_counted};
use crate::plan::{End, Function, Plan, Protocol, Runtime};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// How long a statement of the plan's `setup` may take: it may fill a large table.
const SETUP_PATIENCE: Duration = Duration::from_secs(600);

/// Who stops a leg does not want to wait until PostgreSQL has run everything that was cut off.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// Nor until a PostgreSQL that is down or out of reach has told what it counted.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Records of invocations, failures and connects that are kept of a leg: about a gigabyte.
const MOST_RECORDS: usize = 5_000_000;

/// Open files besides the instances' sockets: standard streams, the runtime's own, the observer's, libraries, pipes.
const OTHER_FILES: u64 = 64;

/// Records that are taken from the channel at once.
const BATCH: usize = 1024;

/// How a leg is run.
#[derive(Clone)]
pub struct LegOptions {
    /// What is fired at.
    pub target: Target,
    /// Which round this is, from 0.
    pub round: u32,
    /// Passwords of the roles that functions name.
    pub passwords: BTreeMap<String, String>,
    /// Over how many processes the instances are spread; 0 and 1 mean this one alone.
    pub processes: u32,
    /// How those processes are started; `None`: this program with the one argument `worker`.
    pub worker: Option<Worker>,
    /// What is done at the plan's events.
    pub hooks: Hooks,
    /// The way straight to PostgreSQL, for counting there. The plan's `setup` goes this way, too.
    pub observer: Option<Target>,
    /// Hosts that are not this machine may be fired at.
    pub allow_remote: bool,
    /// Where the handlers of functions with a `runtime` are, if not in the usual place.
    pub functions: Option<PathBuf>,
    /// How many invocations, failed attempts and connects, together, are recorded at most: a leg that has so many ends
    /// early, with a warning, as if it had been stopped. Five million unless told.
    pub most_records: usize,
    /// Called with what somebody who reads the figures has to know about them.
    pub warn: Arc<dyn Fn(&str) + Send + Sync>,
}

impl LegOptions {
    /// The first round, from this process alone, unobserved, with no hooks.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            round: 0,
            passwords: BTreeMap::new(),
            processes: 1,
            worker: None,
            hooks: Hooks::new(),
            observer: None,
            allow_remote: false,
            functions: None,
            most_records: MOST_RECORDS,
            warn: Arc::new(|_| ()),
        }
    }
}

impl fmt::Debug for LegOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegOptions")
            .field("target", &self.target)
            .field("round", &self.round)
            .field("processes", &self.processes)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// What came of firing, the records aside.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// How often each statement of each function was heard of.
    pub(super) heard: Vec<Vec<u64>>,
    /// CPU of the processes that fired.
    pub(super) cpu: Duration,
}

/// Runs the plan once. `progress` is called ten times a second. When `stop` completes, everything is cut off, and the leg
/// says what there was until then. The plan's events that are left then, if one has happened, happen at once: the leg
/// waits for their hooks, also before it returns an error. Takes no longer than the plan's `setup`, duration and grace,
/// the observer's last look (at most the grace again), and the hooks (two minutes each).
///
/// # Errors
/// See [`RunError`]. What becomes of invocations is no error.
///
/// Cancel safety: dropped midway, everything is cut off and nothing is left, but what hooks have done.
pub async fn run_leg(
    plan: &Arc<Plan>,
    options: &LegOptions,
    mut progress: impl FnMut(&Progress),
    stop: impl Future<Output = ()>,
) -> Result<Leg, RunError> {
    let mut stop = pin!(stop);
    options.hooks.check(plan)?;
    let roles = roles(plan, &options.target, &options.passwords)?;
    if options.processes <= 1 {
        // Of several processes, each sees to its own share.
        raise_files(plan, Share::ALL)?;
    }
    let functions = functions(plan, &options.target, options.functions.as_deref())?;
    let mut leg = empty_leg(plan, options);
    let prepared = tokio::select! {
        biased;
        () = &mut stop => {
            leg.interrupted = true;
            return Ok(leg);
        }
        prepared = prepare(plan, options) => prepared?,
    };

    leg.started_unix_ms = unix(prepared.lead).as_millis().try_into().unwrap_or(u64::MAX);
    let started = Instant::now() + prepared.lead;
    let crew = Crew { plan, options, roles, functions, workers: prepared.workers, started };
    let mut gathered = Gathered::new(options.most_records);
    let Curtain { played, stopped, early } =
        crew.play_with_events(&mut gathered, &mut progress, stop.as_mut()).await?;

    leg.interrupted = early;
    leg.generator.cpu_us = micros(played.cpu);
    leg.wall_us = gathered.last_us();
    // All is over, or cut off.
    progress(&Progress { in_flight: 0, connections: 0, ..gathered.progress(leg.wall_us) });
    let Sorted { invocations, failures, connects, progress } = gathered.sorted();
    leg = Leg { invocations, failures, connects, progress, ..leg };
    if let Some(observer) = prepared.observer {
        let heard = counted(plan, &played.heard);
        let settle = if early { IMPATIENCE } else { plan.grace.duration() };
        let lead = started.into_std().saturating_duration_since(prepared.observed_since);
        tokio::select! {
            biased;
            observed = observer.finish_within(settle, heard) => add(&mut leg, observed, lead, options),
            () = a_while_after(stop, stopped) => {
                leg.interrupted = true;
                (options.warn)("the leg was stopped before PostgreSQL had told what it counted");
            }
        }
    }
    Ok(leg)
}

/// What stands ready when the leg starts.
struct Prepared {
    observer: Option<Observer>,
    /// The zero of its samples' times.
    observed_since: std::time::Instant,
    workers: Option<Workers>,
    /// How long it is until the start: all processes have to hear of it first.
    lead: Duration,
}

async fn prepare(plan: &Arc<Plan>, options: &LegOptions) -> Result<Prepared, RunError> {
    options.target.resolve(options.allow_remote).await.map_err(RunError::Target)?;
    set_up(plan, options).await?;
    let workers = match options.processes {
        0 | 1 => None,
        processes => Some(Workers::start(plan, options, processes).await?),
    };
    let observed_since = std::time::Instant::now();
    let observer = match &options.observer {
        Some(observer) => {
            Some(Observer::start(observer, plan, observed_since).await.map_err(RunError::Observe)?)
        }
        None => None,
    };
    let lead = workers.as_ref().map_or(Duration::ZERO, |_| Workers::LEAD);
    Ok(Prepared { observer, observed_since, workers, lead })
}

async fn set_up(plan: &Plan, options: &LegOptions) -> Result<(), RunError> {
    if plan.setup.is_empty() {
        return Ok(());
    }
    let failed = |statement: &str, failure| RunError::Setup { statement: statement.to_owned(), failure };
    let target = options.observer.as_ref().unwrap_or(&options.target);
    target.resolve(options.allow_remote).await.map_err(RunError::Target)?;
    let identity = target.identity("loadtest-setup");
    let mut times = ConnectTimes::default();
    let connect = Box::pin(Session::connect(target, &identity, &mut times));
    let timed_out = |_| Err(Failure::Timeout);
    let mut session = timeout(SETUP_PATIENCE, connect)
        .await
        .unwrap_or_else(timed_out)
        .map_err(|failure| failed("", failure))?;
    for statement in &plan.setup {
        let run = timeout(SETUP_PATIENCE, session.run(statement, Protocol::Simple)).await;
        run.unwrap_or(Err(Failure::Timeout)).map_err(|failure| failed(statement, failure))?;
    }
    session.end(End::Terminate).await;
    Ok(())
}

/// Returns when somebody who stops has waited long enough; `stopped`: `stop` has completed.
async fn a_while_after(stop: Pin<&mut impl Future<Output = ()>>, stopped: bool) {
    if !stopped {
        stop.await;
    }
    sleep(LAST_LOOK).await;
}

/// How it ended.
struct Curtain {
    played: Played,
    /// `stop` has completed.
    stopped: bool,
    /// Before its time, for whatever reason.
    early: bool,
}

/// Who fires, and when.
struct Crew<'leg> {
    plan: &'leg Arc<Plan>,
    options: &'leg LegOptions,
    roles: Arc<[Role]>,
    functions: Option<Functions>,
    /// `None`: this process alone.
    workers: Option<Workers>,
    started: Instant,
}

impl Crew<'_> {
    /// Fires while the plan's events happen. Events go on after the last outcome, and after a stop or a failure: who
    /// stopped the target has to start it again.
    async fn play_with_events(
        self,
        gathered: &mut Gathered,
        progress: &mut impl FnMut(&Progress),
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Curtain, RunError> {
        let Self { plan, options, started, .. } = self;
        let early = EarlyEnd::new();
        let mut events =
            pin!(options.hooks.happen(plan, &options.target.name, started, &early, &*options.warn));
        let mut firing = pin!(self.play(gathered, progress, &early));
        let (mut played, mut happened, mut stopped) = (None, None, false);
        loop {
            tokio::select! {
                biased;
                () = &mut stop, if !stopped => {
                    stopped = true;
                    early.tell();
                }
                result = &mut events, if happened.is_none() => happened = Some(result),
                result = &mut firing, if played.is_none() => {
                    if result.is_err() {
                        early.tell();
                    }
                    played = Some(result);
                }
            }
            match (played.take(), happened.take()) {
                (Some(played), Some(happened)) => {
                    happened?;
                    return Ok(Curtain { played: played?, stopped, early: early.is_told() });
                }
                unfinished => (played, happened) = unfinished,
            }
        }
    }

    async fn play(
        self,
        gathered: &mut Gathered,
        progress: &mut impl FnMut(&Progress),
        early: &EarlyEnd,
    ) -> Result<Played, RunError> {
        let Self { plan, options, roles, functions, workers, started } = self;
        if let Some(workers) = workers {
            return workers.fire(plan, options, started, gathered, progress, early).await;
        }
        let (records, mut recorded) = mpsc::unbounded_channel();
        let stage = Stage::new(Arc::clone(plan), options.target.clone(), roles, functions, started, records);
        let gather = async {
            let mut batch = Vec::new();
            while recorded.recv_many(&mut batch, BATCH).await > 0 {
                let told = batch.drain(..).filter_map(|record: Record| gathered.take(0, record));
                told.for_each(|told| progress(&told));
                end_if_full(gathered, options, early);
            }
        };
        let (played, ()) = tokio::join!(play(Arc::new(stage), Share::ALL, early.told()), gather);
        played
    }
}

/// No more is recorded than fits.
pub(super) fn end_if_full(gathered: &Gathered, options: &LegOptions, early: &EarlyEnd) {
    if gathered.is_full() && !early.is_told() {
        early.tell();
        let most = options.most_records;
        (options.warn)(&format!("the leg ended early: more than {most} records would not be kept"));
    }
}

/// Fires a share of the stage's plan; the stage's records end when it does.
pub(super) async fn play(
    stage: Arc<Stage>,
    share: Share,
    stop: impl Future<Output = ()>,
) -> Result<Played, RunError> {
    // A call among the hooks may wait for children of this process that are not the generator's, a database server.
    let with_children = stage.plan.functions.iter().any(|function| function.runtime != Runtime::Task);
    let before = usage::cpu(with_children);
    let ended = fire(&stage, share, stop).await;
    let cpu = usage::cpu(with_children).saturating_sub(before);
    match ended {
        Ended::InTime | Ended::Stopped => Ok(Played { heard: heard(&stage.roles), cpu }),
        Ended::Panicked(why) => Err(RunError::Panicked { why }),
    }
}

/// The plan's functions, made ready.
///
/// # Errors
/// [`RunError::NoPassword`]
pub(super) fn roles(
    plan: &Plan,
    target: &Target,
    passwords: &BTreeMap<String, String>,
) -> Result<Arc<[Role]>, RunError> {
    let role = |(index, function): (usize, &Function)| {
        Ok(Role {
            index,
            id: u16::try_from(index).unwrap_or(u16::MAX),
            identity: identity(function, target, passwords)?,
            script: Script::of(function),
            heard: function.script.iter().map(|_| AtomicU64::new(0)).collect(),
        })
    };
    plan.functions.iter().enumerate().map(role).collect()
}

/// What starts the plan's functions that are processes.
///
/// # Errors
/// [`RunError::Functions`]
pub(super) fn functions(
    plan: &Plan,
    target: &Target,
    directory: Option<&Path>,
) -> Result<Option<Functions>, RunError> {
    Functions::of(plan, target, directory).map_err(RunError::Functions)
}

/// Makes sure that a share of the plan has the sockets that it needs.
///
/// # Errors
/// [`RunError::Files`]
pub(super) fn raise_files(plan: &Plan, share: Share) -> Result<(), RunError> {
    raise_open_files(share.sockets(plan) + OTHER_FILES).map_err(RunError::Files)
}

fn identity(
    function: &Function,
    target: &Target,
    passwords: &BTreeMap<String, String>,
) -> Result<Identity, RunError> {
    let user = function.user.as_deref().unwrap_or_else(|| target.user());
    let of_target = (user == target.user()).then(|| target.password());
    let password = passwords.get(user).map(String::as_str).or(of_target);
    let password = password.ok_or_else(|| RunError::NoPassword { role: user.to_owned() })?;
    Ok(Identity {
        user: user.to_owned(),
        password: password.to_owned(),
        application_name: function.name.clone(),
        options: function.options.clone(),
    })
}

fn heard(roles: &[Role]) -> Vec<Vec<u64>> {
    let of = |role: &Role| role.heard.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    roles.iter().map(of).collect()
}

/// How many statements were heard of, of those that PostgreSQL counts.
fn counted(plan: &Plan, heard: &[Vec<u64>]) -> u64 {
    let scripts = plan.functions.iter().map(|function| &function.script);
    let lines = scripts.zip(heard).flat_map(|(script, heard)| script.iter().zip(heard));
    lines.filter(|(line, _)| is_counted(line)).map(|(_, heard)| heard).sum()
}

/// The observer began to look `lead` before the leg started.
fn add(leg: &mut Leg, observed: Observed, lead: Duration, options: &LegOptions) {
    let Observed { mut backends, sessions, statements, warnings } = observed;
    for sample in &mut backends {
        sample.at_us = sample.at_us.saturating_sub(micros(lead));
    }
    leg.backends = backends;
    leg.sessions = sessions;
    leg.statements = statements;
    for warning in &warnings {
        (options.warn)(warning);
    }
    leg.warnings = warnings;
}

fn empty_leg(plan: &Plan, options: &LegOptions) -> Leg {
    Leg {
        started_unix_ms: unix(Duration::ZERO).as_millis().try_into().unwrap_or(u64::MAX),
        generator: GeneratorLoad { cpu_us: 0, cores: usage::cores() },
        ..Leg::empty(&options.target.name, options.round, plan.function_names())
    }
}

/// The time of day after `lead`, since the Unix epoch.
pub(super) fn unix(lead: Duration) -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + lead
}
