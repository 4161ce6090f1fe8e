//! The page: `docs/comparison.md`. It says what the figures say, the lost cases first.

use super::contestants::PGCORRAL;
use super::family::Family;
use super::figures::{Row, Subject, rows};
use loadtest::leg::CONTRACT;
use loadtest::plan::{Assertion, Comparison, Metric};
use loadtest::report::{Rounds, Ruling, Run, Spread, TargetInfo, Verdict, counted, judge, notes, units};
use loadtest::table::Table;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Whatever the page has below this line is kept when the page is written anew.
pub const MARKER: &str =
    "<!-- `make compare` writes everything above this line and keeps everything below it. -->";

/// Causes of failed attempts that are told one by one.
const MOST_CAUSES: usize = 5;

/// How the figures came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// When it began, for people.
    pub started: String,
    /// `postgres --version`
    pub postgres: String,
    /// PostgreSQL's `max_connections`.
    pub max_connections: u32,
    /// The machine.
    pub machine: String,
    /// The load average before the first leg.
    pub load: String,
    /// Rounds that were asked for.
    pub rounds: u32,
    /// The plans, in order.
    pub plans: Vec<String>,
    /// What is missing and why.
    pub missing: Vec<String>,
}

/// What one plan showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Chapter {
    /// The plan's name.
    pub plan: String,
    /// Its title.
    pub title: String,
    /// What it shows, in its own words.
    pub about: String,
    /// Who took part, in the order of all figures.
    pub targets: Vec<TargetInfo>,
    /// The table.
    pub rows: Vec<Row>,
    /// What the plan asserts.
    pub assertions: Vec<Asserted>,
    /// Why attempts failed, and how many, per target.
    pub causes: Vec<(String, Vec<Option<Spread>>)>,
    /// What one has to know before trusting the figures.
    pub notes: Vec<String>,
    /// Files beside the page.
    pub pictures: Vec<Illustration>,
}

/// A picture, in a file beside the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Illustration {
    /// The file, as the page has to name it.
    pub file: String,
    /// What it shows.
    pub heading: String,
    /// How to read it; the same for every picture of this kind.
    pub reading: String,
}

/// One assertion of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asserted {
    /// As the plan writes it, or what it says of each member of a family.
    pub text: String,
    /// Per target: whether it holds, and the value. `None` for baselines.
    pub verdicts: Vec<Option<(bool, String)>>,
}

impl Chapter {
    /// Of a run without interrupted legs.
    pub fn of(run: &Run, pictures: Vec<Illustration>) -> Self {
        Self {
            plan: run.plan.name.clone(),
            title: run.plan.title.clone(),
            about: run.plan.about.trim().to_owned(),
            targets: run.targets.clone(),
            rows: rows(run),
            assertions: asserted(run),
            causes: counted(&Rounds::of(run), MOST_CAUSES)
                .into_iter()
                .map(|counted| (counted.label(), counted.per_target))
                .collect(),
            notes: notes(run),
            pictures,
        }
    }

    fn ours(&self) -> Option<usize> {
        self.targets.iter().position(|target| target.name == PGCORRAL)
    }

    /// The other poolers: who ratios are to.
    fn rivals(&self) -> impl Iterator<Item = (usize, &TargetInfo)> {
        let others = |target: &TargetInfo| !target.baseline && target.name != PGCORRAL;
        self.targets.iter().enumerate().filter(move |(_, target)| others(target))
    }

    fn row(&self, metric: Metric) -> Option<&Row> {
        let whole = |row: &&Row| row.subject.family.is_none() && row.subject.phase.is_none();
        self.rows.iter().filter(whole).find(|row| row.subject.metric == metric)
    }
}

