//! What was measured, and how it is shown.

use super::cases::Case;
use crate::machine;
use crate::table::Table;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One case in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Attempts that were answered: one for each invocation, where none is refused.
    pub attempts: u64,
    /// From the first to the last.
    pub wall: Duration,
    /// CPU of the generator, user and system.
    pub cpu: Duration,
}

/// Everything that was measured. This is what `--json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Of the generator.
    pub version: String,
    /// What it was measured on.
    pub machine: String,
    /// Debug assertions are on: the figures are those of a generator that is several times slower.
    pub debug_build: bool,
    /// How often each case was measured.
    pub rounds: u32,
    /// How long those went that go as fast as they can.
    pub seconds: f64,
    /// In the order of the cases.
    pub figures: Vec<Figure>,
}

/// One case, over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The case.
    pub name: String,
    /// `trust` or `scram`.
    pub login: String,
    /// `simple`, `extended` or `prepared`.
    pub protocol: String,
    /// Attempts of all rounds that were answered: one for each invocation, where none is refused.
    pub attempts: u64,
    /// Attempts per second of wall time, the fastest round: what this machine managed, the stub included.
    pub per_second: f64,
    /// Microseconds of the generator's CPU per attempt, each round's, ascending.
    pub cpu_us: Vec<f64>,
    /// What the shipped plans ask for; `None` where it went as fast as it goes.
    pub asked_per_second: Option<f64>,
}

impl Figure {
    /// The median round's microseconds per attempt (the better of the two in the middle).
    #[must_use]
    pub fn median_cpu_us(&self) -> f64 {
        self.cpu_us.get(self.cpu_us.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
    }

    /// The least of all rounds: a machine that is busy otherwise only ever adds to it.
    #[must_use]
    pub fn least_cpu_us(&self) -> f64 {
        self.cpu_us.first().copied().unwrap_or(f64::NAN)
    }

    /// How many attempts per second one core would manage if it did nothing else.
    #[must_use]
    pub fn per_second_and_core(&self) -> f64 {
        1e6 / self.median_cpu_us()
    }

    /// The share of one core that the asked rate needs: by the median round, and by the least.
    #[must_use]
    pub fn shares_of_core(&self) -> Option<(f64, f64)> {
        let share = |cpu_us| self.asked_per_second.map(|asked| asked * cpu_us / 1e6);
        Some((share(self.median_cpu_us())?, share(self.least_cpu_us())?))
    }
}

impl Calibration {
    /// Without figures.
    #[must_use]
    pub fn new(rounds: u32, lasting: Duration) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: machine::describe(),
            debug_build: cfg!(debug_assertions),
            rounds,
            seconds: lasting.as_secs_f64(),
            figures: Vec::new(),
        }
    }

    /// One more round of a case.
    pub fn add(&mut self, case: &Case, measured: Measured) {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 attempts")]
        let attempts = measured.attempts as f64;
        let figure = self.figure_of(case);
        figure.attempts += measured.attempts;
        figure.per_second = figure.per_second.max(attempts / measured.wall.as_secs_f64().max(1e-6));
        figure.cpu_us.push(measured.cpu.as_secs_f64() * 1e6 / attempts.max(1.0));
        figure.cpu_us.sort_by(f64::total_cmp);
    }

    fn figure_of(&mut self, case: &Case) -> &mut Figure {
        let is_of = |figure: &Figure| figure.name == case.name && figure.protocol == case.protocol_name();
        let index = self.figures.iter().position(is_of).unwrap_or_else(|| {
            self.figures.push(Figure {
                name: case.name.to_owned(),
                login: case.login.name().to_owned(),
                protocol: case.protocol_name().to_owned(),
                attempts: 0,
                per_second: 0.0,
                cpu_us: Vec::new(),
                asked_per_second: case.asked(),
            });
            self.figures.len() - 1
        });
        &mut self.figures[index]
    }

    /// For a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let rounds = if self.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds", self.rounds) };
        let mut text = format!(
            "How fast the load generator is, version {}, on {}:\n\
             invocations per second and core of its own CPU time, against a stub that answers at once in a process\n\
             of its own. Medians of {rounds}, without TLS.\n\n{}\n",
            self.version,
            self.machine,
            self.speeds().to_text(),
        );
        text.push_str(&format!(
            "What the rates of the shipped plans cost (refused: attempts, of which each invocation makes three):\n\n{}",
            self.shares().to_text()
        ));
        if self.debug_build {
            text.push_str("\nThis is a debug build: a release build is several times faster.\n");
        }
        text
    }

    fn speeds(&self) -> Table {
        let mut table = Table::new([
            "as fast as it goes",
            "protocol",
            "per s and core",
            "µs CPU",
            "spread",
            "per s here",
        ]);
        for figure in self.figures.iter().filter(|figure| figure.asked_per_second.is_none()) {
            let most = figure.cpu_us.last().copied().unwrap_or(f64::NAN);
            table.row([
                figure.name.clone(),
                figure.protocol.clone(),
                format!("{:.0}", figure.per_second_and_core()),
                format!("{:.1}", figure.median_cpu_us()),
                format!("{:.1}–{most:.1}", figure.least_cpu_us()),
                format!("{:.0}", figure.per_second),
            ]);
        }
        table
    }

    fn shares(&self) -> Table {
        let mut table = Table::new(["", "asked per s", "µs CPU", "share of a core"]);
        for figure in &self.figures {
            let (Some(asked), Some((share, _))) = (figure.asked_per_second, figure.shares_of_core()) else {
                continue;
            };
            table.row([
                figure.name.clone(),
                format!("{asked:.0}"),
                format!("{:.1}", figure.median_cpu_us()),
                format!("{:.1} %", share * 100.0),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::*;

    fn measured(attempts: u64, cpu_ms: u64) -> Measured {
        Measured { attempts, wall: Duration::from_secs(1), cpu: Duration::from_millis(cpu_ms) }
    }

    #[test]
    fn the_median_is_shown_and_the_least_is_kept() {
        let case = CASES.iter().find(|case| case.asked().is_some()).unwrap();
        let mut calibration = Calibration::new(3, Duration::from_secs(1));
        for cpu_ms in [300, 100, 200] {
            calibration.add(case, measured(1000, cpu_ms));
        }
        let figure = &calibration.figures[0];
        assert_eq!((figure.attempts, figure.cpu_us.as_slice()), (3000, &[100.0, 200.0, 300.0][..]));
        assert!((figure.per_second_and_core() - 5000.0).abs() < 1e-6);
        let (median, least) = figure.shares_of_core().unwrap();
        assert!((median - 0.2).abs() < 1e-9 && (least - 0.1).abs() < 1e-9, "{median} {least}");
        assert!(calibration.to_text().contains("20.0 %"), "{}", calibration.to_text());
    }

    #[test]
    fn every_case_has_a_figure_of_its_own_and_json_keeps_it() {
        let mut calibration = Calibration::new(1, Duration::from_secs(1));
        for case in &CASES {
            calibration.add(case, measured(1000, 100));
        }
        assert_eq!(calibration.figures.len(), CASES.len());
        let json = serde_json::to_string(&calibration).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&json).unwrap(), calibration);
    }
}
