//! The probe against a real PostgreSQL, against a server that is away, and against one that never answers.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy.toml exempts only `#[test]`"
)]

use loadtest::postgres::{Cluster, ClusterOptions, free_port};
use loadtest::probe::canary::{Ending, Terms};
use loadtest::probe::invocation::Invocation;
use loadtest::probe::metrics::Metrics;
use loadtest::probe::outcome::{Outcome, Phase, Reason};
use loadtest::probe::page::Page;
use loadtest::probe::{self, Summary};
use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// So long that it never matters, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn terms() -> Terms {
    Terms { every: Duration::from_millis(10), timeout: PATIENCE, failures: 0, probes: None }
}

fn probes(probes: u64) -> Terms {
    Terms { probes: Some(probes), ..terms() }
}

fn invocation(dsn: &str) -> Invocation {
    Invocation { dsn: dsn.to_owned(), name: "test".parse().unwrap(), write: false }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Instant::now()).unwrap())
}

fn cluster() -> Cluster {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    cluster.psql("postgres", "create role app login password 'secret'").unwrap();
    cluster
}

/// The server of all tests that do not stop it; its janitor ends it when this process is over.
fn shared() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(cluster);
    &CLUSTER
}

/// Runs to the end of the terms; every outcome, in order.
async fn run(invocation: &Invocation, terms: Terms, metrics: &Metrics) -> (Summary, Vec<Outcome>) {
    let mut outcomes = Vec::new();
    let told = |number, outcome: &Outcome| {
        outcomes.push(outcome.clone());
        assert_eq!(number, outcomes.len() as u64);
    };
    let summary = probe::run(invocation, terms, metrics, told, pending()).await;
    (summary, outcomes)
}

/// Series and values of a page; it must be one that Prometheus would take.
async fn scrape(page: &Page) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(page.address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    body.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn sample(line: &str) -> (String, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let name = series.split('{').next().unwrap();
    assert!(name.starts_with("pgcorral_probe"), "{line}");
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
    (series.to_owned(), value.parse().unwrap())
}

#[tokio::test]
async fn a_healthy_server_is_a_success_and_the_page_moves() {
    let cluster = shared();
    let metrics = metrics();
    let page = Page::serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&metrics)).await.unwrap();
    let before = scrape(&page).await;
    assert!(!before.contains_key("pgcorral_probe_success"));

    let probe = invocation(&cluster.url("app", "secret", "postgres"));
    let (summary, outcomes) = run(&probe, probes(3), &metrics).await;

    assert!(summary.is_success(), "{summary:?}");
    assert_eq!((summary.ending, summary.tally.succeeded), (Ending::Complete, 3));
    let phases = outcomes[0].phases;
    assert!(phases.connect.is_some() && phases.login.is_some() && phases.transaction.is_some());
    assert_eq!(phases.write, None);

    let after = scrape(&page).await;
    assert_eq!(after["pgcorral_probe_success"], 1.0);
    assert_eq!(after["pgcorral_probes_total{outcome=\"success\"}"], 3.0);
    assert_eq!(after["pgcorral_probes_total{outcome=\"failure\"}"], 0.0);
    for (phase, count) in
        [("connect", 3.0), ("login", 3.0), ("transaction", 3.0), ("write", 0.0), ("total", 3.0)]
    {
        let labels = format!("{{phase=\"{phase}\"}}");
        assert_eq!(after[&format!("pgcorral_probe_phase_seconds_count{labels}")], count);
        assert_eq!(before[&format!("pgcorral_probe_phase_seconds_count{labels}")], 0.0);
        assert_eq!(after[&format!("pgcorral_probe_phase_seconds_sum{labels}")] > 0.0, count > 0.0);
    }
}

#[tokio::test]
async fn a_wrong_password_fails_at_the_login_with_its_sqlstate() {
    let cluster = shared();
    let metrics = metrics();
    let probe = invocation(&cluster.url("app", "hunter2", "postgres"));

    let (summary, outcomes) = run(&probe, Terms { failures: 2, ..terms() }, &metrics).await;

    assert_eq!((summary.ending, outcomes.len()), (Ending::TooManyFailures, 2));
    assert!(!summary.is_success());
    let fault = summary.last_fault.unwrap();
    assert_eq!((fault.phase, fault.reason), (Phase::Login, Reason::Sqlstate("28P01")));
    assert_eq!(fault.sqlstate.as_deref(), Some("28P01"));
    assert!(outcomes[0].phases.connect.is_some() && outcomes[0].phases.login.is_none());
    let page = metrics.render(Instant::now()).unwrap();
    assert!(page.contains("pgcorral_probe_failures_total{reason=\"28P01\"} 2\n"), "{page}");
    assert!(!page.contains("hunter2"));
}

