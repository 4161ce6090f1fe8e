//! The figures of one plan, per target and round, and when one target is better than another.

use super::family::Family;
use loadtest::plan::{Assertion, Metric, Plan};
use loadtest::report::{Run, Spread, Summary};
use std::time::Duration;

/// What every plan's table shows, where it was measured.
const STANDARD: [Metric; 16] = [
    Metric::Offered,
    Metric::Goodput,
    Metric::GoodputPerSecond,
    Metric::OfCapacity,
    Metric::Shed,
    Metric::Timeouts,
    Metric::Unfinished,
    Metric::Failed,
    Metric::ErrorsOutsideContract,
    Metric::P50,
    Metric::P90,
    Metric::P99,
    Metric::Reconnects,
    Metric::MaxBackends,
    Metric::Sessions,
    Metric::Unheard,
];

/// With so many families of functions or fewer, each one's goodput and latency is told, asserted or not.
const FEW_FAMILIES: usize = 3;

/// Of a plan that is shorter, rates say nothing: most of what it fires is served after its end.
const LASTING: Duration = Duration::from_secs(5);

/// Differences below this share are nobody's loss.
const NEGLIGIBLE: f64 = 0.01;

/// What a line of a table is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What is looked at.
    pub metric: Metric,
    /// Of these functions only: of each of them, and the worst counts.
    pub family: Option<Family>,
    /// Of one phase only.
    pub phase: Option<String>,
}

/// A line of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is about.
    pub subject: Subject,
    /// Per target, per round.
    pub figures: Vec<Vec<Option<f64>>>,
}

/// One target's figure divided by another's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Of the rounds' ratios.
    pub median: f64,
    /// How many rounds have one.
    pub rounds: usize,
    /// Of so many.
    pub of: usize,
}

/// Which figure of two is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    More,
    Less,
    /// It describes; neither is better. What is shed is missing in the goodput already.
    Neither,
}

/// Every line of a run's table; lines that nobody has a figure for are left out.
pub fn rows(run: &Run) -> Vec<Row> {
    let rows = subjects(&run.plan).into_iter().map(|subject| Row::of(run, subject));
    rows.filter(|row| row.figures.iter().flatten().any(Option::is_some)).collect()
}

/// The standard ones, those that the plan asserts something about, and those of few families.
fn subjects(plan: &Plan) -> Vec<Subject> {
    let families = Family::all(plan);
    let whole = |metric: &Metric| Subject { metric: *metric, family: None, phase: None };
    let mut subjects: Vec<Subject> = STANDARD.iter().map(whole).collect();
    if plan.duration.duration() < LASTING {
        subjects.retain(|subject| subject.metric != Metric::GoodputPerSecond);
    }
    if (2..=FEW_FAMILIES).contains(&families.len()) {
        for family in &families {
            let of = |metric| Subject { metric, family: Some(family.clone()), phase: None };
            subjects.extend([Metric::Goodput, Metric::P50, Metric::P99].map(of));
        }
    }
    for assertion in &plan.assertions {
        let asserted = Subject::of(assertion, &families);
        if !subjects.contains(&asserted) {
            subjects.push(asserted);
        }
    }
    subjects
}

impl Subject {
    /// What an assertion is about; of one member of a family, the whole family.
    pub fn of(assertion: &Assertion, families: &[Family]) -> Self {
        let family = assertion.function.as_ref().map(|function| Family::of(function, families));
        Self { metric: assertion.metric, family, phase: assertion.phase.clone() }
    }

    /// `p99 latency, api, in surge`
    pub fn name(&self) -> String {
        let mut name = label(self.metric);
        if let Some(family) = &self.family {
            name = format!("{name}, {}", family.name);
        }
        if let Some(phase) = &self.phase {
            name = format!("{name}, in {phase}");
        }
        name
    }

    /// Of a family, the worst member's; `None` if one of them has none.
    fn value(&self, summary: &Summary<'_>) -> Option<f64> {
        let value = |function| summary.value(self.metric, function, self.phase.as_deref());
        let Some(family) = &self.family else { return value(None) };
        let worse = if self.better() == Better::More { f64::min } else { f64::max };
        let mut values = family.members.iter().map(|function| value(Some(function)));
        let first = values.next()??;
        values.try_fold(first, |worst, value| Some(worse(worst, value?)))
    }

