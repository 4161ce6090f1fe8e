//! The page: `docs/comparison.md`. It says what the figures say, the lost cases first.

use super::contestants::PGCORRAL;
use super::family::Family;
use super::figures::{Ratio, Row, Subject, rows};
use super::schedule::Turns;
use loadtest::leg::CONTRACT;
use loadtest::plan::{Assertion, Comparison, Metric};
use loadtest::report::{Rounds, Ruling, Run, Spread, TargetInfo, Verdict, counted, judge, notes, units};
use loadtest::table::Table;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Whatever the page has below this line is kept when the page is written anew.
pub const MARKER: &str =
    "<!-- `make compare` writes everything above this line and keeps everything below it. -->";

/// Causes of failed attempts that are told one by one.
const MOST_CAUSES: usize = 5;

/// Pools of this size are what the plans' capacities and limits are for.
const USUAL_POOL: u32 = 20;

/// What who reads the figures has to know of pgcorral. Keep it true for the commit that is measured.
const QUEUE: &str = "pgcorral admits by deadline, tells bursts from overloads and shares its pools fairly between functions \
    ([guard.md](guard.md)); all of it at its defaults.";

/// Everything that the page is made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Findings {
    /// What the plans showed, in the page's order.
    pub chapters: Vec<Chapter>,
    /// What was asked for and is missing, and why.
    pub missing: Vec<String>,
    /// Built-in plans that are not on the page.
    pub left_out: Vec<String>,
}

/// How one plan's figures came about. Plans that were measured in one go differ in what is missing only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// When the run began, for people.
    pub started: String,
    /// `postgres --version`
    pub postgres: String,
    /// PostgreSQL's `max_connections`.
    pub max_connections: u32,
    /// Its other settings that matter to figures, `name = value`.
    #[serde(default = "usual_settings")]
    pub settings: String,
    /// The machine.
    pub machine: String,
    /// The load average before the run's first leg.
    pub load: String,
    /// Rounds that were asked for.
    pub rounds: u32,
    /// Server connections of every pooler, per role.
    #[serde(default = "usual_pool")]
    pub pool_size: u32,
    /// The targets' order.
    #[serde(default)]
    pub turns: Turns,
    /// What is missing and why.
    pub missing: Vec<String>,
}

/// What [`Circumstances`] had that did not say.
fn usual_settings() -> String {
    "autovacuum = off, fsync = off, full_page_writes = off, wal_level = minimal".to_owned()
}

