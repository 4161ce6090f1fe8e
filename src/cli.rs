//! The command line: types only. `main` decides what to do with them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::net::ListenAddress;
use crate::obs::logging::LogFilter;
use crate::secret::Secret;

/// Exit code of a usage or configuration error; clap's own for the former.
pub const EXIT_USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  # One database, no file: clients log in with the user, password and database of the URL
  pgcorral serve --upstream postgres://app:secret@db.internal:5432/app --pool-size 20

  # The same with the password out of sight of `ps`
  PGCORRAL_UPSTREAM=postgres://app:secret@db.internal/app pgcorral serve --admin 127.0.0.1:9432

  # From a file; then what it would do to the server
  pgcorral serve --config /etc/pgcorral/pgcorral.toml
  pgcorral check --config /etc/pgcorral/pgcorral.toml --connect

  # Whether it is healthy: for containers, which have no curl
  pgcorral healthcheck --admin 127.0.0.1:9432

  # A thousand invocations at once, without and with the proxy, on a throw-away PostgreSQL
  pgcorral demo

Exit codes: 0 done, 1 failed, 2 usage or configuration.";

const SERVE_EXAMPLES: &str = "\
Examples:
  pgcorral serve --upstream postgres://app:secret@db.internal:5432/app
  pgcorral serve --config /etc/pgcorral/pgcorral.toml --listen 0.0.0.0:6432 --admin 127.0.0.1:9432
  pgcorral serve --upstream 'postgres://app@/app?host=/var/run/postgresql' --listen /run/pgcorral/.s.PGSQL.6432";

const CHECK_EXAMPLES: &str = "\
Examples:
  pgcorral check --config pgcorral.toml
  pgcorral check --config pgcorral.toml --connect";

const HEALTHCHECK_EXAMPLES: &str = "\
Examples:
  pgcorral healthcheck --admin 127.0.0.1:9432
  pgcorral healthcheck --config /etc/pgcorral/pgcorral.toml --ready

Exit codes: 0 yes, 1 no, 2 usage.";

const DEMO_EXAMPLES: &str = "\
Examples:
  pgcorral demo
  pgcorral demo --invocations 5000 --pool-size 40 --max-connections 100";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  pgcorral completions bash > /etc/bash_completion.d/pgcorral
  pgcorral completions fish > ~/.config/fish/completions/pgcorral.fish";

/// A connection-stampede guard for PostgreSQL: thousands of clients on a bounded set of server connections.
#[derive(Debug, Clone, Parser)]
#[command(name = "pgcorral", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub log: LogFlags,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Run the proxy
    Serve(ServeFlags),
    /// Check a configuration, and with --connect the servers behind it
    Check(CheckFlags),
    /// Ask a running proxy whether it is healthy
    Healthcheck(HealthcheckFlags),
    /// Show a stampede without and with the proxy, on a throw-away PostgreSQL
    Demo(DemoFlags),
    /// Print a completion script for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How to log; good for every command.
#[derive(Debug, Clone, Args)]
pub struct LogFlags {
    /// Form of the log lines, on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Least level logged, or levels by module, as `info,pgcorral::server=debug`; overrides the file [default: info]
    #[arg(long, global = true, value_name = "LEVELS")]
    pub log: Option<LogFilter>,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Flags of `serve`. They override the file.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = SERVE_EXAMPLES)]
#[command(group = ArgGroup::new("source").args(["config", "upstream"]).required(true).multiple(true))]
pub struct ServeFlags {
    /// Configuration file (TOML); the flags override it
    #[arg(long, value_name = "FILE", env = "PGCORRAL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where clients connect: ip:port, or the path of a Unix socket; may be repeated [default: 127.0.0.1:6432]
    #[arg(long, value_name = "ADDR", env = "PGCORRAL_LISTEN")]
    pub listen: Vec<ListenAddress>,
    /// The PostgreSQL server, as postgres://user:password@host:port/database
    #[arg(long, value_name = "URL", env = "PGCORRAL_UPSTREAM", hide_env_values = true, value_parser = secret)]
    pub upstream: Option<Secret>,
    /// Most server connections of one database and user [default: 20]
    #[arg(long, value_name = "N", env = "PGCORRAL_POOL_SIZE")]
    pub pool_size: Option<usize>,
    /// Where metrics and health are served over HTTP, ip:port [default: 127.0.0.1:9432, if it is free]
    #[arg(long, value_name = "ADDR", env = "PGCORRAL_ADMIN")]
    pub admin: Option<SocketAddr>,
}

/// Flags of `check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckFlags {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Log in to every server, too, and compare the pools with what it allows
    #[arg(long)]
    pub connect: bool,
}

