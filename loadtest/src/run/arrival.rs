//! When a function's invocations are due: from the plan alone, so that every target of a run gets the same load.

use super::draw::seed;
use crate::plan::{Arrival, Function, Plan, Span};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

/// Stands for the arrivals themselves, among what is drawn for each invocation.
const NO_INVOCATION: u64 = u64::MAX;

/// How invocations come to a function's instances. All times are since the leg's start.
#[derive(Debug)]
pub enum Schedule<'plan> {
    /// Each instance starts at its time, is invoked once, and ends.
    Once(Vec<Duration>),
    /// Each instance starts at its time and is then invoked again and again: a closed loop.
    Loop(Vec<Duration>),
    /// Invocations are due, whether an instance is free or not: open.
    Open(Arrivals<'plan>),
}

impl<'plan> Schedule<'plan> {
    /// The schedule of the plan's function with this index; `None` if there is none.
    #[must_use]
    pub fn of(plan: &'plan Plan, index: usize) -> Option<Self> {
        let function = plan.functions.get(index)?;
        let start = function.start.duration();
        let stop = stop_of(plan, function);
        Some(match &function.arrival {
            Arrival::AtOnce {} => Self::Once(starts(function, stop, |_| start)),
            Arrival::Closed { within } => Self::Loop(starts(function, stop, |instance| {
                start.saturating_add(within.duration().saturating_mul(instance) / function.instances.max(1))
            })),
            Arrival::Ramp { per_second } => Self::Loop(starts(function, stop, |instance| {
                start.saturating_add(after_seconds(f64::from(instance) / per_second))
            })),
            Arrival::Poisson { per_second } => {
                let random = SmallRng::seed_from_u64(seed(plan.seed, index as u64, NO_INVOCATION));
                let gaps = Gaps::Random { random, per_second: *per_second, seconds: 0.0 };
                Self::Open(Arrivals { start, stop, gaps })
            }
            Arrival::Steady { per_second } => Self::Open(Arrivals {
                start,
                stop,
                gaps: Gaps::Equal { per_second: *per_second, arrived: 0 },
            }),
            Arrival::Trace { due, .. } => {
                Self::Open(Arrivals { start, stop, gaps: Gaps::Recorded(due.iter()) })
            }
        })
    }
}

/// From when on no invocation of the function is due, since the leg's start.
#[must_use]
pub fn stop_of(plan: &Plan, function: &Function) -> Duration {
    function.stop.map_or(plan.duration, |stop| stop.min(plan.duration)).duration()
}

/// When the instances start that start before `stop`.
fn starts(function: &Function, stop: Duration, start_of: impl Fn(u32) -> Duration) -> Vec<Duration> {
    (0..function.instances).map(start_of).take_while(|start| *start < stop).collect()
}

/// When open arrivals are due, ascending. Computed one by one: a long plan has millions.
#[derive(Debug)]
pub struct Arrivals<'plan> {
    start: Duration,
    stop: Duration,
    gaps: Gaps<'plan>,
}

#[derive(Debug)]
enum Gaps<'plan> {
    /// Exponentially distributed: a Poisson process. The sum is kept as a float, so that no rounding adds up.
    Random {
        random: SmallRng,
        per_second: f64,
        seconds: f64,
    },
    Equal {
        per_second: f64,
        arrived: u64,
    },
    Recorded(std::slice::Iter<'plan, Span>),
}

impl Iterator for Arrivals<'_> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let after_start = match &mut self.gaps {
            Gaps::Random { random, per_second, seconds } => {
                let unit: f64 = random.random();
                *seconds += -(1.0 - unit).ln() / *per_second;
                after_seconds(*seconds)
            }
            Gaps::Equal { per_second, arrived } => {
                #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 arrivals")]
                let seconds = *arrived as f64 / *per_second;
                *arrived += 1;
                after_seconds(seconds)
            }
            Gaps::Recorded(due) => due.next()?.duration(),
        };
        Some(self.start.saturating_add(after_start)).filter(|due| *due < self.stop)
    }
}

