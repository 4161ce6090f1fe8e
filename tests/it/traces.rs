//! Traces: what a collector gets, whose spans they belong to, what is not recorded; and a collector in trouble, which is
//! nobody else's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rustix::process::Signal;

use crate::Test;
use crate::support::collector::{Collector, Manner, attributes, hex};
use crate::support::ground::{Ground, Tenant, address, eventually};
use crate::support::proxy::{Proxy, ProxyOptions};
use crate::support::wire::{Wire, cstr, query, sqlstate, tagged};

/// All trials of this file. Without psycopg, where `PGCORRAL_SKIP_DRIVERS` lists it, that with OpenTelemetry is ignored.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let skipped = std::env::var("PGCORRAL_SKIP_DRIVERS").unwrap_or_default();
    let ignored = skipped.split([',', ' ']).any(|name| name == "psycopg");
    let with_psycopg =
        crate::trials("traces", ground, &[("psycopg_with_opentelemetry_is_the_parent", psycopg)]);
    let with_psycopg = with_psycopg.into_iter().map(|trial| trial.with_ignored_flag(ignored));
    crate::trials("traces", ground, TESTS).into_iter().chain(with_psycopg).collect()
}

const TESTS: &[Test] = &[
    ("over_grpc", over_grpc),
    ("over_http", over_http),
    ("a_parent_is_found_wherever_it_is", parents),
    ("who_is_not_to_be_recorded_is_not", unsampled),
    ("sheds_and_slow_waits_are_recorded", sheds),
    ("one_in_some_is_recorded", ratio),
    ("errors_have_their_sqlstate", errors),
    ("texts_only_if_asked_for", texts),
    ("a_collector_that_hangs", hanging),
    ("a_collector_that_is_not_there", absent),
    ("a_collector_that_refuses", refusing),
    ("what_was_recorded_is_sent_at_the_end", at_the_end),
    ("lines_of_a_client_say_who_it_is", lines),
    ("the_log_changes_while_it_runs", levels),
];

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn traced(sql: &str, flags: &str) -> String {
    format!("{sql} /*action='pay',traceparent='{}'*/", traceparent(flags))
}

/// A proxy that sends its traces to a collector.
struct Scene {
    tenant: Tenant,
    collector: Collector,
    options: ProxyOptions,
    proxy: Proxy,
}

fn section(collector: &Collector, protocol: &str, more: &str) -> String {
    let address = if protocol == "grpc" { collector.grpc } else { collector.http };
    format!("[traces]\nendpoint = \"http://{address}\"\nprotocol = {protocol:?}\n{more}")
}

impl Scene {
    /// `more` are lines for `[traces]`.
    fn start(ground: &Ground, name: &str, more: &str, change: impl FnOnce(&mut ProxyOptions)) -> Self {
        let collector = Collector::start(Manner::Takes);
        let tenant = ground.tenant(name);
        let mut options = ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)]);
        options.sections = vec![section(&collector, "grpc", more)];
        change(&mut options);
        let proxy = Proxy::start(&options);
        Self { tenant, collector, options, proxy }
    }

    fn login(&self) -> Wire {
        warm(self.tenant.login(self.proxy.address))
    }

    fn spans(&self, result: &str) -> f64 {
        self.proxy.metric(&format!("pgcorral_spans_total{{result=\"{result}\"}}"))
    }
}

/// A client whose pool has a server connection, so that nobody who comes has to wait for one. What that takes is not recorded.
fn warm(mut client: Wire) -> Wire {
    assert_eq!(sqlstate(&client.run(&traced("select 1", "00"))), None);
    client
}

fn transactions(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == SpanKind::Client as i32).collect()
}

fn of(span: &Span) -> BTreeMap<String, String> {
    attributes(&span.attributes)
}

fn is_a_child(span: &Span) {
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), CALLER.to_owned()));
}

fn over_grpc(ground: &Ground) {
    over(ground, "grpc");
}

