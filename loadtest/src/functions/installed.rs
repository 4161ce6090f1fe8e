//! Where the handlers are and what runs them: what `scripts/setup-functions.sh` makes ready.

use crate::plan::Runtime;
use std::env;
use std::path::{Path, PathBuf};

/// Names the directory of the functions, unless a flag does.
pub const DIRECTORY_VARIABLE: &str = "LOADTEST_FUNCTIONS";

/// Where the script puts them, below the repository.
const DEFAULT: &str = "target/functions";

/// The directory to look in: what was asked for, else `$LOADTEST_FUNCTIONS`, else `target/functions` in the current
/// directory or the nearest above it, else the same above this program. It need not exist.
pub fn directory(asked: Option<&Path>) -> PathBuf {
    asked
        .map(Path::to_owned)
        .or_else(|| env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from))
        .or_else(|| nearest(&env::current_dir().ok()?))
        .or_else(|| nearest(&env::current_exe().ok()?))
        .unwrap_or_else(|| PathBuf::from(DEFAULT))
}

fn nearest(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|above| above.join(DEFAULT)).find(|path| path.is_dir())
}

/// The program of a runtime and its arguments; or the file that is not there. `None`: it is not a process.
pub fn command(directory: &Path, runtime: Runtime) -> Option<Result<(PathBuf, Vec<PathBuf>), PathBuf>> {
    let (program, script) = match runtime {
        Runtime::Task => return None,
        Runtime::Python => (directory.join("python/venv/bin/python"), Some("python/bootstrap.py")),
        Runtime::Node => (PathBuf::from("node"), Some("node/bootstrap.mjs")),
        Runtime::Go => (directory.join("go/function"), None),
    };
    let arguments: Vec<_> = script.into_iter().map(|script| directory.join(script)).collect();
    // A name without a directory is looked for in PATH, when it is started.
    let missing =
        arguments.iter().chain([&program]).find(|path| path.components().count() > 1 && !path.exists());
    Some(match missing {
        Some(path) => Err(path.clone()),
        None => Ok((program, arguments)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_named() {
        let nowhere = Path::new("/nowhere/at/all");
        assert!(command(nowhere, Runtime::Task).is_none());
        assert_eq!(command(nowhere, Runtime::Node), Some(Err(nowhere.join("node/bootstrap.mjs"))));
        assert_eq!(command(nowhere, Runtime::Go), Some(Err(nowhere.join("go/function"))));
    }

    #[test]
    fn what_was_asked_for_comes_first() {
        assert_eq!(directory(Some(Path::new("/my/functions"))), Path::new("/my/functions"));
    }
}
