//! The report: a table in Markdown, under the date and the versions of everything that took part.

use crate::SCALE;
use crate::results::{Measure, Results};
use loadtest::machine;
use loadtest::table::Table;

/// Whatever a document has below this line is kept when the report above it is written anew.
pub const MARKER: &str =
    "<!-- `make bench` writes everything above this line and keeps everything below it. -->";

/// The proxies' names and versions; the first is the one that the others are measured against.
#[derive(Debug)]
pub struct Contenders {
    /// In the order of the results.
    pub names: Vec<String>,
    /// What `--version` says, in the same order.
    pub versions: Vec<String>,
}

/// How the figures came about.
#[derive(Debug)]
pub struct Circumstances {
    /// `postgres --version`
    pub postgres: String,
    /// How many rounds.
    pub rounds: u32,
    /// How long each figure of `pgbench` was measured, in seconds.
    pub seconds: u32,
    /// The pool of every proxy.
    pub pool_size: u32,
    /// How busy the machine was before the first round.
    pub load_before: String,
}

/// The whole report but the marker.
pub fn write(contenders: &Contenders, circumstances: &Circumstances, results: &Results) -> String {
    let Circumstances { postgres, rounds, seconds, pool_size, load_before } = circumstances;
    let versions: String = contenders
        .names
        .iter()
        .zip(&contenders.versions)
        .map(|(name, version)| format!("- {name}: {version}\n"))
        .collect();
    format!(
        "# Benchmarks\n\n\
         Written by `make bench` on {date}.\n\n\
         {versions}\
         - {postgres}\n\
         - {machine}; load before the first round {load_before}\n\
         - `pgbench -S`, scale {SCALE}, on the same machine as the proxies and PostgreSQL; pool of {pool_size}, transaction \
         pooling; {rounds} rounds of {seconds} s per figure, the proxies in turn\n\n\
         Each figure is the median of the rounds, with the least and the most in parentheses; each ratio is the median \
         of the rounds' ratios to {baseline}. CPU is the proxy's own, user and system; CPU per transaction has no \
         login in it, CPU per login has the logout. PgBouncer logs no line per connection and has the stored SCRAM \
         verifier, so that it does not derive a key at every login. Memory hardly varies and is measured in the first \
         round only.\n\n\
         {table}",
        date = machine::today(),
        machine = machine::describe(),
        baseline = contenders.names.first().map_or("", String::as_str),
        table = table(contenders, results).to_markdown(),
    )
}

/// One row per measure; per proxy its figures, and but for the first its ratio and what that means for the target.
fn table(contenders: &Contenders, results: &Results) -> Table {
    let others = || contenders.names.iter().enumerate().skip(1);
    let mut headings = vec![String::new()];
    headings.extend(contenders.names.iter().cloned());
    headings.extend(others().map(|(_, name)| format!("{name} ÷")));
    headings.push("target".to_owned());
    headings.extend(others().map(|(_, name)| format!("{name} target")));
    let mut table = Table::new(headings);
    for measure in results.measures() {
        let mut row = vec![measure.name()];
        row.extend((0..contenders.names.len()).map(|proxy| figures(measure, proxy, results)));
        row.extend(others().map(|(proxy, _)| ratio(measure, proxy, results)));
        row.push(measure.target().map_or(String::new(), |target| target.show()));
        row.extend(others().map(|(proxy, _)| verdict(measure, proxy, results)));
        table.row(row);
    }
    table
}

fn figures(measure: Measure, proxy: usize, results: &Results) -> String {
    results.spread(measure, proxy).map_or("-".to_owned(), |spread| {
        let [median, least, most] =
            [spread.median, spread.least, spread.most].map(|figure| measure.show(figure));
        format!("{median} ({least}–{most})")
    })
}

fn ratio(measure: Measure, proxy: usize, results: &Results) -> String {
    results.ratio(measure, proxy, 0).map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn verdict(measure: Measure, proxy: usize, results: &Results) -> String {
    let judged = || {
        let figure = results.spread(measure, proxy)?.median;
        Some(measure.target()?.verdict(figure, results.ratio(measure, proxy, 0).unwrap_or(f64::NAN)))
    };
    judged().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgbench::Protocol;

    #[test]
    fn a_row_has_figures_ratio_and_verdict() {
        let mut results = Results::default();
        let measure = Measure::CpuPerTransaction(Protocol::Simple, 8);
        results.add(measure, 0, 20.0);
        results.add(measure, 1, 18.0);
        let contenders = Contenders {
            names: vec!["PgBouncer".to_owned(), "pgcorral".to_owned()],
            versions: vec![String::new(), String::new()],
        };
        let text = table(&contenders, &results).to_markdown();
        let cells: Vec<&str> = text.lines().nth(2).unwrap().split('|').map(str::trim).collect();
        let expected = [
            "",
            "CPU per transaction, simple, 8 clients (µs)",
            "20.0 (20.0–20.0)",
            "18.0 (18.0–18.0)",
            "0.90",
            "≤ 0.85 ×",
            "missed by 6 %",
            "",
        ];
        assert_eq!(cells, expected);
    }
}
