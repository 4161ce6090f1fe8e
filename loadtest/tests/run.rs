//! Whole legs against a real PostgreSQL: what is due is accounted for, whatever the plan does to the connections.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use loadtest::client::Target;
use loadtest::leg::{FailureKind, Invocation, Leg, Outcome};
use loadtest::plan::Plan;
use loadtest::postgres::{Cluster, ClusterOptions};
use loadtest::run::{Hooks, LegOptions, RunError, run_leg};
use std::future::pending;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A server with so many connections for everybody but the superuser, and the role `app`.
fn cluster(connections: u32) -> Cluster {
    let reserved = 3;
    let options = ClusterOptions {
        max_connections: connections + reserved,
        superuser_reserved: reserved,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).unwrap();
    cluster.psql("postgres", "create role app login password 'secret'").unwrap();
    cluster
}

fn options(cluster: &Cluster) -> LegOptions {
    let dsn = cluster.url("app", "secret", "postgres");
    LegOptions::new(Target::parse("direct", &dsn).unwrap())
}

/// The way of the superuser.
fn observer(cluster: &Cluster) -> Target {
    Target::parse("observer", &cluster.superuser_url("postgres")).unwrap()
}

/// A plan of one function.
fn plan(duration: &str, function: &str) -> Arc<Plan> {
    let text = format!(
        "title = \"t\"\nduration = \"{duration}\"\ngrace = \"30s\"\n[[function]]\nname = \"api\"\n{function}"
    );
    Arc::new(Plan::parse("t", &text, Path::new(".")).unwrap())
}

async fn run(plan: &Arc<Plan>, options: &LegOptions) -> Leg {
    let leg = run_leg(plan, options, |_| (), pending()).await.unwrap();
    check(plan, &leg);
    leg
}

/// What holds for every leg.
fn check(plan: &Plan, leg: &Leg) {
    for invocation in &leg.invocations {
        let Invocation { intended_us, started_us, ended_us, .. } = *invocation;
        assert!(intended_us <= started_us && started_us <= ended_us, "{invocation:?}");
        let retries = plan.functions[usize::from(invocation.function)].retries;
        assert!((1..=retries + 1).contains(&invocation.attempts), "{invocation:?}");
    }
    assert!(leg.invocations.is_sorted_by_key(|invocation| invocation.ended_us));
    assert_eq!(leg.wall_us, leg.invocations.last().map_or(0, |last| last.ended_us));
    for sample in &leg.progress {
        assert!(u64::from(sample.connections) <= plan.connections(), "{sample:?}");
    }
}

fn count(leg: &Leg, outcome: Outcome) -> usize {
    leg.invocations.iter().filter(|invocation| invocation.outcome == outcome).count()
}

fn failures(leg: &Leg, kind: FailureKind) -> usize {
    leg.failures.iter().filter(|failure| failure.kind == kind).count()
}

#[tokio::test]
async fn all_at_once_everybody_is_served_or_shed() {
    let cluster = cluster(20);
    let plan = plan(
        "2s",
        "instances = 60\narrival = { kind = \"at_once\" }\nscript = [\"begin\", \"select pg_sleep(1)\", \"commit\"]",
    );
    let options = LegOptions { observer: Some(observer(&cluster)), ..options(&cluster) };
    let leg = run(&plan, &options).await;

    let (served, shed) = (count(&leg, Outcome::Served), count(&leg, Outcome::Shed));
    assert_eq!(served + shed, 60, "{:?}", leg.failures);
    assert!(served > 0 && shed > 0, "{served} {shed}");
    assert!(leg.invocations.iter().all(|one| one.intended_us == 0 && one.cold && one.attempts == 1));
    assert_eq!(leg.failures.len(), shed);
    for failure in &leg.failures {
        assert_eq!((failure.kind, failure.sqlstate.as_deref()), (FailureKind::Shed, Some("53300")));
        // "too many clients already", or "remaining connection slots are reserved".
        assert!(
            failure.at_login && failure.reason.contains("slots") != failure.reason.contains("clients"),
            "{failure:?}"
        );
    }
    assert_eq!(leg.connects.len(), 60);
    assert_eq!(leg.connects.iter().filter(|connect| connect.login_us.is_some()).count(), served);
    assert!(
        (1..=20).contains(&loadtest::leg::max_backends(&leg.backends).unwrap_or(0)),
        "{:?}",
        leg.backends
    );
    assert!(leg.generator.cores > 0 && !leg.interrupted && leg.functions == ["api"]);
}

