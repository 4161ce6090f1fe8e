//! One panel: time from left to right, the plan's phases and events, an axis, and what is drawn on it.

use super::View;
use crate::report::svg::{Axis, Drawing, area, round_ticks, short, steps};
use crate::report::units::{of_micros, seconds};

/// Pixels from top to bottom.
pub const HEIGHT: f64 = 224.0;

const LEFT: f64 = 50.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 24.0;

/// What is kept free at the right edge for the names of levels.
const LEVEL_LABEL: f64 = 80.0;

/// How wide a letter of a label is, about.
const LETTER: f64 = 6.0;

/// The vertical axis of all panels of a plot.
#[derive(Debug, Clone)]
pub struct Scale {
    range: (f64, f64),
    ticks: Vec<(f64, String)>,
    unit: &'static str,
}

impl Scale {
    /// From 0 to a little above `top`.
    pub fn linear(top: f64, unit: &'static str) -> Self {
        let top = if top > 0.0 { top * 1.12 } else { 1.0 };
        let ticks = round_ticks(top, 4);
        Self {
            range: (0.0, top),
            ticks: ticks.into_iter().map(|tick| (tick, amount(tick, top))).collect(),
            unit,
        }
    }

    /// Times from `10^from` to `10^to` µs, as their decimal logarithms.
    pub fn decades(from: f64, to: f64) -> Self {
        let tick = |decade: i32| (f64::from(decade), time(10f64.powi(decade) / 1e6));
        // A u64 of microseconds has 20 decades.
        let ticks = (0..=20).map(tick).filter(|(decade, _)| (from..=to).contains(decade)).collect();
        Self { range: (from, to), ticks, unit: "" }
    }

    /// A value that can be drawn.
    pub fn has(&self, value: f64) -> bool {
        (self.range.0..=self.range.1).contains(&value)
    }

    /// Its upper end.
    pub fn top(&self) -> f64 {
        self.range.1
    }
}

/// What is being drawn.
pub struct Canvas<'a> {
    view: &'a View<'a>,
    x: Axis,
    y: Axis,
    data: Drawing,
    labels: Drawing,
    under: Drawing,
}

impl<'a> Canvas<'a> {
    /// With its background: phases, grid and axes.
    pub fn new(view: &'a View<'a>, scale: &Scale) -> Self {
        let x = Axis::new((0.0, of_micros(view.horizon_us)), (LEFT, view.width - RIGHT));
        let y = Axis::new(scale.range, (HEIGHT - BOTTOM, TOP));
        let blank = Drawing::default;
        let mut canvas = Self { view, x, y, data: blank(), labels: blank(), under: blank() };
        canvas.phases();
        canvas.grid(scale);
        canvas.events();
        canvas
    }

    /// A line of steps, one value per bin.
    pub fn line(&mut self, class: &str, values: &[Option<f64>]) {
        let heights: Vec<_> = values.iter().map(|value| value.map(|value| self.y.at(value))).collect();
        self.data.path(class, &steps(&heights, |bin| self.edge(bin)));
    }

    /// An area of steps, one value per bin.
    pub fn area(&mut self, class: &str, lower: &[f64], upper: &[f64]) {
        let heights = |values: &[f64]| values.iter().map(|value| self.y.at(*value)).collect::<Vec<_>>();
        self.data.path(class, &area(&heights(lower), &heights(upper), |bin| self.edge(bin)));
    }

    /// A value that holds at all times, with its name; nothing if the axis does not reach so far.
    pub fn level(&mut self, class: &str, value: f64, label: &str) {
        if !self.y.has(value) {
            return;
        }
        let y = self.y.at(value);
        let right = self.view.width - RIGHT;
        self.data.line(class, (LEFT, y), (right, y));
        self.labels.text("label end", (right - 2.0, y - 4.0), label);
    }

    /// A cell from one time to another and from one height to another, as a part of a path.
    pub fn cell(&self, (from_s, to_s): (f64, f64), (from, to): (f64, f64)) -> String {
        let (left, right) = (self.x.at(from_s), self.x.at(to_s));
        let (bottom, top) = (self.y.at(from), self.y.at(to));
        format!("M{} {}H{}V{}H{}Z", short(left), short(bottom), short(right), short(top), short(left))
    }

    /// A path that is finished.
    pub fn path(&mut self, class: &str, commands: &str) {
        self.data.path(class, commands);
    }

    /// A remark at the upper edge, at a time; on the side where there is room.
    pub fn remark(&mut self, at_s: f64, text: &str) {
        let x = self.x.at(at_s);
        let wide = text.chars().map(|_| LETTER).sum::<f64>();
        if x + wide > self.view.width - RIGHT - LEVEL_LABEL {
            self.labels.text("label end", (x - 4.0, TOP + 11.0), text);
        } else {
            self.labels.text("label", (x + 4.0, TOP + 11.0), text);
        }
    }

