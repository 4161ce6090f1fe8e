//! What was wrong once, and what nobody else looks at: what one client leaves behind is nothing to the next.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually, start_cluster, tenant};
use crate::support::proxy::{Proxy, ProxyOptions};
use crate::support::wire::{Message, PROTOCOL_3_0, Wire, cstr, query, sqlstate, tagged};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("regressions", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("set_does_not_reach_the_next_client", set_stays),
    ("reset_of_one_client_spares_the_others_parameters", reset_spares),
    ("after_discard_all_a_client_has_what_it_logged_in_with", discarded),
    ("vanishing_within_a_set_leaves_no_trace", vanished_set),
    ("vanishing_after_a_reset_in_a_transaction_leaves_no_trace", vanished_reset),
    ("garbage_behind_a_query_costs_no_server", garbage),
    ("terminate_midway_commits_nothing_and_keeps_the_server", terminate_midway),
    ("values_of_sequences_are_the_clients_own", sequences),
    ("what_cannot_be_asked_for_is_not_left_behind", unanswered_audit),
    ("long_texts_are_looked_at_to_their_end", long_texts),
    ("what_is_local_is_not_asked_about", local),
    ("settings_in_another_encoding", encodings),
    ("a_thousand_logins_with_one_new_set_ask_once", one_question),
];

/// A pool of one.
fn start(ground: &Ground, name: &str) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    let options = ProxyOptions {
        max_wait: Some("60s".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)])
    };
    (tenant, Proxy::start(&options))
}

/// What a client can see of its session, as columns.
const SESSION: &str = "select current_user, session_user, current_setting('statement_timeout'), \
                       current_setting('search_path'), current_setting('TimeZone'), \
                       current_setting('application_name'), current_setting('work_mem')";

/// Who logs in how: nothing of its own; everything of its own.
const LOGINS: [&[(&str, &str)]; 2] = [
    &[],
    &[
        ("options", "-c search_path=mine -c statement_timeout=55s"),
        ("TimeZone", "America/Lima"),
        ("application_name", "own"),
        ("work_mem", "5MB"),
    ],
];

/// A simple query, or one statement of the extended protocol.
fn run(wire: &mut Wire, sql: &str, extended: bool) -> Vec<Message> {
    if !extended {
        return wire.run(sql);
    }
    let parse = tagged(b'P', &[cstr(""), cstr(sql), vec![0, 0]].concat());
    let rest = [tagged(b'B', &[0; 8]), tagged(b'E', &[0; 5]), tagged(b'S', &[])].concat();
    wire.send(&[parse, rest].concat()).expect("send");
    wire.ready()
}

fn set_stays(ground: &Ground) {
    let (tenant, proxy) = start(ground, "set_stays");
    ground.root("postgres").rows("create role set_stays_other; grant set_stays_other to set_stays");
    let changes = [
        "set role set_stays_other",
        "set session authorization set_stays",
        "set statement_timeout = '7s'",
        "set search_path = elsewhere",
        "set work_mem = '7MB'",
        "set TimeZone = 'Asia/Tokyo'",
        "set application_name = 'changed'",
        "begin; set role set_stays_other; set search_path = elsewhere; commit",
        "begin; set statement_timeout = '7s'; set TimeZone = 'Asia/Tokyo'; rollback",
        "set search_path = elsewhere; select 1/0",
    ];
    assert_untouched(&tenant, &proxy, &changes);
}

fn reset_spares(ground: &Ground) {
    let (tenant, proxy) = start(ground, "reset_spares");
    let changes = [
        "reset all",
        "discard all",
        "reset search_path",
        "reset role",
        "reset TimeZone",
        "set search_path to default",
        "set session authorization default",
        "begin; reset all; commit",
        "begin; reset all; rollback",
        "begin; set TimeZone = 'Asia/Tokyo'; reset all; commit",
    ];
    assert_untouched(&tenant, &proxy, &changes);
}

/// Whatever one client changes, those that were there before and those that come later see what they logged in with.
fn assert_untouched(tenant: &Tenant, proxy: &Proxy, changes: &[&str]) {
    let login = |params| tenant.login_with(proxy.address, params).0;
    let mut others = LOGINS.map(login);
    let expected = others.each_mut().map(|other| other.rows(SESSION));
    assert_eq!(expected[1][0][2..].join_texts(), "55s mine America/Lima own 5MB");
    for (round, sql) in changes.iter().cycle().take(changes.len() * 4).enumerate() {
        // By one that is like the first of them, and by one that is like the second.
        let mut changer = login(LOGINS[round / changes.len() % 2]);
        let extended = round / changes.len() >= 2 && !sql.contains(';');
        changer.run("select 1");
        run(&mut changer, sql, extended);
        for (number, other) in others.iter_mut().enumerate() {
            assert_eq!(other.rows(SESSION), expected[number], "round {round}: {sql}");
            run(&mut changer, sql, extended);
        }
        let mut late = LOGINS.map(login);
        for (number, late) in late.iter_mut().enumerate() {
            assert_eq!(late.rows(SESSION), expected[number], "round {round}: {sql}, then a login");
            run(&mut changer, sql, extended);
        }
    }
}

