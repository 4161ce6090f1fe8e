//! From a plan's text to a plan that can be run.

use super::{Arrival, End, FreezeAt, Function, Plan, Runtime, Span};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// No leg lasts longer: a typing error must not keep a machine busy for a month.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// No plan has more instances: a port range has 65536.
const MOST_INSTANCES: u64 = 60_000;

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// It is not the TOML of a plan; with line and column.
    Syntax(String),
    /// It says things that do not go together; all of them.
    Meaning(Vec<String>),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => f.write_str(text.trim_end()),
            Self::Meaning(faults) => f.write_str(&faults.join("\n")),
        }
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// Reads a plan. `directory` is where the files that it names are.
    ///
    /// # Errors
    /// It is not TOML, not a plan, or contradicts itself.
    pub fn parse(name: &str, text: &str, directory: &Path) -> Result<Self, PlanError> {
        let mut plan: Self = toml::from_str(text).map_err(|error| PlanError::Syntax(error.to_string()))?;
        name.clone_into(&mut plan.name);
        plan.share_instances();
        let mut faults = plan.read_traces(directory);
        faults.extend(plan.faults());
        if faults.is_empty() { Ok(plan) } else { Err(PlanError::Meaning(faults)) }
    }

    /// The most connections that it may open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.functions.iter().map(|function| u64::from(function.instances)).sum()
    }

    /// The same plan with about so many instances in all, each function's share kept, and at least one each.
    #[must_use]
    pub fn with_instances(mut self, instances: u32) -> Self {
        let all = self.connections().max(1);
        for function in &mut self.functions {
            let share = u64::from(function.instances) * u64::from(instances) / all;
            function.instances = u32::try_from(share).unwrap_or(u32::MAX).max(1);
        }
        self
    }

    /// Functions without a number of their own get their weight's part of the plan's.
    fn share_instances(&mut self) {
        let Some(instances) = self.instances else { return };
        let sharers = || self.functions.iter().filter(|function| function.instances == 0);
        let weights: f64 = sharers().map(|function| function.weight).sum();
        for function in self.functions.iter_mut().filter(|function| function.instances == 0) {
            let share = (f64::from(instances) * function.weight / weights).round();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            let share = share as u32;
            function.instances = share.max(1);
        }
    }

    fn read_traces(&mut self, directory: &Path) -> Vec<String> {
        let mut faults = Vec::new();
        for function in &mut self.functions {
            if let Arrival::Trace { file, speed, due } = &mut function.arrival {
                let read = std::fs::read_to_string(directory.join(&*file)).map_err(|error| error.to_string());
                match read.and_then(|text| trace(&text, *speed)) {
                    Ok(read) => *due = read,
                    Err(fault) => faults.push(format!("trace {file}: {fault}")),
                }
            }
        }
        faults
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |is: bool, text: &str| {
            if is {
                faults.push(text.to_owned());
            }
        };
        fault(self.duration.duration().is_zero(), "`duration` is zero");
        fault(
            self.duration.duration() + self.grace.duration() > LONGEST,
            "the plan lasts longer than a week",
        );
        fault(self.functions.is_empty(), "there is no [[function]]");
        fault(self.connections() > MOST_INSTANCES, "more than 60000 instances");
        let mut names = HashSet::new();
        for function in &self.functions {
            let Function { name, .. } = function;
            fault(!names.insert(name), &format!("two functions are called {name:?}"));
            for text in function_faults(function) {
                fault(true, &format!("function {name:?}: {text}"));
            }
        }
        for phase in &self.phases {
            fault(phase.from >= phase.to, &format!("phase {:?} ends before it begins", phase.name));
        }
        let functions: Vec<_> = self.functions.iter().map(|function| &function.name).collect();
        let phases: Vec<_> = self.phases.iter().map(|phase| &phase.name).collect();
        for assertion in &self.assertions {
            let function = assertion.function.as_ref().is_some_and(|name| !functions.contains(&name));
            let phase = assertion.phase.as_ref().is_some_and(|name| !phases.contains(&name));
            fault(function, &format!("assertion \"{assertion}\": there is no such function"));
            fault(phase, &format!("assertion \"{assertion}\": there is no such phase"));
            let no_capacity = assertion.metric == super::Metric::OfCapacity && self.capacity.is_none();
            fault(no_capacity, &format!("assertion \"{assertion}\": the plan has no `capacity`"));
        }
        faults
    }
}

/// What needs a hand on the socket itself, which is the driver's in a process.
fn asks_for_a_socket(function: &Function) -> bool {
    let silent = |how: End| how == End::Silence;
    function.freeze.as_ref().is_some_and(|freeze| freeze.when != FreezeAt::Between)
        || function.abort.as_ref().is_some_and(|abort| silent(abort.how))
        || silent(function.end)
}

