//! The usual case: work, and then more of it than the pool can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use tokio_postgres::NoTls;

use super::expression::Choice;
use super::occasion::{Occasion, alerts, expected, usual};
use super::prometheus::Prometheus;
use crate::support::certificate::Certificate;
use crate::support::ground::{Ground, Tenant, block_on};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::wire::{PROTOCOL_3_0, Wire};

/// So long little happens at first: a few scrapes.
const QUIET: Duration = Duration::from_secs(3);
/// So long a queue stands, and is seen to: until then nothing is asked.
const STORM: Duration = Duration::from_secs(5);
/// The storm goes on until everything has had a value, at most so long: means are over 10 s.
const PATIENCE: Duration = Duration::from_secs(20);
const FUNCTIONS: [&str; 3] = ["checkout", "search", "report"];
const INSTANCES: usize = 40;

/// No alert has a value in quiet times; in an overload everything has one but what is of another trouble.
pub fn all(ground: &Ground) {
    let tenant = ground.tenant("dashboards_overload");
    let certificate = Certificate::new();
    let database = Database {
        extra: vec!["adaptive_limit = \"observe\"".to_owned()],
        ..tenant.database(ground.cluster(), 4)
    };
    let rule = "[rate_limits.watched]\nwhat = \"transactions\"\nper = [\"user\"]\nrate = \"1/s\"\nmode = \"observe\"";
    let proxy = Proxy::start(&ProxyOptions {
        tls: Some(certificate.paths()),
        sections: vec![rule.to_owned()],
        ..ProxyOptions::new(vec![database])
    });
    let prometheus = Prometheus::start(&[proxy.admin]);
    prometheus.wait_for("pgcorral_build_info");
    let begun = SystemTime::now();
    quiet(&tenant, &proxy);
    for alert in alerts(&prometheus) {
        let values = prometheus.values_since(&alert.text, begun);
        assert!(values.is_empty(), "{} has values in quiet times: {values:?}", alert.name);
    }
    let instance = proxy.admin.to_string();
    let choice = Choice { instance: &instance, database: &tenant.name, user: &tenant.name, function: ".*" };
    let storm = Storm::start(&tenant, &proxy);
    std::thread::sleep(STORM);
    let mut wanted = usual(&prometheus, &choice);
    wanted.extend(expected(&prometheus, &choice, Occasion::Overload));
    prometheus.assert_values(wanted, begun, PATIENCE);
    storm.end();
}

/// Clients with TLS that do a little, one after the other.
fn quiet(tenant: &Tenant, proxy: &Proxy) {
    let begun = Instant::now();
    while begun.elapsed() < QUIET {
        let mut wire = Wire::connect(proxy.address).and_then(Wire::start_tls).expect("TLS");
        wire.send_startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)])
            .expect("startup");
        assert!(wire.authenticate(&tenant.name, &tenant.password).1.is_ok());
        assert_eq!(wire.value("select 1"), "1");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Instances of three functions that ask for ten times of what there is, and come back soon when they are refused.
struct Storm {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Storm {
    fn start(tenant: &Tenant, proxy: &Proxy) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let url = tenant.url(proxy.address);
        let stopped = Arc::clone(&stop);
        let instances = move || {
            let instance = |number: usize| {
                let function = FUNCTIONS[number % FUNCTIONS.len()];
                instance(format!("{url}?application_name={function}"), Arc::clone(&stopped))
            };
            block_on(join_all((0..FUNCTIONS.len() * INSTANCES).map(instance)));
        };
        Self { stop, thread: std::thread::spawn(instances) }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("nobody was sent away");
    }
}

async fn instance(url: String, stop: Arc<AtomicBool>) {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("log in");
    let connection = tokio::spawn(connection);
    for turn in 1_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // Now and then what PostgreSQL refuses: that is counted, too.
        let sql = if turn.is_multiple_of(20) { "select 1/0" } else { "select pg_sleep(0.1)" };
        if client.query(sql, &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    drop(client);
    let _ = connection.await;
}
