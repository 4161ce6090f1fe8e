//! The judgement as a table: pools and what a server says, and the words that the findings have.

use std::time::Duration;

use super::super::facts::Present;
use super::super::finding::Severity::{self, Error, Ok, Warning};
use super::*;
use crate::config::DatabaseParams;
use crate::guard::Admission;
use crate::net::UpstreamAddress;
use crate::pool::{Abandoned, AdaptiveLimit, PinParams, PoolMode, Reset, SessionParams, StatementParams};
use crate::proto::pin::PinPolicies;
use crate::server::{Credentials, ServerTls, UpstreamParams};

fn pool(server_database: &str, role: &str, size: usize) -> PoolParams {
    PoolParams {
        database: server_database.to_owned(),
        user: role.to_owned(),
        server_database: server_database.to_owned(),
        credentials: Credentials { user: role.to_owned(), password: None },
        mode: PoolMode::Transaction,
        size,
        reserved: false,
        min_idle: 0,
        max_waiting: 0,
        max_wait: Duration::ZERO,
        burst_wait: Duration::from_secs(6),
        admission: Admission::Enforce,
        adaptive_limit: AdaptiveLimit::Off,
        adaptive_min: 4,
        shares: Default::default(),
        server_lifetime: Duration::ZERO,
        server_idle_timeout: Duration::ZERO,
        max_clients: None,
        session: unbounded(),
    }
}

/// Sessions without a timeout; the judgement does not look at them.
fn unbounded() -> SessionParams {
    SessionParams {
        query_timeout: Duration::ZERO,
        transaction_timeout: Duration::ZERO,
        idle_in_transaction_timeout: Duration::ZERO,
        client_idle_timeout: Duration::ZERO,
        client_stall_timeout: Duration::ZERO,
        abandoned: Abandoned::Cancel,
        reset: Reset::Auto,
        pins: PinParams { timeout: Duration::ZERO, budget: 1.0, policies: PinPolicies::default() },
        statements: StatementParams {
            max_per_server: 0,
            promote_unnamed: false,
            strip_trace_comments: false,
        },
    }
}

/// A database whose users share `max_connections`.
fn database(name: &str, max_connections: usize, pools: &[(&str, usize)]) -> DatabaseParams {
    let pools = pools.iter().map(|(role, size)| pool(name, role, *size)).collect();
    DatabaseParams { name: name.to_owned(), max_connections, max_clients: None, pools }
}

fn upstream(max_connections: usize, databases: Vec<DatabaseParams>) -> UpstreamConfig {
    let address = UpstreamAddress::Tcp { host: "db".to_owned(), port: 5432 };
    let params = UpstreamParams {
        address,
        tls: ServerTls::Disable,
        max_connections,
        reserved_connections: 0,
        max_dials: 1,
        dial_rate: 50,
        dial_burst: 40,
        connect_timeout: Duration::ZERO,
        cancel_timeout: Duration::ZERO,
    };
    UpstreamConfig { params, databases }
}

/// One pool of twenty.
fn twenty() -> UpstreamConfig {
    upstream(20, vec![database("app", 20, &[("app", 20)])])
}

/// A server of a hundred connections with three reserved, nobody else there, no limits.
fn facts(role: &str, database: &str) -> Facts {
    Facts {
        role: role.to_owned(),
        database: database.to_owned(),
        max_connections: 100,
        superuser_reserved: 3,
        reserved: 0,
        is_superuser: false,
        may_use_reserved: false,
        role_limit: None,
        database_limit: None,
        expires: None,
        present: Present::default(),
    }
}

fn app() -> Facts {
    facts("app", "app")
}

fn present(server: u64, role: u64, database: u64, own: u64) -> Present {
    Present { server, role, database, own }
}

