//! Clients that wait for a server: those who leave never run, those who wait too long are told so inside the session.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::held::Held;
use crate::support::wire::{Message, Wire, cstr, query, sqlstate, tagged};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("queue", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("lesson_12_gone_waiter_never_runs", gone_waiters),
    ("lesson_12_terminate_behind_a_buffered_query", terminate_behind),
    ("lesson_02_leaving_at_the_moment_of_the_grant", leaving_at_the_grant),
    ("overload_is_an_error_inside_the_session", overload),
    ("overload_extended_answers_once_per_sync", overload_extended),
    ("overload_is_never_within_a_transaction", overload_outside_transactions),
    ("lesson_05_exhaustion_is_not_server_down", exhaustion),
    ("a_batch_without_sync_keeps_its_server", batch_without_sync),
    ("large_query_waits_in_bounded_memory", large_waiter),
    ("lesson_12_gone_waiter_with_a_large_query_never_runs", gone_large_waiters),
];

fn gone_waiters(ground: &Ground) {
    let mut held = Held::start(ground, "gone_waiters", "10min");
    let mut waiters: Vec<Wire> = (0..30).map(|_| held.login()).collect();
    for waiter in &mut waiters {
        waiter.query("insert into ran values (1)").expect("send");
    }
    eventually("all wait", || held.depth() == 30.0);
    for (number, waiter) in waiters.into_iter().enumerate() {
        // Half of them with a FIN, half with an RST.
        if number % 2 == 0 {
            let socket = socket2::SockRef::from(waiter.socket());
            socket.set_linger(Some(Duration::ZERO)).expect("linger");
        }
    }
    eventually("nobody waits", || held.depth() == 0.0);
    held.holder.run("commit");
    assert_eq!(held.login().value("select count(*) from ran"), "0");
}

/// More than the proxy reads ahead: their end stands behind bytes that it leaves in the socket.
fn gone_large_waiters(ground: &Ground) {
    // Longer than we watch, or they would be gone for that reason.
    let mut held = Held::start(ground, "gone_large", "10min");
    let sql = format!("insert into ran values (length('{}'))", "x".repeat(40_000));
    let mut waiters: Vec<Wire> = (0..10).map(|_| held.login()).collect();
    for waiter in &mut waiters {
        waiter.query(&sql).expect("send");
    }
    eventually("all wait", || held.depth() == 10.0);
    for (number, waiter) in waiters.into_iter().enumerate() {
        // Half of them with a FIN, half with an RST.
        if number % 2 == 0 {
            let socket = socket2::SockRef::from(waiter.socket());
            socket.set_linger(Some(Duration::ZERO)).expect("linger");
        }
    }
    eventually("nobody waits", || held.depth() == 0.0);
    held.holder.run("commit");
    assert_eq!(held.login().value("select count(*) from ran"), "0");
}

fn terminate_behind(ground: &Ground) {
    let mut held = Held::start(ground, "terminate_behind", "60s");
    for _ in 0..10 {
        let mut waiter = held.login();
        let bytes = [query("insert into ran values (1)"), tagged(b'X', &[])].concat();
        waiter.send(&bytes).expect("send");
        // The socket stays open until the proxy closes it: only the Terminate says goodbye.
        std::thread::spawn(move || waiter.read_to_close());
    }
    eventually("all clients but the holder are gone", || held.proxy.metric("pgcorral_clients{") == 1.0);
    held.holder.run("commit");
    assert_eq!(held.login().value("select count(*) from ran"), "0");
}

/// Waiters leave while servers are handed to them; afterwards the server is still there.
fn leaving_at_the_grant(ground: &Ground) {
    let mut held = Held::start(ground, "leaving", "60s");
    for round in 0..30 {
        let mut leaving = held.login();
        let mut staying = held.login();
        leaving.query("select 1").expect("send");
        staying.query(&format!("select 'round {round}'")).expect("send");
        eventually("both wait", || held.depth() == 2.0);
        held.holder.query("commit").expect("send");
        drop(leaving);
        let replies = staying.ready();
        let row = replies.iter().find(|m| m.tag == b'D').expect("a row");
        assert_eq!(row.columns()[0], Some(format!("round {round}")));
        held.holder.ready();
        held.holder.run("begin; select 1");
    }
}

/// `reason=queue_timeout pool=<database>/<user> wait_ms=<number>`
fn assert_overload(message: &Message, tenant: &Tenant) {
    assert_eq!(message.field(b'V').as_deref(), Some("ERROR"));
    assert_eq!(message.sqlstate(), "53300");
    let detail = message.field(b'D').unwrap_or_default();
    let expected = format!("reason=queue_timeout pool={0}/{0} wait_ms=", tenant.name);
    let wait = detail.strip_prefix(&expected).unwrap_or_else(|| panic!("DETAIL is {detail:?}"));
    let digits: String = wait.chars().take_while(char::is_ascii_digit).collect();
    assert!(digits.parse::<u64>().is_ok_and(|ms| ms >= 100), "DETAIL is {detail:?}");
}

