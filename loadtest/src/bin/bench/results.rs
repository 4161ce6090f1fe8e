//! What was measured, round by round, and what the targets make of it.

use crate::pgbench::Protocol;
use std::collections::BTreeMap;

/// The measures, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Proxy CPU per transaction, microseconds.
    CpuPerTransaction(Protocol, u32),
    /// Transactions per second.
    Throughput(Protocol, u32),
    /// Proxy CPU per transaction at 1000 clients divided by that at 100.
    Growth(Protocol),
    /// Proxy CPU per login, microseconds.
    CpuPerLogin(u32),
    /// Resident memory per idle client, KiB.
    IdleMemory(u32),
}

/// What is promised for a measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Of the ratio to the baseline.
    RatioAtMost(f64),
    /// Of the ratio to the baseline.
    RatioAtLeast(f64),
    /// Of the figure itself.
    AtMost(f64),
}

impl Measure {
    /// The row's name, with its unit.
    pub fn name(self) -> String {
        match self {
            Self::CpuPerTransaction(protocol, clients) => {
                format!("CPU per transaction, {protocol}, {clients} clients (µs)")
            }
            Self::Throughput(protocol, clients) => {
                format!("transactions per second, {protocol}, {clients} clients")
            }
            Self::Growth(protocol) => format!("CPU per transaction, {protocol}, 1000 clients ÷ 100 clients"),
            Self::CpuPerLogin(clients) => format!("CPU per SCRAM login, {clients} at once (µs)"),
            Self::IdleMemory(clients) => format!("resident memory per idle client, {clients} clients (KiB)"),
        }
    }

    /// The figure in its row.
    pub fn show(self, figure: f64) -> String {
        match self {
            Self::Throughput(..) | Self::CpuPerLogin(_) => format!("{figure:.0}"),
            Self::CpuPerTransaction(..) => format!("{figure:.1}"),
            Self::Growth(_) | Self::IdleMemory(_) => format!("{figure:.2}"),
        }
    }

    /// What is promised, if anything.
    pub fn target(self) -> Option<Target> {
        match self {
            Self::CpuPerTransaction(..) => Some(Target::RatioAtMost(0.85)),
            Self::Throughput(_, 100) => Some(Target::RatioAtLeast(1.15)),
            Self::Throughput(..) => None,
            Self::Growth(_) => Some(Target::AtMost(1.2)),
            Self::CpuPerLogin(_) => Some(Target::RatioAtMost(1.0)),
            Self::IdleMemory(_) => Some(Target::AtMost(2.5)),
        }
    }
}

impl Target {
    /// As the report writes it.
    pub fn show(self) -> String {
        match self {
            Self::RatioAtMost(bound) => format!("≤ {bound:.2} ×"),
            Self::RatioAtLeast(bound) => format!("≥ {bound:.2} ×"),
            Self::AtMost(bound) => format!("≤ {bound}"),
        }
    }

    /// Met, or missed by how much.
    pub fn verdict(self, figure: f64, ratio: f64) -> String {
        let (value, bound, met) = match self {
            Self::RatioAtMost(bound) => (ratio, bound, ratio <= bound),
            Self::RatioAtLeast(bound) => (ratio, bound, ratio >= bound),
            Self::AtMost(bound) => (figure, bound, figure <= bound),
        };
        if met {
            "met".to_owned()
        } else {
            format!("missed by {:.0} %", ((value / bound - 1.0) * 100.0).abs())
        }
    }
}

/// Figures by measure, proxy (by its place in the list) and round.
#[derive(Debug, Default)]
pub struct Results {
    figures: BTreeMap<Measure, BTreeMap<usize, Vec<f64>>>,
}

impl Results {
    /// Adds the figure of the next round.
    pub fn add(&mut self, measure: Measure, proxy: usize, figure: f64) {
        self.figures.entry(measure).or_default().entry(proxy).or_default().push(figure);
    }

    /// Adds [`Measure::Growth`] for every round that has both of its parts.
    pub fn add_growth(&mut self, protocol: Protocol) {
        let part = |clients| self.figures.get(&Measure::CpuPerTransaction(protocol, clients)).cloned();
        let (Some(low), Some(high)) = (part(100), part(1000)) else { return };
        for (proxy, low) in low {
            let Some(high) = high.get(&proxy) else { continue };
            for (low, high) in low.iter().zip(high) {
                self.add(Measure::Growth(protocol), proxy, high / low);
            }
        }
    }

    /// What was measured, in the order of the report.
    pub fn measures(&self) -> impl Iterator<Item = Measure> + '_ {
        self.figures.keys().copied()
    }

    /// One proxy's figures.
    pub fn spread(&self, measure: Measure, proxy: usize) -> Option<Spread> {
        Spread::of(self.figures.get(&measure)?.get(&proxy)?)
    }

    /// The median of the rounds' ratios: noise that a whole round shared cancels out.
    pub fn ratio(&self, measure: Measure, proxy: usize, baseline: usize) -> Option<f64> {
        let figures = self.figures.get(&measure)?;
        let pairs = figures.get(&proxy)?.iter().zip(figures.get(&baseline)?);
        let ratios: Vec<f64> = pairs.map(|(figure, base)| figure / base).collect();
        Spread::of(&ratios).map(|spread| spread.median)
    }
}

/// Median and extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median =
            if sorted.len() % 2 == 1 { upper } else { f64::midpoint(*sorted.get(middle - 1)?, upper) };
        Some(Self { median, least: *sorted.first()?, most: *sorted.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Measure = Measure::CpuPerTransaction(Protocol::Simple, 100);

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_ratios() {
        let mut results = Results::default();
        // The second round was twice as noisy for both.
        for (base, figure) in [(10.0, 8.0), (20.0, 16.0), (10.0, 9.0)] {
            results.add(CPU, 0, base);
            results.add(CPU, 1, figure);
        }
        assert_eq!(results.ratio(CPU, 1, 0), Some(0.8));
        assert_eq!(results.spread(CPU, 1), Some(Spread { median: 9.0, least: 8.0, most: 16.0 }));
        assert_eq!(results.ratio(CPU, 2, 0), None);
    }

    #[test]
    fn growth_compares_within_a_proxy_and_round() {
        let mut results = Results::default();
        results.add(CPU, 0, 10.0);
        results.add(Measure::CpuPerTransaction(Protocol::Simple, 1000), 0, 15.0);
        results.add_growth(Protocol::Simple);
        results.add_growth(Protocol::Extended);
        assert_eq!(results.spread(Measure::Growth(Protocol::Simple), 0).unwrap().median, 1.5);
        assert_eq!(results.measures().count(), 3);
    }

    #[test]
    fn a_missed_target_says_by_how_much() {
        assert_eq!(Target::RatioAtMost(0.85).verdict(99.0, 0.85), "met");
        assert_eq!(Target::RatioAtMost(0.80).verdict(99.0, 1.0), "missed by 25 %");
        assert_eq!(Target::RatioAtLeast(1.25).verdict(99.0, 1.0), "missed by 20 %");
        assert_eq!(Target::AtMost(2.5).verdict(5.0, 0.1), "missed by 100 %");
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_in_between() {
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[]), None);
    }
}