/// The same run sees the server go and come back.
#[tokio::test]
async fn a_server_that_comes_back_ends_the_failures_in_a_row() {
    let mut cluster = cluster();
    let metrics = metrics();
    let probe = invocation(&cluster.url("app", "secret", "postgres"));
    let (stop, stopped) = oneshot::channel();
    let (mut stop, mut seen) = (Some(stop), Vec::new());
    let told = |number: u64, outcome: &Outcome| {
        seen.push(outcome.fault.as_ref().map(|fault| fault.reason));
        match number {
            1 => cluster.stop_fast(),
            4 => cluster.start_again().unwrap(),
            5 => stop.take().unwrap().send(()).unwrap(),
            _ => {}
        }
    };
    let summary = probe::run(&probe, terms(), &metrics, told, async {
        let _ = stopped.await;
    })
    .await;

    let away = Some(Reason::Connection);
    assert_eq!(seen, [None, away, away, away, None]);
    assert_eq!(summary.ending, Ending::Stopped);
    assert_eq!((summary.tally.succeeded, summary.tally.failed, summary.tally.in_a_row), (2, 3, 0));
    assert!(summary.is_success());
}

/// The kernel accepts, nobody answers: the probe gives up, and meanwhile the page is there.
#[tokio::test]
async fn a_server_that_never_answers_holds_up_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let probe =
        invocation(&format!("postgres://app:secret@{}/app?sslmode=disable", silent.local_addr().unwrap()));
    let metrics = metrics();
    let given_up = Terms { timeout: Duration::from_millis(50), ..probes(3) };
    let (summary, outcomes) = run(&probe, given_up, &metrics).await;
    assert_eq!(outcomes.len(), 3);
    let fault = summary.last_fault.unwrap();
    assert_eq!((fault.phase, fault.reason), (Phase::Login, Reason::Timeout));
    assert!(summary.tally.skipped > 0, "probes were due while one hung: {:?}", summary.tally);

    let page = Page::serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&metrics)).await.unwrap();
    let hanging = probe::run(&probe, terms(), &metrics, |_, _| (), async {
        let samples = scrape(&page).await;
        assert_eq!(samples["pgcorral_probe_failures_total{reason=\"timeout\"}"], 3.0);
    })
    .await;
    assert_eq!((hanging.ending, hanging.tally.failed), (Ending::Stopped, 0));
}

#[tokio::test]
async fn nobody_listening_is_a_connection_failure() {
    let probe = invocation(&format!("postgres://app@127.0.0.1:{}/app", free_port().unwrap()));
    let (summary, _) = run(&probe, probes(1), &metrics()).await;
    let fault = summary.last_fault.unwrap();
    assert_eq!((fault.phase, fault.reason), (Phase::Connect, Reason::Connection));
}

#[tokio::test]
async fn a_probe_that_is_stopped_before_it_ends_is_none() {
    let probe = invocation(&format!("postgres://app@127.0.0.1:{}/app", free_port().unwrap()));
    let summary = probe::run(&probe, terms(), &metrics(), |_, _| (), ready(())).await;
    assert_eq!((summary.ending, summary.tally.failed), (Ending::Stopped, 0));
    assert!(!summary.is_success(), "nothing was shown to work");
}

#[tokio::test]
async fn writing_makes_the_table_once_and_keeps_one_row_for_each_name() {
    let cluster = shared();
    cluster.psql("postgres", "create database shop").unwrap();
    cluster.psql("shop", "grant create on schema public to app").unwrap();
    let dsn = cluster.url("app", "secret", "shop");
    let named = |name: &str| Invocation { write: true, name: name.parse().unwrap(), ..invocation(&dsn) };

    let (summary, outcomes) = run(&named("a"), probes(4), &metrics()).await;
    assert_eq!(summary.tally.succeeded, 4, "{summary:?}");
    assert!(outcomes[0].phases.write.is_some());
    // Who may not make tables may still write to one.
    cluster.psql("shop", "revoke create on schema public from app").unwrap();
    let (summary, _) = run(&named("b-1.x"), probes(2), &metrics()).await;
    assert_eq!(summary.tally.succeeded, 2, "{summary:?}");

    let rows = cluster.psql("shop", "select name, probes from loadtest_probe order by name").unwrap();
    assert_eq!(rows, "a|4\nb-1.x|2");
}

#[tokio::test]
async fn a_write_that_is_not_allowed_fails_as_the_write() {
    let cluster = shared();
    let probe = Invocation { write: true, ..invocation(&cluster.url("app", "secret", "postgres")) };
    let (summary, outcomes) = run(&probe, probes(1), &metrics()).await;
    let fault = summary.last_fault.unwrap();
    assert_eq!((fault.phase, fault.sqlstate.as_deref()), (Phase::Write, Some("42501")));
    assert!(outcomes[0].phases.transaction.is_some());
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("probe").args(arguments).env_remove("PGCORRAL_PROBE_DSN").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn assert_no_secret(output: &Output) {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!said.contains("secret") && !said.contains("hunter2"), "{said}");
}

