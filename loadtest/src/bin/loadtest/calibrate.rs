//! `loadtest calibrate` and the hidden `loadtest stub`: their options.

use clap::Args;
use loadtest::calibrate::figure::Calibration;
use loadtest::calibrate::stub::{Login, Stub};
use loadtest::calibrate::{self, Options};
use loadtest::limits::raise_open_files;
use loadtest::plan::Span;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, stdin};

/// Two thousand callers, and something to spare.
const MOST_FILES: u64 = 4096;

/// Measures how fast this program itself is: invocations per second and core, against a stub that answers at once.
#[derive(Debug, Args)]
pub struct CalibrateArguments {
    /// How often each case is measured; medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// For how long each case is measured that goes as fast as it can
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = lasting)]
    lasting: Duration,
    /// One JSON object with every round's figures instead of tables
    #[arg(long)]
    json: bool,
}

/// Answers logins and queries at once, for `calibrate`; ends when its standard input is closed.
#[derive(Debug, Args)]
pub struct StubArguments {
    /// `trust` or `scram`
    #[arg(long, default_value = "trust")]
    login: Login,
}

fn lasting(text: &str) -> Result<Duration, String> {
    let lasting = text.parse::<Span>()?.duration();
    if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&lasting) {
        return Ok(lasting);
    }
    Err("from 100ms to 60s".to_owned())
}

/// Measures and prints.
pub async fn run(arguments: CalibrateArguments) -> ExitCode {
    match measure(&arguments).await {
        Ok(calibration) if arguments.json => print(&serde_json::to_string(&calibration).unwrap_or_default()),
        Ok(calibration) => print(&calibration.to_text()),
        Err(error) => {
            eprintln!("loadtest calibrate: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &CalibrateArguments) -> Result<Calibration, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let options = Options { program, rounds: arguments.rounds, lasting: arguments.lasting };
    let show = io::stderr().is_terminal();
    let told = |what: &str| {
        if show {
            eprintln!("{what}");
        }
    };
    Box::pin(calibrate::measure(&options, told)).await.map_err(|error| error.to_string())
}

/// A reader that has gone away is no failure.
fn print(text: &str) -> ExitCode {
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
    ExitCode::SUCCESS
}

/// Serves until standard input ends: whoever started it holds the other end.
pub async fn stub(arguments: StubArguments) -> ExitCode {
    match serve(arguments.login).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest stub: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(login: Login) -> io::Result<()> {
    raise_open_files(MOST_FILES).map_err(io::Error::other)?;
    let stub = Stub::bind(login)?;
    writeln!(io::stdout(), "{}", stub.port()?)?;
    let (mut input, mut nothing) = (stdin(), [0]);
    tokio::select! {
        served = stub.serve() => served,
        _ = input.read(&mut nothing) => Ok(()),
    }
}
