//! Statements, their replies, and ways to leave.

use crate::support::{Database, connect, connect_as, ends, server_error, target};
use loadtest::client::{Failure, Session};
use loadtest::plan::{End, Protocol};
use loadtest::postgres::{Cluster, ClusterOptions};
use std::time::Duration;

const PROTOCOLS: [Protocol; 3] = [Protocol::Simple, Protocol::Extended, Protocol::Prepared];

async fn session(database: &Database<'_>) -> Session {
    connect(&database.superuser_url()).await.unwrap()
}

#[tokio::test]
async fn replies_are_counted() {
    let database = Database::new();
    let mut session = session(&database).await;
    let mut heard = 0;
    for protocol in PROTOCOLS {
        let reply = session.run("select generate_series(1, 1000)", protocol).await.unwrap();
        assert_eq!((reply.rows, reply.completed), (1000, 1), "{protocol:?}");
        // A DataRow with one short text: 5 + 2 + 4 + 1 to 4 bytes.
        assert!((12_000..20_000).contains(&reply.bytes), "{reply:?}");
        let reply = session.run("", protocol).await.unwrap();
        assert_eq!((reply.rows, reply.completed), (0, 0), "{protocol:?}");
        let reply = session.run("copy (select generate_series(1, 5)) to stdout", protocol).await.unwrap();
        assert_eq!(reply.completed, 1);
        heard += 2;
        assert_eq!(session.completed(), heard);
    }
    let reply = session.run("select 1; select 2 union all select 3", Protocol::Simple).await.unwrap();
    assert_eq!((reply.rows, reply.completed), (3, 2));
    session.run("select 1; select 1/0", Protocol::Simple).await.unwrap_err();
    assert_eq!(session.completed(), heard + 3, "what was completed before an error was heard of");
}

#[tokio::test]
async fn errors_leave_a_session_usable_and_transactions_are_known() {
    let database = Database::new();
    let mut session = session(&database).await;
    for protocol in PROTOCOLS {
        let error = server_error(session.run("select 1/0", protocol).await.unwrap_err());
        assert_eq!((error.sqlstate.as_str(), error.fatal), ("22012", false));
        assert_eq!(error.message, "division by zero");
        assert!(session.is_usable() && !session.in_transaction());
        session.run("begin", protocol).await.unwrap();
        assert!(session.in_transaction());
        server_error(session.run("select nonsense", protocol).await.unwrap_err());
        assert!(session.is_usable() && session.in_transaction());
        session.run("rollback", protocol).await.unwrap();
        assert!(!session.in_transaction());
        let error = server_error(session.run("copy pg_temp_x from stdin", protocol).await.unwrap_err());
        assert_eq!(error.sqlstate, "42P01");
        session.run("create temp table if not exists copied (x int)", protocol).await.unwrap();
        let error = ends(session.run("copy copied from stdin", protocol)).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("57014"), "{error}");
        assert_eq!(session.run("select 1", protocol).await.unwrap().rows, 1);
    }
    let zero = session.run("select '\0'", Protocol::Simple).await.unwrap_err();
    assert!(zero.to_string().contains("cannot be sent"), "{zero}");
    assert!(session.run("select 1", Protocol::Simple).await.is_ok(), "nothing was sent");
}

#[tokio::test]
async fn statements_are_prepared_once() {
    let database = Database::new();
    let mut session = session(&database).await;
    let prepared = |count: u32| {
        format!(
            "do $$ begin assert (select count(*) from pg_prepared_statements where from_sql = false) = {count}; end $$"
        )
    };
    session.run("select 1/0 from nowhere", Protocol::Prepared).await.unwrap_err();
    for _ in 0..3 {
        session.run("select 1", Protocol::Prepared).await.unwrap();
        session.run("select 2", Protocol::Prepared).await.unwrap();
    }
    session.run(&prepared(2), Protocol::Simple).await.unwrap();
    for number in 0..200 {
        session.run(&format!("select {number} + 0"), Protocol::Prepared).await.unwrap();
    }
    session.run("select 1", Protocol::Prepared).await.unwrap();
    session.run(&prepared(64), Protocol::Simple).await.unwrap();
}

