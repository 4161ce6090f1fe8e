//! Whole files and flags: what they come to, and exactly what is said about bad ones.

use std::collections::BTreeMap;
use std::env::VarError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::{Config, ConfigErrors, DatabaseParams, Environment, admin_address};
use crate::cli::{HealthcheckFlags, ServeFlags};
use crate::client::{AuthMethod, ClientTlsMode, UserSecret};
use crate::pool::{Abandoned, AdaptiveLimit, PoolMode, PoolParams, Reset, SessionParams};
use crate::proto::pin::{PinPolicy, PinReason};
use crate::secret::Secret;
use crate::server::{ServerTls, TlsVerify};

/// An environment of its own.
#[derive(Default, Clone)]
pub(super) struct Fake {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
}

impl Fake {
    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.to_owned());
        self
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Result<String, VarError> {
        self.variables.get(name).cloned().ok_or(VarError::NotPresent)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Reads a text as the file `c.toml`.
pub(super) fn load(text: &str, environment: &Fake) -> Result<Config, ConfigErrors> {
    Config::from_file(Path::new("c.toml"), &environment.clone().file("c.toml", text))
}

fn good(text: &str) -> Config {
    load(text, &Fake::default()).unwrap_or_else(|errors| panic!("{errors}\nin:\n{text}"))
}

fn errors(text: &str, environment: &Fake) -> Vec<String> {
    match load(text, environment) {
        Ok(config) => panic!("no errors, but {config:?}\nin:\n{text}"),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// Compares the errors of many files at once, so that one run shows all that changed.
fn check(cases: &[(&str, &[&str])], environment: &Fake) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, wanted)| (text, wanted, errors(text, environment)))
        .filter(|(_, wanted, got)| got != **wanted)
        .map(|(text, wanted, got)| format!("{text}\nwanted {wanted:#?}\ngot {got:#?}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn only_database(config: &Config) -> &DatabaseParams {
    config.upstreams.iter().flat_map(|upstream| &upstream.databases).next().expect("a database")
}

fn pool<'c>(config: &'c Config, database: &str, user: &str) -> &'c PoolParams {
    let databases = config.upstreams.iter().flat_map(|upstream| &upstream.databases);
    let mut pools = databases.flat_map(|database| &database.pools);
    pools.find(|pool| pool.database == database && pool.user == user).expect("a pool")
}

fn password(secret: Option<&Secret>) -> &str {
    secret.map_or("-", Secret::reveal)
}

const APP: &str = "[databases.app]\nupstream = \"postgres://u:p@h/app\"\n";

/// A verifier of the right form, whatever its password.
const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdA==$\
                        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn one_database_is_enough() {
    let config = good(APP);
    assert_eq!(config.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:6432"]);
    let admin = config.admin.as_ref().unwrap();
    assert_eq!((admin.address.to_string().as_str(), admin.is_default), ("127.0.0.1:9432", true));
    assert_eq!(config.threads, None);
    assert_eq!(config.clients.auth, AuthMethod::ScramSha256);
    let database = only_database(&config);
    assert_eq!((database.name.as_str(), database.max_connections, database.max_clients), ("app", 20, None));
    let pool = pool(&config, "app", "u");
    assert_eq!((pool.size, pool.min_idle, pool.mode), (20, 0, PoolMode::Transaction));
    assert_eq!((pool.credentials.user.as_str(), password(pool.credentials.password.as_ref())), ("u", "p"));
    let users: Vec<_> = config.clients.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(users, ["u"]);
}

#[test]
fn users_log_in_as_themselves_where_the_url_names_nobody() {
    let config = good(
        r#"
        [databases.shared]
        upstream = "postgres://app:p@h/real"
        [databases.own]
        upstream = "postgres://h"
        [users.bob]
        password = "bob's"
        [users.alice]
        password = "alice's"
        databases = ["own"]
        "#,
    );
    assert_eq!(config.upstreams.len(), 1, "the same address is one server");
    let seen = |database, user| {
        let pool = pool(&config, database, user);
        let login = &pool.credentials;
        (pool.server_database.clone(), login.user.clone(), password(login.password.as_ref()).to_owned())
    };
    let owned = |(a, b, c): (&str, &str, &str)| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(seen("own", "alice"), owned(("own", "alice", "alice's")));
    assert_eq!(seen("own", "bob"), owned(("own", "bob", "bob's")));
    assert_eq!(seen("shared", "bob"), owned(("real", "app", "p")));
    let databases: Vec<_> =
        config.upstreams[0].databases.iter().map(|d| (d.name.as_str(), d.pools.len())).collect();
    assert_eq!(databases, [("own", 2), ("shared", 1)]);
    let names: Vec<_> = config.clients.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);
}

#[test]
fn the_nearest_level_wins() {
    let config = good(
        r#"
        [limits]
        default_pool_size = 7
        max_waiting = 70
        [timeouts]
        query_wait_timeout = "7s"
        server_lifetime = "7h"
        [databases.app]
        upstream = "postgres://u:p@h"
        pool_mode = "session"
        max_waiting = 8
        query_wait_timeout = "8s"
        [databases.app.users.bob]
        pool_size = 9
        min_pool_size = 3
        query_wait_timeout = "9s"
        max_clients = 90
        [users.alice]
        password = "a"
        max_clients = 50
        [users.bob]
        password = "b"
        "#,
    );
    let (alice, bob) = (pool(&config, "app", "alice"), pool(&config, "app", "bob"));
    let seconds = Duration::from_secs;
    assert_eq!((alice.size, alice.min_idle, alice.max_waiting, alice.max_wait), (7, 0, 8, seconds(8)));
    assert_eq!((bob.size, bob.min_idle, bob.max_waiting, bob.max_wait), (9, 3, 8, seconds(9)));
    assert_eq!((alice.mode, bob.mode), (PoolMode::Session, PoolMode::Session));
    assert_eq!((alice.server_lifetime, alice.server_idle_timeout), (seconds(7 * 3600), seconds(600)));
    assert_eq!((alice.max_clients, bob.max_clients), (None, Some(90)));
    assert_eq!(config.clients.users[0].max_clients, Some(50));
    assert_eq!(
        (only_database(&config).max_connections, config.upstreams[0].params.max_connections),
        (16, 16)
    );
}

