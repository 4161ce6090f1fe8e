//! The summary's rows, which terminal and page share: a row per figure, a cell per target.

use super::causes::counted;
use super::units::{self, percent, seconds};
use super::{Figures, Rounds, Run, Saturation, Spread};
use crate::plan::Metric;

/// Causes of failure that get a row of their own.
const MOST_CAUSES: usize = 12;

/// Rows that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they are about.
    pub heading: String,
    /// At least one.
    pub rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub label: String,
    /// One per target.
    pub cells: Vec<Cell>,
}

/// One figure of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The median over the rounds, or [`units::ABSENT`].
    pub median: String,
    /// From the least to the most, where there were several rounds and they differ.
    pub spread: Option<String>,
}

/// The groups that concern everything that was fired.
const GROUPS: &[(&str, &[(Metric, &str)])] = &[
    (
        "Work",
        &[
            (Metric::Offered, "offered"),
            (Metric::Served, "served"),
            (Metric::Goodput, "goodput"),
            (Metric::GoodputPerSecond, "goodput per second"),
            (Metric::OfCapacity, "of capacity"),
        ],
    ),
    ("Latency", &[(Metric::P50, "p50"), (Metric::P90, "p90"), (Metric::P99, "p99"), (Metric::Max, "max")]),
    (
        "Not served",
        &[
            (Metric::Shed, "shed"),
            (Metric::Timeouts, "timed out"),
            (Metric::Unfinished, "cut off"),
            (Metric::Failed, "failed otherwise"),
            (Metric::ErrorsOutsideContract, "errors outside the contract"),
        ],
    ),
    (
        "PostgreSQL",
        &[
            (Metric::MaxBackends, "most backends"),
            (Metric::Sessions, "sessions opened"),
            (Metric::Unheard, "statements for clients that were gone"),
        ],
    ),
    (
        "Connections",
        &[(Metric::Connects, "attempts to connect"), (Metric::Reconnects, "of them, reconnects")],
    ),
];

/// What is told of each function and each phase.
const SCOPED: &[(Metric, &str)] = &[
    (Metric::Offered, "offered"),
    (Metric::Goodput, "goodput"),
    (Metric::GoodputPerSecond, "goodput per second"),
    (Metric::OfCapacity, "of capacity"),
    (Metric::P50, "p50"),
    (Metric::P99, "p99"),
];

/// Of everything that was fired.
pub fn whole(run: &Run) -> Vec<Group> {
    let rounds = Rounds::of(run);
    let all: Vec<Vec<Figures>> = rounds.iter().map(|rounds| rounds.figures(None, None)).collect();
    GROUPS.iter().filter_map(|(heading, metrics)| group(heading, metrics, &all)).collect()
}

/// Each phase, each function if there are several, the generator.
pub fn parts(run: &Run) -> Vec<Group> {
    let rounds = Rounds::of(run);
    let mut groups = Vec::new();
    for phase in &run.plan.phases {
        let figures: Vec<_> =
            rounds.iter().map(|rounds| rounds.figures(None, Some(phase.name.as_str()))).collect();
        let heading = format!("Phase {} ({} to {})", phase.name, phase.from, phase.to);
        groups.extend(group(&heading, SCOPED, &figures));
    }
    if run.plan.functions.len() > 1 {
        for function in &run.plan.functions {
            let figures: Vec<_> =
                rounds.iter().map(|rounds| rounds.figures(Some(function.name.as_str()), None)).collect();
            // The whole plan's capacity is no measure of one function.
            let metrics: Vec<_> =
                SCOPED.iter().copied().filter(|(metric, _)| *metric != Metric::OfCapacity).collect();
            groups.extend(group(&format!("Function {}", function.name), &metrics, &figures));
        }
    }
    groups.push(generator(&rounds));
    groups
}

/// Failed attempts by cause; no rows if none failed.
pub fn failures(run: &Run) -> Vec<Row> {
    let rounds = Rounds::of(run);
    counted(&rounds, MOST_CAUSES)
        .into_iter()
        .map(|counted| {
            let label = counted.label();
            let cells = counted.per_target.into_iter().map(|spread| cell(spread, units::count)).collect();
            Row { label, cells }
        })
        .collect()
}

