//! One leg's figures: every [`Metric`], of everything, of one function, of one phase.

use super::units::of_micros;
use crate::leg::{FailureKind, Leg, Outcome, max_backends};
use crate::plan::{Metric, Plan};

/// One leg, ready to be asked.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a> {
    plan: &'a Plan,
    leg: &'a Leg,
}

/// The figures of one scope: a leg, or a function or a phase of it.
///
/// An invocation belongs to the phase that it was due in (`intended_us`), whenever it ended; failed attempts and
/// attempts to connect belong to the phase in which they happened. Only goodput per second counts what was completed
/// within the phase, whenever it was due: a rate is of a time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Invocations by what became of them. `Aborted` ones are in none of them, nor are `Unfinished` ones of a leg that was
    /// interrupted.
    offered: u64,
    shed: u64,
    timeouts: u64,
    unfinished: u64,
    failed: u64,
    /// Latency of those served, ascending: from the intended start to the end.
    latencies_us: Vec<u64>,
    /// Served, and ended within the window.
    completed: u64,
    /// The window's length: the phase, or the plan's duration, or what of it there was before the leg was interrupted.
    window_us: u64,
    capacity: Option<f64>,
    errors_outside_contract: u64,
    connects: u64,
    reconnects: u64,
    max_backends: Option<u32>,
    sessions: Option<u64>,
    unheard: Option<u64>,
}

/// Part of a leg's time: from the first to before the second, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Window {
    from_us: u64,
    to_us: u64,
}

impl Window {
    fn has(self, at_us: u64) -> bool {
        (self.from_us..self.to_us).contains(&at_us)
    }
}

impl<'a> Summary<'a> {
    /// Of one leg of that plan.
    #[must_use]
    pub fn of(plan: &'a Plan, leg: &'a Leg) -> Self {
        Self { plan, leg }
    }

    /// One figure; times in seconds, shares from 0 to 1. `None`: it was not measured, or cannot be told (a percentile
    /// of nothing, an unknown function).
    #[must_use]
    pub fn value(&self, metric: Metric, function: Option<&str>, phase: Option<&str>) -> Option<f64> {
        self.figures(function, phase)?.value(metric)
    }

    /// All figures of a scope; `None` if there is no such function or phase.
    #[must_use]
    pub fn figures(&self, function: Option<&str>, phase: Option<&str>) -> Option<Figures> {
        let function = match function {
            Some(name) => Some(self.leg.functions.iter().position(|known| known == name)?),
            None => None,
        };
        let within = match phase {
            Some(name) => Some(self.phase(name)?),
            None => None,
        };
        let mut figures = Figures {
            capacity: self.plan.capacity,
            max_backends: max_backends(&self.leg.backends),
            sessions: self.leg.sessions,
            unheard: self.leg.statements.map(|statements| statements.unheard()),
            ..Figures::default()
        };
        let belongs = |index: u16, at_us: u64| {
            function.is_none_or(|wanted| wanted == usize::from(index))
                && within.is_none_or(|window| window.has(at_us))
        };
        self.count_invocations(&mut figures, belongs);
        self.count_completions(&mut figures, function, within);
        self.count_attempts(&mut figures, belongs);
        Some(figures)
    }

    fn phase(&self, name: &str) -> Option<Window> {
        let phase = self.plan.phases.iter().find(|phase| phase.name == name)?;
        Some(Window { from_us: phase.from.micros(), to_us: phase.to.micros() })
    }

    fn count_invocations(&self, figures: &mut Figures, belongs: impl Fn(u16, u64) -> bool) {
        for invocation in &self.leg.invocations {
            if !belongs(invocation.function, invocation.intended_us) {
                continue;
            }
            match invocation.outcome {
                Outcome::Served => {
                    figures.latencies_us.push(invocation.ended_us.saturating_sub(invocation.intended_us));
                }
                Outcome::Shed => figures.shed += 1,
                Outcome::Timeout => figures.timeouts += 1,
                Outcome::Failed => figures.failed += 1,
                // A target that hangs has not served: else only whoever answers could fail.
                Outcome::Unfinished if !self.leg.interrupted => figures.unfinished += 1,
                Outcome::Aborted | Outcome::Unfinished => continue,
            }
            figures.offered += 1;
        }
        figures.latencies_us.sort_unstable();
    }

