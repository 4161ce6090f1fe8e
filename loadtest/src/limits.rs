//! Limits of the operating system that a load generator runs into.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;

/// The process may not open as many files (sockets count) as the load needs.
#[derive(Debug, PartialEq, Eq)]
pub struct TooFewFiles {
    /// What the load needs.
    pub needed: u64,
    /// What the hard limit allows.
    pub allowed: u64,
}

impl fmt::Display for TooFewFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, allowed } = self;
        write!(
            f,
            "{needed} open files are needed and {allowed} allowed; raise the hard limit (`ulimit -Hn {needed}`)"
        )
    }
}

impl std::error::Error for TooFewFiles {}

/// Raises the soft limit of open files to the hard limit.
///
/// # Errors
/// The hard limit is below `needed`.
pub fn raise_open_files(needed: u64) -> Result<(), TooFewFiles> {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let usable = if raised.is_ok() { limit.maximum } else { limit.current };
    // No value means no limit.
    match usable {
        Some(allowed) if allowed < needed => Err(TooFewFiles { needed, allowed }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_need_is_told_and_a_small_one_met() {
        assert_eq!(raise_open_files(16), Ok(()));
        if getrlimit(Resource::Nofile).maximum.is_some() {
            let error = raise_open_files(u64::MAX).unwrap_err();
            assert_eq!(error.needed, u64::MAX);
        }
    }
}
