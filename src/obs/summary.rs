//! One line for a storm instead of a thousand: events of a kind are counted, and a line is due at most once a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two lines of one kind.
const PERIOD: Duration = Duration::from_secs(1);

/// Counts events by kind and says when a line about them is due. Pure: `now` comes from the caller.
///
/// Kinds are constants of the code, never something that a peer sent, so their number is bounded.
#[derive(Debug, Default)]
pub struct Summary {
    kinds: BTreeMap<&'static str, Pending>,
}

/// What a log line about one kind should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The kind of event.
    pub kind: &'static str,
    /// Events since the line before.
    pub count: u64,
    /// Time since the line before; `None` for the first.
    pub since: Option<Duration>,
}

#[derive(Debug, Default)]
struct Pending {
    count: u64,
    last_line: Option<Instant>,
}

impl Summary {
    /// An event happened. The first of a storm is reported at once; the others with the next line that is due.
    pub fn count(&mut self, kind: &'static str, now: Instant) -> Option<Line> {
        let pending = self.kinds.entry(kind).or_default();
        pending.count = pending.count.saturating_add(1);
        pending.line(kind, now)
    }

    /// Lines that are due though nothing more happens: call it about once a second, and at the end.
    pub fn flush(&mut self, now: Instant) -> Vec<Line> {
        self.kinds.iter_mut().filter_map(|(kind, pending)| pending.line(kind, now)).collect()
    }
}

impl Pending {
    fn line(&mut self, kind: &'static str, now: Instant) -> Option<Line> {
        let since = self.last_line.map(|last| now.saturating_duration_since(last));
        if self.count == 0 || since.is_some_and(|since| since < PERIOD) {
            return None;
        }
        self.last_line = Some(now);
        Some(Line { kind, count: std::mem::take(&mut self.count), since })
    }
}

/// A [`Summary`] with a clock and the log: WARN lines `<what> reason=… count=…`.
#[derive(Debug)]
pub struct SummaryLog {
    what: &'static str,
    summary: Mutex<Summary>,
}

impl SummaryLog {
    /// `what` is the message of each line: `clients shed`.
    pub fn new(what: &'static str) -> Self {
        Self { what, summary: Mutex::default() }
    }

    /// An event happened; logs a line if one is due.
    pub fn count(&self, reason: &'static str) {
        let line = self.lock().count(reason, Instant::now());
        if let Some(line) = line {
            self.log(line);
        }
    }

    /// Logs the lines that are due. For a task that ticks about once a second.
    pub fn flush(&self) {
        let lines = self.lock().flush(Instant::now());
        for line in lines {
            self.log(line);
        }
    }

    fn log(&self, line: Line) {
        let seconds = line.since.map(|since| since.as_secs_f64());
        tracing::warn!(reason = line.kind, count = line.count, seconds, "{}", self.what);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Summary> {
        // Nothing in here can panic half-way, so a poisoned lock still guards sound counts.
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_storm_is_one_line_a_second_and_no_event_is_lost() {
        let start = Instant::now();
        let mut summary = Summary::default();
        let lines: Vec<Line> =
            (0..2500).filter_map(|ms| summary.count("queue_full", start + ms * MS)).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], Line { kind: "queue_full", count: 1, since: None });
        assert_eq!(lines[1], Line { kind: "queue_full", count: 1000, since: Some(PERIOD) });
        let rest = summary.flush(start + 3000 * MS);
        assert_eq!(lines.iter().chain(&rest).map(|line| line.count).sum::<u64>(), 2500);
    }

    #[test]
    fn kinds_do_not_hide_each_other() {
        let now = Instant::now();
        let mut summary = Summary::default();
        assert!(summary.count("queue_full", now).is_some());
        assert!(summary.count("queue_timeout", now).is_some());
        assert!(summary.count("queue_full", now).is_none());
    }

    #[test]
    fn a_flush_is_silent_before_a_second_and_when_nothing_happened() {
        let start = Instant::now();
        let mut summary = Summary::default();
        summary.count("queue_full", start);
        summary.count("queue_full", start);
        assert_eq!(summary.flush(start + 999 * MS), []);
        let due = Line { kind: "queue_full", count: 1, since: Some(PERIOD) };
        assert_eq!(summary.flush(start + PERIOD), [due]);
        assert_eq!(summary.flush(start + 10 * PERIOD), []);
    }

    #[test]
    fn a_clock_that_seems_to_go_back_only_delays_the_line() {
        let later = Instant::now() + PERIOD;
        let mut summary = Summary::default();
        summary.count("queue_full", later);
        assert_eq!(summary.count("queue_full", later - PERIOD), None);
    }
}
