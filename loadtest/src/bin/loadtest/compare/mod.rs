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

use clap::{Args, value_parser};
use contestants::{Contestant, Kind};
use legs::Comparison;
use loadtest::plan::Plan;
use loadtest::terminal::{INTERRUPTED, Stop};
use loadtest::{document, plans};
use page::Findings;
use publish::Shelf;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// One for each mechanism, those that pgcorral is known to lose in included. Together some 160 s per round and target:
/// what four targets and five rounds make of it is what somebody waits for.
const DEFAULT_PLANS: &str = "lambda-1000,e1,e1b,e1b-deaf,e2,noisy-neighbour,e5,e6,e7";

/// Said of figures that are older than the plan is.
const ANOTHER_PLAN: &str =
    "The plan was changed since; what it is, and what it asserts, is told here as it was when it was run.";

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
    /// Measure nothing: write the page anew from the raw data that is there of the plans, measured at once or in several
    /// goes
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
    let plans =
        arguments.plans.iter().map(|name| plans::find(name).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    if arguments.again {
        return publish(arguments, &shelf, &plans);
    }
    let contestant = |kind: &Kind| Contestant::new(*kind, &arguments.pgcorral, arguments.pool_size);
    let contestants = arguments.targets.iter().map(contestant).collect::<Result<Vec<_>, _>>()?;

    let stop = Stop::on_signals();
    let mut comparison =
        Comparison::start(plans.clone(), contestants, arguments.rounds, arguments.pool_size).await?;
    comparison.measure(&shelf, &stop).await?;
    let code = publish(arguments, &shelf, &plans)?;
    Ok(if stop.is_asked() { ExitCode::from(INTERRUPTED) } else { code })
}

/// Writes the page of what was kept of these plans, whenever it was measured. 0 if nothing is missing.
fn publish(arguments: &CompareArguments, shelf: &Shelf, plans: &[Arc<Plan>]) -> Result<ExitCode, Failure> {
    let mut findings = Findings::default();
    for plan in plans {
        let name = &plan.name;
        let circumstances = shelf.circumstances(name)?;
        findings.missing.extend(circumstances.iter().flat_map(|known| known.missing.clone()));
        match (shelf.kept(name)?, circumstances) {
            (Some(run), Some(circumstances)) => {
                let mut chapter = shelf.publish(&run, circumstances)?;
                chapter.notes.extend((run.plan != **plan).then(|| ANOTHER_PLAN.to_owned()));
                findings.chapters.push(chapter);
            }
            (Some(_), None) => {
                return Err(format!("how the figures of {name} came about was not kept").into());
            }
            (None, _) => findings.missing.push(format!("{name}: not measured")),
        }
    }
    let is_there = |name: &str| findings.chapters.iter().any(|chapter| chapter.plan == name);
    let built_in = plans::built_in().iter().map(|(name, _)| (*name).to_owned());
    findings.left_out = built_in.filter(|name| !is_there(name)).collect();

    document::save(&arguments.output, &page::write(&findings), page::MARKER)?;
    eprintln!("the page is {}", arguments.output.display());
    for what in &findings.missing {
        eprintln!("missing: {what}");
    }
    Ok(if findings.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plans_are_there_and_known_losses_among_them() {
        let names: Vec<&str> = DEFAULT_PLANS.split(',').collect();
        for name in &names {
            assert!(plans::find(name).is_ok(), "{name}");
        }
        assert!(names.contains(&"e1b") && names.contains(&"e1b-deaf"));
    }

    #[test]
    fn a_plan_is_the_same_when_it_was_kept() {
        for (name, _) in plans::built_in() {
            let plan = plans::find(name).unwrap();
            let kept: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
            assert!(kept == plan, "{name}");
        }
    }
}
