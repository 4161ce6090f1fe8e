//! Rate limits on logins and transactions, and whose turn it is to log in.

use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::requests::{bytes, statement};
use crate::support::wire::{Message, PROTOCOL_3_0, SSL_REQUEST, Wire, query, sqlstate, untagged};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("logins_gate", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("logins_of_an_address", logins_of_an_address),
    ("a_wrong_password_uses_up_nobodys_logins", logins_of_a_user),
    ("transactions_of_a_function", transactions_of_a_function),
    ("never_inside_a_transaction", inside_a_transaction),
    ("extended_protocol_once_per_sync", extended),
    ("what_is_observed_is_let_through", observed),
    ("a_crowd_does_not_keep_another_address_out", crowd),
    ("who_gives_up_gives_its_place", gives_up),
    ("a_password_that_was_right_is_not_derived_again", derived_once),
];

/// A proxy with rules; what one lets through once comes again in an hour.
fn proxy(ground: &Ground, tenant: &Tenant, rules: &str) -> Proxy {
    let database = tenant.database(ground.cluster(), 2);
    Proxy::start(&ProxyOptions { sections: vec![rules.to_owned()], ..ProxyOptions::new(vec![database]) })
}

/// Tries to log in; the messages seen, and whether it worked.
fn try_login(proxy: &Proxy, tenant: &Tenant, password: &str) -> (Vec<Message>, bool) {
    let mut wire = Wire::connect(proxy.address).expect("connect");
    let params = [("user", tenant.name.as_str()), ("database", &tenant.name)];
    wire.send_startup(PROTOCOL_3_0, &params).expect("startup");
    let (messages, result) = wire.authenticate(&tenant.name, password);
    (messages, result.is_ok())
}

/// Severity, SQLSTATE, and the DETAIL up to the time after which to try again, which is checked.
fn told(message: &Message) -> String {
    let detail = message.field(b'D').unwrap_or_default();
    let (detail, ms) = detail.rsplit_once(" retry_after_ms=").unwrap_or((&detail, ""));
    // An hour's rest up to one and a half times.
    assert!(ms.parse::<u64>().is_ok_and(|ms| (3_000_000..=5_400_000).contains(&ms)), "{message}");
    assert!(message.field(b'H').is_some_and(|hint| hint.ends_with('.')), "{message}");
    format!("{} {} {detail}", message.field(b'V').unwrap_or_default(), message.sqlstate())
}

fn logins_of_an_address(ground: &Ground) {
    let tenant = ground.tenant("rate_address");
    let rules = "[rate_limits.comers]\nwhat = \"logins\"\nper = [\"address\"]\nrate = \"1/h\"\nburst = 2";
    let proxy = proxy(ground, &tenant, rules);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    for _ in 0..3 {
        let (messages, ok) = try_login(&proxy, &tenant, &tenant.password);
        assert!(!ok && messages.len() == 1, "not even asked for a password: {messages:?}");
        assert_eq!(told(&messages[0]), "FATAL 53400 reason=rate_limited rule=comers per=address");
    }
    assert_eq!(proxy.metric("pgcorral_rate_limited_total{mode=\"enforce\",rule=\"comers\"}"), 3.0);
    assert_eq!(proxy.metric("pgcorral_client_connections_refused_total{reason=\"rate_limited\"}"), 3.0);
    for client in &mut clients {
        assert_eq!(client.value("select 1"), "1");
    }
}

fn logins_of_a_user(ground: &Ground) {
    let tenant = ground.tenant("rate_user");
    let rules = "[rate_limits.users]\nwhat = \"logins\"\nper = [\"user\", \"function\"]\nrate = \"1/h\"";
    let proxy = proxy(ground, &tenant, rules);
    for _ in 0..3 {
        let (messages, ok) = try_login(&proxy, &tenant, "wrong");
        assert!(!ok);
        assert_eq!(sqlstate(&messages).as_deref(), Some("28P01"));
    }
    tenant.login(proxy.address);
    let (messages, ok) = try_login(&proxy, &tenant, &tenant.password);
    assert!(!ok);
    let error = messages.last().expect("an error");
    assert_eq!(told(error), "FATAL 53400 reason=rate_limited rule=users per=user+function");
    // Another function of the same user.
    tenant.login_with(proxy.address, &[("application_name", "other")]);
}

