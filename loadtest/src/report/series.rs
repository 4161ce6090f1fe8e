//! A leg over time: counts per bin, for plots.

use super::causes::{self, Cause};
use crate::leg::{BackendSample, Invocation, Leg, Outcome, ProgressSample, agreed_backends};
use std::collections::BTreeMap;

/// More bins than this are narrower than what a plot can show.
const MOST_BINS: u64 = 240;

/// What happened in each bin of time; every vector has one entry per bin.
///
/// Whatever happened after the last bin is in the last one, so that sums are a leg's totals.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// The length of a bin.
    pub bin_us: u64,
    /// Invocations that were due, as [`crate::plan::Metric::Offered`] counts them.
    pub offered: Vec<u32>,
    /// Served, by their ends: goodput.
    pub served: Vec<u32>,
    /// Shed at last, by their ends.
    pub shed: Vec<u32>,
    /// Timed out at last, by their ends.
    pub timeouts: Vec<u32>,
    /// Failed otherwise at last, by their ends.
    pub failed: Vec<u32>,
    /// Attempts after the first, by the end of their invocation.
    pub retries: Vec<u32>,
    /// Attempts to connect, first ones.
    pub connects: Vec<u32>,
    /// Attempts to connect of instances that had been connected before.
    pub reconnects: Vec<u32>,
    /// Failed attempts by cause.
    pub causes: BTreeMap<Cause, Vec<u32>>,
    /// The most backends that two looks in a row agree on; `None` where nobody looked.
    pub backends: Vec<Option<u32>>,
    /// How many of them ran a statement, on average.
    pub active: Vec<Option<f64>>,
    /// How many waited for their client in a transaction, on average.
    pub idle_in_transaction: Vec<Option<f64>>,
    /// The most invocations under way, waiting ones included.
    pub in_flight: Vec<Option<u32>>,
    /// The most open connections.
    pub connections: Vec<Option<u32>>,
}

/// How many invocations were served how fast, over time: the cells of a heat map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heat {
    /// (bin of time, bin of latency) → invocations; by their ends.
    pub cells: BTreeMap<(usize, i32), u32>,
}

/// Bins of latency per factor of ten.
pub const PER_DECADE: i32 = 8;

/// The length of bins for a leg so long: from 100 ms upwards, 1, 2 or 5 of a power of ten.
pub fn bin_us(horizon_us: u64) -> u64 {
    let mut decade: u64 = 100_000;
    loop {
        for width in [decade, 2 * decade, 5 * decade] {
            if horizon_us / width < MOST_BINS {
                return width;
            }
        }
        decade = decade.saturating_mul(10);
    }
}

/// The bins of a leg.
#[derive(Debug, Clone, Copy)]
struct Bins {
    width_us: u64,
    count: usize,
}

impl Bins {
    fn new(width_us: u64, horizon_us: u64) -> Self {
        let count = usize::try_from(horizon_us.div_ceil(width_us.max(1))).unwrap_or(usize::MAX).max(1);
        Self { width_us: width_us.max(1), count }
    }

    fn of(self, at_us: u64) -> usize {
        usize::try_from(at_us / self.width_us).unwrap_or(usize::MAX).min(self.count - 1)
    }

    fn counts(self, times_us: impl Iterator<Item = u64>) -> Vec<u32> {
        let mut counts = vec![0u32; self.count];
        for at_us in times_us {
            let count = &mut counts[self.of(at_us)];
            *count = count.saturating_add(1);
        }
        counts
    }

    /// The most of each bin.
    fn most(self, looks: impl Iterator<Item = (u64, u32)>) -> Vec<Option<u32>> {
        let mut most: Vec<Option<u32>> = vec![None; self.count];
        for (at_us, value) in looks {
            let bin = self.of(at_us);
            most[bin] = most[bin].max(Some(value));
        }
        held(most)
    }