/// Flags of `healthcheck`.
#[derive(Debug, Clone, Args)]
#[command(after_help = HEALTHCHECK_EXAMPLES)]
pub struct HealthcheckFlags {
    /// The proxy's admin address, ip:port [default: the configuration file's, or 127.0.0.1:9432]
    #[arg(long, value_name = "ADDR", env = "PGCORRAL_ADMIN")]
    pub admin: Option<SocketAddr>,
    /// The proxy's configuration file (TOML); only `admin` is looked at
    #[arg(long, value_name = "FILE", env = "PGCORRAL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Ask whether to send it clients (/readyz), instead of whether it runs (/healthz)
    #[arg(long)]
    pub ready: bool,
}

/// Flags of `demo`.
#[derive(Debug, Clone, Copy, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub struct DemoFlags {
    /// Clients that come at once
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub invocations: u32,
    /// Server connections of the proxy
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pool_size: u32,
    /// `max_connections` of the throw-away PostgreSQL
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(10..=2000))]
    pub max_connections: u32,
}

/// Wraps a value so that neither `Debug` nor an error shows it.
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_its_flags() {
        let cli = parse(
            "pgcorral serve --config a.toml --listen 127.0.0.1:1 --listen /run/s --upstream postgres://u:p@h/d \
             --pool-size 5 --admin 127.0.0.1:2 --log debug --log-format json",
        );
        let Ok(Cli { command: Command::Serve(flags), log }) = cli else { panic!("{cli:?}") };
        assert_eq!(flags.config, Some("a.toml".into()));
        assert_eq!(flags.listen.len(), 2);
        assert_eq!(flags.upstream.as_ref().map(Secret::reveal), Some("postgres://u:p@h/d"));
        assert_eq!((flags.pool_size, flags.admin), (Some(5), "127.0.0.1:2".parse().ok()));
        assert_eq!((log.log, log.log_format), ("debug".parse().ok(), LogFormat::Json));
        assert!(!format!("{flags:?}").contains("u:p"));
    }

    #[test]
    fn a_containers_settings_can_come_from_the_environment() {
        let cli = Cli::command();
        let variables = |name: &str| -> Vec<(String, String)> {
            let command = cli.find_subcommand(name).expect(name);
            let from = |flag: &clap::Arg| {
                Some((flag.get_id().to_string(), flag.get_env()?.to_str().expect("UTF-8").to_owned()))
            };
            command.get_arguments().filter_map(from).collect()
        };
        let named = |flags: &[&str]| -> Vec<(String, String)> {
            flags
                .iter()
                .map(|flag| ((*flag).to_owned(), format!("PGCORRAL_{}", flag.to_uppercase())))
                .collect()
        };
        assert_eq!(variables("serve"), named(&["config", "listen", "upstream", "pool_size", "admin"]));
        assert_eq!(variables("healthcheck"), named(&["admin", "config"]));
    }

    #[test]
    fn help_does_not_show_the_url_of_the_environment() {
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").expect("serve");
        let upstream = serve.get_arguments().find(|flag| flag.get_id() == "upstream").expect("--upstream");
        assert!(upstream.is_hide_env_values_set());
    }

    #[test]
    fn log_flags_stand_before_and_behind_the_command() {
        for line in ["pgcorral --log trace demo", "pgcorral demo --log trace"] {
            assert_eq!(parse(line).ok().and_then(|cli| cli.log.log), "trace".parse().ok(), "{line}");
        }
    }

    #[test]
    fn demo_has_defaults() {
        let Ok(Cli { command: Command::Demo(flags), .. }) = parse("pgcorral demo") else { panic!("no demo") };
        assert_eq!((flags.invocations, flags.pool_size, flags.max_connections), (1000, 20, 60));
    }

    #[test]
    fn usage_errors() {
        let cases = [
            ("pgcorral", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("pgcorral check", ErrorKind::MissingRequiredArgument),
            ("pgcorral healthcheck --admin localhost:1", ErrorKind::ValueValidation),
            ("pgcorral serve --upstream postgres://h --listen localhost:1", ErrorKind::ValueValidation),
            ("pgcorral serve --upstream postgres://h --pool-size many", ErrorKind::ValueValidation),
            ("pgcorral --log warm demo", ErrorKind::ValueValidation),
            ("pgcorral demo --invocations 0", ErrorKind::ValueValidation),
            ("pgcorral demo --invocations 60001", ErrorKind::ValueValidation),
            ("pgcorral completions basic", ErrorKind::InvalidValue),
            ("pgcorral stampede", ErrorKind::InvalidSubcommand),
        ];
        for (line, kind) in cases {
            let error = parse(line).expect_err(line);
            assert_eq!((error.kind(), error.exit_code()), (kind, i32::from(EXIT_USAGE)), "{line}");
        }
    }

    #[test]
    fn help_and_version_succeed() {
        for line in ["pgcorral --help", "pgcorral --version", "pgcorral serve --help", "pgcorral help demo"] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 0, "{line}");
        }
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    }
}