/// The same of the pools' size.
fn usual_pool() -> u32 {
    USUAL_POOL
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
    /// How all that came about.
    pub circumstances: Circumstances,
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
    pub fn of(run: &Run, circumstances: Circumstances, pictures: Vec<Illustration>) -> Self {
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
            circumstances,
        }
    }

    fn target(&self, name: &str) -> Option<usize> {
        self.targets.iter().position(|target| target.name == name)
    }

    fn ours(&self) -> Option<usize> {
        self.target(PGCORRAL)
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
pub fn write(findings: &Findings) -> String {
    let chapters = &findings.chapters;
    let mut page = heading(findings);
    if chapters.is_empty() {
        page.push_str("Nothing was measured.\n");
        return page;
    }
    page.push_str(&method(chapters));
    page.push_str(&readings(chapters));
    page.push_str(&in_short(chapters));
    page.push_str(&losses(chapters));
    for chapter in chapters {
        page.push_str(&section(chapter));
    }
    page
}

fn heading(findings: &Findings) -> String {
    let Findings { chapters, missing, left_out } = findings;
    let mut text = "# Comparison\n\n\
         Written by `make compare`. Load plans of [loadtest/plans](../loadtest/plans), each fired at the same PostgreSQL \
         directly and through poolers.\n\n"
        .to_owned();
    for name in targets(chapters) {
        let about = |chapter: &Chapter| Some(chapter.targets.get(chapter.target(name)?)?.about.clone());
        let _ = writeln!(text, "- **{name}**: {}", agreed(chapters, about));
    }
    if !chapters.is_empty() {
        text.push_str(&ground(chapters));
    }
    for size in other_pools(chapters) {
        let _ = write!(
            text,
            "**Pools of {size}: the plans' capacities, and assertions such as `max_backends <= {USUAL_POOL}`, are for pools \
             of {USUAL_POOL}.**\n\n"
        );
    }
    if !missing.is_empty() {
        text.push_str("**Not complete:**\n\n");
        for what in missing {
            let _ = writeln!(text, "- {what}");
        }
        text.push('\n');
    }
    if !left_out.is_empty() {
        let _ = write!(text, "Built-in plans that were not run for this page: {}.\n\n", left_out.join(", "));
    }
    text
}

/// What everybody was measured on, and when.
fn ground(chapters: &[Chapter]) -> String {
    let each = |fact: fn(&Circumstances) -> String| {
        agreed(chapters, |chapter: &Chapter| Some(fact(&chapter.circumstances)))
    };
    format!(
        "- {postgres}: commits do not wait for the disk, which flatters everybody alike\n\
         - {machine}; the load generator, the pooler and PostgreSQL share this machine\n\
         - measured on {started}; load average before the run's first leg: {load}\n\n",
        postgres = each(|its| {
            let settings = its.settings.replace(", ", "`, `");
            format!("{}, `max_connections = {}`, `{settings}`", its.postgres, its.max_connections)
        }),
        machine = each(|its| its.machine.clone()),
        started = each(|its| its.started.clone()),
        load = each(|its| its.load.clone()),
    )
}

/// Everybody who takes part in any plan.
fn targets(chapters: &[Chapter]) -> Vec<&str> {
    let mut names = Vec::new();
    for target in chapters.iter().flat_map(|chapter| &chapter.targets) {
        if !names.contains(&target.name.as_str()) {
            names.push(target.name.as_str());
        }
    }
    names
}

/// Sizes other than the one that plans are written for.
fn other_pools(chapters: &[Chapter]) -> BTreeSet<u32> {
    let sizes = chapters.iter().map(|chapter| chapter.circumstances.pool_size);
    sizes.filter(|size| *size != USUAL_POOL).collect()
}

/// A fact, once if it is the same in all plans; else each with the plans that it is of: `A (in e1, e2); B (in e7)`.
fn agreed(chapters: &[Chapter], fact: impl Fn(&Chapter) -> Option<String>) -> String {
    let mut facts: Vec<(String, Vec<&str>)> = Vec::new();
    for chapter in chapters {
        let Some(told) = fact(chapter) else { continue };
        match facts.iter_mut().find(|(known, _)| *known == told) {
            Some((_, plans)) => plans.push(&chapter.plan),
            None => facts.push((told, vec![chapter.plan.as_str()])),
        }
    }
    let tell = |(told, plans): (String, Vec<&str>)| {
        if plans.len() == chapters.len() { told } else { format!("{told} (in {})", plans.join(", ")) }
    };
    facts.into_iter().map(tell).collect::<Vec<_>>().join("; ")
}

fn method(chapters: &[Chapter]) -> String {
    format!(
        "## Method\n\n\
         Rounds of every plan: {rounds}. In each round all targets take turns, so that what else the machine does meets them \
         alike: {turns}. Every leg has a pooler that was just started: waiting clients, \
         half-dead server connections and memory that one leg leaves behind would be charged to the next, and plans about cold \
         pools need a cold one. What it costs: the first clients of every leg wait for the pool to fill, with all poolers. \
         Between legs PostgreSQL is waited for until it has no client left.\n\n\
         Each figure is the median of the rounds, with the least and the most in brackets. `÷` is pgcorral's figure divided by \
         the other's: the median of the rounds' ratios, and left out if that is infinite. `(2 of 3)` behind it: only so many \
         rounds have a ratio; in the others a figure is missing, or both are 0. † behind it: pgcorral serves less of what is \
         offered than the other, and has only the latency of that.\n\n\
         Latency counts from when the plan wanted the invocation to begin, \
         retries included, and only those that were served have one: whoever serves fewer may look faster. Goodput is the share \
         of the invocations offered that were served, at whichever attempt: the client's timeout is of each attempt, and an \
         invocation that a later attempt served counts, however long that is after the first one's timeout. Invocations that \
         the plan kills midway are not among those offered; those that its end cuts off are, as not served. Clients retry, as often as the plan lets \
         them, after refusals, timeouts and lost connections, sessions that a FATAL error ended included; not after a FATAL \
         error at login that is outside the contract, and PgBouncer's 08P01 is one where it comes at login. Backends and statements are those that \
         PostgreSQL counted. Statements run to their end for nobody are those of `pg_stat_statements` of which no client heard: \
         one that was cancelled, or whose backend was ended, counts as none, whatever it has cost until then. \
         The contract are the SQLSTATEs that tell a client of overload or \
         a lost server ({contract}); PgBouncer ends the session with 08P01, a protocol violation, \
         and that is counted as an error outside it. Assertions of bounds that must never be \
         passed, or of what has to be 0, are judged by the worst round, all others by the median; PostgreSQL itself is not judged.\n\n\
         {QUEUE}\n\n",
        rounds = agreed(chapters, |chapter| Some(chapter.circumstances.rounds.to_string())),
        turns = agreed(chapters, |chapter| Some(chapter.circumstances.turns.to_string())),
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
    let names = targets(chapters);
    let mut headings = vec!["goodput; assertions that hold"];
    headings.extend(&names);
    let mut table = Table::new(headings);
    for chapter in chapters {
        let of = |name: &&str| {
            chapter.target(name).map_or(units::ABSENT.to_owned(), |target| glance(chapter, target))
        };
        let mut cells = vec![format!("[{}](#{})", chapter.plan, anchor(chapter))];
        cells.extend(names.iter().map(of));
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
    let heading = format!("## Where pgcorral loses\n\n{}", without_us(chapters));
    if chapters.iter().all(|chapter| chapter.ours().is_none()) {
        return heading;
    }
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

/// Names the plans in which pgcorral cannot lose, because it did not take part.
fn without_us(chapters: &[Chapter]) -> String {
    let without = chapters.iter().filter(|chapter| chapter.ours().is_none());
    let plans: Vec<&str> = without.map(|chapter| chapter.plan.as_str()).collect();
    if plans.is_empty() {
        return String::new();
    }
    format!("pgcorral did not take part in {}.\n\n", plans.join(", "))
}

fn better_than(chapter: &Chapter, row: &Row, ours: usize) -> Vec<String> {
    let others = chapter.targets.iter().enumerate().filter(|(other, _)| row.is_lost_to(*other, ours));
    let mark = |other| {
        if serves_less(chapter, row, other, ours) { " †" } else { "" }
    };
    others.map(|(other, target)| format!("{} {}{}", target.name, cell(row, other), mark(other))).collect()
}

/// Whether a latency is that of fewer: `who` loses to `than` in the goodput of what `row` is about; in that of the whole,
/// where the page does not have that.
fn serves_less(chapter: &Chapter, row: &Row, who: usize, than: usize) -> bool {
    if !row.subject.metric.is_time() {
        return false;
    }
    let goodputs = || chapter.rows.iter().filter(|row| row.subject.metric == Metric::Goodput);
    let of = |family: Option<&Family>, phase: Option<&String>| {
        goodputs().find(|row| row.subject.family.as_ref() == family && row.subject.phase.as_ref() == phase)
    };
    let (family, phase) = (row.subject.family.as_ref(), row.subject.phase.as_ref());
    let goodput = of(family, phase).or_else(|| of(family, None)).or_else(|| of(None, None));
    goodput.is_some_and(|goodput| goodput.is_lost_to(than, who))
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
            cells.extend(chapter.rivals().map(|(rival, _)| ratio(chapter, row, ours, rival)));
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

/// `0.47`, `0.47 (2 of 3) †`
fn ratio(chapter: &Chapter, row: &Row, of: usize, to: usize) -> String {
    let Some(Ratio { median, rounds, of: all }) = row.ratio(of, to) else { return units::ABSENT.to_owned() };
    let counted = if rounds < all { format!(" ({rounds} of {all})") } else { String::new() };
    let mark = if serves_less(chapter, row, of, to) { " †" } else { "" };
    format!("{median:.2}{counted}{mark}")
}

fn shown(metric: Metric, value: Option<f64>) -> String {
    value.map_or(units::ABSENT.to_owned(), |value| units::metric(metric, value))
}

#[cfg(test)]
pub mod examples {
    use super::{Circumstances, Turns};

    /// Nothing missing.
    pub fn circumstances() -> Circumstances {
        Circumstances {
            started: "2026-03-01".to_owned(),
            postgres: "PostgreSQL 15.1".to_owned(),
            max_connections: 100,
            settings: "autovacuum = off, fsync = off".to_owned(),
            machine: "Some CPU, 2 cores".to_owned(),
            load: "0.10".to_owned(),
            rounds: 3,
            pool_size: 20,
            turns: Turns::Balanced,
            missing: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::examples::row;
    use super::examples::circumstances;
    use super::*;

    fn page(chapters: &[Chapter]) -> String {
        write(&Findings { chapters: chapters.to_vec(), ..Findings::default() })
    }

    fn target(name: &str) -> TargetInfo {
        TargetInfo { name: name.to_owned(), baseline: name == "direct", about: format!("{name} as it is") }
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
            circumstances: circumstances(),
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
        let page = page(&[chapter()]);
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
        let page = page(&[chapter()]);
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
        let page = page(&[chapter]);
        assert!(part(&page, "Where pgcorral loses").contains("PgBouncer 100 ms [100 ms–300 ms] |"), "{page}");
    }

    #[test]
    fn pictures_are_explained_once() {
        let other = Chapter { plan: "e1".to_owned(), title: "E1: a surge".to_owned(), ..chapter() };
        let page = page(&[chapter(), other]);
        assert_eq!(page.matches("Higher is better.").count(), 1);
        assert!(page.contains("\n## E1: a surge\n") && page.contains("[e1](#e1-a-surge)"), "{page}");
    }

    #[test]
    fn the_page_says_so_if_nothing_was_lost() {
        let mut chapter = chapter();
        chapter.rows.truncate(2);
        let page = page(&[chapter]);
        assert!(part(&page, "Where pgcorral loses").contains("In no figure"), "{page}");
    }

    #[test]
    fn the_glance_links_to_the_section_and_judges_no_baseline() {
        let page = page(&[chapter()]);
        let expected = ["[burst](#burst-a-thousand-at-once)", "25.0 %", "50.0 %; 0 of 1", "95.0 %; 1 of 1"];
        assert_eq!(cells(part(&page, "In short"), "[burst](#burst-a-thousand-at-once)"), expected);
    }

    #[test]
    fn what_is_missing_is_said() {
        let complete = page(&[chapter()]);
        assert!(!complete.contains("Not complete") && !complete.contains("not run"));
        let missing = vec!["burst, round 3, pgcorral: it was interrupted".to_owned()];
        let left_out = vec!["e4".to_owned(), "soak".to_owned()];
        let page = write(&Findings { chapters: Vec::new(), missing, left_out });
        assert!(page.contains("**Not complete:**\n\n- burst, round 3, pgcorral"), "{page}");
        assert!(page.contains("not run for this page: e4, soak."), "{page}");
        assert!(page.contains("Nothing was measured"), "{page}");
    }

    #[test]
    fn what_was_measured_in_several_goes_says_which_was_when_and_with_what() {
        let mut later = Chapter { plan: "e7".to_owned(), ..chapter() };
        later.circumstances = Circumstances {
            started: "2026-03-02".to_owned(),
            load: "0.90".to_owned(),
            rounds: 5,
            pool_size: 40,
            turns: Turns::Rotated,
            ..circumstances()
        };
        later.targets[2].about = "another commit".to_owned();
        let page = page(&[chapter(), Chapter { plan: "e1".to_owned(), ..chapter() }, later]);
        for said in [
            "measured on 2026-03-01 (in burst, e1); 2026-03-02 (in e7); load average before the run's first leg: \
             0.10 (in burst, e1); 0.90 (in e7)",
            "- **pgcorral**: pgcorral as it is (in burst, e1); another commit (in e7)\n",
            "- **PgBouncer**: PgBouncer as it is\n",
            "Rounds of every plan: 3 (in burst, e1); 5 (in e7).",
            "come after the same one every time (in e7)",
            "**Pools of 40: the plans' capacities",
        ] {
            assert!(page.contains(said), "{said}\n{page}");
        }
        assert_eq!(page.matches("Some CPU, 2 cores").count(), 1);
    }

    #[test]
    fn who_did_not_take_part_is_in_no_column_of_others() {
        let mut fewer = Chapter { plan: "e7".to_owned(), title: "E7: few".to_owned(), ..chapter() };
        fewer.targets.remove(1);
        fewer.rows.clear();
        fewer.assertions.clear();
        let page = page(&[fewer, chapter()]);
        let heads = ["goodput; assertions that hold", "direct", PGCORRAL, "PgBouncer"];
        assert_eq!(cells(part(&page, "In short"), "goodput;"), heads);
        let burst = ["[burst](#burst-a-thousand-at-once)", "25.0 %", "95.0 %; 1 of 1", "50.0 %; 0 of 1"];
        assert_eq!(cells(part(&page, "In short"), burst[0]), burst);
        assert!(page.contains("- **PgBouncer**: PgBouncer as it is (in burst)\n"), "{page}");
    }

    #[test]
    fn without_pgcorral_nothing_is_said_of_its_losses() {
        let mut without = chapter();
        without.targets.truncate(2);
        let alone = page(std::slice::from_ref(&without));
        assert_eq!(
            part(&alone, "Where pgcorral loses").trim_end(),
            "\n\npgcorral did not take part in burst."
        );
        let both = page(&[without, Chapter { plan: "e1".to_owned(), ..chapter() }]);
        let losses = part(&both, "Where pgcorral loses");
        assert!(losses.contains("did not take part in burst.") && losses.contains("| e1 "), "{losses}");
    }

    #[test]
    fn ratios_of_latency_are_marked_where_pgcorral_serves_less_and_those_of_few_rounds_everywhere() {
        let mut chapter = chapter();
        let last = |chapter: &Chapter, first: &str| {
            cells(part(&page(std::slice::from_ref(chapter)), "burst: A"), first).last().unwrap().to_string()
        };
        assert_eq!(last(&chapter, "p50"), "2.00");
        chapter.rows[0] = row(Metric::Goodput, &[&[0.25], &[1.0], &[0.9]]);
        assert_eq!((last(&chapter, "p50"), last(&chapter, "goodput")), ("2.00 †".into(), "0.90".into()));
        chapter.rows[2].figures[1][0] = None;
        assert_eq!(last(&chapter, "p50"), "3.00 (2 of 3) †");
    }

    #[test]
    fn what_figures_mean_and_do_not_is_said() {
        let page = page(&[chapter()]);
        for said in [
            "`fsync = off`",
            "the client's timeout is of each attempt",
            "error at login that is outside the contract",
            "one that was cancelled",
        ] {
            assert!(
                part(&page, "Method").contains(said) || heading_of(&page).contains(said),
                "{said}\n{page}"
            );
        }
        assert!(!page.contains("Pools of"), "{page}");
    }

    fn heading_of(page: &str) -> &str {
        page.split_once("\n## ").unwrap().0
    }

    #[test]
    fn versions_machine_and_date_are_named() {
        let page = page(&[chapter()]);
        for said in
            ["2026-03-01", "**PgBouncer**: PgBouncer as it is", "PostgreSQL 15.1", "Some CPU, 2 cores"]
        {
            assert!(page.contains(said), "{said}");
        }
    }
}