    /// The mean of each bin.
    fn mean(self, looks: impl Iterator<Item = (u64, u32)>) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0u32); self.count];
        for (at_us, value) in looks {
            let (sum, count) = &mut sums[self.of(at_us)];
            *sum += f64::from(value);
            *count = count.saturating_add(1);
        }
        held(sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))).collect())
    }
}

/// A bin without a look has what was seen last, up to the last look of all.
fn held<T: Copy>(mut values: Vec<Option<T>>) -> Vec<Option<T>> {
    let last = values.iter().rposition(Option::is_some).unwrap_or(0);
    let mut seen = None;
    for value in &mut values[..last] {
        seen = value.or(seen);
        *value = seen;
    }
    values
}

impl Series {
    /// Of one leg, in bins of `bin_us` up to `horizon_us`. Choose a width that makes few enough of them.
    #[must_use]
    pub fn of(leg: &Leg, bin_us: u64, horizon_us: u64) -> Self {
        let bins = Bins::new(bin_us, horizon_us);
        let ends = |outcome: Outcome| {
            bins.counts(with(leg, move |invocation| invocation.outcome == outcome).map(|it| it.ended_us))
        };
        let connects =
            |again: bool| bins.counts(leg.connects.iter().filter(|it| it.again == again).map(|it| it.at_us));
        let backends = |value: fn(&BackendSample) -> u32| {
            bins.mean(leg.backends.iter().map(|look| (look.at_us, value(look))))
        };
        let progress = |value: fn(&ProgressSample) -> u32| {
            bins.most(leg.progress.iter().map(|look| (look.at_us, value(look))))
        };
        Self {
            bin_us,
            offered: bins.counts(with(leg, |it| is_offered(leg, it)).map(|it| it.intended_us)),
            served: ends(Outcome::Served),
            shed: ends(Outcome::Shed),
            timeouts: ends(Outcome::Timeout),
            failed: ends(Outcome::Failed),
            retries: retries(leg, bins),
            connects: connects(false),
            reconnects: connects(true),
            causes: causes_over_time(leg, bins),
            backends: bins.most(agreed_backends(&leg.backends).into_iter()),
            active: backends(|look| look.active),
            idle_in_transaction: backends(|look| look.idle_in_transaction),
            in_flight: progress(|look| look.in_flight),
            connections: progress(|look| look.connections),
        }
    }
}

impl Heat {
    /// Of one leg, in columns of `bin_us` up to `horizon_us`.
    pub fn of(leg: &Leg, bin_us: u64, horizon_us: u64) -> Self {
        let bins = Bins::new(bin_us, horizon_us);
        let mut cells = BTreeMap::new();
        for invocation in with(leg, |invocation| invocation.outcome == Outcome::Served) {
            let latency_us = invocation.ended_us.saturating_sub(invocation.intended_us);
            let count: &mut u32 =
                cells.entry((bins.of(invocation.ended_us), latency_bin(latency_us))).or_default();
            *count = count.saturating_add(1);
        }
        Self { cells }
    }
}

/// Which bin of latency; bin `b` begins at `10^(b / PER_DECADE)` µs.
fn latency_bin(latency_us: u64) -> i32 {
    #[expect(clippy::cast_precision_loss, reason = "a logarithm needs no more digits")]
    let decades = (latency_us.max(1) as f64).log10();
    #[expect(clippy::cast_possible_truncation, reason = "at most 20 decades")]
    let bin = (decades * f64::from(PER_DECADE)).floor() as i32;
    bin
}

fn is_offered(leg: &Leg, invocation: &Invocation) -> bool {
    match invocation.outcome {
        Outcome::Aborted => false,
        Outcome::Unfinished => !leg.interrupted,
        Outcome::Served | Outcome::Shed | Outcome::Timeout | Outcome::Failed => true,
    }
}

fn with(leg: &Leg, which: impl Fn(&Invocation) -> bool) -> impl Iterator<Item = &Invocation> {
    leg.invocations.iter().filter(move |invocation| which(invocation))
}

