//! What the dashboards and rules ask Prometheus for.

use std::path::PathBuf;

use regex::Regex;
use serde_json::Value;

/// The project's directory.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// One expression, and who asks for it: `Pools: Waits (p99)`, `alert PgcorralShedding`.
#[derive(Debug, Clone)]
pub struct Expression {
    pub name: String,
    pub text: String,
}

/// What stands for Grafana's variables.
pub struct Choice<'a> {
    pub instance: &'a str,
    pub database: &'a str,
    pub user: &'a str,
    /// Of all functions, as "All" is in Grafana.
    pub function: &'a str,
}

impl Choice<'_> {
    /// The expression as Grafana sends it. Its range is as short as the test.
    pub fn fill(&self, expression: &Expression) -> Expression {
        let text = expression.text.replace("$__rate_interval", "20s");
        let values = [
            ("$instance", self.instance),
            ("$database", self.database),
            ("$user", self.user),
            ("$function", self.function),
        ];
        let text = values.iter().fold(text, |text, (variable, value)| text.replace(variable, value));
        assert!(!text.contains('$'), "{}: a variable that the test does not know: {text}", expression.name);
        Expression { name: expression.name.clone(), text }
    }
}

/// The dashboards' files.
pub fn boards() -> Vec<Value> {
    let files = files("dashboards", "json");
    assert!(!files.is_empty(), "there are no dashboards");
    files
        .iter()
        .map(|(path, text)| serde_json::from_str(text).unwrap_or_else(|error| panic!("{path:?}: {error}")))
        .collect()
}

/// The files of a directory of the project that end like this, by name.
pub fn files(directory: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let directory = PathBuf::from(ROOT).join(directory);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a text");
            (path, text)
        })
        .collect()
}

/// All expressions of the dashboards, with their variables.
pub fn of_boards() -> Vec<Expression> {
    boards().iter().flat_map(of_board).collect()
}

fn of_board(board: &Value) -> Vec<Expression> {
    let title = text(&board["title"]).trim_start_matches("pgcorral / ");
    let mut found = Vec::new();
    for panel in list(&board["panels"]).iter().filter(|panel| panel["type"] != "row") {
        for target in list(&panel["targets"]) {
            let name = format!("{title}: {} ({})", text(&panel["title"]), text(&target["legendFormat"]));
            found.push(Expression { name, text: text(&target["expr"]).to_owned() });
        }
    }
    for annotation in list(&board["annotations"]["list"]) {
        let name = format!("{title}: annotation {}", text(&annotation["name"]));
        found.push(Expression { name, text: text(&annotation["expr"]).to_owned() });
    }
    let values = Regex::new(r"^label_values\((.*),(\w+)\)$").expect("an expression");
    for variable in list(&board["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
        let query = text(&variable["query"]["query"]);
        let parts = values.captures(query).unwrap_or_else(|| panic!("{title}: no label_values: {query}"));
        // The values of the label are those of the series.
        let name = format!("{title}: variable {}", text(&variable["name"]));
        found.push(Expression { name, text: format!("count by ({}) ({})", &parts[2], &parts[1]) });
    }
    found
}

/// An array.
pub fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// A text.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