    fn better(&self) -> Better {
        match self.metric {
            Metric::Served | Metric::Goodput | Metric::GoodputPerSecond | Metric::OfCapacity => Better::More,
            Metric::Offered | Metric::Shed | Metric::Connects => Better::Neither,
            Metric::Timeouts
            | Metric::Unfinished
            | Metric::Failed
            | Metric::ErrorsOutsideContract
            | Metric::P50
            | Metric::P90
            | Metric::P99
            | Metric::Max
            | Metric::Reconnects
            | Metric::MaxBackends
            | Metric::Sessions
            | Metric::Unheard => Better::Less,
        }
    }
}

fn label(metric: Metric) -> String {
    match metric {
        Metric::GoodputPerSecond => "goodput per second".to_owned(),
        Metric::OfCapacity => "goodput of capacity".to_owned(),
        Metric::ErrorsOutsideContract => "errors outside the contract".to_owned(),
        Metric::P50 | Metric::P90 | Metric::P99 => format!("{} latency of those served", metric.name()),
        Metric::Max => "longest latency of those served".to_owned(),
        Metric::Unfinished => "cut off".to_owned(),
        Metric::MaxBackends => "most backends".to_owned(),
        Metric::Sessions => "sessions opened in PostgreSQL".to_owned(),
        Metric::Unheard => "statements run to their end for nobody".to_owned(),
        _ => metric.name().replace('_', " "),
    }
}

impl Row {
    fn of(run: &Run, subject: Subject) -> Self {
        let rounds = run.legs.iter().map(|leg| leg.round + 1).max().unwrap_or(0);
        let figure = |target: &str, round: u32| {
            let leg = run.legs_of(target).find(|leg| leg.round == round)?;
            subject.value(&Summary::of(&run.plan, leg))
        };
        let of_target = |target: &str| (0..rounds).map(|round| figure(target, round)).collect();
        let figures = run.targets.iter().map(|target| of_target(&target.name)).collect();
        Self { subject, figures }
    }

    /// Over the rounds of one target that have a figure.
    pub fn spread(&self, target: usize) -> Option<Spread> {
        Spread::of(self.figures.get(target)?.iter().flatten().copied())
    }

    /// The median of the rounds' ratios: what else the machine did in a round met both. A figure divided by nothing is
    /// infinitely more and counts as that, or else the rounds in which the other had nothing would be left out in favour
    /// of who had something; `None` if the median is infinite. Nothing divided by nothing is no ratio.
    pub fn ratio(&self, of: usize, to: usize) -> Option<Ratio> {
        let rounds =
            || self.figures.get(of).into_iter().flatten().zip(self.figures.get(to).into_iter().flatten());
        let ratios = rounds().filter_map(|(of, to)| Some((*of)? / (*to)?)).filter(|ratio| !ratio.is_nan());
        let spread = Spread::of(ratios).filter(|spread| spread.median.is_finite())?;
        Some(Ratio { median: spread.median, rounds: spread.rounds, of: rounds().count() })
    }

    /// Whether the other is better by more than the spread: its median beats every round of ours, or our median is
    /// beaten by every round of its. Either is enough, so that a single odd round hides no loss.
    pub fn is_lost_to(&self, other: usize, ours: usize) -> bool {
        let better = match self.subject.better() {
            Better::Neither => return false,
            Better::More => |a: f64, b: f64| a > b,
            Better::Less => |a: f64, b: f64| a < b,
        };
        let (theirs, ours) = match (self.spread(other), self.spread(ours)) {
            // Who has served nobody has no latency.
            (Some(_), None) => return self.subject.metric.is_time(),
            (Some(theirs), Some(ours)) => (theirs, ours),
            (None, _) => return false,
        };
        let beats_all = |median: f64, all: Spread| better(median, all.min) && better(median, all.max);
        let beaten_by_all = |median: f64, all: Spread| better(all.min, median) && better(all.max, median);
        let difference = (theirs.median - ours.median).abs();
        let clear = difference > NEGLIGIBLE * theirs.median.abs().max(ours.median.abs());
        clear && (beats_all(theirs.median, ours) || beaten_by_all(ours.median, theirs))
    }
}

#[cfg(test)]
pub mod examples {
    use super::*;