    fn count_completions(&self, figures: &mut Figures, function: Option<usize>, within: Option<Window>) {
        let mut window = within.unwrap_or(Window { from_us: 0, to_us: self.plan.duration.micros() });
        if self.leg.interrupted {
            window.to_us = window.to_us.min(self.leg.wall_us);
        }
        figures.window_us = window.to_us.saturating_sub(window.from_us);
        for invocation in &self.leg.invocations {
            let counts = function.is_none_or(|wanted| wanted == usize::from(invocation.function))
                && invocation.outcome == Outcome::Served
                && window.has(invocation.ended_us);
            figures.completed += u64::from(counts);
        }
    }

    fn count_attempts(&self, figures: &mut Figures, belongs: impl Fn(u16, u64) -> bool) {
        for failure in &self.leg.failures {
            let within = matches!(failure.kind, FailureKind::Shed | FailureKind::Timeout);
            figures.errors_outside_contract += u64::from(!within && belongs(failure.function, failure.at_us));
        }
        for connect in self.leg.connects.iter().filter(|connect| belongs(connect.function, connect.at_us)) {
            figures.connects += 1;
            figures.reconnects += u64::from(connect.again);
        }
    }
}

impl Figures {
    /// One of them; times in seconds, shares from 0 to 1. `None`: not measured, or there is nothing to tell it of.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let served = self.latencies_us.len() as f64;
        match metric {
            Metric::Offered => Some(self.offered as f64),
            Metric::Served => Some(served),
            Metric::Goodput => (self.offered > 0).then(|| served / self.offered as f64),
            Metric::GoodputPerSecond => self.per_second(),
            Metric::OfCapacity => {
                Some(self.per_second()? / self.capacity.filter(|capacity| *capacity > 0.0)?)
            }
            Metric::Shed => Some(self.shed as f64),
            Metric::Timeouts => Some(self.timeouts as f64),
            Metric::Unfinished => Some(self.unfinished as f64),
            Metric::Failed => Some(self.failed as f64),
            Metric::ErrorsOutsideContract => Some(self.errors_outside_contract as f64),
            Metric::P50 => self.percentile(50),
            Metric::P90 => self.percentile(90),
            Metric::P99 => self.percentile(99),
            Metric::Max => self.percentile(100),
            Metric::Connects => Some(self.connects as f64),
            Metric::Reconnects => Some(self.reconnects as f64),
            Metric::MaxBackends => self.max_backends.map(f64::from),
            Metric::Sessions => self.sessions.map(|sessions| sessions as f64),
            Metric::Unheard => self.unheard.map(|unheard| unheard as f64),
        }
    }

    /// Served per second of the window.
    fn per_second(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
        let completed = self.completed as f64;
        (self.window_us > 0).then(|| completed / of_micros(self.window_us))
    }

    /// Seconds, by nearest rank.
    fn percentile(&self, percent: usize) -> Option<f64> {
        nearest_rank(&self.latencies_us, percent).map(of_micros)
    }
}

