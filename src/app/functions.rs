//! Which functions have a line of their own in a scrape, and what the others have had together: counters that never fall,
//! whoever is promoted or forgotten meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use crate::guard::FunctionSnapshot;
use crate::obs::FunctionGauges;

/// Functions with a line of their own. However clients call themselves, there are no more.
const MOST: usize = 50;
/// The name of the others; also of those that share a place in the gate.
const OTHER: &str = "other";

/// What the functions of one pool had when they were last looked at, and what those without a line have had since the start.
#[derive(Debug, Default)]
pub(super) struct Functions {
    last: HashMap<Arc<str>, FunctionSnapshot>,
    other: FunctionGauges,
}

impl Functions {
    /// Those that have had most of the pool's time, and the rest together.
    pub(super) fn gauges(&mut self, mut all: Vec<FunctionSnapshot>) -> Vec<FunctionGauges> {
        all.sort_by(|a, b| b.held.total_cmp(&a.held));
        let (mut gauges, mut others) = (vec![], vec![]);
        for function in &all {
            if gauges.len() < MOST && &*function.name != OTHER {
                gauges.push(own(function));
            } else {
                others.push(function);
            }
        }
        if !others.is_empty() || self.other.held_seconds > 0.0 {
            self.add(&others);
            gauges.push(self.other.clone());
        }
        self.last.clear();
        for function in all {
            let merged = self
                .last
                .remove(&function.name)
                .map_or_else(|| function.clone(), |before| both(before, &function));
            self.last.insert(Arc::clone(&function.name), merged);
        }
        gauges
    }

    /// What they have had since they were last looked at goes to the others; how they stand now is all theirs.
    fn add(&mut self, others: &[&FunctionSnapshot]) {
        let mut now: HashMap<&str, FunctionSnapshot> = HashMap::new();
        for function in others {
            let merged = now
                .remove(&*function.name)
                .map_or_else(|| (*function).clone(), |before| both(before, function));
            now.insert(&function.name, merged);
        }
        let other = &mut self.other;
        (other.name, other.active, other.waiting) = (OTHER.to_owned(), 0, 0);
        for (name, function) in now {
            // One that has less than before has been forgotten and has come back.
            let before = self.last.get(name).filter(|before| before.held <= function.held);
            let of = |count: fn(&FunctionSnapshot) -> u64| {
                count(&function).saturating_sub(before.map_or(0, count))
            };
            let seconds =
                |time: fn(&FunctionSnapshot) -> f64| (time(&function) - before.map_or(0.0, time)).max(0.0);
            other.active += function.active;
            other.waiting += function.waiting;
            other.held_seconds += seconds(|function| function.held);
            other.waited_seconds += seconds(|function| function.waited);
            other.sheds += of(|function| function.sheds);
            other.transactions += of(|function| function.done);
        }
    }
}

/// Two places of one name: those that names share are all called the same.
fn both(one: FunctionSnapshot, other: &FunctionSnapshot) -> FunctionSnapshot {
    FunctionSnapshot {
        name: one.name,
        active: one.active + other.active,
        waiting: one.waiting + other.waiting,
        held: one.held + other.held,
        sheds: one.sheds + other.sheds,
        done: one.done + other.done,
        waited: one.waited + other.waited,
    }
}

fn own(function: &FunctionSnapshot) -> FunctionGauges {
    FunctionGauges {
        name: function.name.to_string(),
        active: function.active,
        waiting: function.waiting,
        held_seconds: function.held,
        sheds: function.sheds,
        transactions: function.done,
        waited_seconds: function.waited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, held: f64) -> FunctionSnapshot {
        let (active, waiting) = (1, 2);
        FunctionSnapshot {
            name: name.into(),
            active,
            waiting,
            held,
            sheds: held as u64,
            done: held as u64 * 10,
            waited: held / 2.0,
        }
    }

    fn other(gauges: &[FunctionGauges]) -> Option<&FunctionGauges> {
        gauges.iter().find(|function| function.name == "other")
    }

    #[test]
    fn however_many_there_are_the_first_fifty_have_a_line_and_the_rest_have_one() {
        let mut functions = Functions::default();
        let all = (0..300).map(|n| function(&format!("f{n}"), f64::from(n))).collect();
        let gauges = functions.gauges(all);
        assert_eq!(gauges.len(), 51);
        assert_eq!(gauges[0].name, "f299");
        let other = other(&gauges).unwrap();
        assert_eq!((other.active, other.waiting, other.sheds), (250, 500, (0..250).sum()));
        assert!(
            Functions::default().gauges(vec![function("f", 1.0)]).iter().all(|function| function.name == "f")
        );
    }

    #[test]
    fn the_others_never_have_less_than_before() {
        let mut functions = Functions::default();
        let mut held: Vec<f64> = (0..80).map(f64::from).collect();
        let (mut before, mut all) = (0, 0.0);
        for round in 0..50 {
            // Somebody from below comes to the top, and somebody is forgotten.
            held[round] += 100.0 + round as f64;
            held[79 - round] = 0.0;
            let snapshot = held
                .iter()
                .enumerate()
                .map(|(n, held)| function(&format!("f{n}"), *held))
                .collect::<Vec<_>>();
            let gauges = functions.gauges(snapshot.clone());
            let now = other(&gauges).unwrap();
            assert!(now.sheds >= before && now.held_seconds >= all, "{round}: {now:?}");
            (before, all) = (now.sheds, now.held_seconds);
            let again = functions.gauges(snapshot);
            assert_eq!(other(&again), other(&gauges), "nothing has happened");
        }
    }

    #[test]
    fn places_that_are_shared_are_one_line() {
        let mut functions = Functions::default();
        let shared = vec![function("api", 9.0), function("other", 2.0), function("other", 3.0)];
        let gauges = functions.gauges(shared.clone());
        assert_eq!(other(&gauges).map(|other| other.held_seconds), Some(5.0));
        assert_eq!(other(&functions.gauges(shared)).map(|other| other.held_seconds), Some(5.0));
    }
}