fn overload(ground: &Ground) {
    let mut held = Held::start(ground, "overload", "100ms");
    let mut waiter = held.login();
    for _ in 0..3 {
        let replies = waiter.run("insert into ran values (1)");
        assert_eq!(replies.len(), 2, "{replies:?}");
        assert_overload(&replies[0], &held.tenant);
        assert_eq!(replies[1].to_string(), "ReadyForQuery I");
    }
    held.holder.run("commit");
    assert_eq!(waiter.value("select count(*) from ran"), "0");
}

fn overload_extended(ground: &Ground) {
    let mut held = Held::start(ground, "overload_ext", "100ms");
    let mut waiter = held.login();
    let one = [
        tagged(b'P', &[cstr(""), cstr("insert into ran values (1)"), vec![0, 0]].concat()),
        tagged(b'B', &[0; 8]),
        tagged(b'D', b"P\0"),
        tagged(b'E', &[0; 5]),
        tagged(b'S', &[]),
    ]
    .concat();
    waiter.send(&one.repeat(3)).expect("send");
    for _ in 0..3 {
        let replies = waiter.ready();
        assert_eq!(replies.len(), 2, "{replies:?}");
        assert_overload(&replies[0], &held.tenant);
    }
    held.holder.run("commit");
    assert_eq!(waiter.value("select count(*) from ran"), "0");
}

fn overload_outside_transactions(ground: &Ground) {
    let mut held = Held::start(ground, "overload_tx", "100ms");
    let mut others: Vec<Wire> = (0..5).map(|_| held.login()).collect();
    for other in &mut others {
        other.query("select 1").expect("send");
    }
    for other in &mut others {
        assert_eq!(sqlstate(&other.ready()).as_deref(), Some("53300"));
        // Who is in a transaction goes on undisturbed.
        assert_eq!(held.holder.value("select 'inside'"), "inside");
    }
    held.holder.run("commit");
}

fn exhaustion(ground: &Ground) {
    let held = Held::start(ground, "exhaustion", "50ms");
    let mut waiter = held.login();
    for _ in 0..5 {
        assert_eq!(sqlstate(&waiter.run("select 1")).as_deref(), Some("53300"));
        assert_eq!(held.proxy.get("/readyz").0, 200);
    }
}

/// Parse, Bind and Execute, all answered thanks to Flush: the implicit transaction is open until Sync, and nobody else
/// may come in between.
fn batch_without_sync(ground: &Ground) {
    let mut held = Held::start(ground, "batch", "60s");
    held.holder.run("commit");
    let parse = tagged(b'P', &[cstr(""), cstr("insert into ran values (1)"), vec![0, 0]].concat());
    let (bind, execute) = (tagged(b'B', &[0; 8]), tagged(b'E', &[0; 5]));
    let (flush, sync) = (tagged(b'H', &[]), tagged(b'S', &[]));
    let mut batch = held.login();
    batch.send(&[parse, flush.clone()].concat()).expect("send");
    batch.read_until(b'1').expect("ParseComplete");
    let mut other = held.login();
    other.query("select count(*) from ran").expect("send");
    eventually("the other waits", || held.depth() == 1.0);
    batch.send(&[bind, execute, flush].concat()).expect("send");
    batch.read_until(b'C').expect("CommandComplete");
    assert!(held.depth() == 1.0);
    batch.send(&sync).expect("send");
    batch.ready();
    let replies = other.ready();
    let row = replies.iter().find(|m| m.tag == b'D').expect("a row");
    assert_eq!(row.columns()[0].as_deref(), Some("1"));
}

/// A client that waits with ten megabytes in its hand is not read beyond a buffer, and loses nothing.
fn large_waiter(ground: &Ground) {
    let mut held = Held::start(ground, "large_waiter", "60s");
    let before = held.proxy.resident_kib();
    let mut waiters: Vec<Wire> = (0..10).map(|_| held.login()).collect();
    let sql = format!("select length('{}')", "x".repeat(10_000_000));
    for waiter in &mut waiters {
        waiter.query(&sql).expect("send");
    }
    eventually("all wait", || held.depth() == 10.0);
    let grown = held.proxy.resident_kib().saturating_sub(before);
    assert!(grown < 20_000, "{grown} KiB for ten clients that wait with 10 MB each");
    held.holder.run("commit");
    for waiter in &mut waiters {
        let replies = waiter.ready();
        let row = replies.iter().find(|m| m.tag == b'D').unwrap_or_else(|| panic!("{replies:?}"));
        assert_eq!(row.columns()[0].as_deref(), Some("10000000"));
    }
}
