//! Why attempts failed: the many records of a leg as a few causes.

use super::units::clipped;
use super::{Rounds, Spread};
use crate::leg::{AttemptFailure, FailureKind, Leg};
use std::collections::BTreeMap;

/// A server's message may hold anything; more of it helps nobody.
const LONGEST_REASON: usize = 60;

/// One way to fail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// What kind.
    pub kind: FailureKind,
    /// What the server said, if it said something.
    pub sqlstate: Option<String>,
    /// `reason=` of the DETAIL, or the message; shortened. Empty for a timeout: there is only one way to time out.
    pub reason: String,
    /// While connecting or logging in.
    pub at_login: bool,
}

/// A cause, and how many attempts failed by it: a spread over the rounds per target.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// `None`: all causes that are too rare to be told one by one.
    pub cause: Option<Cause>,
    /// In the order of the targets; `None` of a target without a leg.
    pub per_target: Vec<Option<Spread>>,
}

impl Cause {
    /// Of one failure.
    #[must_use]
    pub fn of(failure: &AttemptFailure) -> Self {
        let reason = match failure.kind {
            FailureKind::Timeout => String::new(),
            _ => clipped(&failure.reason, LONGEST_REASON),
        };
        Self { kind: failure.kind, sqlstate: failure.sqlstate.clone(), reason, at_login: failure.at_login }
    }

    /// For people: `shed 53300 queue_timeout at login`.
    #[must_use]
    pub fn label(&self) -> String {
        let kind = match self.kind {
            FailureKind::Shed => "shed",
            FailureKind::Timeout => "client timeout",
            FailureKind::Sql => "error",
            FailureKind::Connection => "connection",
            FailureKind::Protocol => "protocol",
        };
        let mut words = vec![kind];
        words.extend(self.sqlstate.as_deref());
        if !self.reason.is_empty() {
            words.push(&self.reason);
        }
        if self.at_login {
            words.push("at login");
        }
        words.join(" ")
    }
}

/// How many attempts of a leg failed by which cause.
pub fn of_leg(leg: &Leg) -> BTreeMap<Cause, u32> {
    let mut causes = BTreeMap::new();
    for failure in &leg.failures {
        let count: &mut u32 = causes.entry(Cause::of(failure)).or_default();
        *count = count.saturating_add(1);
    }
    causes
}

/// Every cause of every target: the `most` commonest one by one, in the order of their kinds, the others together.
#[must_use]
pub fn counted(rounds: &[Rounds<'_>], most: usize) -> Vec<Counted> {
    let legs: Vec<Vec<BTreeMap<Cause, u32>>> =
        rounds.iter().map(|rounds| rounds.legs().map(of_leg).collect()).collect();
    let mut totals: BTreeMap<&Cause, u64> = BTreeMap::new();
    for (cause, count) in legs.iter().flatten().flatten() {
        *totals.entry(cause).or_default() += u64::from(*count);
    }
    let mut ranked: Vec<(&Cause, u64)> = totals.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let (named, rare) = ranked.split_at(most.min(ranked.len()));
    let mut named: Vec<&Cause> = named.iter().map(|(cause, _)| *cause).collect();
    named.sort();
    let spreads = |counts: &dyn Fn(&BTreeMap<Cause, u32>) -> u32| -> Vec<Option<Spread>> {
        legs.iter().map(|legs| Spread::of(legs.iter().map(|leg| f64::from(counts(leg))))).collect()
    };
    let mut counted: Vec<Counted> = named
        .iter()
        .map(|cause| {
            let per_target = spreads(&|leg| leg.get(*cause).copied().unwrap_or(0));
            Counted { cause: Some((*cause).clone()), per_target }
        })
        .collect();
    if !rare.is_empty() {
        let others = |leg: &BTreeMap<Cause, u32>| {
            leg.iter().filter(|(cause, _)| !named.contains(cause)).map(|(_, count)| count).sum()
        };
        counted.push(Counted { cause: None, per_target: spreads(&others) });
    }
    counted
}

impl Counted {
    /// For people.
    #[must_use]
    pub fn label(&self) -> String {
        self.cause.as_ref().map_or_else(|| "other causes".to_owned(), Cause::label)
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    fn failure(kind: FailureKind, sqlstate: Option<&str>, reason: &str) -> AttemptFailure {
        AttemptFailure {
            at_us: 0,
            function: 0,
            kind,
            sqlstate: sqlstate.map(str::to_owned),
            reason: reason.to_owned(),
            at_login: false,
        }
    }

    #[test]
    fn labels_say_kind_state_and_reason() {
        let shed = failure(FailureKind::Shed, Some("53300"), "queue_timeout");
        assert_eq!(Cause::of(&shed).label(), "shed 53300 queue_timeout");
        let late = AttemptFailure { at_login: true, ..failure(FailureKind::Timeout, None, "3s are over") };
        assert_eq!(Cause::of(&late).label(), "client timeout at login");
        let long = failure(FailureKind::Sql, Some("XX000"), &"ä".repeat(500));
        assert_eq!(Cause::of(&long).reason.chars().count(), LONGEST_REASON);
    }

    #[test]
    fn rare_causes_are_counted_together_and_none_is_lost() {
        let mut run = synthetic::run(&["guard", "fifo"], 1);
        for (leg, most) in run.legs.iter_mut().zip([3, 1]) {
            let kinds = ["a", "b", "c", "d"];
            leg.failures = (0..most)
                .flat_map(|number| {
                    kinds[number..].iter().map(|reason| failure(FailureKind::Sql, None, reason))
                })
                .collect();
        }
        let rounds = Rounds::of(&run);
        let counted = counted(&rounds, 2);
        let labels: Vec<_> = counted.iter().map(Counted::label).collect();
        assert_eq!(labels, ["error c", "error d", "other causes"]);
        for (target, leg) in run.legs.iter().enumerate() {
            let sum: f64 =
                counted.iter().filter_map(|row| row.per_target[target]).map(|row| row.median).sum();
            assert_eq!(sum as usize, leg.failures.len());
        }
    }
}
