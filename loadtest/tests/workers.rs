//! One leg from several processes. The processes are this program itself, so it has a `main` of its own: with the
//! argument `worker` it is one, without it runs the tests.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use loadtest::client::Target;
use loadtest::leg::{Leg, Outcome};
use loadtest::plan::Plan;
use loadtest::postgres::{Cluster, ClusterOptions};
use loadtest::run::{LegOptions, Progress, RunError, Worker, run_leg, worker_main};
use std::future::pending;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return worker_main().await.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    cluster.psql("postgres", "create role app login password 'secret'").unwrap();
    let target = Target::parse("direct", &cluster.url("app", "secret", "postgres")).unwrap();
    several_processes_offer_what_one_does(&target).await;
    statements_heard_of_are_added_up(&target, &cluster).await;
    all_workers_stop_when_the_leg_is_stopped(&target, &cluster).await;
    a_worker_that_ends_before_its_time_is_an_error(&target).await;
    what_a_worker_cannot_do_is_told_in_its_words(&target).await;
    a_worker_that_does_not_stop_is_not_waited_for(&target).await;
    // Nobody gets these files back: it has to be the last.
    every_worker_needs_the_files_of_its_own_share_alone(&target).await;
    println!("7 passed");
    ExitCode::SUCCESS
}

fn plan(text: &str) -> Arc<Plan> {
    let text = format!("title = \"t\"\ngrace = \"30s\"\n{text}");
    Arc::new(Plan::parse("t", &text, Path::new(".")).unwrap())
}

/// `LegOptions` whose workers are started with a command for the shell; `$0` is this program.
fn with_shell(target: &Target, command: &str) -> LegOptions {
    let program = std::env::current_exe().unwrap();
    let arguments = vec!["-c".into(), command.into(), program.into()];
    let worker = Some(Worker { program: "/bin/sh".into(), arguments });
    LegOptions { processes: 2, worker, ..LegOptions::new(target.clone()) }
}

fn with_processes(target: &Target, processes: u32) -> LegOptions {
    LegOptions { processes, ..LegOptions::new(target.clone()) }
}

/// Function and time of everything that was due.
fn offered(leg: &Leg) -> Vec<(u16, u64)> {
    let mut offered: Vec<_> = leg.invocations.iter().map(|one| (one.function, one.intended_us)).collect();
    offered.sort_unstable();
    offered
}

async fn several_processes_offer_what_one_does(target: &Target) {
    let plan = plan(
        "duration = \"1s\"\n\
         [[function]]\nname = \"storm\"\ninstances = 11\narrival = { kind = \"at_once\" }\nstart = \"200ms\"\n\
         script = [\"select 1\"]\n\
         [[function]]\nname = \"open\"\ninstances = 5\narrival = { kind = \"poisson\", per_second = 80.0 }\n\
         script = [\"select 1\"]\n\
         [[function]]\nname = \"lone\"\ninstances = 1\narrival = { kind = \"steady\", per_second = 20.0 }\n\
         script = [\"select 1\"]\n",
    );
    let mut legs = Vec::new();
    for processes in [1, 2, 3] {
        let mut told = Progress::default();
        let options = with_processes(target, processes);
        let leg = run_leg(&plan, &options, |progress| told = *progress, pending()).await.unwrap();
        let served = leg.invocations.iter().filter(|one| one.outcome == Outcome::Served).count();
        assert_eq!(served, leg.invocations.len(), "{:?}", leg.failures);
        assert_eq!(told.served, served as u64);
        assert!(leg.progress.iter().all(|sample| sample.connections <= 17), "{:?}", leg.progress);
        assert!(leg.connects.len() <= 17);
        legs.push(leg);
    }
    assert!(offered(&legs[0]).len() > 11 + 20 + 40);
    assert_eq!(offered(&legs[0]), offered(&legs[1]));
    assert_eq!(offered(&legs[0]), offered(&legs[2]));
}

async fn statements_heard_of_are_added_up(target: &Target, cluster: &Cluster) {
    cluster.psql("postgres", "create table seen (instance int, invocation int)").unwrap();
    cluster.psql("postgres", "grant all on seen to public").unwrap();
    let plan = plan(
        "duration = \"500ms\"\n[[function]]\nname = \"f\"\ninstances = 4\nthink = \"20ms\"\n\
         arrival = { kind = \"closed\" }\nscript = [\"insert into seen values ({instance}, {invocation})\"]\n",
    );
    let leg = run_leg(&plan, &with_processes(target, 2), |_| (), pending()).await.unwrap();
    assert!(leg.invocations.iter().all(|one| one.outcome == Outcome::Served), "{:?}", leg.failures);
    let seen =
        "select count(*), count(distinct invocation), count(distinct instance), max(instance) from seen";
    let expected = format!("{0}|{0}|4|3", leg.invocations.len());
    assert_eq!(cluster.psql("postgres", seen).unwrap(), expected);
}

