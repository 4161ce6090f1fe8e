//! The legs of a comparison, one after the other: every plan, every round, every target.

use super::Failure;
use super::contestants::Contestant;
use super::ground::{Ground, MAX_CONNECTIONS, Stand};
use super::page::Circumstances;
use super::publish::Shelf;
use super::schedule::{Remaining, Turns, about, in_turn};
use loadtest::leg::Leg;
use loadtest::limits::raise_open_files;
use loadtest::machine;
use loadtest::plan::{Metric, Plan};
use loadtest::report::{Run, Summary, units};
use loadtest::run::{Hooks, LegOptions, Progress, run_leg};
use loadtest::terminal::{ProgressLine, Stop};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::spawn_blocking;

/// Files that are open besides the clients' sockets, in this process and in a pooler.
const OTHER_FILES: u64 = 500;

/// A comparison under way.
#[derive(Debug)]
pub struct Comparison {
    plans: Vec<Arc<Plan>>,
    contestants: Vec<Contestant>,
    ground: Ground,
    remaining: Remaining,
    /// Of all plans; what is missing is told of each.
    circumstances: Circumstances,
    /// Of the plan under way.
    missing: Vec<String>,
}

/// Which leg.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    plan: usize,
    round: u32,
    contestant: &'a Contestant,
}

impl Comparison {
    /// Starts PostgreSQL.
    ///
    /// # Errors
    /// It does not start, or the system allows too few open files.
    pub async fn start(
        plans: Vec<Arc<Plan>>,
        contestants: Vec<Contestant>,
        rounds: u32,
        pool_size: u32,
    ) -> Result<Self, Failure> {
        let most = plans.iter().map(|plan| plan.connections()).max().unwrap_or(0);
        raise_open_files(most + OTHER_FILES)?;
        let load = machine::load_average();
        eprintln!("starting PostgreSQL");
        let ground = {
            let plans = plans.clone();
            spawn_blocking(move || Ground::start(&plans, pool_size)).await??
        };
        let circumstances = Circumstances {
            started: machine::today(),
            postgres: ground.version(),
            max_connections: MAX_CONNECTIONS,
            settings: ground.settings()?,
            machine: machine::describe(),
            load,
            rounds,
            pool_size,
            turns: Turns::Balanced,
            missing: Vec::new(),
        };
        let legs_each = rounds.saturating_mul(u32::try_from(contestants.len())?);
        let remaining = Remaining::new(plans.iter().map(|plan| plan.duration.duration()), legs_each);
        Ok(Self { plans, contestants, ground, remaining, circumstances, missing: Vec::new() })
    }

    /// Runs all plans, until Ctrl-C, and keeps what each showed as soon as its rounds are done. What was kept of any of
    /// them before is removed first. A leg that fails is missing; the others are run all the same.
    ///
    /// # Errors
    /// Results cannot be written.
    pub async fn measure(&mut self, shelf: &Shelf, stop: &Stop) -> Result<(), Failure> {
        for plan in &self.plans {
            shelf.discard(&plan.name)?;
        }
        eprintln!("about {} to go", about(self.remaining.left()));
        for plan in 0..self.plans.len() {
            if stop.is_asked() {
                break;
            }
            let run = self.measure_plan(plan, stop).await;
            if stop.is_asked() {
                self.missing.push(format!("{}: it was ended by Ctrl-C", run.plan.name));
            }
            let missing = std::mem::take(&mut self.missing);
            shelf.keep(&run, &Circumstances { missing, ..self.circumstances.clone() })?;
        }
        Ok(())
    }

