//! pgcorral: a connection-stampede guard for PostgreSQL. Parse, load, build, run, drain.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use pgcorral::app::{self, App};
use pgcorral::cli::{CheckFlags, Cli, Command, DemoFlags, EXIT_USAGE, LogFormat, ServeFlags};
use pgcorral::config::{Config, ConfigErrors, ProcessEnvironment};
use pgcorral::demo::{self, DemoOptions, ProxyOrder};
use pgcorral::net::ListenAddress;
use pgcorral::obs::{Warnings, logging};
use pgcorral::secret::Secret;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = match cli.log.log_format {
        LogFormat::Text => logging::LogFormat::Text,
        LogFormat::Json => logging::LogFormat::Json,
    };
    let warnings = match logging::start(format, &cli.log.log) {
        Ok(warnings) => warnings,
        Err(error) => return usage(&error.to_string()),
    };
    // Of its own: the I/O threads have theirs.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli.command, warnings)),
        Err(error) => failed(&format!("cannot start: {error}")),
    }
}

async fn run(command: Command, warnings: Warnings) -> ExitCode {
    match command {
        Command::Serve(flags) => Box::pin(serve(flags, warnings)).await,
        Command::Check(flags) => Box::pin(check(flags)).await,
        Command::Demo(flags) => Box::pin(demo(flags)).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "pgcorral", &mut io::stdout());
            ExitCode::SUCCESS
        }
    }
}

async fn serve(flags: ServeFlags, warnings: Warnings) -> ExitCode {
    let has_file = flags.config.is_some();
    let config = match Config::from_flags(&flags, &ProcessEnvironment) {
        Ok(config) => config,
        Err(errors) => return misconfigured(&errors),
    };
    let reread = move || Config::from_flags(&flags, &ProcessEnvironment);
    match app::serve(config, has_file.then_some(reread), warnings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
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
