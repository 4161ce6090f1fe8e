//! How many clients there may be, how long a login may take, how a drain ends, and what the log never says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::Signal;

use crate::Test;
use crate::support::ground::{Ground, eventually};
use crate::support::proxy::{Proxy, ProxyOptions};
use crate::support::wire::{PROTOCOL_3_0, Wire, cancel, sqlstate, startup};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("limits", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("max_clients", max_clients),
    ("idle_clients_give_way_to_logins", eviction),
    ("silent_connections_are_no_clients", silent),
    ("cancel_needs_no_turn_to_log_in", cancel_without_turn),
    ("login_timeout", login_timeout),
    ("sigterm_drains", drain),
    ("second_sigterm_ends_at_once", second_signal),
    ("sighup_is_not_the_end", hangup),
    ("drain_has_a_deadline", drain_deadline),
    ("what_takes_too_long_does_so_in_a_drain", drain_timeouts),
    ("secrets_are_never_logged", secrets),
];

fn max_clients(ground: &Ground) {
    let tenant = ground.tenant("max_clients");
    let database = tenant.database(ground.cluster(), 2);
    let proxy = Proxy::start(&ProxyOptions { max_clients: Some(3), ..ProxyOptions::new(vec![database]) });
    let mut clients: Vec<Wire> = (0..3).map(|_| tenant.login(proxy.address)).collect();
    for _ in 0..5 {
        let mut wire = Wire::connect(proxy.address).expect("connect");
        wire.send_startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)])
            .expect("startup");
        let replies = wire.read_to_close();
        let error = replies.last().expect("an error");
        assert_eq!((error.sqlstate().as_str(), error.field(b'V').as_deref()), ("53300", Some("FATAL")));
    }
    assert_eq!(clients[0].value("select 1"), "1");
    clients.pop();
    eventually("there is room", || proxy.metric("pgcorral_clients{") == 2.0);
    assert_eq!(tenant.login(proxy.address).value("select 1"), "1");
}

/// Clients that were frozen with their connections open do not keep others out: the one that has been idle for longest goes,
/// unless it is in a transaction; and only for somebody who knows the password.
fn eviction(ground: &Ground) {
    let tenant = ground.tenant("eviction");
    let database = tenant.database(ground.cluster(), 2);
    let proxy = Proxy::start(&ProxyOptions {
        max_clients: Some(3),
        timeouts_extra: vec!["evict_idle = \"1s\"".to_owned()],
        ..ProxyOptions::new(vec![database])
    });
    let mut oldest = tenant.login(proxy.address);
    let mut middle = tenant.login(proxy.address);
    let mut at_work = tenant.login(proxy.address);
    at_work.run("begin");
    let told = |error: &crate::support::wire::Message| {
        (error.sqlstate(), error.field(b'D').unwrap_or_default().contains("evict_idle"))
    };
    let refused = |password: &str| {
        let mut wire = Wire::connect(proxy.address).expect("connect");
        let params = [("user", tenant.name.as_str()), ("database", &tenant.name)];
        wire.send_startup(PROTOCOL_3_0, &params).expect("startup");
        let (replies, _) = wire.authenticate(&tenant.name, password);
        sqlstate(&replies)
    };
    assert_eq!(refused(&tenant.password).as_deref(), Some("53300"), "nobody has been idle for long");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(middle.value("select 1"), "1");
    assert_eq!(refused("wrong").as_deref(), Some("28P01"));
    assert_eq!(oldest.value("select 1"), "1", "nobody goes for a stranger");
    std::thread::sleep(Duration::from_millis(1100));
    let mut new = tenant.login(proxy.address);
    assert_eq!(new.value("select 2"), "2");
    let last = middle.read_to_close();
    assert_eq!(last.last().map(told), Some(("57P05".to_owned(), true)), "the one that was idle for longest");
    assert_eq!(oldest.value("select 1"), "1");
    assert_eq!(at_work.value("select txid_current() is not null"), "t");
    assert_eq!(proxy.metric("pgcorral_timeouts_total{"), 1.0);
}