    /// Nothing is known: say so in the middle.
    pub fn empty(&mut self, text: &str) {
        let middle = f64::midpoint(LEFT, self.view.width - RIGHT);
        self.labels.text("label mid", (middle, f64::midpoint(TOP, HEIGHT - BOTTOM)), text);
    }

    /// SVG elements.
    pub fn done(mut self) -> String {
        self.under.put(self.data);
        self.under.line("axis", (LEFT, HEIGHT - BOTTOM), (self.view.width - RIGHT, HEIGHT - BOTTOM));
        self.under.put(self.labels);
        self.under.into_elements()
    }

    fn edge(&self, bin: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "there are at most a few hundred bins")]
        let bin = bin as f64;
        self.x.at(bin * of_micros(self.view.bin_us))
    }

    /// Every second one is shaded; a name where there is room for it.
    fn phases(&mut self) {
        for (number, phase) in self.view.plan.phases.iter().enumerate() {
            if phase.from.micros() >= self.view.horizon_us {
                continue;
            }
            let (left, right) = (self.x.at(phase.from.seconds()), self.x.at(phase.to.seconds()));
            if number % 2 == 1 || self.view.plan.phases.len() == 1 {
                self.under.rectangle(
                    "phase",
                    (left, TOP - 18.0),
                    (right - left, HEIGHT - BOTTOM - TOP + 18.0),
                );
            }
            let wide = phase.name.chars().map(|_| LETTER).sum::<f64>();
            if wide < right - left {
                self.labels.text("label mid", (f64::midpoint(left, right), TOP - 6.0), &phase.name);
            }
        }
    }

    fn grid(&mut self, scale: &Scale) {
        let right = self.view.width - RIGHT;
        for (value, label) in &scale.ticks {
            let y = self.y.at(*value);
            self.under.line("grid", (LEFT, y), (right, y));
            self.labels.text("tick end", (LEFT - 6.0, y + 4.0), label);
        }
        self.labels.text("tick end", (LEFT - 6.0, TOP - 8.0), scale.unit);
        let end = of_micros(self.view.horizon_us);
        for tick in round_ticks(end, 5).into_iter().filter(|tick| *tick <= end * 1.0001) {
            let x = self.x.at(tick);
            self.under.line("grid", (x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 4.0));
            self.labels.text("tick mid", (x, HEIGHT - BOTTOM + 17.0), &time(tick));
        }
    }

    fn events(&mut self) {
        for event in &self.view.plan.events {
            if event.at.micros() <= self.view.horizon_us {
                let x = self.x.at(event.at.seconds());
                self.labels.line("event", (x, TOP), (x, HEIGHT - BOTTOM));
                self.remark(event.at.seconds(), &event.hook);
            }
        }
    }
}

/// A tick's label on an axis that reaches `top`: `800`, `12k`.
fn amount(value: f64, top: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ if top >= 1e6 => format!("{}M", (value / 1e4).round() / 100.0),
        _ if top >= 1e4 => format!("{}k", short(value / 1e3)),
        _ => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

/// A tick's label: `0`, `10 ms`, `5 s`, `2 min`.
fn time(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        _ if value < 0.001 => seconds(value),
        _ if value < 1.0 => format!("{} ms", short(value * 1e3)),
        _ if value < 300.0 => format!("{} s", short(value)),
        _ if value < 7200.0 => format!("{} min", short(value / 60.0)),
        _ => format!("{} h", short(value / 3600.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tick_labels_are_short() {
        let amounts = [0.5, 800.0, 1000.0, 12_000.0, 2e6].map(|value| amount(value, value));
        assert_eq!(amounts, ["0.5", "800", "1000", "12k", "2M"]);
        assert_eq!((amount(2500.0, 10_000.0), amount(0.0, 1e6)), ("2.5k".to_owned(), "0".to_owned()));
        let times = [0.0, 1e-5, 0.01, 0.1, 1.0, 60.0, 600.0, 7200.0].map(time);
        assert_eq!(times, ["0", "10 µs", "10 ms", "100 ms", "1 s", "60 s", "10 min", "2 h"]);
    }

    #[test]
    fn scales_have_ticks_where_they_reach() {
        assert!((Scale::linear(100.0, "/s").top() - 112.0).abs() < 1e-9);
        assert!(Scale::linear(0.0, "/s").top() > 0.0);
        let decades = Scale::decades(2.75, 6.1);
        let labels: Vec<_> = decades.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["1 ms", "10 ms", "100 ms", "1 s"]);
    }
}