    /// A line of the whole leg, every figure there.
    pub fn row(metric: Metric, figures: &[&[f64]]) -> Row {
        let figures =
            figures.iter().map(|rounds| rounds.iter().map(|figure| Some(*figure)).collect()).collect();
        Row { subject: Subject { metric, family: None, phase: None }, figures }
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::examples::plan;
    use super::examples::row;
    use super::*;

    #[test]
    fn medians_and_ratios_are_of_the_rounds() {
        // The second round was twice as slow for both.
        let row = row(Metric::P99, &[&[1.0, 2.0, 1.0], &[0.8, 1.6, 0.9]]);
        assert_eq!(
            row.spread(1).map(|spread| (spread.median, spread.min, spread.max)),
            Some((0.9, 0.8, 1.6))
        );
        assert_eq!(row.ratio(1, 0), Some(Ratio { median: 0.8, rounds: 3, of: 3 }));
        assert_eq!((row.spread(2), row.ratio(1, 2)), (None, None));
    }

    #[test]
    fn a_ratio_to_nothing_is_none() {
        assert_eq!(row(Metric::Failed, &[&[0.0, 0.0], &[0.0, 3.0]]).ratio(1, 0), None);
        let mut gap = row(Metric::P99, &[&[1.0, 2.0], &[3.0, 8.0]]);
        gap.figures[0][0] = None;
        assert_eq!(gap.ratio(1, 0), Some(Ratio { median: 4.0, rounds: 1, of: 2 }));
    }

    #[test]
    fn rounds_in_which_only_the_other_had_nothing_speak_against_us() {
        let ratio = |theirs: &[f64], ours: &[f64]| row(Metric::Failed, &[theirs, ours]).ratio(1, 0);
        assert_eq!(ratio(&[0.0, 0.0, 3.0], &[5.0, 5.0, 1.0]), None, "not a third");
        assert_eq!(ratio(&[0.0, 2.0, 4.0], &[5.0, 4.0, 1.0]), Some(Ratio { median: 2.0, rounds: 3, of: 3 }));
    }

    #[test]
    fn statements_that_were_cancelled_are_not_in_the_label() {
        assert_eq!(label(Metric::Unheard), "statements run to their end for nobody");
        assert_eq!(label(Metric::Sessions), "sessions opened in PostgreSQL");
    }

    #[test]
    fn more_goodput_and_less_latency_are_better_and_sheds_are_neither() {
        let lost = |metric, theirs: f64, ours: f64| row(metric, &[&[theirs], &[ours]]).is_lost_to(0, 1);
        assert!(lost(Metric::Goodput, 0.9, 0.5) && !lost(Metric::Goodput, 0.5, 0.9));
        assert!(lost(Metric::P99, 0.1, 0.2) && !lost(Metric::P99, 0.2, 0.1));
        assert!(lost(Metric::Unheard, 0.0, 5.0) && !lost(Metric::Unheard, 0.0, 0.0));
        assert!(!lost(Metric::Shed, 0.0, 500.0) && !lost(Metric::Shed, 500.0, 0.0));
        assert!(!lost(Metric::P99, 1.0, 1.005), "half a percent is nobody's loss");
    }

    #[test]
    fn a_difference_within_both_spreads_is_no_loss_and_one_odd_round_hides_none() {
        let lost = |theirs: &[f64], ours: &[f64]| row(Metric::Goodput, &[theirs, ours]).is_lost_to(0, 1);
        assert!(!lost(&[0.7, 0.9, 0.8], &[0.6, 0.75, 0.85]));
        assert!(lost(&[0.9, 0.9, 0.9], &[0.5, 0.5, 0.95]), "ours was once better");
        assert!(lost(&[0.9, 0.9, 0.4], &[0.5, 0.5, 0.5]), "theirs was once worse");
    }

    #[test]
    fn who_has_served_nobody_has_lost_in_latency() {
        let mut row = row(Metric::P99, &[&[1.0], &[1.0]]);
        row.figures[1][0] = None;
        assert!(row.is_lost_to(0, 1) && !row.is_lost_to(1, 0));
    }

    #[test]
    fn what_is_asserted_is_shown_once_and_a_family_as_one() {
        let head = "assert = [\"p99{a} <= 1s\", \"goodput >= 0.9\", \"p90{d-1}@late <= 1s\", \"p90{d-2}@late <= 1s\"]\n\
                    [[phase]]\nname = \"late\"\nfrom = \"0s\"\nto = \"1s\"\n";
        let plan = plan(head, &["a", "d-1", "d-2"]);
        let names: Vec<String> = subjects(&plan).iter().map(Subject::name).collect();
        let shown = |name: &str| names.iter().filter(|known| *known == name).count();
        assert_eq!(shown("goodput"), 1);
        assert_eq!(shown("p99 latency of those served, a"), 1);
        assert_eq!(shown("p90 latency of those served, d-*, in late"), 1);
        assert_eq!(shown("goodput per second"), 0, "the plan lasts for a second");
        assert_eq!(names.len(), STANDARD.len() - 1 + 6 + 1);
    }
}