/// Who has said nothing yet takes nobody's place.
fn silent(ground: &Ground) {
    let tenant = ground.tenant("silent");
    let database = tenant.database(ground.cluster(), 2);
    let options = ProxyOptions {
        max_clients: Some(2),
        max_handshakes: Some(2),
        login_timeout: Some("60s".to_owned()),
        ..ProxyOptions::new(vec![database])
    };
    let proxy = Proxy::start(&options);
    let silent: Vec<Wire> = (0..20).map(|_| Wire::connect(proxy.address).expect("connect")).collect();
    eventually("all are there", || proxy.metric("pgcorral_handshakes_in_flight") == 20.0);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    for client in &mut clients {
        assert_eq!(client.value("select 1"), "1");
    }
    let mut third = Wire::connect(proxy.address).expect("connect");
    third.send_startup(PROTOCOL_3_0, &[("user", &tenant.name)]).expect("startup");
    assert_eq!(sqlstate(&third.read_to_close()).as_deref(), Some("53300"));
    drop(silent);
}

/// A crowd that is stuck in its login does not keep a query from being cancelled.
fn cancel_without_turn(ground: &Ground) {
    let tenant = ground.tenant("cancel_turn");
    let database = tenant.database(ground.cluster(), 2);
    let options = ProxyOptions {
        max_handshakes: Some(2),
        // Longer than we watch, or they would make room.
        login_timeout: Some("10min".to_owned()),
        ..ProxyOptions::new(vec![database])
    };
    let proxy = Proxy::start(&options);
    let mut client = tenant.login(proxy.address);
    client.query("select pg_sleep(100)").expect("send");
    let mut stuck: Vec<Wire> = (0..5).map(|_| Wire::connect(proxy.address).expect("connect")).collect();
    for (number, login) in stuck.iter_mut().enumerate() {
        login.send_startup(PROTOCOL_3_0, &[("user", &tenant.name)]).expect("startup");
        // The first two are asked for a password that they never send; the others wait for their turn.
        if number < 2 {
            assert_eq!(login.read().ok().map(|message| message.tag), Some(b'R'));
        }
    }
    eventually("all are there", || proxy.metric("pgcorral_handshakes_in_flight") == 5.0);
    let mut root = ground.root("postgres");
    eventually("the query runs", || {
        root.value(
            "select count(*) from pg_stat_activity where usename = 'cancel_turn' and wait_event = 'PgSleep'",
        ) == "1"
    });
    cancel(proxy.address, &client.cancel_key.clone().expect("a key"));
    assert_eq!(sqlstate(&client.ready()).as_deref(), Some("57014"));
    drop(stuck);
}

fn login_timeout(ground: &Ground) {
    let tenant = ground.tenant("login_timeout");
    let database = tenant.database(ground.cluster(), 1);
    let options =
        ProxyOptions { login_timeout: Some("300ms".to_owned()), ..ProxyOptions::new(vec![database]) };
    let proxy = Proxy::start(&options);
    // Saying nothing, half a startup packet, and no answer to the challenge.
    let packet = startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)]);
    for part in [&packet[..0], &packet[..10], &packet[..]] {
        let mut wire = Wire::connect(proxy.address).expect("connect");
        wire.send(part).expect("send");
        wire.read_to_close();
    }
}

fn drain(ground: &Ground) {
    let tenant = ground.tenant("drain");
    let mut proxy = Proxy::start(&ProxyOptions {
        drain_timeout: Some("60s".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)])
    });
    let mut busy = tenant.login(proxy.address);
    busy.run("create table drained (a int)");
    busy.run("begin; insert into drained values (1)");
    let mut idle = tenant.login(proxy.address);
    idle.run("select 1");
    proxy.signal(Signal::TERM);
    // The idle one is sent away, the busy one finishes.
    idle.read_to_close();
    let address = proxy.address;
    eventually("newcomers are refused", || match Wire::connect(address) {
        Err(_) => true,
        Ok(mut wire) => {
            let _ = wire.send_startup(PROTOCOL_3_0, &[("user", "drain")]);
            let (messages, _) = wire.authenticate("drain", "drain-s3cret");
            messages.is_empty() || sqlstate(&messages).as_deref() == Some("57P03")
        }
    });
    assert!(!proxy.has_ended(), "a transaction is under way");
    assert_eq!(sqlstate(&busy.run("insert into drained values (2)")), None);
    assert_eq!(sqlstate(&busy.run("commit")), None);
    busy.read_to_close();
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(ground.root("drain").value("select count(*) from drained"), "2");
}

