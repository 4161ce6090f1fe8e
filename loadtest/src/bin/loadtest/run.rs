//! `loadtest run`: a plan, once or several times, against several targets in turn.

use clap::Args;
use loadtest::client::{ConnectTimes, Failure, Session, Target, TargetError};
use loadtest::leg::Leg;
use loadtest::plan::{End, Plan};
use loadtest::report::{self, Ruling, Run, TargetInfo};
use loadtest::run::{Hooks, LegOptions, RunError, run_leg};
use loadtest::terminal::{INTERRUPTED, ProgressLine, Stop, print, tell};
use loadtest::{machine, plans};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What one leg leaves behind (backends that end, statements of clients that are gone) gets this long to go away.
const BETWEEN_LEGS: Duration = Duration::from_secs(1);

/// How long one login before the first leg may take. A target that answers nobody is what a plan may be about; it is not
/// refused.
const LOGIN_PATIENCE: Duration = Duration::from_secs(5);

/// Exit code of a run that failed.
const EXIT_FAILED: u8 = 1;

/// Exit code of a usage or plan error; clap's own for the former.
const EXIT_USAGE: u8 = 2;

/// What DSNs of the form `key=value` begin with: such a word in front of the first sign is no name.
const DSN_WORDS: [&str; 7] = ["host", "hostaddr", "port", "user", "password", "dbname", "sslmode"];

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
    /// the environment, so that no password is on the command line. At least one; can be given several times
    #[arg(long, value_name = "NAME=DSN")]
    target: Vec<String>,
    /// NAME=DSN: what the targets are compared with; no assertion has to hold for it
    #[arg(long, value_name = "NAME=DSN")]
    baseline: Vec<String>,
    /// DSN straight to PostgreSQL, to count backends and statements there; best as a member of pg_monitor. Without it, what
    /// the plan asserts of them is not judged
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

/// Runs it, writes the reports, prints the table.
///
/// Exit codes: 0 no assertion fails, 1 one does or the run failed, 2 it could not begin (usage, plan, login), 130
/// interrupted.
pub async fn run(arguments: RunArguments) -> ExitCode {
    match attempt(&arguments).await {
        Ok(code) => code,
        Err(Fault { code, why }) => {
            tell(format_args!("loadtest: {why}"));
            ExitCode::from(code)
        }
    }
}

async fn attempt(arguments: &RunArguments) -> Result<ExitCode, Fault> {
    let order = Order::from(arguments).await.map_err(Fault::usage)?;
    let stop = Stop::on_signals();
    tokio::select! {
        biased;
        () = stop.clone().asked() => return Ok(ExitCode::from(INTERRUPTED)),
        welcome = order.log_in_everywhere() => welcome.map_err(Fault::usage)?,
    }
    let reports = Reports::create(arguments).map_err(Fault::usage)?;
    let mut run = order.begin();
    let went = order.run(&mut run, &stop).await;
    // What was measured until something failed may have taken hours.
    let written = reports.write(&run).map_err(|why| Fault { code: EXIT_FAILED, why: why.into() });
    if !run.legs.is_empty() {
        print(report::to_table(&run));
    }
    went?;
    written?;
    let fails = report::judge(&run).iter().any(|verdict| verdict.ruling == Ruling::Fails);
    Ok(match (stop.is_asked(), fails) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::from(EXIT_FAILED),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Why the program ends, and with which code.
struct Fault {
    code: u8,
    why: Box<dyn Error>,
}

impl Fault {
    fn usage(why: Box<dyn Error>) -> Self {
        Self { code: EXIT_USAGE, why }
    }

    /// Of a leg: whether somebody has to mend the command line, the plan or the installation, or has to look at what
    /// happened.
    fn of_leg(target: &str, error: &RunError) -> Self {
        let usage = matches!(
            error,
            RunError::NoHook { .. }
                | RunError::LateEvent { .. }
                | RunError::NoPassword { .. }
                | RunError::Files(_)
                | RunError::Functions(_)
                | RunError::Target(_)
        );
        let code = if usage { EXIT_USAGE } else { EXIT_FAILED };
        Self { code, why: format!("{target}: {error}").into() }
    }
}

/// The files of the reports, open since before the first leg: a path that cannot be written is told at once.
struct Reports<'a>(Vec<(&'a Path, File, Form)>);

#[derive(Clone, Copy)]
enum Form {
    Html,
    Json,
}

