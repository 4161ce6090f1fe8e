//! The drivers and ORMs that people use, each run directly and through the proxy with the same result:
//! `tests/drivers/run.py`, and with their own defaults `tests/drivers/defaults/run.py`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use libtest_mimic::Trial;

use crate::support::ground::{Ground, address};
use crate::support::proxy::{Database, Proxy, ProxyOptions};

/// As `tests/drivers/run.py` calls them.
const DRIVERS: [&str; 7] =
    ["tokio-postgres", "psycopg", "asyncpg", "node-postgres", "postgres-js", "lib-pq", "pgx"];

/// As `tests/drivers/defaults/run.py` calls them.
const DEFAULTS: [&str; 15] = [
    "psycopg",
    "asyncpg",
    "sqlalchemy-null",
    "sqlalchemy-queue",
    "django",
    "node-postgres",
    "postgres-js",
    "drizzle",
    "knex",
    "lib-pq",
    "pgx",
    "pgjdbc",
    "tokio-postgres",
    "sqlx",
    "diesel",
];

/// One trial for each driver of each matrix. Ignored are those that `PGCORRAL_SKIP_DRIVERS` lists, and no others: a driver
/// that is not installed is a failure.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let skipped = std::env::var("PGCORRAL_SKIP_DRIVERS").unwrap_or_default();
    let trial = |matrix: &str, driver: &'static str, test: fn(&Ground, &str)| {
        let ground = Arc::clone(ground);
        let ignored = skipped.split([',', ' ']).any(|name| name == driver);
        let run = move || {
            test(&ground, driver);
            Ok(())
        };
        Trial::test(format!("{matrix}::{driver}"), run).with_ignored_flag(ignored)
    };
    let drivers = DRIVERS.iter().map(|driver| trial("drivers", driver, same_with_and_without_proxy));
    let defaults = DEFAULTS.iter().map(|driver| trial("defaults", driver, same_with_its_defaults));
    drivers.chain(defaults).collect()
}

fn same_with_and_without_proxy(ground: &Ground, driver: &str) {
    let tenant = ground.tenant(&format!("driver_{}", driver.replace('-', "_")));
    // In session mode each of a driver's clients has a server connection; it opens 20 at once beside another.
    let session = Database {
        name: format!("{}_session", tenant.name),
        mode: "session".to_owned(),
        ..tenant.database(ground.cluster(), 25)
    };
    let options = ProxyOptions {
        max_wait: Some("30s".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 8), session])
    };
    let proxy = Proxy::start(&options);
    let through = tenant.url(proxy.address);
    let urls = [tenant.url(address(ground.cluster())), through.clone(), format!("{through}_session")];
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drivers/run.py");
    run(script, &urls, driver);
}

/// Twenty clients as functions have them, on two server connections.
fn same_with_its_defaults(ground: &Ground, driver: &str) {
    let tenant = ground.tenant(&format!("defaults_{}", driver.replace('-', "_")));
    let options = ProxyOptions {
        max_wait: Some("60s".to_owned()),
        ..ProxyOptions::new(vec![tenant.database(ground.cluster(), 2)])
    };
    let proxy = Proxy::start(&options);
    let urls = [tenant.url(address(ground.cluster())), tenant.url(proxy.address)];
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drivers/defaults/run.py");
    run(script, &urls, driver);
}

fn run(script: &str, urls: &[String], driver: &str) {
    let mut command = Command::new("python3");
    command.arg(script).args(urls).args(["--only", driver]).stdin(Stdio::null());
    if let Some(example) = rust_driver() {
        command.env("PGCORRAL_RUST_DRIVER", example);
    }
    let output = command.output().expect("python3");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}", said.concat());
}

/// The example that cargo built together with this test.
fn rust_driver() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let example = test.parent()?.parent()?.join("examples/driver_tokio_postgres");
    example.exists().then_some(example)
}
