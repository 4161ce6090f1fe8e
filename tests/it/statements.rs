//! Prepared statements of clients that share server connections.

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::Test;
use crate::session_state::answer::{Answer, Ear, Segment};
use crate::support::ground::{Ground, Tenant, address, eventually};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::requests::{Request, bytes, execution, statement};
use crate::support::wire::{Message, Wire, sqlstate};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("statements", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("more_than_a_server_connection_keeps", evictions),
    ("a_pipeline_of_more_than_a_server_connection_keeps", evictions_in_a_pipeline),
    ("trace_comments_make_no_new_statement", trace_comments),
    ("trace_comments_of_unnamed_statements", unnamed_trace_comments),
    ("prepared_again_after_a_change_of_the_table", changed_table),
    ("described_anew_after_a_change_of_the_table", changed_and_described),
    ("a_change_seen_within_a_transaction_is_an_error", changed_within),
    ("one_parse_complete_each", one_parse_complete),
    ("equal_names_are_different_statements", equal_names),
    ("errors_name_the_clients_own_statement", own_names),
    ("an_error_in_a_pipeline_and_after_it", errors_in_pipelines),
    ("deep_pipelines_with_many_syncs", deep_pipelines),
    ("a_failed_parse_is_not_remembered", failed_parse),
    ("types_of_parameters_are_part_of_a_statement", types),
    ("another_search_path_is_another_statement", search_paths),
    ("literals_are_read_with_the_clients_settings", literals),
    ("nobody_prepares_what_others_read_otherwise", read_otherwise),
    ("a_statement_of_megabytes", huge),
    ("an_unnamed_statement_outlives_its_transaction", unnamed_later),
    ("the_proxys_names_are_nobodys", nobodys_names),
    ("what_somebody_has_deallocated_is_prepared_again", deallocated_behind),
];

/// A pool of one.
fn start(ground: &Ground, name: &str, lines: &[&str]) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    let database = Database {
        extra: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..tenant.database(ground.cluster(), 1)
    };
    let options = ProxyOptions { max_wait: Some("60s".to_owned()), ..ProxyOptions::new(vec![database]) };
    (tenant, Proxy::start(&options))
}

fn ask(wire: &mut Wire, requests: &[Request]) -> Vec<Message> {
    wire.send(&bytes(requests)).expect("send");
    wire.ready()
}

/// The first column of the first row; panics if there is none.
fn first(replies: &[Message]) -> String {
    let row = replies.iter().find(|reply| reply.tag == b'D').unwrap_or_else(|| panic!("no row: {replies:?}"));
    row.columns()[0].clone().expect("a value")
}

/// The same is answered directly and through the proxy.
pub struct Pair {
    /// Direct and proxied.
    pub sides: [Wire; 2],
    ears: [Ear; 2],
}

impl Pair {
    fn new(ground: &Ground, tenant: &Tenant, proxy: &Proxy) -> Self {
        Self::with(ground, tenant, proxy, &[])
    }

    /// Both log in with these parameters.
    pub fn with(ground: &Ground, tenant: &Tenant, proxy: &Proxy, params: &[(&str, &str)]) -> Self {
        let addresses = [address(ground.cluster()), proxy.address];
        let mut ears: [Ear; 2] = Default::default();
        let mut sides = addresses.iter().zip(&mut ears).map(|(address, ear)| {
            let (wire, greeting) = tenant.login_with(*address, params);
            Segment::of(greeting, ear);
            wire
        });
        let sides = std::array::from_fn(|_| sides.next().expect("two"));
        Self { sides, ears }
    }

    /// One write on each side. With it comes the answer of both.
    pub fn ask(&mut self, requests: &[Request]) -> Answer {
        let count = requests.iter().filter(|request| request.ends_an_answer()).count();
        let answers = [0, 1].map(|side| {
            self.sides[side].send(&bytes(requests)).expect("send");
            Answer::read(&mut self.sides[side], count, &mut self.ears[side])
        });
        let [direct, proxied] = answers;
        if let Some(difference) = direct.difference(&proxied) {
            let asked: String = requests.iter().map(|request| format!("> {request}\n")).collect();
            panic!("{asked}{difference}");
        }
        direct
    }
}

