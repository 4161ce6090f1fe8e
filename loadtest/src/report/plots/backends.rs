//! What PostgreSQL itself counted.

use super::panel::{Canvas, Scale};
use super::{Key, Mark, Plot, Shown, View, filled, looked};
use crate::plan::{Comparison, Metric};

/// `None`: nobody asked PostgreSQL.
pub fn plot(view: &View<'_>) -> Option<Plot> {
    let most = view.shown.iter().flat_map(|shown| &shown.series.backends).flatten().max().copied()?;
    let bound = bound(view);
    let scale = Scale::linear(f64::from(most).max(bound.unwrap_or(0.0)), "");
    let mut legend = vec![
        Key { mark: Mark::Line("total"), label: "all backends, at most".to_owned() },
        Key { mark: Mark::Area("active"), label: "running a statement, on average".to_owned() },
        Key { mark: Mark::Area("idle"), label: "idle in a transaction".to_owned() },
    ];
    if bound.is_some() {
        legend.push(Key { mark: Mark::Line("bound"), label: "the plan's bound".to_owned() });
    }
    Some(Plot {
        name: "backends",
        heading: "Backends counted by PostgreSQL",
        reading: "What pg_stat_activity showed of the clients' backends, not what a pooler believes of itself: the line \
                  has to stay below the bound, the area shows how much of it is at work, and a backend that is idle in \
                  a transaction is held by a client that does nothing with it."
            .to_owned(),
        legend,
        panels: view.panels(|shown| draw(view, &scale, bound, shown)),
    })
}

/// The strictest `max_backends <= N` of the plan.
fn bound(view: &View<'_>) -> Option<f64> {
    let bounds = view.plan.assertions.iter().filter(|assertion| {
        assertion.metric == Metric::MaxBackends && assertion.comparison != Comparison::AtLeast
    });
    bounds.map(|assertion| assertion.limit).min_by(f64::total_cmp)
}

fn draw(view: &View<'_>, scale: &Scale, bound: Option<f64>, shown: &Shown<'_>) -> (String, String) {
    let mut canvas = Canvas::new(view, scale);
    let series = &shown.series;
    let active = filled(&series.active);
    let idle = filled(&series.idle_in_transaction);
    let both: Vec<f64> = active.iter().zip(&idle).map(|(active, idle)| active + idle).collect();
    canvas.area("active", &vec![0.0; active.len()], &active);
    canvas.area("idle", &active, &both);
    if let Some(bound) = bound {
        canvas.level("bound", bound, &format!("bound {bound}"));
    }
    canvas.line("total", &looked(&series.backends));
    let Some(most) = series.backends.iter().flatten().max() else {
        canvas.empty("PostgreSQL was not asked");
        return (canvas.done(), "PostgreSQL was not asked.".to_owned());
    };
    (canvas.done(), format!("At most {most} backends at once."))
}
