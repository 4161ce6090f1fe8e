//! Looks at all pools once a second, for what a scrape and the live page show of the last seconds and minutes.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::pool::{Distribution, Totals};
use super::recent::{Recent, Window};
use super::sources::PoolGauges;
use super::table::BUCKETS;

/// How often it is to be looked.
pub const TICK: Duration = Duration::from_secs(1);
/// Time between two points of the history.
pub(super) const STEP: Duration = Duration::from_secs(2);
/// Points that are kept: five minutes.
const MOST_POINTS: usize = 150;
/// Ticks over which logins are counted.
const LOGINS: usize = 11;
/// The percentiles of a point.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// What all pools together have done in one [`STEP`].
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Point {
    /// Seconds since 1970.
    pub(super) at: f64,
    /// Of the pool that is fullest.
    utilisation: f64,
    waiting: usize,
    /// Seconds.
    oldest: f64,
    /// Per second.
    transactions: f64,
    sheds: f64,
    /// 50th, 90th and 99th percentile, in seconds. None: there was nothing.
    wait: Option<[f64; 3]>,
    hold: Option<[f64; 3]>,
    exec: Option<[f64; 3]>,
}

/// All pools over the last minutes.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    windows: HashMap<(String, String), (Window, Recent)>,
    points: VecDeque<Point>,
    /// Logins up to the last ticks.
    logins: VecDeque<(Instant, u64)>,
    /// When the point in the making began, and what had been counted until then.
    begun: Option<(Instant, Sums)>,
}

/// What all pools have counted.
#[derive(Debug, Clone, Default)]
struct Sums {
    transactions: u64,
    sheds: u64,
    wait: Vec<u64>,
    hold: Vec<u64>,
    exec: Vec<u64>,
}

impl Sums {
    fn add(&mut self, totals: &Totals) {
        self.transactions += totals.transactions;
        self.sheds += totals.shed_sum();
        add(&mut self.wait, &totals.wait);
        add(&mut self.hold, &totals.hold);
        add(&mut self.exec, &totals.exec);
    }
}

fn add(to: &mut Vec<u64>, distribution: &Distribution) {
    to.resize(distribution.buckets.len(), 0);
    to.iter_mut().zip(&distribution.buckets).for_each(|(sum, count)| *sum += count);
}

impl Monitor {
    /// Takes in how the pools stand now, and what they have counted. `at` is `now` in seconds since 1970.
    pub(super) fn tick(&mut self, now: Instant, at: f64, pools: &[(PoolGauges, Totals)], logins: u64) {
        self.logins.push_back((now, logins));
        if self.logins.len() > LOGINS {
            self.logins.pop_front();
        }
        let mut sums = Sums::default();
        for (pool, totals) in pools {
            sums.add(totals);
            let key = (pool.database.clone(), pool.user.clone());
            let (window, recent) = self.windows.entry(key).or_default();
            *recent = window.add(now, pool, totals.clone());
        }
        match &self.begun {
            Some((begun, _)) if now.saturating_duration_since(*begun) < STEP - TICK / 2 => {}
            Some((begun, before)) => {
                let passed = now.saturating_duration_since(*begun).as_secs_f64();
                let point = Point { at, ..self.point(passed, before, &sums, pools) };
                if self.points.len() == MOST_POINTS {
                    self.points.pop_front();
                }
                self.points.push_back(point);
                self.begun = Some((now, sums));
            }
            None => self.begun = Some((now, sums)),
        }
    }

    fn point(&self, passed: f64, before: &Sums, after: &Sums, pools: &[(PoolGauges, Totals)]) -> Point {
        let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / passed;
        let recent = pools.iter().filter_map(|(pool, _)| self.recent(pool));
        Point {
            at: 0.0,
            utilisation: recent.map(|recent| recent.utilisation).fold(0.0, f64::max),
            waiting: pools.iter().map(|(pool, _)| pool.waiting).sum(),
            oldest: pools.iter().map(|(pool, _)| pool.oldest_wait_seconds).fold(0.0, f64::max),
            transactions: per_second(before.transactions, after.transactions),
            sheds: per_second(before.sheds, after.sheds),
            wait: percentiles(&before.wait, &after.wait),
            hold: percentiles(&before.hold, &after.hold),
            exec: percentiles(&before.exec, &after.exec),
        }
    }