#[tokio::test]
async fn a_closed_loop_thinks_and_keeps_its_connections() {
    let cluster = cluster(20);
    let plan = plan(
        "1s",
        "instances = 5\narrival = { kind = \"closed\" }\nscript = [\"select {instance}, {invocation}\"]\n\
         protocol = \"extended\"\nthink = \"50ms\"",
    );
    let leg = run(&plan, &options(&cluster)).await;
    let served = count(&leg, Outcome::Served);
    assert_eq!(served, leg.invocations.len(), "{:?}", leg.failures);
    // The think time allows for 20 each at most.
    assert!((6..=5 * 20).contains(&served), "{served}");
    assert_eq!(leg.connects.len(), 5);
    assert_eq!(leg.invocations.iter().filter(|invocation| invocation.cold).count(), 5);
    assert!(leg.invocations.iter().all(|invocation| invocation.intended_us < 1_000_000));
}

#[tokio::test]
async fn an_instance_that_has_served_its_time_is_followed_by_a_cold_one() {
    let cluster = cluster(20);
    let plan = plan(
        "1s",
        "instances = 2\narrival = { kind = \"closed\" }\nscript = [\"select 1\"]\nprotocol = \"prepared\"\n\
         think = \"20ms\"\ninvocations = 3",
    );
    let leg = run(&plan, &options(&cluster)).await;
    assert_eq!(count(&leg, Outcome::Served), leg.invocations.len(), "{:?}", leg.failures);
    let cold = leg.invocations.iter().filter(|invocation| invocation.cold).count();
    assert!(
        cold > 2 && (cold * 3).abs_diff(leg.invocations.len()) <= 2 * 3,
        "{cold} {}",
        leg.invocations.len()
    );
    assert_eq!(leg.connects.len(), cold);
    assert!(leg.connects.iter().all(|connect| !connect.again));
}

#[tokio::test]
async fn an_error_in_a_session_keeps_the_session_and_is_not_tried_again() {
    let cluster = cluster(20);
    let plan = plan(
        "500ms",
        "instances = 3\narrival = { kind = \"closed\" }\nthink = \"20ms\"\nretries = 4\n\
         script = [\"begin\", \"select 1 / {instance}\", \"commit\"]",
    );
    let leg = run(&plan, &options(&cluster)).await;
    // Instance 0 divides by zero, the others do not.
    let (served, failed) = (count(&leg, Outcome::Served), count(&leg, Outcome::Failed));
    assert_eq!(served + failed, leg.invocations.len());
    assert!(served > 1 && failed > 1, "{served} {failed}");
    assert_eq!(failures(&leg, FailureKind::Sql), failed);
    assert!(
        leg.failures.iter().all(|failure| failure.sqlstate.as_deref() == Some("22012") && !failure.at_login)
    );
    assert_eq!(leg.connects.len(), 3, "rolled back and kept");
}

#[tokio::test]
async fn shed_logins_are_tried_again_until_there_is_room() {
    let cluster = cluster(5);
    let plan = plan(
        "1s",
        "instances = 20\narrival = { kind = \"at_once\" }\nscript = [\"select pg_sleep(0.2)\"]\nretries = 1000\n\
         backoff = { base = \"20ms\", factor = 1.0, jitter = 0.5 }",
    );
    let leg = run(&plan, &options(&cluster)).await;
    assert_eq!(count(&leg, Outcome::Served), 20, "{:?}", leg.failures.last());
    let attempts: usize = leg.invocations.iter().map(|invocation| usize::from(invocation.attempts)).sum();
    assert!(attempts > 20);
    assert_eq!(attempts - 20, leg.failures.len());
    assert_eq!(leg.connects.len(), attempts);
}