/// How many statements the server connection has whose text is like this.
fn prepared(wire: &mut Wire, like: &str) -> usize {
    let sql = format!("select count(*) from pg_prepared_statements where statement like '{like}'");
    wire.value(&sql).parse().expect("a number")
}

fn evictions(ground: &Ground) {
    let (tenant, proxy) = start(ground, "evictions", &["max_prepared_statements = 3"]);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    let text = |client: usize, number: usize| format!("select 'evicted {client} {number} ' || $1::text");
    for (client, wire) in clients.iter_mut().enumerate() {
        for number in 0..10 {
            let parse = [Request::parse(&format!("s{number}"), &text(client, number)), Request::Sync];
            assert_eq!(sqlstate(&ask(wire, &parse)), None);
        }
    }
    for round in 0..5 {
        for number in 0..10 {
            for (client, wire) in clients.iter_mut().enumerate() {
                let value = format!("{round}");
                let replies = ask(wire, &execution(&format!("s{number}"), &[&value]));
                assert_eq!(first(&replies), format!("evicted {client} {number} {round}"));
            }
        }
        // Some more for what is under way.
        let count = prepared(&mut clients[0], "select ''evicted%");
        assert!((1..=5).contains(&count), "{count} statements where three may be");
    }
}

fn evictions_in_a_pipeline(ground: &Ground) {
    let (tenant, proxy) = start(ground, "evicted_pipeline", &["max_prepared_statements = 3"]);
    let mut wire = tenant.login(proxy.address);
    for number in 0..10 {
        let sql = format!("select 'evicted {number}'");
        ask(&mut wire, &[Request::parse(&format!("s{number}"), &sql), Request::Sync]);
    }
    for _ in 0..5 {
        let executions =
            (0..10).flat_map(|number| [Request::bind(&format!("s{number}"), &[]), Request::execute()]);
        let requests: Vec<Request> = executions.chain([Request::Sync]).collect();
        let replies = ask(&mut wire, &requests);
        let rows = replies.iter().filter(|reply| reply.tag == b'D').map(|row| row.columns()[0].clone());
        let expected: Vec<_> = (0..10).map(|number| Some(format!("evicted {number}"))).collect();
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{replies:?}");
        let count = prepared(&mut wire, "select ''evicted%");
        assert!(count <= 5, "{count} statements where three may be");
    }
}

fn comment(number: usize) -> String {
    format!("/*application='it',traceparent='00-{number:032x}-{number:016x}-01'*/")
}

/// Behind a statement or before it, another one each time.
fn traced(number: usize) -> String {
    let comment = comment(number + 1);
    let text = "select 'traced ' || $1::text";
    if number.is_multiple_of(2) { format!("{text} {comment}") } else { format!("{comment} {text}") }
}

fn trace_comments(ground: &Ground) {
    let (tenant, proxy) = start(ground, "traced", &[]);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    for number in 0..100 {
        let value = number.to_string();
        let name = format!("s{number}");
        let wire = &mut clients[number % 3 % 2];
        let replies = ask(wire, &statement(&name, &traced(number), &[&value]));
        assert_eq!(first(&replies), format!("traced {number}"));
        if number % 5 == 0 {
            ask(wire, &[Request::CloseStatement(name), Request::Sync]);
        }
    }
    assert_eq!(prepared(&mut clients[0], "%select ''traced%"), 1);
    assert_eq!(prepared(&mut clients[0], "%traceparent%"), 0);
}