    /// What the pool has done lately. None: it was never looked at.
    pub(super) fn recent(&self, pool: &PoolGauges) -> Option<&Recent> {
        // No allocation would need names that are borrowed as a pair; this is once a second.
        let key = (pool.database.clone(), pool.user.clone());
        self.windows.get(&key).map(|(_, recent)| recent)
    }

    /// Logins per second, lately.
    pub(super) fn logins_per_second(&self) -> f64 {
        let ends = self.logins.front().zip(self.logins.back());
        ends.map_or(0.0, |((from, before), (to, after))| {
            let passed = to.saturating_duration_since(*from).as_secs_f64();
            after.saturating_sub(*before) as f64 / passed.max(TICK.as_secs_f64())
        })
    }

    /// The last minutes, oldest first.
    pub(super) fn points(&self) -> &VecDeque<Point> {
        &self.points
    }
}

/// The percentiles of what was counted in between. None: nothing was.
fn percentiles(before: &[u64], after: &[u64]) -> Option<[f64; 3]> {
    let before = before.iter().copied().chain(std::iter::repeat(0));
    let counts: Vec<u64> =
        after.iter().zip(before).map(|(after, before)| after - before.min(*after)).collect();
    let all = counts.last().copied().filter(|all| *all > 0)?;
    Some(QUANTILES.map(|quantile| within(&counts, quantile * all as f64)))
}

/// The value below which so many are, as Prometheus' `histogram_quantile` has it: linear within a bucket, and the last
/// bound for what is beyond it.
fn within(counts: &[u64], rank: f64) -> f64 {
    let (first, bounds) = BUCKETS;
    let at = counts.iter().position(|count| *count as f64 >= rank).unwrap_or(bounds).min(bounds);
    let bound = |at: usize| first * 2_f64.powi(at as i32);
    if at == bounds {
        return bound(bounds - 1);
    }
    let (below, low) = at.checked_sub(1).map_or((0, 0.0), |before| (counts[before], bound(before)));
    let inside = counts[at].saturating_sub(below).max(1) as f64;
    low + (bound(at) - low) * (rank - below as f64) / inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_prometheus() {
        let (_, bounds) = BUCKETS;
        let mut counts = vec![0; bounds + 1];
        assert_eq!(percentiles(&[], &counts), None);
        // A hundred values between 4 and 8 ms.
        counts[4..].fill(100);
        let [p50, p90, p99] = percentiles(&[], &counts).unwrap();
        assert!((p50 - 0.006).abs() < 1e-9 && (p90 - 0.0076).abs() < 1e-9 && (p99 - 0.00796).abs() < 1e-9);
        let beyond = vec![0; bounds].into_iter().chain([7]).collect::<Vec<_>>();
        assert_eq!(percentiles(&[], &beyond), Some([32.768; 3]));
        assert_eq!(percentiles(&counts, &counts), None, "nothing in between");
    }

    #[test]
    fn a_history_is_bounded_and_has_a_point_for_each_step() {
        let (mut monitor, start) = (Monitor::default(), Instant::now());
        let pool = PoolGauges { limit: 20, waiting: 3, ..PoolGauges::default() };
        for second in 0..1000_u32 {
            let totals = Totals { transactions: u64::from(second) * 10, ..Totals::default() };
            let now = start + TICK * second;
            monitor.tick(now, f64::from(second), &[(pool.clone(), totals)], second.into());
        }
        assert_eq!(monitor.points.len(), MOST_POINTS);
        let last = monitor.points.back().unwrap();
        assert!((last.transactions - 10.0).abs() < 0.01 && last.waiting == 3, "{last:?}");
        assert!(monitor.points.iter().zip(monitor.points.iter().skip(1)).all(|(a, b)| b.at - a.at == 2.0));
    }
}
