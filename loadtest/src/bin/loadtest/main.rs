//! `loadtest`: fires function instances at PostgreSQL and the proxies before it, and says what became of them.
//!
//! Everything that does something is in the library; here is the command line.

mod calibrate;
mod compare;
mod invoke;
mod probe;
mod run;
mod show;

use clap::{Parser, Subcommand};
use loadtest::terminal::tell;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  # What would a thousand cold invocations at once do to this database?
  loadtest run lambda-1000 --target mine=postgres://app:secret@127.0.0.1:6432/app

  # The same plan without and with the proxy, three rounds in turn, with a page to look at
  loadtest run lambda-1000 --rounds 3 --html report.html \\
    --baseline direct=postgres://app:secret@127.0.0.1:5432/app \\
    --target pgcorral=postgres://app:secret@127.0.0.1:6432/app \\
    --observe postgres://postgres:secret@127.0.0.1:5432/app

  # Is production well? One invocation every ten seconds; ends with 1 after three failures in a row
  PGCORRAL_PROBE_DSN=postgres://app:secret@db.internal/app loadtest probe --every 10s

Exit codes: 0 done and no assertion fails, 1 an assertion or the run failed, 2 it could not begin (usage, plan, login),
130 ended by Ctrl-C.";

/// Load tests for PostgreSQL and its poolers: function instances by the thousand, judged by what PostgreSQL counts.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a plan against one or several targets, in turn
    Run(Box<run::RunArguments>),
    /// Lists the plans that are built in, or prints one
    Plans(show::PlansArguments),
    /// Makes the report of a run anew from its JSON
    Report(show::ReportArguments),
    /// Sends one invocation after the other to a live database, for ever: a canary with metrics
    Probe(probe::ProbeArguments),
    /// Runs a handler of `loadtest/functions` in a process of its own, a few times
    Invoke(invoke::InvokeArguments),
    /// Measures how fast this program itself is
    Calibrate(calibrate::CalibrateArguments),
    /// Compares pgcorral with PgBouncer and with no pooler on this machine
    Compare(compare::CompareArguments),
    /// One of several processes of a run
    #[command(hide = true)]
    Worker,
    /// The server that `calibrate` measures against
    #[command(hide = true)]
    Stub(calibrate::StubArguments),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(format_args!("loadtest: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(dispatch(command));
    // Sockets of silent clients and the like go with the process; nothing is waited for.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Run(arguments) => Box::pin(run::run(*arguments)).await,
        Command::Plans(arguments) => show::plans(&arguments),
        Command::Report(arguments) => show::report(&arguments),
        Command::Probe(arguments) => Box::pin(probe::run(arguments)).await,
        Command::Invoke(arguments) => Box::pin(invoke::run(arguments)).await,
        Command::Calibrate(arguments) => Box::pin(calibrate::run(arguments)).await,
        Command::Compare(arguments) => Box::pin(compare::run(arguments)).await,
        Command::Worker => Box::pin(worker()).await,
        Command::Stub(arguments) => Box::pin(calibrate::stub(arguments)).await,
    }
}

async fn worker() -> ExitCode {
    match loadtest::run::worker_main().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("loadtest worker: {error}"));
            ExitCode::FAILURE
        }
    }
}
