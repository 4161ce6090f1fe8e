//! `loadtest invoke`: a handler in processes of its own, a few times, to see that it works before it is load.

use clap::{Args, ValueEnum};
use loadtest::client::{Failure, Target};
use loadtest::functions::{Answer, Database, Invoker, InvokerOptions, Launch, ProcessInstance};
use loadtest::limits::raise_open_files;
use loadtest::plan::{Runtime, Span};
use loadtest::terminal::{print, tell};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// It could not begin: exit status 2, as for a mistake in the options.
const CANNOT_BEGIN: u8 = 2;

/// Of each process: its standard input, output and error, and the handle by which its end is heard of.
const FILES_OF_INSTANCE: u64 = 4;

/// Ours, and both ends of the pipes of those that are just being started.
const OTHER_FILES: u64 = 200;

const EXAMPLES: &str = "\
The handlers are those of loadtest/functions, made ready by scripts/setup-functions.sh in target/functions. A handler of
your own goes into a copy of that directory (`cp -a`), which --functions or LOADTEST_FUNCTIONS names: the script writes
its own over whatever is in target/functions.

Exit status: 0 if every invocation was served, 1 if one was not, 2 if it cannot begin.

Examples:
  loadtest invoke node --dsn postgres://app:secret@127.0.0.1:6432/app
  loadtest invoke python --dsn env:DATABASE_URL --instances 20 --invocations 3 --freeze 2s 'select pg_sleep(0.1)'";

/// The command line of `loadtest invoke`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InvokeArguments {
    /// What runs the handler
    runtime: Language,
    /// What it runs, in one transaction; can be given several times
    #[arg(default_value = "select 1")]
    script: Vec<String>,
    /// What it connects to; env:VARIABLE keeps a password off the command line
    #[arg(long)]
    dsn: String,
    /// Its name: the connection's application_name
    #[arg(long, default_value = "function")]
    function: String,
    /// Processes at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    instances: u32,
    /// Invocations of each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    invocations: u32,
    /// Suspend the process for so long between two invocations
    #[arg(long)]
    freeze: Option<Span>,
    /// Kill the process when an invocation takes longer
    #[arg(long, default_value = "30s")]
    timeout: Span,
    /// Processes that may be starting at a time; four for each core if absent
    #[arg(long)]
    starting: Option<usize>,
    /// Where the handlers are
    #[arg(long, value_name = "DIRECTORY")]
    functions: Option<PathBuf>,
    /// Permit a target that is not this machine
    #[arg(long)]
    allow_remote: bool,
}

/// Runtimes that are processes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// Python with psycopg
    Python,
    /// Node.js with pg
    Node,
    /// Go with lib/pq
    Go,
}

/// Runs it, and prints what became of each invocation and how long the processes took to start.
pub async fn run(arguments: InvokeArguments) -> ExitCode {
    let prepared = prepare(&arguments).await;
    let (invoker, database) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => {
            tell(format_args!("loadtest: {why}"));
            return ExitCode::from(CANNOT_BEGIN);
        }
    };
    let arguments = std::sync::Arc::new(arguments);
    let mut instances = JoinSet::new();
    for number in 0..arguments.instances {
        let (arguments, invoker, database) = (arguments.clone(), invoker.clone(), database.clone());
        instances.spawn(async move { live(number, &arguments, &invoker, &database).await });
    }
    let (mut all_served, mut starts) = (true, Vec::new());
    while let Some(lived) = instances.join_next().await {
        let (started_in, served) = lived.unwrap_or((None, false));
        all_served &= served;
        starts.extend(started_in);
    }
    starts.sort_unstable();
    if let (Some(median), Some(longest)) = (starts.get(starts.len() / 2), starts.last()) {
        print(format_args!(
            "started {} in {} median, {} longest",
            starts.len(),
            millis(*median),
            millis(*longest)
        ));
    }
    if all_served { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn prepare(arguments: &InvokeArguments) -> Result<(Invoker, Database), String> {
    let needed = u64::from(arguments.instances) * FILES_OF_INSTANCE + OTHER_FILES;
    raise_open_files(needed).map_err(|error| error.to_string())?;
    let dsn = from_environment(&arguments.dsn)?;
    let target = Target::parse("target", &dsn).map_err(|error| error.to_string())?;
    target.resolve(arguments.allow_remote).await.map_err(|error| error.to_string())?;
    let database = Database::parse(&dsn).map_err(|error| error.to_string())?;
    let options = InvokerOptions {
        directory: arguments.functions.clone(),
        most: arguments.instances as usize,
        starting: arguments.starting,
    };
    let invoker = Invoker::new(&options).map_err(|error| error.to_string())?;
    invoker.check(arguments.runtime.into()).map_err(|error| error.to_string())?;
    Ok((invoker, database))
}

/// The text itself, or what the environment variable holds that `env:VARIABLE` names.
pub fn from_environment(text: &str) -> Result<String, String> {
    match text.strip_prefix("env:") {
        Some(variable) => std::env::var(variable).map_err(|_| format!("the variable {variable} is not set")),
        None => Ok(text.to_owned()),
    }
}

/// One instance's life; how long its start took, and whether all its invocations were served.
async fn live(
    number: u32,
    arguments: &InvokeArguments,
    invoker: &Invoker,
    database: &Database,
) -> (Option<Duration>, bool) {
    let launch = Launch { runtime: arguments.runtime.into(), database, function: &arguments.function };
    let mut instance = match invoker.start(launch).await {
        Ok(instance) => instance,
        Err(error) => {
            print(format_args!("{number}: {error}"));
            return (None, false);
        }
    };
    let started_in = instance.started_in();
    let mut all_served = true;
    for invocation in 0..arguments.invocations {
        if invocation > 0
            && let Some(span) = arguments.freeze
            && let Err(error) = suspend(&mut instance, span.duration()).await
        {
            print(format_args!("{number}: it cannot be suspended: {error}"));
        }
        let begun = Instant::now();
        let answer = instance.invoke(&arguments.script, true, arguments.timeout.duration()).await;
        print(format_args!("{number}: {}", told(&answer, begun.elapsed())));
        all_served &= answer.result.is_ok();
        if !instance.is_usable() {
            break;
        }
    }
    instance.end().await;
    (Some(started_in), all_served)
}

async fn suspend(instance: &mut ProcessInstance, lasting: Duration) -> io::Result<()> {
    instance.freeze()?;
    sleep(lasting).await;
    instance.thaw()
}

fn told(answer: &Answer, took: Duration) -> String {
    let connects = answer.connects.iter().map(|connect| match connect.ok {
        true => format!(", connected in {}", millis(Duration::from_micros(connect.took_us))),
        false => ", could not connect".to_owned(),
    });
    let outcome = match &answer.result {
        Ok(rows) => format!("served, {rows} rows"),
        Err(Failure::Timeout) => "killed at its timeout".to_owned(),
        Err(failure) => format!("failed: {failure}{}", reason(failure)),
    };
    let again = if answer.attempts > 1 { ", at the second attempt" } else { "" };
    format!("{outcome}{again}, {}{}", millis(took), connects.collect::<String>())
}

fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Server(error) => {
            error.reason.as_ref().map(|reason| format!(", reason={reason}")).unwrap_or_default()
        }
        Failure::Connection(_) | Failure::Protocol(_) | Failure::Timeout => String::new(),
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

impl From<Language> for Runtime {
    fn from(language: Language) -> Self {
        match language {
            Language::Python => Self::Python,
            Language::Node => Self::Node,
            Language::Go => Self::Go,
        }
    }
}
