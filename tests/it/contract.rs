//! The overload contract: what a refusal looks like, when it comes, and that DETAIL, metric and log say the same word.

use std::sync::Arc;

use libtest_mimic::Trial;
use rustix::process::Signal;

use crate::Test;
use crate::support::certificate::Certificate;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::held::Held;
use crate::support::proxy::{Proxy, ProxyOptions};
use crate::support::wire::{
    Message, PROTOCOL_3_0, SSL_REQUEST, Wire, cstr, query, sqlstate, tagged, untagged,
};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("contract", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("a_shed_says_when_to_retry", says_when),
    ("pauses_differ", pauses_differ),
    ("each_sync_is_answered_once", each_sync),
    ("simple_and_extended_in_one_write", mixed),
    ("nothing_is_shed_within_a_transaction", within_a_transaction),
    ("a_failed_transaction_keeps_its_status", failed_transaction),
    ("the_same_word_everywhere", same_word),
    ("a_login_is_refused_with_the_same_words", login),
    ("no_plain_text_before_tls", before_tls),
    ("a_drain_says_when_to_come_back", drain),
    ("no_server_says_when_to_come_back", no_server),
];

/// How long others wait for the server connection that a client holds.
const MAX_WAIT: &str = "200ms";

/// The word behind `name=` in an error's DETAIL.
fn word(error: &Message, name: &str) -> String {
    let detail = error.field(b'D').unwrap_or_default();
    let found = detail.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {detail:?}")).to_owned()
}

fn retry_after_ms(error: &Message) -> u64 {
    word(error, "retry_after_ms").parse().expect("milliseconds")
}

/// SQLSTATE, severity and reason.
fn summary(error: &Message) -> [String; 3] {
    [error.sqlstate(), error.field(b'V').unwrap_or_default(), word(error, "reason")]
}

/// What the replies are, up to the first ReadyForQuery.
fn kinds(replies: &[Message]) -> String {
    replies.iter().map(|reply| char::from(reply.tag)).collect()
}

fn says_when(ground: &Ground) {
    let held = Held::start(ground, "contract_when", MAX_WAIT);
    let replies = held.login().run("insert into ran values (1)");
    assert_eq!(kinds(&replies), "EZ");
    assert_eq!(summary(&replies[0]), ["53300", "ERROR", "queue_timeout"]);
    assert_eq!(word(&replies[0], "pool"), format!("{0}/{0}", held.tenant.name));
    assert!(word(&replies[0], "wait_ms").parse::<u64>().is_ok_and(|ms| ms >= 200), "{replies:?}");
    assert!(replies[0].field(b'H').is_some_and(|hint| hint.ends_with('.')), "{replies:?}");
    assert!(retry_after_ms(&replies[0]) >= 25, "{replies:?}");
    assert_eq!(replies[1].to_string(), "ReadyForQuery I");
}

fn pauses_differ(ground: &Ground) {
    let held = Held::start(ground, "contract_jitter", MAX_WAIT);
    let mut waiters: Vec<Wire> = (0..16).map(|_| held.login()).collect();
    for waiter in &mut waiters {
        waiter.query("select 1").expect("send");
    }
    let mut pauses: Vec<u64> = waiters.iter_mut().map(|waiter| retry_after_ms(&waiter.ready()[0])).collect();
    pauses.sort_unstable();
    pauses.dedup();
    assert!(pauses.len() > 4, "who was refused together comes back together: {pauses:?}");
}

fn insert(value: u32) -> Vec<u8> {
    let sql = format!("insert into ran values ({value})");
    [
        tagged(b'P', &[cstr(""), cstr(&sql), vec![0, 0]].concat()),
        tagged(b'B', &[0; 8]),
        tagged(b'D', b"P\0"),
        tagged(b'E', &[0; 5]),
    ]
    .concat()
}

fn sync() -> Vec<u8> {
    tagged(b'S', &[])
}

