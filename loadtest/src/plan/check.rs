//! From a plan's text to a plan that can be run.

use super::{Arrival, Plan, Span};
use std::fmt;
use std::path::Path;
use std::time::Duration;

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
        let mut faults = plan.share_instances();
        faults.extend(plan.read_traces(directory));
        faults.extend(plan.faults());
        if faults.is_empty() { Ok(plan) } else { Err(PlanError::Meaning(faults)) }
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
    if due.is_empty() { Err("nothing ever arrives".to_owned()) } else { Ok(due) }
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
    fn a_plan_survives_being_handed_to_another_process() {
        let plan = Plan::parse("small", SMALL, Path::new(".")).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place() {
        let faults = faults_of(&SMALL.replace("weight = 3", "wait = 3"));
        assert!(faults.contains("line 7") && faults.contains("wait"), "{faults}");
    }

    #[test]
    fn recordings_are_replayed_in_order_and_at_their_speed() {
        let due = trace("# seconds\n0.5\n\n0.25 # early\n1\n", 0.5).unwrap();
        assert_eq!(due.iter().map(|at| at.micros()).collect::<Vec<_>>(), [500_000, 1_000_000, 2_000_000]);
        assert!(trace("0.5\nsoon\n", 1.0).unwrap_err().contains("line 2"));
        assert!(trace("# nothing\n", 1.0).unwrap_err().contains("nothing ever arrives"));
    }
}
