//! Statement mode, limits on clients of one user or database, the proxy's own logins, and messages larger than a buffer.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use loadtest::postgres::{Cluster, ClusterOptions, Hba};

use crate::Test;
use crate::support::ground::{Ground, Tenant, address, eventually, tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::wire::{Message, PROTOCOL_3_0, Wire, cstr, query, sqlstate, tagged};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("modes", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("statement_mode_serves_single_statements", single_statements),
    ("statement_mode_refuses_transactions", no_transactions),
    ("max_clients_of_a_user", user_clients),
    ("max_clients_of_a_database", database_clients),
    ("silence_in_the_login_is_told_of_the_timeout", login_timeout),
    ("login_to_the_server_by_md5", |_| server_login(Hba::Md5, 5)),
    ("login_to_the_server_by_password", |_| server_login(Hba::Password, 3)),
    ("login_to_the_server_by_trust", |_| server_login(Hba::Trust, 0)),
    ("big_query_cut_around_the_buffers_end", |ground| cut_around_buffers(ground, &query(&echo(BIG)))),
    ("big_bind_cut_around_the_buffers_end", |ground| {
        cut_around_buffers(ground, &extended("select $1::text", &[&"x".repeat(BIG)]));
    }),
    ("messages_end_around_the_buffers_end", end_around_buffers),
];

/// A statement of the extended protocol with parameters as text, up to Sync.
fn extended(sql: &str, values: &[&str]) -> Vec<u8> {
    let size = |n: usize| u32::try_from(n).expect("it fits").to_be_bytes().to_vec();
    let mut bind = [cstr(""), cstr(""), vec![0, 0]].concat();
    bind.extend_from_slice(&u16::try_from(values.len()).expect("few").to_be_bytes());
    for value in values {
        bind.extend(size(value.len()));
        bind.extend_from_slice(value.as_bytes());
    }
    bind.extend_from_slice(&[0, 0]);
    [
        tagged(b'P', &[cstr(""), cstr(sql), vec![0, 0]].concat()),
        tagged(b'B', &bind),
        tagged(b'E', &[0; 5]),
        tagged(b'S', &[]),
    ]
    .concat()
}

/// What a client that logs in one time too often is told.
fn refusal(tenant: &Tenant, proxy: &Proxy) -> Message {
    let mut wire = Wire::connect(proxy.address).expect("connect");
    let params = [("user", tenant.name.as_str()), ("database", &tenant.name)];
    wire.send_startup(PROTOCOL_3_0, &params).expect("startup");
    let (mut messages, result) = wire.authenticate(&tenant.name, &tenant.password);
    assert!(result.is_err(), "it was let in: {messages:?}");
    wire.read_to_close();
    messages.pop().expect("an error")
}

/// Severity, SQLSTATE and the detail's first word.
fn fatal(error: &Message) -> [String; 3] {
    let detail = error.field(b'D').unwrap_or_default();
    let reason = detail.split(' ').next().unwrap_or_default().to_owned();
    [error.field(b'V').unwrap_or_default(), error.sqlstate(), reason]
}

/// A pool of one in statement mode.
fn statement_mode(ground: &Ground, name: &str) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    let database = Database { mode: "statement".to_owned(), ..tenant.database(ground.cluster(), 1) };
    let options = ProxyOptions { max_wait: Some("60s".to_owned()), ..ProxyOptions::new(vec![database]) };
    (tenant, Proxy::start(&options))
}

/// Two clients take turns, statement by statement, on one server connection.
fn single_statements(ground: &Ground) {
    let (tenant, proxy) = statement_mode(ground, "single_statements");
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    clients[0].rows("create table seen (a int)");
    let mut backends = Vec::new();
    for _ in 0..3 {
        for client in &mut clients {
            client.rows("insert into seen values (1)");
            client.send(&extended("insert into seen values ($1::int)", &["2"])).expect("send");
            assert_eq!(sqlstate(&client.ready()), None);
            assert_eq!(sqlstate(&client.run("select 1/0")).as_deref(), Some("22012"));
            backends.push(client.value("select pg_backend_pid()"));
        }
    }
    assert_eq!(clients[0].value("select count(*) from seen"), "12");
    backends.dedup();
    assert_eq!(backends.len(), 1, "{backends:?}");
}

fn no_transactions(ground: &Ground) {
    let (tenant, proxy) = statement_mode(ground, "no_transactions");
    tenant.login(proxy.address).rows("create table undone (a int)");
    let openings = [query("begin"), query("begin; insert into undone values (1)"), extended("begin", &[])];
    for opening in openings {
        let mut client = tenant.login(proxy.address);
        client.send(&opening).expect("send");
        let replies = client.read_to_close();
        let error = replies.last().filter(|message| message.tag == b'E').expect("an error");
        assert_eq!(fatal(error)[..2], ["FATAL", "0A000"]);
        // The pool's only place is free again, and whatever was begun is undone.
        assert_eq!(tenant.login(proxy.address).value("select count(*) from undone"), "0");
        assert_nothing_open(ground, &tenant);
    }
}

fn assert_nothing_open(ground: &Ground, tenant: &Tenant) {
    let sql = format!(
        "select count(*) from pg_stat_activity where usename = '{}' and xact_start is not null",
        tenant.name
    );
    let mut root = ground.root("postgres");
    eventually("no transaction is open", || root.value(&sql) == "0");
}

