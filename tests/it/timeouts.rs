//! Time limits of sessions, and clients that do not read: who is over the limit is told, the others get the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::requests::{Request, bytes, statement};
use crate::support::wire::{Message, Wire, sqlstate};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("timeouts", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("query_timeout", query_timeout),
    ("query_timeout_in_a_transaction", query_timeout_in_transaction),
    ("query_timeout_of_a_pipeline", query_timeout_in_pipeline),
    ("transaction_timeout_of_a_running_statement", transaction_timeout),
    ("transaction_timeout_while_a_message_waits_for_an_answer", transaction_timeout_stalled),
    ("transaction_timeout_between_statements", transaction_timeout_between),
    ("idle_in_transaction_timeout", idle_in_transaction),
    ("idle_in_transaction_timeout_and_the_extended_protocol", idle_in_transaction_extended),
    ("idle_in_transaction_timeout_in_a_failed_transaction", idle_in_failed_transaction),
    ("client_idle_timeout", client_idle),
    ("what_is_set_for_a_user_or_a_database", overrides),
    ("a_client_that_does_not_read_is_given_up", stall),
    ("a_reply_that_fits_the_spool_frees_the_server", spool),
    ("a_slow_reader_is_no_stalled_one", slow_reader),
];

/// A pool of so many, with timeouts, and more lines for the database's section.
fn start(ground: &Ground, name: &str, size: usize, timeouts: &[&str], lines: &[&str]) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let database = Database { extra: owned(lines), ..tenant.database(ground.cluster(), size) };
    let options = ProxyOptions {
        max_wait: Some("30s".to_owned()),
        timeouts_extra: owned(timeouts),
        ..ProxyOptions::new(vec![database])
    };
    let proxy = Proxy::start(&options);
    tenant.login(proxy.address).rows("create table ran (a int)");
    (tenant, proxy)
}

/// Severity and SQLSTATE of the first error, and its DETAIL names this reason.
fn assert_error(replies: &[Message], severity: &str, code: &str, reason: &str) {
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("{replies:?}"));
    let got = (error.field(b'V').unwrap_or_default(), error.sqlstate());
    assert_eq!(got, (severity.to_owned(), code.to_owned()), "{error:?}");
    let detail = error.field(b'D').unwrap_or_default();
    assert!(detail.contains(&format!("reason={reason}")), "DETAIL is {detail:?}");
}

fn last(replies: &[Message]) -> String {
    replies.last().map(ToString::to_string).unwrap_or_default()
}

/// Asks, and the answer comes well before the statement would have ended: how late exactly is the machine's business.
fn soon(wire: &mut Wire, sql: &str) -> Vec<Message> {
    let begun = Instant::now();
    let replies = wire.run(sql);
    assert!(begun.elapsed() < Duration::from_secs(6), "{sql}: {:?}", begun.elapsed());
    replies
}

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// No backend of the role has a transaction open.
fn nothing_is_open(ground: &Ground, tenant: &Tenant) {
    let sql = format!(
        "select count(*) from pg_stat_activity where usename = '{}' and xact_start is not null",
        tenant.name
    );
    let mut root = ground.root("postgres");
    eventually("no transaction is open", || root.value(&sql) == "0");
}

fn query_timeout(ground: &Ground) {
    let (tenant, proxy) = start(ground, "query_timeout", 1, &["query_timeout = \"400ms\""], &[]);
    let mut wire = tenant.login(proxy.address);
    for _ in 0..3 {
        let replies = soon(&mut wire, "insert into ran select 1 from pg_sleep(60)");
        assert_error(&replies, "ERROR", "57014", "query_timeout");
        assert_eq!(last(&replies), "ReadyForQuery I");
        assert_eq!(wire.value("select count(*) from ran"), "0");
        wire.send(&bytes(&statement("", "select pg_sleep(60)", &[]))).expect("send");
        assert_error(&wire.ready(), "ERROR", "57014", "query_timeout");
    }
    // It is each query's own time, and a wait in the queue is none of it.
    let mut other = tenant.login(proxy.address);
    for _ in 0..3 {
        other.query("select pg_sleep(0.2)").expect("send");
        assert_eq!(sqlstate(&wire.run("select pg_sleep(0.2)")), None);
        assert_eq!(sqlstate(&other.ready()), None);
    }
}

