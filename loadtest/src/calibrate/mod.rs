//! `loadtest calibrate`: how fast the generator itself is, so that nobody takes its limits for those of a proxy.
//!
//! The engine fires [`cases`], which are plans like any others, at a [`stub`] that answers at once and runs in a process
//! of its own; what counts is the CPU time of this process. That is the whole engine: arrivals, the client, records.
//! CPU time, unlike throughput, hardly depends on what else the machine does, nor on how fast the stub is.
//!
//! Logins are without TLS, and after the first one of a case the client has the password's salted key at hand, as
//! it has in every run. A generator that is busy reads several replies at a time, which is cheaper than one at a time:
//! at low rates an invocation costs somewhat more, which is why the shipped plans' rates are cases of their own.

pub mod cases;
mod child;
pub mod figure;
pub mod stub;

use crate::client::Target;
use crate::leg::{Leg, Outcome};
use crate::run::{LegOptions, RunError, run_leg};
use cases::{CASES, Case};
use child::StubProcess;
use figure::{Calibration, Measured};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How thoroughly it is measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `loadtest`, whose hidden subcommand is the stub.
    pub program: PathBuf,
    /// Every case is measured once in each; at least one.
    pub rounds: u32,
    /// How long the cases go that go as fast as they can.
    pub lasting: Duration,
}

/// Why it could not be measured.
#[derive(Debug)]
pub enum CalibrateError {
    /// The stub's process did not start.
    Stub(io::Error),
    /// A leg could not be run.
    Leg(RunError),
    /// The stub did not serve (or refuse) everybody, so that the figures would be of something else.
    NotServed {
        /// The case.
        case: &'static str,
        /// How many were not.
        invocations: usize,
        /// Why, for the first.
        reason: String,
    },
    /// A case is no plan: `lasting` is zero.
    Plan(String),
}

impl fmt::Display for CalibrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stub(error) => write!(f, "cannot start the stub server: {error}"),
            Self::Leg(error) => error.fmt(f),
            Self::NotServed { case, invocations, reason } => {
                write!(
                    f,
                    "{case}: the stub server did not answer {invocations} invocations as it should: {reason}"
                )
            }
            Self::Plan(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for CalibrateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stub(error) => Some(error),
            Self::Leg(error) => Some(error),
            Self::NotServed { .. } | Self::Plan(_) => None,
        }
    }
}

/// Measures every case. Nothing else may be done in this process meanwhile: its CPU would count. `told` hears what is
/// measured next.
///
/// # Errors
/// See [`CalibrateError`].
///
/// Cancel safety: dropped midway, the stub's process ends.
pub async fn measure(options: &Options, mut told: impl FnMut(&str)) -> Result<Calibration, CalibrateError> {
    let mut calibration = Calibration::new(options.rounds.max(1), options.lasting);
    for round in 0..options.rounds.max(1) {
        for case in &CASES {
            told(&format!(
                "round {} of {}: {}, {}",
                round + 1,
                options.rounds,
                case.name,
                case.protocol_name()
            ));
            let measured = Box::pin(measure_one(options, round, case)).await?;
            calibration.add(case, measured);
        }
    }
    Ok(calibration)
}

/// With a stub just started: ports that a case before has left behind are not in the way.
async fn measure_one(options: &Options, round: u32, case: &Case) -> Result<Measured, CalibrateError> {
    let plan = case.plan(options.lasting).map_err(|error| CalibrateError::Plan(error.to_string()))?;
    let stub = StubProcess::start(&options.program, case.login).await.map_err(CalibrateError::Stub)?;
    let target =
        Target::parse("stub", &stub.dsn()).map_err(|error| CalibrateError::Leg(RunError::Target(error)))?;
    let leg_options = LegOptions { round, ..LegOptions::new(target) };
    let before = cpu();
    let leg = run_leg(&Arc::new(plan), &leg_options, |_| (), pending()).await.map_err(CalibrateError::Leg)?;
    let used = cpu().saturating_sub(before);
    let attempts = attempts(case, &leg)?;
    Ok(Measured { attempts, wall: Duration::from_micros(leg.wall_us), cpu: used })
}

/// Those of invocations that the leg's end cut off are neither here nor there.
fn attempts(case: &Case, leg: &Leg) -> Result<u64, CalibrateError> {
    let (mut attempts, mut not_served) = (0, 0);
    for invocation in &leg.invocations {
        match invocation.outcome {
            outcome if outcome == case.outcome() => attempts += u64::from(invocation.attempts),
            Outcome::Unfinished => {}
            _ => not_served += 1,
        }
    }
    if not_served > 0 || attempts == 0 {
        let reason = leg.failures.first().map(|failure| failure.reason.clone()).unwrap_or_default();
        return Err(CalibrateError::NotServed { case: case.name, invocations: not_served, reason });
    }
    Ok(attempts)
}

/// What this process has used until now, user and system, all threads.
fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(used.tv_nsec).unwrap_or(0))
}
