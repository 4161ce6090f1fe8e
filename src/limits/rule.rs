//! One rule and what it has counted.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::{Quota, RateLimiter};

use super::Who;
use super::params::{Mode, Per, RateLimit};
use super::store::Store;
use crate::lock::lock;

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// As it stands in errors, metrics and the log.
    pub name: String,
    /// What is counted apart, as it stands in errors: `user+address`, or `all`.
    pub per: String,
    /// What happens to what is over the limit.
    pub mode: Mode,
    /// Its place among all rules of the configuration.
    pub index: usize,
    start: Instant,
    /// Shared with the rule that takes this one's place and counts the same.
    limiter: Arc<Mutex<Limiter>>,
    /// As it was configured.
    limit: RateLimit,
}

type Limiter = RateLimiter<u64, Store, Told, NoOpMiddleware<Nanos>>;

/// The time that was said last, since the rule's start.
#[derive(Debug, Default)]
struct Told(Cell<u64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get().into()
    }
}

impl Rule {
    pub(super) fn new(limit: &RateLimit, index: usize, start: Instant) -> Self {
        let interval = limit.rate.interval();
        let per: Vec<_> = limit.per.iter().map(|per| per.as_str()).collect();
        let store = Store::new(interval, limit.max_keys);
        Self {
            name: limit.name.clone(),
            per: if per.is_empty() { "all".to_owned() } else { per.join("+") },
            mode: limit.mode,
            index,
            start,
            limiter: Arc::new(Mutex::new(RateLimiter::new(quota(limit), store, Told::default()))),
            limit: limit.clone(),
        }
    }

    /// The rule that takes this one's place: with all that was counted, if nothing but the mode differs. None: it counts
    /// something else.
    pub(super) fn successor(&self, limit: &RateLimit, index: usize) -> Option<Self> {
        let counts_the_same = RateLimit { mode: limit.mode, ..self.limit.clone() } == *limit;
        counts_the_same
            .then(|| Self { limiter: Arc::clone(&self.limiter), ..Self::new(limit, index, self.start) })
    }

    /// As what somebody is counted: a hash, so that no name of a client is kept.
    pub(super) fn key(&self, who: &Who<'_>, hash: &impl BuildHasher) -> u64 {
        let mut hasher = hash.build_hasher();
        for part in &self.limit.per {
            match part {
                Per::User => who.user.hash(&mut hasher),
                Per::Database => who.database.hash(&mut hasher),
                Per::Function => who.function.hash(&mut hasher),
                Per::Address => who.address.hash(&mut hasher),
                Per::Network => {
                    who.address.map(|address| self.limit.prefixes.network(address)).hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    /// One more.
    ///
    /// # Errors
    /// It is too many: the time after which it would not be. It is not counted.
    pub(super) fn count(&self, key: u64, now: Instant) -> Result<(), Duration> {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX / 2);
        let limiter = lock(&self.limiter);
        limiter.clock().0.set(now);
        limiter.check_key(&key).map_err(|not_until| not_until.wait_time_from(now.into()))
    }
}

fn quota(limit: &RateLimit) -> Quota {
    // The interval is not zero: at most a million in a second.
    Quota::with_period(limit.rate.interval())
        .unwrap_or(Quota::per_second(limit.rate.count))
        .allow_burst(limit.burst)
}
