//! A storm at a small PostgreSQL without a pooler: it has to refuse, and every invocation has to be accounted for.

use loadtest::backends::BackendCount;
use loadtest::postgres::{Cluster, ClusterOptions};
use loadtest::storm::{Progress, Refusal, Storm};
use std::time::Duration;

#[tokio::test]
async fn every_invocation_is_served_or_refused_by_sqlstate() {
    let options = ClusterOptions { max_connections: 12, superuser_reserved: 2, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).unwrap();
    cluster.psql("postgres", "create role app login password 'secret'").unwrap();
    let count = BackendCount::start(&cluster.superuser_url("postgres")).await.unwrap();
    let storm = Storm { invocations: 60, hold: Duration::from_millis(300), ..Storm::default() };

    let mut last = Progress::default();
    let report =
        storm.fire(&cluster.url("app", "secret", "postgres"), |progress| last = progress).await.unwrap();

    let refused = report.refused.get(&Refusal::Sqlstate("53300".to_owned())).copied().unwrap_or(0);
    assert_eq!(report.served() + refused, 60, "{report:?}");
    assert!(report.served() > 0 && refused > 0, "{report:?}");
    assert_eq!(last, Progress { served: report.served(), refused, total: 60 });
    assert!(report.latency(0).unwrap() >= storm.hold);
    assert!((1..=9).contains(&count.most()), "{}", count.most());
}

#[tokio::test]
async fn nobody_listening_is_a_refusal_not_an_error() {
    let port = loadtest::postgres::free_port().unwrap();
    let storm = Storm { invocations: 3, ..Storm::default() };
    let report = storm.fire(&format!("postgres://app@127.0.0.1:{port}/app"), |_| ()).await.unwrap();
    assert_eq!(report.refused.get(&Refusal::Connection), Some(&3));
}
