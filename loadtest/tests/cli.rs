//! The binary as people and their scripts use it: arguments, exit codes, what is printed and written.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy.toml exempts only `#[test]`"
)]

use loadtest::postgres::{Cluster, ClusterOptions, free_port};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, Weak};

/// Everybody is served at once.
const EASY: &str = "script = [\"select pg_sleep(0.2)\"]";

/// One server for all tests that run at the same time; gone with the last of them.
fn server() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Cluster::start(ClusterOptions::default()).unwrap();
        for role in ["app", "blind"] {
            cluster.psql("postgres", &format!("create role {role} login password 'secret'")).unwrap();
        }
        let cluster = Arc::new(cluster);
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

/// What clients are given.
fn dsn(cluster: &Cluster) -> String {
    cluster.url("app", "secret", "postgres")
}

fn target(cluster: &Cluster) -> String {
    format!("mine={}", dsn(cluster))
}

/// A directory with the plan `small.toml`: three instances, each invoked once.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(head: &str, function: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "title = \"Small\"\nduration = \"300ms\"\n{head}\n[[function]]\nname = \"api\"\ninstances = 3\n\
             invocations = 1\narrival = {{ kind = \"at_once\" }}\n{function}\n"
        );
        std::fs::write(directory.path().join("small.toml"), text).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = loadtest(&["run", &self.path("small.toml")]);
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&self.command(arguments).output().unwrap())
    }
}

fn loadtest(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What came of it. Nothing may have panicked.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    told: String,
    printed: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let [printed, told] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
        assert!(!told.contains("panicked"), "{told}");
        Self { code: output.status.code(), told, printed }
    }

    /// Ended before anything was fired.
    #[track_caller]
    fn is_refused(&self, why: &str) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(self.told.contains(why) && self.printed.is_empty(), "{why}: {self:?}");
        assert!(!self.told.contains("in flight"), "{self:?}");
    }
}

fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn without_an_observer_a_plan_passes_and_says_what_was_not_measured() {
    let cluster = server();
    let desk =
        Desk::new("assert = [\"goodput >= 1\", \"max_backends <= 60\", \"unheard_statements == 0\"]", EASY);
    let ended = desk.run(&["--target", &target(&cluster)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for told in [
        "PASS  mine: goodput >= 1",
        "----  mine: max_backends <= 60  (not measured)",
        "----  mine: unheard_statements == 0  (not measured)",
        "--observe",
    ] {
        assert!(ended.printed.contains(told), "{told}\n{}", ended.printed);
    }
    // Progress in plain lines, since nobody is at a terminal.
    assert!(
        ended.told.lines().any(|line| line.starts_with("mine ") && line.contains("in flight")),
        "{ended:?}"
    );
    assert!(!ended.told.contains(['\r', '\u{1b}']), "{ended:?}");
}

#[test]
fn an_observer_that_cannot_count_fails_and_a_missing_extension_does_not() {
    let cluster = server();
    let desk = Desk::new("assert = [\"max_backends <= 60\", \"unheard_statements == 0\"]", EASY);
    let observed = |observer: &str| desk.run(&["--target", &target(&cluster), "--observe", observer]);
    let seeing = observed(&cluster.superuser_url("postgres"));
    assert_eq!(seeing.code, Some(0), "{seeing:?}");
    assert!(seeing.printed.contains("PASS  mine: max_backends <= 60"), "{}", seeing.printed);
    assert!(seeing.printed.contains("create extension pg_stat_statements"), "{}", seeing.printed);
    let blind = observed(&cluster.url("blind", "secret", "postgres"));
    assert_eq!(blind.code, Some(1), "{blind:?}");
    assert!(blind.printed.contains("FAIL  mine: max_backends <= 60  (not measured)"), "{}", blind.printed);
}

#[test]
fn an_assertion_that_does_not_hold_ends_with_1() {
    let cluster = server();
    let desk = Desk::new("assert = [\"goodput >= 1\"]", "script = [\"select 1 / 0\"]");
    let ended = desk.run(&["--target", &target(&cluster)]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.printed.contains("FAIL  mine: goodput >= 1"), "{}", ended.printed);
    // The same as a baseline is not judged, beside a target that is.
    let as_baseline =
        desk.run(&["--baseline", &target(&cluster), "--target", &format!("b={}", dsn(&cluster))]);
    assert_eq!(as_baseline.code, Some(1), "{as_baseline:?}");
    assert!(!as_baseline.printed.contains("FAIL  mine"), "{}", as_baseline.printed);
}

#[test]
fn a_target_that_hangs_fails() {
    let cluster = server();
    let desk = Desk::new(
        "grace = \"300ms\"\nassert = [\"goodput >= 0.5\"]",
        // The second attempt is under way at the end.
        "script = [\"select pg_sleep(60)\"]\ntimeout = \"400ms\"\nretries = 1\n\
         backoff = { base = \"1ms\", max = \"1ms\" }",
    );
    let ended = desk.run(&["--target", &target(&cluster)]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let cut_off = |line: &str| line.split_whitespace().collect::<Vec<_>>() == ["cut", "off", "3"];
    assert!(ended.printed.lines().any(cut_off), "{}", ended.printed);
    assert!(ended.printed.contains("FAIL  mine: goodput >= 0.5  (0 %)"), "{}", ended.printed);
}

#[test]
fn what_cannot_begin_is_told_at_once_and_ends_with_2() {
    let cluster = server();
    let mine = target(&cluster);
    let desk = Desk::new("", EASY);
    desk.run(&[]).is_refused("no --target");
    desk.run(&["--baseline", &mine]).is_refused("no --target");
    desk.run(&["--target", &mine, "--baseline", &mine]).is_refused("two targets");
    desk.run(&["--target", &mine, "--html", "/nowhere/report.html"]).is_refused("/nowhere/report.html");
    desk.run(&["--target", &mine, "--json", "/nowhere/report.json"]).is_refused("/nowhere/report.json");
    desk.run(&["--target", "mine=env:LOADTEST_CLI_NOT_SET"]).is_refused("LOADTEST_CLI_NOT_SET");
    desk.run(&["--target", &mine, "--user", "app"]).is_refused("--user wants ROLE=PASSWORD");

    let unknown = Ended::of(&loadtest(&["run", "lambda", "--target", &mine]).output().unwrap());
    unknown.is_refused("lambda-1000");
    let hooked = Desk::new("[[event]]\nat = \"0s\"\nhook = \"stop\"", EASY);
    hooked.run(&["--target", &mine]).is_refused("--hook stop=COMMAND");
    let other_role = Desk::new("", &format!("user = \"somebody\"\n{EASY}"));
    other_role.run(&["--target", &mine]).is_refused("--user somebody=PASSWORD");
}

#[test]
fn a_dsn_without_a_name_is_refused_and_its_password_not_told() {
    let desk = Desk::new("", EASY);
    for text in [
        "postgres://app:hush@127.0.0.1/db?sslmode=disable",
        "postgres://app:hush@127.0.0.1/db",
        "password=hush host=127.0.0.1 user=app",
        "user=app password=hush host=127.0.0.1",
        "my target=postgres://app:hush@127.0.0.1/db",
    ] {
        for flag in ["--target", "--baseline"] {
            let ended = desk.run(&[flag, text]);
            ended.is_refused(&format!("{flag} wants NAME=DSN"));
            assert!(!ended.told.contains("hush"), "{ended:?}");
        }
    }
}

#[test]
fn a_wrong_password_or_port_is_told_before_anything_is_fired() {
    let cluster = server();
    let desk = Desk::new("", EASY);
    let named = |dsn: String| format!("mine={dsn}");
    let wrong = named(cluster.url("app", "wrong", "postgres"));
    desk.run(&["--target", &wrong]).is_refused("28P01");
    desk.run(&["--target", &named(cluster.url("app", "secret", "nowhere"))]).is_refused("3D000");
    let port = free_port().unwrap();
    let away = format!("mine=postgres://app:secret@127.0.0.1:{port}/postgres");
    desk.run(&["--target", &away]).is_refused("cannot connect");
    let observer = cluster.url("postgres", "wrong", "postgres");
    desk.run(&["--target", &target(&cluster), "--observe", &observer]).is_refused("observer");
}

#[test]
fn a_dsn_may_come_from_the_environment() {
    let cluster = server();
    let desk = Desk::new("assert = [\"goodput >= 1\"]", EASY);
    let mut command = desk.command(&["--target", "mine=env:LOADTEST_CLI_DSN"]);
    let ended = Ended::of(&command.env("LOADTEST_CLI_DSN", dsn(&cluster)).output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn targets_take_turns_and_the_report_can_be_made_again() {
    let cluster = server();
    let desk = Desk::new("assert = [\"goodput >= 1\"]", EASY);
    let (a, b) = (format!("a={}", dsn(&cluster)), format!("b={}", dsn(&cluster)));
    let (html, kept) = (desk.path("report.html"), desk.path("report.json"));
    let ended =
        desk.run(&["--rounds", "2", "--baseline", &a, "--target", &b, "--html", &html, "--json", &kept]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let legs = json(&kept)["run"]["legs"].clone();
    let order: Vec<_> = legs.as_array().unwrap().iter().map(|leg| leg["target"].as_str().unwrap()).collect();
    assert_eq!(order, ["a", "b", "b", "a"]);
    assert!(std::fs::read_to_string(&html).unwrap().ends_with("</html>\n"));
    for secret in [std::fs::read_to_string(&kept).unwrap(), ended.told.clone(), ended.printed.clone()] {
        assert!(!secret.contains("secret"));
    }

    let again = desk.path("again.html");
    let report = Ended::of(&loadtest(&["report", &kept, "--html", &again]).output().unwrap());
    assert_eq!((report.code, &report.printed), (Some(0), &ended.printed));
    assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&html).unwrap());
}

#[test]
fn legs_that_were_finished_outlive_an_error_in_a_later_one() {
    let cluster = server();
    let desk = Desk::new("[[event]]\nat = \"0s\"\nhook = \"once\"", EASY);
    let (kept, hook) = (desk.path("report.json"), format!("once=mkdir '{}'", desk.path("once")));
    let ended = desk.run(&["--target", &target(&cluster), "--rounds", "2", "--hook", &hook, "--json", &kept]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.told.contains("hook \"once\" failed"), "{ended:?}");
    assert!(ended.printed.contains("goodput") && ended.printed.contains("100 %"), "{ended:?}");
    assert_eq!(json(&kept)["run"]["legs"].as_array().unwrap().len(), 1);
}

#[test]
fn ctrl_c_ends_it_with_a_report_and_130() {
    let cluster = server();
    let desk = Desk::new(
        "grace = \"60s\"\nassert = [\"goodput >= 1\"]",
        "script = [\"select pg_sleep(60)\"]\ntimeout = \"60s\"",
    );
    let kept = desk.path("report.json");
    let mut command = desk.command(&["--target", &target(&cluster), "--rounds", "2", "--json", &kept]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("3 in flight") {
        assert!(progress.read_line(&mut told).unwrap() > 0, "{told}");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    progress.read_to_string(&mut told).unwrap();
    let ended = Ended::of(&child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(130), "{told}");
    assert!(ended.printed.contains("mine: interrupted in 1 of 1 rounds"), "{ended:?}");
    assert!(!told.contains("panicked"), "{told}");
    assert_eq!(json(&kept)["run"]["legs"][0]["interrupted"], true);
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    let cluster = server();
    let desk = Desk::new("", EASY);
    let mine = target(&cluster);
    let run = desk.command(&["--target", &mine]);
    for (mut command, code) in [
        (loadtest(&["plans"]), 0),
        (loadtest(&["plans", "soak"]), 0),
        (loadtest(&["plans", "none"]), 2),
        (loadtest(&["report", "/nowhere"]), 2),
        (run, 0),
    ] {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        // A panic is 101.
        assert_eq!(child.wait().unwrap().code(), Some(code), "{command:?}");
    }
}

#[test]
fn a_report_that_is_none_ends_with_2() {
    let desk = Desk::new("", EASY);
    let ended = Ended::of(&loadtest(&["report", &desk.path("small.toml")]).output().unwrap());
    ended.is_refused("not a report");
    assert!(Path::new(&desk.path("small.toml")).exists());
}
