//! Whether what the plan asserts holds.

use super::{Rounds, Run, Spread, Summary};
use crate::plan::{Assertion, Comparison, Metric};

/// One assertion at one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What the plan says.
    pub assertion: Assertion,
    /// Of which target.
    pub target: String,
    /// What was measured; `None` if it was not (nobody asked PostgreSQL, nothing was served), and then it does not hold.
    pub value: Option<f64>,
    /// It is as it should be.
    pub holds: bool,
}

/// Every assertion of the plan at every target but the baselines.
#[must_use]
pub fn judge(run: &Run) -> Vec<Verdict> {
    let rounds = Rounds::of(run);
    let judged = rounds.iter().filter(|rounds| !rounds.target.baseline);
    judged
        .flat_map(|rounds| {
            run.plan.assertions.iter().map(|assertion| {
                let value = measured(run, rounds, assertion);
                Verdict {
                    assertion: assertion.clone(),
                    target: rounds.target.name.clone(),
                    value,
                    holds: value.is_some_and(|value| assertion.comparison.holds(value, assertion.limit)),
                }
            })
        })
        .collect()
}

/// What an assertion is judged by at one target: the worst round for the bounds that must never be passed
/// (`max_backends`, `errors_outside_contract`), the median of the rounds for everything else.
///
/// A round in which it was not measured counts as worse than all others.
#[must_use]
pub fn measured(run: &Run, rounds: &Rounds<'_>, assertion: &Assertion) -> Option<f64> {
    let Assertion { metric, function, phase, comparison, limit } = assertion;
    let worse_than_all = if *comparison == Comparison::AtLeast { f64::NEG_INFINITY } else { f64::INFINITY };
    let values: Vec<f64> = rounds
        .legs()
        .map(|leg| Summary::of(&run.plan, leg).value(*metric, function.as_deref(), phase.as_deref()))
        .map(|value| value.unwrap_or(worse_than_all))
        .collect();
    let spread = Spread::of(values.iter().copied())?;
    let safety = matches!(metric, Metric::MaxBackends | Metric::ErrorsOutsideContract);
    let value = match comparison {
        _ if !safety => spread.median,
        Comparison::AtMost => spread.max,
        Comparison::AtLeast => spread.min,
        Comparison::Equal => {
            values.into_iter().max_by(|a, b| (a - limit).abs().total_cmp(&(b - limit).abs()))?
        }
    };
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;
    use crate::leg::{AttemptFailure, BackendSample, FailureKind, Leg};

    /// Three rounds against `guard`, judged, and `fifo`, a baseline; each leg is given its round's value.
    fn verdicts(assertion: &str, change: impl Fn(&mut Leg)) -> Vec<Verdict> {
        let mut run = synthetic::run(&["guard", "fifo"], 3);
        run.targets[1].baseline = true;
        run.plan.assertions = vec![assertion.parse().unwrap()];
        run.legs.iter_mut().for_each(change);
        judge(&run)
    }

    fn backends(leg: &mut Leg, total: u32) {
        leg.backends = vec![BackendSample { at_us: 0, total, active: 0, idle_in_transaction: 0 }; 2];
    }

    #[test]
    fn bounds_are_judged_by_the_worst_round_and_baselines_not_at_all() {
        let most = |totals: [u32; 3]| {
            verdicts("max_backends <= 20", |leg| backends(leg, totals[leg.round as usize]))
        };
        let failing = most([20, 21, 19]);
        assert_eq!(failing.len(), 1);
        assert_eq!(
            (failing[0].target.as_str(), failing[0].value, failing[0].holds),
            ("guard", Some(21.0), false)
        );
        assert!(most([20, 20, 19])[0].holds);
    }

    #[test]
    fn an_equality_is_judged_by_the_round_that_is_farthest_from_it() {
        let errors = |counts: [usize; 3]| {
            verdicts("errors_outside_contract == 0", |leg| {
                let failure = AttemptFailure {
                    at_us: 0,
                    function: 0,
                    kind: FailureKind::Sql,
                    sqlstate: None,
                    reason: "x".to_owned(),
                    at_login: false,
                };
                leg.failures = vec![failure; counts[leg.round as usize]];
            })
        };
        assert!(errors([0, 0, 0])[0].holds);
        let failing = &errors([0, 2, 0])[0];
        assert_eq!((failing.value, failing.holds), (Some(2.0), false));
    }

    #[test]
    fn everything_else_is_judged_by_the_median() {
        let served = |counts: [usize; 3]| {
            let value = |leg: &mut Leg| {
                leg.invocations.retain(|invocation| invocation.outcome == crate::leg::Outcome::Served);
                leg.invocations.truncate(counts[leg.round as usize]);
            };
            verdicts("served >= 50", value).remove(0)
        };
        assert_eq!((served([10, 60, 70]).value, served([10, 60, 70]).holds), (Some(60.0), true));
        assert_eq!((served([10, 40, 70]).value, served([10, 40, 70]).holds), (Some(40.0), false));
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let blind = &verdicts("max_backends <= 20", |leg| leg.backends.clear())[0];
        assert_eq!((blind.value, blind.holds), (None, false));
        let once_blind = |leg: &mut Leg| if leg.round == 1 { leg.backends.clear() } else { backends(leg, 3) };
        assert!(!verdicts("max_backends <= 20", once_blind)[0].holds);
        // Two of three rounds served something: the median is the slower of them.
        let dead = |leg: &mut Leg| {
            if leg.round == 0 {
                leg.invocations.clear()
            }
        };
        assert!(verdicts("p50 <= 1h", dead)[0].holds);
        assert!(!verdicts("p50 <= 1h", |leg| leg.invocations.clear())[0].holds);
    }

    #[test]
    fn a_target_that_was_never_reached_fails() {
        let mut run = synthetic::run(&["guard"], 1);
        run.legs.clear();
        run.plan.assertions = vec!["shed <= 3".parse().unwrap()];
        assert!(!judge(&run)[0].holds);
    }
}
