//! `loadtest probe`: its options.

use crate::invoke::from_environment;
use clap::Args;
use loadtest::client::Target;
use loadtest::plan::Span;
use loadtest::probe;
use loadtest::probe::canary::Terms;
use loadtest::probe::invocation::{Invocation, ProbeName};
use loadtest::probe::line::{self, Format};
use loadtest::probe::metrics::Metrics;
use loadtest::probe::page::Page;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};

/// Where the metrics are if nothing is said.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9433);

/// What is shorter would be load, not a probe.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// A period or a timeout that is longer is a typing error.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// It could not begin: exit status 2, as for a mistake in the options.
const CANNOT_BEGIN: u8 = 2;

const AFTERWORD: &str = "\
It is one connection at a time, so the target may be on any machine, without --allow-remote.

Exit status: 0 if the last probe succeeded, 1 if it failed (also when SIGINT or SIGTERM ends the run, or ends it before
the first probe is over: nothing was shown to work), 2 if the probe cannot begin.

Examples, with the DSN in the environment (PGCORRAL_PROBE_DSN):
  loadtest probe --every 10s --failures 0        a watch that goes on through outages; Prometheus raises the alarm
  loadtest probe --once                          a scheduled function
  loadtest probe --every 1s --count 60           a canary of a deployment: three failures in a row end it with 1";

/// Tries a live proxy again and again as a function that starts cold: connect, log in, one transaction, disconnect.
#[derive(Debug, Args)]
#[command(after_help = AFTERWORD)]
pub struct ProbeArguments {
    /// What is probed: a postgres:// URL or a key=value DSN; env:VARIABLE reads it from that variable. Other users of the
    /// machine see it in `ps`; a password belongs into the environment or into --dsn-file
    #[arg(long, env = "PGCORRAL_PROBE_DSN", hide_env_values = true, required_unless_present = "dsn_file")]
    dsn: Option<String>,
    /// Read the DSN from a file; counts for more than --dsn
    #[arg(long, value_name = "FILE")]
    dsn_file: Option<PathBuf>,
    /// From the start of one probe to the start of the next; what is due while one is under way is skipped
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = period)]
    every: Duration,
    /// When a probe gives up, and has failed
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = period)]
    timeout: Duration,
    /// So many failures in a row end it with exit status 1; 0: it goes on whatever happens
    #[arg(long, value_name = "N", default_value_t = 3)]
    failures: u32,
    /// End after so many probes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after one probe: --count 1
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// Also write: one row for each --name in the table loadtest_probe, which is made if it is missing
    #[arg(long)]
    write: bool,
    /// application_name of the probe's connections, and the name of its row
    #[arg(long, default_value = "loadtest-probe")]
    name: ProbeName,
    /// Where Prometheus finds the metrics, or `off`. 127.0.0.1:9433 by default; `off` with --once and --count
    #[arg(long, value_name = "ADDRESS", value_parser = Listen::parse)]
    metrics: Option<Listen>,
    /// One JSON object for each probe instead of a line of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
enum Listen {
    Off,
    At(SocketAddr),
}

impl Listen {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| "not an address such as 127.0.0.1:9433, nor `off`".to_owned())
    }
}

fn period(text: &str) -> Result<Duration, String> {
    let period = text.parse::<Span>()?.duration();
    if (SHORTEST_PERIOD..=LONGEST).contains(&period) {
        return Ok(period);
    }
    Err("from 10ms to 1day".to_owned())
}

/// Probes until it is over.
pub async fn run(args: ProbeArguments) -> ExitCode {
    match watch(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&mut io::stderr(), &format!("loadtest probe: {error}"));
            ExitCode::from(CANNOT_BEGIN)
        }
    }
}

/// Whether the last probe succeeded.
async fn watch(args: ProbeArguments) -> Result<bool, String> {
    let terms = args.terms();
    let format = if args.json { Format::Json } else { Format::Text };
    let metrics = Metrics::new(Instant::now()).map_err(|error| error.to_string())?;
    let metrics = Arc::new(metrics);
    let stop = stopped().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let invocation = args.invocation()?;
    // Held until the end; dropping it closes the page.
    let _page = args.page(&metrics).await?;
    let told = |number, outcome: &_| {
        say(&mut io::stdout(), &format.line(number, SystemTime::now(), outcome));
    };
    let summary = Box::pin(probe::run(&invocation, terms, &metrics, told, stop)).await;
    say(&mut io::stderr(), &format!("loadtest probe: {}", line::summary(&summary, Instant::now())));
    Ok(summary.is_success())
}

impl ProbeArguments {
    fn terms(&self) -> Terms {
        let probes = if self.once { Some(1) } else { self.count };
        Terms { every: self.every, timeout: self.timeout, failures: self.failures, probes }
    }

    fn invocation(&self) -> Result<Invocation, String> {
        let dsn = match (&self.dsn_file, &self.dsn) {
            (Some(file), _) => read(file)?,
            (None, dsn) => from_environment(dsn.as_deref().unwrap_or_default())?,
        };
        Target::parse("probe", &dsn).map_err(|error| format!("the DSN: {error}"))?;
        Ok(Invocation { dsn, name: self.name.clone(), write: self.write })
    }

    async fn page(&self, metrics: &Arc<Metrics>) -> Result<Option<Page>, String> {
        let usual = if self.once || self.count.is_some() { Listen::Off } else { Listen::At(METRICS) };
        let Listen::At(address) = self.metrics.unwrap_or(usual) else { return Ok(None) };
        let page = Page::serve(address, Arc::clone(metrics)).await;
        let page = page.map_err(|error| format!("--metrics {address}: {error}"))?;
        say(&mut io::stderr(), &format!("loadtest probe: metrics at http://{}/metrics", page.address()));
        Ok(Some(page))
    }
}

fn read(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// Ready at SIGINT or SIGTERM.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
    })
}

/// A reader that has gone away must not end the probe.
fn say(to: &mut impl io::Write, line: &str) {
    let _ = writeln!(to, "{line}");
}
