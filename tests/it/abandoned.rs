//! Clients that vanish while something runs for them: no server connection is lost, nothing is left open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::requests::{Request, bytes, statement};
use crate::support::wire::{Wire, sqlstate, tagged};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("abandoned", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("two_hundred_at_random", two_hundred),
    ("cancel_is_the_end_of_a_statement", cancelled),
    ("finish_lets_a_statement_end", finished),
    ("finish_commits_no_transaction", finished_in_transaction),
    ("finish_is_bounded_by_the_query_timeout", finished_in_time),
    ("gone_while_a_message_waits_for_an_answer", gone_stalled),
    ("half_closed_as_libpq_does", half_closed),
];

const CLIENTS: usize = 200;
const POOL: usize = 10;

fn start(ground: &Ground, name: &str, size: usize, lines: &[&str]) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    let database = Database {
        extra: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..tenant.database(ground.cluster(), size)
    };
    let options = ProxyOptions { max_wait: Some("60s".to_owned()), ..ProxyOptions::new(vec![database]) };
    let proxy = Proxy::start(&options);
    tenant.login(proxy.address).rows("create table ran (a int)");
    (tenant, proxy)
}

/// The socket is reset: what the proxy reads next is an error.
fn abort(wire: Wire) {
    socket2::SockRef::from(wire.socket()).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(wire);
}

fn nothing_is_open(ground: &Ground, tenant: &Tenant) {
    let sql = format!(
        "select count(*) from pg_stat_activity where usename = '{}' and (xact_start is not null or state <> 'idle')",
        tenant.name
    );
    let mut root = ground.root("postgres");
    eventually("nothing runs and nothing is open", || root.value(&sql) == "0");
}

/// Waits until a backend of this role sleeps.
fn sleeps(ground: &Ground, tenant: &Tenant) {
    let sql = format!(
        "select exists (select from pg_stat_activity where usename = '{}' and wait_event = 'PgSleep')",
        tenant.name
    );
    let mut root = ground.root("postgres");
    eventually("the statement runs", || root.value(&sql) == "t");
}

