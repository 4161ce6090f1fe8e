//! The ways between proxy and PostgreSQL, and between clients and proxy, that are not plain TCP: TLS and Unix sockets.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use libtest_mimic::Trial;
use loadtest::postgres::{Cluster, ClusterOptions};
use rustix::process::Signal;
use tokio_postgres::NoTls;

use crate::Test;
use crate::support::certificate::{Authority, Certificate};
use crate::support::ground::{Ground, Tenant, block_on, eventually, tenant};
use crate::support::proxy::{Database, Proxy, ProxyOptions};
use crate::support::wire::{PROTOCOL_3_0, Wire, cancel, sqlstate};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("transports", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("server_tls_require", |_| require()),
    ("server_tls_verify_full", |_| verify_full()),
    ("server_tls_wrong_authority_or_name_is_refused", |_| wrong_authority()),
    ("unix_sockets_on_both_sides", unix_sockets),
];

/// A server that lets nobody in without TLS.
fn tls_cluster(certificate: &Certificate) -> Cluster {
    let (chain, key) = certificate.paths();
    let tls = Some((chain.into(), key.into()));
    let hba_lines = vec!["hostnossl all tls all reject".to_owned()];
    let cluster = Cluster::start(ClusterOptions { tls, hba_lines, ..ClusterOptions::default() });
    cluster.unwrap_or_else(|error| panic!("{error}"))
}

/// A proxy that reaches the server under this name and with these parameters of its URL.
fn tls_proxy(cluster: &Cluster, tenant: &Tenant, host: &str, parameters: &str) -> Proxy {
    let upstream = format!("postgres://{host}:{}/{}?{parameters}", cluster.port(), tenant.name);
    let database = Database { upstream: Some(upstream), ..tenant.database(cluster, 2) };
    Proxy::start(&ProxyOptions { login_timeout: Some("10s".to_owned()), ..ProxyOptions::new(vec![database]) })
}

/// Queries, a large result and a large query, and a cancel, all through TLS.
fn assert_works(cluster: &Cluster, tenant: &Tenant, proxy: &Proxy) {
    let mut wire = tenant.login(proxy.address);
    assert_eq!(wire.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "t");
    assert_eq!(wire.value("select repeat('x', 1000000)").len(), 1_000_000);
    assert_eq!(wire.value(&format!("select length('{}')", "x".repeat(1_000_000))), "1000000");
    wire.query("select pg_sleep(100)").expect("send");
    let mut root = crate::support::ground::root(cluster, "postgres");
    eventually("the query runs", || {
        root.value("select count(*) from pg_stat_activity where usename = 'tls' and wait_event = 'PgSleep'")
            == "1"
    });
    cancel(proxy.address, &wire.cancel_key.clone().expect("a key"));
    assert_eq!(sqlstate(&wire.ready()).as_deref(), Some("57014"));
    assert_eq!(wire.value("select 'usable'"), "usable");
}

fn require() {
    let cluster = tls_cluster(&Certificate::new());
    let tenant = tenant(&cluster, "tls");
    assert_works(&cluster, &tenant, &tls_proxy(&cluster, &tenant, "127.0.0.1", "sslmode=require"));
}

fn verify_full() {
    let authority = Authority::new();
    let cluster = tls_cluster(&authority.certificate());
    let tenant = tenant(&cluster, "tls");
    let parameters = format!("sslmode=verify-full&sslrootcert={}", authority.path());
    assert_works(&cluster, &tenant, &tls_proxy(&cluster, &tenant, "localhost", &parameters));
}

fn wrong_authority() {
    let (authority, other) = (Authority::new(), Authority::new());
    let cluster = tls_cluster(&authority.certificate());
    let tenant = tenant(&cluster, "tls");
    // The certificate is for `localhost` alone.
    for (host, trusted) in [("localhost", &other), ("127.0.0.1", &authority)] {
        let parameters = format!("sslmode=verify-full&sslrootcert={}", trusted.path());
        let proxy = tls_proxy(&cluster, &tenant, host, &parameters);
        let mut wire = Wire::connect(proxy.address).expect("connect");
        wire.send_startup(PROTOCOL_3_0, &[("user", "tls"), ("database", "tls")]).expect("startup");
        let (messages, result) = wire.authenticate(&tenant.name, &tenant.password);
        assert!(result.is_err(), "{messages:?}");
        let error = messages.last().expect("an error");
        let detail = error.field(b'D').unwrap_or_default();
        assert_eq!((error.sqlstate().as_str(), error.field(b'V').as_deref()), ("08001", Some("FATAL")));
        assert!(detail.contains("certificate"), "DETAIL is {detail:?}");
        eventually("the log says so", || proxy.log().contains("certificate"));
    }
}

/// Client to proxy and proxy to PostgreSQL, both with SCRAM.
fn unix_sockets(ground: &Ground) {
    let Tenant { name, password } = ground.tenant("unix_sockets");
    let cluster = ground.cluster();
    let directory = tempfile::Builder::new().prefix("pgcorral").tempdir_in("/tmp").expect("a directory");
    let socket = directory.path().join(".s.PGSQL.6432");
    let upstream =
        format!("postgres:///{name}?host={}&port={}", cluster.socket_dir().display(), cluster.port());
    let tenant = Tenant { name: name.clone(), password: password.clone() };
    let database = Database { upstream: Some(upstream), ..tenant.database(cluster, 2) };
    // A proxy that was killed has left its socket's file behind.
    drop(UnixListener::bind(&socket).expect("bind"));
    assert!(socket.exists());
    let listen = Some(socket.display().to_string());
    let mut proxy = Proxy::start(&ProxyOptions { listen, ..ProxyOptions::new(vec![database]) });
    let directory = directory.path().display();
    let config = format!("host={directory} port=6432 user={name} password={password} dbname={name}");
    let address = block_on(async {
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("log in");
        let connection = tokio::spawn(connection);
        let row = client.query_one("select inet_client_addr() is null, current_user::text", &[]).await;
        let row = row.expect("a query is served");
        drop(client);
        let _ = connection.await;
        (row.get::<_, bool>(0), row.get::<_, String>(1))
    });
    assert_eq!(address, (true, name));
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(!socket.exists(), "the socket's file is left behind");
}
