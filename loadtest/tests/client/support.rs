//! What the tests share.

use loadtest::client::{ConnectTimes, Failure, Identity, ServerError, Session, Target};
use loadtest::postgres::Cluster;
use std::future::Future;
use std::time::{Duration, Instant};

/// Longer than anything takes; only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn target(dsn: &str) -> Target {
    Target::parse("test", dsn).expect("a DSN")
}

pub async fn connect(dsn: &str) -> Result<Session, Failure> {
    let target = target(dsn);
    connect_as(&target, &target.identity("client test")).await
}

pub async fn connect_as(target: &Target, identity: &Identity) -> Result<Session, Failure> {
    ends(Session::connect(target, identity, &mut ConnectTimes::default())).await
}

/// What it comes to. A hang is a failed test.
pub async fn ends<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

pub fn server_error(failure: Failure) -> ServerError {
    match failure {
        Failure::Server(error) => error,
        other => panic!("no error of the server: {other}"),
    }
}

/// Asks the server until it says so.
pub fn wait_until(cluster: &Cluster, condition: &str) {
    let begun = Instant::now();
    while cluster.psql("postgres", &format!("select {condition}")).unwrap() != "t" {
        assert!(begun.elapsed() < PATIENCE, "never: {condition}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