/// Assertions that say the same of each member of a family are one; the worst value counts.
fn asserted(run: &Run) -> Vec<Asserted> {
    let families = Family::all(&run.plan);
    let verdicts = judge(run);
    let mut groups: Vec<(Subject, Vec<&Assertion>)> = Vec::new();
    for assertion in &run.plan.assertions {
        let subject = Subject::of(assertion, &families);
        let same = |(known, members): &&mut (Subject, Vec<&Assertion>)| {
            let alike = |first: &&Assertion| {
                first.comparison == assertion.comparison && first.limit.to_bits() == assertion.limit.to_bits()
            };
            *known == subject && members.first().is_some_and(alike)
        };
        match groups.iter_mut().find(same) {
            Some((_, members)) => members.push(assertion),
            None => groups.push((subject, vec![assertion])),
        }
    }
    let of = |(subject, members): (Subject, Vec<&Assertion>)| {
        let of_target = |target: &TargetInfo| {
            let its = verdicts
                .iter()
                .filter(|verdict| verdict.target == target.name && members.contains(&&verdict.assertion));
            worst(&its.collect::<Vec<_>>())
        };
        Some(Asserted {
            text: text(&subject, members.first()?),
            verdicts: run.targets.iter().map(of_target).collect(),
        })
    };
    groups.into_iter().filter_map(of).collect()
}

/// As the plan writes it, with the family in the place of the function.
fn text(subject: &Subject, assertion: &Assertion) -> String {
    let function = subject.family.as_ref().map(|family| family.name.clone());
    Assertion { function, ..assertion.clone() }.to_string()
}

/// Whether all hold, and the value that is farthest from holding; `None` if none was judged.
fn worst(verdicts: &[&Verdict]) -> Option<(bool, String)> {
    let holds = verdicts.iter().all(|verdict| verdict.ruling == Ruling::Holds);
    let badness = |verdict: &&&Verdict| match (verdict.value, verdict.assertion.comparison) {
        (None, _) => f64::INFINITY,
        (Some(value), Comparison::AtMost) => value,
        (Some(value), Comparison::AtLeast) => -value,
        (Some(value), Comparison::Equal) => (value - verdict.assertion.limit).abs(),
    };
    let worst = verdicts.iter().max_by(|a, b| badness(a).total_cmp(&badness(b)))?;
    Some((holds, shown(worst.assertion.metric, worst.value)))
}

/// The whole page but the marker.
pub fn write(circumstances: &Circumstances, chapters: &[Chapter]) -> String {
    let mut page = heading(circumstances, chapters);
    page.push_str(&method(circumstances));
    page.push_str(&readings(chapters));
    page.push_str(&in_short(chapters));
    page.push_str(&losses(chapters));
    for chapter in chapters {
        page.push_str(&section(chapter));
    }
    page
}

fn heading(circumstances: &Circumstances, chapters: &[Chapter]) -> String {
    let Circumstances { started, postgres, max_connections, machine, load, missing, .. } = circumstances;
    let mut text = format!(
        "# Comparison\n\n\
         Written by `make compare` on {started}. Load plans of [loadtest/plans](../loadtest/plans), each fired at the same \
         PostgreSQL directly and through poolers.\n\n"
    );
    for target in chapters.first().map_or(&[][..], |chapter| &chapter.targets) {
        let _ = writeln!(text, "- **{}**: {}", target.name, target.about);
    }
    let _ = write!(
        text,
        "- {postgres}, `max_connections = {max_connections}`\n\
         - {machine}; load average before the first leg {load}; the load generator, the pooler and PostgreSQL share this \
         machine\n\n"
    );
    if !missing.is_empty() {
        text.push_str("**Not complete:**\n\n");
        for what in missing {
            let _ = writeln!(text, "- {what}");
        }
        text.push('\n');
    }
    text
}