/// The five timeouts of a session, in the order of their fields, in milliseconds.
fn timeouts(session: &SessionParams) -> [u128; 5] {
    [
        session.query_timeout,
        session.transaction_timeout,
        session.idle_in_transaction_timeout,
        session.client_idle_timeout,
        session.client_stall_timeout,
    ]
    .map(|timeout| timeout.as_millis())
}

/// The policies of a session's pins, in the order of the reasons.
fn policies(session: &SessionParams) -> [PinPolicy; PinReason::ALL.len()] {
    PinReason::ALL.map(|reason| session.pins.policies.of(reason))
}

#[test]
fn sessions_by_default() {
    let config = good(APP);
    let session = &pool(&config, "app", "u").session;
    assert_eq!(timeouts(session), [0, 0, 10_000, 0, 10_000]);
    assert_eq!((session.abandoned, session.reset), (Abandoned::Cancel, Reset::Auto));
    let statements = &session.statements;
    assert_eq!(
        (statements.max_per_server, statements.promote_unnamed, statements.strip_trace_comments),
        (200, true, true)
    );
    assert_eq!((session.pins.timeout, session.pins.budget), (Duration::from_secs(600), 0.5));
    assert_eq!(policies(session), [PinPolicy::Allow; PinReason::ALL.len()]);
    let clients = &config.clients;
    assert_eq!((clients.client_spool, clients.max_spool), (256 << 10, 64 << 20));
    assert_eq!((clients.statement_cache_entries, clients.statement_cache_bytes), (10_000, 64 << 20));
}

/// Each key on its own: what alice leaves open is her database's, and what that leaves open is everybody's.
#[test]
fn the_nearest_level_wins_for_sessions() {
    let config = good(
        r#"
        [timeouts]
        query_timeout = "1s"
        transaction_timeout = "1s"
        idle_in_transaction_timeout = "1s"
        client_stall_timeout = "0"
        [databases.app]
        upstream = "postgres://u:p@h"
        query_timeout = "2s"
        transaction_timeout = "0"
        client_idle_timeout = "2s"
        abandoned = "finish"
        reset = "always"
        max_prepared_statements = 2
        promote_unnamed = false
        trace_comments = "keep"
        pin_timeout = "2s"
        pin_budget = 0.25
        [databases.app.pins]
        listen = "reject"
        temp_table = "reject"
        sql_prepare = "warn"
        [databases.app.users.alice]
        query_timeout = "3s"
        client_idle_timeout = "0"
        abandoned = "cancel"
        reset = "auto"
        max_prepared_statements = 0
        promote_unnamed = true
        trace_comments = "strip"
        pin_timeout = "0"
        pin_budget = 1
        [databases.app.users.alice.pins]
        listen = "allow"
        load = "warn"
        [databases.other]
        upstream = "postgres://u:p@h"
        [users.alice]
        password = "a"
        [users.bob]
        password = "b"
        "#,
    );
    let of = |database, user| &pool(&config, database, user).session;
    let (alice, bob, other) = (of("app", "alice"), of("app", "bob"), of("other", "alice"));
    assert_eq!(timeouts(alice), [3_000, 0, 1_000, 0, 0]);
    assert_eq!(timeouts(bob), [2_000, 0, 1_000, 2_000, 0]);
    assert_eq!(timeouts(other), [1_000, 1_000, 1_000, 0, 0]);
    let rest = |session: &SessionParams| {
        let (pins, statements) = (&session.pins, &session.statements);
        format!(
            "{:?} {:?} {} {} {} {:?} {}",
            session.abandoned,
            session.reset,
            statements.max_per_server,
            statements.promote_unnamed,
            statements.strip_trace_comments,
            pins.timeout,
            pins.budget
        )
    };
    assert_eq!(rest(alice), "Cancel Auto 0 true true 0ns 1");
    assert_eq!(rest(bob), "Finish Always 2 false false 2s 0.25");
    assert_eq!(rest(other), "Cancel Auto 200 true true 600s 0.5");
    let (allow, warn, reject) = (PinPolicy::Allow, PinPolicy::Warn, PinPolicy::Reject);
    assert_eq!(policies(alice), [allow, allow, reject, allow, warn, allow, warn, allow]);
    assert_eq!(policies(bob), [reject, allow, reject, allow, allow, allow, warn, allow]);
    assert_eq!(policies(other), [allow; PinReason::ALL.len()]);
}

#[test]
fn the_spool_of_a_client_fits_into_that_of_all() {
    let spools = |limits: &str| {
        let clients = good(&format!("[limits]\n{limits}{APP}")).clients;
        (clients.client_spool, clients.max_spool)
    };
    assert_eq!(spools("max_spool = \"0B\"\n"), (0, 0));
    assert_eq!(spools("max_spool = \"100KiB\"\n"), (100 << 10, 100 << 10));
    assert_eq!(spools("client_spool = \"64MiB\"\n"), (64 << 20, 64 << 20));
    assert_eq!(spools("client_spool = \"1MiB\"\nmax_spool = \"1MiB\"\n"), (1 << 20, 1 << 20));
}

#[test]
fn defaults_are_cut_down_to_the_bounds_that_are_written() {
    let config = good(
        r#"
        [databases.a]
        upstream = "postgres://u:p@h"
        max_db_connections = 5
        [databases.b]
        upstream = "postgres://u:p@H:5432"
        [upstreams.h]
        max_connections = 12
        max_dials = 2
        cancel_timeout = "1s"
        "#,
    );
    let upstream = &config.upstreams[0];
    let databases: Vec<_> = upstream.databases.iter().map(|d| (d.max_connections, d.pools[0].size)).collect();
    assert_eq!(databases, [(5, 5), (12, 12)]);
    let params = &upstream.params;
    assert_eq!((params.max_connections, params.max_dials), (12, 2));
    assert_eq!(
        (params.cancel_timeout, params.connect_timeout),
        (Duration::from_secs(1), Duration::from_secs(5))
    );
}