fn over_http(ground: &Ground) {
    over(ground, "http");
}

fn over(ground: &Ground, protocol: &str) {
    let name = format!("traces_{protocol}");
    let more = "service_name = \"guard\"\n[traces.headers.x-api-key]\nvalue = \"s3cret-key\"";
    let scene = Scene::start(ground, &name, "", |options| options.log = Some("trace".to_owned()));
    let options =
        ProxyOptions { sections: vec![section(&scene.collector, protocol, more)], ..scene.options.clone() };
    let proxy = Proxy::start(&options);
    let mut client = warm(scene.tenant.login(proxy.address));
    let pid = client.value(&traced("select pg_backend_pid()", "01"));
    let spans = scene.collector.wait_for_transactions(1);
    let [span] = &spans[..] else { panic!("{spans:?}") };
    is_a_child(span);
    assert_eq!(span.name, format!("transaction {name}"));
    assert_eq!(span.kind, SpanKind::Client as i32);
    assert_eq!(span.status, None);
    let took = Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano);
    assert!(took > Duration::ZERO && took < Duration::from_secs(60), "{took:?}");
    let port = address(ground.cluster()).port().to_string();
    let of = of(span);
    for (key, value) in [
        ("db.system.name", "postgresql"),
        ("db.namespace", &name),
        ("db.operation.name", "transaction"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("client.address", "127.0.0.1"),
        ("pgcorral.function", &name),
        ("pgcorral.user", &name),
        ("pgcorral.server_pid", &pid),
    ] {
        assert_eq!(of.get(key).map(String::as_str), Some(value), "{key} of {of:?}");
    }
    for key in ["db.response.status_code", "error.type", "pgcorral.shed_reason", "db.query.text"] {
        assert_eq!(of.get(key), None, "{key}");
    }
    assert_eq!(scene.collector.resource()["service.name"], "guard");
    assert_eq!(scene.collector.header("x-api-key").as_deref(), Some("s3cret-key"));
    assert!(of.contains_key("pgcorral.wait_ms"));
    let exported = || proxy.metric("pgcorral_spans_total{result=\"exported\"}") >= 1.0;
    eventually("it is counted", exported);
    assert!(!proxy.log().contains("s3cret-key"));
}

/// The messages of a batch that has this statement.
fn batch(sql: &str) -> Vec<u8> {
    let parse = [cstr(""), cstr(sql), vec![0, 0]].concat();
    let bind = [cstr(""), cstr(""), vec![0; 6]].concat();
    let execute = [cstr(""), vec![0; 4]].concat();
    [tagged(b'P', &parse), tagged(b'B', &bind), tagged(b'E', &execute), tagged(b'S', b"")].concat()
}