/// The end of time for what no `Duration` can hold.
fn after_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(function: &str) -> Plan {
        let text = format!(
            "title = \"t\"\nduration = \"10s\"\nseed = 42\n[[function]]\nname = \"f\"\nscript = [\"select 1\"]\n\
             {function}"
        );
        Plan::parse("t", &text, Path::new(".")).unwrap()
    }

    fn arrivals(plan: &Plan, index: usize) -> Vec<Duration> {
        match Schedule::of(plan, index) {
            Some(Schedule::Open(arrivals)) => arrivals.collect(),
            other => panic!("not open: {other:?}"),
        }
    }

    fn starts_of(plan: &Plan) -> Vec<Duration> {
        match Schedule::of(plan, 0) {
            Some(Schedule::Loop(starts) | Schedule::Once(starts)) => starts,
            other => panic!("open: {other:?}"),
        }
    }

    fn millis(times: &[Duration]) -> Vec<u128> {
        times.iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn all_at_once_is_one_moment_for_all_instances() {
        let plan = plan("instances = 3\nstart = \"2s\"\narrival = { kind = \"at_once\" }");
        assert!(matches!(Schedule::of(&plan, 0), Some(Schedule::Once(_))));
        assert_eq!(millis(&starts_of(&plan)), [2000, 2000, 2000]);
    }

    #[test]
    fn a_closed_loop_spreads_the_starts_of_its_instances() {
        let spread = plan("instances = 4\nstart = \"1s\"\narrival = { kind = \"closed\", within = \"2s\" }");
        assert!(matches!(Schedule::of(&spread, 0), Some(Schedule::Loop(_))));
        assert_eq!(millis(&starts_of(&spread)), [1000, 1500, 2000, 2500]);
        let together = plan("instances = 2\narrival = { kind = \"closed\" }");
        assert_eq!(millis(&starts_of(&together)), [0, 0]);
    }

    #[test]
    fn a_ramp_adds_instances_at_its_rate_until_the_function_stops() {
        let plan = plan("instances = 10\nstop = \"50ms\"\narrival = { kind = \"ramp\", per_second = 100.0 }");
        assert_eq!(millis(&starts_of(&plan)), [0, 10, 20, 30, 40]);
    }

    #[test]
    fn a_function_that_starts_when_it_has_to_stop_is_never_due() {
        let mut plan = plan("instances = 3\narrival = { kind = \"at_once\" }");
        plan.functions[0].start = plan.duration;
        assert_eq!(starts_of(&plan), []);
    }

    #[test]
    fn steady_arrivals_have_equal_distances_within_start_and_stop() {
        let plan = plan(
            "instances = 1\nstart = \"1s\"\nstop = \"2s\"\narrival = { kind = \"steady\", per_second = 1000.0 }",
        );
        let due = arrivals(&plan, 0);
        assert_eq!(due.len(), 1000);
        for (number, at) in due.iter().enumerate() {
            assert_eq!(at.as_micros(), 1_000_000 + number as u128 * 1000);
        }
    }

    #[test]
    fn poisson_arrivals_keep_their_rate_and_the_spread_of_independent_events() {
        let plan = plan("instances = 1\narrival = { kind = \"poisson\", per_second = 2000.0 }");
        let due = arrivals(&plan, 0);
        assert!(due.is_sorted() && due.iter().all(|at| *at < Duration::from_secs(10)));
        // 20000 expected, standard deviation 141: five of them.
        assert!((19_300..20_700).contains(&due.len()), "{}", due.len());
        // The gaps of a Poisson process have as much standard deviation as mean.
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((0.95..1.05).contains(&(variance.sqrt() / mean)), "{variance} {mean}");
    }

    #[test]
    fn the_seed_and_the_functions_index_decide_what_is_due() {
        let function = "instances = 1\nname = \"g\"\nscript = [\"select 1\"]\narrival = { kind = \"poisson\", per_second = 50.0 }";
        let text =
            format!("title = \"t\"\nduration = \"10s\"\n[[function]]\n{function}\n[[function]]\n{function}");
        let mut plan = Plan::parse("t", &text.replacen("\"g\"", "\"f\"", 1), Path::new(".")).unwrap();
        assert_eq!(arrivals(&plan, 0), arrivals(&plan, 0));
        assert_ne!(arrivals(&plan, 0), arrivals(&plan, 1));
        let before = arrivals(&plan, 0);
        let second = arrivals(&plan, 1);
        plan.seed += 1;
        assert_ne!(arrivals(&plan, 0), before);
        assert_ne!(arrivals(&plan, 0), second, "one seed's function is not the next one's neighbour");
    }

    #[test]
    fn recordings_are_replayed_from_the_functions_start() {
        let mut plan =
            plan("instances = 1\nstart = \"1s\"\narrival = { kind = \"steady\", per_second = 1.0 }");
        let due = [0.25, 0.5, 8.9, 9.0].map(|seconds| Span::from(Duration::from_secs_f64(seconds))).to_vec();
        plan.functions[0].arrival = Arrival::Trace { file: String::new(), speed: 1.0, due };
        assert_eq!(millis(&arrivals(&plan, 0)), [1250, 1500, 9900]);
    }
}
