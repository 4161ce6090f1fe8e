//! Names of metrics, their labels and the labels' values: all that dashboards and rules use must be in `docs/metrics.md`, which is
//! written from the proxy's own table.

use std::collections::{HashMap, HashSet};

use regex::Regex;

use super::expression::{Expression, ROOT, files, of_boards};

/// The tables of the page.
struct Page {
    /// Labels by metric.
    labels: HashMap<String, HashSet<String>>,
    histograms: HashSet<String>,
    /// Values by label and metric. Labels with any value are not in it.
    values: HashMap<(String, String), HashSet<String>>,
}

/// Labels that Prometheus adds.
const ADDED: [&str; 3] = ["job", "instance", "le"];

/// Nothing is asked for that the page does not know.
pub fn known() {
    let page = Page::read();
    let mut asked = of_boards();
    for (path, text) in files("config/prometheus/rules", "yml") {
        asked.push(Expression { name: path.display().to_string(), text });
    }
    let faults: Vec<String> = asked.iter().flat_map(|expression| page.faults(expression)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

impl Page {
    fn read() -> Self {
        let page = std::fs::read_to_string(format!("{ROOT}/docs/metrics.md")).expect("docs/metrics.md");
        let words = |cell: &str| -> HashSet<String> {
            let parts = cell.split('`').skip(1).step_by(2);
            parts.map(str::to_owned).collect()
        };
        let mut read = Self { labels: HashMap::new(), histograms: HashSet::new(), values: HashMap::new() };
        for line in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
            let name = cells[0].trim_matches('`').to_owned();
            if name.starts_with("pgcorral_") {
                if cells[1] == "histogram" {
                    read.histograms.insert(name.clone());
                }
                read.labels.insert(name, words(cells[3]));
            } else {
                for metric in words(cells[1]) {
                    read.values.insert((name.clone(), metric), words(cells[3]));
                }
            }
        }
        assert!(read.labels.len() > 50, "docs/metrics.md is not read as it is written");
        read
    }

    /// What is wrong with an expression, or with all of a file's.
    fn faults(&self, expression: &Expression) -> Vec<String> {
        let selector =
            Regex::new(r"([a-z_:]*)(pgcorral_[a-z0-9_]+)(?::\w+)?(?:\{([^}]*)\})?").expect("an expression");
        let mut found = Vec::new();
        for parts in selector.captures_iter(&expression.text) {
            // A recorded series: Prometheus itself refuses to evaluate what nobody records, as it has no value.
            if parts[1].contains(':') {
                continue;
            }
            let (name, matchers) = (&parts[2], parts.get(3).map_or("", |matchers| matchers.as_str()));
            let Some(metric) = self.metric(name) else {
                found.push(format!("{}: {name} is in no line of docs/metrics.md", expression.name));
                continue;
            };
            found.extend(
                self.matcher_faults(metric, matchers).map(|fault| format!("{}: {fault}", expression.name)),
            );
        }
        found
    }

    /// The metric that a series is of.
    fn metric<'a>(&self, name: &'a str) -> Option<&'a str> {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let of_histogram = of_histogram.filter(|bare| self.histograms.contains(*bare));
        let plain = self.labels.contains_key(name) && !self.histograms.contains(name);
        of_histogram.or(plain.then_some(name))
    }

    fn matcher_faults<'a>(
        &'a self,
        metric: &'a str,
        matchers: &str,
    ) -> impl Iterator<Item = String> + use<'a> {
        let matcher = Regex::new(r#"(\w+)(?:=~|!~|!=|=)"([^"]*)""#).expect("an expression");
        let matchers: Vec<(String, String)> =
            matcher.captures_iter(matchers).map(|parts| (parts[1].to_owned(), parts[2].to_owned())).collect();
        matchers.into_iter().filter_map(move |(label, wanted)| {
            if ADDED.contains(&label.as_str()) {
                return None;
            }
            if !self.labels[metric].contains(&label) {
                return Some(format!("{metric} has no label {label}"));
            }
            let values =
                self.values.get(&(label.clone(), metric.to_owned())).filter(|values| !values.is_empty())?;
            let unknown = wanted.split('|').find(|value| !values.contains(*value))?;
            Some(format!("{metric} has no {label} {unknown:?}"))
        })
    }
}
