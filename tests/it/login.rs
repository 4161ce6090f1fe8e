//! What comes before and during the login. Parameters and refusals are conversations (`tests/conformance/login*`).

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::certificate::Certificate;
use crate::support::ground::{Ground, Tenant, address};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::script::Target;
use crate::support::wire::{
    Fault, GSSENC_REQUEST, Message, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, Wire, cstr, startup, tagged,
    untagged,
};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, bytes) in openings() {
        let ground = Arc::clone(ground);
        trials.push(Trial::test(format!("login::opening::{name}"), move || {
            same_end(&ground, &bytes);
            Ok(())
        }));
    }
    trials.extend(crate::trials("login", ground, PROXIED));
    trials
}

const PROXIED: &[Test] = &[
    ("lesson_09_gssenc_is_answered_n", gssenc),
    ("lesson_09_protocol_3_2_is_served", protocol_3_2),
    ("later_minors_are_negotiated", later_minor),
    ("unknown_protocol_options_are_named", unknown_option),
    ("tls", tls),
    ("lesson_10_plain_text_behind_ssl_request_is_refused", stuffed_ssl_request),
    ("md5", |ground| method(ground, "md5")),
    ("password", |ground| method(ground, "password")),
    ("trust", trust),
    ("lesson_07_scram_verifier_of_any_salt_and_count", odd_verifier),
    ("unknown_user_sees_what_a_wrong_password_sees", unknown_user),
    ("lesson_10_big_message_before_login_is_refused", big_password),
    ("lesson_17_login_needs_no_server", login_without_server),
];