fn unnamed_trace_comments(ground: &Ground) {
    let (tenant, proxy) = start(ground, "traced_unnamed", &[]);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    for number in 0..100 {
        let value = number.to_string();
        let replies = ask(&mut clients[number % 3 % 2], &statement("", &traced(number), &[&value]));
        assert_eq!(first(&replies), format!("traced {number}"));
    }
    let count = prepared(&mut clients[0], "%select ''traced%");
    assert!(count <= 1, "{count} statements for one");
}

/// As drivers do it: a statement that PostgreSQL refuses because its result has changed is prepared again, once.
fn as_a_driver(wire: &mut Wire, sql: &str) -> Vec<Message> {
    let run =
        [Request::bind("s", &[]), Request::DescribePortal(String::new()), Request::execute(), Request::Sync];
    let replies = ask(wire, &run);
    let Some(error) = replies.iter().find(|reply| reply.tag == b'E') else { return replies };
    assert_eq!(error.sqlstate(), "0A000", "{error:?}");
    // By this, and not by the words, JDBC's driver knows it.
    assert_eq!(error.field(b'R').as_deref(), Some("RevalidateCachedQuery"), "{error:?}");
    let again = [Request::CloseStatement("s".to_owned()), Request::parse("s", sql)];
    ask(wire, &[&again[..], &run[..]].concat())
}

/// By whomever: by another client, or by a migration that does not go through the proxy.
fn changed_table(ground: &Ground) {
    let (tenant, proxy) = start(ground, "changed", &[]);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    clients[0].rows("create table changing (a int)");
    clients[0].rows("insert into changing values (1)");
    let text = "select * from changing";
    for wire in &mut clients {
        assert_eq!(first(&ask(wire, &statement("s", text, &[]))), "1");
    }
    let mut root = ground.root(&tenant.name);
    for number in 0..6 {
        let change = format!("alter table changing add column c{number} int");
        match number % 2 {
            0 => drop(clients[1].rows(&change)),
            _ => drop(root.rows(&change)),
        }
        for wire in &mut clients {
            for _ in 0..2 {
                let replies = as_a_driver(wire, text);
                assert_eq!(sqlstate(&replies), None, "{replies:?}");
                let row = replies.iter().find(|reply| reply.tag == b'D').expect("a row");
                assert_eq!(row.columns().len(), number + 2);
            }
        }
    }
}

/// Who prepares it after the change, or asks what it looks like now, has no error.
fn changed_and_described(ground: &Ground) {
    let (tenant, proxy) = start(ground, "described", &[]);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    clients[0].rows("create table changing (a int)");
    let text = "select * from changing";
    ask(&mut clients[0], &statement("s", text, &[]));
    let run =
        [Request::bind("s", &[]), Request::DescribePortal(String::new()), Request::execute(), Request::Sync];
    ground.root(&tenant.name).rows("alter table changing add column b int");
    assert_eq!(sqlstate(&ask(&mut clients[0], &run)), None);
    ground.root(&tenant.name).rows("alter table changing add column c int");
    for sql in [text, "select a from changing"] {
        for name in ["new", ""] {
            let replies = ask(&mut clients[1], &statement(name, sql, &[]));
            assert_eq!(sqlstate(&replies), None, "{name:?}: {replies:?}");
        }
        ask(&mut clients[1], &[Request::CloseStatement("new".to_owned()), Request::Sync]);
    }
}

/// There PostgreSQL's own error is all that can be said; afterwards it works.
fn changed_within(ground: &Ground) {
    let (tenant, proxy) = start(ground, "changed_within", &[]);
    let mut pair = Pair::new(ground, &tenant, &proxy);
    pair.sides[0].rows("create table changing (a int)");
    let text = "select * from changing";
    pair.ask(&statement("s", text, &[]));
    pair.sides[0].rows("alter table changing add column b int");
    pair.ask(&[Request::Query("begin".to_owned())]);
    let answer = pair.ask(&execution("s", &[]));
    assert!(answer.has_stale_plan(), "{answer:?}");
    pair.ask(&[Request::Query("rollback".to_owned())]);
    assert_eq!(sqlstate(&as_a_driver(&mut pair.sides[1], text)), None);
}

