//! PostgreSQL dies, cannot be reached or refuses; file descriptors run out; clients vanish. Nobody gets a wrong reply,
//! and everybody works again when the cause is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually, start_cluster, tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::requests::{bytes, statement};
use crate::support::wire::{Fault, PROTOCOL_3_0, Wire, sqlstate, startup, tagged};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("faults", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("killed_and_restarted_under_load", |_| killed("killed", |_| vec![])),
    ("killed_and_restarted_with_parameters_to_replay", |_| killed("killed_params", parameters)),
    ("wrong_upstream_password", wrong_password),
    ("unreachable_upstream", unreachable),
    ("lesson_05_out_of_files", out_of_files),
    ("lesson_06_vanished_clients_release_everything", vanished),
    ("a_statement_before_terminate_is_finished", last_statement),
    ("lost_while_a_message_waits_for_an_answer", lost_stalled),
    ("an_abandoned_batch_is_rolled_back", abandoned_batch),
    ("lesson_08_out_of_step_server_is_not_reused", out_of_step),
    ("lesson_11_claimed_lengths_cost_nothing", claimed_lengths),
    ("lesson_14_metrics_with_many_clients", many_clients),
    ("lesson_15_readiness_follows_the_server", readiness),
];

fn start(ground: &Ground, name: &str, pool_size: usize) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(ground.cluster(), pool_size)]));
    (tenant, proxy)
}

/// What a client may be told while the database is away.
const AWAY: [&str; 8] = ["08001", "08006", "57P01", "57P02", "57P03", "53300", "25P02", "08003"];

/// What the steady clients and the one who restarts the server tell each other.
#[derive(Default)]
struct Progress {
    over: AtomicBool,
    /// How often the server was restarted.
    restarts: AtomicUsize,
    /// How many clients began and ended a query since the last restart.
    served: AtomicUsize,
}

/// What a client logs in with, beside its name.
type Params = Vec<(&'static str, String)>;

/// No two clients have the same, so that each grant brings a server to other parameters.
fn parameters(number: usize) -> Params {
    vec![
        ("application_name", format!("steady {number}")),
        ("TimeZone", format!("<+01:{number:02}>-01:{number:02}")),
    ]
}

fn killed(name: &str, parameters: fn(usize) -> Params) {
    const CLIENTS: usize = 20;
    let mut cluster = start_cluster(60);
    let tenant = tenant(&cluster, name);
    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(&cluster, 5)]));
    let progress = Arc::new(Progress::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (tenant, address, progress) = (tenant.clone(), proxy.address, Arc::clone(&progress));
            let parameters = parameters(number);
            std::thread::spawn(move || steady_client(&tenant, address, number, &parameters, &progress))
        })
        .collect();
    eventually("transactions run", || proxy.metric("pgcorral_transactions_total{") > 100.0);
    for _ in 0..3 {
        cluster.stop_immediately();
        std::thread::sleep(Duration::from_millis(300));
        cluster.start_again().unwrap_or_else(|error| panic!("{error}"));
        progress.served.store(0, Ordering::SeqCst);
        progress.restarts.fetch_add(1, Ordering::SeqCst);
        eventually("all clients are served again", || progress.served.load(Ordering::SeqCst) >= CLIENTS);
    }
    progress.over.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("a client");
    }
}

