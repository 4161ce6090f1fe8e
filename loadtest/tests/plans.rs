//! The plans that the binary brings along: all of them, readable, and explained.
#![expect(clippy::unwrap_used, reason = "what a test cannot go on without")]

use loadtest::observe::is_counted;
use loadtest::plan::{Metric, Plan};
use loadtest::plans::{FindError, built_in, find};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

fn plans() -> Vec<Plan> {
    built_in().iter().map(|(name, _)| find(name).unwrap()).collect()
}

#[test]
fn every_file_is_built_in() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let files: BTreeSet<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".toml", ""))
        .collect();
    let names: BTreeSet<_> = built_in().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, files);
}

#[test]
fn plans_are_found_by_name_and_by_file() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/e1b.toml");
    assert_eq!(find(file.to_str().unwrap()).unwrap(), find("e1b").unwrap());

    let unknown = find("e1c").unwrap_err();
    assert!(matches!(unknown, FindError::Unknown { .. }));
    assert!(unknown.to_string().contains("e1b"), "{unknown}");
    let unreadable = find("./no-such.toml").unwrap_err().to_string();
    assert!(unreadable.contains("./no-such.toml") && unreadable.contains("No such file"), "{unreadable}");
}

#[test]
fn every_plan_is_explained_and_judged() {
    for plan in plans() {
        let name = &plan.name;
        assert!(!plan.title.is_empty() && plan.title.len() < 70, "{name}");
        assert!(plan.about.contains("ood"), "{name}: what good looks like is not said");
        assert!(
            plan.about.lines().all(|line| line.chars().count() <= 100),
            "{name}: too wide for a terminal"
        );
        let judged = |metric| plan.assertions.iter().any(|assertion| assertion.metric == metric);
        assert!(judged(Metric::MaxBackends), "{name}: the pool's bound is not asserted");
        let is_short = plan.duration.duration() <= Duration::from_secs(40);
        assert!(is_short || name == "soak", "{name} takes {}", plan.duration);
    }
}

#[test]
fn phases_and_functions_lie_within_the_plan() {
    for plan in plans() {
        for phase in &plan.phases {
            assert!(phase.to <= plan.duration, "{}: phase {}", plan.name, phase.name);
        }
        for function in &plan.functions {
            let stop = function.stop.unwrap_or(plan.duration);
            assert!(function.start < stop && stop <= plan.duration, "{}: {}", plan.name, function.name);
        }
        for event in &plan.events {
            assert!(event.at < plan.duration, "{}: {}", plan.name, event.hook);
            assert!(plan.about.contains(&format!("`{}`", event.hook)), "{}: hook not explained", plan.name);
        }
    }
}

/// They sleep, lock and compute, but read and write nothing that has to be there, and need no rights.
#[test]
fn no_plan_needs_anything_prepared() {
    for plan in plans() {
        assert!(plan.setup.is_empty(), "{}", plan.name);
        for function in &plan.functions {
            assert_eq!(function.user, None, "{}: {}", plan.name, function.name);
            for line in &function.script {
                let is_control = ["begin", "commit", "rollback"].contains(&line.as_str());
                assert!(is_control || is_counted(line), "{}: {line}", plan.name);
                assert_ne!(line, "select 1", "{}: counted with the health checks of poolers", plan.name);
            }
        }
    }
}

/// The numbers that the texts and the experiments' design name.
#[test]
fn plans_fire_what_they_say() {
    let connections = |name: &str| find(name).unwrap().connections();
    assert_eq!(connections("lambda-1000"), 1000);
    assert_eq!(connections("e1"), 2000);
    assert_eq!(connections("e1b"), 1000);
    assert_eq!(connections("e1b-deaf"), 3000 + 10);
    assert_eq!(connections("e2"), 20 + 900 + 100);
    assert_eq!(connections("e4"), 5000);
    assert_eq!(connections("noisy-neighbour"), 900 + 9 * 5);
    let hooks: Vec<_> = find("e5").unwrap().events.into_iter().map(|event| event.hook).collect();
    assert_eq!(hooks, ["database-stop", "database-start"]);
}