const OF_A_FUNCTION: &str =
    "[rate_limits.quota]\nwhat = \"transactions\"\nper = [\"function\"]\nrate = \"1/h\"\nburst = 3";
const OVER_QUOTA: &str = "ERROR 53400 reason=rate_limited rule=quota per=function";

fn transactions_of_a_function(ground: &Ground) {
    let tenant = ground.tenant("rate_function");
    let proxy = proxy(ground, &tenant, OF_A_FUNCTION);
    let named = |name| tenant.login_with(proxy.address, &[("application_name", name)]).0;
    let (mut one, mut two, mut other) = (named("job-v1"), named("job-v2"), named("other"));
    for client in [&mut one, &mut two] {
        assert_eq!(client.value("select 1"), "1");
    }
    assert_eq!(one.value("select 2"), "2");
    for client in [&mut two, &mut one] {
        let replies = client.run("select 4");
        assert_eq!(replies.iter().map(|m| m.tag).collect::<Vec<_>>(), b"EZ");
        assert_eq!((told(&replies[0]), replies[1].body.as_slice()), (OVER_QUOTA.to_owned(), &b"I"[..]));
    }
    // The name is followed.
    assert_eq!(other.value("set application_name = 'job'; select 5"), "5");
    assert_eq!(told(&other.run("select 6")[0]), OVER_QUOTA);
    assert_eq!(proxy.metric("pgcorral_rate_limited_total{mode=\"enforce\",rule=\"quota\"}"), 3.0);
}

fn inside_a_transaction(ground: &Ground) {
    let tenant = ground.tenant("rate_inside");
    let proxy = proxy(ground, &tenant, OF_A_FUNCTION);
    let mut client = tenant.login(proxy.address);
    client.run("select 1");
    client.run("select 2");
    client.run("begin");
    for _ in 0..5 {
        assert_eq!(client.value("select 3"), "3");
    }
    assert_eq!(sqlstate(&client.run("commit")), None);
    assert_eq!(told(&client.run("select 4")[0]), OVER_QUOTA);
}

/// Parse, Bind, Execute and Sync.
fn batch(sql: &str) -> Vec<u8> {
    bytes(&statement("", sql, &[]))
}

fn extended(ground: &Ground) {
    let tenant = ground.tenant("rate_extended");
    let proxy = proxy(ground, &tenant, OF_A_FUNCTION);
    let mut client = tenant.login(proxy.address);
    for number in 1..=3 {
        assert_eq!(client.value(&format!("select {number}")), number.to_string());
    }
    let pipeline = [batch("select 4"), batch("select 5"), query("select 6"), batch("select 7")].concat();
    client.send(&pipeline).expect("send");
    for _ in 0..4 {
        let replies = client.ready();
        assert_eq!(replies.iter().map(|m| m.tag).collect::<Vec<_>>(), b"EZ");
        assert_eq!((told(&replies[0]), replies[1].body.as_slice()), (OVER_QUOTA.to_owned(), &b"I"[..]));
    }
}

fn observed(ground: &Ground) {
    let tenant = ground.tenant("rate_observed");
    let rules = "[rate_limits.comers]\nwhat = \"logins\"\nrate = \"1/h\"\nmode = \"observe\"\n\
                 [rate_limits.quota]\nwhat = \"transactions\"\nper = [\"network\"]\nrate = \"1/h\"\nmode = \"observe\"";
    let proxy = proxy(ground, &tenant, rules);
    for _ in 0..3 {
        let mut client = tenant.login(proxy.address);
        assert_eq!(client.value("select 1"), "1");
        assert_eq!(client.value("select 2"), "2");
    }
    assert_eq!(proxy.metric("pgcorral_rate_limited_total{mode=\"observe\",rule=\"comers\"}"), 2.0);
    assert_eq!(proxy.metric("pgcorral_rate_limited_total{mode=\"observe\",rule=\"quota\"}"), 5.0);
    assert_eq!(proxy.metric("pgcorral_sheds_total{"), 0.0);
}

/// Two may log in at once; these do not answer.
fn stuck(proxy: &Proxy, tenant: &Tenant) -> [Wire; 2] {
    [0, 1].map(|_| {
        let mut wire = comer(proxy, tenant, 1);
        assert_eq!(wire.read().ok().map(|message| message.tag), Some(b'R'));
        wire
    })
}