/// Also those parameters that PostgreSQL reports, and whatever it says about them on the way.
fn discarded(ground: &Ground) {
    let (tenant, proxy) = start(ground, "discarded");
    for params in LOGINS {
        let (mut wire, _) = tenant.login_with(proxy.address, params);
        let expected = wire.rows(SESSION);
        for extended in [false, true] {
            wire.run("set TimeZone = 'Asia/Tokyo'");
            let replies = run(&mut wire, "discard all", extended);
            let told = replies.iter().rev().find_map(|m| status(std::slice::from_ref(m), "TimeZone"));
            assert_eq!(told, expected[0][4], "what it was told last");
            assert_eq!(wire.rows(SESSION), expected);
            // Another one's turn in between.
            tenant.login(proxy.address).run("select 1");
            assert_eq!(wire.rows(SESSION), expected);
        }
    }
}

/// Columns as one text.
trait JoinTexts {
    fn join_texts(&self) -> String;
}

impl JoinTexts for [Option<String>] {
    fn join_texts(&self) -> String {
        self.iter().map(|text| text.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(" ")
    }
}

/// The value that the client was greeted with.
fn status(greeting: &[Message], name: &str) -> Option<String> {
    let start = cstr(name);
    let status = greeting.iter().find(|m| m.tag == b'S' && m.body.starts_with(&start))?;
    Some(String::from_utf8_lossy(&status.body[start.len()..status.body.len() - 1]).into_owned())
}

fn vanished_set(ground: &Ground) {
    let (tenant, proxy) = start(ground, "vanished_set");
    let login = |params| tenant.login_with(proxy.address, params);
    let mut others = LOGINS.map(|params| login(params).0);
    let zones = others.each_mut().map(|other| other.value("show TimeZone"));
    let leavings: [fn(&mut Wire); 5] = [
        |wire| wire.query("set TimeZone = 'Asia/Tokyo'").expect("send"),
        |wire| drop(wire.run("begin; set TimeZone = 'Asia/Tokyo'")),
        |wire| wire.query("begin; set TimeZone = 'Asia/Tokyo'; select pg_sleep(0.01)").expect("send"),
        |wire| wire.query("set TimeZone = 'Asia/Tokyo'; select pg_sleep(0.01)").expect("send"),
        |wire| {
            wire.send(&[query("set TimeZone = 'Asia/Tokyo'"), query("select 1")].concat()).expect("send");
        },
    ];
    for round in 0..60 {
        let mut vanishing = login(LOGINS[round % 2]).0;
        vanishing.run("select 1");
        leavings[round % leavings.len()](&mut vanishing);
        if round % 3 == 0 {
            // With an RST.
            let socket = socket2::SockRef::from(vanishing.socket());
            socket.set_linger(Some(Duration::ZERO)).expect("linger");
        }
        drop(vanishing);
        let at = (round / 2) % 2;
        if round % 4 < 2 {
            assert_eq!(others[at].value("show TimeZone"), zones[at], "round {round}");
        }
        let (mut late, greeting) = login(LOGINS[at]);
        assert_eq!(status(&greeting, "TimeZone").as_ref(), Some(&zones[at]), "round {round}: the greeting");
        assert_eq!(late.value("show TimeZone"), zones[at], "round {round}: a login");
    }
}

/// PostgreSQL is asked in the middle of the transaction then, and its answer does not outlive it.
fn vanished_reset(ground: &Ground) {
    let (tenant, proxy) = start(ground, "vanished_reset");
    let mut other = tenant.login(proxy.address);
    let expected = other.value("show work_mem");
    let mut vanishing = tenant.login_with(proxy.address, LOGINS[1]).0;
    for sql in ["set work_mem = '9MB'", "begin", "reset work_mem", "select 1"] {
        vanishing.run(sql);
    }
    drop(vanishing);
    assert_eq!(other.value("show work_mem"), expected);
}

/// A good query and a byte that begins no message, in one write: the end of that client, not of the server.
fn garbage(ground: &Ground) {
    let (tenant, proxy) = start(ground, "garbage");
    let mut steady = tenant.login(proxy.address);
    let server = steady.value("select pg_backend_pid()");
    for sql in ["select 1", "select pg_sleep(0.01)", "select pg_sleep(1000)", "begin; select 1", "selec"] {
        let mut rude = tenant.login(proxy.address);
        rude.send(&[query(sql), vec![b'?']].concat()).expect("send");
        let replies = rude.read_to_close();
        assert_eq!(
            replies.last().filter(|m| m.tag == b'E').map(Message::sqlstate).as_deref(),
            Some("08P01"),
            "{sql}"
        );
        assert_eq!(steady.value("select pg_backend_pid()"), server, "{sql}");
    }
    assert!(proxy.metric("pgcorral_servers_destroyed_total{") == 0.0);
}

fn terminate_midway(ground: &Ground) {
    let (tenant, proxy) = start(ground, "midway");
    let mut steady = tenant.login(proxy.address);
    steady.run("create table midway (a int)");
    let server = steady.value("select pg_backend_pid()");
    let parse = tagged(b'P', &[cstr(""), cstr("insert into midway values (1)"), vec![0, 0]].concat());
    let batch = [parse, tagged(b'B', &[0; 8]), tagged(b'E', &[0; 5])].concat();
    let terminate = tagged(b'X', &[]);
    for round in 0..10 {
        let mut copying = tenant.login(proxy.address);
        copying.query("copy midway from stdin").expect("send");
        copying.read_until(b'G').expect("CopyInResponse");
        copying.send(&[tagged(b'd', b"1\n"), terminate.clone()].concat()).expect("send");
        copying.read_to_close();
        assert_eq!(steady.value("select count(*) from midway"), "0", "COPY, round {round}");
        let mut without_sync = tenant.login(proxy.address);
        without_sync.send(&[batch.clone(), terminate.clone()].concat()).expect("send");
        without_sync.read_to_close();
        assert_eq!(steady.value("select count(*) from midway"), "0", "no Sync, round {round}");
    }
    assert_eq!(steady.value("select pg_backend_pid()"), server);
    assert!(proxy.metric("pgcorral_servers_destroyed_total{") == 0.0);
}

/// All are told what PostgreSQL makes of their parameters, which it is asked once or a few times, not a thousand.
fn one_question(_: &Ground) {
    const LOGINS: usize = 1000;
    let cluster = start_cluster(30);
    let tenant = tenant(&cluster, "one_question");
    let options = ProxyOptions {
        // So that all logins are under way at once, though one thread answers them.
        auth: Some("trust".to_owned()),
        login_timeout: Some("60s".to_owned()),
        max_wait: Some("60s".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(&cluster, 5)])
    };
    let proxy = Proxy::start(&options);
    let params = [
        ("user", tenant.name.as_str()),
        ("database", &tenant.name),
        ("options", "-c extra_float_digits=2"),
        ("DateStyle", "German"),
    ];
    let mut clients: Vec<Wire> =
        (0..LOGINS).map(|_| Wire::connect(proxy.address).expect("connect")).collect();
    for client in &mut clients {
        client.send_startup(PROTOCOL_3_0, &params).expect("startup");
    }
    for client in &mut clients {
        let (greeting, result) = client.authenticate(&tenant.name, "");
        assert!(result.is_ok(), "{greeting:?}");
        assert_eq!(status(&greeting, "DateStyle").as_deref(), Some("German, DMY"));
    }
    let log = std::fs::read_to_string(cluster.socket_dir().join("log")).expect("PostgreSQL's log");
    let questions = log.lines().filter(|line| line.contains("extra_float_digits")).count();
    assert!((1..=10).contains(&questions), "PostgreSQL was asked {questions} times");
    let last = clients.last_mut().expect("one");
    assert_eq!(
        last.value("select current_setting('extra_float_digits') || current_date"),
        last.value("select '2' || to_char(current_date, 'DD.MM.YYYY')")
    );
    let replies = last.run("select 1");
    assert_eq!(sqlstate(&replies), None);
    eventually("all are counted", || proxy.metric("pgcorral_clients{") == LOGINS as f64);
}