impl<'a> Reports<'a> {
    fn create(arguments: &'a RunArguments) -> Result<Self, Box<dyn Error>> {
        let wanted = [(&arguments.html, Form::Html), (&arguments.json, Form::Json)];
        let paths = wanted.into_iter().filter_map(|(path, form)| Some((path.as_deref()?, form)));
        let open = |(path, form): (&'a Path, Form)| match File::create(path) {
            Ok(file) => Ok((path, file, form)),
            Err(error) => Err(format!("{}: {error}", path.display()).into()),
        };
        paths.map(open).collect::<Result<_, _>>().map(Self)
    }

    fn write(self, run: &Run) -> Result<(), String> {
        for (path, file, form) in self.0 {
            form.write(file, run).map_err(|error| format!("{}: {error}", path.display()))?;
            tell(format_args!("wrote {}", path.display()));
        }
        Ok(())
    }
}

impl Form {
    fn write(self, mut file: File, run: &Run) -> io::Result<()> {
        match self {
            Self::Html => file.write_all(report::to_html(run).as_bytes()),
            Self::Json => report::json::write(run, BufWriter::new(file)),
        }
    }
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
        let targets = targets(arguments).await?;
        let Some((first, _)) = targets.iter().find(|(_, baseline)| !baseline) else {
            return Err("no --target NAME=DSN".into());
        };
        let mut options = LegOptions::new(first.clone());
        options.processes = arguments.processes;
        options.passwords = pairs("--user", "ROLE=PASSWORD", &arguments.user)?
            .map(|(role, password)| Ok((role, secret(&password)?)))
            .collect::<Result<BTreeMap<_, _>, String>>()?;
        options.hooks = pairs("--hook", "NAME=COMMAND", &arguments.hook)?
            .fold(Hooks::new(), |hooks, (name, command)| hooks.with_command(&name, &command));
        options.hooks.check(&plan)?;
        options.allow_remote = arguments.allow_remote;
        options.functions.clone_from(&arguments.functions);
        options.warn = Arc::new(|warning: &str| tell(format_args!("\nwarning: {warning}")));
        if let Some(dsn) = &arguments.observe {
            let observer =
                Target::parse("observer", &secret(dsn)?).map_err(|error| format!("--observe: {error}"))?;
            observer.resolve(arguments.allow_remote).await.map_err(|error| format!("--observe: {error}"))?;
            options.observer = Some(observer);
        }
        Ok(Self { plan, targets, options, rounds: arguments.rounds })
    }

    /// One login with each DSN: what is wrong with a password or a port is to be seen before thousands fail by it.
    ///
    /// Cancel safety: dropped midway, the connection is closed.
    async fn log_in_everywhere(&self) -> Result<(), Box<dyn Error>> {
        let roles = || self.plan.functions.iter().map(|function| function.user.as_deref());
        let is_used = |target: &&Target| roles().any(|role| role.is_none_or(|role| role == target.user()));
        let targets = self.targets.iter().map(|(target, _)| target).filter(is_used);
        for target in targets.chain(&self.options.observer) {
            if let Some(why) = refusal(target).await {
                return Err(format!("{}: {why}", target.name).into());
            }
        }
        Ok(())
    }

    /// The report of no leg yet.
    fn begin(&self) -> Run {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let info = |(target, baseline): &(Target, bool)| TargetInfo {
            name: target.name.clone(),
            baseline: *baseline,
            about: String::new(),
        };
        Run {
            plan: Plan::clone(&self.plan),
            targets: self.targets.iter().map(info).collect(),
            legs: Vec::new(),
            observed: self.options.observer.is_some(),
            machine: machine::describe(),
            started_unix_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Adds leg by leg. After an error, the legs that were finished are there.
    async fn run(&self, run: &mut Run, stop: &Stop) -> Result<(), Fault> {
        tell(format_args!("{}: {}", self.plan.name, self.plan.title));
        for round in 0..self.rounds {
            for target in rotated(&self.targets, round) {
                if !run.legs.is_empty() {
                    let _ = tokio::time::timeout(BETWEEN_LEGS, stop.clone().asked()).await;
                }
                if stop.is_asked() {
                    return Ok(());
                }
                let leg = self.leg(round, target, stop).await;
                run.legs.push(leg.map_err(|error| Fault::of_leg(&target.name, &error))?);
            }
        }
        Ok(())
    }

    async fn leg(&self, round: u32, target: &Target, stop: &Stop) -> Result<Leg, RunError> {
        let options = LegOptions { target: target.clone(), round, ..self.options.clone() };
        let name = if self.rounds > 1 {
            format!("{} ({}/{})", target.name, round + 1, self.rounds)
        } else {
            target.name.clone()
        };
        let mut line = ProgressLine::new(name);
        let leg = run_leg(&self.plan, &options, |progress| line.show(progress), stop.clone().asked()).await;
        line.finish();
        leg
    }
}

/// Every target once, each round beginning with another one.
fn rotated(targets: &[(Target, bool)], round: u32) -> impl Iterator<Item = &Target> {
    let first = usize::try_from(round).unwrap_or(0) % targets.len().max(1);
    targets.iter().cycle().skip(first).take(targets.len()).map(|(target, _)| target)
}

/// Baselines first, then targets.
async fn targets(arguments: &RunArguments) -> Result<Vec<(Target, bool)>, Box<dyn Error>> {
    let mut targets: Vec<(Target, bool)> = Vec::new();
    for (flag, texts, baseline) in
        [("--baseline", &arguments.baseline, true), ("--target", &arguments.target, false)]
    {
        for text in texts {
            let (name, dsn) = named(flag, text)?;
            if targets.iter().any(|(known, _)| known.name == name) {
                return Err(format!("{flag}: there are two targets with the name {name}").into());
            }
            let told = |error: TargetError| format!("{flag} {name}: {error}");
            let target = Target::parse(name, &secret(dsn)?).map_err(told)?;
            target.resolve(arguments.allow_remote).await.map_err(told)?;
            targets.push((target, baseline));
        }
    }
    Ok(targets)
}

/// Why nobody can log in there at all; `None` if somebody can, or if that is not certain: a server that is full or is
/// starting up, and one that does not answer, may be what the plan is about.
async fn refusal(target: &Target) -> Option<Failure> {
    let identity = target.identity("loadtest-login");
    let mut times = ConnectTimes::default();
    let login = Box::pin(Session::connect(target, &identity, &mut times));
    let welcome = tokio::time::timeout(LOGIN_PATIENCE, login).await;
    match welcome {
        Ok(Ok(session)) => {
            session.end(End::Terminate).await;
            None
        }
        Ok(Err(failure)) if is_for_ever(&failure, times) => Some(failure),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Class 28 is a wrong role or password, 3D a database that is not there (PostgreSQL's manual, appendix A).
fn is_for_ever(failure: &Failure, times: ConnectTimes) -> bool {
    match failure {
        Failure::Server(error) => error.sqlstate.starts_with("28") || error.sqlstate.starts_with("3D"),
        Failure::Connection(_) => times.connect.is_none(),
        Failure::Protocol(_) | Failure::Timeout => false,
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

/// NAME=DSN, or what is wrong. Whoever leaves the name away gives a DSN, and there may be a password in it: nothing of the
/// text is told.
fn named<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), String> {
    let (name, dsn) = pair(flag, "NAME=DSN", text)?;
    let odd =
        |letter: char| matches!(letter, ':' | '/' | '@') || letter.is_whitespace() || letter.is_control();
    if name.contains(odd) || DSN_WORDS.contains(&name) {
        return Err(format!(
            "{flag} wants NAME=DSN, with a name of its own in front of the DSN, without blanks and any of : / @"
        ));
    }
    Ok((name, dsn))
}

fn pair<'a>(flag: &str, wanted: &str, text: &'a str) -> Result<(&'a str, &'a str), String> {
    // What follows the first sign may have more of them: a DSN's parameters.
    text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| format!("{flag} wants {wanted}"))
}

fn pairs(
    flag: &str,
    wanted: &str,
    texts: &[String],
) -> Result<impl Iterator<Item = (String, String)>, String> {
    let pairs: Result<Vec<_>, _> = texts
        .iter()
        .map(|text| pair(flag, wanted, text).map(|(name, rest)| (name.to_owned(), rest.to_owned())))
        .collect();
    pairs.map(Vec::into_iter)
}

/// The text itself, or what an environment variable holds.
fn secret(text: &str) -> Result<String, String> {
    match text.strip_prefix("env:") {
        Some(variable) => std::env::var(variable).map_err(|_| format!("the variable {variable} is not set")),
        None => Ok(text.to_owned()),
    }
}