/// Keeps one connection all the time; every reply is its own, with its own parameters, or an error that says that the
/// database is away.
fn steady_client(
    tenant: &Tenant,
    address: SocketAddr,
    number: usize,
    parameters: &Params,
    progress: &Progress,
) {
    let borrowed: Vec<(&str, &str)> =
        parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (mut wire, _) = tenant.login_with(address, &borrowed);
    let own: Vec<Option<String>> = parameters.iter().map(|(_, value)| Some(value.clone())).collect();
    let settings: String =
        parameters.iter().map(|(name, _)| format!(", current_setting('{name}')")).collect();
    let mut counted = 0;
    for query in 0.. {
        if progress.over.load(Ordering::SeqCst) {
            return;
        }
        let restarts = progress.restarts.load(Ordering::SeqCst);
        let mark = format!("{number}-{query}");
        let replies = wire.run(&format!("select '{mark}', pg_sleep(0.002){settings}"));
        let rows: Vec<_> = replies.iter().filter(|m| m.tag == b'D').collect();
        for row in &rows {
            assert_eq!(row.columns()[0].as_deref(), Some(mark.as_str()), "another's reply");
            assert_eq!(row.columns()[2..], own, "another's parameters");
        }
        match sqlstate(&replies) {
            None => {
                assert_eq!(rows.len(), 1, "{replies:?}");
                if counted < restarts {
                    progress.served.fetch_add(1, Ordering::SeqCst);
                    counted = restarts;
                }
            }
            Some(code) => {
                assert!(AWAY.contains(&code.as_str()), "{replies:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Logs in and runs a query; the SQLSTATE of whatever failed first.
fn attempt(tenant: &Tenant, address: SocketAddr) -> Result<(), String> {
    let mut wire = Wire::connect(address).expect("the proxy listens");
    wire.send_startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)]).expect("startup");
    let (messages, result) = wire.authenticate(&tenant.name, &tenant.password);
    if let Err(fault) = result {
        return Err(sqlstate(&messages).unwrap_or_else(|| panic!("closed without a word: {fault:?}")));
    }
    wire.query("select 1").expect("send");
    let replies = match wire.read_until(b'Z') {
        Ok(replies) | Err((replies, _)) => replies,
    };
    sqlstate(&replies).map_or(Ok(()), Err)
}

fn assert_recovers(tenant: &Tenant, proxy: &Proxy, repair: impl FnOnce()) {
    let code = attempt(tenant, proxy.address).expect_err("the database is not usable");
    assert!(["08001", "57P03"].contains(&code.as_str()), "the client was told {code}");
    eventually("the log says so", || proxy.log().contains("WARN") || proxy.log().contains("ERROR"));
    repair();
    eventually("clients are served", || attempt(tenant, proxy.address).is_ok());
}

fn wrong_password(ground: &Ground) {
    let tenant = ground.tenant("wrong_upstream");
    let login = Some((tenant.name.clone(), "not the password".to_owned()));
    let database = Database { upstream_login: login, ..tenant.database(ground.cluster(), 2) };
    let options = ProxyOptions { login_timeout: Some("2s".to_owned()), ..ProxyOptions::new(vec![database]) };
    let proxy = Proxy::start(&options);
    assert_recovers(&tenant, &proxy, || {
        ground.root("postgres").rows("alter role wrong_upstream password 'not the password'");
    });
}

fn unreachable(_: &Ground) {
    let mut cluster = start_cluster(20);
    let tenant = tenant(&cluster, "unreachable");
    cluster.stop_fast();
    let database = tenant.database(&cluster, 2);
    let options = ProxyOptions { login_timeout: Some("2s".to_owned()), ..ProxyOptions::new(vec![database]) };
    let proxy = Proxy::start(&options);
    assert_recovers(&tenant, &proxy, || cluster.start_again().unwrap_or_else(|error| panic!("{error}")));
}

/// With few descriptors and many connections, the accept loop neither spins nor blames the server.
fn out_of_files(ground: &Ground) {
    let tenant = ground.tenant("out_of_files");
    let database = tenant.database(ground.cluster(), 2);
    let options = ProxyOptions { max_files: Some(80), ..ProxyOptions::new(vec![database]) };
    let proxy = Proxy::start(&options);
    let mut early = tenant.login(proxy.address);
    assert_eq!(early.value("select 'before'"), "before");
    let crowd: Vec<Wire> =
        (0..200).map(|_| Wire::connect(proxy.address).expect("the backlog takes it")).collect();
    std::thread::sleep(Duration::from_millis(500));
    let before = proxy.cpu_time();
    std::thread::sleep(Duration::from_secs(2));
    let spent = proxy.cpu_time() - before;
    assert!(spent < Duration::from_millis(500), "spent {spent:?} of 2 s with nothing to do");
    // Who is in is served from the servers that are there.
    assert_eq!(early.value("select 'meanwhile'"), "meanwhile");
    drop(crowd);
    assert_eq!(tenant.login(proxy.address).value("select 'after'"), "after");
    assert_eq!(proxy.get("/readyz").0, 200);
}

fn vanished(ground: &Ground) {
    let (tenant, proxy) = start(ground, "vanished", 2);
    let packet = startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)]);
    for _ in 0..20 {
        // Before the login, in its middle, with a reply half read, in a transaction, and within a message.
        drop(Wire::connect(proxy.address).expect("connect"));
        let mut wire = Wire::connect(proxy.address).expect("connect");
        wire.send(&packet[..9]).expect("send");
        let mut wire = Wire::connect(proxy.address).expect("connect");
        wire.send(&packet).expect("send");
        drop(wire.read());
        let mut wire = tenant.login(proxy.address);
        wire.query("select repeat('x', 1000) from generate_series(1, 100000)").expect("send");
        drop(wire.read());
        let mut wire = tenant.login(proxy.address);
        wire.run("begin; create table never (a int)");
        let mut wire = tenant.login(proxy.address);
        wire.send(&[b'Q', 0, 0, 1, 0, b's']).expect("send");
    }
    eventually("all clients are gone", || proxy.metric("pgcorral_clients{") == 0.0);
    let mut holders = [0, 1].map(|_| tenant.login(proxy.address));
    for holder in &mut holders {
        let replies = holder.run("begin; select 1");
        assert_eq!(sqlstate(&replies), None, "{replies:?}");
    }
    assert_eq!(holders[0].value("select count(*) from pg_class where relname = 'never'"), "0");
}