/// Another client has used the sequences on the only server connection before each of these.
fn sequences(ground: &Ground) {
    for (number, statements) in [
        // Whatever a transaction has done before it asks: it did not get a value.
        &["begin", "select 1", "select lastval()"][..],
        &["select lastval()"],
        &["begin", "select currval('numbers')"],
        // What has failed took nothing away.
        &["begin", "selec", "select lastval()", "rollback", "select lastval()"],
        &["begin; select 1/0", "rollback", "begin", "select 1", "select currval('numbers')"],
    ]
    .iter()
    .enumerate()
    {
        let (tenant, proxy) = start(ground, &format!("sequences_{number}"));
        let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
        let [other, client] = &mut clients;
        other.rows("create sequence numbers start 4711");
        // The first question in the pool, and the second.
        for _ in 0..2 {
            other.rows("select nextval('numbers')");
            let (last, before) = statements.split_last().expect("some");
            before.iter().for_each(|sql| drop(client.run(sql)));
            let replies = client.run(last);
            assert_eq!(sqlstate(&replies).as_deref(), Some("55000"), "{statements:?}: {replies:?}");
            client.run("rollback");
            client.run("discard sequences");
        }
    }
    let (tenant, proxy) = start(ground, "sequences_own");
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    let [other, client] = &mut clients;
    other.rows("create sequence numbers; create table t (a serial, b int)");
    for (makes, asks) in [
        ("select nextval('numbers')", "select currval('numbers')"),
        ("insert into t (b) values (1)", "select lastval()"),
    ] {
        for _ in 0..2 {
            other.rows("select nextval('numbers')");
            client.rows("begin");
            client.run(makes);
            client.value(asks);
            client.rows("commit");
            client.rows("discard sequences");
        }
    }
}

