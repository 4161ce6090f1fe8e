//! CancelRequest reaches the query of the client that it belongs to, and nothing else, ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::certificate::Certificate;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::proxy::{Proxy, ProxyOptions};
use crate::support::wire::{PROTOCOL_3_2, Wire, cancel, cancel_request, sqlstate};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("cancel", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("running", running),
    ("storm_hits_nobody_else", storm),
    ("lesson_12_waiter_is_answered_57014", waiter),
    ("wrong_key_is_ignored", wrong_key),
    ("over_tls", over_tls),
    ("long_key_of_protocol_3_2", long_key),
    ("idle_client_and_its_last_server", idle),
    ("after_the_client_has_gone", gone),
];

fn start(ground: &Ground, name: &str, pool_size: usize) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    let options = ProxyOptions {
        max_wait: Some("60s".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), pool_size)])
    };
    (tenant, Proxy::start(&options))
}

fn key(wire: &Wire) -> (i32, Vec<u8>) {
    wire.cancel_key.clone().expect("a key")
}

/// Waits until a backend of this role sleeps.
fn sleeps(ground: &Ground, tenant: &Tenant) {
    let sql = format!(
        "select exists (select from pg_stat_activity where usename = '{}' and wait_event = 'PgSleep')",
        tenant.name
    );
    let mut root = ground.root("postgres");
    eventually("the query runs", || root.value(&sql) == "t");
}

fn running(ground: &Ground) {
    let (tenant, proxy) = start(ground, "cancel_running", 1);
    let mut wire = tenant.login(proxy.address);
    wire.query("select pg_sleep(100)").expect("send");
    sleeps(ground, &tenant);
    cancel(proxy.address, &key(&wire));
    assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("57014"));
    assert_eq!(wire.value("select 'usable'"), "usable");
}

/// Many sleepers are cancelled at random moments, as often as it takes, while others run short queries on the same few
/// servers: those never see 57014, and always their own reply.
fn storm(ground: &Ground) {
    let (tenant, proxy) = start(ground, "cancel_storm", 4);
    let address = proxy.address;
    let over = Arc::new(AtomicBool::new(false));
    let runners: Vec<_> = (0..12)
        .map(|number| {
            let (tenant, over) = (tenant.clone(), Arc::clone(&over));
            std::thread::spawn(move || short_queries(&tenant, address, number, &over))
        })
        .collect();
    let sleepers: Vec<_> = (0..12)
        .map(|number| {
            let tenant = tenant.clone();
            std::thread::spawn(move || cancelled_sleeps(&tenant, address, number))
        })
        .collect();
    for sleeper in sleepers {
        sleeper.join().expect("a sleeper");
    }
    over.store(true, Ordering::Relaxed);
    let served: usize = runners.into_iter().map(|runner| runner.join().expect("a runner")).sum();
    assert!(served > 0, "no short query was ever served");
}

fn short_queries(tenant: &Tenant, address: SocketAddr, number: usize, over: &AtomicBool) -> usize {
    let mut wire = tenant.login(address);
    let mut served = 0;
    while !over.load(Ordering::Relaxed) {
        let mark = format!("{number}-{served}");
        let replies = wire.run(&format!("select '{mark}', pg_sleep(0.001)"));
        assert_eq!(sqlstate(&replies), None, "a query that nobody cancelled: {replies:?}");
        let row = replies.iter().find(|m| m.tag == b'D').expect("a row");
        assert_eq!(row.columns()[0].as_deref(), Some(mark.as_str()));
        served += 1;
    }
    served
}

fn cancelled_sleeps(tenant: &Tenant, address: SocketAddr, number: usize) {
    let mut wire = tenant.login(address);
    for round in 0..8 {
        wire.query("select pg_sleep(100)").expect("send");
        // Some are cancelled before they get a server, some after.
        std::thread::sleep(Duration::from_millis(((number * 7 + round * 13) % 25) as u64));
        let ended = Arc::new(AtomicBool::new(false));
        let persistent = {
            let (ended, key) = (Arc::clone(&ended), key(&wire));
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    cancel(address, &key);
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        };
        assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("57014"));
        ended.store(true, Ordering::Relaxed);
        persistent.join().expect("the canceller");
    }
}