fn parents(ground: &Ground) {
    let scene = Scene::start(ground, "traces_parents", "sample = 0", |_| {});
    let mut client = scene.login();
    let mut sent = 0;
    let mut is_recorded = |how: &str| {
        sent += 1;
        eventually(how, || scene.collector.transactions().len() >= sent);
        let spans = scene.collector.transactions();
        assert_eq!(spans.len(), sent, "{how}: {spans:?}");
        is_a_child(&spans[sent - 1]);
    };
    client.run(&traced("select 1", "01"));
    is_recorded("behind a query");
    client.run(&format!("{};", traced("select 1", "01")));
    is_recorded("with a semicolon behind it");
    client.run(&format!("/*traceparent='{}'*/ select 1", traceparent("01")));
    is_recorded("in front of a query");
    client.send(&batch(&traced("select 1", "01"))).expect("send");
    client.ready();
    is_recorded("in a Parse");
    client.run("begin");
    client.run(&traced("select 1", "01"));
    client.run("select 1");
    client.run("commit");
    is_recorded("not in the first statement");
    client.send(&[query("begin"), query(&traced("select 1", "01")), query("commit")].concat()).expect("send");
    for _ in 0..3 {
        client.ready();
    }
    is_recorded("behind others in one write");
    client.run("select 1");
    client.run(&format!("set pgcorral.traceparent = '{}'", traceparent("01")));
    client.run("select 1");
    is_recorded("in a setting");
    client.run("reset pgcorral.traceparent");
    client.run("select 1");
    // The RESET itself belonged to it still.
    is_recorded("no more in the setting");
    let name = format!("pay {}", traceparent("01"));
    let (mut named, _) = scene.tenant.login_with(scene.proxy.address, &[("application_name", &name)]);
    named.run("select 1");
    is_recorded("in application_name");
    assert_eq!(of(scene.collector.transactions().last().expect("it"))["pgcorral.function"], "pay");
    let option = format!("-c pgcorral.traceparent={}", traceparent("01"));
    let (mut optioned, _) = scene.tenant.login_with(scene.proxy.address, &[("options", &option)]);
    optioned.run("select 1");
    is_recorded("in a startup option");
    optioned.run(&traced("select 1", "00"));
    client.run(&traced("select 1", "01"));
    is_recorded("a comment is nearer than a setting");
    client.run("select 1 /*traceparent='00-nonsense'*/");
    client.run("select '/*traceparent=''00'");
    client.run(&traced("select 1", "01"));
    is_recorded("nonsense is not there");
}

/// A pool of one, held: the others wait.
fn held(scene: &Scene) -> Wire {
    let mut holder = scene.login();
    holder.run("begin");
    holder
}

fn unsampled(ground: &Ground) {
    let more = "sample = 1.0\nslow_wait = \"1us\"";
    let scene = Scene::start(ground, "traces_unsampled", more, |options| {
        options.max_wait = Some("100ms".to_owned());
        options.timeouts_extra = vec!["burst_wait_timeout = \"100ms\"".to_owned()];
    });
    let mut holder = held(&scene);
    let mut client = scene.tenant.login(scene.proxy.address);
    assert_eq!(sqlstate(&client.run(&traced("select 1", "00"))).as_deref(), Some("53300"));
    holder.run("commit");
    assert_eq!(sqlstate(&client.run(&traced("select 1", "00"))), None);
    client.run(&traced("select 1", "01"));
    // The holder's, and the last one.
    let spans = scene.collector.wait_for_transactions(2);
    let of_trace = spans.iter().filter(|span| hex(&span.trace_id) == TRACE).count();
    assert_eq!((spans.len(), of_trace), (2, 1), "{spans:?}");
}

fn sheds(ground: &Ground) {
    let scene = Scene::start(ground, "traces_sheds", "sample = 0\nslow_wait = \"200ms\"", |options| {
        options.max_wait = Some("300ms".to_owned());
        options.timeouts_extra = vec!["burst_wait_timeout = \"300ms\"".to_owned()];
    });
    let mut holder = held(&scene);
    let mut client = scene.tenant.login(scene.proxy.address);
    assert_eq!(sqlstate(&client.run("select 1")).as_deref(), Some("53300"));
    let spans = scene.collector.wait_for(2);
    let (shed, wait) = with_wait(&spans);
    assert_eq!(shed.parent_span_id, Vec::<u8>::new(), "the trace begins here");
    let of_shed = of(shed);
    assert_eq!(of_shed["pgcorral.shed_reason"], "queue_timeout");
    assert_eq!(of_shed["db.response.status_code"], "53300");
    assert_eq!(of_shed["error.type"], "queue_timeout");
    assert_eq!(of_shed.get("pgcorral.server_pid"), None);
    assert!(shed.status.is_some() && wait.status.is_some());
    let waited = Duration::from_nanos(wait.end_time_unix_nano - wait.start_time_unix_nano);
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    // And one that waits long, and is served.
    client.query("select 1").expect("send");
    eventually("it waits", || scene.proxy.metric("pgcorral_queue_depth{") == 1.0);
    std::thread::sleep(Duration::from_millis(220));
    holder.run("commit");
    assert_eq!(sqlstate(&client.ready()), None);
    let spans = scene.collector.wait_for(4);
    let (slow, wait) = with_wait(&spans[2..]);
    assert!(slow.status.is_none() && wait.status.is_none(), "{slow:?} {wait:?}");
    assert!(of(slow)["pgcorral.wait_ms"].parse::<u64>().expect("a number") >= 200);
    assert!(of(slow).contains_key("pgcorral.server_pid"));
    assert!(wait.end_time_unix_nano <= slow.end_time_unix_nano);
    // Nothing else was worth it.
    assert_eq!(scene.collector.transactions().len(), 2);
}