fn two_hundred(ground: &Ground) {
    let (tenant, proxy) = start(ground, "vanishing", POOL, &[]);
    let address = proxy.address;
    let threads: Vec<_> = (0..20)
        .map(|thread| {
            let tenant = tenant.clone();
            std::thread::spawn(move || {
                let mut rng = SmallRng::seed_from_u64(thread);
                (0..CLIENTS / 20).for_each(|_| vanish(&tenant, address, &mut rng));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a client"));
    eventually("all are gone", || proxy.metric("pgcorral_clients{") == 0.0);
    nothing_is_open(ground, &tenant);
    let destroyed = proxy.metric("pgcorral_servers_destroyed_total{");
    assert!(destroyed <= 10.0, "{destroyed} server connections were destroyed");
    // The whole pool is there.
    let mut holders: Vec<Wire> = (0..POOL).map(|_| tenant.login(address)).collect();
    for holder in &mut holders {
        let replies = holder.run("begin; select count(*) from ran");
        assert_eq!(sqlstate(&replies), None, "{replies:?}");
        let row = replies.iter().find(|reply| reply.tag == b'D').expect("a row");
        assert_eq!(row.columns()[0].as_deref(), Some("0"), "something was committed");
    }
}

/// A client that goes in the middle of something, or while it waits for its turn.
fn vanish(tenant: &Tenant, address: SocketAddr, rng: &mut SmallRng) {
    let mut wire = tenant.login(address);
    let sent = match rng.random_range(0..6) {
        0 => wire.query("select pg_sleep(30)"),
        1 => {
            wire.run("begin; insert into ran values (1)");
            Ok(())
        }
        2 => {
            wire.run("begin; insert into ran values (2)");
            wire.query("select pg_sleep(30)")
        }
        3 => wire.query("select repeat('x', 1000) from generate_series(1, 100000)"),
        4 => wire.send(&bytes(&[&statement("", "insert into ran values (3)", &[])[..3]].concat())),
        _ => wire.send(&bytes(&statement("s", "select pg_sleep(30)", &[])).repeat(3)),
    };
    sent.expect("send");
    std::thread::sleep(Duration::from_millis(rng.random_range(0..60)));
    abort(wire);
}

/// Runs for long enough to be abandoned, and then has an effect.
const LATE: &str = "insert into ran select 1 from pg_sleep(1)";

fn count(tenant: &Tenant, proxy: &Proxy) -> String {
    tenant.login(proxy.address).value("select count(*) from ran")
}

fn cancelled(ground: &Ground) {
    let (tenant, proxy) = start(ground, "vanished_cancel", 1, &["abandoned = \"cancel\""]);
    for goodbye in [abort as fn(Wire), drop] {
        let mut wire = tenant.login(proxy.address);
        wire.query("insert into ran select 1 from pg_sleep(600)").expect("send");
        sleeps(ground, &tenant);
        goodbye(wire);
        // Served long before the statement would have ended: it was cancelled.
        assert_eq!(count(&tenant, &proxy), "0");
    }
    assert!(proxy.metric("pgcorral_servers_destroyed_total{") == 0.0, "a server connection was destroyed");
}

fn finished(ground: &Ground) {
    let (tenant, proxy) = start(ground, "vanished_finish", 1, &["abandoned = \"finish\""]);
    for (round, goodbye) in [abort as fn(Wire), drop].into_iter().enumerate() {
        let mut wire = tenant.login(proxy.address);
        wire.query(LATE).expect("send");
        sleeps(ground, &tenant);
        goodbye(wire);
        assert_eq!(count(&tenant, &proxy), (round + 1).to_string());
    }
    // The same by the extended protocol: its Sync is there, so it commits.
    let mut wire = tenant.login(proxy.address);
    wire.send(&bytes(&statement("", LATE, &[]))).expect("send");
    sleeps(ground, &tenant);
    abort(wire);
    assert_eq!(count(&tenant, &proxy), "3");
    assert!(proxy.metric("pgcorral_servers_destroyed_total{") == 0.0, "a server connection was destroyed");
}

fn finished_in_transaction(ground: &Ground) {
    let (tenant, proxy) = start(ground, "vanished_finish_tx", 1, &["abandoned = \"finish\""]);
    let mut wire = tenant.login(proxy.address);
    wire.rows("begin");
    wire.query(LATE).expect("send");
    sleeps(ground, &tenant);
    abort(wire);
    assert_eq!(count(&tenant, &proxy), "0");
    // No Sync: not committed either.
    let mut wire = tenant.login(proxy.address);
    let mut requests = statement("", LATE, &[]);
    requests.retain(|request| *request != Request::Sync);
    wire.send(&bytes(&requests)).expect("send");
    wire.send(&tagged(b'H', &[])).expect("send");
    sleeps(ground, &tenant);
    abort(wire);
    assert_eq!(count(&tenant, &proxy), "0");
    nothing_is_open(ground, &tenant);
}

fn finished_in_time(ground: &Ground) {
    let lines = ["abandoned = \"finish\"", "query_timeout = \"500ms\""];
    let (tenant, proxy) = start(ground, "finish_in_time", 1, &lines);
    let mut wire = tenant.login(proxy.address);
    wire.query("select pg_sleep(60)").expect("send");
    sleeps(ground, &tenant);
    abort(wire);
    nothing_is_open(ground, &tenant);
    assert_eq!(tenant.login(proxy.address).value("select 1"), "1");
}

/// Of two batches that prepare the same text the second is not read on before the first is answered.
fn gone_stalled(ground: &Ground) {
    let (tenant, proxy) = start(ground, "gone_stalled", 1, &[]);
    for half_closes in [false, true] {
        let mut wire = tenant.login(proxy.address);
        let batches =
            [statement("a", "select pg_sleep(60)", &[]), statement("b", "select pg_sleep(60)", &[])];
        wire.send(&bytes(&batches.concat())).expect("send");
        sleeps(ground, &tenant);
        if half_closes {
            drop(wire)
        } else {
            abort(wire)
        }
        nothing_is_open(ground, &tenant);
    }
}

/// A query, Terminate and the end of the sending side in one go: it is run, as PostgreSQL does it.
fn half_closed(ground: &Ground) {
    let (tenant, proxy) = start(ground, "half_closed", 1, &[]);
    let mut wire = tenant.login(proxy.address);
    wire.run("begin");
    wire.query("insert into ran values (1); commit").expect("send");
    wire.send(&tagged(b'X', &[])).expect("send");
    wire.socket().shutdown(std::net::Shutdown::Write).expect("half-close");
    wire.read_to_close();
    eventually("it is there", || count(&tenant, &proxy) == "1");
}