#[tokio::test]
async fn a_reply_can_be_read_in_parts() {
    let database = Database::new();
    let mut session = session(&database).await;
    let sql = "select repeat('x', 100000) from generate_series(1, 300)";
    for protocol in PROTOCOLS {
        session.send(sql, protocol).await.unwrap();
        assert!(!session.is_usable());
        ends(session.first_bytes()).await.unwrap();
        ends(session.first_bytes()).await.unwrap();
        assert!(session.send("select 1", protocol).await.is_err(), "a reply is under way");
        database.wait_for_session("wait_event = 'ClientWrite'");
        assert_eq!(ends(session.finish()).await.unwrap().rows, 300);
        assert!(session.is_usable());
        assert!(session.finish().await.is_err(), "no reply is under way");
    }
}

#[tokio::test]
async fn a_timeout_can_be_followed_by_a_cancel_and_the_session_kept() {
    let database = Database::new();
    let mut session = session(&database).await;
    for protocol in PROTOCOLS {
        let run = session.run("select pg_sleep(600)", protocol);
        assert!(tokio::time::timeout(Duration::from_millis(50), run).await.is_err());
        assert!(!session.is_usable());
        database.wait_for_session("wait_event = 'PgSleep'");
        session.cancel().await.unwrap();
        let error = server_error(ends(session.finish()).await.unwrap_err());
        assert_eq!(error.sqlstate, "57014");
        assert!(session.is_usable());
        assert!(session.run("select 1", protocol).await.is_ok());
    }
}

#[tokio::test]
async fn an_idle_session_is_told_of_its_end() {
    let database = Database::new();
    let terminate = "select pg_terminate_backend(pid) from pg_stat_activity \
        where datname = current_database() and application_name = 'client test'";
    let mut session = session(&database).await;
    session.run("listen news", Protocol::Simple).await.unwrap();
    database.psql("notify news, 'something'");
    assert!(tokio::time::timeout(Duration::from_millis(50), session.watch()).await.is_err());
    assert!(session.is_usable() && session.run("select 1", Protocol::Simple).await.is_ok());

    database.psql(terminate);
    let error = server_error(ends(session.watch()).await);
    assert_eq!((error.sqlstate.as_str(), error.fatal), ("57P01", true));
    assert!(!session.is_usable());
    assert!(matches!(session.watch().await, Failure::Connection(_)));

    // One that does not watch learns of it with its next statement, whether that can still be sent or not.
    for pause in [0, 100] {
        let mut session = connect(&database.superuser_url()).await.unwrap();
        database.psql(terminate);
        database.wait_for_no_session("application_name = 'client test'");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let error = server_error(ends(session.run("select 1", Protocol::Extended)).await.unwrap_err());
        assert_eq!((error.sqlstate.as_str(), error.fatal), ("57P01", true));
        assert!(!session.is_usable());
    }
}

#[tokio::test]
async fn every_end_ends_and_silence_does_not() {
    let database = Database::new();
    let target = target(&database.superuser_url());
    for how in [End::Terminate, End::Fin, End::Rst, End::Silence] {
        let name = format!("{how:?}");
        let there = format!("application_name = '{name}'");
        let mut session = connect_as(&target, &target.identity(&name)).await.unwrap();
        session.run("select 1", Protocol::Simple).await.unwrap();
        database.wait_for_session(&there);
        let silent = ends(session.end(how)).await;
        assert_eq!(silent.is_some(), how == End::Silence);
        if silent.is_some() {
            database.wait_for_session(&there);
        }
        drop(silent);
        database.wait_for_no_session(&there);
    }
}

#[tokio::test]
async fn a_good_bye_behind_a_query_lets_it_run() {
    let database = Database::new();
    database.psql("create table done (what text)");
    for protocol in PROTOCOLS {
        let mut session = session(&database).await;
        let sql = format!("insert into done select '{protocol:?}' from pg_sleep(0.2)");
        session.send(&sql, protocol).await.unwrap();
        ends(session.end(End::Terminate)).await;
        database.wait_until(&format!("exists (select from done where what = '{protocol:?}')"));
    }
    database.wait_for_no_session("application_name = 'client test'");
}

#[tokio::test]
async fn a_server_that_stops_says_so_in_the_middle_of_a_reply() {
    let mut cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let mut session = session(&Database::of(&cluster)).await;
    session.send("select pg_sleep(600)", Protocol::Simple).await.unwrap();
    Database::of(&cluster).wait_for_session("wait_event = 'PgSleep'");
    cluster.stop_fast();
    let error = server_error(ends(session.finish()).await.unwrap_err());
    assert_eq!((error.sqlstate.as_str(), error.fatal), ("57P01", true));
    assert!(!session.is_usable() && session.cancel().await.is_err());
    assert_eq!(ends(session.end(End::Terminate)).await.map(|_| ()), None);
}