/// A transaction, and its time in the queue within it.
fn with_wait(spans: &[Span]) -> (&Span, &Span) {
    let transaction = transactions(spans)[0];
    let wait = spans.iter().find(|span| span.name == "pool.wait").expect("a wait");
    assert_eq!(wait.kind, SpanKind::Internal as i32);
    assert_eq!((&wait.trace_id, &wait.parent_span_id), (&transaction.trace_id, &transaction.span_id));
    assert_eq!(wait.start_time_unix_nano, transaction.start_time_unix_nano);
    (transaction, wait)
}

fn ratio(ground: &Ground) {
    let scene = Scene::start(ground, "traces_ratio", "sample = 0.25", |_| {});
    let mut client = scene.login();
    for _ in 0..400 {
        client.run("select 1");
    }
    // Seven standard deviations to either side.
    let taken = 40..=160;
    eventually("a quarter arrives", || taken.contains(&scene.collector.spans().len()));
    let options = ProxyOptions {
        sections: vec![section(&scene.collector, "grpc", "sample = 1.0\ntimeout = \"9s\"")],
        ..scene.options.clone()
    };
    assert!(scene.proxy.reload(&options.toml()));
    std::thread::sleep(Duration::from_millis(1500));
    let before = scene.collector.spans().len();
    assert!(taken.contains(&before), "{before}");
    for _ in 0..20 {
        client.run("select 1");
    }
    scene.collector.wait_for(before + 20);
    let log = scene.proxy.log();
    assert!(log.contains("sample of traces 0.25 -> 1.0"), "{log}");
    assert!(log.contains("takes effect after a restart: timeout of traces"), "{log}");
}

fn errors(ground: &Ground) {
    let scene = Scene::start(ground, "traces_errors", "sample = 1", |_| {});
    let mut client = scene.login();
    client.run("select 1/0");
    client.run("begin");
    client.run("select no_column");
    client.run("select 1");
    client.run("rollback");
    client.run("listen news");
    client.run("select 2");
    client.query("select pg_sleep(60)").expect("send");
    eventually("it runs", || scene.proxy.metric("pgcorral_clients{state=\"active\"}") == 1.0);
    drop(client);
    let spans = scene.collector.wait_for_transactions(5);
    let codes: Vec<_> = spans.iter().map(|span| of(span).remove("db.response.status_code")).collect();
    let code = |code: &str| Some(code.to_owned());
    assert_eq!(codes, [code("22012"), code("42703"), None, None, None], "{spans:?}");
    let types: Vec<_> = spans.iter().map(|span| of(span).remove("error.type")).collect();
    assert_eq!(types, [code("22012"), code("42703"), None, None, code("client_left")]);
    assert_eq!(of(&spans[3])["pgcorral.pin"], "listen");
    let is_error = |span: &Span| span.status.is_some();
    assert_eq!(spans.iter().map(is_error).collect::<Vec<_>>(), [true, true, false, false, true]);
}

fn texts(ground: &Ground) {
    let scene = Scene::start(ground, "traces_texts", "sample = 1\nquery_text = true", |_| {});
    let mut client = scene.login();
    client.run("begin");
    client.run("select 'secret' as a, 42 as b -- secret");
    client.run("commit");
    let spans = scene.collector.wait_for_transactions(1);
    assert_eq!(of(&spans[0])["db.query.text"].trim(), "select ? as a, ? as b");
    assert!(!format!("{spans:?}").contains("secret"));
}

