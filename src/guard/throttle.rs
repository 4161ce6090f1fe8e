//! The adaptive throttle of the SRE book (chapter 21, "Client-Side Throttling"), for dials: what share of them to hold
//! back, from how many of the last half minute were answered.
//!
//! It is for a server that answers some dials and not others: behind a load balancer with a dead member, or so busy
//! that logins time out. A server that answers none is the breaker's matter, one without a slot the budget's.
//!
//! One thing differs from the book. There, requests that were held back count as requests, too. Its callers come by
//! themselves; here the gate itself asks again, so that with half of all dials failing the book's count would end at 4
//! dials in half a minute. Only dials that were made are counted: `P = max(0, (dials − K·answers) / (dials + 1))`.

use std::time::{Duration, Instant};

/// As in the book's discussion: a third of all dials may fail before any is held back. Its default of 2 would let half of
/// them fail.
const K: f64 = 1.5;
/// Parts of the window. What happened is forgotten a part at a time.
const PARTS: usize = 10;
/// Length of a part; the window is 30 s.
const PART: Duration = Duration::from_secs(3);
/// With fewer dials than this in the window, chance decides how many of them fail.
const LEAST_DIALS: u32 = 10;

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Which part of time it is.
    number: u64,
    dials: u32,
    answers: u32,
}

/// Dials of the last half minute.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    start: Option<Instant>,
    /// A ring: the part with number n is at n modulo [`PARTS`].
    parts: [Part; PARTS],
}

impl Throttle {
    /// A dial is over, and was answered (let in or not) or not.
    pub(super) fn note(&mut self, now: Instant, answered: bool) {
        let number = self.number(now);
        let part = &mut self.parts[number as usize % PARTS];
        if part.number != number {
            *part = Part { number, ..Part::default() };
        }
        part.dials = part.dials.saturating_add(1);
        part.answers = part.answers.saturating_add(u32::from(answered));
    }

    /// The share of dials to hold back now.
    pub(super) fn rejection(&mut self, now: Instant) -> f64 {
        let number = self.number(now);
        let recent = self.parts.iter().filter(|part| part.number + (PARTS as u64) > number);
        let (dials, answers) =
            recent.fold((0, 0), |(dials, answers), part| (dials + part.dials, answers + part.answers));
        if dials < LEAST_DIALS {
            return 0.0;
        }
        let (dials, answers) = (f64::from(dials), f64::from(answers));
        ((dials - K * answers) / (dials + 1.0)).max(0.0)
    }

    /// What is known says nothing about the server of now.
    pub(super) fn clear(&mut self) {
        *self = Throttle::default();
    }

    /// The first part is number `PARTS`, so that a part that was never used is out of date.
    fn number(&mut self, now: Instant) -> u64 {
        let start = *self.start.get_or_insert(now);
        PARTS as u64 + now.saturating_duration_since(start).as_secs() / PART.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(throttle: &mut Throttle, now: Instant, dials: u32, answered: u32) -> f64 {
        (0..dials).for_each(|dial| throttle.note(now, dial < answered));
        throttle.rejection(now)
    }

    #[test]
    fn a_third_may_fail_and_then_the_share_grows() {
        let now = Instant::now();
        let share = |answered| after(&mut Throttle::default(), now, 100, answered);
        assert_eq!((share(100), share(67)), (0.0, 0.0));
        let shares: Vec<f64> = (0..=66).rev().map(share).collect();
        assert!(shares.is_sorted() && shares[0] > 0.0 && shares[66] > 0.98, "{shares:?}");
    }

    #[test]
    fn a_few_failures_hold_nothing_back() {
        assert_eq!(after(&mut Throttle::default(), Instant::now(), LEAST_DIALS - 1, 0), 0.0);
    }

    #[test]
    fn half_a_minute_later_all_is_forgotten() {
        let (start, mut throttle) = (Instant::now(), Throttle::default());
        assert!(after(&mut throttle, start, 50, 0) > 0.9);
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(throttle.rejection(later(29)) > 0.9);
        assert_eq!(throttle.rejection(later(30)), 0.0);
        assert_eq!(after(&mut throttle, later(300), 50, 50), 0.0);
        assert!(after(&mut throttle, later(303), 500, 0) > 0.8, "the parts of the ring are used again");
    }
}
