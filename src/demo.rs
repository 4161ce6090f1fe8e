//! `pgcorral demo`: a storm of cold invocations at a PostgreSQL with few connections, first directly, then through
//! the proxy, on one machine and with nothing to set up.
//!
//! The proxy itself is started by the caller's closure, so that this module knows no wiring. Everything that the demo
//! starts ends with it, also on Ctrl-C.

use loadtest::backends::{BackendCount, wait_for_none};
use loadtest::limits::raise_open_files;
use loadtest::postgres::{Cluster, ClusterError, ClusterOptions};
use loadtest::storm::{Progress, Refusal, Report, Storm};
use loadtest::table::Table;
use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Files that are open whatever the size of the storm.
const OTHER_FILES: u64 = 256;

/// Where there is no terminal, progress is a line of its own, and fewer of them.
const PLAIN_PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// The role that invocations log in as, and its database.
const APP: &str = "app";

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    /// Cold invocations, all at once.
    pub invocations: usize,
    /// Server connections that the proxy may open.
    pub pool_size: u32,
    /// PostgreSQL's `max_connections`; three of them are reserved for superusers.
    pub max_connections: u32,
}

/// What the caller's closure is to start: a proxy that clients log in to with the upstream's user, password, database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyOrder {
    /// `postgres://user:password@127.0.0.1:port/database`
    pub upstream_url: String,
    /// The bound of its pool.
    pub pool_size: u32,
    /// How long an invocation waits before it gives up by itself: the proxy need not wait longer.
    pub patience: Duration,
}

/// Any error of the demo; it is only printed.
type AnyError = Box<dyn Error + Send + Sync>;

/// Runs the demo and prints its table. `start_proxy` gives the address that the proxy listens on (port 0 chosen, so
/// that nothing is in its way) and a handle; dropping the handle stops the proxy.
///
/// Exit codes: 0 everything was served through the proxy within its bound, 1 not, 130 interrupted.
pub async fn run<S, F, H>(options: &DemoOptions, start_proxy: S) -> ExitCode
where
    S: FnOnce(ProxyOrder) -> F,
    F: Future<Output = Result<(SocketAddr, H), AnyError>>,
{
    let outcome = tokio::select! {
        biased;
        () = interrupted() => None,
        outcome = Box::pin(compare(options, start_proxy)) => Some(outcome),
    };
    match outcome {
        None => {
            eprintln!("\ninterrupted");
            ExitCode::from(INTERRUPTED)
        }
        Some(Err(error)) => {
            eprintln!("pgcorral demo: {error}");
            ExitCode::FAILURE
        }
        Some(Ok(comparison)) => conclude(options, &comparison),
    }
}

/// One storm and what PostgreSQL counted in the meantime.
struct Run {
    report: Report,
    most_backends: i64,
}

struct Comparison {
    direct: Run,
    proxied: Run,
}

async fn compare<S, F, H>(options: &DemoOptions, start_proxy: S) -> Result<Comparison, AnyError>
where
    S: FnOnce(ProxyOrder) -> F,
    F: Future<Output = Result<(SocketAddr, H), AnyError>>,
{
    // Each invocation has a client's socket and the proxy's end of it, both in this process.
    raise_open_files(2 * u64::try_from(options.invocations)? + u64::from(options.pool_size) + OTHER_FILES)?;
    let storm = Storm { invocations: options.invocations, ..Storm::default() };
    let cluster = start_postgres(options.max_connections).await?;
    let upstream_url = app_url(&cluster);

    eprintln!(
        "{} invocations at once, each a login and a transaction of {:?}",
        storm.invocations, storm.hold
    );
    let direct = fire(&storm, "directly", &upstream_url, &cluster).await?;
    // Backends end a little after their clients; they are not the proxy's.
    wait_for_none(&cluster.superuser_url("postgres")).await?;

    let order = ProxyOrder { upstream_url, pool_size: options.pool_size, patience: storm.patience };
    let (address, proxy) = start_proxy(order).await?;
    let proxied_url = format!("postgres://{APP}:{}@{address}/{APP}", cluster.password());
    let proxied = fire(&storm, "through pgcorral", &proxied_url, &cluster).await?;
    drop(proxy);
    Ok(Comparison { direct, proxied })
}

/// A server of our own, with a role that has no right to the superuser's reserve.
async fn start_postgres(max_connections: u32) -> Result<Cluster, AnyError> {
    eprintln!("starting a throw-away PostgreSQL with max_connections = {max_connections}");
    let starting = tokio::task::spawn_blocking(move || -> Result<Cluster, ClusterError> {
        let cluster = Cluster::start(ClusterOptions { max_connections, ..ClusterOptions::default() })?;
        cluster.psql("postgres", &format!("create role {APP} login password '{}'", cluster.password()))?;
        cluster.psql("postgres", &format!("create database {APP} owner {APP}"))?;
        Ok(cluster)
    });
    Ok(starting.await??)
}

fn app_url(cluster: &Cluster) -> String {
    cluster.url(APP, cluster.password(), APP)
}

async fn fire(storm: &Storm, name: &'static str, url: &str, cluster: &Cluster) -> Result<Run, AnyError> {
    let count = BackendCount::start(&cluster.superuser_url("postgres")).await?;
    let mut line = ProgressLine::new(name);
    let report = storm.fire(url, |progress| line.show(progress)).await?;
    line.finish();
    Ok(Run { report, most_backends: count.most() })
}

/// Returns when somebody wants the demo to end.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        () = terminated => (),
    }
}