fn function_faults(function: &Function) -> Vec<&'static str> {
    let share_of = |share: f64| !(0.0..=1.0).contains(&share);
    let rate = match function.arrival {
        Arrival::Ramp { per_second } | Arrival::Poisson { per_second } | Arrival::Steady { per_second } => {
            per_second
        }
        Arrival::AtOnce {} | Arrival::Closed { .. } | Arrival::Trace { .. } => 1.0,
    };
    let shares = [
        function.freeze.as_ref().map(|freeze| freeze.share),
        function.abort.as_ref().map(|abort| abort.share),
    ];
    [
        (function.instances == 0, "no `instances`, neither its own nor the plan's"),
        (!function.weight.is_finite() || function.weight <= 0.0, "`weight` has to be above 0"),
        (function.script.is_empty(), "`script` is empty"),
        (function.timeout.duration().is_zero(), "`timeout` is zero"),
        (function.invocations == Some(0), "`invocations` is zero"),
        (!rate.is_finite() || rate <= 0.0, "`per_second` has to be above 0"),
        (shares.into_iter().flatten().any(share_of), "a `share` is from 0 to 1"),
        (
            function.backoff.factor < 1.0 || share_of(function.backoff.jitter),
            "`backoff`: factor from 1, jitter from 0 to 1",
        ),
        (function.stop.is_some_and(|stop| stop <= function.start), "it stops before it starts"),
        (
            function.runtime != Runtime::Task && asks_for_a_socket(function),
            "a process can be frozen only `between` invocations, and cannot end in `silence`",
        ),
    ]
    .into_iter()
    .filter_map(|(is, text)| is.then_some(text))
    .collect()
}

/// One arrival per line, ascending.
fn trace(text: &str, speed: f64) -> Result<Vec<Span>, String> {
    if !speed.is_finite() || speed <= 0.0 {
        return Err("`speed` has to be above 0".to_owned());
    }
    let mut due = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let seconds: Option<f64> = line.parse().ok();
        let at = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds / speed).ok());
        let at = at.ok_or_else(|| format!("line {}: {line:?} is no number of seconds", number + 1))?;
        due.push(Span::from(at));
    }
    due.sort_unstable();
    Ok(due)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        title = "small"
        duration = "3s"
        instances = 100
        [[function]]
        name = "api"
        weight = 3
        arrival = { kind = "at_once" }
        script = ["select 1"]
        [[function]]
        name = "batch"
        arrival = { kind = "closed", within = "1s" }
        script = ["select 2"]
        think = { min = "10ms", max = "20ms" }
    "#;

    fn faults_of(text: &str) -> String {
        Plan::parse("small", text, Path::new(".")).unwrap_err().to_string()
    }

    #[test]
    fn instances_are_shared_by_weight() {
        let plan = Plan::parse("small", SMALL, Path::new(".")).unwrap();
        let instances =
            |plan: &Plan| plan.functions.iter().map(|function| function.instances).collect::<Vec<_>>();
        assert_eq!(instances(&plan), [75, 25]);
        assert_eq!(plan.connections(), 100);
        assert_eq!(instances(&plan.with_instances(8)), [6, 2]);
    }

    #[test]
    fn a_plan_survives_being_handed_to_another_process() {
        let plan = Plan::parse("small", SMALL, Path::new(".")).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let text = SMALL.replace("duration = \"3s\"", "duration = \"0s\"").replace("\"batch\"", "\"api\"");
        let faults = faults_of(&(text + "[[phase]]\nname = \"late\"\nfrom = \"2s\"\nto = \"1s\"\n"));
        for told in ["`duration` is zero", "two functions are called \"api\"", "phase \"late\" ends before"] {
            assert!(faults.contains(told), "{told}: {faults}");
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place() {
        let faults = faults_of(&SMALL.replace("weight = 3", "wait = 3"));
        assert!(faults.contains("line 7") && faults.contains("wait"), "{faults}");
    }

    #[test]
    fn assertions_name_what_is_there() {
        let faults =
            faults_of(&format!("assert = [\"goodput{{web}} >= 1\", \"of_capacity@late >= 1\"]\n{SMALL}"));
        for told in ["no such function", "no such phase", "no `capacity`"] {
            assert!(faults.contains(told), "{told}: {faults}");
        }
    }

    #[test]
    fn recordings_are_replayed_in_order_and_at_their_speed() {
        let due = trace("# seconds\n0.5\n\n0.25 # early\n1\n", 0.5).unwrap();
        assert_eq!(due.iter().map(|at| at.micros()).collect::<Vec<_>>(), [500_000, 1_000_000, 2_000_000]);
        assert!(trace("0.5\nsoon\n", 1.0).unwrap_err().contains("line 2"));
    }
}