/// Query and Terminate in one write: the statement runs to its end, every time. Not so for a client that has to wait for
/// a server (`queue::lesson_12_terminate_behind_a_buffered_query`), so here each has one.
fn last_statement(ground: &Ground) {
    const ROUNDS: usize = 200;
    let (tenant, proxy) = start(ground, "last_statement", 3);
    tenant.login(proxy.address).run("create table last (a int)");
    let mut answered = 0;
    for round in 0..ROUNDS {
        let mut wire = tenant.login(proxy.address);
        wire.run("begin");
        let insert = crate::support::wire::query(&format!("insert into last values ({round}); commit"));
        wire.send(&[insert, tagged(b'X', &[])].concat()).expect("send");
        // One that had to wait for a server (another is being dialled, say) is gone before its turn, and nothing is run.
        answered += usize::from(!wire.read_to_close().is_empty());
    }
    assert!(answered > ROUNDS / 2, "{answered}");
    let mut root = ground.root(&tenant.name);
    eventually("all are there", || root.value("select count(*) from last") == answered.to_string());
}

/// Two batches that prepare the same text: what becomes of the second depends on the answer to the first.
fn lost_stalled(ground: &Ground) {
    let (tenant, proxy) = start(ground, "lost_stalled", 1);
    let mut wire = tenant.login(proxy.address);
    let batch = |name: &str, seconds: &str| statement(name, "select pg_sleep($1::float8)", &[seconds]);
    wire.send(&bytes(&[batch("a", "60"), batch("b", "0")].concat())).expect("send");
    let mut root = ground.root("postgres");
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                where usename = 'lost_stalled' and wait_event = 'PgSleep'";
    eventually("it runs", || root.value(kill) != "0");
    assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("08006"));
    let replies = wire.ready();
    assert_eq!(sqlstate(&replies), None, "{replies:?}");
    assert!(replies.iter().any(|reply| reply.tag == b'D'), "{replies:?}");
}

/// Without its Sync a batch is not committed when its client goes, as PostgreSQL has it.
fn abandoned_batch(ground: &Ground) {
    let (tenant, proxy) = start(ground, "abandoned", 1);
    tenant.login(proxy.address).run("create table batch (a int)");
    let parse = tagged(b'P', b"\0insert into batch values (1)\0\0\0");
    let insert = [parse, tagged(b'B', &[0; 8]), tagged(b'E', &[0; 5])].concat();
    for round in 0..60 {
        let mut wire = tenant.login(proxy.address);
        wire.send(&insert).expect("send");
        if round % 2 == 0 {
            wire.send(&tagged(b'H', &[])).expect("send");
            wire.read_until(b'C').expect("CommandComplete");
        }
        if round % 3 == 0 {
            wire.send(&tagged(b'X', &[])).expect("send");
            wire.read_to_close();
        }
        drop(wire);
        assert_eq!(tenant.login(proxy.address).value("select count(*) from batch"), "0", "round {round}");
    }
}

