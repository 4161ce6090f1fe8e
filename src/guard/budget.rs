//! How many connections there really are: fewer than configured once PostgreSQL has said 53300.
//!
//! The bound then becomes what is owned at that moment: others have the rest. It goes back up by one after a quiet
//! period. If that one is refused, too, the next period is twice as long; if it is let in, the next one follows a second
//! later. The bound of the upstream moves for `max_connections`, that of a pool for a role's or a database's CONNECTION
//! LIMIT.

use std::time::{Duration, Instant};

use super::dialer::Dialer;
use super::gate::{Gate, earlier};
use super::pace::Pace;
use super::terms::{DialCause, PoolId};

/// Whoever has taken the slots has them for some time; a dial that is refused costs PostgreSQL as much as any other.
const QUIET: Duration = Duration::from_secs(10);
/// A server that has been full for minutes is asked every two to three minutes.
const LONGEST_QUIET: Duration = Duration::from_secs(160);
/// Where one was let in there may be room for more.
const AFTER_SUCCESS: Duration = Duration::from_secs(1);

/// A bound that is lower than the configured one for some time.
#[derive(Debug, Default)]
pub(super) struct Budget {
    reduced: Option<Reduced>,
}

#[derive(Debug, Clone, Copy)]
struct Reduced {
    most: usize,
    quiet: Duration,
    grow_at: Option<Instant>,
    /// It has grown since it was last refused: the next refusal is a repeated one.
    grown: bool,
}

impl Budget {
    /// PostgreSQL refuses more than the `owned`. Dials that were under way together are one piece of news, so only a
    /// refusal after growth makes the quiet period longer.
    fn shrink(&mut self, now: Instant, owned: usize, pace: &mut Pace) {
        let quiet = match self.reduced {
            Some(Reduced { quiet, grown: true, .. }) => (quiet * 2).min(LONGEST_QUIET),
            Some(Reduced { quiet, .. }) => quiet,
            None => QUIET,
        };
        let grow_at = now.checked_add(pace.shortened(quiet));
        self.reduced = Some(Reduced { most: owned.max(1), quiet, grow_at, grown: false });
    }

    /// One more, if it is time; until the configured bound is reached again.
    fn grow(&mut self, now: Instant, configured: usize, pace: &mut Pace) {
        let Some(reduced) = &mut self.reduced else { return };
        if reduced.grow_at.is_some_and(|at| at > now) {
            return;
        }
        reduced.most += 1;
        reduced.grown = true;
        reduced.grow_at = now.checked_add(pace.shortened(reduced.quiet));
        if reduced.most >= configured {
            self.reduced = None;
        }
    }

    /// A dial was let in, and with it `owned` are there.
    fn proved(&mut self, now: Instant, owned: usize, pace: &mut Pace) {
        let Some(reduced) = self.reduced.as_mut().filter(|reduced| reduced.grown && owned >= reduced.most)
        else {
            return;
        };
        reduced.quiet = QUIET;
        reduced.grow_at = earlier(reduced.grow_at, now.checked_add(pace.shortened(AFTER_SUCCESS)));
    }

    /// What there is now; more than any bound if nothing was refused.
    fn most(&self) -> usize {
        self.reduced.map_or(usize::MAX, |reduced| reduced.most)
    }

    fn grow_at(&self) -> Option<Instant> {
        self.reduced?.grow_at
    }
}

impl Gate {
    /// A dial of this pool failed for this reason, and is no longer counted as under way.
    pub(super) fn shrink(&mut self, now: Instant, pool: PoolId, cause: DialCause) {
        let pace = &mut self.dialer.pace;
        match cause {
            DialCause::TooManyConnections => {
                self.budget.shrink(now, self.slots.upstream().counts.total(), pace);
            }
            DialCause::ConnectionLimit => {
                let owned = self.slots.pool(pool).counts.total();
                self.pools[pool.index()].budget.shrink(now, owned, pace);
                if !self.reduced.contains(&pool) {
                    self.reduced.push(pool);
                }
            }
            DialCause::Unreachable | DialCause::Refused | DialCause::NoFiles => return,
        }
        self.apply_budgets(pool);
    }