/// Batches of several statements, and in pieces: one error and one ReadyForQuery for each Sync, and nothing for what
/// comes before it.
fn each_sync(ground: &Ground) {
    let mut held = Held::start(ground, "contract_sync", MAX_WAIT);
    let mut waiter = held.login();
    let batches = [
        [insert(1), insert(2), sync()].concat(),
        [insert(3), tagged(b'H', &[]), insert(4), tagged(b'C', b"S\0"), sync()].concat(),
        sync(),
        [insert(5), sync()].concat(),
    ];
    let bytes = batches.concat();
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    waiter.send(first).expect("send");
    std::thread::sleep(std::time::Duration::from_millis(20));
    waiter.send(rest).expect("send");
    let answers: Vec<String> = batches.iter().map(|_| kinds(&waiter.ready())).collect();
    // A Sync with nothing before it has nothing that could be refused.
    assert_eq!(answers, ["EZ", "EZ", "Z", "EZ"]);
    held.holder.run("commit");
    assert_eq!(waiter.value("select count(*) from ran"), "0");
}

fn mixed(ground: &Ground) {
    let mut held = Held::start(ground, "contract_mixed", MAX_WAIT);
    let mut waiter = held.login();
    let bytes = [query("insert into ran values (1)"), insert(2), sync(), query("select 1")].concat();
    waiter.send(&bytes).expect("send");
    let answers: Vec<String> = (0..3).map(|_| kinds(&waiter.ready())).collect();
    assert_eq!(answers, ["EZ"; 3]);
    held.holder.run("commit");
    assert_eq!(waiter.value("select count(*) from ran"), "0");
}

/// Who has a server connection is never told that there is none, however many others wait and are refused.
fn within_a_transaction(ground: &Ground) {
    let mut held = Held::start(ground, "contract_within", MAX_WAIT);
    for round in 0..3 {
        let mut others: Vec<Wire> = (0..4).map(|_| held.login()).collect();
        for other in &mut others {
            other.query("select 1").expect("send");
        }
        let sql = format!("insert into ran values ({round}); select pg_sleep(0.3)");
        let replies = held.holder.run(&sql);
        assert_eq!(sqlstate(&replies), None);
        assert_eq!(replies.last().map(ToString::to_string).as_deref(), Some("ReadyForQuery T"));
        for other in &mut others {
            assert_eq!(sqlstate(&other.ready()).as_deref(), Some("53300"));
        }
    }
    held.holder.run("commit");
    assert_eq!(held.login().value("select count(*) from ran"), "3");
}

/// A transaction that the proxy has ended is failed to its client until it says ROLLBACK, also while its next message is
/// refused.
fn failed_transaction(ground: &Ground) {
    let tenant = ground.tenant("contract_failed");
    let options = ProxyOptions {
        max_wait: Some("100ms".to_owned()),
        timeouts_extra: vec!["idle_in_transaction_timeout = \"200ms\"".to_owned()],
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)])
    };
    let proxy = Proxy::start(&options);
    let mut client = tenant.login(proxy.address);
    client.run("begin; select 1");
    eventually("its transaction is ended", || {
        proxy.metric("pgcorral_timeouts_total{") == 1.0 && proxy.metric("pgcorral_pool_limit{") == 1.0
    });
    let mut other = tenant.login(proxy.address);
    other.query("select pg_sleep(0.5)").expect("send");
    eventually("the other runs", || proxy.metric("pgcorral_clients{state=\"active\"}") == 1.0);
    let replies = client.run("select 1");
    assert_eq!(summary(&replies[0]), ["25P03", "ERROR", "idle_in_transaction_timeout"]);
    assert_eq!(replies[1].to_string(), "ReadyForQuery E");
    let replies = client.run("select 1");
    assert_eq!(summary(&replies[0]), ["53300", "ERROR", "queue_timeout"]);
    assert_eq!(replies[1].to_string(), "ReadyForQuery E");
    other.ready();
    assert_eq!(sqlstate(&client.run("select 1")).as_deref(), Some("25P02"));
    assert_eq!(sqlstate(&client.run("rollback")), None);
}