fn method(circumstances: &Circumstances) -> String {
    format!(
        "## Method\n\n\
         Every plan is run in {rounds} rounds; in each round all targets take turns, and each round begins with another one, so \
         that what else the machine does meets them alike. Every leg has a pooler that was just started: waiting clients, \
         half-dead server connections and memory that one leg leaves behind would be charged to the next, and plans about cold \
         pools need a cold one. What it costs: the first clients of every leg wait for the pool to fill, with all poolers. \
         Between legs PostgreSQL is waited for until it has no client left.\n\n\
         Each figure is the median of the rounds, with the least and the most in brackets. `÷` is pgcorral's figure divided by \
         the other's: the median of the rounds' ratios. Latency counts from when the plan wanted the invocation to begin, \
         retries included, and only those that were served have one: whoever serves fewer may look faster. Goodput is the share \
         of the invocations offered that were served before the client's own timeout. Clients retry, as often as the plan lets \
         them, after refusals, timeouts and lost connections, those with a FATAL error included. Backends and statements are those that \
         PostgreSQL counted. The contract are the SQLSTATEs that tell a client of overload or \
         a lost server ({contract}); PgBouncer ends the session with 08P01, a protocol violation, \
         and that is counted as an error outside it. Assertions of bounds that must never be \
         passed are judged by the worst round, all others by the median; PostgreSQL itself is not judged.\n\n\
         pgcorral's pools have one queue each, first come, first served, that sheds after `query_wait_timeout`. Admission by \
         deadline and fairness between functions, which several of these plans ask for, are not built yet, and the figures show \
         it.\n\n",
        rounds = circumstances.rounds,
        contract = CONTRACT.join(", "),
    )
}

/// How to read the pictures, once for all of a kind.
fn readings(chapters: &[Chapter]) -> String {
    let mut told: Vec<&str> = Vec::new();
    let mut text = String::new();
    for Illustration { heading, reading, .. } in chapters.iter().flat_map(|chapter| &chapter.pictures) {
        if !told.contains(&heading.as_str()) {
            let _ = write!(text, "Picture \"{heading}\", of the round in the middle: {reading}\n\n");
            told.push(heading);
        }
    }
    text
}

/// Goodput and verdicts of all plans at a glance.
fn in_short(chapters: &[Chapter]) -> String {
    let Some(first) = chapters.first() else { return "Nothing was measured.\n".to_owned() };
    let mut headings = vec!["goodput; assertions that hold".to_owned()];
    headings.extend(first.targets.iter().map(|target| target.name.clone()));
    let mut table = Table::new(headings);
    for chapter in chapters {
        let mut cells = vec![format!("[{}](#{})", chapter.plan, anchor(chapter))];
        cells.extend((0..chapter.targets.len()).map(|target| glance(chapter, target)));
        table.row(cells);
    }
    format!("## In short\n\n{}\n", table.to_markdown())
}

fn glance(chapter: &Chapter, target: usize) -> String {
    let goodput = chapter.row(Metric::Goodput).and_then(|row| row.spread(target));
    let goodput = shown(Metric::Goodput, goodput.map(|spread| spread.median));
    let verdicts =
        || chapter.assertions.iter().filter_map(|asserted| asserted.verdicts.get(target)?.as_ref());
    match verdicts().count() {
        0 => goodput,
        all => format!("{goodput}; {} of {all}", verdicts().filter(|(holds, _)| *holds).count()),
    }
}

/// Every figure in which somebody is better than pgcorral by more than the spread.
fn losses(chapters: &[Chapter]) -> String {
    let mut table = Table::new(["plan", "figure", PGCORRAL, "better"]);
    let mut lost = 0;
    for chapter in chapters {
        let Some(ours) = chapter.ours() else { continue };
        for row in &chapter.rows {
            let better = better_than(chapter, row, ours);
            if !better.is_empty() {
                lost += 1;
                table.row([chapter.plan.clone(), row.subject.name(), cell(row, ours), better.join(", ")]);
            }
        }
    }
    let heading = "## Where pgcorral loses\n\n";
    if lost == 0 {
        return format!("{heading}In no figure below is another target better by more than the spread.\n\n");
    }
    format!(
        "{heading}Every figure below in which another target is better by more than the spread: its median beats all of \
         pgcorral's rounds, or pgcorral's median is beaten by all of its rounds; differences under 1 % are left out. Offered, \
         shed and connects only describe. †: serves less of what is offered than pgcorral, and has only the latency of that.\n\n{}\n",
        table.to_markdown()
    )
}