/// More transactions than the queue holds, all recorded.
const MANY: usize = 4000;

/// The proxy serves all the same, what does not fit is counted, and its memory does not grow with it.
fn serves_all_the_same(scene: &Scene) {
    let mut client = scene.login();
    let line = query("select 1");
    let began = Instant::now();
    for _ in 0..MANY / 50 {
        client.send(&line.repeat(50)).expect("send");
        for _ in 0..50 {
            assert_eq!(sqlstate(&client.ready()), None);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

fn hanging(ground: &Ground) {
    let scene = Scene::start(ground, "traces_hanging", "sample = 1\ntimeout = \"1s\"", |_| {});
    scene.collector.set(Manner::Hangs);
    // One transaction for each message: those of one write would be one span.
    let mut client = scene.login();
    for _ in 0..MANY {
        assert_eq!(client.value("select 1"), "1");
    }
    assert!(scene.spans("dropped") > 0.0, "more than the queue holds");
    let held = MANY as f64 - scene.spans("dropped") - scene.spans("failed");
    assert!(held <= 2048.0 + 256.0, "{held} wait");
    eventually("a batch is given up", || scene.spans("failed") >= 256.0);
    serves_all_the_same(&scene);
    let memory = || scene.proxy.metric("pgcorral_process_resident_memory_bytes");
    let before = memory();
    for _ in 0..MANY {
        assert_eq!(client.value("select 1"), "1");
    }
    let grown = memory() - before;
    assert!(grown < f64::from(2 << 20), "{grown} bytes more with as many transactions more");
    scene.collector.set(Manner::Takes);
    eventually("it goes on", || scene.spans("exported") > 0.0);
    let log = scene.proxy.log();
    assert_eq!(log.matches("the collector takes no traces").count(), 1, "{log}");
    eventually("it says so", || scene.proxy.log().contains("the collector takes traces again"));
}

fn absent(ground: &Ground) {
    let scene = Scene::start(ground, "traces_absent", "", |options| {
        // Nobody listens there.
        let nowhere = "[traces]\nendpoint = \"http://127.0.0.1:1\"\nsample = 1\ntimeout = \"1s\"";
        options.sections = vec![nowhere.to_owned()];
    });
    let mut client = scene.login();
    for _ in 0..100 {
        assert_eq!(client.value("select 1"), "1");
    }
    eventually("they are given up", || scene.spans("failed") >= 1.0);
    assert!(scene.proxy.log().contains("refused"), "the log says why: {}", scene.proxy.log());
    serves_all_the_same(&scene);
}

fn refusing(ground: &Ground) {
    for protocol in ["grpc", "http"] {
        let name = format!("traces_refusing_{protocol}");
        let scene = Scene::start(ground, &name, "", |_| {});
        let options = ProxyOptions {
            sections: vec![section(&scene.collector, protocol, "sample = 1")],
            ..scene.options.clone()
        };
        let scene = Scene { proxy: Proxy::start(&options), options, ..scene };
        let mut client = scene.login();
        scene.collector.set(Manner::Refuses);
        client.run("select 1");
        eventually("it is given up at once", || scene.spans("failed") >= 1.0);
        scene.collector.set(Manner::IsBusy);
        client.run("select 1");
        std::thread::sleep(Duration::from_millis(1200));
        scene.collector.set(Manner::Takes);
        eventually("it is sent again", || scene.spans("exported") >= 1.0);
        let before = scene.spans("failed");
        scene.collector.set(Manner::TakesMost);
        client.run("select 1");
        eventually("what is not taken counts as failed", || scene.spans("failed") == before + 1.0);
    }
}

fn at_the_end(ground: &Ground) {
    let mut scene = Scene::start(ground, "traces_end", "sample = 1", |_| {});
    let mut client = scene.login();
    client.run("select 1");
    drop(client);
    scene.proxy.signal(Signal::TERM);
    assert!(scene.proxy.wait().success());
    assert_eq!(scene.collector.transactions().len(), 1);
}

fn lines(ground: &Ground) {
    let scene = Scene::start(ground, "traces_lines", "sample = 0", |options| {
        options.log_setting = Some("debug".to_owned());
        options.max_wait = Some("50ms".to_owned());
        options.timeouts_extra = vec!["burst_wait_timeout = \"50ms\"".to_owned()];
    });
    let mut holder = held(&scene);
    let mut client = scene.tenant.login(scene.proxy.address);
    assert_eq!(sqlstate(&client.run(&traced("select 'secret'", "00"))).as_deref(), Some("53300"));
    client.run("rollback");
    drop(client);
    holder.run("commit");
    eventually("it has left", || scene.proxy.log().contains("client leaves"));
    let log = scene.proxy.log();
    let who = ["client=", "function=\"traces_lines\"", "database=\"traces_lines\"", "user=\"traces_lines\""];
    for text in ["client logged in", "transaction shed", "client leaves"] {
        let line = log.lines().find(|line| line.contains(text) && line.contains("client=")).expect(text);
        assert!(who.iter().all(|field| line.contains(field)), "{line}");
        assert_eq!(line.contains(&format!("trace_id={TRACE}")), text == "transaction shed", "{line}");
    }
    assert!(!log.contains("secret'"), "no text of a query");
}

fn levels(ground: &Ground) {
    let tenant = ground.tenant("traces_levels");
    let options = ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)]);
    let proxy = Proxy::start(&options);
    let leaves = || {
        drop(tenant.login(proxy.address));
        eventually("it has left", || proxy.metric("pgcorral_clients{state=\"idle\"}") == 0.0);
        std::thread::sleep(Duration::from_millis(50));
        proxy.log().matches("client leaves").count()
    };
    assert_eq!(leaves(), 0);
    let change = |levels: &str| {
        let options = ProxyOptions { log_setting: Some(levels.to_owned()), ..options.clone() };
        proxy.reload(&options.toml())
    };
    assert!(change("info,pgcorral::client=debug"));
    assert_eq!(leaves(), 1);
    assert!(proxy.log().contains("log \"info\" -> \"info,pgcorral::client=debug\""));
    assert!(change("warn"));
    assert_eq!(leaves(), 1);
    assert!(!change("loud"), "a misspelt level changes nothing");
}

