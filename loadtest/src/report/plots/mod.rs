//! The plots: for each a panel per target, all on the same axes, of the round in the middle.

mod backends;
mod connections;
mod failures;
mod goodput;
mod latency;
pub mod legend;
mod panel;

use super::series::{self, Heat};
use super::{Rounds, Run, Series, TargetInfo};
use crate::leg::Leg;
use crate::plan::Plan;

/// Everything that plots are drawn from.
pub struct View<'a> {
    plan: &'a Plan,
    shown: Vec<Shown<'a>>,
    horizon_us: u64,
    bin_us: u64,
    heat_us: u64,
    width: f64,
    rounds: usize,
}

/// One target's round in the middle.
struct Shown<'a> {
    target: &'a TargetInfo,
    leg: Option<&'a Leg>,
    series: Series,
    heat: Heat,
}

/// One kind of plot.
pub struct Plot {
    /// Short and the same in every run: part of files' names.
    pub name: &'static str,
    /// What it shows.
    pub heading: &'static str,
    /// One sentence for those who see such a plot for the first time.
    pub reading: String,
    /// What colours mean.
    pub legend: Vec<Key>,
    /// One per target.
    pub panels: Vec<Panel>,
}

/// An entry of a legend.
pub struct Key {
    /// How it looks.
    pub mark: Mark,
    /// What it is.
    pub label: String,
}

/// How something looks in a plot.
pub enum Mark {
    /// A line, by its class.
    Line(&'static str),
    /// An area, by its class.
    Area(&'static str),
    /// The colours of the heat map, from few to many.
    Ramp,
}

/// One target's panel.
pub struct Panel {
    /// Whose.
    pub target: String,
    /// Which round, if there are several.
    pub caption: String,
    /// In words, for those who cannot see it.
    pub description: String,
    /// Pixels of the drawing's own.
    pub size: (f64, f64),
    /// SVG elements, without the `svg` around them.
    pub elements: String,
}

/// All plots that have something to show, for panels in so many columns.
pub fn all(run: &Run, columns: usize) -> Vec<Plot> {
    let view = View::of(run, columns);
    [
        Some(goodput::plot(&view)),
        latency::plot(&view),
        backends::plot(&view),
        failures::plot(&view),
        Some(connections::under_way(&view)),
        connections::attempts(&view),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// As many columns as show that many targets well on a page.
pub fn columns(targets: usize) -> usize {
    match targets {
        0 | 1 => 1,
        2 | 4 => 2,
        _ => 3,
    }
}

impl<'a> View<'a> {
    fn of(run: &'a Run, columns: usize) -> Self {
        let rounds = Rounds::of(run);
        let middle: Vec<Option<&Leg>> = rounds.iter().map(Rounds::middle).collect();
        let horizon_us = middle.iter().flatten().map(|leg| leg.wall_us).max().unwrap_or(0).max(1);
        let bin_us = series::bin_us(horizon_us);
        // A cell of the heat map has to be wide enough to have a colour that one can see.
        let heat_us = if horizon_us / bin_us < 120 { bin_us } else { bin_us * 2 };
        let shown = rounds.iter().zip(middle).map(|(rounds, leg)| Shown {
            target: rounds.target,
            leg,
            series: leg.map(|leg| Series::of(leg, bin_us, horizon_us)).unwrap_or_default(),
            heat: leg.map(|leg| Heat::of(leg, heat_us, horizon_us)).unwrap_or_default(),
        });
        // Letters keep their size, so that a panel that is shown smaller has to be smaller.
        let width = if columns < 3 { 520.0 } else { 400.0 };
        Self {
            plan: &run.plan,
            shown: shown.collect(),
            horizon_us,
            bin_us,
            heat_us,
            width,
            rounds: run.rounds(),
        }
    }

    /// A rate as a line, which ends when the leg did: after that, nothing was measured.
    fn until_the_end(&self, shown: &Shown<'_>, values: &[f64]) -> Vec<Option<f64>> {
        let bins = shown.leg.map_or(0, |leg| leg.wall_us.div_ceil(self.bin_us));
        let bins = usize::try_from(bins).unwrap_or(usize::MAX);
        values.iter().enumerate().map(|(bin, value)| (bin < bins).then_some(*value)).collect()
    }

    fn caption(&self, shown: &Shown<'_>) -> String {
        match shown.leg {
            None => "no leg was run".to_owned(),
            Some(_) if self.rounds == 1 => String::new(),
            Some(leg) => format!("round {} of {}", leg.round + 1, self.rounds),
        }
    }

    /// A panel per target.
    fn panels(&self, mut draw: impl FnMut(&Shown<'_>) -> (String, String)) -> Vec<Panel> {
        self.shown
            .iter()
            .map(|shown| {
                let (elements, description) = draw(shown);
                Panel {
                    target: shown.target.name.clone(),
                    caption: self.caption(shown),
                    description,
                    size: (self.width, panel::HEIGHT),
                    elements,
                }
            })
            .collect()
    }

    /// Events per second, of events per bin.
    fn rates(&self, counts: &[u32]) -> Vec<f64> {
        let seconds = super::units::of_micros(self.bin_us);
        counts.iter().map(|count| f64::from(*count) / seconds).collect()
    }
}

/// The largest; 0 of none.
fn peak<'v>(values: impl IntoIterator<Item = &'v f64>) -> f64 {
    values.into_iter().copied().fold(0.0, f64::max)
}

fn looked(values: &[Option<u32>]) -> Vec<Option<f64>> {
    values.iter().map(|value| value.map(f64::from)).collect()
}

/// Of a series with gaps, for areas: nothing where nothing is known.
fn filled(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().map(|value| value.unwrap_or(0.0)).collect()
}