/// One row: its name, the pools, the facts, and how each finding begins that is not `ok`.
type Row = (&'static str, UpstreamConfig, Vec<Facts>, &'static [(Severity, &'static str)]);

#[track_caller]
fn judge(rows: Vec<Row>) {
    for (name, upstream, facts, expected) in rows {
        let findings = compare(&upstream, &facts);
        let wrong: Vec<_> = findings.iter().filter(|finding| finding.severity != Ok).collect();
        let fits = wrong.len() == expected.len()
            && wrong.iter().zip(expected).all(|(finding, (severity, begin))| {
                finding.severity == *severity && finding.text.starts_with(begin)
            });
        assert!(fits, "{name}: {findings:#?}");
    }
}

#[test]
fn server_limit() {
    let slots = |max_connections| Facts { max_connections, ..app() };
    judge(vec![
        ("exact fit", twenty(), vec![slots(23)], &[]),
        ("one too many", twenty(), vec![slots(22)], &[(Error, "server: the pools may open 20")]),
        (
            "reserved since PostgreSQL 16",
            twenty(),
            vec![Facts { reserved: 1, ..slots(23) }],
            &[(Error, "server: the pools may open 20, and PostgreSQL refuses more than 19")],
        ),
        (
            "may use what is reserved",
            twenty(),
            vec![Facts { reserved: 1, may_use_reserved: true, ..slots(23) }],
            &[(Warning, "server: the pools may open 20 connections and so take some")],
        ),
        (
            "superuser",
            twenty(),
            vec![Facts { is_superuser: true, ..slots(22) }],
            &[(Warning, "server: the pools may open 20 connections and so take some")],
        ),
        (
            "superuser, one too many",
            twenty(),
            vec![Facts { is_superuser: true, ..slots(19) }],
            &[(Error, "server: the pools may open 20")],
        ),
        ("more reserved than there is", twenty(), vec![slots(2)], &[(Error, "server: ")]),
        ("nobody was let in", twenty(), vec![], &[]),
    ]);
}

#[test]
fn bounds_of_the_configuration() {
    let two = || vec![database("a", 30, &[("x", 20), ("y", 20)]), database("b", 50, &[("x", 50)])];
    let told = || vec![facts("x", "a"), facts("y", "a"), facts("x", "b")];
    let with =
        |max_connections| told().into_iter().map(move |facts| Facts { max_connections, ..facts }).collect();
    let limited =
        |limit| told().into_iter().map(move |facts| Facts { role_limit: Some(limit), ..facts }).collect();
    judge(vec![
        // 20 and 20 cut to 30, and 50.
        ("cut by the databases' bounds", upstream(1000, two()), with(83), &[]),
        ("no more than that", upstream(1000, two()), with(82), &[(Error, "server: the pools may open 80")]),
        ("cut by the upstream's bound", upstream(60, two()), with(63), &[]),
        ("nor than that", upstream(60, two()), with(62), &[(Error, "server: the pools may open 60")]),
        // 20 in one and 50 in the other database.
        ("role in two databases", upstream(1000, two()), limited(70), &[]),
        ("and no more", upstream(1000, two()), limited(69), &[(Error, "role x: the pools may open 70")]),
        ("cut by the upstream, too", upstream(60, two()), limited(60), &[]),
    ]);
}

#[test]
fn role_and_database_limits() {
    judge(vec![
        ("role fits", twenty(), vec![Facts { role_limit: Some(20), ..app() }], &[]),
        (
            "role",
            twenty(),
            vec![Facts { role_limit: Some(19), ..app() }],
            &[(Error, "role app: the pools may open 20")],
        ),
        ("role closed", twenty(), vec![Facts { role_limit: Some(0), ..app() }], &[(Error, "role app: ")]),
        ("database fits", twenty(), vec![Facts { database_limit: Some(20), ..app() }], &[]),
        (
            "database",
            twenty(),
            vec![Facts { database_limit: Some(5), ..app() }],
            &[(Error, "database app: ")],
        ),
        (
            "superusers are not bound",
            twenty(),
            vec![Facts { is_superuser: true, role_limit: Some(1), database_limit: Some(1), ..app() }],
            &[],
        ),
        (
            "a superuser fills the database for others",
            upstream(20, vec![database("app", 20, &[("app", 10), ("root", 10)])]),
            vec![
                Facts { is_superuser: true, database_limit: Some(15), ..facts("root", "app") },
                Facts { database_limit: Some(15), ..app() },
            ],
            &[(Error, "database app: the pools may open 20")],
        ),
    ]);
}

#[test]
fn others_that_are_there() {
    let full = |present| Facts { max_connections: 100, present, ..app() };
    judge(vec![
        ("room for all", twenty(), vec![full(present(77, 0, 0, 0))], &[]),
        (
            "one too many",
            twenty(),
            vec![full(present(78, 0, 0, 0))],
            &[(Warning, "server: the pools may open 20 and others have 78")],
        ),
        ("a running proxy's own", twenty(), vec![full(present(97, 20, 20, 20))], &[]),
        (
            "of the same role, elsewhere",
            twenty(),
            vec![Facts { role_limit: Some(25), ..full(present(6, 6, 0, 0)) }],
            &[(Warning, "role app: ")],
        ),
        (
            "in the same database",
            twenty(),
            vec![Facts { database_limit: Some(25), ..full(present(6, 0, 6, 0)) }],
            &[(Warning, "database app: ")],
        ),
        (
            "own connections of two passwords are counted once",
            upstream(20, vec![database("app", 20, &[("app", 20)])]),
            vec![full(present(78 + 10, 0, 0, 10)), full(present(78 + 10, 0, 0, 10))],
            &[(Warning, "server: ")],
        ),
    ]);
}

#[test]
fn passwords_that_expire() {
    let expiring =
        |is_over| Facts { expires: Some(Expiry { at: "2030-01-01".to_owned(), is_over }), ..app() };
    judge(vec![
        (
            "soon",
            twenty(),
            vec![expiring(false)],
            &[(Warning, "role app: its password expires within a week")],
        ),
        (
            "over",
            twenty(),
            vec![expiring(true)],
            &[(Warning, "role app: its password has expired (VALID UNTIL 2030")],
        ),
    ]);
}

#[test]
fn says_who_and_what_to_do() {
    let pools = [("a", 5), ("b", 5), ("c", 5), ("d\"e", 5)];
    let upstream = upstream(20, vec![database("app", 20, &pools)]);
    let told =
        pools.map(|(role, _)| Facts { role_limit: Some(4), database_limit: Some(4), ..facts(role, "app") });
    let findings = compare(&upstream, &told);
    let says = |text: &str| findings.iter().any(|finding| finding.text.contains(text));
    for text in [
        "server: the pools may open 20, others have 0, PostgreSQL allows 97 (max_connections = 100, ",
        "lower pool_size of app/a, or ALTER ROLE \"a\" CONNECTION LIMIT 5",
        "ALTER ROLE \"d\"\"e\" CONNECTION LIMIT 5",
        "lower pool_size of app/a, app/b, app/c and 1 more, set max_db_connections, or ALTER DATABASE \"app\" CONNECTION LIMIT 20",
    ] {
        assert!(says(text), "{text}: {findings:#?}");
    }
}
