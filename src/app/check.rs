//! `pgcorral check --connect`: logs in to every upstream and compares the pools with what it allows.

use std::io::{self, Write};
use std::process::ExitCode;

use super::preflight::{Severity, inspect};
use crate::config::Config;

/// Logs in to every upstream and prints a report for each, on standard output: its address, then one line for each fact,
/// with `ok`, `warning` or `error` in front. Fails if there is an error.
pub async fn check(config: &Config) -> ExitCode {
    let mut worst = Severity::Ok;
    for upstream in &config.upstreams {
        let findings = inspect(upstream).await;
        let mut report = format!("upstream {}\n", upstream.params.address);
        for finding in &findings {
            report += &format!("{finding}\n");
            worst = worst.max(finding.severity);
        }
        // As soon as it is known: the next upstream may have to time out. Nobody has to read it.
        let mut out = io::stdout().lock();
        let _ = out.write_all(report.as_bytes()).and_then(|()| out.flush());
    }
    if worst == Severity::Error { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