/// A client from `127.0.0.last` that has sent its startup packet.
fn comer(proxy: &Proxy, tenant: &Tenant, last: u8) -> Wire {
    let mut wire = Wire::connect_from([127, 0, 0, last].into(), proxy.address).expect("connect");
    let params = [("user", tenant.name.as_str()), ("database", &tenant.name)];
    wire.send_startup(PROTOCOL_3_0, &params).expect("startup");
    wire
}

fn two_at_once(ground: &Ground, tenant: &Tenant) -> Proxy {
    Proxy::start(&ProxyOptions {
        max_handshakes: Some(2),
        // Longer than we watch, or they would make room.
        login_timeout: Some("10min".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)])
    })
}

fn waiting(proxy: &Proxy, count: f64) {
    eventually("so many wait", || proxy.metric("pgcorral_logins_waiting") == count);
}

fn crowd(ground: &Ground) {
    let tenant = ground.tenant("login_crowd");
    let proxy = two_at_once(ground, &tenant);
    let [one, _other] = stuck(&proxy, &tenant);
    let mut crowd: Vec<Wire> = (0..30).map(|_| comer(&proxy, &tenant, 1)).collect();
    waiting(&proxy, 30.0);
    let mut last = comer(&proxy, &tenant, 2);
    waiting(&proxy, 31.0);
    drop(one);
    // The one that came last, and from elsewhere, is let in; the crowd waits while it logs in.
    assert!(last.authenticate(&tenant.name, &tenant.password).1.is_ok());
    assert_eq!(last.value("select 1"), "1");
    for login in &mut crowd {
        assert!(login.authenticate(&tenant.name, &tenant.password).1.is_ok());
    }
    waiting(&proxy, 0.0);
}

fn gives_up(ground: &Ground) {
    let tenant = ground.tenant("login_gives_up");
    let proxy = two_at_once(ground, &tenant);
    let stuck = stuck(&proxy, &tenant);
    let gone: Vec<Wire> = (0..10).map(|_| comer(&proxy, &tenant, 1)).collect();
    let mut ask_for_tls: Vec<Wire> = (0..3).map(|_| Wire::connect(proxy.address).expect("connect")).collect();
    for wire in &mut ask_for_tls {
        wire.send(&untagged(SSL_REQUEST, &[])).expect("send");
    }
    let mut stays = comer(&proxy, &tenant, 1);
    waiting(&proxy, 14.0);
    drop((gone, ask_for_tls));
    waiting(&proxy, 1.0);
    // In the middle of its login, too.
    drop(stuck);
    assert!(stays.authenticate(&tenant.name, &tenant.password).1.is_ok());
    waiting(&proxy, 0.0);
    eventually("no login is under way", || proxy.metric("pgcorral_handshakes_in_flight") == 0.0);
}

/// A verifier whose derivation takes a while, for clear-text passwords.
fn derived_once(ground: &Ground) {
    let tenant = ground.tenant("derived_once");
    let verifier = crate::support::verifier::scram(&tenant.password, &[7; 16], 100_000);
    let database = Database {
        users: vec![(tenant.name.clone(), verifier)],
        upstream_login: Some((tenant.name.clone(), tenant.password.clone())),
        ..tenant.database(ground.cluster(), 2)
    };
    let options = ProxyOptions {
        auth: Some("password".to_owned()),
        login_timeout: Some("10min".to_owned()),
        ..ProxyOptions::new(vec![database])
    };
    let proxy = Proxy::start(&options);
    let timed = |password: &str| {
        let start = Instant::now();
        let ok = try_login(&proxy, &tenant, password).1;
        (ok, start.elapsed())
    };
    let (ok, wrong) = timed("wrong");
    assert!(!ok);
    assert!(timed(&tenant.password).0);
    let storm = Instant::now();
    for _ in 0..20 {
        assert!(timed(&tenant.password).0);
    }
    assert!(storm.elapsed() < 5 * wrong, "20 logins took {:?}, a derivation {wrong:?}", storm.elapsed());
    let (ok, again) = timed("wrong");
    assert!(!ok && again > wrong / 10, "{again:?} and {wrong:?}");
}
