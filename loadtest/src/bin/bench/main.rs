//! `make bench`: pgcorral against PgBouncer, before the same PostgreSQL, in one run on one machine.
//!
//! The proxies take turns within every round, so that what else the machine does meets them alike; what counts is
//! their ratio. Everything that is started ends with the run.

mod clients;
mod pgbench;
mod report;
mod results;

use clap::Parser;
use loadtest::binaries::find_program;
use loadtest::document;
use loadtest::limits::raise_open_files;
use loadtest::machine;
use loadtest::poolers::{Assignment, Pooler, RunningPooler, Upstream};
use loadtest::postgres::{Cluster, ClusterOptions};
use pgbench::Protocol;
use report::{Circumstances, Contenders};
use results::{Measure, Results};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The role of all clients, and its database.
const APP: &str = "app";

/// 1 000 000 rows: in memory, and more than one page of index.
const SCALE: u32 = 10;

/// No line in the log per connection, and room for the idle clients and the storms of logins.
const PGBOUNCER: [(&str, &str); 5] = [
    ("max_client_conn", "12000"),
    ("listen_backlog", "4096"),
    ("log_connections", "0"),
    ("log_disconnections", "0"),
    ("log_stats", "0"),
];

const PROTOCOLS: [Protocol; 2] = [Protocol::Simple, Protocol::Extended];

/// Compares connection poolers before one PostgreSQL.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example: bench --rounds 2 --without-pgbouncer --proxy old=\"/path/to/pgcorral serve\" \
                        --proxy new=\"target/release/pgcorral serve\""
)]
struct Arguments {
    /// Rounds; every figure is measured once in each, for every proxy
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds for which each figure of pgbench is measured
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Numbers of pgbench's clients
    #[arg(long, value_delimiter = ',', default_value = "1,8,100,1000")]
    clients: Vec<u32>,
    /// Logins at once in the login storm; 0 leaves it out
    #[arg(long, default_value_t = 1000)]
    logins: u32,
    /// Idle clients whose memory is measured; 0 leaves it out
    #[arg(long, default_value_t = 10_000)]
    idle_clients: u32,
    /// Rounds of the measurement of idle clients; it hardly varies
    #[arg(long, default_value_t = 1)]
    idle_rounds: u32,
    /// Server connections of every proxy
    #[arg(long, default_value_t = 20)]
    pool_size: u32,
    /// The binary that is measured as "pgcorral", unless there is a --proxy
    #[arg(long, default_value = "target/release/pgcorral")]
    pgcorral: PathBuf,
    /// Measure these instead: NAME=PROGRAM ARGUMENT…; {port}, {admin}, {upstream} and {pool} are replaced, and where
    /// {port} is missing the options of `pgcorral serve` are appended
    #[arg(long, value_parser = Pooler::parse)]
    proxy: Vec<Pooler>,
    /// Leave PgBouncer out; the first --proxy is what the others are compared with
    #[arg(long)]
    without_pgbouncer: bool,
    /// Where the report is written, besides standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_open_files(u64::from(arguments.idle_clients.max(arguments.logins)) + 500)?;
    let proxies = proxies(arguments)?;
    let load_before = machine::load_average();
    let (cluster, assignment) = start_postgres(arguments, proxies.len())?;
    let mut bench = Bench::new(arguments, &proxies, &cluster, assignment)?;
    bench.measure_idle_clients()?;
    bench.measure_rounds()?;

    let contenders = Contenders {
        names: proxies.iter().map(|proxy| proxy.name.clone()).collect(),
        versions: proxies.iter().map(Pooler::version).collect(),
    };
    let circumstances = Circumstances {
        postgres: version_of(&cluster.binaries().join("postgres")),
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        pool_size: arguments.pool_size,
        load_before,
    };
    let report = report::write(&contenders, &circumstances, &bench.results);
    println!("{report}");
    if let Some(path) = &arguments.output {
        document::save(path, &report, report::MARKER)?;
    }
    Ok(())
}

fn proxies(arguments: &Arguments) -> Result<Vec<Pooler>, Box<dyn Error>> {
    let mut proxies = Vec::new();
    if !arguments.without_pgbouncer {
        proxies.push(Pooler::pgbouncer("PgBouncer", &PGBOUNCER)?);
    }
    if arguments.proxy.is_empty() {
        proxies.push(Pooler::parse(&format!("pgcorral={} serve", arguments.pgcorral.display()))?);
    }
    proxies.extend(arguments.proxy.iter().cloned());
    Ok(proxies)
}