#[test]
fn secrets_come_from_three_places() {
    let environment = Fake::default()
        .variable("UP", "from variable")
        .file("secrets/bob", "from file\r\n")
        .file("/abs/carol", VERIFIER);
    let text = r#"
        [databases.app]
        upstream = "postgres://u@h"
        upstream_password_env = "UP"
        [users.alice]
        password = "plain"
        [users.bob]
        password_file = "secrets/bob"
        [users.carol]
        password_file = "/abs/carol"
        "#;
    let config = load(text, &environment).unwrap_or_else(|errors| panic!("{errors}"));
    let kinds = config.clients.users.iter().map(|user| match user.secret.as_ref().expect("a secret") {
        UserSecret::Password(secret) => format!("password {}", secret.reveal()),
        UserSecret::ScramVerifier(_) => "verifier".to_owned(),
        UserSecret::Md5Hash(_) => "md5".to_owned(),
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["password plain", "password from file", "verifier"]);
    assert_eq!(password(pool(&config, "app", "bob").credentials.password.as_ref()), "from variable");
    let shown = format!("{config:?}");
    for secret in ["plain", "from file", "from variable", "SCRAM-SHA-256"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn trust_needs_no_secrets() {
    let config = good(&format!(
        "[auth]\nauth_type = \"trust\"\n[databases.app]\nupstream = \"postgres:///app?host=/run\"\n\
         [users.a]\n[users.b]\npassword = \"{VERIFIER}\"\n[users.c]\npassword = \"p\"\n"
    ));
    let passwords: Vec<_> =
        ["a", "b", "c"].map(|user| password(pool(&config, "app", user).credentials.password.as_ref())).into();
    assert_eq!(passwords, ["-", "-", "p"]);
    assert_eq!(config.upstreams[0].params.tls, ServerTls::Disable);
}

#[test]
fn tls_of_both_sides() {
    let environment = Fake::default().file("etc/c.pem", "").file("etc/k.pem", "").file("/ca.pem", "").file(
        "etc/c.toml",
        "[client_tls]\nmode = \"require\"\ncert_file = \"c.pem\"\nkey_file = \"k.pem\"\n\
         [databases.app]\nupstream = \"postgres://u:p@h?sslmode=verify-full&sslrootcert=/ca.pem\"\n",
    );
    let config =
        Config::from_file(Path::new("etc/c.toml"), &environment).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.clients.tls.mode, ClientTlsMode::Require);
    let identity = config.clients.tls.identity.expect("an identity");
    assert_eq!((identity.cert_file, identity.key_file), ("etc/c.pem".into(), "etc/k.pem".into()));
    let verify = TlsVerify::Full { ca_file: "/ca.pem".into() };
    assert_eq!(config.upstreams[0].params.tls, ServerTls::Require(verify));
}

#[test]
fn faults_of_keys_and_values() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["c.toml: there is no [databases.NAME]: nothing to serve"]),
        (
            "lissen = [\"127.0.0.1:1\"]\ncolour = 3\n[databases.app]\nupstream = \"postgres://u:p@h\"\npoolsize = 3\n",
            &[
                "c.toml:1:1: lissen: unknown key; did you mean `listen`?",
                "c.toml:2:1: colour: unknown key; known here: listen, admin, admin_token, \
                 admin_token_env, admin_token_file, threads, preflight, log, auth, limits, timeouts, \
                 client_tls, functions, traces, rate_limits, databases, shares, upstreams, users",
                "c.toml:5:1: databases.app.poolsize: unknown key; did you mean `pool_size`?",
            ],
        ),
        (
            "listen = [\"localhost:1\", 5, \"/ok\"]\nadmin = \"9432\"\nthreads = 0\nauth = 3\n\
             databases.app.upstream = \"postgres://u:p@h\"\n",
            &[
                "c.toml:1:11: listen: \"localhost:1\" is neither an IP address with a port, as 127.0.0.1:6432, nor the \
                 path of a socket",
                "c.toml:1:26: listen: must be a string, not a whole number",
                "c.toml:2:9: admin: \"9432\" is not an IP address with a port, as 127.0.0.1:9432, nor \"off\"",
                "c.toml:3:11: threads: must be from 1 to 1024",
                "c.toml:4:8: auth: must be a table, not a whole number",
            ],
        ),
        (
            "[databases.app]\nupstream = \"postgres://u:p@h\"\n[limits]\nmax_client_conn = 5\nmax_dials = -1\n\
             max_waiting = 1.5\npkt_buf = 4096\nlisten_backlog = 99999999999999999999\n",
            &[
                "c.toml:4:1: limits.max_client_conn: unknown key; did you mean `max_clients`?",
                "c.toml:5:13: limits.max_dials: must be from 1 to 1024",
                "c.toml:6:15: limits.max_waiting: must be a whole number, not a decimal number",
                "c.toml:7:11: limits.pkt_buf: needs a unit: is it \"4096B\" or \"4096KiB\"?",
                "c.toml:8:18: limits.listen_backlog: must be from 1 to 65535",
            ],
        ),
        (
            "[databases.app]\nupstream = \"postgres://u:p@h\"\n[timeouts]\nquery_wait_timeout = 3\n\
             client_login_timeout = \"0s\"\nserver_lifetime = \"0\"\ndrain_timeout = \"soon\"\ncancel_timeout = true\n",
            &[
                "c.toml:4:22: timeouts.query_wait_timeout: needs a unit: is it \"3s\" or \"3ms\"?",
                "c.toml:5:24: timeouts.client_login_timeout: must be longer than zero",
                "c.toml:7:17: timeouts.drain_timeout: \"soon\" is not a duration like \"250ms\", \"1.5s\", \"10min\" or \
                 \"1h\"",
                "c.toml:8:18: timeouts.cancel_timeout: must be a duration like \"1.5s\", not true or false",
            ],
        ),
        (
            "log = \"warm\"\n[databases.app]\nupstream = \"postgres://u:p@h\"\n[traces]\n\
             endpoint = \"https://me:s3cret@collector\"\nprotocol = \"thrift\"\nsample = 1.5\n\
             [traces.headers.x-key]\n[traces.headers.host]\nvalue = \"a\"\n[traces.headers.y]\nvalue = \"a\\nb\"\n",
            &[
                "c.toml:1:7: log: log filter: \"warm\" is neither a level (off, error, warn, info, debug, trace) nor \
                 module=level",
                "c.toml:5:12: traces.endpoint: has a login in it: put it into a header",
                "c.toml:6:12: traces.protocol: \"thrift\" is not one of grpc, http",
                "c.toml:7:10: traces.sample: must be from 0 to 1",
                "c.toml:8:17: traces.headers.x-key: needs a value, value_env or value_file",
                "c.toml:9:17: traces.headers.host: is not the name of a header that may be set",
                "c.toml:12:9: traces.headers.y.value: has characters that a header must not have",
            ],
        ),
        (
            "[databases.\"a.b\"]\nupstream = \"postgres://u:p@h\"\npool_mode = \"transactions\"\npool_size = 0\n\
             [databases.c]\npool_size = 3\n[databases.\"*\"]\nupstream = \"postgres://u:p@h\"\n",
            &[
                "c.toml:3:13: databases.\"a.b\".pool_mode: \"transactions\" is not one of transaction, session, statement",
                "c.toml:4:13: databases.\"a.b\".pool_size: must be from 1 to 262143",
                "c.toml:5:12: databases.c: needs an upstream, as postgres://user:password@host:5432/database",
                "c.toml:7:12: databases.\"*\": a database for all names is not supported: name each one",
            ],
        ),
    ];
    check(cases, &Fake::default());
}

