//! Every way to log in, and to be refused.

use crate::support::{connect, connect_as, server_error, shared, target, with_roles};
use loadtest::client::{ConnectTimes, Failure, Session};
use loadtest::leg::FailureKind;
use loadtest::plan::{End, Protocol};
use loadtest::postgres::{Cluster, ClusterOptions, free_port};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;
use tempfile::TempDir;

/// With a certificate of its own.
fn with_tls(certificates: &Certificates) -> Cluster {
    let tls = Some((certificates.chain.clone(), certificates.key.clone()));
    with_roles(ClusterOptions { tls, ..ClusterOptions::default() })
}

#[tokio::test]
async fn every_method_of_authentication() {
    let cluster = shared();
    for (role, password) in [("s", "sécret,=pw"), ("m", "secret"), ("c", "secret"), ("t", "")] {
        let mut session = connect(&cluster.url(role, password, "postgres")).await.expect(role);
        let reply = session.run("select 1", Protocol::Simple).await.unwrap();
        assert_eq!((reply.rows, reply.completed), (1, 1), "{role}");
        if !password.is_empty() {
            let error = server_error(connect(&cluster.url(role, "wrong", "postgres")).await.unwrap_err());
            assert_eq!((error.sqlstate.as_str(), error.fatal), ("28P01", true), "{role}");
        }
    }
    // The second login finds its keys salted, and they are those of its own password.
    let target = target(&cluster.url("s", "sécret,=pw", "postgres"));
    let mut wrong = target.identity("client test");
    "wrong".clone_into(&mut wrong.password);
    for _ in 0..2 {
        connect_as(&target, &target.identity("client test")).await.unwrap();
        connect_as(&target, &wrong).await.unwrap_err();
    }
}

#[tokio::test]
async fn refusals_are_told_by_kind() {
    let cluster = shared();
    let error = connect(&cluster.url("t", "", "nowhere")).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (FailureKind::Sql, Some("3D000")));
    let error = connect(&cluster.url("few", "", "postgres")).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (FailureKind::Shed, Some("53300")));
    assert!(server_error(error).fatal);
    let free = free_port().unwrap();
    let error = connect(&format!("postgres://t@127.0.0.1:{free}/x")).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Connection);
    assert!(error.reason().contains(&format!("127.0.0.1:{free}: Connection refused")), "{error}");
    let error = connect(&format!("{}?sslmode=require", cluster.url("t", "", "postgres"))).await.unwrap_err();
    assert_eq!(error, Failure::Connection("the server does not support TLS".to_owned()));
    let error = connect("postgres://t@192.0.2.1/x").await.unwrap_err();
    assert!(error.reason().contains("--allow-remote"), "{error}");
}

#[tokio::test]
async fn phases_are_timed_as_far_as_they_came() {
    let cluster = shared();
    let mut times = ConnectTimes::default();
    let good = target(&cluster.url("t", "", "postgres"));
    Session::connect(&good, &good.identity("x"), &mut times).await.unwrap();
    assert!(times.connect.is_some() && times.login.is_some(), "{times:?}");
    let mut times = ConnectTimes::default();
    let bad = target(&cluster.url("t", "", "nowhere"));
    Session::connect(&bad, &bad.identity("x"), &mut times).await.unwrap_err();
    assert!(times.connect.is_some() && times.login.is_none(), "{times:?}");
    let mut times = ConnectTimes::default();
    let closed = target(&format!("postgres://t@127.0.0.1:{}/x", free_port().unwrap()));
    Session::connect(&closed, &closed.identity("x"), &mut times).await.unwrap_err();
    assert_eq!(times, ConnectTimes::default());
}

#[tokio::test]
async fn sockets_several_hosts_and_options() {
    let cluster = shared();
    let (directory, port) = (cluster.socket_dir().display(), cluster.port());
    let password = cluster.password();
    let free = free_port().unwrap();
    let known = "options='-c lock_timeout=77' user=postgres";
    for place in [
        format!("host={directory} port={port}"),
        format!("host=127.0.0.1,{directory} port={free},{port}"),
        format!("host={directory},localhost port={free},{port}"),
    ] {
        let target = target(&format!("{place} password={password} {known}"));
        let mut identity = target.identity("it's me");
        identity.options = Some("-c statement_timeout=88".to_owned());
        let mut session = connect_as(&target, &identity).await.expect(&place);
        let expect = "do $$ begin \
            assert current_setting('lock_timeout') = '77ms'; \
            assert current_setting('statement_timeout') = '88ms'; \
            assert current_setting('application_name') = 'it''s me'; \
            assert current_user = 'postgres' and current_database() = 'postgres'; end $$";
        session.run(expect, Protocol::Extended).await.expect(&place);
        session.cancel().await.unwrap();
        for how in [End::Terminate, End::Fin, End::Rst] {
            connect_as(&target, &identity).await.unwrap().end(how).await;
        }
    }
}

