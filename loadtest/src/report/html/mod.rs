//! One page that needs nothing but itself: no script, no font, no picture from elsewhere.

mod figures;
mod header;
mod plot;

use super::notes::{INTENDED_START, notes};
use super::svg::escape;
use super::{Run, plots};

const PLOT_STYLE: &str = include_str!("../plots/plot.css");
const PAGE_STYLE: &str = include_str!("page.css");

/// The report as a page. All text that comes from plans, targets or servers is escaped.
#[must_use]
pub fn to_html(run: &Run) -> String {
    let title = escape(&run.plan.title);
    let name = escape(&run.plan.name);
    let columns = plots::columns(run.targets.len());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · load test {name}</title>\n<style>\n{PLOT_STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n\
         {header}{cards}{notes}{verdicts}{summary}{plots}{failures}{parts}{footer}</body>\n</html>\n",
        header = header::header(run),
        cards = header::cards(run),
        notes = limits(run),
        verdicts = figures::verdicts(run),
        summary = figures::summary(run),
        failures = figures::failures(run),
        parts = figures::parts(run),
        plots = plot::sections(&plots::all(run, columns), columns),
        footer = footer(run),
    )
}

fn limits(run: &Run) -> String {
    let notes = notes(run);
    if notes.is_empty() {
        return String::new();
    }
    let notes: String =
        notes.iter().map(|note| format!("<p class=\"note\">{}</p>\n", escape(note))).collect();
    format!("<section>\n<h2>Before you trust these figures</h2>\n{notes}</section>\n")
}