/// Prints the table and says whether the proxy kept its promise.
fn conclude(options: &DemoOptions, comparison: &Comparison) -> ExitCode {
    println!("\n{}", table(comparison).to_text());
    let proxied = &comparison.proxied;
    let lost = options.invocations - proxied.report.served();
    let above = proxied.most_backends - i64::from(options.pool_size);
    if lost > 0 {
        println!("the proxy lost {lost} of {} invocations", options.invocations);
    }
    if above > 0 {
        println!("PostgreSQL counted {above} backends above the pool of {}", options.pool_size);
    }
    if lost > 0 || above > 0 {
        return ExitCode::FAILURE;
    }
    println!(
        "all {} invocations served through at most {} connections to PostgreSQL",
        options.invocations, proxied.most_backends
    );
    ExitCode::SUCCESS
}

fn table(comparison: &Comparison) -> Table {
    let Comparison { direct, proxied } = comparison;
    let mut table = Table::new(["", "directly", "through pgcorral"]);
    let mut row = |name: &str, cell: &dyn Fn(&Run) -> String| {
        table.row([name.to_owned(), cell(direct), cell(proxied)]);
    };
    row("served", &|run| run.report.served().to_string());
    for refusal in refusals(comparison) {
        let count = |run: &Run| run.report.refused.get(refusal).copied().unwrap_or(0).to_string();
        row(&refusal_name(refusal), &count);
    }
    for (name, per_thousand) in [("p50", 500), ("p90", 900), ("p99", 990), ("max", 1000)] {
        row(name, &|run| run.report.latency(per_thousand).map_or("-".to_owned(), milliseconds));
    }
    row("wall time", &|run| milliseconds(run.report.wall));
    row("most backends in PostgreSQL", &|run| run.most_backends.to_string());
    table
}

/// Every reason of either run.
fn refusals(comparison: &Comparison) -> BTreeSet<&Refusal> {
    [&comparison.direct, &comparison.proxied].into_iter().flat_map(|run| run.report.refused.keys()).collect()
}

fn refusal_name(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Sqlstate(code) if code == "53300" => "refused, 53300 too many connections".to_owned(),
        Refusal::Sqlstate(code) => format!("refused, {code}"),
        Refusal::Connection => "refused, no connection".to_owned(),
        Refusal::Timeout => "gave up waiting".to_owned(),
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// How far a storm is: one line that is rewritten on a terminal, plain lines elsewhere.
struct ProgressLine {
    name: &'static str,
    terminal: bool,
    shown: Option<Instant>,
}

impl ProgressLine {
    fn new(name: &'static str) -> Self {
        Self { name, terminal: io::stderr().is_terminal(), shown: None }
    }

    fn show(&mut self, progress: Progress) {
        let text = progress_text(self.name, progress);
        let finished = progress.served + progress.refused == progress.total;
        if self.terminal {
            eprint!("\r{text}\x1b[K");
            let _ = io::stderr().flush();
        } else if finished || self.shown.is_none_or(|shown| shown.elapsed() >= PLAIN_PROGRESS_INTERVAL) {
            eprintln!("{text}");
            self.shown = Some(Instant::now());
        }
    }

    fn finish(self) {
        if self.terminal {
            eprintln!();
        }
    }
}

fn progress_text(name: &str, progress: Progress) -> String {
    let Progress { served, refused, total } = progress;
    format!("{name}: {served} served, {refused} refused of {total}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(refused: &[(&str, usize)], most_backends: i64) -> Run {
        let mut report = Report::default();
        for (code, count) in refused {
            report.refused.insert(Refusal::Sqlstate((*code).to_owned()), *count);
        }
        Run { report, most_backends }
    }

    #[test]
    fn the_table_shows_every_reason_of_either_run_and_the_count_of_postgresql() {
        let comparison = Comparison {
            direct: run_with(&[("53300", 943), ("28000", 1)], 57),
            proxied: run_with(&[("08006", 2)], 20),
        };
        let text = table(&comparison).to_text();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        for expected in [
            &["refused,", "08006", "0", "2"][..],
            &["refused,", "28000", "1", "0"],
            &["refused,", "53300", "too", "many", "connections", "943", "0"],
            &["p50", "-", "-"],
            &["most", "backends", "in", "PostgreSQL", "57", "20"],
        ] {
            assert!(rows.iter().any(|row| row == expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_lost_invocation_or_a_backend_too_many_fails_the_demo() {
        let options = DemoOptions { invocations: 0, pool_size: 20, max_connections: 60 };
        let with =
            |most_backends| Comparison { direct: run_with(&[], 57), proxied: run_with(&[], most_backends) };
        let code = |options: &DemoOptions, comparison| format!("{:?}", conclude(options, &comparison));
        let [success, failure] = [ExitCode::SUCCESS, ExitCode::FAILURE].map(|code| format!("{code:?}"));
        assert_eq!(code(&options, with(20)), success);
        assert_eq!(code(&options, with(21)), failure);
        let one_lost = DemoOptions { invocations: 1, ..options };
        assert_eq!(code(&one_lost, with(20)), failure);
    }

    #[test]
    fn progress_names_the_run_and_its_counts() {
        let progress = Progress { served: 57, refused: 3, total: 1000 };
        assert_eq!(progress_text("directly", progress), "directly: 57 served, 3 refused of 1000");
    }

    /// The whole demo with PostgreSQL in the proxy's place: enough connections for everybody, so nothing is lost.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_proxy_that_serves_everybody_is_a_success() {
        let options = DemoOptions { invocations: 8, pool_size: 20, max_connections: 60 };
        let code = run(&options, |order: ProxyOrder| async move {
            let (_, address) = order.upstream_url.split_once('@').unwrap();
            let address = address.split_once('/').unwrap().0.parse().unwrap();
            Ok((address, ()))
        })
        .await;
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }
}
