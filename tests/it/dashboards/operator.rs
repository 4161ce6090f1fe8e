//! What an operator does, and forgets: reloads, good and bad, a drain, a certificate that ends tomorrow.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use super::expression::Choice;
use super::occasion::{Occasion, expected};
use super::prometheus::Prometheus;
use crate::support::certificate::Certificate;
use crate::support::ground::Ground;
use crate::support::proxy::{Proxy, ProxyOptions};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(15);

/// The marks in all panels, and the alerts.
pub fn acts(ground: &Ground) {
    let tenant = ground.tenant("dashboards_operator");
    let certificate = Certificate::ending_in(DAY);
    let options = ProxyOptions {
        tls: Some(certificate.paths()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)])
    };
    let proxy = Proxy::start(&options);
    let prometheus = Prometheus::start(&[proxy.admin]);
    prometheus.wait_for("pgcorral_config_reload_timestamp_seconds");
    let begun = SystemTime::now();
    let instance = proxy.admin.to_string();
    let choice = Choice { instance: &instance, database: &tenant.name, user: &tenant.name, function: ".*" };
    let wanted = expected(&prometheus, &choice, Occasion::Operator);
    let (drains, others) =
        wanted.into_iter().partition::<Vec<_>, _>(|one| one.name.ends_with("annotation Drains"));
    assert!(proxy.reload(&options.toml()));
    assert!(!proxy.reload("not [ toml"));
    prometheus.assert_values(others, begun, PATIENCE);
    // It waits for a transaction, and answers Prometheus meanwhile.
    let mut client = tenant.login(proxy.address);
    client.run("begin");
    proxy.signal(Signal::TERM);
    prometheus.assert_values(drains, begun, PATIENCE);
    client.run("commit");
}
