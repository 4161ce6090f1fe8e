//! The report for a terminal.

use super::notes::INTENDED_START;
use super::rows::{Cell, Group, Row};
use super::units::{self, clipped};
use super::{Ruling, Run, Verdict, judge, notes, rows};
use crate::table::Table;
use std::fmt::Write;

/// A label may hold a server's message.
const LONGEST_LABEL: usize = 56;

/// What was run, its figures, what failed and why, notes, and the verdicts at the end, where they are seen.
#[must_use]
pub fn to_table(run: &Run) -> String {
    let mut text = format!("{}\n", heading(run));
    text += "\n";
    text += &summary_table(run).to_text();
    let failures = rows::failures(run);
    if !failures.is_empty() {
        text += "\n";
        text += &failure_table(run, &failures).to_text();
    }
    text += "\n";
    text += INTENDED_START;
    text += "\n";
    for note in notes(run) {
        let _ = writeln!(text, "Note: {note}");
    }
    text += &verdicts(&judge(run));
    printable(&text)
}

/// The figures alone, for a terminal or, as Markdown, for a document.
#[must_use]
pub fn summary_table(run: &Run) -> Table {
    let mut table = Table::new(headings(run, ""));
    for Group { rows, .. } in rows::whole(run) {
        for Row { label, cells } in rows {
            table.row([label].into_iter().chain(cells.iter().map(Cell::line)));
        }
    }
    for Group { heading, rows } in rows::parts(run) {
        table.row([heading]);
        for Row { label, cells } in rows {
            table.row([format!("  {label}")].into_iter().chain(cells.iter().map(Cell::line)));
        }
    }
    table
}

fn failure_table(run: &Run, failures: &[Row]) -> Table {
    let mut table = Table::new(headings(run, "failed attempts"));
    for Row { label, cells } in failures {
        let label = clipped(label, LONGEST_LABEL);
        table.row([label].into_iter().chain(cells.iter().map(Cell::line)));
    }
    table
}

fn headings(run: &Run, first: &str) -> Vec<String> {
    let baseline = |baseline: bool| if baseline { " (baseline)" } else { "" };
    let targets = run.targets.iter().map(|target| format!("{}{}", target.name, baseline(target.baseline)));
    [first.to_owned()].into_iter().chain(targets).collect()
}

fn heading(run: &Run) -> String {
    let rounds = match run.rounds() {
        1 => "one round".to_owned(),
        rounds => format!("median of {rounds} rounds [least – most]"),
    };
    let plan = &run.plan;
    let mut lines = vec![
        format!("{}: {}", plan.name, plan.title),
        format!("{} per leg, {rounds}; {}; {}", plan.duration, run.started(), run.machine),
    ];
    let abouts = run.targets.iter().filter(|target| !target.about.is_empty());
    lines.extend(abouts.map(|target| format!("{}: {}", target.name, target.about)));
    lines.join("\n")
}

fn verdicts(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for Verdict { assertion, target, value, ruling } in verdicts {
        let mark = match ruling {
            Ruling::Holds => "PASS",
            Ruling::Fails => "FAIL",
            Ruling::NotMeasured => "----",
        };
        let value =
            value.map_or_else(|| "not measured".to_owned(), |value| units::metric(assertion.metric, value));
        let _ = writeln!(text, "{mark}  {target}: {assertion}  ({value})");
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// Messages come from servers: none of them may steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\n' { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    #[test]
    fn figures_failures_and_verdicts_are_there() {
        let mut run = synthetic::run(&["direct", "fifo", "guard"], 3);
        run.targets[0].baseline = true;
        run.plan.assertions =
            ["goodput >= 0.5", "max_backends <= 20"].map(|text| text.parse().unwrap()).to_vec();
        let text = to_table(&run);
        for told in [
            "direct (baseline)",
            "median of 3 rounds",
            "goodput per second",
            "Phase surge",
            "Function batch",
            "shed 53300 queue_timeout",
            "coordinated omission",
            "PASS  guard: max_backends <= 20  (20)",
            "FAIL  fifo: goodput >= 0.5",
        ] {
            assert!(text.contains(told), "{told}\n{text}");
        }
        assert!(!text.contains("PASS  direct") && !text.contains("FAIL  direct"));
    }

    #[test]
    fn what_nobody_measured_neither_passes_nor_fails() {
        let mut run = synthetic::run(&["guard"], 1);
        run.plan.assertions = vec!["max_backends <= 20".parse().unwrap()];
        run.legs[0].backends.clear();
        assert!(to_table(&run).contains("FAIL  guard: max_backends <= 20  (not measured)"));
        run.observed = false;
        let text = to_table(&run);
        assert!(text.contains("----  guard: max_backends <= 20  (not measured)"), "{text}");
        assert!(text.contains("--observe"), "{text}");
    }

    #[test]
    fn a_saturated_generator_is_told() {
        let mut run = synthetic::run(&["guard"], 1);
        run.legs[0].generator.cpu_us = run.legs[0].wall_us * 2;
        assert!(
            to_table(&run).contains("Note: guard: the load generator itself was probably the bottleneck")
        );
    }

    #[test]
    fn a_server_cannot_steer_the_terminal() {
        let mut run = synthetic::run(&["fifo"], 1);
        for failure in &mut run.legs[0].failures {
            failure.kind = crate::leg::FailureKind::Sql;
            failure.reason = "\u{1b}[2Jgone\r".to_owned();
        }
        let text = to_table(&run);
        assert!(text.contains("?[2Jgone?") && !text.contains('\u{1b}'));
    }

    #[test]
    fn a_run_without_a_leg_still_reports() {
        let mut run = synthetic::run(&["guard"], 1);
        run.legs.clear();
        assert!(to_table(&run).contains("no leg was run"));
    }
}