#[test]
fn faults_of_sessions() {
    let cases: &[(&str, &[&str])] = &[
        (
            "[databases.app]\nupstream = \"postgres://u:p@h\"\nabandoned = \"kill\"\nreset = true\n\
             max_prepared_statements = 10001\npromote_unnamed = \"yes\"\ntrace_comments = \"drop\"\n\
             pin_timeout = 600\npin_budget = 0.0\n[databases.app.users.u]\npin_budget = \"half\"\n\
             promote_unnamed = 1\nquery_timeout = 3\n",
            &[
                "c.toml:3:13: databases.app.abandoned: \"kill\" is not one of cancel, finish",
                "c.toml:4:9: databases.app.reset: must be a string, not true or false",
                "c.toml:5:27: databases.app.max_prepared_statements: must be from 0 to 10000",
                "c.toml:6:19: databases.app.promote_unnamed: must be true or false, not a string",
                "c.toml:7:18: databases.app.trace_comments: \"drop\" is not one of strip, keep",
                "c.toml:8:15: databases.app.pin_timeout: needs a unit: is it \"600s\" or \"600ms\"?",
                "c.toml:9:14: databases.app.pin_budget: must be above 0 and up to 1",
                "c.toml:11:14: databases.app.users.u.pin_budget: must be a number above 0 and up to 1, not a string",
                "c.toml:12:19: databases.app.users.u.promote_unnamed: must be true or false, not a whole number",
                "c.toml:13:17: databases.app.users.u.query_timeout: needs a unit: is it \"3s\" or \"3ms\"?",
            ],
        ),
        (
            "[databases.app]\nupstream = \"postgres://u:p@h\"\nidle_transaction_timeout = \"5s\"\n\
             server_reset_query_always = 1\n[databases.app.pins]\nlisten = \"alow\"\ntemp_tables = \"warn\"\n\
             session_mode = \"reject\"\nload = false\n[databases.app.users.u]\npins = \"reject\"\n",
            &[
                "c.toml:3:1: databases.app.idle_transaction_timeout: unknown key; did you mean \
                 `idle_in_transaction_timeout`?",
                "c.toml:4:1: databases.app.server_reset_query_always: unknown key; did you mean `reset`?",
                "c.toml:6:10: databases.app.pins.listen: \"alow\" is not one of allow, warn, reject",
                "c.toml:7:1: databases.app.pins.temp_tables: unknown key; did you mean `temp_table`?",
                "c.toml:8:1: databases.app.pins.session_mode: unknown key; known here: listen, advisory_lock, temp_table, \
                 hold_cursor, load, sequence_value, sql_prepare",
                "c.toml:9:8: databases.app.pins.load: must be a string, not true or false",
                "c.toml:11:8: databases.app.users.u.pins: must be a table, not a string",
            ],
        ),
        (
            "[databases.app]\nupstream = \"postgres://u:p@h\"\n[databases.app.users.u.pins]\nlisten = \"\"\nlisen = 1\n",
            &[
                "c.toml:4:10: databases.app.users.u.pins.listen: \"\" is not one of allow, warn, reject",
                "c.toml:5:1: databases.app.users.u.pins.lisen: unknown key; did you mean `listen`?",
            ],
        ),
        (
            "[limits]\nclient_spool = \"65MiB\"\nmax_spool = 5\nstatement_cache_entries = 99\n\
             statement_cache_size = \"5GiB\"\n[timeouts]\nclient_stall_timeout = \"never\"\n\
             idle_transaction_timeout = \"5s\"\n[databases.app]\nupstream = \"postgres://u:p@h\"\n",
            &[
                "c.toml:2:16: limits.client_spool: must be from 0B to 64MiB",
                "c.toml:3:13: limits.max_spool: needs a unit: is it \"5B\" or \"5KiB\"?",
                "c.toml:4:27: limits.statement_cache_entries: must be from 100 to 1000000",
                "c.toml:5:24: limits.statement_cache_size: must be from 1MiB to 4GiB",
                "c.toml:7:24: timeouts.client_stall_timeout: \"never\" is not a duration like \"250ms\", \"1.5s\", \"10min\" \
                 or \"1h\"",
                "c.toml:8:1: timeouts.idle_transaction_timeout: unknown key; did you mean `idle_in_transaction_timeout`?",
            ],
        ),
    ];
    check(cases, &Fake::default());
}

