//! Why attempts failed, over time.

use super::panel::{Canvas, Scale};
use super::{Key, Mark, Plot, Shown, View, peak};
use crate::leg::FailureKind;
use crate::report::causes::Cause;
use crate::report::units::{clipped, count};
use std::collections::BTreeMap;

/// A legend holds no longer messages.
const LONGEST_LABEL: usize = 64;

/// Classes for causes of one kind; what is left over is "other causes".
const SHED: &[&str] = &["shed0", "shed1", "shed2"];
const TIMEOUT: &[&str] = &["late0", "late1"];
const ERROR: &[&str] = &["error0", "error1"];
const OTHER: &str = "other";

/// A layer of the stack: one cause, or all that have no colour of their own.
struct Layer {
    class: &'static str,
    causes: Vec<Cause>,
    label: String,
}

/// `None`: nothing failed anywhere.
pub fn plot(view: &View<'_>) -> Option<Plot> {
    let layers = layers(view);
    if layers.is_empty() {
        return None;
    }
    let top = view.shown.iter().map(|shown| stacked(view, &layers, shown).last().map_or(0.0, peak));
    let scale = Scale::linear(top.fold(0.0, f64::max), "per s");
    Some(Plot {
        name: "failures",
        heading: "Failed attempts by reason",
        reading: "Attempts that were refused, timed out or failed, one colour per reason, on top of each other; an \
                  invocation whose retry was served counts here with its first attempt. A shed is told at once and \
                  costs little, a timeout has cost its client the whole wait."
            .to_owned(),
        legend: layers.iter().map(|layer| Key { mark: Mark::Area(layer.class), label: layer.label.clone() }).collect(),
        panels: view.panels(|shown| draw(view, &scale, &layers, shown)),
    })
}

/// The commonest causes of each kind, the same in all panels.
fn layers(view: &View<'_>) -> Vec<Layer> {
    let mut totals: BTreeMap<&Cause, u64> = BTreeMap::new();
    for (cause, counts) in view.shown.iter().flat_map(|shown| &shown.series.causes) {
        *totals.entry(cause).or_default() += counts.iter().map(|count| u64::from(*count)).sum::<u64>();
    }
    let mut ranked: Vec<(&Cause, u64)> = totals.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut layers = Vec::new();
    for (classes, is) in [
        (SHED, (|kind| kind == FailureKind::Shed) as fn(FailureKind) -> bool),
        (TIMEOUT, |kind| kind == FailureKind::Timeout),
        (ERROR, |kind| !matches!(kind, FailureKind::Shed | FailureKind::Timeout)),
    ] {
        let causes = ranked.iter().filter(|(cause, _)| is(cause.kind));
        layers.extend(classes.iter().zip(causes).map(|(class, (cause, _))| Layer {
            class,
            causes: vec![(*cause).clone()],
            label: clipped(&cause.label(), LONGEST_LABEL),
        }));
    }
    let named = |cause: &Cause| layers.iter().any(|layer| layer.causes.contains(cause));
    let others: Vec<Cause> =
        ranked.iter().filter(|(cause, _)| !named(cause)).map(|(cause, _)| (*cause).clone()).collect();
    if !others.is_empty() {
        layers.push(Layer { class: OTHER, causes: others, label: "other causes".to_owned() });
    }
    layers
}

/// The upper edge of each layer.
fn stacked(view: &View<'_>, layers: &[Layer], shown: &Shown<'_>) -> Vec<Vec<f64>> {
    let series = &shown.series;
    let mut edge = vec![0.0; series.served.len()];
    let mut edges = Vec::with_capacity(layers.len());
    for layer in layers {
        for counts in layer.causes.iter().filter_map(|cause| series.causes.get(cause)) {
            for (height, rate) in edge.iter_mut().zip(view.rates(counts)) {
                *height += rate;
            }
        }
        edges.push(edge.clone());
    }
    edges
}

fn draw(view: &View<'_>, scale: &Scale, layers: &[Layer], shown: &Shown<'_>) -> (String, String) {
    let mut canvas = Canvas::new(view, scale);
    let mut lower = vec![0.0; shown.series.served.len()];
    for (layer, upper) in layers.iter().zip(stacked(view, layers, shown)) {
        canvas.area(layer.class, &lower, &upper);
        lower = upper;
    }
    if shown.series.causes.is_empty() {
        canvas.empty("no attempt failed");
        return (canvas.done(), "No attempt failed.".to_owned());
    }
    let description = format!("At most {} attempts per second failed.", count(peak(&lower).round()));
    (canvas.done(), description)
}
