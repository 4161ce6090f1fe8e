//! `loadtest run`: a plan, once or several times, against several targets in turn.

use clap::Args;
use loadtest::client::Target;
use loadtest::leg::Leg;
use loadtest::plan::Plan;
use loadtest::report::{self, Run, TargetInfo};
use loadtest::run::{Hooks, LegOptions, run_leg};
use loadtest::terminal::{INTERRUPTED, ProgressLine, Stop};
use loadtest::{machine, plans};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What one leg leaves behind (backends that end, statements of clients that are gone) gets this long to go away.
const BETWEEN_LEGS: Duration = Duration::from_secs(1);

/// Exit code of a usage or plan error; clap's own for the former.
const EXIT_USAGE: u8 = 2;

/// The command line of `loadtest run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each round runs the plan against every target once, each round beginning with another target: what \
                        else the machine does meets all of them alike."
)]
pub struct RunArguments {
    /// A built-in plan (see `loadtest plans`) or a TOML file
    plan: String,
    /// NAME=DSN: what is tested; the plan's assertions have to hold for it. A DSN of the form env:VARIABLE is read from
    /// the environment, so that no password is on the command line. Can be given several times
    #[arg(long, value_name = "NAME=DSN")]
    target: Vec<String>,
    /// NAME=DSN: what the targets are compared with; no assertion has to hold for it
    #[arg(long, value_name = "NAME=DSN")]
    baseline: Vec<String>,
    /// DSN straight to PostgreSQL, to count backends and statements there; best as a member of pg_monitor
    #[arg(long, value_name = "DSN")]
    observe: Option<String>,
    /// How often the plan runs against every target
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Instances of all functions together, in the place of the plan's; each function keeps its share
    #[arg(long)]
    instances: Option<u32>,
    /// Spread the instances over so many processes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    processes: u32,
    /// ROLE=PASSWORD of a function's `user`; the password may be env:VARIABLE
    #[arg(long, value_name = "ROLE=PASSWORD")]
    user: Vec<String>,
    /// NAME=COMMAND: what a plan's event does; run by sh
    #[arg(long, value_name = "NAME=COMMAND")]
    hook: Vec<String>,
    /// Seed of the plan's randomness, in the place of the plan's
    #[arg(long)]
    seed: Option<u64>,
    /// Write the report as one self-contained page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the report with all raw data as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Permit targets that are not this machine. Load on other people's servers is an attack: be sure that they are yours
    #[arg(long)]
    allow_remote: bool,
    /// Where the drivers of functions with a `runtime` are installed; LOADTEST_FUNCTIONS, or else target/functions, if absent
    #[arg(long, value_name = "DIRECTORY")]
    functions: Option<PathBuf>,
}

