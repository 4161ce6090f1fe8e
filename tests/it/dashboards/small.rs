//! A PostgreSQL that has room for fewer connections than the pool may open; then it is away; then the proxy is, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::expression::Choice;
use super::occasion::{Occasion, expected};
use super::prometheus::Prometheus;
use crate::support::ground::{Tenant, start_cluster, tenant};
use crate::support::proxy::{Proxy, ProxyOptions};

/// PostgreSQL's `max_connections`, of which three are not for ordinary users.
const ROOM: u32 = 10;
const POOL: usize = 12;
/// For each of the troubles: dials must have failed for three seconds, and Prometheus has to see it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Budget alerts first, then the breaker's, then the target's.
pub fn server() {
    let mut cluster = start_cluster(ROOM);
    let tenant = tenant(&cluster, "dashboards_small");
    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(&cluster, POOL)]));
    let prometheus = Prometheus::start(&[proxy.admin]);
    let instance = proxy.admin.to_string();
    let choice = Choice { instance: &instance, database: &tenant.name, user: &tenant.name, function: ".*" };
    let wanted = |occasion| expected(&prometheus, &choice, occasion);
    // PostgreSQL was asked before there was no room to do so.
    prometheus.wait_for("pgcorral_upstream_max_connections");
    let begun = SystemTime::now();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..POOL {
            scope.spawn(|| client(&tenant, &proxy, &over));
        }
        // Also if an assertion fails: the scope waits for its threads.
        let _over = Over(&over);
        prometheus.assert_values(wanted(Occasion::SmallServer), begun, PATIENCE);
        cluster.stop_fast();
        prometheus.assert_values(wanted(Occasion::Outage), begun, PATIENCE);
    });
    let gone = wanted(Occasion::Gone);
    drop(proxy);
    prometheus.assert_values(gone, begun, PATIENCE);
}

/// Keeps one server connection busy, if it gets one.
fn client(tenant: &Tenant, proxy: &Proxy, over: &AtomicBool) {
    let mut wire = tenant.login(proxy.address);
    while !over.load(Ordering::Relaxed) {
        // It may be refused, and the server may be away: only that it asks matters.
        wire.run("select pg_sleep(0.2)");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the clients when dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