fn user_clients(ground: &Ground) {
    let (tenant, other) = (ground.tenant("user_clients"), ground.tenant("user_clients_other"));
    let databases = [&tenant, &other].map(|tenant| tenant.database(ground.cluster(), 1));
    let options = ProxyOptions { max_user_clients: Some(2), ..ProxyOptions::new(databases.to_vec()) };
    let proxy = Proxy::start(&options);
    assert_two_at_once(&tenant, &proxy, "reason=max_user_clients", || {
        assert_eq!(other.login(proxy.address).value("select 1"), "1");
    });
}

fn database_clients(ground: &Ground) {
    let (tenant, other) = (ground.tenant("database_clients"), ground.tenant("database_clients_other"));
    let limited = Database { max_clients: Some(2), ..tenant.database(ground.cluster(), 1) };
    let proxy = Proxy::start(&ProxyOptions::new(vec![limited, other.database(ground.cluster(), 1)]));
    assert_two_at_once(&tenant, &proxy, "reason=max_database_clients", || {
        assert_eq!(other.login(proxy.address).value("select 1"), "1");
    });
}

/// The third client is refused; others, whom the limit does not concern, are not; when one has left, the next is let in.
fn assert_two_at_once(tenant: &Tenant, proxy: &Proxy, reason: &str, others: impl Fn()) {
    let clients = || proxy.metric("pgcorral_clients{");
    let mut first = tenant.login(proxy.address);
    let second = tenant.login(proxy.address);
    for _ in 0..3 {
        assert_eq!(fatal(&refusal(tenant, proxy)), ["FATAL", "53300", reason]);
    }
    others();
    assert_eq!(first.value("select 1"), "1");
    eventually("the others are gone", || clients() == 2.0);
    drop(second);
    eventually("there is room", || clients() == 1.0);
    let mut next = tenant.login(proxy.address);
    assert_eq!(next.value("select 1"), "1");
    assert_eq!(fatal(&refusal(tenant, proxy)), ["FATAL", "53300", reason]);
}

fn login_timeout(ground: &Ground) {
    let tenant = ground.tenant("login_silence");
    let database = tenant.database(ground.cluster(), 1);
    let timeout = Some("300ms".to_owned());
    let proxy = Proxy::start(&ProxyOptions { login_timeout: timeout, ..ProxyOptions::new(vec![database]) });
    let mut wire = Wire::connect(proxy.address).expect("connect");
    wire.send_startup(PROTOCOL_3_0, &[("user", &tenant.name)]).expect("startup");
    let replies = wire.read_to_close();
    let error = replies.last().filter(|message| message.tag == b'E').expect("an error");
    assert_eq!(fatal(error), ["FATAL", "57P05", "reason=login_timeout"]);
}

/// The proxy logs in the way that the server asks for: by its request's `code`.
fn server_login(hba: Hba, code: i32) {
    let options = ClusterOptions { max_connections: 20, hba, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).unwrap_or_else(|error| panic!("{error}"));
    let tenant = tenant(&cluster, "server_login");
    let mut direct = Wire::connect(address(&cluster)).expect("connect");
    direct.send_startup(PROTOCOL_3_0, &[("user", &tenant.name)]).expect("startup");
    let asked = direct.read().expect("a request");
    assert_eq!((asked.tag, asked.body.get(..4)), (b'R', Some(&code.to_be_bytes()[..])));

    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(&cluster, 1)]));
    assert_eq!(tenant.login(proxy.address).value("select current_user"), tenant.name);
}

/// Enough for the first part to be read before the second is there. Too short on a busy machine is no failure: it
/// only makes the test easier.
const PAUSE: Duration = Duration::from_micros(500);

/// Around the ends of the first and the second relay buffer of 16 KiB.
const ENDS: [RangeInclusive<usize>; 2] = [16_384 - 20..=16_384 + 20, 32_768 - 20..=32_768 + 20];

/// Length of a literal that goes beyond both, there and back.
const BIG: usize = 33_000;

fn echo(size: usize) -> String {
    format!("select '{}'", "x".repeat(size))
}

/// What comes back is what PostgreSQL says when nothing is cut.
fn cut_around_buffers(ground: &Ground, bytes: &[u8]) {
    let tenant = ground.conversation();
    let mut direct = tenant.login(address(ground.cluster()));
    direct.send(bytes).expect("send");
    let expected = direct.ready();
    assert!(expected.iter().any(|message| message.tag == b'D' && message.body.len() > BIG));
    let mut wire = tenant.login(ground.transaction().address);
    for cut in ENDS.into_iter().flatten() {
        wire.send(&bytes[..cut]).expect("the first part");
        std::thread::sleep(PAUSE);
        wire.send(&bytes[cut..]).expect("the second part");
        assert!(wire.ready() == expected, "other replies when cut at byte {cut}");
    }
}

/// The last byte of the Query, or of the row, is near the buffer's end; so are the headers of what follows it.
fn end_around_buffers(ground: &Ground) {
    let tenant = ground.conversation();
    let mut direct = tenant.login(address(ground.cluster()));
    let mut wire = tenant.login(ground.transaction().address);
    for end in ENDS.into_iter().flatten() {
        // Up to 60 bytes of messages stand before the text in either direction.
        for size in [end - 60, end - 40, end - 20, end] {
            let two = [query(&echo(size)), query("select 'next'")].concat();
            let [expected, got] = [&mut direct, &mut wire].map(|peer| {
                peer.send(&two).expect("send");
                [peer.ready(), peer.ready()]
            });
            assert!(got == expected, "other replies for a text of {size} bytes");
        }
    }
}