/// Above 0 and up to 1, however TOML writes numbers.
#[test]
fn rate_limits_have_a_burst_of_their_rate() {
    let config = good(&format!(
        "{APP}[rate_limits.b]\nwhat = \"logins\"\nper = [\"user\", \"network\"]\nrate = \"30/min\"\nburst = 5\n\
         mode = \"observe\"\nipv4_prefix = 16\nmax_keys = 7\n[rate_limits.a]\nwhat = \"transactions\"\nrate = \"100/s\"\n"
    ));
    let texts: Vec<_> = config
        .clients
        .rate_limits
        .iter()
        .map(|rule| {
            let (per, prefixes) = (rule.per.len(), rule.prefixes);
            let (name, rate, burst, mode) = (&rule.name, rule.rate, rule.burst, rule.mode.as_str());
            format!(
                "{name} {per} {rate} {burst} {mode} {} {} {}",
                prefixes.ipv4, prefixes.ipv6, rule.max_keys
            )
        })
        .collect();
    assert_eq!(texts, ["a 0 100/s 100 enforce 24 64 10000", "b 2 30/min 5 observe 16 64 7"]);
}

#[test]
fn faults_of_rate_limits_and_functions() {
    let rule = |keys: &str| format!("{APP}[rate_limits.a]\n{keys}");
    let cases = [
        (
            rule(""),
            vec![
                "c.toml:3:14: rate_limits.a: needs a rate, as \"100/s\"",
                "c.toml:3:14: rate_limits.a: needs a what: \"logins\" or \"transactions\"",
            ],
        ),
        (
            rule(
                "what = \"queries\"\nrate = \"100\"\nper = [\"user\", \"city\"]\nburst = 0\nipv4_prefix = 33\n",
            ),
            vec![
                "c.toml:4:8: rate_limits.a.what: \"queries\" is not one of logins, transactions",
                "c.toml:5:8: rate_limits.a.rate: \"100\" is not a rate like \"100/s\", \"30/min\" or \"5/h\"",
                "c.toml:6:16: rate_limits.a.per: \"city\" is not one of user, database, function, address, network",
                "c.toml:7:9: rate_limits.a.burst: must be from 1 to 1000000",
                "c.toml:8:15: rate_limits.a.ipv4_prefix: must be from 1 to 32",
            ],
        ),
        (
            rule("what = \"logins\"\nrate = \"2000000/s\"\nper = [\"user\", \"user\"]\n"),
            vec!["c.toml:5:8: rate_limits.a.rate: \"2000000/s\": must be from 1 to 1000000"],
        ),
        (
            rule("what = \"logins\"\nrate = \"2/s\"\nper = [\"user\", \"user\"]\n"),
            vec!["c.toml:6:16: rate_limits.a.per: \"user\" is there twice"],
        ),
        (
            format!("{APP}[rate_limits.\"a b\"]\nwhat = \"logins\"\nrate = \"1/s\"\n"),
            vec![
                "c.toml:3:14: rate_limits.\"a b\": a rule's name is up to 64 letters, digits, '_', '.' and '-': errors and \
                 metrics show it",
            ],
        ),
        (
            format!("{APP}[functions]\nname_pattern = \"(\"\ntags = [\"a b\"]\n"),
            vec![
                "c.toml:4:16: functions.name_pattern: is not a regular expression: unclosed group",
                "c.toml:5:9: functions.tags: \"a b\" is not the name of a tag: letters, digits, '_', '.' and '-'",
            ],
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, faults)| (text.as_str(), faults.as_slice())).collect();
    check(&cases, &Fake::default());
}

#[test]
fn shares() {
    let share = |written: &str| load(&format!("{APP}pin_budget = {written}\n"), &Fake::default());
    for (written, budget) in [("1", 1.0), ("1.0", 1.0), ("0.5", 0.5), ("5e-1", 0.5), ("0.2_5", 0.25)] {
        let config = share(written).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(pool(&config, "app", "u").session.pins.budget, budget, "{written}");
    }
    for written in ["0", "0.0", "-0.0", "-1", "-0.5", "1.01", "2", "50", "nan", "inf", "-inf", "1e999"] {
        let errors = share(written).expect_err(written).to_string();
        assert_eq!(errors, "c.toml:3:14: databases.app.pin_budget: must be above 0 and up to 1", "{written}");
    }
}