    /// A dial of this pool was let in.
    pub(super) fn prove(&mut self, now: Instant, pool: PoolId) {
        let Dialer { pace, .. } = &mut self.dialer;
        self.budget.proved(now, self.slots.upstream().counts.total(), pace);
        self.pools[pool.index()].budget.proved(now, self.slots.pool(pool).counts.total(), pace);
    }

    /// Bounds that have been quiet go up.
    pub(super) fn regrow(&mut self, now: Instant) {
        if self.regrow_at().is_none_or(|at| at > now) {
            return;
        }
        self.budget.grow(now, self.slots.upstream().max, &mut self.dialer.pace);
        for at in (0..self.reduced.len()).rev() {
            let pool = self.reduced[at];
            let budget = &mut self.pools[pool.index()].budget;
            budget.grow(now, self.slots.pool(pool).max, &mut self.dialer.pace);
            if budget.reduced.is_none() {
                self.reduced.swap_remove(at);
            }
            self.apply_budgets(pool);
        }
        self.slots.set_upstream_budget(self.budget.most());
    }

    /// When the next bound goes up.
    pub(super) fn regrow_at(&self) -> Option<Instant> {
        let pools = self.reduced.iter().map(|pool| self.pools[pool.index()].budget.grow_at());
        pools.fold(self.budget.grow_at(), earlier)
    }

    fn apply_budgets(&mut self, pool: PoolId) {
        self.slots.set_upstream_budget(self.budget.most());
        self.slots.set_pool_budget(pool, self.pools[pool.index()].budget.most());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Pace::new(SECOND, SECOND, 1)
    }

    /// How long until the budget grows.
    fn wait(budget: &Budget, now: Instant) -> Duration {
        budget.grow_at().expect("it is reduced") - now
    }

    #[test]
    fn grows_by_one_after_a_quiet_period_up_to_the_configured_bound() {
        let (mut pace, mut budget, start) = (pace(), Budget::default(), Instant::now());
        budget.shrink(start, 3, &mut pace);
        for most in 3..6 {
            assert_eq!(budget.most(), most);
            let due = budget.grow_at().expect("it is reduced");
            budget.grow(due - Duration::from_nanos(1), 6, &mut pace);
            assert_eq!(budget.most(), most, "not before its time");
            budget.grow(due, 6, &mut pace);
        }
        assert_eq!((budget.most(), budget.grow_at()), (usize::MAX, None));
    }

    #[test]
    fn dials_refused_together_are_one_refusal_and_one_after_growth_is_the_next() {
        let (mut pace, mut budget, now) = (pace(), Budget::default(), Instant::now());
        for owned in [3, 2, 1, 0] {
            budget.shrink(now, owned, &mut pace);
            assert!(wait(&budget, now) <= QUIET && wait(&budget, now) >= QUIET / 2);
        }
        assert_eq!(budget.most(), 1, "never nothing");
        for doubled in [2, 4, 8, 16, 16] {
            let now = budget.grow_at().expect("it is reduced");
            budget.grow(now, 10, &mut pace);
            budget.shrink(now, 1, &mut pace);
            let full = QUIET * doubled;
            assert!(wait(&budget, now) <= full && wait(&budget, now) >= full / 2, "{:?}", wait(&budget, now));
        }
    }

    #[test]
    fn where_one_was_let_in_the_next_follows_soon() {
        let (mut pace, mut budget, start) = (pace(), Budget::default(), Instant::now());
        budget.shrink(start, 2, &mut pace);
        budget.proved(start, 2, &mut pace);
        assert!(wait(&budget, start) >= QUIET / 2, "one of those that were there");
        let now = budget.grow_at().expect("it is reduced");
        budget.grow(now, 10, &mut pace);
        budget.proved(now, 2, &mut pace);
        assert!(wait(&budget, now) >= QUIET / 2, "in the place of another");
        budget.proved(now, 3, &mut pace);
        assert!(wait(&budget, now) <= AFTER_SUCCESS);
    }
}
