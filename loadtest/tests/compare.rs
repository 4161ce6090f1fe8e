//! `loadtest compare` from end to end, small: the page, its pictures and the raw data are there, and the page can be
//! made again from them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use loadtest::binaries::find_program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An outage belongs to it: PostgreSQL is stopped and started, and must be there for the next leg.
const PLAN: &str = r#"
title = "A small one"
duration = "2s"
grace = "30s"
assert = ["goodput{late-*} >= 0.9", "max_backends <= 2"]
[[function]]
name = "early"
instances = 5
arrival = { kind = "at_once" }
script = ["select 1"]
user = "first"
[[function]]
name = "late-1"
instances = 2
arrival = { kind = "at_once" }
start = "1s"
script = ["select 1"]
retries = 50
[[function]]
name = "late-2"
instances = 2
arrival = { kind = "at_once" }
start = "1s"
script = ["select 1"]
retries = 50
[[event]]
at = "500ms"
hook = "database-stop"
[[event]]
at = "600ms"
hook = "database-start"
"#;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("loadtest-compare-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn compare(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["compare", "--output", &self.path("page.md"), "--raw", &self.path("raw")])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn page(&self) -> String {
        fs::read_to_string(self.path("page.md")).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_small_comparison_writes_a_page_that_can_be_made_again() {
    let place = Place::new("small");
    let plan = place.path("small.toml");
    fs::write(&plan, PLAN.replace("late-*", "late-1")).unwrap();
    let pgbouncer = find_program(Path::new("/usr/sbin"), "pgbouncer").is_some();
    let targets = if pgbouncer { "direct,pgbouncer" } else { "direct" };
    // Whatever is kept of the plan already is not what is going to be measured.
    fs::create_dir_all(place.path("raw")).unwrap();
    fs::write(place.path("raw/small.json"), "of last year").unwrap();
    succeeds(&place.compare(&["--plans", &plan, "--rounds", "2", "--targets", targets]));

    let page = place.page();
    for said in [
        "## small: A small one",
        "goodput{late-*} >= 0.9",
        "max_connections = 100",
        "`autovacuum = off`, `fsync = off`, `full_page_writes = off`",
        "page/small-goodput.svg",
        "pgcorral did not take part",
        "not run for this page: lambda-1000, ",
    ] {
        assert!(page.contains(said), "{said} is missing in:\n{page}");
    }
    assert_eq!(page.contains("**PgBouncer**"), pgbouncer);
    for file in ["page/small-goodput.svg", "raw/small.json", "raw/small.html", "raw/small.circumstances.json"]
    {
        assert!(fs::metadata(place.path(file)).unwrap().len() > 0, "{file}");
    }

    fs::write(place.path("page.md"), format!("{page}\nBy hand.\n")).unwrap();
    succeeds(&place.compare(&["--again", "--plans", &plan]));
    assert_eq!(place.page(), format!("{page}\nBy hand.\n"));
    assert!(!page.contains("was changed since"), "{page}");
    fs::write(&plan, fs::read_to_string(&plan).unwrap().replace("A small one", "Another")).unwrap();
    succeeds(&place.compare(&["--again", "--plans", &plan]));
    let older = place.page();
    assert!(older.contains("## small: A small one") && older.contains("was changed since"), "{older}");

    what_was_kept_before_plans_had_circumstances_is_published(&place, &plan);
}

/// One file was written then, at the end of all plans.
fn what_was_kept_before_plans_had_circumstances_is_published(place: &Place, plan: &str) {
    fs::remove_file(place.path("raw/small.circumstances.json")).unwrap();
    let untold = place.compare(&["--again", "--plans", plan]);
    let stderr = String::from_utf8_lossy(&untold.stderr);
    assert!(!untold.status.success() && stderr.contains("small"), "{stderr}");

    let of_all = r#"{"started": "2001-02-03", "postgres": "postgres (PostgreSQL) 15.1", "max_connections": 100,
        "machine": "Some CPU", "load": "0.20", "rounds": 2, "plans": ["small", "e1"], "missing": []}"#;
    fs::write(place.path("raw/circumstances.json"), of_all).unwrap();
    // Of the other plan there are no data, and that is told.
    let incomplete = place.compare(&["--again", "--plans", plan, "--plans", "e1"]);
    assert!(!incomplete.status.success());
    let page = place.page();
    for said in ["measured on 2001-02-03;", "- e1: not measured\n", "## small: A small one", "By hand."] {
        assert!(page.contains(said), "{said} is missing in:\n{page}");
    }
}

#[test]
fn what_is_not_there_is_told_before_anything_is_started() {
    let place = Place::new("missing");
    for (arguments, told) in [
        (["--plans", "no-such-plan", "--targets", "direct"], "no-such-plan"),
        (["--plans", "lambda-1000", "--pgcorral", "/nowhere/pgcorral"], "make build"),
    ] {
        let output = place.compare(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(told), "{stderr}");
        assert!(!Path::new(&place.path("page.md")).exists());
    }
}