fn better_than(chapter: &Chapter, row: &Row, ours: usize) -> Vec<String> {
    let others = chapter.targets.iter().enumerate().filter(|(other, _)| row.is_lost_to(*other, ours));
    let mark = |other| {
        if row.subject.metric.is_time() && serves_less(chapter, row, other, ours) { " †" } else { "" }
    };
    others.map(|(other, target)| format!("{} {}{}", target.name, cell(row, other), mark(other))).collect()
}

/// Whether the other loses in the goodput of what `row` is about; of the whole, where the page does not have that.
fn serves_less(chapter: &Chapter, row: &Row, other: usize, ours: usize) -> bool {
    let goodputs = || chapter.rows.iter().filter(|row| row.subject.metric == Metric::Goodput);
    let of = |family: Option<&Family>, phase: Option<&String>| {
        goodputs().find(|row| row.subject.family.as_ref() == family && row.subject.phase.as_ref() == phase)
    };
    let (family, phase) = (row.subject.family.as_ref(), row.subject.phase.as_ref());
    let goodput = of(family, phase).or_else(|| of(family, None)).or_else(|| of(None, None));
    goodput.is_some_and(|goodput| goodput.is_lost_to(ours, other))
}

fn section(chapter: &Chapter) -> String {
    let Chapter { title, about, .. } = chapter;
    let mut text = format!("## {}\n\n", name(chapter));
    if !about.is_empty() {
        let _ = write!(text, "{about}\n\n");
    }
    let _ = writeln!(text, "{}", figures_table(chapter).to_markdown());
    if !chapter.assertions.is_empty() {
        let _ = writeln!(text, "{}", assertions_table(chapter).to_markdown());
    }
    if !chapter.causes.is_empty() {
        let _ = writeln!(text, "{}", causes_table(chapter).to_markdown());
    }
    for note in &chapter.notes {
        let _ = write!(text, "Note: {note}\n\n");
    }
    for Illustration { file, heading, .. } in &chapter.pictures {
        let _ = write!(text, "![{heading}: {title}]({file})\n\n");
    }
    text
}

/// `frozen: Functions frozen between invocations`; titles of experiments begin with the plan's name already.
fn name(chapter: &Chapter) -> String {
    let Chapter { plan, title, .. } = chapter;
    let named = title.split_once(':').is_some_and(|(first, _)| first.eq_ignore_ascii_case(plan));
    if named { title.clone() } else { format!("{plan}: {title}") }
}