    async fn measure_plan(&mut self, plan: usize, stop: &Stop) -> Run {
        let mut run = Run {
            plan: Plan::clone(&self.plans[plan]),
            targets: self.contestants.iter().map(|contestant| contestant.info.clone()).collect(),
            legs: Vec::new(),
            observed: true,
            machine: self.circumstances.machine.clone(),
            started_unix_ms: now_unix_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let contestants = self.contestants.clone();
        for round in 0..self.circumstances.rounds {
            for contestant in in_turn(&contestants, round) {
                if stop.is_asked() {
                    return run;
                }
                let place = Place { plan, round, contestant };
                // What was ended early cannot be compared.
                run.legs.extend(self.measure_leg(place, stop).await.filter(|leg| !leg.interrupted));
            }
        }
        run
    }

    /// One leg, and quiet after it. What goes wrong is noted.
    async fn measure_leg(&mut self, place: Place<'_>, stop: &Stop) -> Option<Leg> {
        let began = Instant::now();
        let leg = self.run_leg(place, stop).await;
        let quiet = self.restore_quiet().await;
        self.remaining.leg_is_over(place.plan, began.elapsed());
        let name = self.name(place);
        match &leg {
            Ok(leg) if leg.interrupted && stop.is_asked() => {}
            Ok(leg) if leg.interrupted => self.miss(&name, &"it ended early".into()),
            Ok(leg) => self.tell(&name, place, leg),
            Err(error) => self.miss(&name, error),
        }
        if let Err(error) = quiet {
            self.miss(&name, &format!("PostgreSQL afterwards: {error}").into());
        }
        leg.ok()
    }

    async fn run_leg(&self, place: Place<'_>, stop: &Stop) -> Result<Leg, Failure> {
        let plan = &self.plans[place.plan];
        let stand = self.stand(plan, place.contestant).await?;
        let is_terminal = std::io::stderr().is_terminal();
        let name = self.name(place);
        // Below the line that shows the leg's progress.
        let start = if is_terminal { "\n" } else { "" };
        let options = LegOptions {
            round: place.round,
            passwords: self.ground.passwords(plan),
            hooks: self.hooks(),
            observer: Some(self.ground.observer()?),
            warn: Arc::new(move |warning| eprintln!("{start}{name}: warning: {warning}")),
            ..LegOptions::new(stand.target.clone())
        };
        // Elsewhere, one line per leg is enough.
        let mut live = is_terminal.then(|| ProgressLine::new(self.name(place)));
        let show = |progress: &Progress| live.iter_mut().for_each(|line| line.show(progress));
        let leg = Box::pin(run_leg(plan, &options, show, stop.clone().asked())).await;
        if let Some(line) = live {
            line.finish();
        }
        spawn_blocking(move || drop(stand)).await?;
        Ok(leg?)
    }

    async fn stand(&self, plan: &Arc<Plan>, contestant: &Contestant) -> Result<Stand, Failure> {
        let (ground, plan, contestant) = (self.ground.clone(), Arc::clone(plan), contestant.clone());
        spawn_blocking(move || ground.stand(&plan, &contestant)).await?
    }

    /// What plans can let happen to PostgreSQL.
    fn hooks(&self) -> Hooks {
        let (to_stop, to_start) = (self.ground.clone(), self.ground.clone());
        Hooks::new()
            .with_call("database-stop", move || {
                to_stop.stop_database();
                Ok(())
            })
            .with_call("database-start", move || to_start.start_database().map_err(|error| error.to_string()))
    }

    /// PostgreSQL is there (a leg may have been ended in the middle of an outage), and has no client.
    async fn restore_quiet(&self) -> Result<(), Failure> {
        let ground = self.ground.clone();
        spawn_blocking(move || ground.start_database()).await??;
        let ended = self.ground.wait_for_quiet().await?;
        if ended > 0 {
            eprintln!("  {ended} backends were still there after the leg, and were ended");
        }
        Ok(())
    }

    fn name(&self, place: Place<'_>) -> String {
        let Place { plan, round, contestant } = place;
        let (plan, rounds) = (&self.plans[plan].name, self.circumstances.rounds);
        format!("{plan}, round {} of {rounds}, {}", round + 1, contestant.info.name)
    }

    fn tell(&self, name: &str, place: Place<'_>, leg: &Leg) {
        let summary = Summary::of(&self.plans[place.plan], leg);
        let figure = |metric| {
            let value = summary.value(metric, None, None);
            value.map_or(units::ABSENT.to_owned(), |value| units::metric(metric, value))
        };
        let (goodput, p99) = (figure(Metric::Goodput), figure(Metric::P99));
        eprintln!("{name}: goodput {goodput}, p99 {p99}; about {} to go", about(self.remaining.left()));
    }

    fn miss(&mut self, name: &str, error: &Failure) {
        eprintln!("{name}: {error}");
        self.missing.push(format!("{name}: {error}"));
    }
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(0)
}
