//! Goodput against what was offered.

use super::panel::{Canvas, Scale};
use super::{Key, Mark, Plot, Shown, View, peak};
use crate::report::units::{count, of_micros};

/// A burst that is offered in one bin is cut off at so many times the best goodput: a thousand at once would else make
/// a needle on the left and a flat line of everything else.
const CUT: f64 = 2.5;

pub fn plot(view: &View<'_>) -> Plot {
    let scale = Scale::linear(top(view), "per s");
    let mut legend = vec![
        Key { mark: Mark::Area("offered"), label: "offered (due)".to_owned() },
        Key { mark: Mark::Line("served"), label: "goodput (served before the client gave up)".to_owned() },
    ];
    if view.plan.capacity.is_some() {
        legend.push(Key { mark: Mark::Line("bound"), label: "what an ideal target could serve".to_owned() });
    }
    Plot {
        name: "goodput",
        heading: "Goodput against offered load",
        reading: "The grey area is the work that arrived, the line is the work that was done in time; where the area \
                  is above the line, invocations wait or are lost, and where the line drops while the area stays, a \
                  target is busy with work that nobody waits for any more."
            .to_owned(),
        legend,
        panels: view.panels(|shown| draw(view, &scale, shown)),
    }
}

fn top(view: &View<'_>) -> f64 {
    let mut served = view.plan.capacity.unwrap_or(0.0);
    let mut offered = 0.0f64;
    for Shown { series, .. } in &view.shown {
        served = served.max(peak(&view.rates(&series.served)));
        offered = offered.max(peak(&view.rates(&series.offered)));
    }
    if served > 0.0 { offered.clamp(served, served * CUT) } else { offered }
}

fn draw(view: &View<'_>, scale: &Scale, shown: &Shown<'_>) -> (String, String) {
    let mut canvas = Canvas::new(view, scale);
    let (offered, served) = (view.rates(&shown.series.offered), view.rates(&shown.series.served));
    canvas.area("offered", &vec![0.0; offered.len()], &offered);
    if let Some(capacity) = view.plan.capacity {
        canvas.level("bound", capacity, "ideal");
    }
    canvas.line("served", &view.until_the_end(shown, &served));
    let most = peak(&offered);
    if most > scale.top()
        && let Some(bin) = offered.iter().position(|rate| *rate == most)
    {
        #[expect(clippy::cast_precision_loss, reason = "there are at most a few hundred bins")]
        let at_s = (bin + 1) as f64 * of_micros(view.bin_us);
        canvas.remark(at_s, &format!("↑ {} offered per s", count(most.round())));
    }
    let description = format!(
        "At most {} per second were offered and at most {} per second served.",
        count(most.round()),
        count(peak(&served).round()),
    );
    (canvas.done(), description)
}
