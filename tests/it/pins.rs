//! State of a session that keeps its server connection: for as long as it lasts, no longer, and never for the next one.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::requests::{bytes, statement};
use crate::support::wire::{Message, Wire, sqlstate};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("pins", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("last_as_long_as_the_state", held_and_released),
    ("discard_all_ends_all_of_them", discarded),
    ("leave_nothing_to_the_next_client", nothing_is_left),
    ("warn_says_so_and_goes_on", warned),
    ("reject_is_an_error_before_anything_ran", rejected),
    ("reject_fails_the_transaction", rejected_in_transaction),
    ("reject_by_the_extended_protocol", rejected_extended),
    ("are_bounded_by_a_share_of_the_pool", budget),
    ("are_bounded_for_all_that_ask_at_once", budget_at_once),
    ("who_asks_for_a_sequences_value_is_kept_within_the_budget", budget_of_sequences),
    ("may_not_be_silent_for_ever", timeout),
    ("are_not_for_what_ends_with_its_transaction", no_pins),
    ("reset_always_forgets_what_nobody_saw", reset_always),
];

/// One kind of state.
struct Kind {
    /// As in the configuration.
    reason: &'static str,
    /// Makes the state. Each is one Query.
    make: &'static [&'static str],
    /// Is true as long as it is there.
    there: &'static str,
    /// Ends it. None: only the session's end does.
    end: Option<&'static str>,
}

const KINDS: &[Kind] = &[
    Kind {
        reason: "listen",
        make: &["listen heard"],
        there: "select exists (select from pg_listening_channels())",
        end: Some("unlisten heard"),
    },
    Kind {
        reason: "advisory_lock",
        make: &["select pg_advisory_lock(1)"],
        there: "select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())",
        end: Some("select pg_advisory_unlock(1)"),
    },
    Kind {
        reason: "temp_table",
        make: &["create temp table passing (a int)"],
        there: "select exists (select from pg_class where relname = 'passing')",
        end: Some("drop table passing"),
    },
    Kind {
        reason: "hold_cursor",
        make: &["declare held cursor with hold for select 1"],
        there: "select exists (select from pg_cursors where is_holdable)",
        end: Some("close held"),
    },
    Kind {
        reason: "load",
        make: &["load 'auto_explain'"],
        there: "select current_setting('auto_explain.log_nested_statements', true) is not null",
        end: None,
    },
    Kind {
        reason: "sequence_value",
        make: &["begin; select nextval('numbers'); select currval('numbers'); commit"],
        there: "select currval('numbers') is not null",
        end: Some("discard sequences"),
    },
    Kind {
        reason: "sql_prepare",
        make: &["prepare by_sql as select 1"],
        there: "select exists (select from pg_prepared_statements where from_sql)",
        end: Some("deallocate by_sql"),
    },
];

/// A pool of so many, with more lines for the database's section, and policies.
fn start(ground: &Ground, name: &str, size: usize, lines: &[&str], policy: Option<&str>) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    // LOAD of any library is for superusers.
    ground.root(name).rows(&format!("alter role {name} superuser"));
    ground.root(name).rows("create sequence numbers");
    ground.root(name).rows("create table ran (a int)");
    let pins = policy.into_iter().flat_map(|policy| KINDS.iter().map(move |kind| (kind.reason, policy)));
    let database = Database {
        extra: lines.iter().map(|line| (*line).to_owned()).collect(),
        pins: pins.map(|(reason, policy)| (reason.to_owned(), policy.to_owned())).collect(),
        ..tenant.database(ground.cluster(), size)
    };
    let options = ProxyOptions { max_wait: Some("200ms".to_owned()), ..ProxyOptions::new(vec![database]) };
    (tenant, Proxy::start(&options))
}

fn make(wire: &mut Wire, kind: &Kind) {
    for sql in kind.make {
        let replies = wire.run(sql);
        assert_eq!(sqlstate(&replies), None, "{}: {replies:?}", kind.reason);
    }
}

