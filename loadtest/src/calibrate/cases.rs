//! What is measured: plans like any others, fired by the engine as any others.

use super::stub::Login;
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
}

const STATEMENT: &[&str] = &["select 1"];
const TRANSACTION: &[&str] = &["begin", "select 1", "select 1", "commit"];

/// Everything that is measured, in the order of the report.
pub const CASES: [Case; 11] = [
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
];

const fn case(name: &'static str, login: Login, protocol: Protocol, load: Load) -> Case {
    Case { name, login, protocol, load }
}

impl Case {
    /// Invocations per second that the shipped plans ask for in this way; `None`: as many as it goes.
    #[must_use]
    pub fn asked(&self) -> Option<f64> {
        match self.load {
            Load::Cold | Load::Warm { .. } => None,
            Load::Burst => Some(1000.0),
            Load::Crowd => Some(400.0),
        }
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
}