/// A function in Python with OpenTelemetry's instrumentation of psycopg, and its sqlcommenter.
fn psycopg(ground: &Ground) {
    let scene = Scene::start(ground, "traces_psycopg", "sample = 0", |_| {});
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let installed =
        std::env::var_os("PGCORRAL_DRIVERS_DIR").map_or_else(|| here.join("target/drivers"), PathBuf::from);
    let output = Command::new(installed.join("traces/bin/python"))
        .arg(here.join("tests/drivers/traces/traced_psycopg.py"))
        .arg(scene.tenant.url(scene.proxy.address))
        .stdin(Stdio::null())
        .output()
        .expect("Python with OpenTelemetry: scripts/setup-drivers.sh");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // For each transaction: what it is, its trace, and its spans of which one is the parent of ours.
    let expected: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    let spans = scene.collector.wait_for_transactions(expected.len());
    assert_eq!(spans.len(), expected.len(), "{said}{spans:?}");
    for line in &expected {
        let [what, trace, callers @ ..] = &line[..] else { panic!("{said}") };
        let ours: Vec<_> = spans.iter().filter(|span| hex(&span.trace_id) == *trace).collect();
        let [span] = ours[..] else { panic!("{what}: {ours:?}") };
        assert!(callers.contains(&hex(&span.parent_span_id).as_str()), "{what}: {span:?} of {callers:?}");
    }
}
