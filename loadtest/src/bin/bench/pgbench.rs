//! Runs `pgbench -S` through a proxy and measures a window of it: after the logins, before the end.

use loadtest::poolers::process::cpu_time;
use std::error::Error;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two runs.
const PAUSE: Duration = Duration::from_millis(500);

/// How statements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// One Query message.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync with the unnamed statement.
    Extended,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
        })
    }
}

/// What one run measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Transactions per second.
    pub per_second: f64,
    /// CPU time of the proxy per transaction, in microseconds.
    pub cpu_micros: f64,
}

/// One run's parameters.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The program.
    pub pgbench: &'a Path,
    /// Where to connect.
    pub url: &'a str,
    /// The process whose CPU time counts.
    pub proxy: u32,
    /// How many clients.
    pub clients: u32,
    /// How they send.
    pub protocol: Protocol,
    /// How long is measured, in whole seconds.
    pub seconds: u32,
}

/// Fills the tables that `-S` reads: 100 000 rows per unit of `scale`.
///
/// # Errors
/// `pgbench` failed.
pub fn initialize(pgbench: &Path, url: &str, scale: u32) -> Result<(), Box<dyn Error>> {
    let output = Command::new(pgbench).args(["-i", "-q", "-s", &scale.to_string(), url]).output()?;
    if !output.status.success() {
        return Err(format!("pgbench -i failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

impl Run<'_> {
    /// Runs it. The window begins with the first progress line (all clients are logged in and a second has gone by)
    /// and ends with the line `seconds` later; each line has the rate since the one before.
    ///
    /// # Errors
    /// `pgbench` failed, or said nothing.
    pub fn measure(&self) -> Result<Measured, Box<dyn Error>> {
        let mut child = Ended(self.spawn()?);
        let stderr = child.0.stderr.take().ok_or("no stderr")?;
        let mut lines = BufReader::new(stderr);
        let mut window = Window::default();
        let mut printed = String::new();
        while window.lines <= self.seconds {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                let status = child.0.wait()?;
                return Err(format!("pgbench with {} clients: {status}: {printed}", self.clients).into());
            }
            match progress_rate(&line) {
                Some(rate) => window.add(rate, Instant::now(), cpu_time(self.proxy)?),
                None => printed.push_str(&line),
            }
        }
        drop(child);
        // The proxy tidies up after so many clients; that belongs to nobody's window.
        sleep(PAUSE);
        window.measured().ok_or_else(|| "pgbench did not finish a transaction".into())
    }

    /// The clock of `pgbench` runs from before its logins (`setalarm` in its `main`), so they get plenty of time of
    /// their own; the run is cut short once the window is full.
    fn duration(&self) -> u32 {
        self.clients / 10 + self.seconds + 2
    }

    fn spawn(&self) -> Result<Child, Box<dyn Error>> {
        let threads = self.clients.min(2);
        let child = Command::new(self.pgbench)
            .args(["-S", "-n", "-P", "1", "-M", &self.protocol.to_string()])
            .args(["-c", &self.clients.to_string(), "-j", &threads.to_string()])
            .args(["-T", &self.duration().to_string(), self.url])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(child)
    }
}

/// A child that ends with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `progress: 3.0 s, 12345.6 tps, lat …`: transactions per second since the line before.
fn progress_rate(line: &str) -> Option<f64> {
    let (rate, _) = line.strip_prefix("progress:")?.split_once(" tps")?;
    rate.rsplit(' ').next()?.parse().ok()
}

/// What was seen between the first and the last line.
#[derive(Debug, Default)]
struct Window {
    lines: u32,
    began: Option<(Instant, Duration)>,
    last: Option<(Instant, Duration)>,
    transactions: f64,
}

impl Window {
    fn add(&mut self, rate: f64, at: Instant, cpu: Duration) {
        if let Some((before, _)) = self.last {
            self.transactions += rate * at.duration_since(before).as_secs_f64();
        }
        self.lines += 1;
        self.began.get_or_insert((at, cpu));
        self.last = Some((at, cpu));
    }

    fn measured(&self) -> Option<Measured> {
        let ((began, cpu_before), (ended, cpu_after)) = (self.began?, self.last?);
        let seconds = ended.duration_since(began).as_secs_f64();
        let cpu = cpu_after.saturating_sub(cpu_before).as_secs_f64();
        (self.transactions > 0.0).then(|| Measured {
            per_second: self.transactions / seconds,
            cpu_micros: cpu * 1e6 / self.transactions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_a_progress_line() {
        let line = "progress: 3.0 s, 12345.6 tps, lat 0.081 ms stddev 0.020, 0 failed\n";
        assert_eq!(progress_rate(line), Some(12345.6));
        assert_eq!(progress_rate("pgbench (15.6)\n"), None);
    }

    #[test]
    fn the_first_line_only_opens_the_window() {
        let (start, millis) = (Instant::now(), Duration::from_millis);
        let mut window = Window::default();
        window.add(9999.0, start, millis(500));
        assert_eq!(window.measured(), None);
        window.add(1000.0, start + millis(1000), millis(520));
        window.add(3000.0, start + millis(2000), millis(540));
        let measured = window.measured().unwrap();
        assert!((measured.per_second - 2000.0).abs() < 1e-6);
        assert!((measured.cpu_micros - 10.0).abs() < 1e-6);
    }
}
