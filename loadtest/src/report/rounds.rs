//! What several rounds against one target amount to: the median, the spread, and the round in the middle.

use super::{Figures, Run, Summary, TargetInfo};
use crate::leg::Leg;
use crate::plan::Metric;

/// All legs of one target.
#[derive(Debug, Clone)]
pub struct Rounds<'a> {
    /// Which.
    pub target: &'a TargetInfo,
    summaries: Vec<(Summary<'a>, &'a Leg)>,
}

/// A figure over the rounds that have it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The one in the middle; of an even number, the mean of the two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// How many there were.
    pub rounds: usize,
}

impl Spread {
    /// Of any values; `None` of none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = values[values.len() / 2];
        let lower = values[(values.len() - 1) / 2];
        // The mean of two infinities of the same sign is that infinity; (a + b) / 2 of ordinary figures is exact enough.
        let median = f64::midpoint(lower, upper);
        Some(Self { median, min, max, rounds: values.len() })
    }
}

impl<'a> Rounds<'a> {
    /// Of every target, in the run's order.
    #[must_use]
    pub fn of(run: &'a Run) -> Vec<Self> {
        run.targets.iter().map(|target| Self::of_target(run, target)).collect()
    }

    fn of_target(run: &'a Run, target: &'a TargetInfo) -> Self {
        let summaries = run.legs_of(&target.name).map(|leg| (Summary::of(&run.plan, leg), leg)).collect();
        Self { target, summaries }
    }

    /// The legs, one per round.
    pub fn legs(&self) -> impl Iterator<Item = &'a Leg> {
        self.summaries.iter().map(|(_, leg)| *leg)
    }

    /// Every round's figures of one scope.
    #[must_use]
    pub fn figures(&self, function: Option<&str>, phase: Option<&str>) -> Vec<Figures> {
        self.summaries.iter().filter_map(|(summary, _)| summary.figures(function, phase)).collect()
    }

    /// The round whose goodput is in the middle: the one that plots show. Of equals, the one whose 99th percentile is.
    #[must_use]
    pub fn middle(&self) -> Option<&'a Leg> {
        let mut ranked: Vec<(f64, f64, &Leg)> = self
            .summaries
            .iter()
            .filter_map(|(summary, leg)| {
                let figures = summary.figures(None, None)?;
                let slow = figures.value(Metric::P99).unwrap_or(f64::INFINITY);
                Some((figures.value(Metric::Goodput).unwrap_or(0.0), -slow, *leg))
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        ranked.get(ranked.len().checked_sub(1)? / 2).map(|(_, _, leg)| *leg)
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    fn spread(values: &[f64]) -> (f64, f64, f64) {
        let spread = Spread::of(values.iter().copied()).unwrap();
        (spread.median, spread.min, spread.max)
    }

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 8.0]), (3.0, 1.0, 8.0));
        assert_eq!(spread(&[5.0]), (5.0, 5.0, 5.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn the_middle_round_is_neither_the_best_nor_the_worst() {
        let mut run = synthetic::run(&["guard"], 3);
        run.legs[0].invocations.truncate(10);
        for leg in &mut run.legs {
            leg.round += 1;
        }
        let rounds = &Rounds::of(&run)[0];
        let goodput = |leg: &Leg| Summary::of(&run.plan, leg).value(Metric::Goodput, None, None).unwrap();
        let mut all: Vec<f64> = rounds.legs().map(goodput).collect();
        all.sort_by(f64::total_cmp);
        assert_eq!(rounds.legs().count(), 3);
        assert_eq!(goodput(rounds.middle().unwrap()), all[1]);
    }

    #[test]
    fn a_target_without_a_leg_has_no_middle() {
        let mut run = synthetic::run(&["guard"], 1);
        run.legs.clear();
        assert!(Rounds::of(&run)[0].middle().is_none());
    }
}