/// Runs it, prints the table, writes the reports.
///
/// Exit codes: 0 every assertion holds, 1 one does not or the run failed, 2 usage or plan, 130 interrupted.
pub async fn run(arguments: RunArguments) -> ExitCode {
    let order = match Order::from(&arguments).await {
        Ok(order) => order,
        Err(error) => {
            eprintln!("loadtest: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let stop = Stop::on_signals();
    let run = match order.run(&stop).await {
        Ok(run) => run,
        Err(error) => {
            eprintln!("loadtest: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", report::to_table(&run));
    if let Err(error) = write(&arguments, &run) {
        eprintln!("loadtest: {error}");
        return ExitCode::FAILURE;
    }
    if stop.is_asked() {
        return ExitCode::from(INTERRUPTED);
    }
    let holds = report::judge(&run).iter().all(|verdict| verdict.holds);
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The command line, understood.
struct Order {
    plan: Arc<Plan>,
    targets: Vec<(Target, bool)>,
    options: LegOptions,
    rounds: u32,
}

impl Order {
    async fn from(arguments: &RunArguments) -> Result<Self, Box<dyn Error>> {
        let plan = Arc::new(plan(arguments)?);
        let mut targets = Vec::new();
        for (texts, baseline) in [(&arguments.baseline, true), (&arguments.target, false)] {
            for text in texts {
                let (name, dsn) = pair(text)?;
                let target =
                    Target::parse(name, &secret(dsn)?).map_err(|error| format!("target {name}: {error}"))?;
                target
                    .resolve(arguments.allow_remote)
                    .await
                    .map_err(|error| format!("target {name}: {error}"))?;
                targets.push((target, baseline));
            }
        }
        let Some((first, _)) = targets.first() else { return Err("no --target NAME=DSN".into()) };
        let mut options = LegOptions::new(first.clone());
        options.processes = arguments.processes;
        options.passwords = pairs(&arguments.user)?
            .map(|(role, password)| Ok((role, secret(&password)?)))
            .collect::<Result<BTreeMap<_, _>, String>>()?;
        options.hooks = pairs(&arguments.hook)?
            .fold(Hooks::new(), |hooks, (name, command)| hooks.with_command(&name, &command));
        options.allow_remote = arguments.allow_remote;
        options.functions.clone_from(&arguments.functions);
        options.warn = Arc::new(|warning| eprintln!("\nwarning: {warning}"));
        if let Some(dsn) = &arguments.observe {
            let observer =
                Target::parse("observer", &secret(dsn)?).map_err(|error| format!("--observe: {error}"))?;
            observer.resolve(arguments.allow_remote).await.map_err(|error| format!("--observe: {error}"))?;
            options.observer = Some(observer);
        }
        Ok(Self { plan, targets, options, rounds: arguments.rounds })
    }

    async fn run(&self, stop: &Stop) -> Result<Run, Box<dyn Error>> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?;
        eprintln!("{}: {}", self.plan.name, self.plan.title);
        let mut legs = Vec::new();
        for round in 0..self.rounds {
            for turn in 0..self.targets.len() {
                if stop.is_asked() {
                    break;
                }
                if !legs.is_empty() {
                    tokio::time::sleep(BETWEEN_LEGS).await;
                }
                let index = (turn + usize::try_from(round)?) % self.targets.len();
                legs.push(self.leg(round, index, stop).await?);
            }
        }
        let info = |(target, baseline): &(Target, bool)| TargetInfo {
            name: target.name.clone(),
            baseline: *baseline,
            about: String::new(),
        };
        Ok(Run {
            plan: Plan::clone(&self.plan),
            targets: self.targets.iter().map(info).collect(),
            legs,
            machine: machine::describe(),
            started_unix_ms: u64::try_from(started.as_millis())?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    async fn leg(&self, round: u32, index: usize, stop: &Stop) -> Result<Leg, Box<dyn Error>> {
        let (target, _) = self.targets.get(index).ok_or("no target")?;
        let options = LegOptions { target: target.clone(), round, ..self.options.clone() };
        let name = if self.rounds > 1 {
            format!("{} ({}/{})", target.name, round + 1, self.rounds)
        } else {
            target.name.clone()
        };
        let mut line = ProgressLine::new(name);
        let leg = run_leg(&self.plan, &options, |progress| line.show(progress), stop.clone().asked()).await;
        line.finish();
        leg.map_err(|error| format!("{}: {error}", target.name).into())
    }
}

fn plan(arguments: &RunArguments) -> Result<Plan, Box<dyn Error>> {
    let mut plan = plans::find(&arguments.plan)?;
    if let Some(instances) = arguments.instances {
        plan = plan.with_instances(instances)?;
    }
    if let Some(seed) = arguments.seed {
        plan.seed = seed;
    }
    Ok(plan)
}

fn write(arguments: &RunArguments, run: &Run) -> Result<(), Box<dyn Error>> {
    let told = |path: &Path, written: std::io::Result<()>| {
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("wrote {}", path.display());
        Ok::<(), String>(())
    };
    if let Some(path) = &arguments.html {
        told(path, std::fs::write(path, report::to_html(run)))?;
    }
    if let Some(path) = &arguments.json {
        let written = File::create(path).and_then(|file| report::json::write(run, BufWriter::new(file)));
        told(path, written)?;
    }
    Ok(())
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    // What follows the first sign may have more of them: a DSN's parameters.
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| "a NAME= is missing in front".to_owned())
}

fn pairs(texts: &[String]) -> Result<impl Iterator<Item = (String, String)>, String> {
    let pairs: Result<Vec<_>, _> =
        texts.iter().map(|text| pair(text).map(|(name, rest)| (name.to_owned(), rest.to_owned()))).collect();
    pairs.map(Vec::into_iter)
}

/// The text itself, or what an environment variable holds.
fn secret(text: &str) -> Result<String, String> {
    match text.strip_prefix("env:") {
        Some(variable) => std::env::var(variable).map_err(|_| format!("the variable {variable} is not set")),
        None => Ok(text.to_owned()),
    }
}