/// The smallest of them that at least `percent` of them do not exceed. They have to be in ascending order.
pub fn nearest_rank(ascending: &[u64], percent: usize) -> Option<u64> {
    let rank = (ascending.len() * percent).div_ceil(100).max(1);
    ascending.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;
    use crate::leg::{AttemptFailure, BackendSample, Connect, Invocation, StatementCount};

    /// Function 0 is `api`, 1 is `batch`; phases `calm` (0 to 1 s) and `surge` (1 to 2 s); capacity 4 per second.
    fn small() -> (Plan, Leg) {
        let plan = synthetic::plan(
            "duration = \"2s\"\ncapacity = 4.0\n\
             [[phase]]\nname = \"calm\"\nfrom = \"0s\"\nto = \"1s\"\n\
             [[phase]]\nname = \"surge\"\nfrom = \"1s\"\nto = \"2s\"\n",
            &["api", "batch"],
        );
        let invocation = |function, intended_ms: u64, ended_ms: u64, outcome| Invocation {
            function,
            intended_us: intended_ms * 1000,
            started_us: intended_ms * 1000 + 500,
            ended_us: ended_ms * 1000,
            attempts: 1,
            cold: false,
            outcome,
        };
        let leg = Leg {
            invocations: vec![
                invocation(0, 0, 100, Outcome::Served),
                invocation(0, 100, 400, Outcome::Served),
                invocation(0, 900, 1100, Outcome::Served),
                invocation(0, 1000, 1400, Outcome::Shed),
                invocation(1, 1100, 1900, Outcome::Timeout),
                invocation(1, 1200, 1300, Outcome::Failed),
                invocation(1, 1300, 1400, Outcome::Aborted),
                invocation(1, 1500, 2500, Outcome::Unfinished),
                invocation(1, 1500, 2100, Outcome::Served),
            ],
            ..synthetic::empty_leg(&plan)
        };
        (plan, leg)
    }

    fn values(
        plan: &Plan,
        leg: &Leg,
        function: Option<&str>,
        phase: Option<&str>,
        of: &[Metric],
    ) -> Vec<f64> {
        let figures = Summary::of(plan, leg).figures(function, phase).unwrap();
        of.iter().map(|metric| figures.value(*metric).unwrap_or(-1.0)).collect()
    }

    const OUTCOMES: [Metric; 6] =
        [Metric::Offered, Metric::Served, Metric::Shed, Metric::Timeouts, Metric::Failed, Metric::Unfinished];

    #[test]
    fn what_the_target_is_not_to_blame_for_is_not_offered() {
        let (plan, leg) = small();
        assert_eq!(values(&plan, &leg, None, None, &OUTCOMES), [8.0, 4.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(values(&plan, &leg, Some("batch"), None, &OUTCOMES), [4.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_target_that_hangs_has_no_goodput() {
        let (plan, mut leg) = small();
        for invocation in &mut leg.invocations {
            invocation.outcome = Outcome::Unfinished;
        }
        let read = [Metric::Goodput, Metric::Unfinished];
        assert_eq!(values(&plan, &leg, None, None, &read), [0.0, 9.0]);
        assert_eq!(Summary::of(&plan, &leg).value(Metric::P50, None, None), None);
        leg.interrupted = true;
        assert_eq!(values(&plan, &leg, None, None, &[Metric::Offered, Metric::Unfinished]), [0.0, 0.0]);
    }

    #[test]
    fn an_invocation_belongs_to_the_phase_that_it_was_due_in() {
        let (plan, leg) = small();
        assert_eq!(values(&plan, &leg, None, Some("calm"), &OUTCOMES), [3.0, 3.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(
            values(&plan, &leg, Some("api"), Some("surge"), &OUTCOMES),
            [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        );
    }

    #[test]
    fn a_rate_counts_what_was_completed_within_the_time() {
        let (plan, leg) = small();
        let rates = [Metric::GoodputPerSecond, Metric::OfCapacity];
        // The one that ended at 1.1 s is the surge's; the one at 2.1 s is nobody's.
        assert_eq!(values(&plan, &leg, None, Some("calm"), &rates), [2.0, 0.5]);
        assert_eq!(values(&plan, &leg, None, Some("surge"), &rates), [1.0, 0.25]);
        assert_eq!(values(&plan, &leg, None, None, &rates), [1.5, 0.375]);
    }

    #[test]
    fn a_leg_that_was_interrupted_is_as_long_as_it_was() {
        let (plan, mut leg) = small();
        leg.interrupted = true;
        leg.wall_us = 500_000;
        assert_eq!(values(&plan, &leg, None, None, &[Metric::GoodputPerSecond]), [4.0]);
        assert_eq!(Summary::of(&plan, &leg).value(Metric::GoodputPerSecond, None, Some("surge")), None);
    }

    #[test]
    fn latency_counts_from_the_intended_start_by_nearest_rank() {
        let (plan, leg) = small();
        let times = [Metric::P50, Metric::P90, Metric::P99, Metric::Max];
        // 100, 200, 300 and 600 ms.
        assert_eq!(values(&plan, &leg, None, None, &times), [0.2, 0.6, 0.6, 0.6]);
        assert_eq!(Summary::of(&plan, &leg).value(Metric::P99, Some("api"), Some("surge")), None);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(
            [50, 90, 99, 100].map(|percent| nearest_rank(&hundred, percent)),
            [50, 90, 99, 100].map(Some)
        );
    }

    #[test]
    fn percentiles_never_fall() {
        for seed in 1..4 {
            let leg = synthetic::leg("guard", 0, seed);
            let plan = synthetic::surge();
            let read = values(&plan, &leg, None, None, &[Metric::P50, Metric::P90, Metric::P99, Metric::Max]);
            assert!(read.is_sorted(), "{seed}: {read:?}");
        }
    }

    #[test]
    fn attempts_belong_to_the_time_at_which_they_happened() {
        let (plan, mut leg) = small();
        let failure = |at_us, kind| AttemptFailure {
            at_us,
            function: 0,
            kind,
            sqlstate: None,
            reason: String::new(),
            at_login: false,
        };
        leg.failures = vec![
            failure(1, FailureKind::Shed),
            failure(2, FailureKind::Timeout),
            failure(3, FailureKind::Sql),
            failure(1_000_000, FailureKind::Connection),
            failure(1_000_001, FailureKind::Protocol),
        ];
        let connect = |at_us, again| Connect { at_us, function: 1, again, connect_us: None, login_us: None };
        leg.connects = vec![connect(5, false), connect(6, false), connect(1_500_000, true)];
        let of = [Metric::ErrorsOutsideContract, Metric::Connects, Metric::Reconnects];
        assert_eq!(values(&plan, &leg, None, None, &of), [3.0, 3.0, 1.0]);
        assert_eq!(values(&plan, &leg, None, Some("surge"), &of), [2.0, 1.0, 1.0]);
        assert_eq!(values(&plan, &leg, Some("batch"), None, &of), [0.0, 3.0, 1.0]);
    }

    #[test]
    fn backends_count_that_two_looks_in_a_row_show() {
        let (plan, mut leg) = small();
        let value = |leg: &Leg, metric| Summary::of(&plan, leg).value(metric, None, None);
        assert_eq!(value(&leg, Metric::MaxBackends), None);
        let look = |total| BackendSample { at_us: 0, total, active: 0, idle_in_transaction: 0 };
        leg.backends = vec![look(7)];
        assert_eq!(value(&leg, Metric::MaxBackends), Some(7.0));
        leg.backends = [20, 23, 20, 21, 21, 4].map(look).to_vec();
        assert_eq!(value(&leg, Metric::MaxBackends), Some(21.0));
        assert_eq!(value(&leg, Metric::Unheard), None);
        leg.statements = Some(StatementCount { executed: 12, heard: 10 });
        assert_eq!(value(&leg, Metric::Unheard), Some(2.0));
    }

    #[test]
    fn what_is_not_there_has_no_figures() {
        let (plan, leg) = small();
        let summary = Summary::of(&plan, &leg);
        assert!(
            summary.figures(Some("web"), None).is_none() && summary.figures(None, Some("late")).is_none()
        );
        let nothing = synthetic::empty_leg(&plan);
        assert_eq!(Summary::of(&plan, &nothing).value(Metric::Goodput, None, None), None);
    }
}