#[test]
fn faults_that_show_when_values_are_seen_together() {
    let cases: &[(&str, &[&str])] = &[
        (
            "listen = []\n[databases.app]\nupstream = \"postgres://u:p@h\"\n",
            &["c.toml:1:10: listen: is empty: clients could not connect"],
        ),
        (
            "listen = [\"[::1]:1\", \"/a\", \"unix:/a\"]\nadmin = \"[::1]:1\"\n\
             databases.app.upstream = \"postgres://u:p@h\"\n",
            &[
                "c.toml:1:28: listen: unix:/a is there twice",
                "c.toml:2:9: admin: clients connect to [::1]:1 already",
            ],
        ),
        (
            "[databases.app]\nupstream = \"postgres://u:p@h\"\npool_size = 50\nmin_pool_size = 60\n\
             max_db_connections = 40\n[upstreams.\"h:5432\"]\nmax_connections = 30\n",
            &[
                "c.toml:3:13: databases.app.pool_size: 50 is more than databases.app.max_db_connections = 40",
                "c.toml:3:13: databases.app.pool_size: 50 is more than upstreams.\"h:5432\".max_connections = 30",
                "c.toml:4:17: databases.app.min_pool_size: 60 is more than the size of the pool of u, 30",
                "c.toml:5:22: databases.app.max_db_connections: 40 is more than upstreams.\"h:5432\".max_connections = 30",
            ],
        ),
        (
            "[databases.app]\nupstream = \"postgres://u:p@h\"\nmax_db_connections = 10\nmin_pool_size = 6\n\
             [users.a]\npassword = \"a\"\n[users.b]\npassword = \"b\"\n",
            &[
                "c.toml:3:22: databases.app.max_db_connections: 10 is less than the sum of min_pool_size of its pools, 12",
            ],
        ),
        (
            "[databases.app]\nupstream = \"postgres://u:p@h\"\nmax_clients = 20000\n[users.a]\npassword = \"a\"\n\
             max_clients = 10001\n",
            &[
                "c.toml:3:15: databases.app.max_clients: 20000 is more than limits.max_clients = 10000",
                "c.toml:6:15: users.a.max_clients: 10001 is more than limits.max_clients = 10000",
            ],
        ),
        (
            "[limits]\nclient_spool = \"1.5MiB\"\nmax_spool = \"1MiB\"\n[databases.app]\nupstream = \"postgres://u:p@h\"\n",
            &["c.toml:2:16: limits.client_spool: 1536KiB is more than limits.max_spool = 1MiB"],
        ),
        (
            "[databases.app]\nupstream = \"postgres://h\"\n[databases.b]\nupstream = \"postgres://u@h\"\n",
            &[
                "c.toml:2:12: databases.app.upstream: names no user, and there is no [users.NAME]: nobody could log in",
                "c.toml:4:12: databases.b.upstream: has a user without a password, and there is no [users.NAME]: clients \
                 could not log in",
            ],
        ),
        (
            "[databases.a]\nupstream = \"postgres://u:p@h\"\n[databases.b]\nupstream = \"postgres://u:q@i\"\n\
             [databases.c]\nupstream = \"postgres://u:p@h?sslmode=disable\"\n[upstreams.hh]\n[upstreams.\"i:\"]\n\
             [upstreams.i]\n[upstreams.\"I:5432\"]\n",
            &[
                "c.toml:4:12: databases.b.upstream: names the same user as databases.a.upstream with another password: say \
                 in [users.u] which one clients log in with",
                "c.toml:6:12: databases.c.upstream: leads to h:5432 as databases.a.upstream does, but with another sslmode \
                 or sslrootcert",
                "c.toml:7:12: upstreams.hh: no database leads to hh:5432; did you mean `h:5432`?",
                "c.toml:8:12: upstreams.\"i:\": must be called as \"host:port\", \"host\" or the path of a socket",
                "c.toml:9:12: upstreams.i: is the same server as upstreams.\"I:5432\"",
            ],
        ),
        (
            "[client_tls]\nmode = \"require\"\n[databases.app]\nupstream = \"postgres://u:p@h?sslmode=verify-full\"\n",
            &[
                "c.toml:2:8: client_tls.mode: needs cert_file and key_file",
                "c.toml:4:12: databases.app.upstream: has sslmode=verify-full but no sslrootcert=/path/to/ca.pem to check \
                 against",
            ],
        ),
        (
            "[client_tls]\nmode = \"prefer\"\ncert_file = \"c.pem\"\n[databases.app]\n\
             upstream = \"postgres://u:p@h?sslmode=verify-full&sslrootcert=ca.pem\"\n",
            &[
                "c.toml:3:13: client_tls.cert_file: needs a key_file beside it",
                "c.toml:5:12: databases.app.upstream: ca.pem cannot be read: entity not found",
            ],
        ),
    ];
    check(cases, &Fake::default());
}

#[test]
fn faults_of_users_and_secrets() {
    let md5 = "md50123456789abcdef0123456789abcdef";
    let own = "[databases.app]\nupstream = \"postgres://h\"\n";
    let app = "[databases.app]\nupstream = \"postgres://u:p@h\"\n";
    let verifier_towards_server = format!("{own}[users.a]\npassword = \"{VERIFIER}\"\n");
    let verifier_for_md5 =
        format!("{app}[auth]\nauth_type = \"md5\"\n[users.a]\npassword = \"{VERIFIER}\"\n");
    let md5_for_scram = format!("{app}[users.a]\npassword = \"{md5}\"\n");
    let broken =
        format!("{own}[users.a]\npassword = \"SCRAM-SHA-256$hush\"\n[users.b]\npassword = \"\"\n[users.c]\n");
    let places = format!(
        "{app}upstream_password_env = \"UNSET\"\n[users.a]\npassword = \"x\"\npassword_env = \"SET\"\n\
         [users.b]\npassword_file = \"none\"\n[users.c]\npassword_env = \"EMPTY\"\n"
    );
    let twice = format!(
        "{app}upstream_password_env = \"SET\"\n[databases.b]\nupstream_password_env = \"SET\"\n\
                         upstream = \"postgres://h\"\n[users.a]\npassword = \"x\"\n"
    );
    let strangers = format!(
        "{app}[databases.app.users.alize]\n[databases.app.users.bob]\npool_size = 3\n[databases.lone]\n\
         upstream = \"postgres://u:p@h\"\n[users.alice]\npassword = \"a\"\ndatabases = [\"app\", \"ap\"]\n\
         [users.bob]\npassword = \"b\"\ndatabases = []\n"
    );
    let cases: &[(&str, &[&str])] = &[
        (
            &verifier_towards_server,
            &[
                "c.toml:4:12: users.a.password: is not the password itself, which databases.app.upstream needs to log in to \
               its server: give the password, or a user in that URL",
            ],
        ),
        (
            &verifier_for_md5,
            &[
                "c.toml:6:12: users.a.password: is a SCRAM verifier, with which auth_type \"md5\" cannot work: use \
               \"scram-sha-256\"",
            ],
        ),
        (
            &md5_for_scram,
            &[
                "c.toml:4:12: users.a.password: is an md5 hash, with which auth_type \"scram-sha-256\" cannot work: give the \
               password itself",
            ],
        ),
        (
            &broken,
            &[
                "c.toml:4:12: users.a.password: begins like a SCRAM verifier, but is not \
                 SCRAM-SHA-256$iterations:salt$stored key:server key",
                "c.toml:6:12: users.b.password: the secret is empty",
                "c.toml:7:8: users.c: needs a password, password_env or password_file (only auth_type \"trust\" does \
                 without)",
            ],
        ),
        (
            &places,
            &[
                "c.toml:3:25: databases.app.upstream_password_env: environment variable \"UNSET\" is not set",
                "c.toml:6:16: users.a.password_env: the secret is given twice: password is there, too",
                "c.toml:8:17: users.b.password_file: none cannot be read: entity not found",
                "c.toml:10:16: users.c.password_env: environment variable EMPTY: the secret is empty",
            ],
        ),
        (
            &twice,
            &[
                "c.toml:3:25: databases.app.upstream_password_env: the secret is given twice: the upstream URL has a \
                 password, too",
                "c.toml:5:25: databases.b.upstream_password_env: needs a user in the upstream URL whose password it is",
            ],
        ),
        (
            &strangers,
            &[
                "c.toml:3:22: databases.app.users.alize: there is no such user; did you mean `alice`?",
                "c.toml:4:22: databases.app.users.bob: this user may not log in to this database",
                "c.toml:6:12: databases.lone: no user may log in to it",
                "c.toml:10:21: users.alice.databases: there is no database \"ap\"; did you mean `app`?",
            ],
        ),
    ];
    check(cases, &Fake::default().variable("SET", "s").variable("EMPTY", ""));
}