/// The replies up to ReadyForQuery say that this is so.
fn is_there(wire: &mut Wire, kind: &Kind) -> bool {
    let replies = wire.run(kind.there);
    replies.iter().any(|reply| reply.tag == b'D' && reply.columns()[0].as_deref() == Some("t"))
}

fn is_served(wire: &mut Wire) -> bool {
    match sqlstate(&wire.run("select 1")).as_deref() {
        None => true,
        Some("53300") => false,
        Some(code) => panic!("{code} for select 1"),
    }
}

/// With a pool of one, nobody else is served until the state is gone.
fn held_and_released(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_held", 1, &[], None);
    let mut other = tenant.login(proxy.address);
    for kind in KINDS {
        let mut holder = tenant.login(proxy.address);
        assert!(is_served(&mut other), "before {}", kind.reason);
        make(&mut holder, kind);
        for _ in 0..2 {
            assert!(!is_served(&mut other), "served while another has {}", kind.reason);
            assert!(is_there(&mut holder, kind), "{} is gone", kind.reason);
        }
        match kind.end {
            Some(end) => drop(holder.rows(end)),
            None => drop(holder),
        }
        eventually(&format!("served after {}", kind.reason), || is_served(&mut other));
    }
}

fn discarded(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_discarded", 1, &[], None);
    let mut other = tenant.login(proxy.address);
    let mut holder = tenant.login(proxy.address);
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| kind.end.is_some()).collect();
    for kind in &kinds {
        make(&mut holder, kind);
    }
    assert!(!is_served(&mut other), "served while another has everything");
    holder.rows("discard all");
    assert!(is_served(&mut other), "not served after DISCARD ALL");
    for kind in &kinds {
        assert!(!is_there(&mut holder, kind), "{} is still there", kind.reason);
    }
}

/// However the client goes, the next one of the same server connection finds nothing.
fn nothing_is_left(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_left", 1, &[], None);
    for (round, kind) in KINDS.iter().chain(KINDS).enumerate() {
        let mut holder = tenant.login(proxy.address);
        eventually("the server connection is free", || is_served(&mut holder));
        make(&mut holder, kind);
        let linger = (round % 2 == 0).then_some(Duration::ZERO);
        socket2::SockRef::from(holder.socket()).set_linger(linger).expect("linger");
        drop(holder);
        let mut next = tenant.login(proxy.address);
        eventually("the next one is served", || is_served(&mut next));
        for kind in KINDS {
            assert!(!is_there(&mut next, kind), "{} was left behind", kind.reason);
        }
    }
}

fn warned(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_warned", 1, &[], Some("warn"));
    for kind in KINDS {
        let mut holder = tenant.login(proxy.address);
        eventually("the server connection is free", || is_served(&mut holder));
        let mut replies: Vec<Message> = kind.make.iter().flat_map(|sql| holder.run(sql)).collect();
        assert_eq!(sqlstate(&replies), None, "{}: {replies:?}", kind.reason);
        // It is known only when the transaction is over, so it may come with the next answer.
        replies.extend(holder.run(kind.there));
        replies.extend(holder.run("select 1"));
        let warnings: Vec<&Message> = replies.iter().filter(|reply| reply.tag == b'N').collect();
        assert_eq!(warnings.len(), 1, "{}: {replies:?}", kind.reason);
        assert_eq!(warnings[0].field(b'V').as_deref(), Some("WARNING"));
        assert!(is_there(&mut holder, kind), "{} is not there", kind.reason);
    }
}

/// ERROR, 0A000, and a HINT.
fn assert_rejected(replies: &[Message], kind: &Kind) {
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("{replies:?}"));
    assert_eq!(error.field(b'V').as_deref(), Some("ERROR"), "{}", kind.reason);
    assert_eq!(error.sqlstate(), "0A000", "{}: {error:?}", kind.reason);
    assert!(error.field(b'H').is_some_and(|hint| !hint.is_empty()), "{}: no HINT in {error:?}", kind.reason);
    assert_eq!(replies.iter().filter(|reply| reply.tag == b'E').count(), 1, "{replies:?}");
    assert!(!replies.iter().any(|reply| reply.tag == b'C'), "something ran: {replies:?}");
}