fn same_word(ground: &Ground) {
    let held = Held::start(ground, "contract_word", MAX_WAIT);
    let reason = word(&held.login().run("select 1")[0], "reason");
    let series = format!(
        "pgcorral_sheds_total{{database=\"{0}\",reason=\"{reason}\",user=\"{0}\"}}",
        held.tenant.name
    );
    assert_eq!(held.proxy.metric(&series), 1.0);
    let log = held.proxy.into_whole_log();
    let line = log.lines().find(|line| line.contains("transactions shed")).expect("a line about it");
    assert!(line.contains(&format!("reason=\"{reason}\"")), "{line}");
}

/// Logs in and is refused; the last message.
fn refused(proxy: &Proxy, tenant: &Tenant) -> Message {
    let mut wire = Wire::connect(proxy.address).expect("connect");
    wire.send_startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)]).expect("startup");
    let (mut seen, _) = wire.authenticate(&tenant.name, &tenant.password);
    seen.pop().expect("an error")
}

fn login(ground: &Ground) {
    let tenant = ground.tenant("contract_login");
    let proxy = Proxy::start(&ProxyOptions {
        max_clients: Some(1),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)])
    });
    let _client = tenant.login(proxy.address);
    let error = refused(&proxy, &tenant);
    assert_eq!(summary(&error), ["53300", "FATAL", "max_clients"]);
    assert_eq!(word(&error, "limit"), "1");
    assert!((500..=1500).contains(&retry_after_ms(&error)), "{error:?}");
    assert_eq!(proxy.metric("pgcorral_client_connections_refused_total{reason=\"max_clients\"}"), 1.0);
    let log = proxy.into_whole_log();
    let line = log.lines().find(|line| line.contains("logins failed")).expect("a line about it");
    assert!(line.contains("reason=\"max_clients\""), "{line}");
}

/// A client that asks for TLS gets its answer to that, and every error behind the handshake.
fn before_tls(ground: &Ground) {
    let tenant = ground.tenant("contract_tls");
    let certificate = Certificate::new();
    let proxy = Proxy::start(&ProxyOptions {
        max_clients: Some(1),
        login_timeout: Some("2s".to_owned()),
        tls: Some(certificate.paths()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)])
    });
    let _client = tenant.login(proxy.address);
    // The only byte in plain text is the `S`.
    let mut asking = Wire::connect(proxy.address).expect("connect");
    asking.send(&untagged(SSL_REQUEST, &[])).expect("send");
    assert_eq!(asking.read_byte().expect("an answer"), b'S');
    assert!(asking.read_to_close().is_empty(), "said in plain text at the end of its time");
    let mut wire = Wire::connect(proxy.address).expect("connect").start_tls().expect("TLS");
    wire.send_startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)]).expect("startup");
    let seen = wire.read_to_close();
    assert_eq!(seen.last().map(summary), Some(["53300", "FATAL", "max_clients"].map(str::to_owned)));
}

fn drain(ground: &Ground) {
    let mut held = Held::start(ground, "contract_drain", MAX_WAIT);
    let mut idle = held.login();
    idle.run("select 1");
    held.proxy.signal(Signal::TERM);
    let seen = idle.read_to_close();
    let error = seen.last().expect("a last word");
    assert_eq!(summary(error), ["57P01", "FATAL", "shutdown"]);
    assert!((250..=750).contains(&retry_after_ms(error)), "{error:?}");
    held.holder.run("commit");
}

fn no_server(ground: &Ground) {
    let tenant = ground.tenant("contract_no_server");
    let mut database = tenant.database(ground.cluster(), 1);
    database.server_database = "contract_there_is_none".to_owned();
    let proxy = Proxy::start(&ProxyOptions::new(vec![database]));
    let error = refused(&proxy, &tenant);
    assert_eq!(summary(&error), ["08001", "FATAL", "no_server"]);
    assert!((25..=750).contains(&retry_after_ms(&error)), "{error:?}");
    assert!(error.field(b'D').is_some_and(|detail| detail.contains(" cause=")), "{error:?}");
    assert_eq!(proxy.metric("pgcorral_client_connections_refused_total{reason=\"no_server\"}"), 1.0);
    assert_eq!(proxy.metric("pgcorral_logins_total{result=\"no_server\"}"), 1.0);
}
