//! Rate limits: how many logins and transactions a user, database, function, address or network may begin in a time.
//!
//! Pure: keys and `now` go in, a verdict comes out. It knows no socket, task, clock or metric. The algorithm is GCRA
//! (ITU-T I.371, annex A), the leaky bucket that needs one number for each key: `governor` has it, and here are its
//! clock, the bounded store of its numbers, and what belongs together.
//!
//! Limits are against abuse and for quotas. What the database can take is decided by [`crate::guard`].

mod params;
mod rule;
mod store;
#[cfg(test)]
mod tests;

pub use params::{HIGHEST, Mode, Per, Prefixes, Rate, RateLimit, What};
pub use rule::Rule;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use foldhash::quality::FixedState;

/// Where a rule is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A client that has said who it is and has not proved it: only where it comes from may be counted, or anybody could
    /// use up another's logins.
    Claim,
    /// A client that has proved who it is.
    Login,
    /// A transaction that is about to ask for a server connection.
    Transaction,
}

/// As whom somebody is counted.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The user.
    pub user: &'a str,
    /// The database, as clients name it.
    pub database: &'a str,
    /// The name of the function.
    pub function: &'a str,
    /// Where it comes from. None: over a Unix socket; all of these are one.
    pub address: Option<IpAddr>,
}

/// All rules. Cheap where there is none.
#[derive(Debug)]
pub struct Limits {
    claims: Vec<Rule>,
    logins: Vec<Rule>,
    transactions: Vec<Rule>,
    hash: FixedState,
}

/// A rule that somebody is over.
#[derive(Debug, Clone, Copy)]
pub struct Over<'l> {
    /// The rule.
    pub rule: &'l Rule,
    /// After this time one more would be let through, if nobody else came.
    pub wait: Duration,
}

impl Limits {
    /// Rules in which nobody is counted yet. `seed` keeps clients from choosing names that are counted as one.
    pub fn new(limits: &[RateLimit], start: Instant, seed: u64) -> Self {
        let hash = FixedState::with_seed(seed);
        Self::build(limits, hash, |limit, index| Rule::new(limit, index, start))
    }

    /// Rules that take the place of these. One of the same name that counts the same goes on where it was, also if it now
    /// observes or enforces; the others count anew.
    #[must_use]
    pub fn succeeded_by(&self, limits: &[RateLimit], now: Instant) -> Self {
        Self::build(limits, self.hash.clone(), |limit, index| {
            let mut known = self.rules(limit.stage()).iter();
            known
                .find_map(|rule| rule.successor(limit, index))
                .unwrap_or_else(|| Rule::new(limit, index, now))
        })
    }

    fn build(limits: &[RateLimit], hash: FixedState, rule: impl Fn(&RateLimit, usize) -> Rule) -> Self {
        let mut this = Self { claims: vec![], logins: vec![], transactions: vec![], hash };
        for (index, limit) in limits.iter().enumerate() {
            let rules = match limit.stage() {
                Stage::Claim => &mut this.claims,
                Stage::Login => &mut this.logins,
                Stage::Transaction => &mut this.transactions,
            };
            rules.push(rule(limit, index));
        }
        this
    }

    /// There is a rule for this.
    #[inline]
    pub fn has(&self, stage: Stage) -> bool {
        !self.rules(stage).is_empty()
    }

    /// As what somebody is counted by each of the rules.
    pub fn keys(&self, stage: Stage, who: &Who<'_>) -> Box<[u64]> {
        self.rules(stage).iter().map(|rule| rule.key(who, &self.hash)).collect()
    }

    /// One more login or transaction: counted by each rule in turn, up to the first that refuses it. `observed` is called
    /// for each rule that would, and only observes.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn check<'l>(
        &'l self,
        stage: Stage,
        keys: &[u64],
        now: Instant,
        mut observed: impl FnMut(Over<'l>),
    ) -> Result<(), Over<'l>> {
        for (rule, key) in self.rules(stage).iter().zip(keys) {
            let Err(wait) = rule.count(*key, now) else { continue };
            let over = Over { rule, wait };
            match rule.mode {
                Mode::Enforce => return Err(over),
                Mode::Observe => observed(over),
            }
        }
        Ok(())
    }

    fn rules(&self, stage: Stage) -> &[Rule] {
        match stage {
            Stage::Claim => &self.claims,
            Stage::Login => &self.logins,
            Stage::Transaction => &self.transactions,
        }
    }
}