fn query_timeout_in_transaction(ground: &Ground) {
    let (tenant, proxy) = start(ground, "query_timeout_tx", 1, &["query_timeout = \"400ms\""], &[]);
    let mut wire = tenant.login(proxy.address);
    wire.rows("begin");
    wire.rows("insert into ran values (1)");
    // The time between statements does not count.
    pause(600);
    wire.rows("savepoint here");
    let replies = soon(&mut wire, "select pg_sleep(60)");
    assert_error(&replies, "ERROR", "57014", "query_timeout");
    assert_eq!(last(&replies), "ReadyForQuery E");
    assert_eq!(sqlstate(&wire.run("select 1")).as_deref(), Some("25P02"));
    wire.rows("rollback to here");
    wire.rows("commit");
    assert_eq!(wire.value("select count(*) from ran"), "1");
}

/// What stands behind it in the pipeline is answered as after any error.
fn query_timeout_in_pipeline(ground: &Ground) {
    let (tenant, proxy) = start(ground, "query_timeout_pl", 1, &["query_timeout = \"400ms\""], &[]);
    let mut wire = tenant.login(proxy.address);
    let requests = [
        statement("", "insert into ran values (1)", &[]),
        statement("", "select pg_sleep(60)", &[]),
        statement("", "insert into ran values (2)", &[]),
        vec![Request::Query("select 'behind'".to_owned())],
    ];
    wire.send(&bytes(&requests.concat())).expect("send");
    assert_eq!(sqlstate(&wire.ready()), None);
    assert_error(&wire.ready(), "ERROR", "57014", "query_timeout");
    assert_eq!(sqlstate(&wire.ready()), None);
    assert_eq!(sqlstate(&wire.ready()), None);
    assert_eq!(wire.value("select count(*) from ran"), "2");
}

fn transaction_timeout(ground: &Ground) {
    let timeouts = ["transaction_timeout = \"600ms\""];
    let (tenant, proxy) = start(ground, "tx_timeout", 1, &timeouts, &[]);
    let mut other = tenant.login(proxy.address);
    let mut wire = tenant.login(proxy.address);
    for _ in 0..3 {
        wire.rows("begin");
        wire.rows("insert into ran values (1)");
        let replies = soon(&mut wire, "select pg_sleep(60)");
        assert_error(&replies, "ERROR", "25P04", "transaction_timeout");
        // The server connection is free, whatever the client does.
        assert_eq!(other.value("select count(*) from ran"), "0");
        nothing_is_open(ground, &tenant);
        wire.run("rollback");
        assert_eq!(wire.value("select 'goes on'"), "goes on");
    }
    // A statement alone is a transaction, too.
    assert_error(&soon(&mut wire, "select pg_sleep(60)"), "ERROR", "25P04", "transaction_timeout");
    assert_eq!(wire.value("select 'goes on'"), "goes on");
    for _ in 0..5 {
        assert_eq!(sqlstate(&wire.run("begin; select pg_sleep(0.2); commit")), None);
    }
}

/// Busy all the time, but in short statements.
/// Two batches that prepare the same text: what becomes of the second depends on the answer to the first.
fn transaction_timeout_stalled(ground: &Ground) {
    let (tenant, proxy) = start(ground, "tx_timeout_stalled", 1, &["transaction_timeout = \"500ms\""], &[]);
    let mut wire = tenant.login(proxy.address);
    wire.rows("begin");
    let batches =
        [statement("a", "select pg_sleep(60)", &[]), statement("b", "select pg_sleep(60)", &[])].concat();
    wire.send(&bytes(&batches)).expect("send");
    assert_error(&wire.ready(), "ERROR", "25P04", "transaction_timeout");
    let replies = wire.ready();
    assert_eq!(sqlstate(&replies).as_deref(), Some("25P02"), "{replies:?}");
    assert_eq!(last(&replies), "ReadyForQuery E");
    wire.rows("rollback");
    assert_eq!(wire.value("select 'goes on'"), "goes on");
}

