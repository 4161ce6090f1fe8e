//! Latency over time, as a heat map: how many invocations took how long.

use super::panel::{Canvas, Scale};
use super::{Key, Mark, Plot, Shown, View};
use crate::plan::Metric;
use crate::report::Summary;
use crate::report::series::PER_DECADE;
use crate::report::svg::short;
use crate::report::units::{of_micros, seconds, total};
use std::collections::BTreeSet;

/// Colours from few to many.
pub const COLOURS: usize = 7;

/// The classes of those colours.
pub const CLASSES: [&str; COLOURS] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6"];

/// `None`: nothing was served anywhere.
pub fn plot(view: &View<'_>) -> Option<Plot> {
    let most = view.shown.iter().flat_map(|shown| shown.heat.cells.values()).max().copied()?;
    let timeouts = timeouts(view);
    let scale = scale(view, &timeouts)?;
    let mut legend =
        vec![Key { mark: Mark::Ramp, label: format!("1 to {} invocations", total(u64::from(most))) }];
    if timeouts.iter().any(|timeout| scale.has(timeout.log10())) {
        legend.push(Key {
            mark: Mark::Line("bound"),
            label: "the client's timeout (of one attempt)".to_owned(),
        });
    }
    Some(Plot {
        name: "latency",
        heading: "Latency of what was served",
        reading: "Each cell is a moment (left to right) and a latency (bottom to top, each line ten times the one \
                  below); the stronger its colour, the more invocations ended then after so long, retries and waiting \
                  included. A narrow band low down is good; a second band or a cloud above it is waiting."
            .to_owned(),
        legend,
        panels: view.panels(|shown| draw(view, &scale, most, &timeouts, shown)),
    })
}

/// In microseconds, of all functions.
fn timeouts(view: &View<'_>) -> Vec<f64> {
    let distinct: BTreeSet<_> = view.plan.functions.iter().map(|function| function.timeout).collect();
    distinct.into_iter().map(|timeout| timeout.seconds() * 1e6).collect()
}

/// All cells, two decades at least, and up to the shortest timeout if that is not far above them.
fn scale(view: &View<'_>, timeouts: &[f64]) -> Option<Scale> {
    let rows = || view.shown.iter().flat_map(|shown| shown.heat.cells.keys()).map(|(_, row)| *row);
    let (least, most) = (rows().min()?, rows().max()?);
    let decades = |row: i32| f64::from(row) / f64::from(PER_DECADE);
    let (from, mut to) = (decades(least - 1), decades(most + 2).max(decades(least - 1) + 2.0));
    let shortest = timeouts.iter().copied().fold(f64::INFINITY, f64::min).log10();
    if shortest > to && shortest <= to + 1.0 {
        to = shortest + 0.15;
    }
    Some(Scale::decades(from, to))
}

fn draw(view: &View<'_>, scale: &Scale, most: u32, timeouts: &[f64], shown: &Shown<'_>) -> (String, String) {
    let mut canvas = Canvas::new(view, scale);
    let mut paths = [const { String::new() }; COLOURS];
    let width = of_micros(view.heat_us);
    let row_height = 1.0 / f64::from(PER_DECADE);
    for ((column, row), count) in &shown.heat.cells {
        #[expect(clippy::cast_precision_loss, reason = "there are at most a few hundred columns")]
        let from_s = *column as f64 * width;
        let from = f64::from(*row) * row_height;
        paths[colour(*count, most)] += &canvas.cell((from_s, from_s + width), (from, from + row_height));
    }
    for (class, path) in CLASSES.iter().zip(&paths) {
        canvas.path(class, path);
    }
    for timeout in timeouts {
        canvas.level("bound", timeout.log10(), &format!("timeout {} s", short(timeout / 1e6)));
    }
    if shown.heat.cells.is_empty() {
        canvas.empty("nothing was served");
    }
    (canvas.done(), describe(view, shown))
}

fn describe(view: &View<'_>, shown: &Shown<'_>) -> String {
    let figures = shown.leg.and_then(|leg| Summary::of(view.plan, leg).figures(None, None));
    let value = |metric| figures.as_ref().and_then(|figures| figures.value(metric));
    match (value(Metric::P50), value(Metric::P99)) {
        (Some(p50), Some(p99)) => {
            format!("Half of those served took at most {}, 99 % at most {}.", seconds(p50), seconds(p99))
        }
        _ => "Nothing was served.".to_owned(),
    }
}

/// By the logarithm: one invocation can be seen beside a hundred.
fn colour(count: u32, most: u32) -> usize {
    let part = f64::from(count.max(1)).ln() / f64::from(most.max(2)).ln();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to the number of colours"
    )]
    let colour = (part * 7.0) as usize;
    colour.min(COLOURS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_invocations_never_have_a_weaker_colour() {
        for most in [1, 2, 100, u32::MAX] {
            let colours: Vec<_> =
                [1, 2, 5, 50, 100, most].map(|count| colour(count.min(most), most)).to_vec();
            assert!(colours.is_sorted(), "{most}: {colours:?}");
            assert_eq!(colour(1, most), 0);
        }
        assert_eq!(colour(100, 100), COLOURS - 1);
    }
}