#[tokio::test]
async fn the_clients_timeout_leaves_its_connection_as_the_plan_says() {
    let cluster = cluster(20);
    for (on_timeout, keeps) in [("fin", false), ("rst", false), ("cancel", true)] {
        let plan = plan(
            "1s",
            &format!(
                "instances = 2\narrival = {{ kind = \"closed\" }}\nscript = [\"begin\", \"select pg_sleep(30)\"]\n\
                 timeout = \"1s\"\non_timeout = \"{on_timeout}\"\nretries = 1\nbackoff = {{ base = \"1ms\" }}"
            ),
        );
        let leg = run(&plan, &options(&cluster)).await;
        assert_eq!(count(&leg, Outcome::Timeout), leg.invocations.len(), "{on_timeout}");
        assert_eq!(failures(&leg, FailureKind::Timeout), leg.failures.len(), "{:?}", leg.failures);
        assert!(leg.invocations.iter().all(|invocation| invocation.attempts == 2));
        assert_eq!(leg.failures.len(), 2 * leg.invocations.len());
        let expected = if keeps { 2 } else { leg.failures.len() };
        assert_eq!(leg.connects.len(), expected, "{on_timeout}");
        assert_eq!(leg.connects.iter().filter(|connect| connect.again).count(), expected - 2, "{on_timeout}");
        // What a client left without a word runs on: it knows of nothing.
        cluster
            .psql("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
            .unwrap();
    }
}

#[tokio::test]
async fn the_clock_of_a_frozen_client_stands_still() {
    let cluster = cluster(20);
    for (when, script) in [
        ("between", "[\"select 1\"]"),
        ("in_transaction", "[\"begin\", \"select 1\", \"commit\"]"),
        ("reading", "[\"select repeat('x', 1000) from generate_series(1, 20000)\"]"),
    ] {
        let plan = plan(
            "1s",
            &format!(
                "instances = 2\narrival = {{ kind = \"at_once\" }}\nscript = {script}\ntimeout = \"2s\"\n\
                 freeze = {{ when = \"{when}\", lasting = \"3s\" }}"
            ),
        );
        let options = LegOptions { observer: Some(observer(&cluster)), ..options(&cluster) };
        let leg = run(&plan, &options).await;
        assert_eq!(count(&leg, Outcome::Served), 2, "{when}: {:?}", leg.failures);
        let slow = leg.invocations.iter().all(|invocation| invocation.ended_us >= 3_000_000);
        assert_eq!(slow, when != "between", "{when}: {:?}", leg.invocations);
        let in_transaction = leg.backends.iter().any(|sample| sample.idle_in_transaction == 2);
        assert_eq!(in_transaction, when == "in_transaction", "{when}");
    }
}

#[tokio::test]
async fn who_is_killed_midway_is_followed_by_a_cold_one() {
    let cluster = cluster(60);
    for how in ["terminate", "fin", "rst"] {
        let plan = plan(
            "1s",
            &format!(
                "instances = 3\narrival = {{ kind = \"closed\" }}\nscript = [\"select pg_sleep(1)\"]\n\
                 abort = {{ after = {{ min = \"50ms\", max = \"150ms\" }}, how = \"{how}\" }}"
            ),
        );
        let leg = run(&plan, &options(&cluster)).await;
        assert_eq!(count(&leg, Outcome::Aborted), leg.invocations.len(), "{how}: {:?}", leg.failures);
        assert!(leg.invocations.len() > 3, "{how}");
        assert!(leg.invocations.iter().all(|invocation| invocation.cold));
        assert_eq!(leg.connects.len(), leg.invocations.len());
        assert!(leg.connects.iter().all(|connect| !connect.again) && leg.failures.is_empty());
    }
}

#[tokio::test]
async fn a_silent_socket_takes_the_place_of_its_instance() {
    let cluster = cluster(20);
    let plan = plan(
        "1s",
        "instances = 4\narrival = { kind = \"steady\", per_second = 10.0 }\nscript = [\"select pg_sleep(1)\"]\n\
         abort = { after = \"100ms\", how = \"silence\" }",
    );
    let open = Arc::new(AtomicUsize::new(0));
    let most_open = Arc::clone(&open);
    let leg = run_leg(
        &plan,
        &options(&cluster),
        move |progress| {
            most_open.fetch_max(usize::try_from(progress.connections).unwrap(), Ordering::SeqCst);
        },
        pending(),
    )
    .await
    .unwrap();
    check(&plan, &leg);
    assert_eq!(count(&leg, Outcome::Aborted), 4, "{:?}", leg.invocations);
    // The others found no place.
    assert_eq!(count(&leg, Outcome::Unfinished), 6);
    assert_eq!(leg.connects.len(), 4);
    assert_eq!(open.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_thinking_instance_sees_its_connection_go() {
    let cluster = cluster(20);
    let plan = plan(
        "3s",
        "instances = 4\narrival = { kind = \"closed\" }\nscript = [\"select 1\"]\nthink = \"400ms\"\n",
    );
    let cluster = Arc::new(cluster);
    let killer = Arc::clone(&cluster);
    let text = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'app' and state = 'idle'";
    let killed = Arc::new(AtomicUsize::new(0));
    let count_killed = Arc::clone(&killed);
    let hooks = Hooks::new().with_call("kill", move || {
        let ended = killer.psql("postgres", text).map_err(|error| error.to_string())?;
        count_killed.fetch_add(ended.parse().unwrap(), Ordering::SeqCst);
        Ok(())
    });
    let mut plan = Plan::clone(&plan);
    plan.events.push(toml_event("1500ms", "kill"));
    let plan = Arc::new(plan);
    let leg = run(&plan, &LegOptions { hooks, ..options(&cluster) }).await;

    let killed = killed.load(Ordering::SeqCst);
    assert!(killed > 0, "nobody was idle");
    // Noticed while thinking: the next invocation connects, and does not fail first. What the server said is kept.
    assert_eq!(leg.connects.iter().filter(|connect| connect.again).count(), killed, "{:?}", leg.failures);
    assert_eq!(leg.failures.len(), killed);
    for failure in &leg.failures {
        let told = (failure.kind, failure.sqlstate.as_deref(), failure.at_login);
        assert_eq!(told, (FailureKind::Sql, Some("57P01"), false), "{failure:?}");
    }
    assert_eq!(leg.connects.len(), 4 + killed);
    assert_eq!(count(&leg, Outcome::Served), leg.invocations.len());
}

fn toml_event(at: &str, hook: &str) -> loadtest::plan::Event {
    loadtest::plan::Event { at: at.parse().unwrap(), hook: hook.to_owned() }
}

#[tokio::test]
async fn open_arrivals_wait_in_line_and_their_latency_counts_from_then() {
    let cluster = cluster(20);
    let plan = plan(
        "1s",
        "instances = 2\narrival = { kind = \"steady\", per_second = 50.0 }\nscript = [\"select pg_sleep(0.1)\"]",
    );
    let leg = run(&plan, &options(&cluster)).await;
    assert_eq!(leg.invocations.len(), 50);
    assert_eq!(count(&leg, Outcome::Served), 50, "{:?}", leg.failures);
    assert_eq!(leg.connects.len(), 2);
    let mut intended: Vec<_> = leg.invocations.iter().map(|invocation| invocation.intended_us).collect();
    intended.sort_unstable();
    assert_eq!(intended, (0..50).map(|number| number * 20_000).collect::<Vec<_>>());
    // 50 of 100 ms on two instances take 2.5 s at least, all are due within one: the last waited in line.
    let longest = leg.invocations.iter().map(|one| one.started_us - one.intended_us).max().unwrap();
    assert!(longest >= 1_000_000, "{longest}");
}

#[tokio::test]
async fn open_arrivals_take_the_warm_instance_before_a_cold_one() {
    let cluster = cluster(20);
    let plan = plan(
        "1s",
        "instances = 10\narrival = { kind = \"steady\", per_second = 5.0 }\nscript = [\"select 1\"]\n\
         timeout = \"10s\"",
    );
    let leg = run(&plan, &options(&cluster)).await;
    assert_eq!(count(&leg, Outcome::Served), 5);
    let cold = leg.invocations.iter().filter(|invocation| invocation.cold).count();
    assert_eq!(cold, leg.connects.len());
    assert!(cold < 5, "{:?}", leg.invocations);
}

/// What stands in for a server where connections are counted: it lets everybody in but every fifth, answers every second
/// query, and never closes a connection before its client does.
struct Counting {
    listener: TcpListener,
    open: Vec<Caller>,
    accepted: usize,
    queries: usize,
    /// The most connections that were open at the same time.
    most: usize,
}

struct Caller {
    socket: TcpStream,
    has_begun: bool,
    is_refused: bool,
}

impl Counting {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, open: Vec::new(), accepted: 0, queries: 0, most: 0 }
    }

    fn run(mut self, is_over: &AtomicBool) -> usize {
        while !is_over.load(Ordering::SeqCst) {
            if let Ok((socket, _)) = self.listener.accept() {
                socket.set_nonblocking(true).unwrap();
                self.accepted += 1;
                self.open.push(Caller {
                    socket,
                    has_begun: false,
                    is_refused: self.accepted.is_multiple_of(5),
                });
            } else {
                std::thread::yield_now();
            }
            // Whoever closed a connection before another one was accepted has sent its FIN before that: on loopback it is
            // here. So all that are left were open when this began.
            self.open.retain_mut(|caller| caller.serve(&mut self.queries));
            self.most = self.most.max(self.open.len());
        }
        self.most
    }
}

impl Caller {
    /// Reads all there is; whether the connection is open. The client's messages are short and come in one piece.
    fn serve(&mut self, queries: &mut usize) -> bool {
        let mut message = [0; 1024];
        loop {
            match self.socket.read(&mut message) {
                Ok(0) => return false,
                Ok(_) => self.answer(message[0], queries),
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }

    fn answer(&mut self, first: u8, queries: &mut usize) {
        const REFUSAL: &[u8] = b"E\0\0\0\x20SFATAL\0VFATAL\0C53300\0Mfull\0\0";
        let is_startup = !std::mem::replace(&mut self.has_begun, true);
        *queries += usize::from(!is_startup && first == b'Q');
        let answer: &[u8] = match (is_startup, self.is_refused) {
            (true, true) => REFUSAL,
            (true, false) => b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
            (false, _) if first == b'Q' && queries.is_multiple_of(2) => b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I",
            (false, _) => return,
        };
        // Who is gone reads no answer.
        let _ = self.socket.write_all(answer);
        if is_startup && self.is_refused {
            let _ = self.socket.shutdown(std::net::Shutdown::Write);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_never_more_connections_than_instances() {
    let counting = Counting::listen();
    let port = counting.listener.local_addr().unwrap().port();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let counting = std::thread::spawn(move || counting.run(&over));
    let dsn = format!("postgres://app@127.0.0.1:{port}/app?sslmode=disable");
    let options = LegOptions::new(Target::parse("counting", &dsn).unwrap());
    for (end, on_timeout) in [("terminate", "fin"), ("fin", "rst"), ("rst", "fin")] {
        // Whatever makes an instance leave one connection for another: sheds, retries, timeouts, ends, kills.
        let plan = plan(
            "1s",
            &format!(
                "instances = 25\narrival = {{ kind = \"closed\" }}\nscript = [\"select 1\"]\nthink = \"2ms\"\n\
                 timeout = \"40ms\"\non_timeout = \"{on_timeout}\"\nretries = 3\nbackoff = {{ base = \"1ms\" }}\n\
                 invocations = 2\nend = \"{end}\"\nabort = {{ after = \"10ms\", how = \"{end}\", share = 0.3 }}"
            ),
        );
        let leg = run(&plan, &options).await;
        for outcome in [Outcome::Served, Outcome::Aborted] {
            assert!(count(&leg, outcome) > 0, "{outcome:?}: {:?}", leg.failures.last());
        }
        for kind in [FailureKind::Shed, FailureKind::Timeout] {
            assert!(failures(&leg, kind) > 0, "{kind:?}");
        }
        assert!(leg.connects.len() > 25, "{}", leg.connects.len());
    }
    is_over.store(true, Ordering::SeqCst);
    let most = counting.join().unwrap();
    assert!((2..=25).contains(&most), "{most}");
}

#[tokio::test]
async fn a_server_that_stops_and_starts_is_survived() {
    let cluster = Arc::new(Mutex::new(cluster(20)));
    let plan = {
        let mut plan = Plan::clone(&plan(
            "4s",
            "instances = 5\narrival = { kind = \"closed\" }\nscript = [\"select 1\"]\nthink = \"50ms\"\n\
             retries = 100\nbackoff = { base = \"100ms\", factor = 1.0 }",
        ));
        plan.events = vec![toml_event("1s", "stop"), toml_event("1500ms", "start")];
        Arc::new(plan)
    };
    let (stopper, starter) = (Arc::clone(&cluster), Arc::clone(&cluster));
    let hooks = Hooks::new()
        .with_call("stop", move || {
            stopper.lock().unwrap().stop_fast();
            Ok(())
        })
        .with_call("start", move || starter.lock().unwrap().start_again().map_err(|error| error.to_string()));
    let options = LegOptions { hooks, ..options(&cluster.lock().unwrap()) };
    let leg = run(&plan, &options).await;

    assert_eq!(count(&leg, Outcome::Served), leg.invocations.len(), "{:?}", leg.failures);
    assert!(failures(&leg, FailureKind::Connection) > 0, "nobody met a server that is down");
    assert!(leg.connects.iter().filter(|connect| connect.again && connect.login_us.is_some()).count() >= 5);
}

#[tokio::test]
async fn a_hook_that_fails_ends_the_leg() {
    let cluster = cluster(20);
    let mut plan = Plan::clone(&plan(
        "600s",
        "instances = 1\narrival = { kind = \"closed\" }\nscript = [\"select 1\"]\nthink = \"50ms\"",
    ));
    plan.events.push(toml_event("100ms", "break"));
    let plan = Arc::new(plan);
    let error = run_leg(&plan, &options(&cluster), |_| (), pending()).await.unwrap_err();
    assert!(matches!(error, RunError::NoHook { .. }), "{error}");
    let hooks = Hooks::new().with_command("break", "exit 7");
    let error =
        run_leg(&plan, &LegOptions { hooks, ..options(&cluster) }, |_| (), pending()).await.unwrap_err();
    assert!(error.to_string().contains("exit status: 7"), "{error}");
}

#[tokio::test]
async fn a_leg_that_is_stopped_is_complete() {
    let cluster = cluster(20);
    // Every fifth takes its instance for good, so that in the end all others wait in line.
    let plan = plan(
        "600s",
        "instances = 4\narrival = { kind = \"steady\", per_second = 100.0 }\n\
         script = [\"select pg_sleep({invocation} % 5 / 4 * 600)\"]",
    );
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let progress = |progress: &loadtest::run::Progress| {
        if progress.in_flight > 10 {
            tell.take().map(|tell| tell.send(()));
        }
    };
    let options = LegOptions { observer: Some(observer(&cluster)), ..options(&cluster) };
    // What was cut off runs on in PostgreSQL for minutes; who stops a leg does not wait for it.
    let mut plan = Plan::clone(&plan);
    plan.grace = "600s".parse().unwrap();
    let plan = Arc::new(plan);
    let leg = run_leg(&plan, &options, progress, async { drop(told.await) }).await.unwrap();
    check(&plan, &leg);
    assert!(leg.interrupted);
    assert_eq!(count(&leg, Outcome::Served), 16, "{:?}", leg.failures);
    assert!(count(&leg, Outcome::Unfinished) > 10);
    assert_eq!(count(&leg, Outcome::Served) + count(&leg, Outcome::Unfinished), leg.invocations.len());
    assert!(!leg.backends.is_empty() && !leg.progress.is_empty());
}

/// A leg that nobody but a hook ends.
fn endless(events: &[(&str, &str)]) -> Arc<Plan> {
    let mut plan = Plan::clone(&plan(
        "600s",
        "instances = 1\narrival = { kind = \"closed\" }\nscript = [\"select 1\"]\nthink = \"50ms\"",
    ));
    plan.events = events.iter().map(|(at, hook)| toml_event(at, hook)).collect();
    Arc::new(plan)
}

#[tokio::test]
async fn a_stop_leaves_no_event_undone() {
    let cluster = cluster(20);
    let plan = endless(&[("10ms", "stop"), ("590s", "start"), ("591s", "check")]);
    let stopping = Arc::new(tokio::sync::Notify::new());
    let stopped = Arc::clone(&stopping);
    let done = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (Arc::clone(&done), Arc::clone(&done));
    let hooks = Hooks::new()
        .with_call("stop", move || {
            first.lock().unwrap().push("stop");
            stopping.notify_one();
            Ok(())
        })
        .with_call("start", move || {
            second.lock().unwrap().push("start");
            Ok(())
        })
        .with_command("check", "exit 9");
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let warned = Arc::clone(&warnings);
    let warn = Arc::new(move |text: &str| warned.lock().unwrap().push(text.to_owned()));
    let options = LegOptions { hooks, warn, ..options(&cluster) };
    let leg = run_leg(&plan, &options, |_| (), stopped.notified()).await.unwrap();
    assert!(leg.interrupted);
    assert_eq!(*done.lock().unwrap(), ["stop", "start"]);
    // One that fails then does not take the leg's figures with it.
    assert_eq!(*warnings.lock().unwrap(), ["hook \"check\" failed: exit status: 9"]);
}

#[tokio::test]
async fn a_leg_with_too_many_records_ends_early() {
    let cluster = cluster(20);
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let warned = Arc::clone(&warnings);
    let warn = Arc::new(move |text: &str| warned.lock().unwrap().push(text.to_owned()));
    let options = LegOptions { most_records: 10, warn, ..options(&cluster) };
    let leg = run(&endless(&[]), &options).await;
    assert!(leg.interrupted && leg.invocations.len() + leg.connects.len() >= 10);
    let [warning] = &warnings.lock().unwrap()[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("more than 10 records"), "{warning}");
}

#[tokio::test]
async fn what_is_not_over_when_the_grace_is_is_cut_off() {
    let cluster = cluster(20);
    let mut plan = Plan::clone(&plan(
        "300ms",
        "instances = 3\narrival = { kind = \"at_once\" }\nscript = [\"select pg_sleep({instance} * 100)\"]",
    ));
    plan.grace = "700ms".parse().unwrap();
    let leg = run(&Arc::new(plan), &options(&cluster)).await;
    assert_eq!(
        (count(&leg, Outcome::Served), count(&leg, Outcome::Unfinished)),
        (1, 2),
        "{:?}",
        leg.invocations
    );
    assert!(leg.wall_us >= 1_000_000 && !leg.interrupted && leg.failures.is_empty());
}

#[tokio::test]
async fn the_set_up_goes_the_observers_way_before_anything_is_fired() {
    let cluster = cluster(20);
    let mut plan = Plan::clone(&plan(
        "1s",
        "instances = 2\narrival = { kind = \"at_once\" }\nscript = [\"insert into seen values ({invocation})\"]",
    ));
    plan.setup = vec![
        "drop table if exists seen; create table seen (number int)".to_owned(),
        "grant all on seen to public".to_owned(),
    ];
    let plan = Arc::new(plan);
    let error = run_leg(&plan, &options(&cluster), |_| (), pending()).await.unwrap_err();
    assert!(matches!(&error, RunError::Setup { statement, .. } if statement.starts_with("drop")), "{error}");
    let leg = run(&plan, &LegOptions { observer: Some(observer(&cluster)), ..options(&cluster) }).await;
    assert_eq!(count(&leg, Outcome::Served), 2, "{:?}", leg.failures);
    assert_eq!(
        cluster.psql("postgres", "select string_agg(number::text, ' ' order by number) from seen").unwrap(),
        "0 1"
    );
}

#[tokio::test]
async fn functions_have_roles_of_their_own() {
    let cluster = cluster(20);
    cluster.psql("postgres", "create role other login password 'another'").unwrap();
    let plan = plan(
        "1s",
        "instances = 2\nuser = \"other\"\narrival = { kind = \"at_once\" }\n\
         options = \"-c statement_timeout=4321ms\"\n\
         script = [\"select 1 / (current_user = 'other' and current_setting('application_name') = 'api' \
                    and current_setting('statement_timeout') = '4321ms')::int\"]",
    );
    let mut options = options(&cluster);
    let error = run_leg(&plan, &options, |_| (), pending()).await.unwrap_err();
    assert!(matches!(&error, RunError::NoPassword { role } if role == "other"), "{error}");
    options.passwords.insert("other".to_owned(), "another".to_owned());
    let leg = run(&plan, &options).await;
    assert_eq!(count(&leg, Outcome::Served), 2, "{:?}", leg.failures);
}

#[tokio::test]
async fn the_same_plan_offers_the_same_twice() {
    let cluster = cluster(20);
    let plan = plan(
        "1s",
        "instances = 4\narrival = { kind = \"poisson\", per_second = 100.0 }\nscript = [\"select 1\"]",
    );
    let mut both = Vec::new();
    for _ in 0..2 {
        let leg = run(&plan, &options(&cluster)).await;
        let mut intended: Vec<_> = leg.invocations.iter().map(|invocation| invocation.intended_us).collect();
        intended.sort_unstable();
        both.push(intended);
    }
    assert!(both[0].len() > 50);
    assert_eq!(both[0], both[1]);
}
