//! Where the programs of a PostgreSQL installation are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Names the directory of `postgres` and `initdb`, before every other place.
pub const DIRECTORY_VARIABLE: &str = "PGCORRAL_PG_BIN";

/// Where Debian and Ubuntu keep their versions, outside PATH.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// The directory of a PostgreSQL *server* installation: the first of `$PGCORRAL_PG_BIN`, PATH, the newest version in
/// `/usr/lib/postgresql`, and `pg_config --bindir` that has both `initdb` and `postgres`.
#[must_use]
pub fn find_server() -> Option<PathBuf> {
    if let Some(directory) = env::var_os(DIRECTORY_VARIABLE) {
        return Some(PathBuf::from(directory)).filter(|directory| has_server(directory));
    }
    path_directories()
        .into_iter()
        .chain(debian_directories(Path::new(DEBIAN_VERSIONS)))
        .chain(pg_config_directory())
        .find(|directory| has_server(directory))
}

/// One program of the installation in `directory`, or of the PATH (clients are often packed apart from the server).
#[must_use]
pub fn find_program(directory: &Path, name: &str) -> Option<PathBuf> {
    std::iter::once(directory.to_owned())
        .chain(path_directories())
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

fn has_server(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| directory.join(name).is_file())
}

fn path_directories() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

/// The `bin` directories under `versions`, newest major version first.
fn debian_directories(versions: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(versions)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, directory)| directory).collect()
}

fn pg_config_directory() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_by_number_not_by_text() {
        let versions = env::temp_dir().join(format!("pgcorral-versions-{}", std::process::id()));
        for name in ["9", "17", "15", "not-a-version"] {
            fs::create_dir_all(versions.join(name)).unwrap();
        }
        let found = debian_directories(&versions);
        fs::remove_dir_all(&versions).unwrap();
        assert_eq!(found, ["17", "15", "9"].map(|name| versions.join(name).join("bin")));
    }
}
