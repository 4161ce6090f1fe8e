//! Stampedes: everybody is served, and PostgreSQL itself never counts more backends than it was promised.

use std::sync::Arc;

use futures_util::future::join_all;
use libtest_mimic::Trial;
use tokio_postgres::NoTls;

use crate::Test;
use crate::support::ground::{Ground, Tenant, Watch, block_on, eventually, start_cluster, tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::wire::Wire;

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("storm", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("a_thousand_clients_on_a_pool_of_twenty", thousand),
    ("bounds_of_pool_database_and_server", bounds),
    ("reconnecting_for_every_query", reconnecting),
    ("lesson_01_every_permit_comes_back", permits),
    ("lesson_04_a_cold_pool_grows_at_once", cold_growth),
    ("lesson_18_a_cold_pool_is_not_overdialled", no_overdial),
];

/// Lesson 13: counted in `pg_stat_activity`, not in the proxy.
fn backends_of(role: &str) -> [String; 1] {
    [format!("usename = '{role}'")]
}

fn patient(databases: Vec<Database>) -> ProxyOptions {
    ProxyOptions {
        max_wait: Some("60s".to_owned()),
        login_timeout: Some("60s".to_owned()),
        ..ProxyOptions::new(databases)
    }
}

/// Connects and runs some queries, each with a literal of its own; panics if one fails or is answered with another's.
async fn invocation(url: String, number: usize, queries: usize, sql: &str) {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("log in");
    let connection = tokio::spawn(connection);
    for query in 0..queries {
        let mark = format!("{number}-{query}");
        let rows = client.simple_query(&format!("select '{mark}'{sql}")).await.expect("a query is served");
        let got = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        assert_eq!(got, Some(mark));
    }
    drop(client);
    let _ = connection.await;
}

fn thousand(_: &Ground) {
    let cluster = start_cluster(60);
    let tenant = tenant(&cluster, "thousand");
    let proxy = Proxy::start(&patient(vec![tenant.database(&cluster, 20)]));
    let watch = Watch::start(&cluster, &backends_of("thousand"));
    let url = tenant.url(proxy.address);
    block_on(join_all(
        (0..1000).map(|number| {
            let url = url.clone();
            async move {
                tokio::spawn(invocation(url, number, 2, ", pg_sleep(0.005)")).await.expect("an invocation")
            }
        }),
    ));
    let most = watch.most()[0];
    assert!((2..=20).contains(&most), "PostgreSQL counted {most} backends for a pool of 20");
}

/// Two users on one database (pools of 5, 8 together) and one on another (5), 10 for the whole server.
fn bounds(ground: &Ground) {
    let cluster = ground.cluster();
    let [first, second, third] = ["bound_a", "bound_b", "bound_c"].map(|name| ground.tenant(name));
    let user = |tenant: &Tenant| (tenant.name.clone(), tenant.password.clone());
    let shared = Database {
        users: vec![user(&first), user(&second)],
        max_connections: Some(8),
        ..first.database(cluster, 5)
    };
    let other = third.database(cluster, 5);
    let proxy =
        Proxy::start(&ProxyOptions { max_server_connections: Some(10), ..patient(vec![shared, other]) });
    let conditions = [
        "usename like 'bound%'",
        "datname = 'bound_a' and usename = 'bound_a'",
        "datname = 'bound_a' and usename = 'bound_b'",
        "datname = 'bound_a' and usename like 'bound%'",
        "datname = 'bound_c' and usename = 'bound_c'",
    ];
    let watch = Watch::start(cluster, &conditions.map(str::to_owned));
    let address = proxy.address;
    let urls =
        [&first, &second].map(|t| format!("postgres://{}:{}@{address}/{}", t.name, t.password, first.name));
    let urls = [urls[0].clone(), urls[1].clone(), third.url(address)];
    block_on(join_all(
        (0..300).map(|number| {
            let url = urls[number % 3].clone();
            async move {
                tokio::spawn(invocation(url, number, 3, ", pg_sleep(0.01)")).await.expect("an invocation")
            }
        }),
    ));
    let most = watch.most();
    for (count, bound) in most.iter().zip([10, 5, 5, 8, 5]) {
        assert!(
            *count <= bound,
            "counted {most:?}, bounds are 10 in all, 5 a pool, 8 for the first database"
        );
    }
    assert!(most.iter().all(|count| *count > 0), "the storm reached nothing: {most:?}");
}

fn reconnecting(ground: &Ground) {
    let tenant = ground.tenant("reconnecting");
    let proxy = Proxy::start(&patient(vec![tenant.database(ground.cluster(), 5)]));
    let watch = Watch::start(ground.cluster(), &backends_of("reconnecting"));
    let url = tenant.url(proxy.address);
    block_on(join_all((0..50).map(|number| {
        let url = url.clone();
        async move {
            for round in 0..5 {
                invocation(url.clone(), number * 10 + round, 1, "").await;
            }
        }
    })));
    let most = watch.most()[0];
    assert!((1..=5).contains(&most), "PostgreSQL counted {most} backends for a pool of 5");
    eventually("all clients are gone", || proxy.metric("pgcorral_clients{") == 0.0);
}

/// Whatever clients do, afterwards all of the pool's servers can be held at once.
fn permits(ground: &Ground) {
    const POOL: usize = 4;
    let tenant = ground.tenant("permits");
    let proxy = Proxy::start(&patient(vec![tenant.database(ground.cluster(), POOL)]));
    let watch = Watch::start(ground.cluster(), &backends_of("permits"));
    let rude: Vec<_> = (0..60)
        .map(|number: usize| {
            let (tenant, address) = (tenant.clone(), proxy.address);
            std::thread::spawn(move || rude_client(&tenant, address, number))
        })
        .collect();
    for thread in rude {
        thread.join().expect("a client");
    }
    let mut holders: Vec<Wire> = (0..POOL).map(|_| tenant.login(proxy.address)).collect();
    for holder in &mut holders {
        let replies = holder.run("begin; select 1");
        assert!(replies.iter().all(|m| m.tag != b'E'), "{replies:?}");
    }
    assert!(watch.most()[0] <= POOL as i64);
}

/// Leaves at a moment that its number decides: while it waits, while its query runs, in a transaction, with a cancel.
fn rude_client(tenant: &Tenant, address: std::net::SocketAddr, number: usize) {
    let mut wire = tenant.login(address);
    match number % 5 {
        0 => drop(wire.query("select pg_sleep(0.02)")),
        1 => drop(wire.run("begin; select 1")),
        2 => {
            wire.query("select pg_sleep(0.02)").expect("send");
            crate::support::wire::cancel(address, &wire.cancel_key.clone().expect("a key"));
        }
        3 => drop(wire.query("select generate_series(1, 100000)")),
        _ => drop(wire.run("select 1/0")),
    }
}

/// Twenty transactions at once on a pool of twenty that has nothing yet: none waits for another to end.
fn cold_growth(ground: &Ground) {
    let tenant = ground.tenant("cold_growth");
    let proxy = Proxy::start(&patient(vec![tenant.database(ground.cluster(), 20)]));
    let mut clients: Vec<Wire> = (0..20).map(|_| tenant.login(proxy.address)).collect();
    for client in &mut clients {
        client.query("begin").expect("send");
    }
    for client in &mut clients {
        client.ready();
    }
}

/// Five hundred at once on a cold pool of ten: ten dials are enough.
fn no_overdial(ground: &Ground) {
    let tenant = ground.tenant("overdial");
    let proxy = Proxy::start(&patient(vec![tenant.database(ground.cluster(), 10)]));
    let url = tenant.url(proxy.address);
    block_on(join_all((0..500).map(|number| invocation(url.clone(), number, 1, ""))));
    let dials = proxy.metric("pgcorral_dials_total{");
    // One more may have been for the parameters that a login shows.
    assert!((1.0..=11.0).contains(&dials), "{dials} dials");
}