/// First bytes of a connection that lead nowhere.
fn openings() -> Vec<(&'static str, Vec<u8>)> {
    let long = "x".repeat(10_000);
    vec![
        ("protocol_2", untagged(2 << 16, &[0; 288])),
        ("protocol_1", untagged(1 << 16, &[0; 8])),
        ("protocol_4", startup(4 << 16, &[("user", "talk")])),
        ("no_user", startup(PROTOCOL_3_0, &[("database", "talk")])),
        ("no_parameters", startup(PROTOCOL_3_0, &[])),
        ("no_terminator", untagged(PROTOCOL_3_0, b"user\0talk\0")),
        ("parameter_cut_short", untagged(PROTOCOL_3_0, b"user\0talk\0database")),
        ("too_long", startup(PROTOCOL_3_0, &[("user", "talk"), ("application_name", &long)])),
        ("length_0", vec![0; 8]),
        ("length_7", vec![0, 0, 0, 7, 0, 3, 0]),
        ("length_negative", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("length_2_gib", vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("tls_hello", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0]),
        ("cancel_too_short", untagged(80_877_102, &[0; 4])),
        ("cancel_unknown", untagged(80_877_102, &[1; 8])),
        ("unknown_request", untagged(80_877_199, &[])),
        ("query_first", tagged(b'Q', &cstr("select 1"))),
    ]
}

/// The connection ends the same way; where PostgreSQL says nothing or speaks the old protocol, the proxy may say 08P01.
fn same_end(ground: &Ground, bytes: &[u8]) {
    let expected = end(address(ground.cluster()), bytes);
    let got = end(ground.transaction().address, bytes);
    let allowed: &[&str] = match expected.as_str() {
        "closed" => &["closed", "08P01"],
        "old error" => &["old error", "0A000", "08P01"],
        code => &[code],
    };
    assert!(allowed.contains(&got.as_str()), "PostgreSQL: {expected}, the proxy: {got}");
}

/// How a connection ends: `closed`, `old error` (protocol 2 has no fields), or the SQLSTATE of the error.
fn end(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut wire = Wire::connect(address).expect("connect");
    wire.send(bytes).expect("send");
    // Not every opening is complete for either of them: the end of our side completes them all.
    let _ = wire.socket().shutdown(std::net::Shutdown::Write);
    let mut reply = Vec::new();
    while let Ok(byte) = wire.read_byte() {
        reply.push(byte);
    }
    match reply.as_slice() {
        [] => "closed".to_owned(),
        [b'E', 0, body @ ..] => Message { tag: b'E', body: body[3..].to_vec() }.sqlstate(),
        [b'E', ..] => "old error".to_owned(),
        other => panic!("not the end of a login: {}", other.escape_ascii()),
    }
}

fn log_in(wire: &mut Wire, user: &str, password: &str, database: &str, version: i32) -> (Vec<Message>, bool) {
    wire.send_startup(version, &[("user", user), ("database", database)]).expect("startup");
    let (messages, result) = wire.authenticate(user, password);
    (messages, result.is_ok())
}

fn ask(wire: &mut Wire, request: i32) -> u8 {
    wire.send(&untagged(request, &[])).expect("ask");
    wire.read_byte().expect("an answer")
}

/// In either order, then a login in the clear. (A PostgreSQL built with GSSAPI answers `G`, and then insists.)
fn gssenc(ground: &Ground) {
    let target = ground.transaction();
    for requests in [[GSSENC_REQUEST, SSL_REQUEST], [SSL_REQUEST, GSSENC_REQUEST]] {
        let mut wire = Wire::connect(target.address).expect("connect");
        for request in requests {
            assert_eq!(ask(&mut wire, request), b'N');
        }
        assert!(log_in(&mut wire, &target.user, &target.password, &target.database, PROTOCOL_3_0).1);
        assert_eq!(wire.value("select 1"), "1");
    }
}

fn protocol_3_2(ground: &Ground) {
    let target = ground.transaction();
    let mut wire = Wire::connect(target.address).expect("connect");
    let (messages, ok) = log_in(&mut wire, &target.user, &target.password, &target.database, PROTOCOL_3_2);
    assert!(ok && messages.iter().all(|m| m.tag != b'v'), "{messages:?}");
    let (_, key) = wire.cancel_key.clone().expect("a key");
    assert!((5..=256).contains(&key.len()), "a 3.2 client gets a long key, not {} bytes", key.len());
    assert_eq!(wire.value("select 1"), "1");
}

fn later_minor(ground: &Ground) {
    let target = ground.transaction();
    let mut wire = Wire::connect(target.address).expect("connect");
    let version = PROTOCOL_3_0 + 9;
    let (messages, ok) = log_in(&mut wire, &target.user, &target.password, &target.database, version);
    assert!(ok, "{messages:?}");
    let negotiate = messages.iter().find(|m| m.tag == b'v').expect("NegotiateProtocolVersion");
    assert_eq!(negotiate.to_string(), format!("NegotiateProtocolVersion {PROTOCOL_3_2} []"));
    assert_eq!(wire.value("select 1"), "1");
}

fn unknown_option(ground: &Ground) {
    let target = ground.transaction();
    let mut wire = Wire::connect(target.address).expect("connect");
    let params =
        [("user", target.user.as_str()), ("database", &target.database), ("_pq_.a", "1"), ("_pq_.b", "2")];
    wire.send_startup(PROTOCOL_3_2, &params).expect("startup");
    let (messages, result) = wire.authenticate(&target.user, &target.password);
    assert!(result.is_ok(), "{messages:?}");
    let negotiate = messages.iter().find(|m| m.tag == b'v').expect("NegotiateProtocolVersion");
    assert_eq!(
        negotiate.to_string(),
        format!("NegotiateProtocolVersion {PROTOCOL_3_2} [\"_pq_.a\", \"_pq_.b\"]")
    );
}

/// A proxy for the conversations' database with other options.
fn proxy(ground: &Ground, change: impl FnOnce(&mut ProxyOptions)) -> Proxy {
    let database = ground.conversation().database(ground.cluster(), 3);
    let mut options = ProxyOptions::new(vec![database]);
    change(&mut options);
    Proxy::start(&options)
}

fn tls(ground: &Ground) {
    let certificate = Certificate::new();
    let proxy = proxy(ground, |options| options.tls = Some(certificate.paths()));
    let Tenant { name, password } = ground.conversation();
    let mut wire = Wire::connect(proxy.address).and_then(Wire::start_tls).expect("TLS");
    assert!(log_in(&mut wire, name, password, name, PROTOCOL_3_0).1);
    assert_eq!(wire.value("select repeat('x', 1000000)").len(), 1_000_000);
    // `prefer`: without TLS, too.
    assert_eq!(ground.conversation().login(proxy.address).value("select 1"), "1");
}

/// CVE-2021-3935: what was sent before the handshake would be taken for what came through it.
fn stuffed_ssl_request(ground: &Ground) {
    let certificate = Certificate::new();
    let proxy = proxy(ground, |options| options.tls = Some(certificate.paths()));
    let mut wire = Wire::connect(proxy.address).expect("connect");
    let stuffed = [untagged(SSL_REQUEST, &[]), startup(PROTOCOL_3_0, &[("user", "talk")])].concat();
    wire.send(&stuffed).expect("send");
    let mut answer = Vec::new();
    while let Ok(byte) = wire.read_byte() {
        answer.push(byte);
    }
    assert!(answer.first() != Some(&b'R') && answer.get(1) != Some(&b'R'), "a login was begun: {answer:?}");
}

fn method(ground: &Ground, method: &str) {
    let proxy = proxy(ground, |options| options.auth = Some(method.to_owned()));
    let Tenant { name, password } = ground.conversation();
    assert_eq!(ground.conversation().login(proxy.address).value("select 1"), "1");
    let mut wire = Wire::connect(proxy.address).expect("connect");
    let (messages, ok) = log_in(&mut wire, name, &format!("{password}!"), name, PROTOCOL_3_0);
    assert!(!ok);
    assert_eq!(messages.last().expect("an error").sqlstate(), "28P01");
}

fn trust(ground: &Ground) {
    let proxy = proxy(ground, |options| options.auth = Some("trust".to_owned()));
    let name = &ground.conversation().name;
    let mut wire = Wire::connect(proxy.address).expect("connect");
    assert!(log_in(&mut wire, name, "whatever", name, PROTOCOL_3_0).1);
    assert_eq!(wire.value("select 1"), "1");
}

/// Cloud SQL's salts have 32 bytes; the count is whatever the administrator set. The verifier below is of the password
/// `pencil`, with a salt of 32 bytes and 10 007 iterations, made by PostgreSQL itself from `verifier`.
fn odd_verifier(ground: &Ground) {
    let verifier = crate::support::verifier::scram("pencil", &[7; 32], 10_007);
    let tenant = ground.tenant("odd_salt");
    // PostgreSQL, too, is given the verifier: the proxy's own login meets the same salt and count.
    ground.root("postgres").rows(&format!("alter role odd_salt password '{verifier}'"));
    let database = Database {
        users: vec![("odd_salt".to_owned(), verifier)],
        upstream_login: Some(("odd_salt".to_owned(), "pencil".to_owned())),
        ..tenant.database(ground.cluster(), 2)
    };
    let proxy = Proxy::start(&ProxyOptions::new(vec![database]));
    let mut wire = Wire::login(proxy.address, "odd_salt", "pencil", "odd_salt");
    assert_eq!(wire.value("select 1"), "1");
    let mut wire = Wire::connect(proxy.address).expect("connect");
    assert!(!log_in(&mut wire, "odd_salt", "pencils", "odd_salt", PROTOCOL_3_0).1);
}

fn unknown_user(ground: &Ground) {
    let target = ground.transaction();
    let kinds = ["talk", "nobody", "nobody_else"].map(|user| {
        let mut wire = Wire::connect(target.address).expect("connect");
        let (messages, ok) = log_in(&mut wire, user, "wrong", "talk", PROTOCOL_3_0);
        assert!(!ok);
        let kind = |m: &Message| if m.tag == b'E' { m.sqlstate() } else { m.to_string()[..20].to_owned() };
        messages.iter().map(kind).collect::<Vec<_>>()
    });
    assert_eq!(kinds[0], kinds[1]);
    assert_eq!(kinds[1], kinds[2]);
    // The same unknown user is offered the same salt twice, as a known one is.
    let salts = [0, 1].map(|_| offered_salt(&target, "nobody"));
    assert_eq!(salts[0], salts[1]);
}

fn offered_salt(target: &Target, user: &str) -> String {
    let mut wire = Wire::connect(target.address).expect("connect");
    let (messages, _) = log_in(&mut wire, user, "wrong", "talk", PROTOCOL_3_0);
    let challenge =
        messages.iter().find(|m| m.body.starts_with(&11_u32.to_be_bytes())).expect("SASLContinue");
    let text = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
    text.split(',').filter(|part| !part.starts_with("r=")).collect::<Vec<_>>().join(",")
}

/// Before login a message over 10 KB is refused by its header, not awaited.
fn big_password(ground: &Ground) {
    let mut wire = Wire::connect(ground.transaction().address).expect("connect");
    wire.send_startup(PROTOCOL_3_0, &[("user", "talk")]).expect("startup");
    assert_eq!(wire.read().ok().map(|m| m.tag), Some(b'R'));
    wire.send(&[b'p', 0x3f, 0xff, 0xff, 0xff]).expect("send");
    loop {
        match wire.read() {
            Ok(message) => assert_eq!(message.tag, b'E'),
            Err(Fault::Closed) => return,
            Err(Fault::Broken(error)) => panic!("{error}"),
        }
    }
}

/// The pool's only server is taken; a login does not want one.
fn login_without_server(ground: &Ground) {
    let tenant = ground.tenant("busy_login");
    let options = ProxyOptions {
        max_wait: Some("60s".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)])
    };
    let proxy = Proxy::start(&options);
    let mut holder = tenant.login(proxy.address);
    holder.run("begin");
    let mut others: Vec<Wire> = (0..20).map(|_| tenant.login(proxy.address)).collect();
    holder.run("commit");
    for other in &mut others {
        assert_eq!(other.value("select 1"), "1");
    }
}