fn transaction_timeout_between(ground: &Ground) {
    let timeouts = ["transaction_timeout = \"500ms\""];
    let (tenant, proxy) = start(ground, "tx_timeout_short", 1, &timeouts, &[]);
    let mut wire = tenant.login(proxy.address);
    wire.rows("begin");
    let begun = Instant::now();
    let replies = loop {
        let replies = wire.run("insert into ran values (1)");
        if sqlstate(&replies).is_some() {
            break replies;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it may go on for ever");
        pause(20);
    };
    assert_error(&replies, "ERROR", "25P04", "transaction_timeout");
    assert_eq!(tenant.login(proxy.address).value("select count(*) from ran"), "0");
    wire.run("rollback");
    assert_eq!(wire.value("select 'goes on'"), "goes on");
}

const IDLE_TIMEOUT: [&str; 1] = ["idle_in_transaction_timeout = \"400ms\""];

fn idle_in_transaction(ground: &Ground) {
    let (tenant, proxy) = start(ground, "idle_tx", 1, &IDLE_TIMEOUT, &[]);
    let mut sitting = tenant.login(proxy.address);
    let mut other = tenant.login(proxy.address);
    for _ in 0..3 {
        sitting.rows("begin");
        sitting.rows("set timezone = 'Asia/Tokyo'");
        sitting.rows("insert into ran values (1)");
        // Served while the first one sits, and what that one did is undone.
        assert_eq!(other.value("select count(*) from ran"), "0");
        let replies = sitting.run("insert into ran values (2)");
        assert_error(&replies, "ERROR", "25P03", "idle_in_transaction_timeout");
        assert_eq!(last(&replies), "ReadyForQuery E");
        // As in any failed transaction.
        for _ in 0..2 {
            let replies = sitting.run("select 1");
            assert_eq!(sqlstate(&replies).as_deref(), Some("25P02"));
            assert_eq!(last(&replies), "ReadyForQuery E");
        }
        let replies = sitting.run("rollback");
        assert_eq!(replies[0].to_string(), "CommandComplete \"ROLLBACK\"");
        assert_eq!(last(&replies), "ReadyForQuery I");
        assert_ne!(sitting.value("show timezone"), "Asia/Tokyo");
        assert_eq!(sitting.value("select count(*) from ran"), "0");
    }
    // COMMIT ends it as well, and commits nothing.
    sitting.rows("begin; insert into ran values (1)");
    assert_eq!(other.value("select count(*) from ran"), "0");
    let replies = sitting.run("commit");
    assert!(sqlstate(&replies).is_some_and(|code| code == "25P03"), "{replies:?}");
    sitting.run("commit");
    assert_eq!(sitting.value("select count(*) from ran"), "0");
    // Who is not idle is left alone.
    sitting.rows("begin");
    for _ in 0..8 {
        pause(100);
        sitting.rows("insert into ran values (3)");
    }
    assert_eq!(sqlstate(&sitting.run("select pg_sleep(0.8)")), None);
    sitting.rows("commit");
    assert_eq!(other.value("select count(*) from ran"), "8");
}

fn idle_in_transaction_extended(ground: &Ground) {
    let (tenant, proxy) = start(ground, "idle_tx_ext", 1, &IDLE_TIMEOUT, &[]);
    let mut sitting = tenant.login(proxy.address);
    let mut other = tenant.login(proxy.address);
    let mut ask = |requests: &[Request]| {
        sitting.send(&bytes(requests)).expect("send");
        sitting.ready()
    };
    for _ in 0..2 {
        ask(&statement("", "begin", &[]));
        ask(&statement("", "insert into ran values (1)", &[]));
        assert_eq!(other.value("select count(*) from ran"), "0");
        let replies = ask(&statement("late", "select $1::int", &["1"]));
        assert_error(&replies, "ERROR", "25P03", "idle_in_transaction_timeout");
        assert_eq!(replies.len(), 2, "{replies:?}");
        assert_eq!(last(&replies), "ReadyForQuery E");
        let replies = ask(&statement("", "select 1", &[]));
        assert_eq!(sqlstate(&replies).as_deref(), Some("25P02"));
        let replies = ask(&statement("", "rollback", &[]));
        assert_eq!(sqlstate(&replies), None, "{replies:?}");
        assert_eq!(last(&replies), "ReadyForQuery I");
        // What stood behind the error was not parsed.
        let replies = ask(&[Request::bind("late", &["1"]), Request::execute(), Request::Sync]);
        assert_eq!(sqlstate(&replies).as_deref(), Some("26000"));
    }
}

fn idle_in_failed_transaction(ground: &Ground) {
    let (tenant, proxy) = start(ground, "idle_tx_failed", 1, &IDLE_TIMEOUT, &[]);
    let mut sitting = tenant.login(proxy.address);
    sitting.rows("begin");
    assert_eq!(sqlstate(&sitting.run("select 1/0")).as_deref(), Some("22012"));
    assert_eq!(tenant.login(proxy.address).value("select 'free'"), "free");
    let replies = sitting.run("select 1");
    assert!(matches!(sqlstate(&replies).as_deref(), Some("25P03" | "25P02")), "{replies:?}");
    assert_eq!(last(&replies), "ReadyForQuery E");
    sitting.run("rollback");
    assert_eq!(sitting.value("select 'goes on'"), "goes on");
}

fn client_idle(ground: &Ground) {
    let (tenant, proxy) = start(ground, "client_idle", 1, &["client_idle_timeout = \"500ms\""], &[]);
    let mut idle = tenant.login(proxy.address);
    let mut busy = tenant.login(proxy.address);
    let mut sitting = tenant.login(proxy.address);
    for _ in 0..10 {
        pause(100);
        busy.rows("select 1");
    }
    let replies = idle.read_to_close();
    assert_error(&replies, "FATAL", "57P05", "client_idle_timeout");
    assert_error(&sitting.read_to_close(), "FATAL", "57P05", "client_idle_timeout");
    // A query, or a transaction, is not idleness.
    sitting = tenant.login(proxy.address);
    sitting.rows("begin; select pg_sleep(0.9)");
    pause(900);
    sitting.rows("commit");
    assert_error(&busy.read_to_close(), "FATAL", "57P05", "client_idle_timeout");
}

/// The shortest way from the general to the particular: what is said last counts.
fn overrides(ground: &Ground) {
    let general = ["query_timeout = \"400ms\""];
    let user = "[databases.timeout_of_user.users.timeout_of_user]";
    let of_user = ["query_timeout = \"0\"", user, "query_timeout = \"400ms\""];
    let cases: [(&str, &[&str], &[&str], bool); 4] = [
        ("timeout_general", &general, &[], true),
        ("timeout_of_database", &["query_timeout = \"0\""], &general, true),
        ("timeout_of_user", &[], &of_user, true),
        ("timeout_of_nobody", &general, &["query_timeout = \"0\""], false),
    ];
    for (name, timeouts, lines, ends) in cases {
        let (tenant, proxy) = start(ground, name, 1, timeouts, lines);
        let replies = tenant.login(proxy.address).run("select pg_sleep(1.2)");
        match ends {
            true => assert_error(&replies, "ERROR", "57014", "query_timeout"),
            false => assert_eq!(sqlstate(&replies), None, "{name}"),
        }
    }
}

/// A client whose kernel takes next to nothing for it.
fn small_window(tenant: &Tenant, proxy: &Proxy) -> Wire {
    let wire = tenant.login(proxy.address);
    socket2::SockRef::from(wire.socket()).set_recv_buffer_size(4096).expect("a small buffer");
    wire
}

fn rows_of(bytes: usize) -> String {
    format!("select repeat('x', 1000) from generate_series(1, {})", bytes / 1000)
}

/// Far more than kernels and spool take: the server connection waits until the client is given up.
fn stall(ground: &Ground) {
    let timeouts = ["client_stall_timeout = \"700ms\""];
    let (tenant, proxy) = start(ground, "stalled", 2, &timeouts, &[]);
    let mut stalled: Vec<Wire> = (0..2).map(|_| small_window(&tenant, &proxy)).collect();
    for wire in &mut stalled {
        wire.query(&rows_of(60_000_000)).expect("send");
    }
    let begun = Instant::now();
    eventually("both hold a server", || proxy.metric("pgcorral_servers{") >= 2.0);
    let mut healthy = tenant.login(proxy.address);
    assert_eq!(healthy.value("select 'served'"), "served");
    eventually("they are disconnected", || proxy.metric("pgcorral_clients{") == 1.0);
    // And not by TCP, which gives up after 20 s.
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    nothing_is_open(ground, &tenant);
    let destroyed = proxy.metric("pgcorral_servers_destroyed_total{");
    assert!(destroyed == 0.0, "{destroyed} server connections were closed: a cancel would have done");
    assert!(proxy.resident_kib() < 100_000, "{} KiB", proxy.resident_kib());
}

/// 200 KB, twenty times, on a pool of two: others are served meanwhile, and nothing is lost.
fn spool(ground: &Ground) {
    let (tenant, proxy) = start(ground, "spooled", 2, &["client_stall_timeout = \"60s\""], &[]);
    let mut frozen: Vec<Wire> = (0..20).map(|_| small_window(&tenant, &proxy)).collect();
    let mut healthy = tenant.login(proxy.address);
    for wire in &mut frozen {
        wire.query(&rows_of(200_000)).expect("send");
    }
    let begun = Instant::now();
    for _ in 0..50 {
        assert_eq!(healthy.value("select 'served'"), "served");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?} for fifty short queries", begun.elapsed());
    // All at once: with a window as small as that it takes a while, and TCP gives up after 20 s without any progress.
    std::thread::scope(|scope| {
        for wire in &mut frozen {
            scope.spawn(|| {
                let replies = wire.ready();
                assert_eq!(replies.iter().filter(|reply| reply.tag == b'D').count(), 200);
                assert_eq!(sqlstate(&replies), None);
                assert_eq!(wire.value("select 'goes on'"), "goes on");
            });
        }
    });
}

/// As long as something is taken now and then, nobody is given up. Not too slowly: it counts when the kernel takes more of
/// the proxy, and on loopback it does so in steps of about a megabyte.
fn slow_reader(ground: &Ground) {
    const ROWS: usize = 16_000;
    let (tenant, proxy) = start(ground, "slow_reader", 1, &["client_stall_timeout = \"1s\""], &[]);
    let mut wire = tenant.login(proxy.address);
    wire.query(&rows_of(ROWS * 1000)).expect("send");
    let begun = Instant::now();
    let mut rows = 0;
    loop {
        let message = wire.read().unwrap_or_else(|fault| panic!("{fault:?} after {rows} rows"));
        match message.tag {
            b'D' => rows += 1,
            b'Z' => break,
            b'E' => panic!("{message:?} after {rows} rows"),
            _ => {}
        }
        if rows % 100 == 0 && begun.elapsed() < Duration::from_secs(4) {
            pause(30);
        }
    }
    assert_eq!(rows, ROWS);
    assert!(begun.elapsed() > Duration::from_secs(2), "it was no slow reader: {:?}", begun.elapsed());
}
