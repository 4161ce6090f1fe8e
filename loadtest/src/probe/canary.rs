//! When a probe begins, what its outcome means and when all is over: decisions without sockets, clock or log.
//!
//! The shell in `probe/mod.rs` does what a [`Decision`] says and answers with an [`Event`]; there is never more than
//! one probe under way.

use std::time::{Duration, Instant};

/// How often, how long and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// From the start of one probe to the start of the next; above zero.
    pub every: Duration,
    /// When a probe gives up.
    pub timeout: Duration,
    /// So many failures in a row end the run; 0: they never do.
    pub failures: u32,
    /// So many probes end the run; `None`: they never do.
    pub probes: Option<u64>,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The time that was waited for has come.
    Due,
    /// The probe has succeeded.
    Succeeded,
    /// The probe has failed, or has given up.
    Failed,
    /// Somebody wants it to end; a probe under way counts as none.
    Stopped,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Wait; then say [`Event::Due`].
    Wait {
        /// Until then.
        until: Instant,
    },
    /// Run a probe; then say how it went.
    Probe {
        /// 1 for the first.
        number: u64,
        /// It has failed if it is not over by then.
        give_up: Instant,
    },
    /// All is over.
    End(Ending),
}

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As many probes as were wanted.
    Complete,
    /// Too many failures in a row.
    TooManyFailures,
    /// Somebody wanted it.
    Stopped,
}

/// What there was so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Probes that succeeded.
    pub succeeded: u64,
    /// Probes that failed.
    pub failed: u64,
    /// Failures since the last success.
    pub in_a_row: u32,
    /// Probes that were due while another was under way, or while the machine slept; they are left out.
    pub skipped: u64,
    /// When the last success was.
    pub last_success: Option<Instant>,
}

impl Tally {
    /// The last probe failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.in_a_row > 0
    }
}

/// The state of a run of probes.
#[derive(Debug)]
pub struct Canary {
    terms: Terms,
    /// When the probe under way was due, or the next one is: always a whole number of periods after the start, so that
    /// the schedule does not drift by what probes take.
    due: Instant,
    started: u64,
    tally: Tally,
}

impl Canary {
    /// The first probe is due `now`.
    #[must_use]
    pub fn new(terms: Terms, now: Instant) -> Self {
        Self { terms, due: now, started: 0, tally: Tally::default() }
    }

    /// What there was so far.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is to be done, `event` having happened `now`. Begin with [`Event::Due`].
    pub fn handle(&mut self, event: Event, now: Instant) -> Decision {
        match event {
            Event::Due => self.begin(now),
            Event::Succeeded => {
                self.tally.succeeded += 1;
                self.tally.in_a_row = 0;
                self.tally.last_success = Some(now);
                self.proceed(now)
            }
            Event::Failed => {
                self.tally.failed += 1;
                self.tally.in_a_row = self.tally.in_a_row.saturating_add(1);
                self.proceed(now)
            }
            Event::Stopped => Decision::End(Ending::Stopped),
        }
    }

    fn begin(&mut self, now: Instant) -> Decision {
        if now < self.due {
            return Decision::Wait { until: self.due };
        }
        self.started += 1;
        Decision::Probe { number: self.started, give_up: now + self.terms.timeout }
    }

    fn proceed(&mut self, now: Instant) -> Decision {
        if self.terms.failures > 0 && self.tally.in_a_row >= self.terms.failures {
            return Decision::End(Ending::TooManyFailures);
        }
        if self.terms.probes.is_some_and(|probes| self.started >= probes) {
            return Decision::End(Ending::Complete);
        }
        self.schedule(now);
        Decision::Wait { until: self.due }
    }