/// How forges name a section's heading in links: lower case, no punctuation, dashes for spaces.
fn anchor(chapter: &Chapter) -> String {
    let heading = name(chapter).to_lowercase();
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn figures_table(chapter: &Chapter) -> Table {
    let mut headings = vec![String::new()];
    headings.extend(chapter.targets.iter().map(|target| target.name.clone()));
    let ours = chapter.ours();
    if ours.is_some() {
        headings.extend(chapter.rivals().map(|(_, target)| format!("÷ {}", target.name)));
    }
    let mut table = Table::new(headings);
    for row in &chapter.rows {
        let mut cells = vec![row.subject.name()];
        cells.extend((0..chapter.targets.len()).map(|target| cell(row, target)));
        if let Some(ours) = ours {
            cells.extend(chapter.rivals().map(|(rival, _)| ratio(row, ours, rival)));
        }
        table.row(cells);
    }
    table
}

fn assertions_table(chapter: &Chapter) -> Table {
    let judged = || chapter.targets.iter().enumerate().filter(|(_, target)| !target.baseline);
    let mut headings = vec!["asserted".to_owned()];
    headings.extend(judged().map(|(_, target)| target.name.clone()));
    let mut table = Table::new(headings);
    for asserted in &chapter.assertions {
        let verdict = |target: usize| match asserted.verdicts.get(target) {
            Some(Some((true, value))) => format!("{value}, holds"),
            Some(Some((false, value))) => format!("**{value}, fails**"),
            Some(None) | None => units::ABSENT.to_owned(),
        };
        let mut cells = vec![format!("`{}`", asserted.text)];
        cells.extend(judged().map(|(target, _)| verdict(target)));
        table.row(cells);
    }
    table
}

fn causes_table(chapter: &Chapter) -> Table {
    let mut headings = vec!["attempts that failed".to_owned()];
    headings.extend(chapter.targets.iter().map(|target| target.name.clone()));
    let mut table = Table::new(headings);
    for (cause, per_target) in &chapter.causes {
        // What a server says is not ours to trust with the page's markup.
        let mut cells = vec![format!("`{}`", cause.replace(['`', '|', '\n', '\r'], " "))];
        cells.extend(per_target.iter().map(|spread| spread_cell(*spread, units::count)));
        table.row(cells);
    }
    table
}

fn cell(row: &Row, target: usize) -> String {
    spread_cell(row.spread(target), |value| units::metric(row.subject.metric, value))
}

/// `412 ms [401 ms–433 ms]`; the median alone if all rounds were alike.
fn spread_cell(spread: Option<Spread>, show: impl Fn(f64) -> String) -> String {
    let Some(Spread { median, min, max, .. }) = spread else { return units::ABSENT.to_owned() };
    let [median, min, max] = [median, min, max].map(show);
    if min == max { median } else { format!("{median} [{min}–{max}]") }
}

fn ratio(row: &Row, of: usize, to: usize) -> String {
    row.ratio(of, to).map_or(units::ABSENT.to_owned(), |ratio| format!("{ratio:.2}"))
}

fn shown(metric: Metric, value: Option<f64>) -> String {
    value.map_or(units::ABSENT.to_owned(), |value| units::metric(metric, value))
}

#[cfg(test)]
mod tests {
    use super::super::figures::examples::row;
    use super::*;

    fn target(name: &str) -> TargetInfo {
        TargetInfo { name: name.to_owned(), baseline: name == "direct", about: format!("{name} as it is") }
    }

    fn circumstances() -> Circumstances {
        Circumstances {
            started: "2026-03-01 12:00:00 UTC".to_owned(),
            postgres: "PostgreSQL 15.1".to_owned(),
            max_connections: 100,
            machine: "Some CPU, 2 cores".to_owned(),
            load: "0.10".to_owned(),
            rounds: 3,
            plans: vec!["burst".to_owned()],
            missing: Vec::new(),
        }
    }

    /// Better in goodput than PgBouncer, worse in latency than it, and shedding what direct fails.
    fn chapter() -> Chapter {
        Chapter {
            plan: "burst".to_owned(),
            title: "A thousand at once".to_owned(),
            about: "What it shows.".to_owned(),
            targets: ["direct", "PgBouncer", PGCORRAL].map(target).to_vec(),
            rows: vec![
                row(Metric::Goodput, &[&[0.25, 0.25, 0.25], &[0.5, 0.4, 0.6], &[0.9, 1.0, 0.95]]),
                row(Metric::Shed, &[&[0.0, 0.0, 0.0], &[0.0, 0.0, 0.0], &[50.0, 0.0, 25.0]]),
                row(Metric::P50, &[&[0.9, 0.9, 0.9], &[0.1, 0.1, 0.3], &[0.2, 0.4, 0.6]]),
            ],
            assertions: vec![Asserted {
                text: "goodput >= 0.95".to_owned(),
                verdicts: vec![None, Some((false, "50 %".to_owned())), Some((true, "95 %".to_owned()))],
            }],
            causes: vec![("shed 53300 a|b".to_owned(), vec![None, None, Spread::of([50.0, 0.0, 25.0])])],
            notes: vec!["The generator was busy.".to_owned()],
            pictures: vec![Illustration {
                file: "comparison/burst-goodput.svg".to_owned(),
                heading: "Goodput".to_owned(),
                reading: "Higher is better.".to_owned(),
            }],
        }
    }

    fn part<'a>(page: &'a str, heading: &str) -> &'a str {
        let (_, rest) = page.split_once(&format!("## {heading}")).unwrap();
        rest.split_once("\n## ").map_or(rest, |(part, _)| part)
    }

    fn cells<'a>(part: &'a str, first: &str) -> Vec<&'a str> {
        let line = part.lines().find(|line| line.starts_with(&format!("| {first} "))).unwrap();
        line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn a_row_has_medians_spreads_and_ratios() {
        let page = write(&circumstances(), &[chapter()]);
        let burst = part(&page, "burst: A thousand at once");
        let expected = ["goodput", "25.0 %", "50.0 % [40.0 %–60.0 %]", "95.0 % [90.0 %–100 %]", "1.80"];
        assert_eq!(cells(burst, "goodput"), expected);
        assert_eq!(cells(burst, "shed").last(), Some(&"–"), "a ratio to nothing");
        assert_eq!(cells(burst, "`goodput"), ["`goodput >= 0.95`", "**50 %, fails**", "95 %, holds"]);
        assert_eq!(cells(burst, "`shed"), ["`shed 53300 a b`", "–", "–", "25 [0–50]"]);
        assert!(burst.contains("Note: The generator was busy.\n"), "{burst}");
        assert!(burst.contains("![Goodput: A thousand at once](comparison/burst-goodput.svg)"), "{burst}");
    }

    #[test]
    fn lost_figures_are_listed_and_no_others() {
        let page = write(&circumstances(), &[chapter()]);
        let losses = part(&page, "Where pgcorral loses");
        let lines: Vec<&str> = losses.lines().filter(|line| line.starts_with("| burst")).collect();
        assert_eq!(lines.len(), 1, "{losses}");
        let expected = [
            "burst",
            "p50 latency of those served",
            "400 ms [200 ms–600 ms]",
            "PgBouncer 100 ms [100 ms–300 ms] †",
        ];
        assert_eq!(cells(losses, "burst"), expected);
    }

    #[test]
    fn who_serves_as_much_gets_no_mark() {
        let mut chapter = chapter();
        chapter.rows[0] = row(Metric::Goodput, &[&[0.25], &[1.0], &[1.0]]);
        let page = write(&circumstances(), &[chapter]);
        assert!(part(&page, "Where pgcorral loses").contains("PgBouncer 100 ms [100 ms–300 ms] |"), "{page}");
    }

    #[test]
    fn pictures_are_explained_once() {
        let other = Chapter { plan: "e1".to_owned(), title: "E1: a surge".to_owned(), ..chapter() };
        let page = write(&circumstances(), &[chapter(), other]);
        assert_eq!(page.matches("Higher is better.").count(), 1);
        assert!(page.contains("\n## E1: a surge\n") && page.contains("[e1](#e1-a-surge)"), "{page}");
    }

    #[test]
    fn the_page_says_so_if_nothing_was_lost() {
        let mut chapter = chapter();
        chapter.rows.truncate(2);
        let page = write(&circumstances(), &[chapter]);
        assert!(part(&page, "Where pgcorral loses").contains("In no figure"), "{page}");
    }

    #[test]
    fn the_glance_links_to_the_section_and_judges_no_baseline() {
        let page = write(&circumstances(), &[chapter()]);
        let expected = ["[burst](#burst-a-thousand-at-once)", "25.0 %", "50.0 %; 0 of 1", "95.0 %; 1 of 1"];
        assert_eq!(cells(part(&page, "In short"), "[burst](#burst-a-thousand-at-once)"), expected);
    }

    #[test]
    fn what_is_missing_is_said() {
        let complete = write(&circumstances(), &[chapter()]);
        assert!(!complete.contains("Not complete"));
        let missing = vec!["burst, round 3, pgcorral: it was interrupted".to_owned()];
        let page = write(&Circumstances { missing, ..circumstances() }, &[]);
        assert!(page.contains("**Not complete:**\n\n- burst, round 3, pgcorral"), "{page}");
        assert!(page.contains("Nothing was measured"), "{page}");
    }

    #[test]
    fn versions_machine_and_date_are_named() {
        let page = write(&circumstances(), &[chapter()]);
        for said in
            ["2026-03-01", "**PgBouncer**: PgBouncer as it is", "PostgreSQL 15.1", "Some CPU, 2 cores"]
        {
            assert!(page.contains(said), "{said}");
        }
    }
}