fn one_parse_complete(ground: &Ground) {
    let (tenant, proxy) = start(ground, "one_parse", &[]);
    let mut clients = [0, 1, 2].map(|_| tenant.login(proxy.address));
    for round in 0..3 {
        for wire in &mut clients {
            let name = format!("s{round}");
            let tags =
                |replies: Vec<Message>| replies.iter().map(|reply| reply.tag as char).collect::<String>();
            let parse = Request::parse(&name, "select $1::int");
            assert_eq!(tags(ask(wire, &[parse.clone(), Request::Sync])), "1Z");
            assert_eq!(tags(ask(wire, &[Request::DescribeStatement(name.clone()), Request::Sync])), "tTZ");
            assert_eq!(tags(ask(wire, &execution(&name, &["1"]))), "2DCZ");
            assert_eq!(tags(ask(wire, &[Request::CloseStatement(name.clone()), Request::Sync])), "3Z");
            // Twice in one go, the name closed between.
            let both = [parse.clone(), Request::CloseStatement(name.clone()), parse, Request::Sync];
            assert_eq!(tags(ask(wire, &both)), "131Z");
        }
    }
}

fn equal_names(ground: &Ground) {
    let (tenant, proxy) = start(ground, "equal_names", &[]);
    let mut clients = [0, 1, 2].map(|_| tenant.login(proxy.address));
    for (number, wire) in clients.iter_mut().enumerate() {
        ask(wire, &[Request::parse("s", &format!("select 'of client {number}'")), Request::Sync]);
    }
    for _ in 0..3 {
        for (number, wire) in clients.iter_mut().enumerate() {
            assert_eq!(first(&ask(wire, &execution("s", &[]))), format!("of client {number}"));
        }
    }
    clients[0].rows("deallocate all");
    assert_eq!(sqlstate(&ask(&mut clients[0], &execution("s", &[]))).as_deref(), Some("26000"));
    assert_eq!(first(&ask(&mut clients[1], &execution("s", &[]))), "of client 1");
    clients[1].rows("discard all");
    assert_eq!(sqlstate(&ask(&mut clients[1], &execution("s", &[]))).as_deref(), Some("26000"));
    assert_eq!(first(&ask(&mut clients[2], &execution("s", &[]))), "of client 2");
    clients[2].rows("deallocate s");
    assert_eq!(sqlstate(&ask(&mut clients[2], &execution("s", &[]))).as_deref(), Some("26000"));
}

fn own_names(ground: &Ground) {
    let (tenant, proxy) = start(ground, "own_names", &[]);
    let mut pair = Pair::new(ground, &tenant, &proxy);
    let parse = [Request::parse("mine", "select $1::int"), Request::Sync];
    pair.ask(&parse);
    pair.ask(&parse);
    for name in ["mine", "other"] {
        pair.ask(&execution(name, &[]));
        pair.ask(&execution(name, &["1", "2"]));
        pair.ask(&execution(name, &["no number"]));
        pair.ask(&[Request::DescribeStatement(name.to_owned()), Request::Sync]);
        pair.ask(&[Request::CloseStatement(name.to_owned()), Request::Sync]);
        pair.ask(&[Request::Query(format!("deallocate {name}"))]);
        pair.ask(&execution(name, &["1"]));
    }
    pair.ask(&[Request::parse("", "select 'unnamed'"), Request::Sync]);
    pair.ask(&execution("", &["1"]));
    pair.ask(&[Request::Query("select 1".to_owned())]);
    pair.ask(&execution("", &[]));
}

