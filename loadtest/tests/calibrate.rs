//! The stub that the generator is measured against, and that the generator is fast enough for the plans that come
//! with it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy.toml exempts only `#[test]`"
)]

use loadtest::calibrate::cases::CASES;
use loadtest::calibrate::figure::Calibration;
use loadtest::calibrate::stub::{Login, PASSWORD, Stub};
use loadtest::client::{ConnectTimes, Session, Target};
use loadtest::plan::{End, Protocol};
use std::process::Command;
use tokio_postgres::NoTls;

/// The most of one core that the generator may need for what the shipped plans ask for. On a busy machine a debug build
/// was measured at 35 % for a thousand at once and at 45 to 61 % for 2000 callers that are all refused, a release build
/// (without the latter) at up to 17 %.
const SHARE_OF_CORE: f64 = if cfg!(debug_assertions) { 1.0 } else { 0.4 };

fn start(login: Login) -> u16 {
    let stub = Stub::bind(login).unwrap();
    let port = stub.port().unwrap();
    tokio::spawn(stub.serve());
    port
}

fn dsn(port: u16, password: &str) -> String {
    format!("postgres://app:{password}@127.0.0.1:{port}/app")
}

/// A driver that is not ours says whether the stub speaks the protocol.
#[tokio::test]
async fn a_real_driver_takes_the_stub_for_a_server() {
    for login in [Login::Trust, Login::Scram] {
        let url = dsn(start(login), PASSWORD);
        let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("begin; select 1").await.unwrap();
        client.batch_execute("rollback").await.unwrap();
        for _ in 0..3 {
            assert_eq!(client.query("select 1", &[]).await.unwrap().len(), 1);
        }
        let transaction = client.transaction().await.unwrap();
        let statement = transaction.prepare("select 2").await.unwrap();
        assert_eq!(transaction.query(&statement, &[]).await.unwrap().len(), 1);
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn our_client_runs_a_transaction_in_every_protocol() {
    let port = start(Login::Scram);
    let target = Target::parse("stub", &dsn(port, PASSWORD)).unwrap();
    target.resolve(false).await.unwrap();
    for protocol in [Protocol::Simple, Protocol::Extended, Protocol::Prepared] {
        let mut times = ConnectTimes::default();
        let mut session = Session::connect(&target, &target.identity("test"), &mut times).await.unwrap();
        for _ in 0..2 {
            session.run("begin", protocol).await.unwrap();
            assert!(session.in_transaction());
            assert_eq!(session.run("select 1", protocol).await.unwrap().rows, 1);
            session.run("commit", protocol).await.unwrap();
            assert!(!session.in_transaction());
            let refused = session.run("refuse", protocol).await.unwrap_err();
            assert_eq!((refused.sqlstate(), refused.reason()), (Some("53300"), "queue_full"));
            assert!(session.is_usable());
        }
        assert!(session.end(End::Terminate).await.is_none());
    }
}

/// Else the login that is measured would not be a login.
#[tokio::test]
async fn a_wrong_password_does_not_get_in() {
    let url = dsn(start(Login::Scram), "wrong");
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
}

/// Not how fast it goes, which depends on what else the machine does, but the CPU time that an invocation costs, times
/// the rate that is asked for; and the lesser of two rounds, because a busy machine (cold caches, interrupts) only
/// ever adds to it. In a process of its own, so that no other test's CPU is counted.
#[test]
fn the_generator_is_not_the_bottleneck() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["calibrate", "--json", "--rounds", "2", "--lasting", "100ms"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let calibration: Calibration = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(calibration.figures.len(), CASES.len());
    let asked: Vec<_> =
        calibration.figures.iter().filter(|figure| figure.asked_per_second.is_some()).collect();
    assert_eq!(asked.len(), 3);
    for figure in asked {
        assert_eq!(figure.cpu_us.len(), 2);
        let (_, share) = figure.shares_of_core().unwrap();
        assert!(share > 0.0 && share <= SHARE_OF_CORE, "{share} of a core: {figure:?}");
    }
}
