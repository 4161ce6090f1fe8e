//! Who is compared, and how each is set up: in words for the page, and as something that can be started.

use clap::ValueEnum;
use loadtest::poolers::{Pooler, PoolerError, pgbouncer};
use loadtest::report::TargetInfo;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

/// The name by which the page knows which target is ours.
pub const PGCORRAL: &str = "pgcorral";

/// Who can take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// PostgreSQL itself
    Direct,
    /// PgBouncer as it is shipped
    Pgbouncer,
    /// PgBouncer, set up against stampedes
    PgbouncerTuned,
    /// pgcorral with its defaults
    Pgcorral,
}

/// One who takes part.
#[derive(Debug, Clone)]
pub struct Contestant {
    /// As reports show it.
    pub info: TargetInfo,
    /// What is started for it; `None` for PostgreSQL itself.
    pub pooler: Option<Pooler>,
}

impl Contestant {
    /// Finds its program and asks it for its version.
    ///
    /// # Errors
    /// The machine does not have it.
    pub fn new(kind: Kind, pgcorral: &Path, pool_size: u32) -> Result<Self, PoolerError> {
        let pooler = match kind {
            Kind::Direct => None,
            Kind::Pgbouncer => Some(Pooler::pgbouncer("PgBouncer", &pgbouncer::DEFAULT)?),
            Kind::PgbouncerTuned => Some(Pooler::pgbouncer("PgBouncer tuned", &pgbouncer::TUNED)?),
            Kind::Pgcorral if !pgcorral.exists() => {
                return Err(PoolerError::NotInstalled { program: "pgcorral (`make build` makes it)" });
            }
            Kind::Pgcorral => Some(Pooler::pgcorral(PGCORRAL, pgcorral)),
        };
        let name = pooler.as_ref().map_or("direct", |pooler| &pooler.name).to_owned();
        let mut version = pooler.as_ref().map_or(String::new(), Pooler::version);
        if kind == Kind::Pgcorral {
            version.push_str(&commit(pgcorral).map_or(String::new(), |commit| format!(" {commit}")));
        }
        let about = about(kind, &version, pool_size);
        Ok(Self { info: TargetInfo { name, baseline: kind == Kind::Direct, about }, pooler })
    }
}

/// Version and settings.
fn about(kind: Kind, version: &str, pool_size: u32) -> String {
    let pool = format!("transaction pooling, pool of {pool_size}");
    match kind {
        Kind::Direct => "no pooler; every client has a backend, or is refused".to_owned(),
        Kind::Pgbouncer => format!(
            "{version}; {pool}{}, everything else as it is shipped: a client waits for up to 120 s",
            settings(&pgbouncer::DEFAULT)
        ),
        Kind::PgbouncerTuned => format!("{version}; {pool}{}", settings(&pgbouncer::TUNED)),
        Kind::Pgcorral => {
            format!("{version}; {pool}, everything else at its default: a client waits for up to 1.5 s")
        }
    }
}

fn settings(settings: &[(&str, &str)]) -> String {
    settings.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = write!(text, ", `{key} = {value}`");
        text
    })
}

/// Of what commit the program is, as far as the working copy that this runs in can tell: `at commit d1a6638`. The program
/// may be older than the last commit, and then that is not what was measured.
fn commit(program: &Path) -> Option<String> {
    let built = fs::metadata(program).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let last = git(&["rev-parse", "--short", "HEAD"])?;
    let before = format!("--before={built}");
    let newest = git(&["rev-list", "--first-parent", "--abbrev-commit", "--max-count=1", &before, "HEAD"])?;
    if newest.is_empty() {
        return Some(format!("built before commit {last}"));
    }
    if newest != last {
        return Some(format!("built after commit {newest} and before {last}"));
    }
    // What a comparison writes is no change of what was compared.
    let changes = git(&["status", "--porcelain", "--untracked-files=no", "--", ":!docs"])?;
    let changes = if changes.is_empty() { "" } else { " with changes" };
    Some(format!("at commit {last}{changes}"))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadtest::scratch::Scratch;
    use std::time::Duration;

    #[test]
    fn what_is_set_is_said() {
        let tuned = about(Kind::PgbouncerTuned, "PgBouncer 1.18.0", 20);
        for said in ["PgBouncer 1.18.0", "pool of 20", "`query_wait_timeout = 3`", "`listen_backlog = 4096`"]
        {
            assert!(tuned.contains(said), "{tuned}");
        }
    }

    #[test]
    fn a_program_older_than_the_last_commit_is_not_said_to_be_of_it() {
        let place = Scratch::create(None).unwrap();
        let program = place.path().join("old");
        let file = fs::File::create(&program).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
        // Where there is no working copy, nothing is said.
        let said = commit(&program).unwrap_or_default();
        assert!(said.is_empty() || said.starts_with("built before commit "), "{said}");
    }

    #[test]
    fn only_postgresql_itself_is_a_baseline() {
        let direct = Contestant::new(Kind::Direct, Path::new("/nowhere"), 20).unwrap();
        assert!(direct.info.baseline && direct.pooler.is_none());
        let error = Contestant::new(Kind::Pgcorral, Path::new("/nowhere"), 20).unwrap_err();
        assert!(error.to_string().contains("make build"), "{error}");
        let pgcorral = Contestant::new(Kind::Pgcorral, Path::new("/bin/true"), 20).unwrap();
        assert_eq!((pgcorral.info.name.as_str(), pgcorral.info.baseline), (PGCORRAL, false));
    }
}