/// After an error nothing up to the Sync counts: no name is taken, none is free.
fn errors_in_pipelines(ground: &Ground) {
    let (tenant, proxy) = start(ground, "pipeline_errors", &[]);
    let mut pair = Pair::new(ground, &tenant, &proxy);
    let sync = Request::Sync;
    let close = |name: &str| Request::CloseStatement(name.to_owned());
    let good = |name: &str| Request::parse(name, "select $1::int + 1");
    let bad = || Request::parse("bad", "selekt");
    let run = |name: &str| [Request::bind(name, &["1"]), Request::execute()];
    let failing = || [Request::parse("", "select 1/0"), Request::bind("", &[]), Request::execute()];
    for requests in [
        vec![vec![good("a")], run("a").to_vec(), vec![bad()], run("a").to_vec(), vec![sync.clone()]],
        vec![run("a").to_vec(), vec![sync.clone()]],
        // Parsed, or closed, behind an error.
        vec![failing().to_vec(), vec![good("b"), close("a"), sync.clone()]],
        vec![run("a").to_vec(), vec![sync.clone()]],
        vec![run("b").to_vec(), vec![sync.clone()]],
        // Parsed before an error: it stays.
        vec![vec![good("c")], failing().to_vec(), vec![sync.clone()], run("c").to_vec(), vec![sync.clone()]],
        vec![vec![good("a"), close("c"), sync.clone()], run("c").to_vec(), vec![sync.clone()]],
        vec![run("bad").to_vec(), vec![sync.clone(), bad(), sync.clone()]],
        vec![vec![Request::Query("select 1/0".to_owned())], run("a").to_vec(), vec![sync.clone()]],
    ] {
        pair.ask(&requests.concat());
    }
}

fn deep_pipelines(ground: &Ground) {
    let (tenant, proxy) = start(ground, "deep_pipelines", &["max_prepared_statements = 5"]);
    let mut pair = Pair::new(ground, &tenant, &proxy);
    let mut requests = Vec::new();
    for number in 0..300 {
        let name = format!("s{}", number % 7);
        if number < 7 {
            requests.push(Request::parse(&name, &format!("select {number} + $1::int")));
        }
        requests.extend(execution(&name, &[if number % 50 == 49 { "rubbish" } else { "1" }]));
    }
    pair.ask(&requests);
    // Without Syncs, as one transaction.
    let requests: Vec<Request> = requests
        .into_iter()
        .filter(|request| matches!(request, Request::Bind(..) | Request::Execute(..)))
        .collect();
    pair.ask(&[&requests[..60], &[Request::Sync]].concat());
}

fn failed_parse(ground: &Ground) {
    let (tenant, proxy) = start(ground, "failed_parse", &[]);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    let parse = [Request::parse("s", "select * from later"), Request::Sync];
    for wire in &mut clients {
        assert_eq!(sqlstate(&ask(wire, &parse)).as_deref(), Some("42P01"));
        assert_eq!(sqlstate(&ask(wire, &execution("s", &[]))).as_deref(), Some("26000"));
    }
    clients[0].rows("create table later (a int)");
    for wire in &mut clients {
        assert_eq!(sqlstate(&ask(wire, &parse)), None);
        assert_eq!(sqlstate(&ask(wire, &execution("s", &[]))), None);
    }
}

fn types(ground: &Ground) {
    let (tenant, proxy) = start(ground, "parameter_types", &[]);
    let mut pairs = [0, 1].map(|_| Pair::new(ground, &tenant, &proxy));
    for (number, types) in [vec![], vec![23], vec![25], vec![0], vec![1700]].into_iter().enumerate() {
        for pair in &mut pairs {
            let name = format!("s{number}");
            let parse = Request::Parse(name.clone(), "select $1, pg_typeof($1)".to_owned(), types.clone());
            pair.ask(&[parse, Request::DescribeStatement(name.clone()), Request::Sync]);
            pair.ask(&execution(&name, &["7"]));
        }
    }
}

