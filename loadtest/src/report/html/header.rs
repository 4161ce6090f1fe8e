//! What was run, and each target at a glance.

use crate::plan::Metric;
use crate::report::svg::escape;
use crate::report::{Rounds, Ruling, Run, Spread, Verdict, judge, units};
use std::fmt::Write;

/// Title and facts.
pub fn header(run: &Run) -> String {
    let plan = &run.plan;
    let about = if plan.about.is_empty() {
        String::new()
    } else {
        format!("<p class=\"lead\">{}</p>\n", escape(plan.about.trim()))
    };
    let facts: String = facts(run)
        .into_iter()
        .map(|(what, value)| format!("<dt>{what}</dt><dd>{}</dd>\n", escape(&value)))
        .collect();
    format!(
        "<header>\n<p class=\"kind\">Load test <code>{}</code></p>\n<h1>{}</h1>\n{about}\
         <dl class=\"facts\">\n{facts}</dl>\n</header>\n",
        escape(&plan.name),
        escape(&plan.title),
    )
}

fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let functions: Vec<String> = run
        .plan
        .functions
        .iter()
        .map(|function| format!("{} ({} instances)", function.name, function.instances))
        .collect();
    let rounds = match run.rounds() {
        0 | 1 => "one".to_owned(),
        rounds => format!("{rounds}, targets in turn; figures are medians, plots are of the middle round"),
    };
    let targets: Vec<String> = run
        .targets
        .iter()
        .map(|target| format!("{}{}", target.name, if target.baseline { " (baseline)" } else { "" }))
        .collect();
    vec![
        ("Begun", run.started()),
        ("Against", targets.join(", ")),
        ("Fired", functions.join(", ")),
        ("Length", format!("{} per round and target, seed {}", run.plan.duration, run.plan.seed)),
        ("Rounds", rounds),
        ("Machine", run.machine.clone()),
        ("Generator", format!("loadtest {}", run.version)),
    ]
}

/// A card per target: goodput, and what it cost.
pub fn cards(run: &Run) -> String {
    let verdicts = judge(run);
    let cards: String = Rounds::of(run).iter().map(|rounds| card(rounds, &verdicts)).collect();
    format!("<div class=\"cards\">\n{cards}</div>\n")
}

fn card(rounds: &Rounds<'_>, verdicts: &[Verdict]) -> String {
    let figures = rounds.figures(None, None);
    let median = |metric| {
        Spread::of(figures.iter().filter_map(|figures| figures.value(metric)))
            .map_or_else(|| units::ABSENT.to_owned(), |spread| units::metric(metric, spread.median))
    };
    let lines: String = [
        ("p50", Metric::P50),
        ("p99", Metric::P99),
        ("most backends", Metric::MaxBackends),
        ("shed", Metric::Shed),
        ("timed out", Metric::Timeouts),
        ("cut off", Metric::Unfinished),
    ]
    .into_iter()
    .map(|(label, metric)| format!("<dt>{label}</dt><dd>{}</dd>", median(metric)))
    .collect();
    format!(
        "<div class=\"card\">\n<h2>{}</h2>\n<p class=\"about\">{}</p>\n<p class=\"big\">{}</p>\n\
         <p class=\"of\">goodput: {} of {} served in time</p>\n<dl>{lines}</dl>\n{}</div>\n",
        escape(&rounds.target.name),
        escape(&rounds.target.about),
        median(Metric::Goodput),
        median(Metric::Served),
        median(Metric::Offered),
        outcome(rounds, verdicts),
    )
}

fn outcome(rounds: &Rounds<'_>, verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    if rounds.target.baseline {
        text += "<p class=\"verdict quiet\">baseline, not judged</p>\n";
        return text;
    }
    let own = || verdicts.iter().filter(|verdict| verdict.target == rounds.target.name);
    let ruled = |ruling| own().filter(|verdict| verdict.ruling == ruling).count();
    let (all, failed, unknown) = (own().count(), ruled(Ruling::Fails), ruled(Ruling::NotMeasured));
    let aside = if unknown == 0 { String::new() } else { format!(", {unknown} not measured") };
    let _ = match (all - unknown, failed) {
        (0, _) if unknown == 0 => Ok(()),
        (0, _) => writeln!(text, "<p class=\"verdict quiet\">{unknown} assertions, not measured</p>"),
        (judged, 0) => {
            writeln!(text, "<p class=\"verdict pass\"><b>PASS</b> all {judged} assertions hold{aside}</p>")
        }
        _ => writeln!(text, "<p class=\"verdict fail\"><b>FAIL</b> {failed} of {all} assertions{aside}</p>"),
    };
    text
}