/// The files of an authority, and of a server's certificate for `localhost` that it has signed.
struct Certificates {
    _directory: TempDir,
    authority: PathBuf,
    chain: PathBuf,
    key: PathBuf,
}

impl Certificates {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let own = own.signed_by(&key, &issuer).unwrap();
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Self {
            authority: write("ca.pem", authority.pem()),
            chain: write("cert.pem", own.pem()),
            key: write("key.pem", key.serialize_pem()),
            _directory: directory,
        }
    }
}

#[tokio::test]
async fn tls_in_every_mode() {
    let certificates = Certificates::new();
    let stranger = Certificates::new();
    let cluster = with_tls(&certificates);
    let (ours, theirs) = (certificates.authority.display(), stranger.authority.display());
    let base = format!("port={} user=s password='sécret,=pw' dbname=postgres", cluster.port());
    let (name, ip) = ("host=localhost hostaddr=127.0.0.1", "host=127.0.0.1");
    for (place, words, encrypted) in [
        (ip, "sslmode=disable".to_owned(), Some(false)),
        (ip, "sslmode=prefer".to_owned(), Some(true)),
        (ip, String::new(), Some(true)),
        (ip, "sslmode=require".to_owned(), Some(true)),
        (name, format!("sslmode=require sslrootcert={ours}"), Some(true)),
        (name, format!("sslmode=require sslrootcert={theirs}"), None),
        (ip, format!("sslmode=verify-ca sslrootcert={ours}"), Some(true)),
        (ip, format!("sslmode=verify-ca sslrootcert={theirs}"), None),
        (name, format!("sslmode=verify-full sslrootcert={ours}"), Some(true)),
        (name, format!("sslmode=verify-full sslrootcert={theirs}"), None),
        (ip, format!("sslmode=verify-full sslrootcert={ours}"), None),
    ] {
        let dsn = format!("{place} {base} {words}");
        let result = connect(&dsn).await;
        let Some(encrypted) = encrypted else {
            let failure = result.expect_err(&words);
            assert!(
                matches!(&failure, Failure::Connection(text) if text.contains("TLS")),
                "{words}: {failure}"
            );
            continue;
        };
        let mut session = result.unwrap_or_else(|failure| panic!("{words}: {failure}"));
        let expect = format!(
            "do $$ begin assert {encrypted} = (select ssl from pg_stat_ssl where pid = pg_backend_pid()); end $$"
        );
        session.run(&expect, Protocol::Simple).await.expect(&words);
    }
}

#[tokio::test]
async fn a_session_over_tls_does_all_that_others_do() {
    let certificates = Certificates::new();
    let cluster = with_tls(&certificates);
    let dsn = format!("{}?sslmode=require", cluster.superuser_url("postgres"));
    let mut session = connect(&dsn).await.unwrap();
    let reply =
        session.run("select repeat('x', 100000) from generate_series(1, 50)", Protocol::Prepared).await;
    let reply = reply.unwrap();
    assert_eq!(reply.rows, 50);
    assert!(reply.bytes > 5_000_000, "{reply:?}");
    session.send("select pg_sleep(600)", Protocol::Extended).await.unwrap();
    session.cancel().await.unwrap();
    assert_eq!(session.finish().await.unwrap_err().sqlstate(), Some("57014"));
    for how in [End::Terminate, End::Fin, End::Rst, End::Silence] {
        let session = connect(&dsn).await.unwrap();
        assert_eq!(session.end(how).await.is_some(), how == End::Silence);
    }
    drop(cluster);
    assert!(matches!(session.watch().await, Failure::Server(_) | Failure::Connection(_)));
    assert!(!session.is_usable());
}