fn second_signal(ground: &Ground) {
    let tenant = ground.tenant("second_signal");
    let mut proxy = Proxy::start(&ProxyOptions {
        drain_timeout: Some("10min".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)])
    });
    let mut busy = tenant.login(proxy.address);
    busy.run("create table undone (a int)");
    busy.run("begin; insert into undone values (1)");
    let mut idle = tenant.login(proxy.address);
    proxy.signal(Signal::TERM);
    idle.read_to_close();
    assert!(!proxy.has_ended());
    proxy.signal(Signal::TERM);
    proxy.wait();
    eventually("PostgreSQL rolled it back", || {
        ground.root("postgres").value("select count(*) from pg_stat_activity where usename = 'second_signal'")
            == "0"
    });
    assert_eq!(ground.root("second_signal").value("select count(*) from undone"), "0");
}

fn hangup(ground: &Ground) {
    let tenant = ground.tenant("hangup");
    let mut proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)]));
    let mut client = tenant.login(proxy.address);
    client.run("begin; select 1");
    for _ in 0..2 {
        proxy.signal(Signal::HUP);
    }
    eventually("the log says so", || proxy.log().contains("SIGHUP"));
    assert_eq!(sqlstate(&client.run("commit")), None);
    assert_eq!(tenant.login(proxy.address).value("select 1"), "1");
    assert!(!proxy.has_ended());
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
}

fn drain_timeouts(ground: &Ground) {
    let tenant = ground.tenant("drain_timeouts");
    let mut proxy = Proxy::start(&ProxyOptions {
        drain_timeout: Some("60s".to_owned()),
        timeouts_extra: vec!["idle_in_transaction_timeout = \"2s\"".to_owned()],
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)])
    });
    let mut wire = tenant.login(proxy.address);
    wire.rows("begin");
    proxy.signal(Signal::TERM);
    let begun = Instant::now();
    proxy.wait();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

fn drain_deadline(ground: &Ground) {
    let tenant = ground.tenant("drain_deadline");
    let mut proxy = Proxy::start(&ProxyOptions {
        drain_timeout: Some("300ms".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)])
    });
    let mut busy = tenant.login(proxy.address);
    busy.run("begin; select 1");
    proxy.signal(Signal::TERM);
    busy.read_to_close();
    proxy.wait();
}

fn secrets(ground: &Ground) {
    let tenant = ground.tenant("secrets");
    let database = tenant.database(ground.cluster(), 2);
    for auth in ["scram-sha-256", "md5", "password"] {
        let proxy = Proxy::start(&ProxyOptions {
            log: Some("trace".to_owned()),
            auth: Some(auth.to_owned()),
            ..ProxyOptions::new(vec![database.clone()])
        });
        assert_eq!(tenant.login(proxy.address).value("select 1"), "1");
        let mut wire = Wire::connect(proxy.address).expect("connect");
        wire.send_startup(PROTOCOL_3_0, &[("user", "secrets")]).expect("startup");
        let (_, result) = wire.authenticate("secrets", "wrong-gu3ss");
        assert!(result.is_err());
        let log = proxy.into_whole_log();
        assert!(
            log.contains("TRACE") || log.contains("DEBUG"),
            "the log is not at its most talkative:\n{log}"
        );
        for secret in [tenant.password.as_str(), "wrong-gu3ss", "SCRAM-SHA-256$"] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    }
}
