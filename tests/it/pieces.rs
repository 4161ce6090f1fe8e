//! Messages that come in pieces and are not passed on as they are: what of them is still to come is no protocol.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, Tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::requests::{Request, bytes, execution, statement};
use crate::support::wire::{Message, Wire, cstr, query, sqlstate, tagged};

/// Enough for the first piece to be read before the second is there.
const PAUSE: Duration = Duration::from_millis(20);
/// Longer than what is looked into whole.
const LONG: usize = 40_000;

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("pieces", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("of_a_query_that_is_refused", refused_query),
    ("of_a_parse_that_is_refused", refused_parse),
    ("of_a_bind_that_is_refused", refused_bind),
    ("of_a_deallocate_all", deallocate_all),
    ("of_what_is_answered_by_nothing", unanswered),
    ("of_a_query_whose_client_leaves", left),
];

/// A pool of one, whose clients may keep nothing.
fn start(ground: &Ground, name: &str) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    ground.root(name).rows(&format!("create table hit (a int); grant all on hit to {name}"));
    let pins = ["listen", "sql_prepare"].map(|reason| (reason.to_owned(), "reject".to_owned()));
    let database = Database { pins: pins.into(), ..tenant.database(ground.cluster(), 1) };
    let options = ProxyOptions { max_wait: Some("60s".to_owned()), ..ProxyOptions::new(vec![database]) };
    (tenant, Proxy::start(&options))
}

/// Bytes that are a message if they are taken for one, and would be seen to have been.
fn crafted() -> Vec<u8> {
    let mut bytes = query("insert into hit values (1)");
    while bytes.len() < LONG {
        bytes.extend_from_within(..);
    }
    bytes
}

/// A message whose body begins with `front` and goes on with what reads as messages. With it comes where that begins.
fn trap(tag: u8, front: &[u8], behind: &[u8]) -> (Vec<u8>, usize) {
    let message = tagged(tag, &[front, &crafted(), behind].concat());
    (message, 5 + front.len())
}

fn send_cut(wire: &mut Wire, bytes: &[u8], cut: usize) {
    for piece in [&bytes[..cut], &bytes[cut..]] {
        wire.send(piece).expect("a piece");
        std::thread::sleep(PAUSE);
    }
}

/// The message is refused, nothing in it was run, and both its client and the next one are served.
fn assert_refused(tenant: &Tenant, proxy: &Proxy, wire: &mut Wire, replies: &[Message], place: &str) {
    assert_eq!(sqlstate(replies).as_deref(), Some("0A000"), "{place}: {replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.tag == b'E').count(), 1, "{place}: {replies:?}");
    assert_eq!(tenant.login(proxy.address).value("select count(*) from hit"), "0", "{place}");
    assert_eq!(wire.value("select 'goes on'"), "goes on", "{place}");
}

fn refused_query(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pieces_query");
    let mut wire = tenant.login(proxy.address);
    // The text ends at the first NUL; PostgreSQL would say so, if it were asked.
    let (message, at) = trap(b'Q', b"listen nobody; select '", b"'\0");
    for cut in [at, at + 31, at + 20_000, message.len() - 1] {
        send_cut(&mut wire, &message, cut);
        let replies = wire.ready();
        assert_refused(&tenant, &proxy, &mut wire, &replies, &format!("cut at {cut}"));
        // In a transaction, and with another message behind it at once.
        wire.rows("begin");
        send_cut(&mut wire, &[&message[..], &query("rollback")].concat(), cut);
        let mut replies = wire.ready();
        replies.extend(wire.ready());
        assert_refused(&tenant, &proxy, &mut wire, &replies, &format!("in a transaction, cut at {cut}"));
    }
}

fn refused_parse(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pieces_parse");
    let mut wire = tenant.login(proxy.address);
    let (message, at) = trap(b'P', b"name\0select '", b"'\0\0\0");
    let batch = [message.clone(), bytes(&execution("name", &[]))].concat();
    for cut in [at, at + 31, at + 20_000, message.len() - 1, message.len() + 3] {
        send_cut(&mut wire, &batch, cut);
        let replies = wire.ready();
        assert_refused(&tenant, &proxy, &mut wire, &replies, &format!("cut at {cut}"));
    }
    // A name that is longer than what is looked into.
    let (message, at) = trap(b'P', &[b'n'; 10_000], b"\0select 1\0\0\0");
    send_cut(&mut wire, &[message, bytes(&[Request::Sync])].concat(), at);
    let replies = wire.ready();
    assert_refused(&tenant, &proxy, &mut wire, &replies, "a long name");
}

/// What the client knows of its statement's result is out of date.
fn refused_bind(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pieces_bind");
    let mut root = ground.root("pieces_bind");
    root.rows("create table changing (a int); grant all on changing to pieces_bind");
    let mut wire = tenant.login(proxy.address);
    let prepared = bytes(&statement("s", "select changing.*, length($1::text) from changing", &["1"]));
    wire.send(&prepared).expect("send");
    assert_eq!(sqlstate(&wire.ready()), None);
    root.rows("alter table changing add b int");
    wire.send(&bytes(&execution("s", &["1"]))).expect("send");
    assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("0A000"), "the change was not seen");
    // The unnamed portal, the statement, no formats, one value.
    let length = u32::try_from(crafted().len()).expect("short").to_be_bytes();
    let front = [cstr(""), cstr("s"), vec![0, 0, 0, 1], length.to_vec()].concat();
    let (message, at) = trap(b'B', &front, &[0, 0]);
    let batch = [message.clone(), bytes(&[Request::execute(), Request::Sync])].concat();
    for cut in (1..at + 2).chain([at + 20_000, message.len() - 1, message.len() + 3]) {
        send_cut(&mut wire, &batch, cut);
        let replies = wire.ready();
        assert_refused(&tenant, &proxy, &mut wire, &replies, &format!("cut at {cut}"));
    }
}

