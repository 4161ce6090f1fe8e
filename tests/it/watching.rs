//! What an operator sees is what there is: gauges and counters against what a few clients are known to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::Test;
use crate::support::ground::{Ground, Tenant, eventually};
use crate::support::proxy::{Proxy, ProxyOptions};
use crate::support::wire::{Wire, cancel};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("watching", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("servers_by_what_they_do", servers),
    ("requests_rows_and_errors", requests),
    ("phases_of_a_login", phases),
    ("functions_and_their_goodput", functions),
    ("status_of_a_pool_in_use", status),
];

fn start(ground: &Ground, name: &str, size: usize) -> (Tenant, Proxy) {
    let tenant = ground.tenant(name);
    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(ground.cluster(), size)]));
    (tenant, proxy)
}

/// Of the series with this name whose labels have all of these.
fn sum(proxy: &Proxy, name: &str, labels: &[(&str, &str)]) -> f64 {
    let (_, text) = proxy.get("/metrics");
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn servers(ground: &Ground) {
    let (tenant, proxy) = start(ground, "watch_servers", 4);
    let are = |expected: [(&str, f64); 5]| {
        eventually(&format!("{expected:?}"), || {
            expected
                .iter()
                .all(|(state, count)| sum(&proxy, "pgcorral_servers", &[("state", state)]) == *count)
        });
    };
    let [mut one, mut two, mut three] = [0; 3].map(|_| tenant.login(proxy.address));
    one.run("begin");
    are([
        ("idle_in_transaction", 1.0),
        ("active", 0.0),
        ("pinned", 0.0),
        ("cancelling", 0.0),
        ("dialling", 0.0),
    ]);
    two.run("listen news");
    three.query("select pg_sleep(30)").expect("send");
    are([
        ("idle_in_transaction", 1.0),
        ("active", 1.0),
        ("pinned", 1.0),
        ("cancelling", 0.0),
        ("dialling", 0.0),
    ]);
    assert_eq!(sum(&proxy, "pgcorral_pool_clients", &[]), 3.0);
    one.query("select pg_sleep(30)").expect("send");
    two.run("unlisten *");
    are([
        ("idle_in_transaction", 0.0),
        ("active", 2.0),
        ("pinned", 0.0),
        ("cancelling", 0.0),
        ("dialling", 0.0),
    ]);
    // Gone in the middle of a query: cancelled, rolled back, and used again.
    drop((one, three));
    are([
        ("idle_in_transaction", 0.0),
        ("active", 0.0),
        ("pinned", 0.0),
        ("cancelling", 0.0),
        ("dialling", 0.0),
    ]);
    eventually("all of them are idle", || sum(&proxy, "pgcorral_servers", &[("state", "idle")]) >= 3.0);
    assert_eq!(sum(&proxy, "pgcorral_servers_destroyed_total", &[]), 0.0);
    let busy = sum(&proxy, "pgcorral_pool_busy_seconds_total", &[]);
    assert!(busy > 0.0);
    assert_eq!(sum(&proxy, "pgcorral_pool_busy_seconds_total", &[]), busy, "nobody has one");
}

fn requests(ground: &Ground) {
    let (tenant, proxy) = start(ground, "watch_requests", 2);
    let mut client = tenant.login(proxy.address);
    let counts = || {
        ["queries_total", "first_row_seconds_count", "exec_seconds_count", "transactions_total"]
            .map(|name| sum(&proxy, &format!("pgcorral_{name}"), &[]))
    };
    client.run("select 1");
    let [queries, rows, execs, transactions] = counts();
    for _ in 0..5 {
        client.run("select generate_series(1, 3)");
    }
    client.run("create temporary table t (a int) on commit drop");
    client.run("begin");
    client.run("select 1; select 2");
    client.run("commit");
    assert_eq!(counts(), [queries + 10.0, rows + 6.0, execs + 9.0, transactions + 7.0]);
    client.run("select 1/0");
    client.run("select no_such_column");
    client.run("selec");
    let errors = |class| sum(&proxy, "pgcorral_server_errors_total", &[("class", class)]);
    assert_eq!([errors("22"), errors("42"), errors("53")], [1.0, 2.0, 0.0]);
    assert_eq!(counts()[0], queries + 10.0, "what fails is not completed");
    // A row long before the end.
    client
        .query("select pg_sleep(case when n = 1 then 0 else 0.3 end) from generate_series(1, 2) n")
        .expect("send");
    client.ready();
    let below = |le| sum(&proxy, "pgcorral_first_row_seconds_bucket", &[("le", le)]);
    assert_eq!(below("+Inf"), rows + 7.0);
    let dials = sum(&proxy, "pgcorral_dials_total", &[("result", "ok"), ("sqlstate", "")]);
    assert!(dials >= 1.0);
}

fn phases(ground: &Ground) {
    let (tenant, proxy) = start(ground, "watch_phases", 2);
    let _clients = [0; 4].map(|_| tenant.login(proxy.address));
    let count = |phase| sum(&proxy, "pgcorral_login_phase_seconds_count", &[("phase", phase)]);
    let counts = || [count("turn"), count("authentication"), count("settings"), count("tls")];
    assert_eq!(counts(), [4.0, 4.0, 4.0, 0.0]);
    let mut client = tenant.login(proxy.address);
    let key = client.cancel_key.clone().expect("a cancel key");
    cancel(proxy.address, &key);
    assert_eq!(client.value("select 1"), "1");
    assert_eq!(counts(), [5.0, 5.0, 5.0, 0.0], "a cancel request is no login");
}

fn functions(ground: &Ground) {
    let (tenant, proxy) = start(ground, "watch_functions", 2);
    let login = |name: &str| {
        let mut client = tenant.login(proxy.address);
        client.run(&format!("set application_name = '{name}'"));
        client
    };
    let (mut works, mut leaves) = (login("works"), login("leaves"));
    for _ in 0..5 {
        works.run("select pg_sleep(0.02)");
    }
    leaves.query("select pg_sleep(30)").expect("send");
    let of =
        |name: &str, function| sum(&proxy, &format!("pgcorral_function_{name}"), &[("function", function)]);
    eventually("it is at work", || of("servers", "leaves") == 1.0);
    let before = of("transactions_total", "leaves");
    drop(leaves);
    eventually("it has left", || of("servers", "leaves") == 0.0);
    assert!(of("transactions_total", "works") >= 5.0);
    assert!(of("held_seconds_total", "works") >= 0.1);
    assert!(of("held_seconds_total", "leaves") > 0.0);
    assert!(of("transactions_total", "leaves") <= before + 1.0);
}

fn status(ground: &Ground) {
    let (tenant, proxy) = start(ground, "watch_status", 2);
    let read = || -> Value {
        let (code, text) = proxy.get("/status");
        assert_eq!(code, 200);
        serde_json::from_str(&text).expect("JSON")
    };
    let max: u64 = ground.root("postgres").value("show max_connections").parse().expect("a number");
    let allowed = |status: &Value| status["upstreams"][0]["max_connections"].as_u64();
    drop(tenant.login(proxy.address));
    eventually("PostgreSQL was asked", || allowed(&read()).is_some_and(|allowed| allowed < max));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            let (over, tenant, address) = (&over, &tenant, proxy.address);
            scope.spawn(move || {
                let mut client: Wire = tenant.login(address);
                while !over.load(Ordering::Relaxed) {
                    client.run("select pg_sleep(0.02)");
                }
            });
        }
        eventually("the pool is seen to be full", || {
            let status = read();
            let pool = &status["pools"][0];
            let number = |value: &Value| value.as_f64().unwrap_or_default();
            number(&pool["utilisation"]) > 0.8
                && number(&pool["erlangs"]) > 1.6
                && number(&pool["per_second"]["transactions"]) > 20.0
                && number(&pool["collapse_ratio"]) > 0.0
                && number(&pool["functions"][0]["share"]) > 0.9
                && status["history"]["points"].as_array().is_some_and(|points| points.len() >= 2)
                && status["history"]["points"][1]["hold"][0].as_f64().is_some_and(|p50| p50 >= 0.016)
        });
        over.store(true, Ordering::Relaxed);
    });
    let status = read();
    assert_eq!(status["clients"]["active"], 0);
    assert_eq!(status["ready"], true);
    let sampled = sum(&proxy, "pgcorral_pool_utilisation", &[]);
    assert!((0.0..=1.0).contains(&sampled), "{sampled}");
}
