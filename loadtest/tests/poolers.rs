//! Poolers as processes: they serve, encrypt, know all their roles, and are gone afterwards.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use loadtest::poolers::{Assignment, Pooler, PoolerError, Upstream, pgbouncer};
use loadtest::postgres::{Cluster, ClusterOptions};
use std::path::{Path, PathBuf};
use tokio_postgres::NoTls;

const USERS: [(&str, &str); 2] = [("app", "one"), ("batch", "two")];

fn cluster() -> (Cluster, Assignment) {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    for (user, password) in USERS {
        cluster.psql("postgres", &format!("create role {user} login password '{password}'")).unwrap();
    }
    cluster.psql("postgres", "create database shop").unwrap();
    let upstream = Upstream::of(&cluster, "shop", &USERS).unwrap();
    (cluster, Assignment { upstream, pool_size: 2, client_tls: None })
}

async fn current_user(url: &str) -> String {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one("select current_user::text", &[]).await.unwrap().get(0)
}

fn is_running(process: u32) -> bool {
    PathBuf::from(format!("/proc/{process}/stat")).exists()
}

#[tokio::test]
async fn pgbouncer_serves_every_role_and_is_gone_when_dropped() {
    for settings in [&pgbouncer::DEFAULT[..], &pgbouncer::TUNED[..]] {
        let pooler = match Pooler::pgbouncer("PgBouncer", settings) {
            Err(PoolerError::NotInstalled { .. }) => {
                eprintln!("skipped: no PgBouncer on this machine; scripts/setup-poolers.sh installs it");
                return;
            }
            pooler => pooler.unwrap(),
        };
        let (_cluster, assignment) = cluster();
        let running = pooler.start(&assignment).unwrap();
        for (user, password) in USERS {
            let url = format!("postgres://{user}:{password}@127.0.0.1:{}/shop", running.port);
            assert_eq!(current_user(&url).await, user);
        }
        assert!(pooler.version().starts_with("PgBouncer"), "{}", pooler.version());
        let process = running.process();
        assert!(is_running(process));
        drop(running);
        assert!(!is_running(process));
    }
}

#[test]
fn a_pooler_that_ends_at_once_shows_what_it_printed() {
    let (_cluster, assignment) = cluster();
    let error = Pooler::parse("broken=ls --no-such-option {port}").unwrap().start(&assignment).unwrap_err();
    assert!(matches!(error, PoolerError::Start { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-option"), "{error}");
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let (_cluster, assignment) = cluster();
    let error = Pooler::pgcorral("missing", Path::new("/nowhere/pgcorral")).start(&assignment).unwrap_err();
    assert!(matches!(error, PoolerError::Io { doing: "starting a pooler", .. }), "{error:?}");
}
