//! In which order targets take turns, and how long all of it will take.

use std::time::Duration;

/// What a leg costs besides the plan's own duration, before any has been seen: a pooler's start and end, invocations
/// that are under way when the duration is over, and the wait for quiet.
const ALLOWANCE: Duration = Duration::from_secs(3);

/// The order of one round: each round begins with the next target, so that none always comes after the same one, or
/// always first.
pub fn rotated<T>(targets: &[T], round: u32) -> impl Iterator<Item = &T> {
    let first = usize::try_from(round).unwrap_or(0) % targets.len().max(1);
    targets.iter().cycle().skip(first).take(targets.len())
}

/// How long the legs of all plans will still take. A plan of which legs have been seen is expected to go on as it began.
#[derive(Debug)]
pub struct Remaining {
    plans: Vec<Expected>,
}

#[derive(Debug)]
struct Expected {
    to_do: u32,
    done: u32,
    guess: Duration,
    took: Duration,
}

impl Remaining {
    /// One duration per plan, each with so many legs.
    pub fn new(durations: impl IntoIterator<Item = Duration>, legs_each: u32) -> Self {
        let expected = |duration: Duration| Expected {
            to_do: legs_each,
            done: 0,
            guess: duration.saturating_add(ALLOWANCE),
            took: Duration::ZERO,
        };
        Self { plans: durations.into_iter().map(expected).collect() }
    }

    /// A leg of this plan (by its place in the list) is over, and took so long.
    pub fn leg_is_over(&mut self, plan: usize, took: Duration) {
        if let Some(expected) = self.plans.get_mut(plan) {
            expected.to_do = expected.to_do.saturating_sub(1);
            expected.done += 1;
            expected.took += took;
        }
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        self.plans.iter().map(|plan| plan.each().saturating_mul(plan.to_do)).sum()
    }
}

impl Expected {
    fn each(&self) -> Duration {
        self.took.checked_div(self.done).unwrap_or(self.guess)
    }
}

/// `45 s`, `12 min`.
pub fn about(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..=90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_comes_first_once() {
        let order = |round| rotated(&['a', 'b', 'c'], round).collect::<String>();
        assert_eq!([0, 1, 2, 3].map(order), ["abc", "bca", "cab", "abc"]);
        assert_eq!(rotated::<char>(&[], 1).count(), 0);
    }

    #[test]
    fn what_was_seen_replaces_the_guess() {
        let seconds = Duration::from_secs;
        let mut remaining = Remaining::new([seconds(7), seconds(17)], 2);
        assert_eq!(remaining.left(), seconds(2 * 10 + 2 * 20));
        remaining.leg_is_over(0, seconds(30));
        assert_eq!(remaining.left(), seconds(30 + 2 * 20));
        remaining.leg_is_over(0, seconds(10));
        assert_eq!(remaining.left(), seconds(2 * 20));
        remaining.leg_is_over(9, seconds(10));
        assert_eq!(remaining.left(), seconds(2 * 20));
    }

    #[test]
    fn long_times_are_told_in_minutes() {
        assert_eq!(
            (about(Duration::from_secs(59)), about(Duration::from_secs(121))),
            ("59 s".into(), "3 min".into())
        );
    }
}