/// Broken syntax hides what is on its lines, and nothing else; what only seems to be missing is not complained about.
#[test]
fn faults_of_syntax_come_with_the_others() {
    let cases: &[(&str, &[&str])] = &[
        (
            "threads = \nadmin = 5\n[limits\nmax_clients = 3\n",
            &[
                "c.toml:1:11: not TOML: string values must be quoted, expected literal string",
                "c.toml:2:9: admin: must be a string, not a whole number",
                "c.toml:3:8: not TOML: unclosed table, expected `]`",
            ],
        ),
        ("threads = 1\nthreads = 2\n", &["c.toml:2:1: not TOML: duplicate key"]),
    ];
    check(cases, &Fake::default());
}

#[test]
fn a_file_that_is_not_there() {
    let errors = Config::from_file(Path::new("no.toml"), &Fake::default()).expect_err("no file");
    assert_eq!(errors.to_string(), "no.toml: cannot be read: entity not found");
}

fn flags(upstream: &str) -> ServeFlags {
    ServeFlags { upstream: Some(Secret::new(upstream)), ..ServeFlags::default() }
}

#[test]
fn one_url_is_enough() {
    let config = Config::from_flags(&flags("postgres://u:p%40@h:5433/d"), &Fake::default());
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.listen[0].to_string(), "127.0.0.1:6432");
    let pool = pool(&config, "d", "u");
    assert_eq!(
        (pool.size, pool.server_database.as_str(), password(pool.credentials.password.as_ref())),
        (20, "d", "p@")
    );
    assert_eq!(config.upstreams[0].params.address.to_string(), "h:5433");
    let users = &config.clients.users;
    assert!(matches!(&users[0].secret, Some(UserSecret::Password(secret)) if secret.reveal() == "p@"));
    let config = Config::from_flags(&flags("postgres://u:p@h"), &Fake::default()).expect("libpq's default");
    assert_eq!(only_database(&config).name, "u");
}

#[test]
fn flags_override_the_file() {
    let text = "listen = [\"127.0.0.1:1\"]\nadmin = \"127.0.0.1:2\"\n[databases.app]\nupstream = \"postgres://u@h\"\n\
                upstream_password_env = \"SET\"\npool_size = 3\n";
    let environment = Fake::default().file("c.toml", text).variable("SET", "p");
    let flags = ServeFlags {
        config: Some("c.toml".into()),
        listen: vec!["/s".parse().expect("a path")],
        upstream: Some(Secret::new("postgres://v:q@i")),
        pool_size: Some(4),
        admin: "127.0.0.1:3".parse().ok(),
    };
    let config = Config::from_flags(&flags, &environment).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((config.listen.len(), config.listen[0].to_string()), (1, "unix:/s".to_owned()));
    assert_eq!(config.admin.as_ref().map(|admin| admin.address.port()), Some(3));
    assert_eq!(config.upstreams[0].params.address.to_string(), "i:5432");
    let pool = pool(&config, "app", "v");
    assert_eq!((pool.size, password(pool.credentials.password.as_ref())), (4, "q"));
}

#[test]
fn faults_of_flags() {
    let file = "[databases.a]\nupstream = \"postgres://u:p@h\"\nmax_db_connections = 5\n\
                [databases.b]\nupstream = \"postgres://u:p@h\"\n";
    let environment = Fake::default().file("c.toml", file);
    let with_file = |flags: ServeFlags| ServeFlags { config: Some("c.toml".into()), ..flags };
    let sized = |size| ServeFlags { pool_size: Some(size), ..flags("postgres://u:p@h") };
    let cases = [
        (ServeFlags::default(), "--upstream: there is no [databases.NAME]: nothing to serve"),
        (
            flags("postgres://u:hush@h:x/d"),
            "--upstream: has a port that is not a number from 1 to 65535 (a / : @ ? or % in a user or password must be \
             percent-encoded)",
        ),
        (
            flags("postgres://u@h/d"),
            "--upstream: has a user without a password, and there is no [users.NAME]: clients could not log in",
        ),
        (
            flags("postgres://h"),
            "--upstream: names neither a database nor a user, so clients would not know what to log in to\n\
             --upstream: names no user, and there is no [users.NAME]: nobody could log in",
        ),
        (sized(0), "--pool-size: must be from 1 to 262143"),
        (
            with_file(flags("postgres://u:p@h")),
            "--upstream: the file has 2 databases: give them their URLs there",
        ),
        (
            with_file(ServeFlags { pool_size: Some(6), ..ServeFlags::default() }),
            "--pool-size: 6 is more than databases.a.max_db_connections = 5",
        ),
        (
            ServeFlags { admin: "127.0.0.1:6432".parse().ok(), ..flags("postgres://u:p@h") },
            "--admin: clients connect to 127.0.0.1:6432 already",
        ),
    ];
    for (flags, wanted) in cases {
        let errors = Config::from_flags(&flags, &environment).expect_err(wanted);
        assert_eq!(errors.to_string(), wanted);
    }
}

/// Wherever a secret is put by mistake, no error shows it.
#[test]
fn errors_do_not_show_secrets() {
    let texts = [
        "[databases.app]\nupstream = \"postgres://u:hush@h:p/d\"\n",
        "[databases.app]\nupstream = \"postgres://u:hu/hush@h/d\"\n",
        "[databases.app]\nupstream = \"postgres://u:hu?hush=1@h/d\"\n",
        "[databases.app]\nupstream = \"u:hush@h/d\"\n",
        "[databases.app]\nupstream = \"postgres://u:hush@h/d\n",
        "[databases.app]\nupstream = postgres://u:hush@h/d\n",
        "[users.a]\npassword = hush\n",
        "[users.a]\npassword = \"hush\n",
        "[users.a]\npassword = [\"hush\"]\n",
        "[users.a]\npassword = \"hush\\q\"\n",
        "[users.a]\npasswort = \"hush\"\n",
        "[users]\na = \"hush\"\n",
        "[users.a]\npassword = \"SCRAM-SHA-256$hush\"\n",
        "[users.a]\npassword = \"hush\\u0000\"\n",
    ];
    for text in texts {
        let said = errors(text, &Fake::default()).join("\n");
        assert!(!said.contains("hush"), "{text}\n{said}");
    }
}

