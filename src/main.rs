//! pgcorral: a connection-stampede guard for PostgreSQL. Parse, load, build, run, drain.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use pgcorral::app::{self, App};
use pgcorral::cli::{
    CheckFlags, Cli, Command, DemoFlags, EXIT_USAGE, HealthcheckFlags, LogFormat, ServeFlags,
};
use pgcorral::config::{self, Config, ConfigErrors, ProcessEnvironment};
use pgcorral::demo::{self, DemoOptions, ProxyOrder};
use pgcorral::healthcheck;
use pgcorral::net::ListenAddress;
use pgcorral::obs::Warnings;
use pgcorral::obs::logging::{self, LogFilter, Logging};
use pgcorral::secret::Secret;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = match cli.log.log_format {
        LogFormat::Text => logging::LogFormat::Text,
        LogFormat::Json => logging::LogFormat::Json,
    };
    let log = LogChoice { flag: cli.log.log };
    let logging = match logging::start(format, &log.flag.clone().unwrap_or_default()) {
        Ok(logging) => logging,
        Err(error) => return failed(&error.to_string()),
    };
    // Of its own: the I/O threads have theirs.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli.command, log, logging)),
        Err(error) => failed(&format!("cannot start: {error}")),
    }
}

async fn run(command: Command, log: LogChoice, logging: Logging) -> ExitCode {
    match command {
        Command::Serve(flags) => Box::pin(serve(flags, log, logging)).await,
        Command::Check(flags) => Box::pin(check(flags)).await,
        Command::Healthcheck(flags) => healthcheck(flags).await,
        Command::Demo(flags) => Box::pin(demo(flags)).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "pgcorral", &mut io::stdout());
            ExitCode::SUCCESS
        }
    }
}

async fn serve(flags: ServeFlags, log: LogChoice, logging: Logging) -> ExitCode {
    let has_file = flags.config.is_some();
    let read = move || Config::from_flags(&flags, &ProcessEnvironment).map(|config| log.over(config));
    let config = match read() {
        Ok(config) => config,
        Err(errors) => return misconfigured(&errors),
    };
    logging.set(&config.log);
    match app::serve(config, has_file.then_some(read), logging).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

/// What the command line says about the log, for as long as the process lives.
struct LogChoice {
    flag: Option<LogFilter>,
}

impl LogChoice {
    fn over(&self, config: Config) -> Config {
        Config { log: self.flag.clone().unwrap_or(config.log), ..config }
    }
}

async fn check(flags: CheckFlags) -> ExitCode {
    let config = match Config::from_file(&flags.config, &ProcessEnvironment) {
        Ok(config) => config,
        Err(errors) => return misconfigured(&errors),
    };
    println!("{}: no errors", flags.config.display());
    if flags.connect { app::check(&config).await } else { ExitCode::SUCCESS }
}

/// A configuration at fault is a proxy that cannot be asked: 1, for 2 means nothing to container engines.
async fn healthcheck(flags: HealthcheckFlags) -> ExitCode {
    let admin = match config::admin_address(&flags, &ProcessEnvironment) {
        Ok(admin) => admin,
        Err(errors) => return failed(&errors.to_string()),
    };
    match healthcheck::ask(admin, flags.ready).await {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(unhealthy) => failed(&unhealthy.to_string()),
    }
}

async fn demo(flags: DemoFlags) -> ExitCode {
    let options = DemoOptions {
        invocations: flags.invocations,
        pool_size: flags.pool_size,
        max_connections: flags.max_connections,
    };
    demo::run(&options, start_proxy).await
}

/// The demo's proxy: what `pgcorral serve --upstream` would be, on a port of its own.
async fn start_proxy(
    order: ProxyOrder,
) -> Result<(SocketAddr, App), Box<dyn std::error::Error + Send + Sync>> {
    let flags = ServeFlags {
        upstream: Some(Secret::new(order.upstream_url)),
        pool_size: Some(order.pool_size as usize),
        listen: vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))],
        ..ServeFlags::default()
    };
    let mut config = Config::from_flags(&flags, &ProcessEnvironment)?;
    for pool in config.upstreams.iter_mut().flat_map(|upstream| &mut upstream.databases) {
        for pool in &mut pool.pools {
            // All come at once and each waits as long as it would for the database itself.
            pool.max_wait = order.patience;
        }
    }
    let app = App::start(config, Warnings::default()).await?;
    match app.listening().first() {
        Some(ListenAddress::Tcp(address)) => Ok((*address, app)),
        _ => Err("the proxy listens on no port".into()),
    }
}

fn misconfigured(errors: &ConfigErrors) -> ExitCode {
    usage(&errors.to_string())
}

fn usage(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(EXIT_USAGE)
}

fn failed(message: &str) -> ExitCode {
    eprintln!("pgcorral: {message}");
    ExitCode::FAILURE
}
