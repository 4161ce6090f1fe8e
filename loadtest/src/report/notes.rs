//! What a reader has to know before trusting the figures.

use super::units::{of_micros, percent, seconds};
use super::{Rounds, Run, Saturation};
use crate::plan::Metric;

/// The engine's warnings may hold figures, so that no two rounds have the same; of each target, so many are told.
const MOST_WARNINGS: usize = 3;

/// Said in every report.
pub const INTENDED_START: &str = "Latency counts from the moment at which the plan wanted an invocation to begin, not \
     from when the generator or the target got round to it, so that no waiting is hidden (coordinated omission).";

/// What limits this run's figures, one sentence each; empty if nothing does.
#[must_use]
pub fn notes(run: &Run) -> Vec<String> {
    let mut notes = Vec::new();
    for rounds in &Rounds::of(run) {
        let name = &rounds.target.name;
        let legs = rounds.legs().count();
        if legs == 0 {
            notes.push(format!("{name}: no leg was run."));
            continue;
        }
        notes.extend(saturation(rounds));
        notes.extend(warnings(rounds));
        let interrupted = rounds.legs().filter(|leg| leg.interrupted).count();
        if interrupted > 0 {
            notes.push(format!(
                "{name}: interrupted in {interrupted} of {legs} rounds; rates are of the time that there was."
            ));
        }
    }
    notes.extend(unobserved(run));
    notes.extend(uncounted(run));
    notes
}

fn saturation(rounds: &Rounds<'_>) -> Option<String> {
    let likely: Vec<Saturation> = rounds.legs().map(Saturation::of).filter(Saturation::is_likely).collect();
    let lag = likely.iter().map(|load| load.lag_us).max()?;
    let cpu = likely.iter().map(|load| load.cpu_share).fold(0.0, f64::max);
    let (name, rounds, of) = (&rounds.target.name, likely.len(), rounds.legs().count());
    let (late, cpu) = (seconds(of_micros(lag)), percent(cpu));
    Some(if likely.iter().all(Saturation::is_starved) {
        format!(
            "{name}: the machine was too busy in {rounds} of {of} rounds: the load generator's timers were up to {late} \
             late at the 99th percentile, although it needed {cpu} of its cores. That much of the latencies may be the \
             machine's and not the target's; another machine for the generator would tell."
        )
    } else {
        format!(
            "{name}: the load generator itself was probably the bottleneck in {rounds} of {of} rounds (its timers were \
             up to {late} late at the 99th percentile, its CPU {cpu} of its cores). Use fewer invocations, more \
             --processes or another machine."
        )
    })
}

/// What was said while the legs ran: a report outlives the terminal.
fn warnings(rounds: &Rounds<'_>) -> Vec<String> {
    let mut known: Vec<&str> = Vec::new();
    for warning in rounds.legs().flat_map(|leg| &leg.warnings) {
        if !known.contains(&warning.as_str()) {
            known.push(warning);
        }
    }
    let name = &rounds.target.name;
    known.into_iter().take(MOST_WARNINGS).map(|warning| format!("{name}: {warning}.")).collect()
}

/// All targets in one sentence: without an observer there is nothing else to say of any of them.
fn unobserved(run: &Run) -> Option<String> {
    if !run.is_observed() {
        return Some(
            "PostgreSQL was not asked for backends, sessions and statements: --observe DSN, straight to it, would \
             count them. What the plan asserts of them was not judged."
                .to_owned(),
        );
    }
    let blind =
        run.targets.iter().filter(|target| run.legs_of(&target.name).any(|leg| leg.backends.is_empty()));
    let names: Vec<_> = blind.map(|target| target.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!("PostgreSQL's backends could not be counted, in some rounds at least: {}.", names.join(", "))
    })
}

/// An assertion on statements needs an extension that not every server has.
fn uncounted(run: &Run) -> Option<String> {
    let asked = run.plan.assertions.iter().any(|assertion| assertion.metric == Metric::Unheard);
    let counted = run.legs.iter().all(|leg| leg.statements.is_some());
    (run.is_observed() && asked && !counted).then(|| {
        "Statements run for clients that were gone could not be counted in every leg. PostgreSQL needs \
         shared_preload_libraries = 'pg_stat_statements' for it, and the observer's database `create extension \
         pg_stat_statements`."
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    #[test]
    fn nothing_to_say_of_an_ordinary_run() {
        assert_eq!(notes(&synthetic::run(&["guard", "fifo"], 2)), Vec::<String>::new());
    }

    #[test]
    fn what_was_said_meanwhile_is_said_once_per_target() {
        let mut run = synthetic::run(&["guard", "fifo"], 5);
        for (number, leg) in run.legs.iter_mut().enumerate().filter(|(_, leg)| leg.target == "guard") {
            leg.warnings = vec!["sessions were not counted".to_owned(), format!("{number} were strange")];
        }
        let said = notes(&run);
        assert_eq!(said[0], "guard: sessions were not counted.");
        assert_eq!(said.len(), MOST_WARNINGS, "{said:?}");
    }

    #[test]
    fn everything_that_limits_a_run_is_said() {
        let mut run = synthetic::run(&["guard", "fifo", "direct"], 2);
        run.legs.retain(|leg| leg.target != "direct");
        run.plan.assertions = vec!["unheard_statements == 0".parse().unwrap()];
        for leg in &mut run.legs {
            leg.statements = None;
            if leg.target == "guard" {
                leg.generator.cpu_us = leg.wall_us * 2;
            } else {
                leg.interrupted = true;
                leg.backends.clear();
            }
        }
        let said = notes(&run).join("\n");
        for told in [
            "guard: the load generator itself was probably the bottleneck in 2 of 2 rounds",
            "fifo: interrupted in 2 of 2",
            "PostgreSQL's backends could not be counted, in some rounds at least: fifo.",
            "direct: no leg was run",
            "create extension pg_stat_statements",
        ] {
            assert!(said.contains(told), "{told}\n{said}");
        }
        run.observed = false;
        run.legs.iter_mut().for_each(|leg| leg.backends.clear());
        let said = notes(&run);
        assert_eq!(said.iter().filter(|note| note.contains("--observe")).count(), 1, "{said:?}");
        assert!(!said.iter().any(|note| note.contains("pg_stat_statements")), "{said:?}");
    }
}