fn footer(run: &Run) -> String {
    format!(
        "<footer>\n<p>{INTENDED_START}</p>\n<p>Goodput is the share of the invocations that were due and were served \
         before their client gave up; those that the plan itself killed are not counted, those that the end of the leg \
         cut off count as not served (but not if somebody interrupted it). Rates count what was completed within the time. Backends are counted when two looks in a row at \
         pg_stat_activity, 20 ms apart, agree.</p>\n<p>Written by loadtest {}.</p>\n</footer>\n",
        escape(&run.version)
    )
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;
    use crate::leg::FailureKind;

    /// Every element that is opened is closed, in order; `Err` says where not.
    fn well_formed(page: &str) -> Result<usize, String> {
        let mut open: Vec<&str> = Vec::new();
        let mut elements = 0;
        let mut rest = page;
        while let Some(start) = rest.find('<') {
            let end = rest[start..].find('>').ok_or("a tag does not end")? + start;
            let (tag, after) = (&rest[start + 1..end], &rest[end + 1..]);
            rest = after;
            if tag.matches('"').count() % 2 != 0 || tag.contains('<') {
                return Err(format!("torn: {tag}"));
            }
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or("");
            if tag.starts_with('!') || matches!(name, "meta" | "br") || tag.ends_with('/') {
                continue;
            }
            if tag.starts_with('/') {
                let last = open.pop().ok_or("closed without being open")?;
                if last != name {
                    return Err(format!("{last} is closed by {name}"));
                }
            } else {
                open.push(name);
                elements += 1;
            }
        }
        if open.is_empty() { Ok(elements) } else { Err(format!("open: {open:?}")) }
    }

    #[test]
    fn the_check_finds_what_is_torn() {
        assert_eq!(well_formed("<p>a<b>c</b><br></p>"), Ok(2));
        assert!(well_formed("<p><b></p></b>").is_err() && well_formed("<p>").is_err());
        assert!(well_formed("</p>").is_err() && well_formed("<p class=\"a>x</p>").is_err());
    }

    #[test]
    fn the_page_is_well_formed_small_and_needs_nothing_else() {
        for targets in [&["guard"][..], &["direct", "fifo"], &["direct", "fifo", "guard", "tuned"]] {
            let mut run = synthetic::run(targets, 3);
            run.targets[0].baseline = targets.len() > 1;
            let page = to_html(&run);
            assert!(well_formed(&page).unwrap() > 300);
            assert!(page.len() < 2_000_000, "{}", page.len());
            let needed = ["<script", "<link", "<img", "@import", "url(", "http://", "https://"];
            assert!(!needed.iter().any(|needed| page.contains(needed)));
            assert_eq!(page.matches("<svg role=\"img\"").count(), 6 * targets.len());
            assert_eq!(page.matches("<desc").count(), 6 * targets.len());
        }
    }

    #[test]
    fn nothing_that_others_wrote_is_markup() {
        let evil = "<script>\"'&\u{1}";
        let mut run = synthetic::run(&["guard"], 1);
        run.plan.title = evil.to_owned();
        run.plan.name = evil.to_owned();
        run.plan.about = evil.to_owned();
        run.plan.phases[0].name = evil.to_owned();
        run.plan.events[0].hook = evil.to_owned();
        run.plan.functions[0].name = evil.to_owned();
        run.plan.assertions = vec![format!("served{{{evil}}} >= 1").parse().unwrap()];
        run.machine = evil.to_owned();
        run.version = evil.to_owned();
        run.targets[0].name = evil.to_owned();
        run.targets[0].about = evil.to_owned();
        let leg = &mut run.legs[0];
        leg.target = evil.to_owned();
        leg.functions[0] = evil.to_owned();
        leg.interrupted = true;
        for failure in &mut leg.failures {
            failure.kind = FailureKind::Sql;
            failure.sqlstate = Some(evil.to_owned());
            failure.reason = evil.to_owned();
        }
        let page = to_html(&run);
        assert!(!page.contains("<script") && !page.contains('\u{1}'));
        assert!(page.matches("&lt;script&gt;").count() > 15);
        well_formed(&page).unwrap();
        for picture in super::super::pictures(&run) {
            assert!(!picture.svg.contains("<script"));
            well_formed(&picture.svg).unwrap();
        }
    }

    #[test]
    fn a_run_that_never_was_has_a_page() {
        let mut run = synthetic::run(&["guard", "fifo"], 1);
        run.legs.clear();
        let page = to_html(&run);
        well_formed(&page).unwrap();
        assert!(page.contains("no leg was run"));
        let half = synthetic::run(&["guard", "fifo"], 1);
        run.legs.push(half.legs[0].clone());
        well_formed(&to_html(&run)).unwrap();
        run.legs[0].invocations.clear();
        run.legs[0].backends.clear();
        run.legs[0].progress.clear();
        well_formed(&to_html(&run)).unwrap();
    }

    #[test]
    fn a_saturated_generator_is_told() {
        let mut run = synthetic::run(&["guard"], 1);
        run.legs[0].generator.cpu_us = run.legs[0].wall_us * 2;
        assert!(to_html(&run).contains("the load generator itself was probably the bottleneck"));
    }

    #[test]
    fn what_nobody_measured_neither_passes_nor_fails() {
        let mut run = synthetic::run(&["guard"], 1);
        run.plan.assertions =
            ["max_backends <= 20", "offered >= 1"].map(|text| text.parse().unwrap()).to_vec();
        run.legs[0].backends.clear();
        run.observed = false;
        let page = to_html(&run);
        for told in
            ["<td class=\"quiet\">not measured</td>", "all 1 assertions hold, 1 not measured", "--observe"]
        {
            assert!(page.contains(told), "{told}");
        }
        run.plan.assertions.truncate(1);
        assert!(to_html(&run).contains("1 assertions, not measured"));
    }

    /// With `REPORT_LOOK=DIRECTORY`, pages and pictures are left there to be looked at.
    #[test]
    fn reports_to_look_at() {
        let Some(directory) = std::env::var_os("REPORT_LOOK").map(std::path::PathBuf::from) else { return };
        let mut runs = vec![synthetic::burst(), synthetic::run(&["pgcorral"], 1)];
        for targets in [
            &["fifo", "pgcorral"][..],
            &["direct", "fifo", "pgcorral"],
            &["direct", "fifo", "tuned", "pgcorral"],
        ] {
            runs.push(synthetic::run(targets, 5));
        }
        for (number, run) in runs.iter_mut().enumerate() {
            run.targets[0].baseline = run.targets.len() > 1;
            let name = |ending: &str| directory.join(format!("report-{number}.{ending}"));
            std::fs::write(name("html"), to_html(run)).unwrap();
            std::fs::write(name("txt"), crate::report::to_table(run)).unwrap();
            for picture in super::super::pictures(run) {
                std::fs::write(directory.join(format!("{number}-{}", picture.name)), picture.svg).unwrap();
            }
        }
    }
}
