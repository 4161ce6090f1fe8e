//! What became of a key's waiters lately: is its queue standing, and is it getting shorter?
//!
//! A burst and an overload look alike when they begin. They are told apart by what happens next: a burst's queue is served
//! faster than it is joined, an overload's is not. Only grants and arrivals count, not those who gave up or were refused:
//! a queue that gets shorter because its waiters leave is not being served.

use std::time::{Duration, Instant};

/// Length of a window.
pub(super) const WINDOW: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    arrived: usize,
    granted: usize,
    shed: usize,
}

/// The last whole window and the one that runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trend {
    /// Since when there has always been a waiter.
    since: Option<Instant>,
    begun: Option<Instant>,
    now: Counts,
    last: Counts,
    /// Share of the clients that are served while a queue has stood for long, from 0 to 1.
    pub(super) admitted: f64,
}

impl Trend {
    /// The first waiter.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Trend { since: Some(now), begun: Some(now), admitted: 1.0, ..Trend::default() };
    }

    /// The last one has gone.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    pub(super) fn arrived(&mut self) {
        self.now.arrived += 1;
    }

    pub(super) fn granted(&mut self) {
        self.now.granted += 1;
    }

    pub(super) fn shed(&mut self) {
        self.now.shed += 1;
    }

    /// How long there has always been a waiter.
    pub(super) fn standing(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Begins a new window if the running one is full. True if it did.
    pub(super) fn roll(&mut self, now: Instant) -> bool {
        let full = self.begun.is_some_and(|begun| now.saturating_duration_since(begun) >= WINDOW);
        if full {
            self.begun = Some(now);
            self.last = std::mem::take(&mut self.now);
        }
        full
    }

    /// How many more were served than came, per second, in the last one to two windows. Zero if more came.
    pub(super) fn spare_rate(&self, now: Instant) -> f64 {
        let joined = (self.last.arrived + self.now.arrived) as f64;
        (self.served_rate(now) - joined / self.counted(now)).max(0.0)
    }

    /// How many were served per second in the last one to two windows.
    pub(super) fn served_rate(&self, now: Instant) -> f64 {
        (self.last.granted + self.now.granted) as f64 / self.counted(now)
    }

    /// How long it is counted for by now, in seconds.
    fn counted(&self, now: Instant) -> f64 {
        let running = self.begun.map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun));
        (WINDOW + running).as_secs_f64()
    }

    /// How long it takes until all `waiting` are served, if it goes on like that. None: for ever.
    pub(super) fn drained_in(&self, now: Instant, waiting: usize) -> Option<Duration> {
        Duration::try_from_secs_f64(waiting as f64 / self.spare_rate(now)).ok()
    }

    /// Of those who came in the last window, the share that was served.
    pub(super) fn share_served(&self) -> f64 {
        if self.last.arrived == 0 {
            1.0
        } else {
            (self.last.granted as f64 / self.last.arrived as f64).min(1.0)
        }
    }

    /// Waiters that were refused in the last one to two windows.
    pub(super) fn recently_shed(&self) -> usize {
        self.last.shed + self.now.shed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_drained_and_an_overload_is_not() {
        let start = Instant::now();
        let mut burst = Trend::default();
        burst.begin(start);
        (0..1000).for_each(|_| burst.arrived());
        assert!(burst.roll(start + ms(500)));
        assert_eq!(burst.drained_in(start + ms(500), 1000), None, "nothing is known yet");
        (0..200).for_each(|_| burst.granted());
        assert!(burst.roll(start + ms(1000)));
        assert!(!burst.roll(start + ms(1100)));
        assert_eq!(burst.drained_in(start + ms(1000), 800), Some(ms(2000)));
        (0..400).for_each(|_| burst.arrived());
        assert_eq!(burst.drained_in(start + ms(1000), 800), None);
    }

    #[test]
    fn it_stands_while_there_is_always_a_waiter() {
        let start = Instant::now();
        let mut trend = Trend::default();
        assert_eq!(trend.standing(start), Duration::ZERO);
        trend.begin(start);
        assert_eq!(trend.standing(start + ms(7)), ms(7));
        trend.end();
        assert_eq!(trend.standing(start + ms(9)), Duration::ZERO);
    }
}