fn rejected(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_rejected", 1, &[], Some("reject"));
    let mut client = tenant.login(proxy.address);
    for kind in KINDS {
        let replies = client.run(&format!("insert into ran values (1); {}", kind.make[0]));
        assert_rejected(&replies, kind);
        assert_eq!(replies.last().map(ToString::to_string).as_deref(), Some("ReadyForQuery I"));
        assert_eq!(client.value("select count(*) from ran"), "0", "{}: something ran", kind.reason);
        assert!(!is_there(&mut client, kind), "{} is there", kind.reason);
    }
    // Nobody keeps anything.
    assert!(is_served(&mut tenant.login(proxy.address)));
}

fn rejected_in_transaction(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_rejected_tx", 1, &[], Some("reject"));
    let mut client = tenant.login(proxy.address);
    for kind in KINDS {
        client.rows("begin");
        client.rows("insert into ran values (1)");
        // Some begin a transaction of their own, which is none of this test's business.
        let sql = kind.make[0].trim_start_matches("begin; ").trim_end_matches("; commit");
        let replies = client.run(sql);
        assert_rejected(&replies, kind);
        assert_eq!(replies.last().map(ToString::to_string).as_deref(), Some("ReadyForQuery E"));
        assert_eq!(sqlstate(&client.run("select 1")).as_deref(), Some("25P02"), "{}", kind.reason);
        let replies = client.run("commit");
        assert_eq!(replies[0].to_string(), "CommandComplete \"ROLLBACK\"", "{}", kind.reason);
        assert_eq!(client.value("select count(*) from ran"), "0", "{}: it was committed", kind.reason);
    }
}

fn rejected_extended(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_rejected_ext", 1, &[], Some("reject"));
    let mut client = tenant.login(proxy.address);
    for kind in KINDS.iter().filter(|kind| !kind.make[0].contains(';')) {
        for name in ["", "named"] {
            client.send(&bytes(&statement(name, kind.make[0], &[]))).expect("send");
            let replies = client.ready();
            assert_rejected(&replies, kind);
            assert!(!is_there(&mut client, kind), "{} is there", kind.reason);
            client.rows("deallocate all");
        }
    }
}

/// Two of four, by the default of one half; the third one is told, and its session goes on.
fn budget(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_budget", 4, &["pin_budget = 0.5"], None);
    // Asking for a sequence's value is always allowed, and keeps nothing where there is no place for it.
    for kind in KINDS.iter().filter(|kind| kind.reason != "sequence_value") {
        // All of them may have it at once.
        let sql = kind.make[0].replace("lock(1)", "lock_shared(1)");
        let mut holders = [0, 1].map(|_| tenant.login(proxy.address));
        for holder in &mut holders {
            let served = || sqlstate(&holder.run(&sql)).is_none();
            // Those of the kind before may not be gone yet.
            eventually(&format!("{} is allowed", kind.reason), served);
        }
        let mut third = tenant.login(proxy.address);
        let replies = third.run(&sql);
        let error = replies.iter().find(|reply| reply.tag == b'E');
        let error = error.unwrap_or_else(|| panic!("{} is not bounded: {replies:?}", kind.reason));
        assert_eq!(error.field(b'V').as_deref(), Some("ERROR"));
        assert_eq!(error.sqlstate(), "53300", "{}: {error:?}", kind.reason);
        let detail = error.field(b'D').unwrap_or_default();
        assert!(detail.contains("reason=pin_budget"), "{}: DETAIL is {detail:?}", kind.reason);
        assert!(is_served(&mut third), "{}: its session does not go on", kind.reason);
        assert!(is_served(&mut tenant.login(proxy.address)), "{}: the rest is not free", kind.reason);
        drop(holders);
        let allowed = || sqlstate(&third.run(&sql)).is_none();
        eventually(&format!("{} is allowed when others have gone", kind.reason), allowed);
    }
}