/// PostgreSQL refuses the question about what a transaction has left behind.
fn unanswered_audit(ground: &Ground) {
    let (tenant, proxy) = start(ground, "unanswered_audit");
    let mut root = ground.root("unanswered_audit");
    let mut client = tenant.login(proxy.address);
    let pid = client.value("select pg_backend_pid()");
    root.rows("revoke execute on function pg_catalog.pg_listening_channels() from public");
    client.rows("prepare leaked as select 1; listen heard; set work_mem = '5MB'");
    // Its state is kept for it, whatever is asked about later.
    client.rows("set work_mem = '6MB'");
    assert_eq!(client.value("select count(*) from pg_prepared_statements where from_sql"), "1");
    drop(client);
    root.rows("grant execute on function pg_catalog.pg_listening_channels() to public");
    let mut next = tenant.login(proxy.address);
    assert_eq!(next.value("select pg_backend_pid()"), pid);
    assert_eq!(next.value("select count(*) from pg_prepared_statements where from_sql"), "0");
    assert_eq!(next.value("select count(*) from pg_listening_channels()"), "0");
    assert_eq!(next.value("show work_mem"), "4MB");
}

fn long_texts(ground: &Ground) {
    let (tenant, proxy) = start(ground, "long_texts");
    let long = format!("length('{}')", "x".repeat(40_000));
    for sql in [
        format!("select {long}, set_config('work_mem', '9MB', false)"),
        format!("select {long}; set work_mem = '9MB'"),
        format!("set work_mem = '9MB'; select {long}"),
    ] {
        for extended in [false, true] {
            if extended && sql.contains(';') {
                continue;
            }
            let mut client = tenant.login(proxy.address);
            assert_eq!(sqlstate(&run(&mut client, &sql, extended)), None);
            assert_eq!(tenant.login(proxy.address).value("show work_mem"), "4MB", "{sql:.60}");
            assert_eq!(client.value("show work_mem"), "9MB", "{sql:.60}");
        }
    }
}

/// SET LOCAL and SET TRANSACTION have the same tag as SET.
fn local(ground: &Ground) {
    let (tenant, proxy) = start(ground, "local_settings");
    let mut client = tenant.login(proxy.address);
    let audits = || proxy.metric("pgcorral_audits_total");
    client.rows("select 1");
    let before = audits();
    for extended in [false, true] {
        for _ in 0..2 {
            client.rows("begin");
            run(&mut client, "set transaction isolation level serializable", extended);
            run(&mut client, "set local work_mem = '9MB'", extended);
            assert_eq!(client.value("show work_mem"), "9MB");
            client.rows("commit");
            assert_eq!(tenant.login(proxy.address).value("show work_mem"), "4MB");
        }
    }
    assert_eq!(audits(), before, "PostgreSQL was asked");
    client.rows("begin; set local work_mem = '9MB'; set work_mem = '8MB'; commit");
    assert_eq!(client.value("show work_mem"), "8MB");
    assert_eq!(tenant.login(proxy.address).value("show work_mem"), "4MB");
}

fn encodings(ground: &Ground) {
    let (tenant, proxy) = start(ground, "encodings");
    let asks = "select encode(convert_to(current_setting('my.x'), 'UTF8'), 'hex')";
    let (mut utf8, _) = tenant.login_with(proxy.address, &[("client_encoding", "UTF8")]);
    utf8.rows("set my.x = 'é'");
    // Whoever has the server connection next, in whatever encoding: it is the same value.
    let (mut sjis, _) = tenant.login_with(proxy.address, &[("client_encoding", "SJIS")]);
    for _ in 0..2 {
        sjis.rows("select 1");
        assert_eq!(utf8.value(asks), "c3a9");
    }
    drop(sjis);
    let (mut latin, _) = tenant.login_with(proxy.address, &[("client_encoding", "LATIN1")]);
    let set = [&b"set my.x = '"[..], &[0xe9], b"'\0"].concat();
    latin.send(&tagged(b'Q', &set)).expect("send");
    assert_eq!(sqlstate(&latin.ready()), None);
    assert_eq!(latin.value(asks), "c3a9");
    // It keeps its server connection.
    drop(latin);
    assert_eq!(utf8.value(asks), "c3a9");
}
