//! `pgcorral check --connect` on a real server: what it says, what it never says, and how it ends.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use libtest_mimic::Trial;
use loadtest::postgres::{Cluster, ClusterOptions};

use crate::Test;
use crate::support::certificate::Certificate;
use crate::support::ground::{Ground, Tenant, eventually, tenant};
use crate::support::proxy::{Checked, Database, Proxy, ProxyOptions, check};
use crate::support::wire::Wire;

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("check", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("all_is_well", well),
    ("pools_larger_than_the_server", server_limit),
    ("pools_larger_than_the_role_may_have", role_limit),
    ("pools_larger_than_the_database_may_have", database_limit),
    ("others_that_are_there_are_a_warning", others),
    ("refused_logins_name_the_user_and_no_secret", refused),
    ("unreachable_server", unreachable),
    ("broken_configuration", |_| broken()),
    ("over_tls_and_a_unix_socket", |_| transports()),
    ("serve_logs_the_same", serve),
];

fn check_pools(databases: Vec<Database>) -> Checked {
    check(&ProxyOptions::new(databases).toml())
}

/// One line of the report begins like this, and the exit code is this.
#[track_caller]
fn says(checked: &Checked, code: i32, lines: &[&str]) {
    for line in lines {
        assert!(checked.stdout.lines().any(|said| said.starts_with(line)), "not said: {line}\n{checked:?}");
    }
    assert_eq!(checked.code, Some(code), "{checked:?}");
}

fn well(ground: &Ground) {
    let tenant = ground.tenant("check_well");
    let checked = check_pools(vec![tenant.database(ground.cluster(), 4)]);
    let address = format!("upstream 127.0.0.1:{}", ground.cluster().port());
    let lines = [
        address.as_str(),
        "ok       login of check_well to database check_well: logged in",
        "ok       server: the pools may open 4, ",
        "ok       role check_well: the pools may open 4, others have 0; no CONNECTION LIMIT",
        "ok       database check_well: the pools may open 4, others have 0; no CONNECTION LIMIT",
    ];
    says(&checked, 0, &lines);
    assert_eq!(checked.stdout.lines().count(), lines.len(), "{checked:?}");
}

/// 200 connections, of which 3 are reserved; two databases with a pool for each of two users.
fn server_limit(ground: &Ground) {
    let [one, other] = ["check_server_a", "check_server_b"].map(|name| ground.tenant(name));
    let databases = |size| vec![one.database(ground.cluster(), size), other.database(ground.cluster(), 49)];
    let error = "error    server: the pools may open 198, and PostgreSQL refuses more than 197 (max_connections = 200, ";
    says(&check_pools(databases(50)), 1, &[error]);
    assert_eq!(check_pools(databases(48)).code, Some(0));
    let bound = ProxyOptions { max_server_connections: Some(190), ..ProxyOptions::new(databases(50)) };
    assert_eq!(check(&bound.toml()).code, Some(0), "cut by the bound of the upstream");
}

fn role_limit(ground: &Ground) {
    let tenant = ground.tenant("check_role");
    ground.root("postgres").rows("alter role check_role connection limit 3");
    let checked = check_pools(vec![tenant.database(ground.cluster(), 4)]);
    let error = "error    role check_role: the pools may open 4, and PostgreSQL refuses more than 3 (CONNECTION LIMIT 3); \
                 lower pool_size of check_role/check_role, or ALTER ROLE \"check_role\" CONNECTION LIMIT 4";
    says(&checked, 1, &[error]);
    says(&check_pools(vec![tenant.database(ground.cluster(), 3)]), 0, &["ok       role check_role: "]);
}

fn database_limit(ground: &Ground) {
    let tenant = ground.tenant("check_database");
    ground.root("postgres").rows("alter database check_database connection limit 3");
    let checked = check_pools(vec![tenant.database(ground.cluster(), 4)]);
    says(
        &checked,
        1,
        &["error    database check_database: the pools may open 4, and PostgreSQL refuses more than 3"],
    );
    says(
        &check_pools(vec![tenant.database(ground.cluster(), 3)]),
        0,
        &["ok       database check_database: "],
    );
}

