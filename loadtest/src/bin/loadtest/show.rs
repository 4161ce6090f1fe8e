//! `loadtest plans` and `loadtest report`: what needs no server.

use clap::Args;
use loadtest::plan::Plan;
use loadtest::report::Ruling;
use loadtest::terminal::{print, tell};
use loadtest::{plans, report};
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The command line of `loadtest plans`.
#[derive(Debug, Args)]
pub struct PlansArguments {
    /// Print this plan's text: a start for one of your own
    plan: Option<String>,
}

/// The command line of `loadtest report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// What `loadtest run --json` wrote
    json: PathBuf,
    /// Write the report as one self-contained page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Lists the built-in plans, or prints one.
pub fn plans(arguments: &PlansArguments) -> ExitCode {
    let Some(wanted) = &arguments.plan else {
        for (name, text) in plans::built_in() {
            print(described(name, text));
        }
        return ExitCode::SUCCESS;
    };
    if let Some((_, text)) = plans::built_in().iter().find(|(name, _)| name == wanted) {
        print(text.trim_end());
        return ExitCode::SUCCESS;
    }
    tell(format_args!("loadtest: there is no plan {wanted:?}; `loadtest plans` lists them"));
    ExitCode::from(2)
}

fn described(name: &str, text: &str) -> String {
    match Plan::parse(name, text, Path::new(".")) {
        Ok(plan) => {
            let about: Vec<_> =
                plan.about.trim().lines().map(|line| format!("    {}", line.trim())).collect();
            format!(
                "{name}: {} ({}, {} instances)\n{}\n",
                plan.title,
                plan.duration,
                plan.connections(),
                about.join("\n")
            )
        }
        Err(error) => format!("{name}: {error}"),
    }
}

/// Prints a report's table, and writes its page. The exit code is that of the run.
pub fn report(arguments: &ReportArguments) -> ExitCode {
    match show(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(format_args!("loadtest: {}: {error}", arguments.json.display()));
            ExitCode::from(2)
        }
    }
}

fn show(arguments: &ReportArguments) -> Result<bool, Box<dyn Error>> {
    let run = report::json::read(File::open(&arguments.json)?)?;
    if let Some(path) = &arguments.html {
        std::fs::write(path, report::to_html(&run))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    print(report::to_table(&run));
    Ok(report::judge(&run).iter().all(|verdict| verdict.ruling != Ruling::Fails))
}
