//! In which order targets take turns, and how long all of it will take.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What a leg costs besides the plan's own duration, before any has been seen: a pooler's start and end, invocations
/// that are under way when the duration is over, and the wait for quiet.
const ALLOWANCE: Duration = Duration::from_secs(3);

/// How targets take turns in a round, in words for the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Turns {
    /// Figures that were measured before [`in_turn`] was what it is, and say nothing of it.
    #[default]
    Rotated,
    /// As [`in_turn`] has it.
    Balanced,
}

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rotated => {
                "each round begins with the next target, so that all but a round's first come after the same one \
                 every time"
            }
            Self::Balanced => {
                "in the orders of a balanced Latin square, so that over as many rounds as there are targets (twice as \
                 many, of an odd number) each takes every place and comes after each other one equally often; rounds \
                 beyond that repeat the first ones"
            }
        })
    }
}

/// The order of one round, of a balanced Latin square: over as many rounds as there are targets, or twice as many if
/// their number is odd, each takes every place, and comes right after each other one within a round, equally often. What
/// one leaves behind (caches, the CPU's clock) is left to all alike. Rounds beyond that repeat the orders.
pub fn in_turn<T>(targets: &[T], round: u32) -> impl Iterator<Item = &T> {
    let count = targets.len();
    let round = usize::try_from(round).unwrap_or(0);
    let reversed = count % 2 == 1 && (round / count) % 2 == 1;
    (0..count).filter_map(move |place| {
        let place = if reversed { count - 1 - place } else { place };
        // 0, 1, -1, 2, -2, …: of an even count, all neighbours are differently far apart, so that shifting makes every
        // pair once. Of an odd one, every distance is there twice and its opposite never: hence the reverses.
        let step = if place % 2 == 1 { place.div_ceil(2) } else { count - place / 2 };
        targets.get((step + round) % count)
    })
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
    use std::collections::BTreeMap;

    #[test]
    fn everybody_takes_every_place_and_follows_everybody_equally_often() {
        for count in 1..=6_u32 {
            let targets: Vec<u32> = (0..count).collect();
            let repeats = if count % 2 == 0 { 1 } else { 2 };
            let mut places = BTreeMap::new();
            let mut neighbours = BTreeMap::new();
            for round in 0..count * repeats {
                let order: Vec<u32> = in_turn(&targets, round).copied().collect();
                for (place, target) in order.iter().enumerate() {
                    *places.entry((place, *target)).or_insert(0) += 1;
                }
                for pair in order.windows(2) {
                    *neighbours.entry((pair[0], pair[1])).or_insert(0) += 1;
                }
            }
            let pairs = usize::try_from(count * (count - 1)).unwrap();
            assert_eq!(neighbours.len(), pairs, "{count}: {neighbours:?}");
            assert!(neighbours.values().all(|times| *times == repeats), "{count}: {neighbours:?}");
            assert_eq!(places.len(), targets.len() * targets.len());
            assert!(places.values().all(|times| *times == repeats), "{count}: {places:?}");
        }
    }

    #[test]
    fn orders_repeat_and_nobody_takes_no_turn() {
        let order = |round| in_turn(&['a', 'b', 'c', 'd'], round).collect::<String>();
        assert_eq!([0, 1, 2, 3, 4].map(order), ["abdc", "bcad", "cdba", "dacb", "abdc"]);
        assert_eq!(in_turn::<char>(&[], 1).count(), 0);
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
