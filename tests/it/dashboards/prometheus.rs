//! A Prometheus as a process of its own, with the project's own configuration; always reaped.

use std::fmt::Write as _;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loadtest::postgres::free_port;
use serde_json::Value;
use tempfile::TempDir;

use super::expression::{Expression, ROOT, files, list, text};
use crate::support::ground::eventually;
use crate::support::wire::{PATIENCE, Wire};

/// What to do where a program is missing. The trial fails then: nothing would be known.
pub const MISSING: &str =
    "is missing: run scripts/setup-prometheus.sh, or install prometheus and python3 with venv";

/// How often it reads the metrics and evaluates the rules.
const SCRAPE: Duration = Duration::from_secs(1);

/// A running Prometheus. Dropping it kills it.
pub struct Prometheus {
    address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Prometheus {
    /// Starts it on these proxies' admin addresses, and waits until it answers.
    pub fn start(targets: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port().expect("a free port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        write_configuration(directory.path(), targets);
        let log = std::fs::File::create(directory.path().join("log")).expect("a file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", directory.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus {MISSING} ({error})"));
        let mut prometheus = Self { address, child, directory };
        prometheus.wait_until_ready();
        prometheus
    }

    fn wait_until_ready(&mut self) {
        let limit = Instant::now() + PATIENCE;
        while self.get("/-/ready").is_none_or(|body| !body.contains("is Ready")) {
            let ended = self.child.try_wait().expect("our child").is_some();
            assert!(!ended && Instant::now() < limit, "Prometheus did not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The body of `GET path`; nothing if it does not answer.
    fn get(&self, path: &str) -> Option<String> {
        let mut wire = Wire::connect(self.address).ok()?;
        // HTTP/1.0, so that the body comes in one piece.
        wire.send(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes()).ok()?;
        let mut reply = String::new();
        wire.socket().read_to_string(&mut reply).ok()?;
        reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    /// What its API answers; panics with the error that it reports.
    fn api(&self, path: &str) -> Value {
        let body = self.get(path).unwrap_or_else(|| panic!("no answer to {path}:\n{}", self.log()));
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// What an expression was at each second since then, without what is no number.
    pub fn values_since(&self, expression: &str, since: SystemTime) -> Vec<f64> {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let (from, to) = (seconds(since), seconds(SystemTime::now()));
        let query = percent_encoded(expression);
        let data = self.api(&format!("/api/v1/query_range?query={query}&start={from}&end={to}&step=1"));
        let samples = list(&data["result"]).iter().flat_map(|series| list(&series["values"]));
        let value = |sample: &Value| text(&sample[1]).parse::<f64>().expect("a number");
        samples.map(value).filter(|value| !value.is_nan()).collect()
    }

    /// Waits until a metric has been read.
    pub fn wait_for(&self, metric: &str) {
        let begun = SystemTime::now();
        eventually(&format!("Prometheus has read {metric}"), || !self.values_since(metric, begun).is_empty());
    }

    /// All rules that it evaluates: alerts by `alert NAME (SEVERITY)`, others by `record NAME`.
    pub fn rules(&self) -> Vec<Expression> {
        let data = self.api("/api/v1/rules");
        let rules = list(&data["groups"]).iter().flat_map(|group| list(&group["rules"]));
        rules
            .map(|rule| {
                let name = match text(&rule["type"]) {
                    "alerting" => {
                        format!("alert {} ({})", text(&rule["name"]), text(&rule["labels"]["severity"]))
                    }
                    _ => format!("record {}", text(&rule["name"])),
                };
                Expression { name, text: text(&rule["query"]).to_owned() }
            })
            .collect()
    }

    /// Asks for these until each has had a value since then; panics with those that have none after so long.
    pub fn assert_values(&self, mut expressions: Vec<Expression>, since: SystemTime, time: Duration) {
        assert!(!expressions.is_empty(), "nothing to ask for");
        let limit = Instant::now() + time;
        loop {
            expressions.retain(|expression| self.values_since(&expression.text, since).is_empty());
            if expressions.is_empty() {
                return;
            }
            let lines = expressions.iter().map(|one| format!("{}\n    {}", one.name, one.text));
            assert!(Instant::now() < limit, "no value: {}", lines.collect::<Vec<_>>().join("\n"));
            std::thread::sleep(SCRAPE);
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The project's configuration and rules, with other targets, and quick enough for a test.
fn write_configuration(directory: &Path, targets: &[SocketAddr]) {
    let original =
        std::fs::read_to_string(Path::new(ROOT).join("config/prometheus/prometheus.yml")).expect("a text");
    let targets: Vec<String> = targets.iter().map(|target| format!("{:?}", target.to_string())).collect();
    let changes = [
        ("scrape_interval: 10s", "scrape_interval: 1s".to_owned()),
        ("evaluation_interval: 10s", "evaluation_interval: 1s".to_owned()),
        ("targets: [\"127.0.0.1:9432\"]", format!("targets: [{}]", targets.join(", "))),
    ];
    let changed = changes.iter().fold(original, |text, (from, to)| {
        assert!(text.contains(from), "prometheus.yml has no {from:?}");
        text.replace(from, to)
    });
    std::fs::write(directory.join("prometheus.yml"), changed).expect("write");
    std::fs::create_dir(directory.join("rules")).expect("a directory");
    for (path, rules) in files("config/prometheus/rules", "yml") {
        std::fs::write(directory.join("rules").join(path.file_name().expect("a name")), rules)
            .expect("write");
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut coded, byte| {
        if byte.is_ascii_alphanumeric() {
            coded.push(char::from(byte));
        } else {
            let _ = write!(coded, "%{byte:02X}");
        }
        coded
    })
}
