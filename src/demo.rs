//! `pgcorral demo`: a storm of cold invocations at a PostgreSQL with few connections, first directly, then through
//! the proxy, on one machine and with nothing to set up.
//!
//! The proxy itself is started by the caller's closure, so that this module knows no wiring. Everything that the demo
//! starts ends with it, also on Ctrl-C.

use loadtest::backends::wait_for_none;
use loadtest::client::Target;
use loadtest::leg::Leg;
use loadtest::limits::raise_open_files;
use loadtest::plan::{Metric, Plan};
use loadtest::plans;
use loadtest::postgres::{Cluster, ClusterError, ClusterOptions};
use loadtest::report::{Cause, Summary};
use loadtest::run::{LegOptions, run_leg};
use loadtest::table::Table;
use loadtest::terminal::{INTERRUPTED, ProgressLine, print, signalled, tell};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What is fired: of the plans that the load-test kit brings along.
const PLAN: &str = "lambda-1000";

/// Files that are open whatever the size of the storm.
const OTHER_FILES: u64 = 256;

/// The role that invocations log in as, and its database.
const APP: &str = "app";

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    /// Cold invocations, all at once.
    pub invocations: u32,
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
        () = signalled() => None,
        outcome = Box::pin(compare(options, start_proxy)) => Some(outcome),
    };
    match outcome {
        None => {
            tell(format_args!("\ninterrupted"));
            ExitCode::from(INTERRUPTED)
        }
        Some(Err(error)) => {
            tell(format_args!("pgcorral demo: {error}"));
            ExitCode::FAILURE
        }
        Some(Ok(comparison)) => conclude(options, &comparison),
    }
}

struct Comparison {
    plan: Arc<Plan>,
    direct: Leg,
    proxied: Leg,
}

async fn compare<S, F, H>(options: &DemoOptions, start_proxy: S) -> Result<Comparison, AnyError>
where
    S: FnOnce(ProxyOrder) -> F,
    F: Future<Output = Result<(SocketAddr, H), AnyError>>,
{
    // Each invocation has a client's socket and the proxy's end of it, both in this process.
    raise_open_files(2 * u64::from(options.invocations) + u64::from(options.pool_size) + OTHER_FILES)?;
    let plan = Arc::new(plans::find(PLAN)?.with_instances(options.invocations)?);
    let cluster = start_postgres(options.max_connections).await?;
    let upstream_url = app_url(&cluster);

    tell(format_args!("{} invocations at once, each a login and a transaction of 20 ms", plan.connections()));
    let direct = fire(&plan, "directly", &upstream_url, &cluster).await?;
    // Backends end a little after their clients; they are not the proxy's.
    wait_for_none(&cluster.superuser_url("postgres")).await?;

    let order = ProxyOrder { upstream_url, pool_size: options.pool_size, patience: patience(&plan) };
    let (address, proxy) = start_proxy(order).await?;
    let proxied_url = format!("postgres://{APP}:{}@{address}/{APP}", cluster.password());
    let proxied = fire(&plan, "through pgcorral", &proxied_url, &cluster).await?;
    drop(proxy);
    Ok(Comparison { plan, direct, proxied })
}

/// When the invocations give up by themselves.
fn patience(plan: &Plan) -> Duration {
    plan.functions.iter().map(|function| function.timeout.duration()).max().unwrap_or_default()
}

