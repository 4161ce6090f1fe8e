//! Where a rule's numbers are kept: one for each key, and so many keys at most.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::StateStore;

/// How many of the keys that came longest ago are looked at for one that has recovered. The first one mostly has.
const LOOKED_AT: usize = 8;

/// At the bound the key goes that came longest ago, and before it one that has recovered and so has nothing to be
/// remembered for. (One that has not gets a whole burst when it comes again. Whoever is refused comes often, and stays.)
#[derive(Debug)]
pub(super) struct Store {
    /// The time for one.
    interval: u64,
    max_keys: usize,
    known: RefCell<Known>,
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<u64, Number, foldhash::fast::RandomState>,
    /// Keys by when they came last.
    order: BTreeMap<u64, u64>,
    /// How many have come, which is a number for each.
    came: u64,
}

#[derive(Debug, Clone, Copy)]
struct Number {
    /// GCRA's "theoretical arrival time": when the key will have recovered.
    recovered: Nanos,
    /// Its place in the order.
    came: u64,
}

impl Store {
    /// For a rule that lets one through in each `interval`.
    pub(super) fn new(interval: Duration, max_keys: usize) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { interval, max_keys: max_keys.max(1), known: RefCell::default() }
    }
}

impl StateStore for Store {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut known = self.known.borrow_mut();
        let before = known.come(*key);
        let (verdict, recovered) = decide(before)?;
        if before.is_none() && known.numbers.len() >= self.max_keys {
            // A new key's first is let through, and recovers after one interval.
            known.forget_one(recovered.as_u64().saturating_sub(self.interval));
        }
        known.keep(*key, recovered);
        Ok(verdict)
    }
}

impl Known {
    /// A key comes, whether it is let through or not.
    fn come(&mut self, key: u64) -> Option<Nanos> {
        let number = self.numbers.get_mut(&key)?;
        self.order.remove(&number.came);
        self.came += 1;
        number.came = self.came;
        self.order.insert(self.came, key);
        Some(number.recovered)
    }

    fn keep(&mut self, key: u64, recovered: Nanos) {
        if let Some(number) = self.numbers.get_mut(&key) {
            number.recovered = recovered;
            return;
        }
        self.came += 1;
        self.numbers.insert(key, Number { recovered, came: self.came });
        self.order.insert(self.came, key);
    }

    fn forget_one(&mut self, now: u64) {
        let oldest = self.order.iter().take(LOOKED_AT).map(|(came, key)| (*came, *key));
        let has_recovered =
            |key: &u64| self.numbers.get(key).is_none_or(|number| number.recovered.as_u64() <= now);
        let goes = oldest.clone().find(|(_, key)| has_recovered(key)).or_else(|| oldest.clone().next());
        if let Some((came, key)) = goes {
            self.order.remove(&came);
            self.numbers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Comes at `now`, with a burst of one: recovered a second later.
    fn come(store: &Store, key: u64, now: u64) -> Option<u64> {
        let decide = |before: Option<Nanos>| Ok::<_, ()>((before, (now + SECOND).into()));
        store.measure_and_replace(&key, decide).unwrap().map(Nanos::as_u64)
    }

    fn keys(store: &Store) -> Vec<u64> {
        let mut keys: Vec<_> = store.known.borrow().numbers.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn the_one_goes_that_came_longest_ago_and_has_recovered() {
        let store = Store::new(Duration::from_secs(1), 3);
        for key in 1..=3 {
            come(&store, key, key);
        }
        assert_eq!(come(&store, 1, 10), Some(1 + SECOND));
        // Nobody has recovered: the one that came longest ago goes.
        come(&store, 4, 20);
        assert_eq!(keys(&store), [1, 3, 4]);
        // Key 3 has recovered, key 1 came before it and has not.
        come(&store, 1, 5 * SECOND);
        come(&store, 4, 5 * SECOND);
        store.known.borrow_mut().keep(3, (6 * SECOND).into());
        store.known.borrow_mut().keep(1, 0.into());
        come(&store, 5, 5 * SECOND + 1);
        assert_eq!(keys(&store), [3, 4, 5]);
    }

    #[test]
    fn one_that_is_refused_stays() {
        let store = Store::new(Duration::from_secs(1), 2);
        come(&store, 1, 0);
        come(&store, 2, 0);
        assert_eq!(store.measure_and_replace(&1, |_| Err::<((), Nanos), _>("no")), Err("no"));
        come(&store, 3, 0);
        assert_eq!(keys(&store), [1, 3]);
        assert_eq!(store.known.borrow().order.len(), 2);
    }
}
