//! The plans that the binary brings along, so that they are found by name anywhere, and those in a user's files. The
//! former are in `loadtest/plans/`; a plan of one's own begins as a copy of one.

use crate::plan::{Plan, PlanError};
use std::fmt;
use std::io;
use std::path::Path;

/// Name and text of each, in the order in which they are shown: first what everybody wants, then the experiments.
#[must_use]
pub fn built_in() -> &'static [(&'static str, &'static str)] {
    BUILT_IN
}

/// The plan that somebody asked for: by the name of a built-in one, or else by the path of a file (which ends in
/// `.toml` or has a `/`). Blocks while it reads.
///
/// # Errors
/// There is none, or it is wrong.
pub fn find(wanted: &str) -> Result<Plan, FindError> {
    let wrong = |fault| FindError::Wrong { plan: wanted.to_owned(), fault };
    if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == wanted) {
        return Plan::parse(name, text, Path::new(".")).map_err(wrong);
    }
    let path = Path::new(wanted);
    if !wanted.contains('/') && path.extension().is_none_or(|extension| extension != "toml") {
        return Err(FindError::Unknown { name: wanted.to_owned() });
    }
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| FindError::Unreadable { path: wanted.to_owned(), error })?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    Plan::parse(&name, &text, path.parent().unwrap_or(Path::new("."))).map_err(wrong)
}

/// Why there is no plan to run.
#[derive(Debug)]
pub enum FindError {
    /// None of that name is built in, and it does not look like a file.
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// As it was asked for.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// It is no plan, or contradicts itself.
    Wrong {
        /// As it was asked for.
        plan: String,
        /// What is wrong.
        fault: PlanError,
    },
}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => {
                let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                write!(f, "there is no plan {name:?}; there are {}, and files: ./my.toml", names.join(", "))
            }
            Self::Unreadable { path, error } => write!(f, "{path}: {error}"),
            Self::Wrong { plan, fault } => write!(f, "plan {plan}: {fault}"),
        }
    }
}

impl std::error::Error for FindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unknown { .. } => None,
            Self::Unreadable { error, .. } => Some(error),
            Self::Wrong { fault, .. } => Some(fault),
        }
    }
}

macro_rules! plans {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("../plans/", $name, ".toml")))),*]
    };
}

const BUILT_IN: &[(&str, &str)] = plans![
    "lambda-1000",
    "deploy-2x",
    "retry-storm",
    "frozen",
    "noisy-neighbour",
    "node-100",
    "soak",
    "e1",
    "e1b",
    "e1b-deaf",
    "e2",
    "e3",
    "e4",
    "e5",
    "e6",
    "e7",
    "e8",
    "e9",
];
