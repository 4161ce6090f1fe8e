//! Clients that freeze, keep server connections, guess passwords, and are more than there are files for.

use std::time::{Duration, SystemTime};

use super::expression::Choice;
use super::occasion::{Occasion, expected};
use super::prometheus::Prometheus;
use crate::support::ground::{Ground, Tenant};
use crate::support::proxy::{Proxy, ProxyOptions};
use crate::support::wire::{PROTOCOL_3_0, Wire};

/// Room for the clients, and little more.
const FILES: u32 = 160;
const POOL: usize = 8;
const PATIENCE: Duration = Duration::from_secs(25);
/// More than one in ten seconds, over five minutes.
const GUESSES: usize = 60;

/// All of it at once, as each is seen by a metric of its own.
pub fn clients(ground: &Ground) {
    let tenant = ground.tenant("dashboards_rude");
    let proxy = Proxy::start(&ProxyOptions {
        max_wait: Some("60s".to_owned()),
        max_files: Some(FILES),
        limits_extra: vec!["client_spool = \"16MiB\"".to_owned()],
        timeouts_extra: vec![
            "client_stall_timeout = \"6s\"".to_owned(),
            "idle_in_transaction_timeout = \"500ms\"".to_owned(),
        ],
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), POOL)])
    });
    let prometheus = Prometheus::start(&[proxy.admin]);
    prometheus.wait_for("pgcorral_spool_bytes");
    let begun = SystemTime::now();
    let instance = proxy.admin.to_string();
    let choice = Choice { instance: &instance, database: &tenant.name, user: &tenant.name, function: ".*" };
    let wanted = expected(&prometheus, &choice, Occasion::RudeClients);
    let _pinned = pin(&tenant, &proxy);
    let _stalled = stall(&tenant, &proxy);
    let _silent = fall_silent(&tenant, &proxy);
    guess(&tenant, &proxy);
    let _many = be_many(&tenant, &proxy);
    prometheus.assert_values(wanted, begun, PATIENCE);
}

/// Half of the pool may be kept; two more try it.
fn pin(tenant: &Tenant, proxy: &Proxy) -> Vec<Wire> {
    let mut clients: Vec<Wire> = (0..POOL / 2 + 2).map(|_| tenant.login(proxy.address)).collect();
    for client in &mut clients {
        client.run("listen heard");
    }
    clients
}

/// Six replies of 15 MB that nobody reads: together they fill the spool.
fn stall(tenant: &Tenant, proxy: &Proxy) -> Vec<Wire> {
    let mut clients: Vec<Wire> = (0..6).map(|_| tenant.login(proxy.address)).collect();
    for client in &mut clients {
        client.query("select repeat('x', 1000) from generate_series(1, 15000)").expect("send");
    }
    clients
}

/// Silent inside a transaction.
fn fall_silent(tenant: &Tenant, proxy: &Proxy) -> Vec<Wire> {
    let mut clients: Vec<Wire> = (0..8).map(|_| tenant.login(proxy.address)).collect();
    for client in &mut clients {
        client.query("begin").expect("send");
    }
    clients
}

/// Wrong passwords.
fn guess(tenant: &Tenant, proxy: &Proxy) {
    for _ in 0..GUESSES {
        let mut wire = Wire::connect(proxy.address).expect("connect");
        wire.send_startup(PROTOCOL_3_0, &[("user", &tenant.name), ("database", &tenant.name)])
            .expect("startup");
        assert!(wire.authenticate(&tenant.name, "wrong").1.is_err());
    }
}

/// Nine tenths of the files.
fn be_many(tenant: &Tenant, proxy: &Proxy) -> Vec<Wire> {
    let mut clients = Vec::new();
    while proxy.metric("pgcorral_process_open_files") < f64::from(FILES) * 0.9 {
        clients.push(tenant.login(proxy.address));
    }
    clients
}