async fn all_workers_stop_when_the_leg_is_stopped(target: &Target, cluster: &Cluster) {
    let plan = plan(
        "duration = \"600s\"\n[[function]]\nname = \"f\"\ninstances = 4\narrival = { kind = \"closed\" }\n\
         script = [\"select pg_sleep({instance} * 0.02)\"]\nthink = \"10ms\"\n",
    );
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let progress = |progress: &Progress| {
        if progress.served > 20 {
            tell.take().map(|tell| tell.send(()));
        }
    };
    let stop = async { drop(told.await) };
    let leg = run_leg(&plan, &with_processes(target, 2), progress, stop).await.unwrap();
    assert!(leg.interrupted);
    let is_known = |outcome| matches!(outcome, Outcome::Served | Outcome::Unfinished);
    assert!(leg.invocations.iter().all(|one| is_known(one.outcome)), "{:?}", leg.failures);
    assert!(leg.invocations.len() > 20);
    // Nobody is left who would connect again.
    let left = "select count(*) from pg_stat_activity where usename = 'app' and state = 'active'";
    let patience = Instant::now() + Duration::from_secs(30);
    while cluster.psql("postgres", left).unwrap() != "0" {
        assert!(Instant::now() < patience, "workers go on");
    }
}

async fn a_worker_that_ends_before_its_time_is_an_error(target: &Target) {
    let plan = plan(
        "duration = \"600s\"\n[[function]]\nname = \"f\"\ninstances = 4\narrival = { kind = \"closed\" }\n\
         script = [\"select 1\"]\nthink = \"10ms\"\n",
    );
    for (command, told) in [
        ("exit 4", ""),
        ("read order; exit 5", "exit status: 5"),
        ("read order; echo '\"ready\"'; read start; exit 6", "exit status: 6"),
        ("read order; echo nonsense; sleep 60", "in its report"),
    ] {
        let error = run_leg(&plan, &with_shell(target, command), |_| (), pending()).await.unwrap_err();
        assert!(matches!(error, RunError::Worker { .. }), "{error:?}");
        assert!(error.to_string().contains(told), "{command}: {error}");
    }
}

async fn what_a_worker_cannot_do_is_told_in_its_words(target: &Target) {
    let plan = plan(
        "duration = \"1s\"\n[[function]]\nname = \"f\"\ninstances = 200\narrival = { kind = \"at_once\" }\n\
         script = [\"select 1\"]\n",
    );
    let options = with_shell(target, "ulimit -n 90; exec \"$0\" worker");
    let error = run_leg(&plan, &options, |_| (), pending()).await.unwrap_err();
    assert!(error.to_string().contains("open files are needed"), "{error}");
}

async fn a_worker_that_does_not_stop_is_not_waited_for(target: &Target) {
    let plan = plan(
        "duration = \"600s\"\n[[function]]\nname = \"f\"\ninstances = 4\narrival = { kind = \"closed\" }\n\
         script = [\"select 1\"]\n",
    );
    let sample = r#"{"records":[{"progress":{"at_us":100000,"in_flight":0,"connections":0,"lag_us":0}}]}"#;
    let deaf = format!("read order; echo '\"ready\"'; read start; echo '{sample}'; exec sleep 900");
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let progress = |_: &Progress| {
        tell.take().map(|tell| tell.send(()));
    };
    let stop = async { drop(told.await) };
    let options = with_shell(target, &deaf);
    let leg = tokio::time::timeout(Duration::from_secs(120), run_leg(&plan, &options, progress, stop)).await;
    let error = leg.expect("waited for").unwrap_err();
    assert!(matches!(error, RunError::Worker { .. }), "{error:?}");
}

async fn every_worker_needs_the_files_of_its_own_share_alone(target: &Target) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // A share of 30, and the others that a process has; not all 60.
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: Some(100) }).unwrap();
    let plan = plan(
        "duration = \"1s\"\n[[function]]\nname = \"f\"\ninstances = 60\n\
         arrival = { kind = \"closed\", within = \"1s\" }\nscript = [\"select 1\"]\nthink = \"10s\"\n",
    );
    let error = run_leg(&plan, &with_processes(target, 1), |_| (), pending()).await.unwrap_err();
    assert!(matches!(error, RunError::Files(_)), "{error:?}");
    let leg = run_leg(&plan, &with_processes(target, 2), |_| (), pending()).await.unwrap();
    assert_eq!(leg.invocations.len(), 60);
}
