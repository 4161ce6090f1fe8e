//! The files as they are: written by the generator, of Grafana's schema, and what promtool says of them.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;

use super::expression::{ROOT, files};
use super::prometheus::MISSING;

/// `dashboards/generate.py --check`.
pub fn generated() {
    run(Command::new("python3").args(["-B", "dashboards/generate.py", "--check"]));
}

/// `dashboards/check_schema.py`, in the environment that the set-up makes.
pub fn schema() {
    run(Command::new("target/dashboards/venv/bin/python").args(["-B", "dashboards/check_schema.py"]));
}

/// `promtool check`. The configuration names the rules.
pub fn checked() {
    run(Command::new("promtool").args(["check", "config", "config/prometheus/prometheus.yml"]));
    run(Command::new("promtool").args(["check", "rules"]).args(paths("config/prometheus/rules")));
}

/// `promtool test rules`.
pub fn tested() {
    run(Command::new("promtool").args(["test", "rules"]).args(paths("config/prometheus/tests")));
}

fn paths(directory: &str) -> Vec<std::path::PathBuf> {
    let paths: Vec<_> = files(directory, "yml").into_iter().map(|(path, _)| path).collect();
    assert!(!paths.is_empty(), "nothing in {directory}");
    paths
}

fn run(command: &mut Command) {
    let output = command
        .current_dir(ROOT)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} {MISSING} ({error})", command.get_program().display()));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}\n{}", said.concat());
}

/// A page that the annotation names, and in the rules' tests a moment at which it fires and one at which it does not.
pub fn alerts() {
    let rules = all("config/prometheus/rules");
    let tests = all("config/prometheus/tests");
    let index =
        std::fs::read_to_string(format!("{ROOT}/docs/runbooks/README.md")).expect("the list of runbooks");
    let rule = Regex::new(r"(?s)- alert: (\w+)\n(.*?)(?:\n\n|\z)").expect("an expression");
    let severity = Regex::new(r"severity: (\w+)").expect("an expression");
    let mut names = HashSet::new();
    for parts in rule.captures_iter(&rules) {
        let (name, body) = (&parts[1], &parts[2]);
        let page = format!("docs/runbooks/{name}.md");
        assert!(body.contains(&format!("runbook: {page}")), "{name} does not name {page}");
        assert!(Path::new(ROOT).join(&page).exists(), "there is no {page}");
        assert!(index.contains(&format!("({name}.md)")), "{name} is not in docs/runbooks/README.md");
        let severity = severity.captures(body).expect("a severity");
        let fires = format!(
            r"exp_labels:\s*\{{severity: {}[^}}]*\}}\s*exp_annotations:(?:\n +\w+: .*)*{page}",
            &severity[1]
        );
        assert!(Regex::new(&fires).expect("an expression").is_match(&tests), "no test in which {name} fires");
        let silent = format!(r"alertname: {name}\n +eval_time: \w+\n +exp_alerts: \[\]");
        assert!(
            Regex::new(&silent).expect("an expression").is_match(&tests),
            "no test in which {name} does not fire"
        );
        names.insert(name.to_owned());
    }
    let alerts = rules.matches("- alert: ").count();
    assert!(
        alerts > 10 && rule.captures_iter(&rules).count() == alerts,
        "the rules are not read as they are written"
    );
    for (path, _) in files("docs/runbooks", "md") {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert!(stem == "README" || names.contains(stem), "{stem}.md is the runbook of no alert");
    }
}

fn all(directory: &str) -> String {
    files(directory, "yml").into_iter().map(|(_, text)| text + "\n\n").collect()
}