/// The same text, and tables of that name in two schemas.
fn search_paths(ground: &Ground) {
    let (tenant, proxy) = start(ground, "search_paths", &[]);
    let mut root = ground.root(&tenant.name);
    root.rows(&format!("set role {}", tenant.name));
    root.rows("create schema x; create table x.pathed (a int); insert into x.pathed values (1)");
    root.rows("create schema y; create table y.pathed (a text); insert into y.pathed values ('one')");
    let mut pairs = ["x", "y"].map(|path| {
        let mut pair = Pair::new(ground, &tenant, &proxy);
        pair.ask(&[Request::Query(format!("set search_path = {path}"))]);
        pair
    });
    let texts =
        ["select * from pathed", "insert into pathed values ($1)", "select a from pathed where a = $1"];
    for (number, text) in texts.into_iter().enumerate() {
        for pair in &mut pairs {
            let name = format!("s{number}");
            let describe = Request::DescribeStatement(name.clone());
            pair.ask(&[Request::parse(&name, text), describe, Request::Sync]);
        }
        for _ in 0..2 {
            for (pair, value) in pairs.iter_mut().zip(["2", "two"]) {
                let values = if text.contains("$1") { &[value][..] } else { &[] };
                pair.ask(&execution(&format!("s{number}"), values));
            }
        }
    }
}

/// PostgreSQL settles what such a literal means when it parses the statement.
fn literals(ground: &Ground) {
    let (tenant, proxy) = start(ground, "literals", &[]);
    let settings = [
        "set datestyle = 'ISO, DMY'; set timezone = 'Asia/Tokyo'",
        "set datestyle = 'ISO, MDY'; set timezone = 'America/Lima'",
    ];
    let mut pairs = settings.map(|sql| {
        let mut pair = Pair::new(ground, &tenant, &proxy);
        pair.ask(&[Request::Query(sql.to_owned())]);
        pair
    });
    for (number, text) in
        ["select '01/02/2020'::date", "select '2020-06-01 12:00'::timestamptz at time zone 'UTC'"]
            .into_iter()
            .enumerate()
    {
        for pair in &mut pairs {
            pair.ask(&statement(&format!("s{number}"), text, &[]));
            pair.ask(&statement("", text, &[]));
        }
        for pair in &mut pairs {
            pair.ask(&execution(&format!("s{number}"), &[]));
        }
    }
}

/// A statement is prepared where it is missing by whoever needs it there; to others it means what it meant before.
fn read_otherwise(ground: &Ground) {
    for set in ["set datestyle = 'German'", "begin; set local datestyle = 'German'"] {
        let (tenant, proxy) = start(ground, &format!("read_otherwise_{}", set.len()), &[]);
        let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
        let [other, client] = &mut clients;
        let literal = "select extract(month from '01/02/2024'::date)";
        for (wire, name) in [(&mut *other, "a"), (&mut *client, "b")] {
            assert_eq!(first(&ask(wire, &statement(name, literal, &[]))), "1");
        }
        // It has to be prepared anew: the server connection is another one.
        let kill = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}'",
            tenant.name
        );
        ground.root("postgres").rows(&kill);
        eventually("there is another one", || sqlstate(&client.run("select 1")).is_none());
        client.rows(set);
        for _ in 0..2 {
            ask(client, &execution("b", &[]));
        }
        client.run("commit");
        assert_eq!(first(&ask(other, &execution("a", &[]))), "1", "{set}");
        let mut third = tenant.login(proxy.address);
        assert_eq!(first(&ask(&mut third, &statement("c", literal, &[]))), "1", "{set}");
    }
}

/// Larger than anything that the proxy looks into.
fn huge(ground: &Ground) {
    let (tenant, proxy) = start(ground, "huge_statement", &[]);
    let mut pair = Pair::new(ground, &tenant, &proxy);
    for size in [9_000, 20_000, 300_000, 3_000_000] {
        let name = format!("s{size}");
        let text = format!("select length('{}') + $1::int", "x".repeat(size));
        pair.ask(&statement(&name, &text, &["1"]));
        pair.ask(&execution(&name, &["2"]));
        pair.ask(&[Request::CloseStatement(name.clone()), Request::Sync]);
        pair.ask(&execution(&name, &["3"]));
    }
}

