//! What is measured: plans like any others, fired by the engine as any others.

use super::stub::Login;
use crate::leg::Outcome;
use crate::plan::{Plan, PlanError, Protocol};
use std::path::Path;
use std::time::Duration;

/// Enough that the generator never waits for the stub's process, few enough that none waits for the generator long.
const CALLERS: u32 = 64;

/// One thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Case {
    /// What reports call it.
    pub name: &'static str,
    /// How its instances log in.
    pub login: Login,
    /// How they send statements.
    pub protocol: Protocol,
    /// What they do.
    pub load: Load,
}

/// What instances do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// As fast as it goes, a few callers, each invocation with a connection of its own.
    Cold,
    /// As fast as it goes, a few callers that keep their connections.
    Warm {
        /// The statements of an invocation.
        script: &'static [&'static str],
    },
    /// A thousand instances at once, each with one transaction on a connection of its own; asked for within a second.
    Burst,
    /// Two thousand callers in a closed loop that together ask for 400 invocations per second.
    Crowd,
    /// Two thousand callers that are all refused at once and try twice more: the surge of the plan `e1` at a target that
    /// serves nobody.
    Refused,
}

/// [`Load::Refused`]: three attempts in the second that callers think and the 150 ms that they wait between them, on
/// average.
const REFUSED_PER_SECOND: f64 = 2000.0 * 3.0 / 1.15;

const STATEMENT: &[&str] = &["select 1"];
const TRANSACTION: &[&str] = &["begin", "select 1", "select 1", "commit"];

/// Everything that is measured, in the order of the report.
pub const CASES: [Case; 12] = [
    case("cold, trust", Login::Trust, Protocol::Simple, Load::Cold),
    case("cold, SCRAM", Login::Scram, Protocol::Simple, Load::Cold),
    case("cold, SCRAM", Login::Scram, Protocol::Extended, Load::Cold),
    case("warm, 1 statement", Login::Scram, Protocol::Simple, Load::Warm { script: STATEMENT }),
    case("warm, 1 statement", Login::Scram, Protocol::Extended, Load::Warm { script: STATEMENT }),
    case("warm, 1 statement", Login::Scram, Protocol::Prepared, Load::Warm { script: STATEMENT }),
    case("warm, 4 statements", Login::Scram, Protocol::Simple, Load::Warm { script: TRANSACTION }),
    case("warm, 4 statements", Login::Scram, Protocol::Extended, Load::Warm { script: TRANSACTION }),
    case("warm, 4 statements", Login::Scram, Protocol::Prepared, Load::Warm { script: TRANSACTION }),
    case("1000 cold at once", Login::Scram, Protocol::Simple, Load::Burst),
    case("2000 callers", Login::Scram, Protocol::Simple, Load::Crowd),
    case("2000 callers, refused", Login::Scram, Protocol::Simple, Load::Refused),
];

const fn case(name: &'static str, login: Login, protocol: Protocol, load: Load) -> Case {
    Case { name, login, protocol, load }
}

impl Case {
    /// Attempts per second (invocations, where none is refused) that the shipped plans ask for in this way; `None`: as
    /// many as it goes.
    #[must_use]
    pub fn asked(&self) -> Option<f64> {
        match self.load {
            Load::Cold | Load::Warm { .. } => None,
            Load::Burst => Some(1000.0),
            Load::Crowd => Some(400.0),
            Load::Refused => Some(REFUSED_PER_SECOND),
        }
    }

    /// What becomes of its invocations.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.load == Load::Refused { Outcome::Shed } else { Outcome::Served }
    }

    /// The plan; `lasting` is for how long those go that go as fast as they can.
    ///
    /// # Errors
    /// The plan is wrong: a fault of this file, or a time of zero.
    pub fn plan(&self, lasting: Duration) -> Result<Plan, PlanError> {
        let (lasting, function) = match self.load {
            Load::Cold => (lasting, closed(CALLERS, Some(1), STATEMENT)),
            Load::Warm { script } => (lasting, closed(CALLERS, None, script)),
            Load::Burst => (Duration::from_secs(1), burst()),
            Load::Crowd => (Duration::from_secs(6), crowd()),
            Load::Refused => (Duration::from_secs(6), refused()),
        };
        let text = format!(
            "title = {:?}\nduration = \"{}\"\n[[function]]\nname = \"calibrate\"\nprotocol = \"{}\"\n{function}",
            self.name,
            humantime::format_duration(lasting),
            self.protocol_name(),
        );
        Plan::parse("calibrate", &text, Path::new("."))
    }

    /// As plans call it.
    #[must_use]
    pub fn protocol_name(&self) -> &'static str {
        match self.protocol {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
            Protocol::Prepared => "prepared",
        }
    }
}

fn closed(instances: u32, invocations: Option<u32>, script: &[&str]) -> String {
    let invocations = invocations.map(|number| format!("invocations = {number}\n")).unwrap_or_default();
    format!("instances = {instances}\narrival = {{ kind = \"closed\" }}\n{invocations}script = {script:?}\n")
}

fn burst() -> String {
    format!(
        "instances = 1000\narrival = {{ kind = \"at_once\" }}\ninvocations = 1\nscript = {TRANSACTION:?}\n"
    )
}

/// Each of them every five seconds, and they begin one after the other.
fn crowd() -> String {
    let arrival = "arrival = { kind = \"closed\", within = \"5s\" }\nthink = \"5s\"";
    format!("instances = 2000\n{arrival}\nscript = {STATEMENT:?}\n")
}

/// The callers of `e1`, with its timeout, its retries and its pauses.
fn refused() -> String {
    let arrival = "arrival = { kind = \"closed\", within = \"1s\" }\nthink = { mean = \"1s\" }";
    format!("instances = 2000\n{arrival}\ntimeout = \"3s\"\nretries = 2\nscript = [\"refuse\"]\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_a_plan_that_can_be_run() {
        for case in CASES {
            let plan = case.plan(Duration::from_millis(1500)).unwrap();
            assert_eq!(plan.functions[0].protocol, case.protocol);
        }
    }

    /// Else "the rates of the shipped plans" would be those of other plans.
    #[test]
    fn those_who_are_refused_behave_as_e1_has_it() {
        let e1 = crate::plans::find("e1").unwrap();
        let case = CASES.iter().find(|case| case.load == Load::Refused).unwrap();
        let own = &case.plan(Duration::from_secs(1)).unwrap().functions[0];
        assert_eq!(own.instances, e1.functions.iter().map(|function| function.instances).sum::<u32>());
        for function in &e1.functions {
            assert_eq!(
                (own.think, own.timeout, own.retries),
                (function.think, function.timeout, function.retries)
            );
            assert_eq!(own.backoff, function.backoff);
        }
    }
}
