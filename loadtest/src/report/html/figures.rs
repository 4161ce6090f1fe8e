//! The page's tables: verdicts, figures, failures.

use crate::report::rows::{self, Cell, Group, Row};
use crate::report::svg::escape;
use crate::report::{Rounds, Ruling, Run, measured, units};

/// A row per assertion, a column per target; baselines show their value.
pub fn verdicts(run: &Run) -> String {
    if run.plan.assertions.is_empty() {
        return String::new();
    }
    let rounds = Rounds::of(run);
    let rows: String = run
        .plan
        .assertions
        .iter()
        .map(|assertion| {
            let cells: String = rounds
                .iter()
                .map(|rounds| {
                    let value = measured(run, rounds, assertion);
                    let ruling = Ruling::of(run, rounds, assertion, value);
                    let value = value.map_or_else(
                        || "not measured".to_owned(),
                        |value| units::metric(assertion.metric, value),
                    );
                    verdict(rounds.target.baseline, ruling, &value)
                })
                .collect();
            format!(
                "<tr><th scope=\"row\"><code>{}</code></th>{cells}</tr>\n",
                escape(&assertion.to_string())
            )
        })
        .collect();
    let how = match run.rounds() {
        0 | 1 => "",
        _ => {
            " Bounds that must never be passed (backends, errors outside the contract, what has to be 0) are judged by the worst round, \
             everything else by the median."
        }
    };
    format!(
        "<section>\n<h2>Verdicts</h2>\n<p class=\"how\">What the plan says has to hold, and what was measured.{how}</p>\n\
         {}</section>\n",
        table(run, "assertion", &format!("<tbody>\n{rows}</tbody>\n"))
    )
}

fn verdict(baseline: bool, ruling: Ruling, value: &str) -> String {
    match (baseline, ruling) {
        (true, _) | (false, Ruling::NotMeasured) => format!("<td class=\"quiet\">{value}</td>"),
        (false, Ruling::Holds) => format!("<td class=\"pass\"><b>PASS</b> {value}</td>"),
        (false, Ruling::Fails) => format!("<td class=\"fail\"><b>FAIL</b> {value}</td>"),
    }
}

/// The figures of everything that was fired, targets side by side.
pub fn summary(run: &Run) -> String {
    let how = match run.rounds() {
        0 | 1 => "One round. Latency counts from the intended start.".to_owned(),
        rounds => format!(
            "Medians of {rounds} rounds; beside them, smaller, the least and the most. Latency counts from the intended \
             start."
        ),
    };
    section("Figures", &how, &table(run, "", &bodies(run, &rows::whole(run))))
}

/// Those of phases, functions and the generator.
pub fn parts(run: &Run) -> String {
    let groups = rows::parts(run);
    let (heading, how) = match groups.len() {
        0 | 1 => ("The load generator", "Whether it, and not a target, was what limited the figures."),
        _ => (
            "Figures by phase and function",
            "An invocation belongs to the phase in which it was due; goodput per second counts what was completed in \
             the phase, whenever it was due.",
        ),
    };
    section(heading, how, &table(run, "", &bodies(run, &groups)))
}

fn section(heading: &str, how: &str, table: &str) -> String {
    format!("<section>\n<h2>{heading}</h2>\n<p class=\"how\">{how}</p>\n{table}</section>\n")
}

fn bodies(run: &Run, groups: &[Group]) -> String {
    let columns = run.targets.len() + 1;
    groups
        .iter()
        .map(|group| {
            let heading = escape(&group.heading);
            let rows: String = group.rows.iter().map(row).collect();
            format!(
                "<tbody>\n<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{columns}\">{heading}</th></tr>\n\
                 {rows}</tbody>\n"
            )
        })
        .collect()
}

/// Failed attempts by cause.
pub fn failures(run: &Run) -> String {
    let failures = rows::failures(run);
    if failures.is_empty() {
        return String::new();
    }
    let rows: String = failures.iter().map(row).collect();
    format!(
        "<section>\n<h2>Failed attempts</h2>\n<p class=\"how\">By kind, SQLSTATE and reason. A retry is an attempt of its \
         own, so that there may be more of them than of invocations.</p>\n{}</section>\n",
        table(run, "reason", &format!("<tbody>\n{rows}</tbody>\n"))
    )
}

fn row(Row { label, cells }: &Row) -> String {
    let cells: String = cells
        .iter()
        .map(|Cell { median, spread }| match spread {
            Some(spread) => {
                format!("<td><span class=\"pair\"><small>{spread}</small> {median}</span></td>")
            }
            None => format!("<td>{median}</td>"),
        })
        .collect();
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(label))
}

/// `tabindex`: what scrolls has to be reachable without a mouse.
fn table(run: &Run, first: &str, bodies: &str) -> String {
    let targets = run.targets.len();
    let headings: String = run
        .targets
        .iter()
        .map(|target| {
            let baseline = if target.baseline { "<small class=\"quiet\"> baseline</small>" } else { "" };
            format!("<th scope=\"col\">{}{baseline}</th>", escape(&target.name))
        })
        .collect();
    format!(
        "<div class=\"scroll\" tabindex=\"0\">\n<table style=\"--targets:{targets}\">\n<thead><tr><th scope=\"col\">{first}</th>{headings}</tr></thead>\n\
         {bodies}</table>\n</div>\n"
    )
}
