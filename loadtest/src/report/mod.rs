//! What a run showed: figures, verdicts, a table for the terminal, JSON to keep, and one HTML page.
//!
//! Everything is computed from the legs that [`Run`] holds, so that a report can be made again from its JSON.
//! Latency counts from the intended start everywhere.

mod causes;
mod generator;
mod html;
pub mod json;
mod judge;
mod notes;
mod plots;
mod rounds;
mod rows;
mod series;
mod standalone;
mod summary;
mod svg;
#[cfg(test)]
mod synthetic;
mod table;
pub mod units;

pub use causes::{Cause, Counted, counted};
pub use generator::Saturation;
pub use html::to_html;
pub use judge::{Ruling, Verdict, judge, measured};
pub use notes::notes;
pub use rounds::{Rounds, Spread};
pub use series::Series;
pub use standalone::{Picture, pictures};
pub use summary::{Figures, Summary};
pub use table::{summary_table, to_table};

use crate::leg::Leg;
use crate::plan::Plan;
use serde::{Deserialize, Serialize};

/// One plan, run against one or several targets, once or in several rounds. This is what the JSON report holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What was fired.
    pub plan: Plan,
    /// What it was fired at, in the order of the report's columns.
    pub targets: Vec<TargetInfo>,
    /// Everything that was recorded, in the order in which it happened.
    #[serde(with = "json::legs")]
    pub legs: Vec<Leg>,
    /// Somebody was to ask PostgreSQL itself (`--observe`). Absent in files of before: ask [`Run::is_observed`].
    #[serde(default)]
    pub observed: bool,
    /// The machine that the generator ran on, for people.
    pub machine: String,
    /// When the first leg began: milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// The generator's own version.
    pub version: String,
}

/// A target, as reports show it. There is no DSN in it: reports are published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetInfo {
    /// Its column's heading.
    pub name: String,
    /// It is there to be compared with; the plan's assertions are not judged.
    pub baseline: bool,
    /// Its version or how it is set up; may be empty.
    pub about: String,
}

impl Run {
    /// How many rounds there are of the target that has most.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.targets.iter().map(|target| self.legs_of(&target.name).count()).max().unwrap_or(0)
    }

    /// Somebody was to ask PostgreSQL itself, or evidently did: what could not be counted there is a fault then.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        let did = |leg: &Leg| !leg.backends.is_empty() || leg.sessions.is_some();
        self.observed || self.legs.iter().any(did)
    }

    /// One target's legs, one per round.
    pub fn legs_of(&self, target: &str) -> impl Iterator<Item = &Leg> {
        self.legs.iter().filter(move |leg| leg.target == target)
    }

    /// When it began, for people: `2026-03-01 12:00:00 UTC`.
    #[must_use]
    pub fn started(&self) -> String {
        let since = std::time::Duration::from_millis(self.started_unix_ms);
        match std::time::UNIX_EPOCH.checked_add(since) {
            // humantime panics after the year 9999.
            Some(at) if self.started_unix_ms < 253_402_300_800_000 => {
                let text = humantime::format_rfc3339_seconds(at).to_string();
                text.replace('T', " ").replace('Z', " UTC")
            }
            _ => format!("{} ms after 1970", self.started_unix_ms),
        }
    }
}