/// Fragments of a file, so that random ones get past the first error.
fn fragment() -> impl Strategy<Value = String> {
    let lines = include_str!("../../config/pgcorral.toml")
        .lines()
        .map(|line| line.trim_start_matches("# ").to_owned());
    let lines: Vec<String> = lines.filter(|line| line.contains(" = ") || line.starts_with('[')).collect();
    prop_oneof![
        8 => proptest::sample::select(lines),
        1 => "[a-z_.\"\\[\\]= 0-9{},']{0,20}",
        1 => "(listen|users|databases|limits)(\\.[a-z*]{0,3}){0,2} = [\"'0-9a-z{}\\[\\]]{0,8}",
    ]
}

/// `pool_size`, `max_db_connections` and `min_pool_size`.
fn database_bounds() -> impl Strategy<Value = (Option<usize>, Option<usize>, usize)> {
    (proptest::option::of(1..40_usize), proptest::option::of(1..60_usize), 0..5_usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = load(&text, &Fake::default());
    }

    #[test]
    fn no_file_panics(lines in proptest::collection::vec(fragment(), 0..30), cut in any::<prop::sample::Index>()) {
        let text = lines.join("\n");
        let _ = load(&text, &Fake::default());
        let cut: String = text.chars().take(cut.index(text.chars().count() + 1)).collect();
        let _ = load(&cut, &Fake::default());
    }

    #[test]
    fn no_url_panics(rest in "[a-z0-9:/?@%&=,.\\[\\]#]{0,40}", any in any::<String>()) {
        for url in [format!("postgres://{rest}"), any] {
            let _ = Config::from_flags(&flags(&url), &Fake::default());
        }
    }

    /// Whatever the bounds, a configuration that is accepted keeps them.
    #[test]
    fn accepted_bounds_hold(
        sizes in proptest::collection::vec(database_bounds(), 1..4),
        whole in proptest::option::of(1..80_usize),
    ) {
        let line = |key, value: Option<usize>| value.map(|n| format!("{key} = {n}\n")).unwrap_or_default();
        let mut text = String::new();
        for (n, (pool_size, bound, warm)) in sizes.iter().enumerate() {
            text += &format!("[databases.d{n}]\nupstream = \"postgres://u:p@h\"\nmin_pool_size = {warm}\n");
            text += &line("pool_size", *pool_size);
            text += &line("max_db_connections", *bound);
        }
        text += "[upstreams.h]\n";
        text += &line("max_connections", whole);
        if let Ok(config) = load(&text, &Fake::default()) {
            let upstream = &config.upstreams[0];
            prop_assert!(whole.is_none_or(|whole| upstream.params.max_connections == whole));
            let mut warm = 0;
            for database in &upstream.databases {
                prop_assert!(database.max_connections <= upstream.params.max_connections);
                for pool in &database.pools {
                    prop_assert!(0 < pool.size && pool.size <= database.max_connections);
                    prop_assert!(pool.min_idle <= pool.size);
                    warm += pool.min_idle;
                }
            }
            prop_assert!(warm <= upstream.params.max_connections);
        }
    }
}

#[test]
fn adaptive_limit_is_off_and_not_for_sessions() {
    let config = good(APP);
    let quiet = pool(&config, "app", "u");
    assert_eq!((quiet.adaptive_limit, quiet.adaptive_min), (AdaptiveLimit::Off, 4));
    let config = good(&format!("{APP}\nadaptive_limit = \"observe\"\npool_size = 3"));
    let watched = pool(&config, "app", "u");
    assert_eq!((watched.adaptive_limit, watched.adaptive_min), (AdaptiveLimit::Observe, 3));
    let wrong = format!("{APP}\nadaptive_limit = \"enforce\"\npool_mode = \"session\"");
    let errors = load(&wrong, &Fake::default()).expect_err("a fault");
    assert!(errors.to_string().contains("adaptive_limit: is for pool_mode"), "{errors}");
}

#[test]
fn healthcheck_finds_the_admin_address() {
    let flags = |admin: Option<&str>, config: Option<&str>| HealthcheckFlags {
        admin: admin.map(|address| address.parse().expect("an address")),
        config: config.map(PathBuf::from),
        ready: false,
    };
    let found = |flags: HealthcheckFlags, text: &str| {
        let address = admin_address(&flags, &Fake::default().file("c.toml", text));
        address.map(|address| address.to_string()).map_err(|errors| errors.to_string())
    };
    let in_file = |text: &str| found(flags(None, Some("c.toml")), text);
    let good = |address: &str| Ok(address.to_owned());
    assert_eq!(in_file("admin = \"127.0.0.1:7\""), good("127.0.0.1:7"));
    assert_eq!(
        in_file("admin = \"127.0.0.1:7\"\nthreads = \"none\""),
        good("127.0.0.1:7"),
        "other faults do not matter"
    );
    assert_eq!(in_file(""), good("127.0.0.1:9432"));
    for (text, wanted) in [
        ("admin = \"off\"", "c.toml:1:9: admin: health is served nowhere"),
        ("admin = 1", "c.toml:1:9: admin: must be a string"),
        ("admin = \"127.0.0.1:9432", "c.toml:1:"),
    ] {
        let error = in_file(text).expect_err(text);
        assert!(error.starts_with(wanted), "{error}");
    }
    assert_eq!(found(flags(None, None), ""), good("127.0.0.1:9432"));
    assert_eq!(
        found(flags(Some("127.0.0.1:7"), Some("absent.toml")), ""),
        good("127.0.0.1:7"),
        "the flag is enough"
    );
}
