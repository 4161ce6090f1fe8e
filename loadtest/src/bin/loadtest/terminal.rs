//! What a person sees while a run is going on, and how they end it.

use loadtest::run::Progress;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Where there is no terminal, progress is a line of its own, and fewer of them.
const PLAIN_INTERVAL: Duration = Duration::from_secs(1);

/// What a shell reports for a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// How far a leg is: one line that is rewritten on a terminal, plain lines elsewhere.
#[derive(Debug)]
pub struct ProgressLine {
    name: String,
    terminal: bool,
    shown: Option<Instant>,
}

impl ProgressLine {
    /// `name` begins every line.
    pub fn new(name: String) -> Self {
        Self { name, terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Shows it, or leaves it out where it is too soon after the last.
    pub fn show(&mut self, progress: &Progress) {
        if self.terminal {
            eprint!("\r{}\x1b[K", line(&self.name, progress));
            let _ = io::stderr().flush();
        } else if self.shown.is_none_or(|shown| shown.elapsed() >= PLAIN_INTERVAL) {
            eprintln!("{}", line(&self.name, progress));
            self.shown = Some(Instant::now());
        }
    }

    /// The last word on the leg.
    pub fn finish(self) {
        if self.terminal {
            eprintln!();
        }
    }
}

fn line(name: &str, progress: &Progress) -> String {
    let Progress { elapsed, in_flight, served, shed, timeouts, failed, p99, .. } = progress;
    let p99 = p99.map_or(String::new(), |p99| format!(", p99 {} ms", p99.as_millis()));
    format!(
        "{name} {:5.1} s: {in_flight} in flight, {served} served, {shed} shed, {timeouts} timed out, {failed} failed{p99}",
        elapsed.as_secs_f64()
    )
}

/// Tells everybody who asks when a run shall end.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens to SIGINT and SIGTERM from now on. The first asks the run to end and report; a second one ends the
    /// process at once.
    pub fn on_signals() -> Self {
        let (tell, told) = watch::channel(false);
        tokio::spawn(async move {
            signalled().await;
            eprintln!("\nstopping; once more ends it at once");
            let _ = tell.send(true);
            signalled().await;
            std::process::exit(i32::from(INTERRUPTED));
        });
        Self(told)
    }

    /// Whether it has been asked.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it is asked. Cancel safe.
    pub async fn asked(mut self) {
        // Without a sender nobody can ask any more.
        if self.0.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn signalled() {
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
