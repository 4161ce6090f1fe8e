//! Runs one leg: one plan, once, against one target.
//!
//! [`run_leg`] checks what can be checked before anything is started, prepares the target, and fires: [`arrival`] says
//! when, [`crowd`] spawns an [`instance`] per place as a task, [`mod@line`] hands open arrivals out, [`stage`] is what they
//! share, `gather` puts together what they record. With several processes, `processes` does that in each of them.
//!
//! Never more connections than the plan has instances: an instance has one at most, and closes it before it opens the
//! next. The one exception is a CancelRequest (`on_timeout = "cancel"`), which PostgreSQL's protocol wants on a
//! connection of its own: one per instance at most, closed within a second.

pub mod arrival;
pub mod backoff;
pub mod body;
pub mod crowd;
pub mod draw;
mod early;
mod gather;
mod hooks;
pub mod instance;
mod leg;
pub mod line;
mod processes;
pub mod script;
pub mod stage;
pub mod usage;
pub mod wire;

pub use hooks::Hooks;
pub use leg::{LegOptions, run_leg};
pub use processes::{Worker, worker_main};

use crate::client::{Failure, TargetError};
use crate::functions::StartError;
use crate::limits::TooFewFiles;
use crate::observe::ObserveError;
use std::fmt;
use std::time::Duration;

/// How far a leg is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Since the leg's start.
    pub elapsed: Duration,
    /// Invocations under way, those that wait for an instance included.
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// Invocations that were served.
    pub served: u64,
    /// Invocations that the target refused at last.
    pub shed: u64,
    /// Invocations that failed in another way, timeouts excepted.
    pub failed: u64,
    /// Invocations whose last attempt ran into the client's timeout.
    pub timeouts: u64,
    /// Of what was served in the last five seconds, from the intended start; `None` if nothing was.
    pub p99: Option<Duration>,
    /// What the generator's own timers lag behind.
    pub lag: Duration,
}

/// Why a leg could not be run.
#[derive(Debug)]
pub enum RunError {
    /// The plan has an event for which no hook was given.
    NoHook {
        /// Its name.
        hook: String,
    },
    /// The plan has an event after its own end.
    LateEvent {
        /// Its hook's name.
        hook: String,
    },
    /// The plan has a function with a role of its own, and nobody told its password.
    NoPassword {
        /// The role.
        role: String,
    },
    /// The system does not allow as many sockets.
    Files(TooFewFiles),
    /// A function that is a process cannot be started.
    Functions(StartError),
    /// The target's hosts cannot be used.
    Target(TargetError),
    /// A statement of the plan's `setup` failed.
    Setup {
        /// The statement, or empty if there was no connection.
        statement: String,
        /// What happened.
        failure: Failure,
    },
    /// PostgreSQL cannot be observed.
    Observe(ObserveError),
    /// A hook failed while the leg ran.
    Hook {
        /// Its name.
        hook: String,
        /// What happened.
        why: String,
    },
    /// One of the generator's own processes could not be started, or ended before its time.
    Worker {
        /// What happened.
        why: String,
    },
    /// The generator itself has a bug.
    Panicked {
        /// What it said.
        why: String,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHook { hook } => {
                write!(f, "the plan has an event \"{hook}\"; say what it is with --hook {hook}=COMMAND")
            }
            Self::LateEvent { hook } => write!(f, "the plan's event \"{hook}\" is after the leg's end"),
            Self::NoPassword { role } => {
                write!(
                    f,
                    "the plan has functions of role \"{role}\"; give its password with --user {role}=PASSWORD"
                )
            }
            Self::Files(error) => error.fmt(f),
            Self::Functions(error) => error.fmt(f),
            Self::Target(error) => error.fmt(f),
            Self::Setup { statement, failure } if statement.is_empty() => {
                write!(f, "no connection for the plan's set-up: {failure}")
            }
            Self::Setup { statement, failure } => write!(f, "set-up failed: {failure}, in: {statement}"),
            Self::Observe(error) => error.fmt(f),
            Self::Hook { hook, why } => write!(f, "hook \"{hook}\" failed: {why}"),
            Self::Worker { why } => write!(f, "a process of the load generator failed: {why}"),
            Self::Panicked { why } => write!(f, "the load generator has a bug: {why}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Files(error) => Some(error),
            Self::Functions(error) => Some(error),
            Self::Target(error) => Some(error),
            Self::Setup { failure, .. } => Some(failure),
            Self::Observe(error) => Some(error),
            Self::NoHook { .. }
            | Self::LateEvent { .. }
            | Self::NoPassword { .. }
            | Self::Hook { .. }
            | Self::Worker { .. }
            | Self::Panicked { .. } => None,
        }
    }
}