/// The same role in another database, and a password that expires tomorrow.
fn others(ground: &Ground) {
    let tenant = ground.tenant("check_others");
    ground.root("postgres").rows(
        "do $$ begin execute format('alter role check_others connection limit 5 valid until %L', \
         now() + interval '1 day'); end $$",
    );
    let login = |database| {
        let address = crate::support::ground::address(ground.cluster());
        Wire::login(address, &tenant.name, &tenant.password, database)
    };
    // What the pools themselves would have counts for nothing.
    let _own = [login("check_others"), login("check_others")];
    let _others = [login("postgres"), login("postgres")];
    let lines = [
        "warning  role check_others: the pools may open 4 and others have 2 now, and PostgreSQL refuses more than 5",
        "warning  role check_others: its password expires within a week",
    ];
    says(&check_pools(vec![tenant.database(ground.cluster(), 4)]), 0, &lines);
}

fn refused(ground: &Ground) {
    let tenant = ground.tenant("check_refused");
    ground.root("postgres").rows("create role check_nobody nologin password 'check_nobody-s3cret'");
    let database = tenant.database(ground.cluster(), 4);
    let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
    let wrong_password =
        Database { upstream_login: login("check_refused", "wr0ng-password"), ..database.clone() };
    let no_login =
        Database { upstream_login: login("check_nobody", "check_nobody-s3cret"), ..database.clone() };
    let no_database = Database { server_database: "check_nowhere".to_owned(), ..database };
    let table = [
        (wrong_password, "login of check_refused to database check_refused: ", "(28P01)"),
        (no_login, "login of check_nobody to database check_refused: ", "(28000)"),
        (no_database, "login of check_refused to database check_nowhere: ", "(3D000)"),
    ];
    for (database, who, sqlstate) in table {
        let checked = check_pools(vec![database]);
        says(&checked, 1, &[&format!("error    {who}PostgreSQL refuses it: ")]);
        let all = format!("{}{}", checked.stdout, checked.stderr);
        assert!(all.contains(sqlstate), "{all}");
        for secret in ["s3cret", "wr0ng"] {
            assert!(!all.contains(secret), "{all}");
        }
    }
}

/// One server that nobody runs does not keep the other from being looked at.
fn unreachable(ground: &Ground) {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let tenant = ground.tenant("check_unreachable");
    let database = tenant.database(ground.cluster(), 4);
    let lost = Database { name: "lost".to_owned(), port: closed.expect("a port").port(), ..database.clone() };
    let also_lost =
        Database { server_database: "elsewhere".to_owned(), name: "lost_too".to_owned(), ..lost.clone() };
    let lines = [
        "error    login of check_unreachable to database check_unreachable: 127.0.0.1:",
        "error    other logins to this server: not tried (1)",
        "ok       login of check_unreachable to database check_unreachable: logged in",
    ];
    let checked = check_pools(vec![lost, also_lost, database]);
    says(&checked, 1, &lines);
    assert!(checked.stdout.contains("cannot be reached: "), "{checked:?}");
}

fn broken() {
    let checked = check("listen = [\"127.0.0.1:0\"]\npool_sise = 3\n");
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert!(checked.stderr.contains("pool_sise") && checked.stdout.is_empty(), "{checked:?}");
}

fn transports() {
    let certificate = Certificate::new();
    let (chain, key) = certificate.paths();
    let tls = Some((chain.into(), key.into()));
    let hba_lines = vec!["hostnossl all check_transports all reject".to_owned()];
    let cluster = Cluster::start(ClusterOptions { tls, hba_lines, ..ClusterOptions::default() });
    let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
    let Tenant { name, password } = tenant(&cluster, "check_transports");
    let port = cluster.port();
    let check = |host: &str| {
        check(&format!(
            "[databases.{name}]\nupstream = \"postgres://{name}:{password}@{host}\"\npool_size = 5\n"
        ))
    };
    let logged_in = "ok       login of check_transports to database check_transports: logged in";
    let address = format!("127.0.0.1:{port}/{name}");
    says(&check(&format!("{address}?sslmode=require")), 0, &[logged_in]);
    says(&check(&format!("{address}?sslmode=disable")), 1, &["error    login of check_transports "]);
    let socket = cluster.socket_dir().display();
    says(&check(&format!("/{name}?host={socket}&port={port}")), 0, &[logged_in]);
}

fn serve(ground: &Ground) {
    let tenant = ground.tenant("check_serve");
    ground.root("postgres").rows("alter role check_serve connection limit 3");
    let proxy = Proxy::start(&ProxyOptions::new(vec![tenant.database(ground.cluster(), 4)]));
    eventually("a warning", || {
        proxy.log().contains("role check_serve: the pools may open 4, and PostgreSQL refuses more than 3")
    });
    let log = proxy.log();
    let warning = log.lines().find(|line| line.contains("role check_serve")).expect("a line");
    assert!(warning.contains("WARN") && !log.contains("s3cret"), "{log}");
}