    /// To the first time of the schedule that is not over yet.
    fn schedule(&mut self, now: Instant) {
        let every = self.terms.every.as_nanos().max(1);
        let late = now.saturating_duration_since(self.due).as_nanos();
        let periods = late.div_ceil(every).max(1);
        self.due += Duration::from_nanos(u64::try_from(periods * every).unwrap_or(u64::MAX));
        self.tally.skipped += u64::try_from(periods - 1).unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms =
        Terms { every: Duration::from_secs(10), timeout: Duration::from_secs(5), failures: 3, probes: None };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A canary whose first probe is under way, and when it began.
    fn probing(terms: Terms) -> (Canary, Instant) {
        let start = Instant::now();
        let mut canary = Canary::new(terms, start);
        let first = canary.handle(Event::Due, start);
        assert_eq!(first, Decision::Probe { number: 1, give_up: start + terms.timeout });
        (canary, start)
    }

    #[test]
    fn the_schedule_does_not_drift() {
        let (mut canary, start) = probing(TERMS);
        for number in 1..50 {
            let due = start + seconds(10 * number);
            // Each probe takes a while, and each timer is a little late.
            let ended = canary.handle(Event::Succeeded, due - seconds(7));
            assert_eq!(ended, Decision::Wait { until: due });
            let woken = due + Duration::from_millis(20);
            let begun = canary.handle(Event::Due, woken);
            assert_eq!(begun, Decision::Probe { number: number + 1, give_up: woken + seconds(5) });
        }
        assert_eq!(canary.tally().skipped, 0);
    }

    #[test]
    fn waking_too_early_is_waiting_again() {
        let (mut canary, start) = probing(TERMS);
        canary.handle(Event::Succeeded, start + seconds(1));
        let until = start + seconds(10);
        assert_eq!(canary.handle(Event::Due, until - Duration::from_nanos(1)), Decision::Wait { until });
    }

    #[test]
    fn what_was_due_during_a_long_probe_is_skipped_not_made_up_for() {
        for (ended_after, next, skipped) in
            [(0, 10, 0), (9, 10, 0), (10, 10, 0), (11, 20, 1), (20, 20, 1), (35, 40, 3)]
        {
            let (mut canary, start) = probing(TERMS);
            let decision = canary.handle(Event::Failed, start + seconds(ended_after));
            assert_eq!(decision, Decision::Wait { until: start + seconds(next) }, "{ended_after}");
            assert_eq!(canary.tally().skipped, skipped, "{ended_after}");
        }
    }

    #[test]
    fn a_machine_that_slept_for_ten_years_goes_on_at_once() {
        let (mut canary, start) = probing(Terms { every: Duration::from_millis(10), ..TERMS });
        let now = start + seconds(10 * 365 * 86_400);
        assert_eq!(canary.handle(Event::Succeeded, now), Decision::Wait { until: now });
        assert_eq!(canary.tally().skipped, 10 * 365 * 86_400 * 100 - 1);
    }

    #[test]
    fn only_failures_in_a_row_end_the_run() {
        let (mut canary, now) = probing(TERMS);
        for event in [Event::Failed, Event::Failed, Event::Succeeded, Event::Failed, Event::Failed] {
            assert!(matches!(canary.handle(event, now), Decision::Wait { .. }));
            canary.handle(Event::Due, now + seconds(100));
        }
        assert_eq!(canary.tally().in_a_row, 2);
        assert_eq!(canary.handle(Event::Failed, now), Decision::End(Ending::TooManyFailures));
        assert!(canary.tally().is_failing());
        assert_eq!((canary.tally().succeeded, canary.tally().failed), (1, 5));
    }

    #[test]
    fn zero_failures_allowed_means_any_number() {
        let (mut canary, now) = probing(Terms { failures: 0, ..TERMS });
        for _ in 0..1000 {
            assert!(matches!(canary.handle(Event::Failed, now), Decision::Wait { .. }));
        }
        assert_eq!(canary.tally().in_a_row, 1000);
    }

    #[test]
    fn a_run_of_two_ends_after_the_second_whatever_came_of_it() {
        for second in [Event::Succeeded, Event::Failed] {
            let (mut canary, start) = probing(Terms { probes: Some(2), ..TERMS });
            let until = start + seconds(10);
            assert_eq!(canary.handle(Event::Failed, start), Decision::Wait { until });
            assert!(matches!(canary.handle(Event::Due, until), Decision::Probe { number: 2, .. }));
            assert_eq!(canary.handle(second, until), Decision::End(Ending::Complete));
            assert_eq!(canary.tally().is_failing(), second == Event::Failed);
        }
    }

    #[test]
    fn a_single_probe_that_fails_is_enough_where_one_failure_is_too_many() {
        let (mut canary, now) = probing(Terms { failures: 1, probes: Some(1), ..TERMS });
        assert_eq!(canary.handle(Event::Failed, now), Decision::End(Ending::TooManyFailures));
    }

    #[test]
    fn a_probe_that_is_stopped_counts_as_none() {
        let (mut canary, start) = probing(TERMS);
        assert_eq!(canary.handle(Event::Stopped, start + seconds(1)), Decision::End(Ending::Stopped));
        assert_eq!(*canary.tally(), Tally::default());
    }

    #[test]
    fn the_last_success_is_remembered_through_failures() {
        let (mut canary, start) = probing(TERMS);
        assert_eq!(canary.tally().last_success, None);
        canary.handle(Event::Succeeded, start + seconds(1));
        canary.handle(Event::Due, start + seconds(10));
        canary.handle(Event::Failed, start + seconds(12));
        assert_eq!(canary.tally().last_success, Some(start + seconds(1)));
    }
}
