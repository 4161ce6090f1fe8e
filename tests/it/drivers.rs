//! The drivers that people use, each run directly and through the proxy with the same result: `tests/drivers/run.py`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use libtest_mimic::Trial;

use crate::support::ground::{Ground, address};
use crate::support::proxy::{Database, Proxy, ProxyOptions};

/// As `tests/drivers/run.py` calls them.
const DRIVERS: [&str; 7] =
    ["tokio-postgres", "psycopg", "asyncpg", "node-postgres", "postgres-js", "lib-pq", "pgx"];

/// One trial for each driver. Ignored are those that `PGCORRAL_SKIP_DRIVERS` lists, and no others: a driver that is not
/// installed is a failure.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let skipped = std::env::var("PGCORRAL_SKIP_DRIVERS").unwrap_or_default();
    let trial = |driver: &'static str| {
        let ground = Arc::clone(ground);
        let ignored = skipped.split([',', ' ']).any(|name| name == driver);
        let run = move || {
            same_with_and_without_proxy(&ground, driver);
            Ok(())
        };
        Trial::test(format!("drivers::{driver}"), run).with_ignored_flag(ignored)
    };
    DRIVERS.map(trial).into()
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
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drivers/run.py"))
        .args([&tenant.url(address(ground.cluster())), &through, &format!("{through}_session")])
        .args(["--only", driver])
        .stdin(Stdio::null());
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
