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
    /// What was measured; `None` if it was not (nobody asked PostgreSQL, nothing was served).
    pub value: Option<f64>,
    /// Whether it is as it should be.
    pub ruling: Ruling,
}

/// What is to be said of an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It is as it should be.
    Holds,
    /// It is not, or could not be measured by those who were to.
    Fails,
    /// Nobody was to measure it.
    NotMeasured,
}

impl Ruling {
    /// Of what [`measured`] says.
    #[must_use]
    pub fn of(run: &Run, rounds: &Rounds<'_>, assertion: &Assertion, value: Option<f64>) -> Self {
        match value {
            Some(value) if assertion.comparison.holds(value, assertion.limit) => Self::Holds,
            None if is_excused(run, rounds, assertion.metric) => Self::NotMeasured,
            _ => Self::Fails,
        }
    }
}

/// There was a leg, and nobody in it who could count this: no observer, or a server without `pg_stat_statements`. That
/// the extension is missing shows in that no leg has a count.
fn is_excused(run: &Run, rounds: &Rounds<'_>, metric: Metric) -> bool {
    let excused = match metric {
        Metric::MaxBackends | Metric::Sessions => !run.is_observed(),
        Metric::Unheard => !run.is_observed() || run.legs.iter().all(|leg| leg.statements.is_none()),
        _ => false,
    };
    excused && rounds.legs().next().is_some()
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
                    ruling: Ruling::of(run, rounds, assertion, value),
                }
            })
        })
        .collect()
}

/// What an assertion is judged by at one target: the worst round for the bounds that must never be passed
/// (`max_backends`, `errors_outside_contract`, and whatever is asserted to be 0), the median of the rounds for everything
/// else.
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
    let never = *comparison == Comparison::Equal && *limit == 0.0;
    let safety = never || matches!(metric, Metric::MaxBackends | Metric::ErrorsOutsideContract);
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
            (failing[0].target.as_str(), failing[0].value, failing[0].ruling),
            ("guard", Some(21.0), Ruling::Fails)
        );
        assert_eq!(most([20, 20, 19])[0].ruling, Ruling::Holds);
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
        assert_eq!(errors([0, 0, 0])[0].ruling, Ruling::Holds);
        let failing = &errors([0, 2, 0])[0];
        assert_eq!((failing.value, failing.ruling), (Some(2.0), Ruling::Fails));
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
        let told = |verdict: Verdict| (verdict.value, verdict.ruling);
        assert_eq!(told(served([10, 60, 70])), (Some(60.0), Ruling::Holds));
        assert_eq!(told(served([10, 40, 70])), (Some(40.0), Ruling::Fails));
    }

    #[test]
    fn what_was_to_be_measured_and_was_not_fails() {
        let blind = &verdicts("max_backends <= 20", |leg| leg.backends.clear())[0];
        assert_eq!((blind.value, blind.ruling), (None, Ruling::Fails));
        let once_blind = |leg: &mut Leg| if leg.round == 1 { leg.backends.clear() } else { backends(leg, 3) };
        assert_eq!(verdicts("max_backends <= 20", once_blind)[0].ruling, Ruling::Fails);
        // Two of three rounds served something: the median is the slower of them.
        let dead = |leg: &mut Leg| {
            if leg.round == 0 {
                leg.invocations.clear()
            }
        };
        assert_eq!(verdicts("p50 <= 1h", dead)[0].ruling, Ruling::Holds);
        assert_eq!(verdicts("p50 <= 1h", |leg| leg.invocations.clear())[0].ruling, Ruling::Fails);
    }

    #[test]
    fn what_nobody_was_to_measure_is_not_judged() {
        let mut run = synthetic::run(&["guard"], 1);
        run.observed = false;
        run.plan.assertions =
            ["max_backends <= 20", "sessions <= 20", "unheard_statements == 0", "p50 <= 1h"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        let leg = &mut run.legs[0];
        (leg.sessions, leg.statements) = (None, None);
        leg.backends.clear();
        leg.invocations.clear();
        let rulings = |run: &Run| judge(run).iter().map(|verdict| verdict.ruling).collect::<Vec<_>>();
        let (unknown, fails) = (Ruling::NotMeasured, Ruling::Fails);
        assert_eq!(rulings(&run), [unknown, unknown, unknown, fails]);
        run.legs[0].sessions = Some(3);
        assert_eq!(rulings(&run), [fails, Ruling::Holds, unknown, fails], "somebody did ask");
        run.legs[0].sessions = None;
        run.observed = true;
        assert_eq!(rulings(&run), [fails, fails, unknown, fails], "the extension may be missing");
        let counted = Leg { target: "else".to_owned(), ..synthetic::leg("guard", 0, 1) };
        run.legs.push(counted);
        assert_eq!(rulings(&run), [fails; 4], "the extension is there");
    }

    #[test]
    fn a_target_that_was_never_reached_fails() {
        let mut run = synthetic::run(&["guard"], 1);
        run.legs.clear();
        run.plan.assertions = vec!["shed <= 3".parse().unwrap()];
        assert_eq!(judge(&run)[0].ruling, Ruling::Fails);
        run.observed = false;
        run.plan.assertions = vec!["max_backends <= 3".parse().unwrap()];
        assert_eq!(judge(&run)[0].ruling, Ruling::Fails);
    }
}