/// It is not replaced where there may be more behind it.
fn deallocate_all(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pieces_all");
    let (mut wire, mut other) = (tenant.login(proxy.address), tenant.login(proxy.address));
    for (number, end) in ["", "; select 'behind'"].iter().enumerate() {
        for wire in [&mut wire, &mut other] {
            let name = format!("s{number}");
            wire.send(&bytes(&statement(&name, "select 'kept'", &[]))).expect("send");
            assert_eq!(sqlstate(&wire.ready()), None);
        }
        let sql = format!("deallocate all{}{end}", " ".repeat(LONG));
        send_cut(&mut wire, &query(&sql), 20_000);
        let replies = wire.ready();
        assert_eq!(sqlstate(&replies), None, "{replies:?}");
        assert_eq!(replies.iter().filter(|reply| reply.tag == b'D').count(), number, "{replies:?}");
        other.send(&bytes(&execution(&format!("s{number}"), &[]))).expect("send");
        assert_eq!(sqlstate(&other.ready()), None, "what another client has prepared is gone");
    }
}

/// Outside a COPY PostgreSQL ignores CopyData. What the proxy has to say goes in front of it or behind it.
fn unanswered(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pieces_copy");
    let mut wire = tenant.login(proxy.address);
    wire.send(&bytes(&[Request::parse("s", "select 1"), Request::Sync])).expect("send");
    wire.ready();
    let (message, at) = trap(b'd', b"ignored", b"");
    // Such a name is there already: to PostgreSQL, too, but only for this message.
    let batch = bytes(&[Request::parse("s", "select 2"), Request::Sync]);
    for cut in [5, 6, at, at + 20_000] {
        for transaction in ["select 1", "begin"] {
            wire.rows(transaction);
            send_cut(&mut wire, &[&batch[..], &message].concat(), batch.len() + cut);
            assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("42P05"), "{transaction}, cut at {cut}");
            wire.rows("rollback");
            assert_eq!(wire.value("select count(*) from hit"), "0", "{transaction}, cut at {cut}");
        }
    }
}

/// The server connection of a client whose refused message is half there is free.
fn left(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pieces_left");
    let (message, at) = trap(b'Q', b"listen nobody; select '", b"'\0");
    let pid = tenant.login(proxy.address).value("select pg_backend_pid()");
    for linger in [None, Some(Duration::ZERO)] {
        let mut wire = tenant.login(proxy.address);
        wire.send(&message[..at + 10_000]).expect("a piece");
        assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("0A000"));
        assert_eq!(tenant.login(proxy.address).value("select pg_backend_pid()"), pid, "it is not free");
        socket2::SockRef::from(wire.socket()).set_linger(linger).expect("linger");
        drop(wire);
        assert_eq!(tenant.login(proxy.address).value("select pg_backend_pid()"), pid, "it was closed");
        assert_eq!(tenant.login(proxy.address).value("select count(*) from hit"), "0");
    }
}
