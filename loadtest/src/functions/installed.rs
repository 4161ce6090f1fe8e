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

/// What a runtime needs: its program, in the directory or, if it is a bare name, in PATH; what that is started with; and
/// what it looks for when it runs. `None`: it is not a process.
fn needs(runtime: Runtime) -> Option<(&'static str, Option<&'static str>, &'static [&'static str])> {
    match runtime {
        Runtime::Task => None,
        Runtime::Python => {
            Some(("python/venv/bin/python", Some("python/bootstrap.py"), &["python/handler.py"]))
        }
        Runtime::Node => {
            Some(("node", Some("node/bootstrap.mjs"), &["node/handler.mjs", "node/node_modules"]))
        }
        Runtime::Go => Some(("go/function", None, &[])),
    }
}

/// The program of a runtime and its arguments; or the file that is not there, without a directory if it is not in PATH.
/// `None`: it is not a process.
pub fn command(directory: &Path, runtime: Runtime) -> Option<Result<(PathBuf, Vec<PathBuf>), PathBuf>> {
    let (program, script, others) = needs(runtime)?;
    let look = || -> Result<_, PathBuf> {
        let arguments = script.iter().map(|file| find(directory, file)).collect::<Result<_, _>>()?;
        others.iter().try_for_each(|file| find(directory, file).map(|_| ()))?;
        Ok((find(directory, program)?, arguments))
    };
    Some(look())
}

fn find(directory: &Path, file: &str) -> Result<PathBuf, PathBuf> {
    if !file.contains('/') {
        return in_path(file).ok_or_else(|| PathBuf::from(file));
    }
    let path = directory.join(file);
    if path.exists() { Ok(path) } else { Err(path) }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.is_file())
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
        assert_eq!(in_path("no-such-program-anywhere"), None);
        assert!(in_path("sh").is_some());
    }

    /// Everything that it needs, one by one: each is missed as long as it is not there.
    #[test]
    fn nothing_that_a_runtime_needs_is_overlooked() {
        let directory = env::temp_dir().join(format!("loadtest-installed-{}", std::process::id()));
        for (runtime, files) in [
            (Runtime::Python, &["bootstrap.py", "handler.py", "venv/bin/python"][..]),
            (Runtime::Node, &["bootstrap.mjs", "handler.mjs", "node_modules/pg"]),
        ] {
            let own = directory.join(if runtime == Runtime::Python { "python" } else { "node" });
            for file in files {
                let missing = command(&directory, runtime).unwrap().unwrap_err();
                assert!(own.join(file).starts_with(&missing), "{missing:?} and not {file}");
                std::fs::create_dir_all(own.join(file).parent().unwrap()).unwrap();
                std::fs::write(own.join(file), "").unwrap();
            }
            let found = command(&directory, runtime).unwrap();
            // Whether this machine has Node.js is another matter.
            assert!(found.is_ok() || found == Err(PathBuf::from("node")), "{found:?}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_was_asked_for_comes_first() {
        assert_eq!(directory(Some(Path::new("/my/functions"))), Path::new("/my/functions"));
    }
}