fn waiter(ground: &Ground) {
    let (tenant, proxy) = start(ground, "cancel_waiter", 1);
    let mut holder = tenant.login(proxy.address);
    holder.run("create table ran (a int)");
    holder.run("begin");
    let mut waiter = tenant.login(proxy.address);
    waiter.query("insert into ran values (1)").expect("send");
    eventually("it waits", || proxy.metric("pgcorral_queue_depth{") == 1.0);
    cancel(proxy.address, &key(&waiter));
    let replies = waiter.ready();
    assert_eq!(sqlstate(&replies).as_deref(), Some("57014"));
    assert_eq!(replies.last().map(ToString::to_string).as_deref(), Some("ReadyForQuery I"));
    assert!(proxy.metric("pgcorral_queue_depth{") == 0.0);
    holder.run("commit");
    assert_eq!(waiter.value("select count(*) from ran"), "0");
}

fn wrong_key(ground: &Ground) {
    let (tenant, proxy) = start(ground, "cancel_wrong", 1);
    let mut wire = tenant.login(proxy.address);
    wire.query("select 'slept', pg_sleep(1)").expect("send");
    sleeps(ground, &tenant);
    let (process, secret) = key(&wire);
    let mut flipped = secret.clone();
    flipped[0] ^= 1;
    let wrong = [
        (process, flipped),
        (process.wrapping_add(1), secret.clone()),
        (process, vec![0; 4]),
        (0, secret.clone()),
        (process, [secret, vec![0; 28]].concat()),
    ];
    for key in &wrong {
        cancel(proxy.address, key);
    }
    assert_eq!(sqlstate(&wire.ready()), None);
}

fn over_tls(ground: &Ground) {
    let tenant = ground.tenant("cancel_tls");
    let certificate = Certificate::new();
    let database = tenant.database(ground.cluster(), 1);
    let proxy =
        Proxy::start(&ProxyOptions { tls: Some(certificate.paths()), ..ProxyOptions::new(vec![database]) });
    let mut wire = tenant.login(proxy.address);
    wire.query("select pg_sleep(100)").expect("send");
    sleeps(ground, &tenant);
    let mut request = Wire::connect(proxy.address).and_then(Wire::start_tls).expect("TLS");
    request.send(&cancel_request(&key(&wire))).expect("send");
    assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("57014"));
}

fn long_key(ground: &Ground) {
    let (tenant, proxy) = start(ground, "cancel_long", 1);
    let mut wire = Wire::connect(proxy.address).expect("connect");
    wire.send_startup(PROTOCOL_3_2, &[("user", &tenant.name), ("database", &tenant.name)]).expect("startup");
    let (messages, result) = wire.authenticate(&tenant.name, &tenant.password);
    assert!(result.is_ok(), "{messages:?}");
    wire.query("select pg_sleep(100)").expect("send");
    sleeps(ground, &tenant);
    cancel(proxy.address, &key(&wire));
    assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("57014"));
}

/// A cancel of a client that runs nothing does not reach the server that it used last.
fn idle(ground: &Ground) {
    let (tenant, proxy) = start(ground, "cancel_idle", 1);
    let mut first = tenant.login(proxy.address);
    assert_eq!(first.value("select 1"), "1");
    let mut second = tenant.login(proxy.address);
    second.query("select 'untouched', pg_sleep(1)").expect("send");
    sleeps(ground, &tenant);
    for _ in 0..20 {
        cancel(proxy.address, &key(&first));
    }
    assert_eq!(sqlstate(&second.ready()), None);
}

/// The key of a client that left cancels nothing any more.
fn gone(ground: &Ground) {
    let (tenant, proxy) = start(ground, "cancel_gone", 1);
    let mut first = tenant.login(proxy.address);
    first.run("select 1");
    let old = key(&first);
    drop(first);
    let mut second = tenant.login(proxy.address);
    second.query("select 'untouched', pg_sleep(1)").expect("send");
    sleeps(ground, &tenant);
    cancel(proxy.address, &old);
    assert_eq!(sqlstate(&second.ready()), None);
}
