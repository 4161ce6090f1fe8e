//! The clients' side: what is under way, and what is opened anew.

use super::panel::{Canvas, Scale};
use super::{Key, Mark, Plot, Shown, View, looked, peak};
use crate::report::units::{count, total};

/// Invocations under way and connections.
pub fn under_way(view: &View<'_>) -> Plot {
    let all = || {
        view.shown
            .iter()
            .flat_map(|shown| shown.series.in_flight.iter().chain(&shown.series.connections))
            .flatten()
    };
    let scale = Scale::linear(f64::from(all().max().copied().unwrap_or(0)), "");
    Plot {
        name: "connections",
        heading: "Invocations under way and open connections",
        reading: "Invocations that have begun and are not over, waiting ones included, and the connections that clients \
                  hold open to the target; invocations that pile up are a queue, wherever it stands."
            .to_owned(),
        legend: vec![
            Key { mark: Mark::Line("flight"), label: "invocations under way".to_owned() },
            Key { mark: Mark::Line("open"), label: "open connections".to_owned() },
        ],
        panels: view.panels(|shown| draw_under_way(view, &scale, shown)),
    }
}

/// Attempts to connect and retries; `None`: there was neither.
pub fn attempts(view: &View<'_>) -> Option<Plot> {
    let rates = |shown: &Shown<'_>| {
        let connects = view.rates(&shown.series.connects);
        let again = view.rates(&shown.series.reconnects);
        let both: Vec<f64> = connects.iter().zip(&again).map(|(first, again)| first + again).collect();
        (again, both, view.rates(&shown.series.retries))
    };
    let top = view.shown.iter().map(|shown| {
        let (_, both, retries) = rates(shown);
        peak(&both).max(peak(&retries))
    });
    let top = top.fold(0.0, f64::max);
    let scale = Scale::linear(top, "per s");
    (top > 0.0).then(|| Plot {
        name: "attempts",
        heading: "Attempts to connect, and retries",
        reading: "What overload adds to the load: connections opened because the last one was lost, and invocations \
                  that are tried again. Both should stay low while the target is busiest."
            .to_owned(),
        legend: vec![
            Key { mark: Mark::Area("again"), label: "reconnects".to_owned() },
            Key { mark: Mark::Area("first"), label: "first connections".to_owned() },
            Key { mark: Mark::Line("retry"), label: "retries".to_owned() },
        ],
        panels: view.panels(|shown| {
            let (again, both, retries) = rates(shown);
            let mut canvas = Canvas::new(view, &scale);
            canvas.area("again", &vec![0.0; again.len()], &again);
            canvas.area("first", &again, &both);
            canvas.line("retry", &view.until_the_end(shown, &retries));
            let description = format!(
                "At most {} attempts to connect and {} retries per second.",
                count(peak(&both).round()),
                count(peak(&retries).round()),
            );
            (canvas.done(), description)
        }),
    })
}

fn draw_under_way(view: &View<'_>, scale: &Scale, shown: &Shown<'_>) -> (String, String) {
    let mut canvas = Canvas::new(view, scale);
    canvas.line("open", &looked(&shown.series.connections));
    canvas.line("flight", &looked(&shown.series.in_flight));
    let most = |values: &[Option<u32>]| total(u64::from(values.iter().flatten().max().copied().unwrap_or(0)));
    let description = format!(
        "At most {} invocations under way and {} open connections.",
        most(&shown.series.in_flight),
        most(&shown.series.connections),
    );
    (canvas.done(), description)
}