/// Without the figures that no target has.
fn group(heading: &str, metrics: &[(Metric, &str)], figures: &[Vec<Figures>]) -> Option<Group> {
    let rows = metrics.iter().filter_map(|(metric, label)| {
        let spreads: Vec<Option<Spread>> = figures
            .iter()
            .map(|rounds| Spread::of(rounds.iter().filter_map(|figures| figures.value(*metric))))
            .collect();
        spreads.iter().any(Option::is_some).then(|| Row {
            label: (*label).to_owned(),
            cells: spreads
                .into_iter()
                .map(|spread| cell(spread, |value| units::metric(*metric, value)))
                .collect(),
        })
    });
    let rows: Vec<Row> = rows.collect();
    (!rows.is_empty()).then(|| Group { heading: heading.to_owned(), rows })
}

fn generator(rounds: &[Rounds<'_>]) -> Group {
    let row = |label: &str, value: fn(&Saturation) -> f64, show: fn(f64) -> String| Row {
        label: label.to_owned(),
        cells: rounds
            .iter()
            .map(|rounds| cell(Spread::of(rounds.legs().map(|leg| value(&Saturation::of(leg)))), show))
            .collect(),
    };
    Group {
        heading: "Load generator".to_owned(),
        rows: vec![
            row("CPU, of its cores", |load| load.cpu_share, percent),
            row("timer lag, p99", |load| units::of_micros(load.lag_us), seconds),
        ],
    }
}

fn cell(spread: Option<Spread>, show: impl Fn(f64) -> String) -> Cell {
    let Some(Spread { median, min, max, rounds }) = spread else {
        return Cell { median: units::ABSENT.to_owned(), spread: None };
    };
    let (least, most) = (show(min), show(max));
    let spread = (rounds > 1 && least != most).then(|| range(&least, &most));
    Cell { median: show(median), spread }
}

/// A unit that both have is said once: `69.8 – 72.6 %`.
fn range(least: &str, most: &str) -> String {
    let unit = |text: &str| text.find(|letter: char| !matches!(letter, '0'..='9' | '.' | ',' | '-'));
    match (unit(least), unit(most)) {
        (Some(from), Some(at)) if least[from..] == most[at..] => format!("{} – {most}", &least[..from]),
        _ => format!("{least} – {most}"),
    }
}

impl Cell {
    /// On one line: `98.2 % [97.9 – 98.4 %]`.
    pub fn line(&self) -> String {
        match &self.spread {
            Some(spread) => format!("{} [{spread}]", self.median),
            None => self.median.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    #[test]
    fn every_row_has_a_cell_per_target() {
        let run = synthetic::run(&["direct", "fifo", "guard"], 3);
        let groups: Vec<_> = whole(&run).into_iter().chain(parts(&run)).collect();
        let headings: Vec<_> = groups.iter().map(|group| group.heading.as_str()).collect();
        for heading in
            ["Work", "Latency", "Not served", "PostgreSQL", "Phase surge (10s to 20s)", "Function api"]
        {
            assert!(headings.contains(&heading), "{heading}: {headings:?}");
        }
        let rows =
            groups.iter().flat_map(|group| &group.rows).chain(&failures(&run)).cloned().collect::<Vec<_>>();
        assert!(rows.iter().all(|row| row.cells.len() == 3));
        assert!(rows.iter().any(|row| row.label == "goodput" && row.cells[0].spread.is_some()));
    }

    #[test]
    fn what_nobody_measured_has_no_row() {
        let mut run = synthetic::run(&["guard"], 1);
        run.plan.capacity = None;
        run.legs[0].statements = None;
        let labels: Vec<_> =
            whole(&run).into_iter().flat_map(|group| group.rows).map(|row| row.label).collect();
        assert!(!labels.iter().any(|label| label == "of capacity" || label.starts_with("statements")));
    }

    #[test]
    fn a_unit_is_said_once() {
        assert_eq!(range("69.8 %", "72.6 %"), "69.8 – 72.6 %");
        assert_eq!(range("912 ms", "1.02 s"), "912 ms – 1.02 s");
        assert_eq!(range("1,349/s", "1,356/s"), "1,349 – 1,356/s");
        assert_eq!(range("3", "14"), "3 – 14");
    }

    #[test]
    fn a_spread_is_told_where_there_is_one() {
        let line = |values: &[f64]| cell(Spread::of(values.iter().copied()), units::count).line();
        assert_eq!(line(&[1.0, 3.0, 2.0]), "2 [1 – 3]");
        assert_eq!(line(&[2.0, 2.0]), "2");
        assert_eq!(line(&[7.0]), "7");
        assert_eq!(line(&[]), "–");
    }
}