fn retries(leg: &Leg, bins: Bins) -> Vec<u32> {
    let mut retries = vec![0u32; bins.count];
    for invocation in &leg.invocations {
        let count = &mut retries[bins.of(invocation.ended_us)];
        *count = count.saturating_add(u32::from(invocation.attempts.saturating_sub(1)));
    }
    retries
}

fn causes_over_time(leg: &Leg, bins: Bins) -> BTreeMap<Cause, Vec<u32>> {
    let mut causes: BTreeMap<Cause, Vec<u32>> =
        causes::of_leg(leg).into_keys().map(|cause| (cause, vec![0; bins.count])).collect();
    for failure in &leg.failures {
        if let Some(counts) = causes.get_mut(&Cause::of(failure)) {
            let count = &mut counts[bins.of(failure.at_us)];
            *count = count.saturating_add(1);
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;
    use crate::plan::Metric;
    use crate::report::Summary;

    fn sum(counts: &[u32]) -> f64 {
        counts.iter().map(|count| f64::from(*count)).sum()
    }

    #[test]
    fn series_sum_to_the_legs_totals() {
        let plan = synthetic::surge();
        for (target, seed) in [("direct", 1), ("fifo", 2), ("guard", 3)] {
            let mut leg = synthetic::leg(target, 0, seed);
            for invocation in leg.invocations.iter_mut().step_by(7) {
                invocation.outcome = Outcome::Unfinished;
            }
            leg.interrupted = target == "fifo";
            // The second horizon is shorter than the leg: nothing is lost all the same.
            for horizon_us in [leg.wall_us, 7_000_000] {
                let series = Series::of(&leg, bin_us(horizon_us), horizon_us);
                let figures = Summary::of(&plan, &leg).figures(None, None).unwrap();
                let all_connects = sum(&series.connects) + sum(&series.reconnects);
                for (metric, total) in [
                    (Metric::Offered, sum(&series.offered)),
                    (Metric::Served, sum(&series.served)),
                    (Metric::Shed, sum(&series.shed)),
                    (Metric::Timeouts, sum(&series.timeouts)),
                    (Metric::Failed, sum(&series.failed)),
                    (Metric::Connects, all_connects),
                    (Metric::Reconnects, sum(&series.reconnects)),
                ] {
                    assert_eq!(figures.value(metric), Some(total), "{target} {}", metric.name());
                }
                let failures: f64 = series.causes.values().map(|counts| sum(counts)).sum();
                assert_eq!(failures as usize, leg.failures.len());
                let heat = Heat::of(&leg, bin_us(horizon_us), horizon_us);
                assert_eq!(heat.cells.values().sum::<u32>(), sum(&series.served) as u32);
                let most = series.backends.iter().flatten().max().copied().map(f64::from);
                assert_eq!(figures.value(Metric::MaxBackends), most);
            }
        }
    }

    #[test]
    fn there_are_enough_bins_and_not_too_many() {
        for (seconds, expected_ms) in
            [(1, 100), (20, 100), (30, 200), (60, 500), (600, 5000), (604_800, 5_000_000)]
        {
            let horizon_us = seconds * 1_000_000;
            assert_eq!(bin_us(horizon_us), expected_ms * 1000, "{seconds} s");
            assert!(Bins::new(bin_us(horizon_us), horizon_us).count as u64 <= MOST_BINS);
        }
        assert!(bin_us(u64::MAX) > 0);
    }

    #[test]
    fn latency_bins_are_equal_parts_of_a_decade() {
        assert_eq!([0, 1, 10, 99, 100, 1_000_000].map(latency_bin), [0, 0, 8, 15, 16, 48]);
    }

    #[test]
    fn between_looks_the_last_one_holds_and_after_them_nothing_is_known() {
        let bins = Bins::new(10, 60);
        let looks = [(12, 3), (14, 5), (41, 1)];
        let expected = [None, Some(5), Some(5), Some(5), Some(1), None];
        assert_eq!(bins.most(looks.into_iter()), expected);
        let expected = [None, Some(4.0), Some(4.0), Some(4.0), Some(1.0), None];
        assert_eq!(bins.mean(looks.into_iter()), expected);
    }
}
