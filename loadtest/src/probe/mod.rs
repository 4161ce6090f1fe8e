//! `loadtest probe`: one synthetic invocation after another against a live proxy or database, its own metrics, and an
//! exit status. It serves as a watch for years, as a scheduled function and as a canary of a deployment.
//!
//! [`canary`] decides when a probe begins and when all is over; [`invocation`] is one probe; [`metrics`] and [`page`]
//! are what Prometheus reads; [`mod@line`] is what people read. There is never more than one connection.

pub mod canary;
pub mod invocation;
pub mod line;
pub mod metrics;
pub mod outcome;
pub mod page;

use canary::{Canary, Decision, Ending, Event, Tally, Terms};
use invocation::Invocation;
use metrics::Metrics;
use outcome::{Fault, Outcome};
use std::future::Future;
use std::pin::pin;
use std::time::Instant;
use tokio::time::sleep_until;

/// How a run of probes ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Why.
    pub ending: Ending,
    /// What there was.
    pub tally: Tally,
    /// What went wrong last.
    pub last_fault: Option<Fault>,
}

impl Summary {
    /// One rule for every ending: the last probe succeeded. So a single probe tells how it went; a run of several
    /// forgives failures that it got over; a watch that is stopped tells how things stand; and one that is stopped
    /// before its first probe is over has shown nothing to work.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.tally.succeeded > 0 && !self.tally.is_failing()
    }
}

/// Probes until the terms are met or `stop` is ready; a probe under way is then given up and not counted. `told` hears
/// of every probe with its number; it must not block.
///
/// Neither a target that hangs nor one that is away ends or delays anything: a probe takes its timeout at most.
///
/// Cancel safety: dropped midway, a connection under way is closed without a word.
pub async fn run(
    invocation: &Invocation,
    terms: Terms,
    metrics: &Metrics,
    mut told: impl FnMut(u64, &Outcome),
    stop: impl Future<Output = ()>,
) -> Summary {
    let mut stop = pin!(stop);
    let mut canary = Canary::new(terms, Instant::now());
    let mut last_fault = None;
    let mut decision = canary.handle(Event::Due, Instant::now());
    loop {
        decision = match decision {
            Decision::Wait { until } => {
                let event = tokio::select! {
                    biased;
                    () = &mut stop => Event::Stopped,
                    () = sleep_until(until.into()) => Event::Due,
                };
                canary.handle(event, Instant::now())
            }
            Decision::Probe { number, give_up } => {
                let outcome = tokio::select! {
                    biased;
                    () = &mut stop => None,
                    outcome = invocation.run(give_up) => Some(outcome),
                };
                let next = canary.handle(event_of(outcome.as_ref()), Instant::now());
                if let Some(outcome) = outcome {
                    metrics.note(&outcome, canary.tally());
                    told(number, &outcome);
                    last_fault = outcome.fault.or(last_fault);
                }
                next
            }
            Decision::End(ending) => return Summary { ending, tally: *canary.tally(), last_fault },
        };
    }
}

/// No outcome: it was stopped.
fn event_of(outcome: Option<&Outcome>) -> Event {
    match outcome {
        None => Event::Stopped,
        Some(Outcome { fault: None, .. }) => Event::Succeeded,
        Some(Outcome { fault: Some(_), .. }) => Event::Failed,
    }
}
