//! `loadtest compare`: the same plans at PostgreSQL itself, at PgBouncer and at pgcorral, in turn, on one machine.
//!
//! Everything that is compared is started here and ends with the run. What comes of it is a page for people, and for
//! each plan the raw data and a report.

mod contestants;
mod family;
mod figures;
mod ground;
mod legs;
mod page;
mod publish;
mod schedule;

use crate::terminal::{INTERRUPTED, Stop};
use clap::{Args, value_parser};
use contestants::{Contestant, Kind};
use legs::Comparison;
use loadtest::{document, plans};
use page::{Chapter, Circumstances};
use publish::Shelf;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// One for each mechanism. Together some 130 s per round and target: what four targets and five rounds make of it is
/// what somebody waits for.
const DEFAULT_PLANS: &str = "lambda-1000,e1,e2,noisy-neighbour,e5,e6,e7";

/// What goes wrong in a comparison, besides single legs.
type Failure = Box<dyn Error + Send + Sync>;

/// What is compared, and where the page goes.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// Plans, by name or file; each is run once per round and target
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_PLANS)]
    plans: Vec<String>,
    /// Rounds, in each of which all targets take turns
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Who takes part
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "direct,pgbouncer,pgbouncer-tuned,pgcorral"
    )]
    targets: Vec<Kind>,
    /// The binary that is measured as pgcorral
    #[arg(long, default_value = "target/release/pgcorral", value_name = "PROGRAM")]
    pgcorral: PathBuf,
    /// Server connections of every pooler, per role
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..))]
    pool_size: u32,
    /// The page; its pictures go into the directory of the same name
    #[arg(long, default_value = "docs/comparison.md", value_name = "FILE")]
    output: PathBuf,
    /// Where raw data and reports go
    #[arg(long, default_value = "target/comparison", value_name = "DIRECTORY")]
    raw: PathBuf,
    /// Measure nothing: write the page anew from the raw data that is there
    #[arg(long)]
    again: bool,
}

/// Compares, and writes the page. Ctrl-C ends the leg under way, and what was measured by then is reported.
///
/// Cancel safety: dropped midway, everything that was started ends, and nothing is written but what is finished.
pub async fn run(arguments: CompareArguments) -> ExitCode {
    match compare(&arguments).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(arguments: &CompareArguments) -> Result<ExitCode, Failure> {
    let shelf = Shelf::new(&arguments.raw, &arguments.output)?;
    if arguments.again {
        let circumstances = shelf.circumstances()?;
        let kept = circumstances.plans.iter().filter_map(|plan| shelf.kept(plan).transpose());
        let chapters = kept.map(|run| shelf.publish(&run?)).collect::<Result<Vec<_>, Failure>>()?;
        return finish(arguments, &circumstances, &chapters);
    }
    let plans =
        arguments.plans.iter().map(|name| plans::find(name).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    let contestant = |kind: &Kind| Contestant::new(*kind, &arguments.pgcorral, arguments.pool_size);
    let contestants = arguments.targets.iter().map(contestant).collect::<Result<Vec<_>, _>>()?;

    let stop = Stop::on_signals();
    let mut comparison = Comparison::start(plans, contestants, arguments.rounds, arguments.pool_size).await?;
    let chapters = comparison.measure(&shelf, &stop).await?;
    shelf.keep_circumstances(comparison.circumstances())?;
    let code = finish(arguments, comparison.circumstances(), &chapters)?;
    Ok(if stop.is_asked() { ExitCode::from(INTERRUPTED) } else { code })
}

/// 0 if nothing is missing.
fn finish(
    arguments: &CompareArguments,
    circumstances: &Circumstances,
    chapters: &[Chapter],
) -> Result<ExitCode, Failure> {
    document::save(&arguments.output, &page::write(circumstances, chapters), page::MARKER)?;
    eprintln!("the page is {}", arguments.output.display());
    for what in &circumstances.missing {
        eprintln!("missing: {what}");
    }
    Ok(if circumstances.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
