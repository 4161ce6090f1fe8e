//! What a person sees while a run is going on, and how they end it.

use crate::run::Progress;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Where there is no terminal, progress is a line of its own, and fewer of them.
const PLAIN_INTERVAL: Duration = Duration::from_secs(1);

/// What a shell reports for a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// A line on standard output. Who reads it may have gone (`| head -1`): that is nobody's fault, and no reason to panic as
/// `println!` does.
pub fn print(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on standard error, likewise.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// How far a leg is: one line that is rewritten on a terminal, plain lines elsewhere.
#[derive(Debug)]
pub struct ProgressLine {
    name: String,
    terminal: bool,
    shown: Option<Instant>,
    /// What has not been shown yet.
    held_back: Option<String>,
}

impl ProgressLine {
    /// `name` begins every line.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self { name, terminal: io::stderr().is_terminal(), shown: None, held_back: None }
    }

    /// Shows it, or holds it back where it is too soon after the last.
    pub fn show(&mut self, progress: &Progress) {
        let text = line(&self.name, progress);
        if self.terminal {
            let _ = write!(io::stderr(), "\r{text}\x1b[K");
        } else if self.shown.is_none_or(|shown| shown.elapsed() >= PLAIN_INTERVAL) {
            tell(text);
            self.shown = Some(Instant::now());
            self.held_back = None;
        } else {
            self.held_back = Some(text);
        }
    }

    /// The last word on the leg.
    pub fn finish(self) {
        if self.terminal {
            tell("");
        } else if let Some(text) = self.held_back {
            tell(text);
        }
    }
}

fn line(name: &str, progress: &Progress) -> String {
    let Progress { elapsed, in_flight, served, shed, timeouts, failed, p99, .. } = progress;
    let p99 = p99.map_or(String::new(), |p99| format!(", p99 {} ms", p99.as_millis()));
    format!(
        "{name} {:5.1} s: {in_flight} in flight, {served} served, {shed} shed, {timeouts} timed out, \
         {failed} failed{p99}",
        elapsed.as_secs_f64()
    )
}

/// Tells everybody who asks when a run shall end.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens to SIGINT and SIGTERM from now on. The first asks the run to end and report; a second one ends the
    /// process at once.
    #[must_use]
    pub fn on_signals() -> Self {
        let (ask, asked) = watch::channel(false);
        tokio::spawn(async move {
            signalled().await;
            tell("\nstopping; once more ends it at once");
            let _ = ask.send(true);
            signalled().await;
            std::process::exit(i32::from(INTERRUPTED));
        });
        Self(asked)
    }

    /// Whether it has been asked.
    #[must_use]
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

/// Returns at the next SIGINT or SIGTERM. Cancel safe.
pub async fn signalled() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_names_the_run_and_its_counts() {
        let mut progress =
            Progress { served: 57, shed: 2, timeouts: 1, in_flight: 940, ..Progress::default() };
        let text = "directly   0.0 s: 940 in flight, 57 served, 2 shed, 1 timed out, 0 failed";
        assert_eq!(line("directly", &progress), text);
        progress.p99 = Some(Duration::from_millis(7));
        assert_eq!(line("directly", &progress), format!("{text}, p99 7 ms"));
    }
}
