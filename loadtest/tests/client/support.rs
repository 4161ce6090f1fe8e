//! What the tests share.

use loadtest::client::{ConnectTimes, Failure, Identity, ServerError, Session, Target};
use loadtest::postgres::{Cluster, ClusterOptions};
use std::future::Future;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// The server of all tests that need no other: to make one takes seconds. It is never dropped; its janitor ends it when
/// this process is over.
pub fn shared() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| with_roles(ClusterOptions::default()));
    &CLUSTER
}

/// A server with a role for each way to log in.
pub fn with_roles(options: ClusterOptions) -> Cluster {
    const ROLES: &str = "create role s login password 'sécret,=pw'; \
        set password_encryption = 'md5'; create role m login password 'secret'; \
        create role c login password 'secret'; create role t login; create role few login connection limit 0;";
    let hba_lines = [("m", "md5"), ("c", "password"), ("t", "trust"), ("few", "trust")]
        .map(|(role, method)| format!("host all {role} all {method}"));
    let cluster = Cluster::start(ClusterOptions { hba_lines: hba_lines.into(), ..options }).unwrap();
    cluster.psql("postgres", ROLES).unwrap();
    cluster
}

/// A database of a server: of the shared one, so that tests do not see each other's sessions.
pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Database<'static> {
    /// A new one on the shared server.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        shared().psql("postgres", &format!("create database {name}")).unwrap();
        Self { cluster: shared(), name }
    }
}

impl<'a> Database<'a> {
    /// The only one of a server of the test's own.
    pub fn of(cluster: &'a Cluster) -> Self {
        Self { cluster, name: "postgres".to_owned() }
    }

    pub fn superuser_url(&self) -> String {
        self.cluster.superuser_url(&self.name)
    }

    pub fn psql(&self, sql: &str) -> String {
        self.cluster.psql(&self.name, sql).unwrap()
    }

    /// Waits until the server has a session here of which this holds.
    pub fn wait_for_session(&self, condition: &str) {
        self.wait_until(&Self::has_session(condition));
    }

    /// Waits until it has none.
    pub fn wait_for_no_session(&self, condition: &str) {
        self.wait_until(&format!("not {}", Self::has_session(condition)));
    }

    /// Asks the server until it says so.
    pub fn wait_until(&self, condition: &str) {
        let begun = Instant::now();
        while self.psql(&format!("select {condition}")) != "t" {
            assert!(begun.elapsed() < PATIENCE, "never: {condition}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn has_session(condition: &str) -> String {
        format!("exists (select from pg_stat_activity where datname = current_database() and {condition})")
    }
}