/// A server of our own, with a role that has no right to the superuser's reserve.
async fn start_postgres(max_connections: u32) -> Result<Cluster, AnyError> {
    tell(format_args!("starting a throw-away PostgreSQL with max_connections = {max_connections}"));
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

async fn fire(plan: &Arc<Plan>, name: &str, url: &str, cluster: &Cluster) -> Result<Leg, AnyError> {
    let observer = Target::parse("observer", &cluster.superuser_url(APP))?;
    let options = LegOptions { observer: Some(observer), ..LegOptions::new(Target::parse(name, url)?) };
    let mut line = ProgressLine::new(name.to_owned());
    let leg = run_leg(plan, &options, |progress| line.show(progress), std::future::pending()).await?;
    line.finish();
    Ok(leg)
}

/// Prints the table and says whether the proxy kept its promise.
fn conclude(options: &DemoOptions, comparison: &Comparison) -> ExitCode {
    print(format_args!("\n{}", table(comparison).to_text()));
    let proxied = Summary::of(&comparison.plan, &comparison.proxied);
    let served = proxied.value(Metric::Served, None, None).unwrap_or(0.0);
    let lost = f64::from(options.invocations) - served;
    if lost > 0.0 {
        print(format_args!("the proxy lost {lost} of {} invocations", options.invocations));
    }
    let Some(backends) = proxied.value(Metric::MaxBackends, None, None) else {
        print("PostgreSQL's backends could not be counted: nothing is proven");
        comparison.proxied.warnings.iter().for_each(print);
        return ExitCode::FAILURE;
    };
    let above = backends - f64::from(options.pool_size);
    if above > 0.0 {
        print(format_args!("PostgreSQL counted {above} backends above the pool of {}", options.pool_size));
    }
    if lost > 0.0 || above > 0.0 {
        return ExitCode::FAILURE;
    }
    print(format_args!(
        "all {} invocations served through at most {backends} connections to PostgreSQL",
        options.invocations
    ));
    ExitCode::SUCCESS
}

fn table(comparison: &Comparison) -> Table {
    let Comparison { plan, direct, proxied } = comparison;
    let summaries = [direct, proxied].map(|leg| Summary::of(plan, leg));
    let mut table = Table::new(["", "directly", "through pgcorral"]);
    let mut row = |name: &str, cells: [String; 2]| {
        let [direct, proxied] = cells;
        table.row([name.to_owned(), direct, proxied]);
    };
    let figures = |metric| summaries.each_ref().map(|summary| summary.value(metric, None, None));
    let counts =
        |metric| figures(metric).map(|count| count.map_or("-".to_owned(), |count| count.to_string()));
    row("served", counts(Metric::Served));
    for (cause, counts) in causes(direct, proxied) {
        row(&cause, counts.map(|count| count.to_string()));
    }
    for (name, metric) in
        [("p50", Metric::P50), ("p90", Metric::P90), ("p99", Metric::P99), ("max", Metric::Max)]
    {
        let milliseconds = |seconds| milliseconds(Duration::from_secs_f64(seconds));
        row(name, figures(metric).map(|seconds| seconds.map_or("-".to_owned(), milliseconds)));
    }
    row("wall time", [direct, proxied].map(|leg| milliseconds(Duration::from_micros(leg.wall_us))));
    row("most backends in PostgreSQL", counts(Metric::MaxBackends));
    table
}

/// Why invocations failed in either run, and how many; there are no retries.
fn causes(direct: &Leg, proxied: &Leg) -> BTreeMap<String, [u32; 2]> {
    let mut causes: BTreeMap<String, [u32; 2]> = BTreeMap::new();
    for (column, leg) in [direct, proxied].into_iter().enumerate() {
        for failure in &leg.failures {
            let counts = causes.entry(Cause::of(failure).label()).or_default();
            if let Some(count) = counts.get_mut(column) {
                *count += 1;
            }
        }
    }
    causes
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadtest::leg::{AttemptFailure, BackendSample, FailureKind, Invocation, Outcome};

    fn leg_with(served: usize, refused: &[(&str, usize)], most_backends: u32) -> Leg {
        let invocation = Invocation {
            function: 0,
            intended_us: 0,
            started_us: 0,
            ended_us: 7000,
            attempts: 1,
            cold: true,
            outcome: Outcome::Served,
        };
        let failure = |code: &str| AttemptFailure {
            at_us: 1,
            function: 0,
            kind: FailureKind::Shed,
            sqlstate: Some(code.to_owned()),
            reason: "too many".to_owned(),
            at_login: true,
        };
        let sample = BackendSample { at_us: 1, total: most_backends, active: 0, idle_in_transaction: 0 };
        let failures =
            refused.iter().flat_map(|(code, count)| std::iter::repeat_n(failure(code), *count)).collect();
        Leg {
            wall_us: 7000,
            invocations: vec![invocation; served],
            failures,
            backends: vec![sample, sample],
            ..Leg::empty("", 0, vec!["lambda".to_owned()])
        }
    }

    fn comparison(direct: Leg, proxied: Leg) -> Comparison {
        Comparison { plan: Arc::new(plans::find(PLAN).unwrap()), direct, proxied }
    }

    #[test]
    fn the_table_shows_every_reason_of_either_run_and_the_count_of_postgresql() {
        let direct = leg_with(0, &[("53300", 943), ("28000", 1)], 57);
        let text = table(&comparison(direct, leg_with(2, &[("08006", 2)], 20))).to_text();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        for expected in [
            &["served", "0", "2"][..],
            &["shed", "08006", "too", "many", "at", "login", "0", "2"],
            &["shed", "28000", "too", "many", "at", "login", "1", "0"],
            &["shed", "53300", "too", "many", "at", "login", "943", "0"],
            &["p50", "-", "7", "ms"],
            &["most", "backends", "in", "PostgreSQL", "57", "20"],
        ] {
            assert!(rows.iter().any(|row| row == expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_lost_invocation_or_a_backend_too_many_fails_the_demo() {
        let options = DemoOptions { invocations: 3, pool_size: 20, max_connections: 60 };
        let code = |served, most_backends| {
            let comparison = comparison(leg_with(0, &[], 57), leg_with(served, &[], most_backends));
            format!("{:?}", conclude(&options, &comparison))
        };
        let [success, failure] = [ExitCode::SUCCESS, ExitCode::FAILURE].map(|code| format!("{code:?}"));
        assert_eq!(code(3, 20), success);
        assert_eq!(code(3, 21), failure);
        assert_eq!(code(2, 20), failure);
    }

    #[test]
    fn a_demo_that_saw_no_backend_shows_nothing() {
        let options = DemoOptions { invocations: 3, pool_size: 20, max_connections: 60 };
        let mut blind = comparison(leg_with(0, &[], 57), leg_with(3, &[], 20));
        blind.proxied.backends.clear();
        assert_eq!(format!("{:?}", conclude(&options, &blind)), format!("{:?}", ExitCode::FAILURE));
        assert!(table(&blind).to_text().lines().any(|line| line.ends_with('-') && line.contains("backends")));
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