/// A client that leaves a server in the middle of something; the next one gets replies to its own questions only.
fn out_of_step(ground: &Ground) {
    let (tenant, proxy) = start(ground, "out_of_step", 1);
    tenant.login(proxy.address).run("create table step (a int)");
    let rude: [fn(&mut Wire); 8] = [
        // Half of a Query.
        |wire| drop(wire.send(&[b'Q', 0, 0, 0, 20, b's', b'e', b'l'])),
        // COPY without an end, and in the middle of a CopyData.
        |wire| drop(wire.query("copy step from stdin")),
        |wire| {
            wire.query("copy step from stdin").expect("send");
            wire.read_until(b'G').expect("CopyInResponse");
            wire.send(&[b'd', 0, 0, 1, 0, b'1', b'\n']).expect("send");
        },
        // Goodbye in the middle of a COPY.
        |wire| {
            wire.query("copy step from stdin").expect("send");
            wire.read_until(b'G').expect("CopyInResponse");
            wire.send(&[tagged(b'd', b"1\n"), tagged(b'X', &[])].concat()).expect("send");
            wire.read_to_close();
        },
        // No Sync.
        |wire| drop(wire.send(&tagged(b'P', b"\0select 1\0\0\0"))),
        // A message that cannot be, behind a good one and within a transaction.
        |wire| {
            wire.run("begin");
            wire.send(&[b'Q', 0, 0, 0, 0]).expect("send");
        },
        |wire| drop(wire.send(&[tagged(b'P', b"\0select 1\0\0\0"), tagged(b'y', b"?")].concat())),
        // Many replies under way.
        |wire| drop(wire.send(&crate::support::wire::query("select 'not yours'").repeat(500))),
    ];
    for round in 0..32 {
        let mut wire = tenant.login(proxy.address);
        rude[round % rude.len()](&mut wire);
        drop(wire);
        let mut next = tenant.login(proxy.address);
        let replies = next.run(&format!("select 'mine {round}'"));
        let row =
            replies.iter().find(|m| m.tag == b'D').unwrap_or_else(|| panic!("round {round}: {replies:?}"));
        assert_eq!(row.columns()[0], Some(format!("mine {round}")));
        assert_eq!(replies.len(), 4, "{replies:?}");
        assert_eq!(next.value("select count(*) from step"), "0");
    }
}

/// A hundred clients claim messages of a gigabyte, before and after login, and send a few bytes of them.
fn claimed_lengths(ground: &Ground) {
    let (tenant, proxy) = start(ground, "claimed", 2);
    tenant.login(proxy.address).run("select 1");
    let before = proxy.resident_kib();
    let mut open = Vec::new();
    for _ in 0..50 {
        let mut wire = Wire::connect(proxy.address).expect("connect");
        wire.send(&[0x3f, 0xff, 0xff, 0xff, 0, 3, 0, 0, b'u']).expect("send");
        open.push(wire);
        let mut wire = tenant.login(proxy.address);
        wire.send(&[b'Q', 0x3f, 0xff, 0xff, 0xff, b's', b'e', b'l']).expect("send");
        open.push(wire);
    }
    std::thread::sleep(Duration::from_millis(300));
    let grown = proxy.resident_kib().saturating_sub(before);
    assert!(grown < 50_000, "{grown} KiB for lengths that were only claimed");
}

fn many_clients(ground: &Ground) {
    let (tenant, proxy) = start(ground, "many_clients", 2);
    let crowd: Vec<Wire> = (0..300).map(|_| tenant.login(proxy.address)).collect();
    let before = proxy.cpu_time();
    for _ in 0..20 {
        let (status, body) = proxy.get("/metrics");
        assert_eq!(status, 200);
        assert!(body.len() < 200_000, "{} bytes: something is counted per client", body.len());
    }
    let each = (proxy.cpu_time() - before) / 20;
    assert!(each < Duration::from_millis(100), "{each:?} of CPU for one scrape");
    assert!(proxy.metric("pgcorral_clients{") >= 300.0);
    drop(crowd);
}

fn readiness(_: &Ground) {
    let mut cluster = start_cluster(20);
    let tenant = tenant(&cluster, "readiness");
    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(&cluster, 2)]));
    let mut wire = tenant.login(proxy.address);
    wire.run("select 1");
    eventually("it is ready", || proxy.get("/readyz").0 == 200);
    cluster.stop_immediately();
    eventually("it is not ready", || {
        // Somebody has to notice: a client that asks.
        wire.query("select 1").expect("send");
        match wire.read_until(b'Z') {
            Ok(_) => {}
            Err((seen, Fault::Closed)) => panic!("the client lost its connection after {seen:?}"),
            Err((seen, fault)) => panic!("{fault:?} after {seen:?}"),
        }
        proxy.get("/readyz").0 == 503
    });
    assert_eq!(proxy.get("/healthz").0, 200, "the proxy itself is well");
    cluster.start_again().unwrap_or_else(|error| panic!("{error}"));
    eventually("it is ready again", || {
        wire.run("select 1");
        proxy.get("/readyz").0 == 200
    });
}