/// One server for all, with room for every pool and the idle measurement's second process of each proxy.
fn start_postgres(arguments: &Arguments, proxies: usize) -> Result<(Cluster, Assignment), Box<dyn Error>> {
    eprintln!("starting PostgreSQL");
    let pools = arguments.pool_size * (u32::try_from(proxies)? + 1);
    let cluster = Cluster::start(ClusterOptions {
        max_connections: pools + 20,
        settings: vec![("shared_buffers".to_owned(), "256MB".to_owned())],
        ..ClusterOptions::default()
    })?;
    let password = cluster.password();
    cluster.psql("postgres", &format!("create role {APP} login password '{password}'"))?;
    cluster.psql("postgres", &format!("create database {APP} owner {APP}"))?;
    let upstream = Upstream::of(&cluster, APP, &[(APP, password)])?;
    let assignment = Assignment { upstream, pool_size: arguments.pool_size, client_tls: None };
    Ok((cluster, assignment))
}

fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// A run under way.
struct Bench<'a> {
    arguments: &'a Arguments,
    proxies: &'a [Pooler],
    assignment: Assignment,
    pgbench: PathBuf,
    runtime: tokio::runtime::Runtime,
    results: Results,
}

impl<'a> Bench<'a> {
    fn new(
        arguments: &'a Arguments,
        proxies: &'a [Pooler],
        cluster: &Cluster,
        assignment: Assignment,
    ) -> Result<Self, Box<dyn Error>> {
        let upstream = &assignment.upstream;
        let pgbench = find_program(cluster.binaries(), "pgbench").ok_or("no pgbench found")?;
        pgbench::initialize(&pgbench, &upstream.url_at(upstream.port), SCALE)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { arguments, proxies, assignment, pgbench, runtime, results: Results::default() })
    }

    /// Each time with a proxy just started: memory that earlier clients left behind would hide what these need.
    fn measure_idle_clients(&mut self) -> Result<(), Box<dyn Error>> {
        let clients = self.arguments.idle_clients;
        let rounds = if clients == 0 { 0 } else { self.arguments.idle_rounds };
        for _ in 0..rounds {
            for (index, proxy) in self.proxies.iter().enumerate() {
                let running = proxy.start(&self.assignment)?;
                let url = self.assignment.upstream.url_at(running.port);
                let kib = self
                    .runtime
                    .block_on(clients::idle_client_kib(&running, &url, clients))
                    .map_err(|error| explained(&error, &running))?;
                self.note(Measure::IdleMemory(clients), index, kib);
            }
        }
        Ok(())
    }

    fn measure_rounds(&mut self) -> Result<(), Box<dyn Error>> {
        let start = |proxy: &Pooler| proxy.start(&self.assignment);
        let running = self.proxies.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        for round in 0..self.arguments.rounds {
            eprintln!("round {} of {}", round + 1, self.arguments.rounds);
            for protocol in PROTOCOLS {
                for &clients in &self.arguments.clients {
                    self.measure_transactions(&running, protocol, clients)?;
                }
            }
            self.measure_logins(&running)?;
        }
        for protocol in PROTOCOLS {
            self.results.add_growth(protocol);
        }
        Ok(())
    }

    fn measure_transactions(
        &mut self,
        running: &[RunningPooler],
        protocol: Protocol,
        clients: u32,
    ) -> Result<(), Box<dyn Error>> {
        for (index, proxy) in running.iter().enumerate() {
            let url = self.assignment.upstream.url_at(proxy.port);
            let run = pgbench::Run {
                pgbench: &self.pgbench,
                url: &url,
                proxy: proxy.process(),
                clients,
                protocol,
                seconds: self.arguments.seconds,
            };
            let measured = run.measure().map_err(|error| explained(&error, proxy))?;
            self.note(Measure::CpuPerTransaction(protocol, clients), index, measured.cpu_micros);
            self.note(Measure::Throughput(protocol, clients), index, measured.per_second);
        }
        Ok(())
    }

    fn measure_logins(&mut self, running: &[RunningPooler]) -> Result<(), Box<dyn Error>> {
        let clients = self.arguments.logins;
        if clients == 0 {
            return Ok(());
        }
        for (index, proxy) in running.iter().enumerate() {
            let url = self.assignment.upstream.url_at(proxy.port);
            let micros = self
                .runtime
                .block_on(clients::login_cpu_micros(proxy, &url, clients))
                .map_err(|error| explained(&error, proxy))?;
            self.note(Measure::CpuPerLogin(clients), index, micros);
        }
        Ok(())
    }

    /// Keeps a figure, and shows it at once: a run takes a quarter of an hour.
    fn note(&mut self, measure: Measure, index: usize, figure: f64) {
        let name = self.proxies.get(index).map_or("", |proxy| proxy.name.as_str());
        eprintln!("  {}, {name}: {}", measure.name(), measure.show(figure));
        self.results.add(measure, index, figure);
    }
}

/// An error with what the proxy printed.
fn explained(error: &dyn std::fmt::Display, proxy: &RunningPooler) -> String {
    format!("{}: {error}\nit printed:\n{}", proxy.name, proxy.log_tail())
}