/// They ask before any of them has it.
fn budget_at_once(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_at_once", 6, &["pin_budget = 0.34"], None);
    let mut clients: Vec<Wire> = (0..6).map(|_| tenant.login(proxy.address)).collect();
    clients.iter_mut().for_each(|wire| drop(wire.rows("begin")));
    for wire in &mut clients {
        wire.query("listen heard").expect("send");
    }
    let codes: Vec<_> = clients.iter_mut().map(|wire| sqlstate(&wire.ready())).collect();
    let refused = codes.iter().filter(|code| code.as_deref() == Some("53300")).count();
    assert_eq!((refused, codes.len()), (4, 6), "{codes:?}");
    // What was not kept in the end gives its place back.
    for wire in &mut clients {
        wire.rows("rollback");
    }
    let mut wire = tenant.login(proxy.address);
    assert_eq!(sqlstate(&wire.run("listen heard")), None);
}

fn budget_of_sequences(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_sequences", 2, &["pin_budget = 0.5"], None);
    let mut clients = [0, 1, 2].map(|_| tenant.login(proxy.address));
    for wire in &mut clients {
        for _ in 0..2 {
            let replies = wire.run("begin; select nextval('numbers'); select lastval(); commit");
            assert_eq!(sqlstate(&replies), None, "{replies:?}");
        }
    }
    assert!(is_served(&mut tenant.login(proxy.address)), "all server connections are kept");
}

fn timeout(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_timeout", 1, &["pin_timeout = \"400ms\""], None);
    let mut other = tenant.login(proxy.address);
    let mut holder = tenant.login(proxy.address);
    make(&mut holder, &KINDS[0]);
    // It is the silence that counts.
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(100));
        assert!(is_there(&mut holder, &KINDS[0]));
    }
    let replies = holder.read_to_close();
    let error = replies.iter().find(|reply| reply.tag == b'E').unwrap_or_else(|| panic!("{replies:?}"));
    assert_eq!((error.field(b'V').as_deref(), error.sqlstate().as_str()), (Some("FATAL"), "57P05"));
    let detail = error.field(b'D').unwrap_or_default();
    assert!(detail.contains("reason=pin_timeout"), "DETAIL is {detail:?}");
    eventually("the other is served", || is_served(&mut other));
    // Who keeps nothing may be silent.
    std::thread::sleep(Duration::from_millis(600));
    assert!(is_served(&mut other));
}

fn no_pins(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_not", 1, &[], None);
    let mut other = tenant.login(proxy.address);
    let mut client = tenant.login(proxy.address);
    let long = format!("select length('{}')", "x".repeat(20_000));
    for sql in [
        "begin; select pg_advisory_xact_lock(1); commit",
        "begin; declare ordinary cursor for select 1; fetch ordinary; commit",
        "begin; create temp table gone (a int) on commit drop; commit",
        "begin; create temp table undone (a int); rollback",
        "begin; listen undone; rollback",
        "begin; prepare early as select 1; deallocate early; commit",
        "select nextval('numbers')",
        "notify somebody",
        "unlisten *",
        "select 'listen, prepare, load, temp'",
        &long,
        "set work_mem = '3MB'",
        "select set_config('my.var', 'value', false)",
    ] {
        let replies = client.run(sql);
        assert_eq!(sqlstate(&replies), None, "{sql}: {replies:?}");
        assert!(is_served(&mut other), "{sql:.60} keeps the server connection");
    }
}

/// A function changes a setting: nothing in the statement or its answer says so.
fn reset_always(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pin_unseen", 1, &["reset = \"always\""], None);
    ground.root(&tenant.name).rows(
        "create function unseen() returns void language plpgsql as $$ begin \
         perform set_config('work_mem', '9MB', false); end $$",
    );
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    let before = clients[1].value("show work_mem");
    assert_ne!(before, "9MB");
    clients[0].rows("select unseen()");
    assert_eq!(clients[1].value("show work_mem"), before);
    // What the proxy knows of is still there.
    clients[0].rows("set statement_timeout = '55s'");
    clients[1].rows("select unseen()");
    assert_eq!(clients[0].value("show statement_timeout"), "55s");
    assert_eq!(clients[0].value("show work_mem"), before);
}