/// A scheduled function, and a canary of a deployment: the exit status is all that counts.
#[test]
fn the_exit_status_tells_how_it_went() {
    let mut cluster = cluster();
    let dsn = cluster.url("app", "secret", "postgres");

    let well = command(&["--once"]).env("PGCORRAL_PROBE_DSN", &dsn).output().unwrap();
    assert_eq!(well.status.code(), Some(0), "{well:?}");
    assert!(text(&well.stdout).contains("probe 1 ok"), "{well:?}");
    assert_no_secret(&well);

    let named = command(&["--once", "--dsn", "env:SOME_DSN"]).env("SOME_DSN", &dsn).output().unwrap();
    assert_eq!(named.status.code(), Some(0), "{named:?}");

    let file = std::env::temp_dir().join(format!("loadtest-probe-{}.dsn", std::process::id()));
    std::fs::File::create(&file).unwrap().write_all(format!("{dsn}\n").as_bytes()).unwrap();
    let file_name = file.to_str().unwrap();
    let json =
        command(&["--dsn-file", file_name, "--count", "3", "--every", "10ms", "--json"]).output().unwrap();
    assert_eq!(json.status.code(), Some(0), "{json:?}");
    let objects: Vec<serde_json::Value> =
        text(&json.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 3);
    assert!(objects.iter().all(|object| object["outcome"] == "success"), "{objects:?}");

    cluster.stop_fast();
    let arguments = ["--dsn-file", file_name, "--every", "10ms", "--failures", "2", "--metrics", "off"];
    let away = command(&arguments).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(away.status.code(), Some(1), "{away:?}");
    assert_eq!(text(&away.stdout).lines().count(), 2);
    let said = text(&away.stderr);
    assert!(said.contains("2 probes in a row failed, the last one at connect: connection: "), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert_no_secret(&away);
}

#[test]
fn a_mistake_is_told_without_the_password() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let dsn = "postgres://app:secret@127.0.0.1/app";
    for (arguments, told) in [
        (&["--dsn", "postgres://app:secret@127.0.0.1:port/app"][..], "the DSN: "),
        (&["--dsn-file", "/nowhere/dsn"], "/nowhere/dsn: "),
        (&["--dsn", dsn, "--metrics", &taken], "--metrics 127.0.0.1:"),
        (&["--dsn", dsn, "--every", "1ms"], "from 10ms to 1day"),
        (&["--dsn", dsn, "--name", "o'brien"], "a name is 1 to 63"),
        (&["--dsn", dsn, "--once", "--count", "3"], "cannot be used with"),
        (&["--dsn", "env:LOADTEST_NO_SUCH_VARIABLE"], "the variable LOADTEST_NO_SUCH_VARIABLE is not set"),
        (&["--once"], "--dsn"),
    ] {
        let output = command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(told), "{output:?}");
        assert_no_secret(&output);
    }
}

/// A watch that is ended tells how things stand: 0 while all is well, 1 in the middle of an outage.
#[test]
fn a_signal_ends_a_watch_with_a_summary() {
    let cluster = shared();
    let well = cluster.url("app", "secret", "postgres");
    let away = format!("postgres://app:secret@127.0.0.1:{}/app", free_port().unwrap());
    for (dsn, signal, status) in [
        (&well, rustix::process::Signal::TERM, 0),
        (&well, rustix::process::Signal::INT, 0),
        (&away, rustix::process::Signal::TERM, 1),
    ] {
        let mut watch = command(&["--failures", "0", "--every", "1day", "--metrics", "127.0.0.1:0"])
            .env("PGCORRAL_PROBE_DSN", dsn)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(watch.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains(if status == 0 { "probe 1 ok" } else { "probe 1 FAILED" }), "{first}");
        rustix::process::kill_process(rustix::process::Pid::from_child(&watch), signal).unwrap();
        let output = watch.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains("metrics at http://127.0.0.1:"), "{said}");
        assert!(
            said.contains(if status == 0 { "1 succeeded, 0 failed" } else { "0 succeeded, 1 failed" }),
            "{said}"
        );
        assert_no_secret(&output);
    }
}

/// A canary of a deployment that is ended while its first probe hangs must not pass for a success.
#[test]
fn a_signal_before_the_first_probe_is_over_is_no_success() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("postgres://app:secret@{}/app?sslmode=disable", silent.local_addr().unwrap());
    let watch = command(&["--timeout", "1day", "--metrics", "off"])
        .env("PGCORRAL_PROBE_DSN", &dsn)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _connection = silent.accept().unwrap();
    let process = rustix::process::Pid::from_child(&watch);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("before the first probe was over; 0 succeeded"), "{output:?}");
}
