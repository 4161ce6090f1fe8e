//! What is printed: one line for each probe, as text or as JSON, and one at the end. Never a password: what is printed
//! is times, names of phases, and what the server or the system said.

use super::Summary;
use super::canary::Ending;
use super::outcome::Outcome;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

/// How probes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object in a line.
    Json,
}

impl Format {
    /// A probe that ended at `at`, without a line break.
    #[must_use]
    pub fn line(self, number: u64, at: SystemTime, outcome: &Outcome) -> String {
        match self {
            Self::Text => text(number, at, outcome),
            Self::Json => serde_json::to_string(&Object::of(number, at, outcome)).unwrap_or_default(),
        }
    }
}

fn text(number: u64, at: SystemTime, outcome: &Outcome) -> String {
    let at = humantime::format_rfc3339_millis(at);
    let word = if outcome.fault.is_none() { "ok" } else { "FAILED" };
    let mut line = format!("{at} probe {number} {word} {:.1} ms", millis(outcome.total));
    let mut mark = ':';
    for (phase, took) in outcome.phases.ended() {
        let _ = write!(line, "{mark} {} {:.1}", phase.name(), millis(took));
        mark = ',';
    }
    if let Some(fault) = &outcome.fault {
        let _ = write!(line, "; {fault}");
    }
    line
}

#[derive(Serialize)]
struct Object<'a> {
    at: String,
    probe: u64,
    outcome: &'static str,
    total_ms: f64,
    connect_ms: Option<f64>,
    login_ms: Option<f64>,
    transaction_ms: Option<f64>,
    write_ms: Option<f64>,
    phase: Option<&'static str>,
    reason: Option<&'static str>,
    sqlstate: Option<&'a str>,
    message: Option<&'a str>,
}

impl<'a> Object<'a> {
    fn of(number: u64, at: SystemTime, outcome: &'a Outcome) -> Self {
        let Outcome { phases, total, fault } = outcome;
        let fault = fault.as_ref();
        Self {
            at: humantime::format_rfc3339_millis(at).to_string(),
            probe: number,
            outcome: if fault.is_none() { "success" } else { "failure" },
            total_ms: millis(*total),
            connect_ms: phases.connect.map(millis),
            login_ms: phases.login.map(millis),
            transaction_ms: phases.transaction.map(millis),
            write_ms: phases.write.map(millis),
            phase: fault.map(|fault| fault.phase.name()),
            reason: fault.map(|fault| fault.reason.label()),
            sqlstate: fault.and_then(|fault| fault.sqlstate.as_deref()),
            message: fault.map(|fault| fault.message.as_str()),
        }
    }
}

/// To the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// How it all went, in one line.
#[must_use]
pub fn summary(summary: &Summary, now: Instant) -> String {
    let Summary { ending, tally, last_fault } = summary;
    let last_fault = last_fault.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut line = match ending {
        Ending::TooManyFailures if tally.in_a_row > 1 => {
            format!("{} probes in a row failed, the last one at {last_fault}; ", tally.in_a_row)
        }
        _ if tally.is_failing() => format!("the last probe failed at {last_fault}; "),
        _ if tally.succeeded == 0 => "ended before the first probe was over; ".to_owned(),
        _ => String::new(),
    };
    let _ = write!(line, "{} succeeded, {} failed", tally.succeeded, tally.failed);
    if tally.skipped > 0 {
        let _ = write!(line, ", {} skipped", tally.skipped);
    }
    if let (true, Some(last)) = (tally.is_failing(), tally.last_success) {
        let since = Duration::from_secs(now.saturating_duration_since(last).as_secs());
        let _ = write!(line, ", the last success {} ago", humantime::format_duration(since));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::canary::Tally;
    use super::super::outcome::{Fault, Phase, Phases};
    use super::*;

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)
    }

    fn failed() -> Outcome {
        Outcome {
            phases: Phases { connect: Some(Duration::from_micros(210)), ..Phases::default() },
            total: Duration::from_micros(2050),
            fault: Some(Fault::from_server(Phase::Login, "28P01", "password \"x\" is wrong")),
        }
    }

    #[test]
    fn people_read_one_line() {
        let took = |micros| Some(Duration::from_micros(micros));
        let phases =
            Phases { connect: took(210), login: took(2100), transaction: took(900), ..Phases::default() };
        let served = Outcome { phases, total: Duration::from_micros(3420), fault: None };
        assert_eq!(
            Format::Text.line(12, at(), &served),
            "2023-11-14T22:13:20.123Z probe 12 ok 3.4 ms: connect 0.2, login 2.1, transaction 0.9"
        );
        assert_eq!(
            Format::Text.line(13, at(), &failed()),
            "2023-11-14T22:13:20.123Z probe 13 FAILED 2.0 ms: connect 0.2; login: 28P01: password \"x\" is wrong"
        );
    }

    #[test]
    fn machines_read_one_object() {
        let object: serde_json::Value =
            serde_json::from_str(&Format::Json.line(13, at(), &failed())).unwrap();
        assert_eq!(object["probe"], 13);
        assert_eq!(object["outcome"], "failure");
        assert_eq!(object["connect_ms"], 0.21);
        assert_eq!(object["login_ms"], serde_json::Value::Null);
        assert_eq!(object["sqlstate"], "28P01");
        assert_eq!(object["reason"], "28P01");
        assert_eq!(object["message"], "password \"x\" is wrong");
    }

    #[test]
    fn the_end_says_what_failed_last() {
        let now = Instant::now() + Duration::from_secs(100);
        let tally = Tally {
            succeeded: 4,
            failed: 3,
            in_a_row: 3,
            skipped: 1,
            last_success: Some(now - Duration::from_secs(65)),
        };
        let end = Summary { ending: Ending::TooManyFailures, tally, last_fault: failed().fault };
        assert_eq!(
            summary(&end, now),
            "3 probes in a row failed, the last one at login: 28P01: password \"x\" is wrong; \
             4 succeeded, 3 failed, 1 skipped, the last success 1m 5s ago"
        );
        let tally = Tally { succeeded: 5, in_a_row: 0, skipped: 0, ..tally };
        let end = Summary { ending: Ending::Stopped, tally, ..end };
        assert_eq!(summary(&end, now), "5 succeeded, 3 failed");
        assert!(end.is_success());
        let none = Summary { ending: Ending::Stopped, tally: Tally::default(), last_fault: None };
        assert_eq!(summary(&none, now), "ended before the first probe was over; 0 succeeded, 0 failed");
        assert!(!none.is_success());
    }
}
