//! The retries that `docs/overload.md` shows, each run with its real driver in a storm that the proxy sheds a part of.
//! `tests/drivers/retry/README.md` says what the programs do and print.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use libtest_mimic::Trial;

use crate::support::ground::{Ground, Tenant, address};
use crate::support::proxy::{Proxy, ProxyOptions};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Debian's jar; `scripts/drivers.sh` has the same.
const JDBC: &str = "/usr/share/java/postgresql.jar";
/// Transactions of a storm: 24 callers, five each.
const TRANSACTIONS: &str = "120";
/// Clients of a storm, and the one with the syntax error.
const LOGINS: f64 = 25.0;

/// A driver as `PGCORRAL_SKIP_DRIVERS` calls it, and its program.
type Storm = (&'static str, fn() -> Command);

const STORMS: [Storm; 4] =
    [("psycopg", psycopg), ("node-postgres", node_postgres), ("pgx", pgx), ("pgjdbc", pgjdbc)];

/// One trial for each driver. Ignored are those that `PGCORRAL_SKIP_DRIVERS` lists.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let skipped = std::env::var("PGCORRAL_SKIP_DRIVERS").unwrap_or_default();
    let trial = |&(driver, command): &Storm| {
        let ground = Arc::clone(ground);
        let ignored = skipped.split([',', ' ']).any(|name| name == driver);
        let run = move || {
            storm(&ground, driver, command());
            Ok(())
        };
        Trial::test(format!("retry_snippets::{driver}"), run).with_ignored_flag(ignored)
    };
    STORMS.iter().map(trial).collect()
}

fn psycopg() -> Command {
    let mut command = Command::new(installed().join("venv/bin/python"));
    command.arg(program("storm_psycopg.py"));
    command
}

fn node_postgres() -> Command {
    let mut command = Command::new("node");
    command.arg(program("storm_node_postgres.js")).env("NODE_PATH", installed().join("node/node_modules"));
    command
}

fn pgx() -> Command {
    Command::new(installed().join("bin/retry_pgx"))
}

fn pgjdbc() -> Command {
    let mut command = Command::new("java");
    let classes = format!("{}:{JDBC}", installed().join("java-retry").display());
    command.args(["-cp", &classes, "StormPgjdbc"]);
    command
}

fn program(name: &str) -> String {
    format!("{ROOT}/tests/drivers/retry/{name}")
}

fn installed() -> PathBuf {
    let given = std::env::var_os("PGCORRAL_DRIVERS_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| PathBuf::from(ROOT).join("target/drivers"))
}

/// Everybody is served, exactly once, though many are refused; nobody connects anew for an error; what the errors say is
/// done; and what is wrong is not tried again.
fn storm(ground: &Ground, driver: &str, command: Command) {
    let tenant = ground.tenant(&format!("retry_{}", driver.replace('-', "_")));
    let mut direct = tenant.login(address(ground.cluster()));
    direct.run("create table served (caller int, turn int, primary key (caller, turn))");
    let proxy = Proxy::start(&ProxyOptions {
        max_wait: Some("150ms".to_owned()),
        max_clients: Some(16),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 1)])
    });
    let said = run(command, &tenant, &proxy);
    assert_eq!(direct.value("select count(*) from served"), TRANSACTIONS, "{said}");
    let count = |field: &str| said[field].as_f64().unwrap_or_else(|| panic!("no {field} in {said}"));
    let sheds = proxy.metric("pgcorral_sheds_total{");
    let refused = proxy.metric("pgcorral_client_connections_refused_total{reason=\"max_clients\"}");
    assert!(sheds > 0.0 && refused > 0.0, "{sheds} sheds and {refused} refused logins");
    assert_eq!(count("retries"), sheds + refused, "{sheds} sheds, {refused} refused logins, {said}");
    assert_eq!((count("told"), count("honoured")), (count("retries"), count("retries")), "{said}");
    assert_eq!((said["sqlstate"].as_str(), count("tried_again")), (Some("42601"), 0.0), "{said}");
    assert_eq!(proxy.metric("pgcorral_logins_total{result=\"ok\"}"), LOGINS);
}

fn run(mut command: Command, tenant: &Tenant, proxy: &Proxy) -> serde_json::Value {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    let address = proxy.address;
    let dsn = format!("{}?sslmode=disable", tenant.url(address));
    command
        .envs([("PGDSN", dsn), ("PGHOST", address.ip().to_string()), ("PGPORT", address.port().to_string())])
        .envs([("PGUSER", &tenant.name), ("PGDATABASE", &tenant.name), ("PGPASSWORD", &tenant.password)])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}