/// On a pool of one, with another client between.
fn unnamed_later(ground: &Ground) {
    let (tenant, proxy) = start(ground, "unnamed_later", &[]);
    let mut pairs = [0, 1].map(|_| Pair::new(ground, &tenant, &proxy));
    for (number, pair) in pairs.iter_mut().enumerate() {
        let text = format!("select 'unnamed {number}' || $1::text");
        pair.ask(&[Request::parse("", &text), Request::DescribeStatement(String::new()), Request::Sync]);
    }
    for value in ["a", "b"] {
        for pair in &mut pairs {
            pair.ask(&execution("", &[value]));
        }
    }
    // A Query drops it.
    pairs[0].ask(&[Request::Query("select 1".to_owned())]);
    for pair in &mut pairs {
        pair.ask(&execution("", &["c"]));
    }
}

/// The name under which a statement is prepared.
fn servers_name(wire: &mut Wire, like: &str) -> String {
    wire.value(&format!("select name from pg_prepared_statements where statement like '{like}'"))
}

fn nobodys_names(ground: &Ground) {
    let (tenant, proxy) = start(ground, "nobodys_names", &[]);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    let [owner, other] = &mut clients;
    assert_eq!(sqlstate(&ask(owner, &statement("mine", "select 'of the owner'", &[]))), None);
    let name = servers_name(other, "select ''of the owner%");
    let describe = vec![Request::DescribeStatement(name.clone()), Request::Sync];
    for requests in [execution(&name, &[]), describe, vec![Request::Query(format!("deallocate {name}"))]] {
        let replies = ask(other, &requests);
        assert_eq!(sqlstate(&replies).as_deref(), Some("26000"), "{replies:?}");
        assert!(!replies.iter().any(|reply| matches!(reply.tag, b'D' | b'T')), "{replies:?}");
        assert_eq!(first(&ask(owner, &execution("mine", &[]))), "of the owner");
    }
    // Its own statements may be called like that.
    assert_eq!(first(&ask(other, &statement(&name, "select 'of the other'", &[]))), "of the other");
    assert_eq!(first(&ask(owner, &execution("mine", &[]))), "of the owner");
    other.rows(&format!("deallocate {name}"));
    assert_eq!(sqlstate(&ask(other, &execution(&name, &[]))).as_deref(), Some("26000"));
    ask(owner, &execution("mine", &[]));
    assert_eq!(first(&ask(owner, &execution("mine", &[]))), "of the owner");
    // Another proxy does not use the same ones.
    let (tenant, second) = start(ground, "nobodys_second", &[]);
    let mut wire = tenant.login(second.address);
    ask(&mut wire, &statement("mine", "select 'of the owner'", &[]));
    assert_ne!(servers_name(&mut wire, "select ''of the owner%"), name);
}

/// By a text of several statements: nothing of it is looked into. One error, and it is known.
fn deallocated_behind(ground: &Ground) {
    let (tenant, proxy) = start(ground, "deallocated_behind", &[]);
    let mut clients = [0, 1].map(|_| tenant.login(proxy.address));
    let [owner, other] = &mut clients;
    for number in 0..2 {
        let text = format!("select 'behind {number}'");
        ask(owner, &statement(&format!("s{number}"), &text, &[]));
    }
    for sql in ["select 1; deallocate {}", "do $$begin execute 'deallocate all'; end$$"] {
        let name = servers_name(other, "select ''behind 0%");
        let replies = other.run(&sql.replace("{}", &name));
        assert_eq!(sqlstate(&replies), None, "{replies:?}");
        for number in 0..2 {
            let name = format!("s{number}");
            // Without a Describe it is not sent again.
            let replies = ask(owner, &execution(&name, &[]));
            let code = sqlstate(&replies);
            assert!(code.is_none() || code.as_deref() == Some("26000"), "{replies:?}");
            assert_eq!(first(&ask(owner, &execution(&name, &[]))), format!("behind {number}"));
        }
    }
}
