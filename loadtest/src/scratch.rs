//! A directory for one throw-away server that goes away with its owner, however the owner ends.
//!
//! Three things remove it, each for the case that the one before cannot see: `Drop`; a *janitor*, a shell that waits
//! on a pipe whose other end only the owner holds, so that the kernel wakes it when the owner is killed; and the next
//! owner, which removes directories of owners that are gone (the machine was reset). None of them touches a directory
//! of a living owner.

use crate::account::Account;
use rustix::process::{Pid, test_kill_process};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io};

/// How every such directory's name begins; the owner's process id follows.
const PREFIX: &str = "pgcorral-run-";

/// A unix socket's path has at most 107 bytes (`sockaddr_un`); `/.s.PGSQL.NNNNN` takes 16 of them.
const LONGEST_DIRECTORY: usize = 107 - 16;

/// A server that does not name the directory in its arguments shows by this variable that it belongs there.
pub const DIRECTORY_VARIABLE: &str = "PGCORRAL_RUN_DIRECTORY";

/// Runs when the owner is gone or has closed the pipe: ends the servers that the directory's `*.pid` files name, if
/// arguments or environment show that they belong there (process ids are used again), and removes the directory.
/// PostgreSQL and PgBouncer both write their process id in the first line of such a file. PostgreSQL ends on SIGQUIT
/// without waiting for anybody; others may ignore it (a shell's background jobs inherit that), hence what follows.
const JANITOR: &str = r#"
trap '' INT TERM HUP
read -r _
for file in "$1"/*.pid "$1"/*/postmaster.pid; do
    [ -s "$file" ] || continue
    read -r server rest < "$file"
    command=$(cat "/proc/$server/cmdline" "/proc/$server/environ" 2>/dev/null | tr '\0' ' ')
    [ -n "$command" ] || command=$(ps -o args= -p "$server")
    case "$command" in *"$1"*) ;; *) continue ;; esac
    kill -QUIT "$server" 2>/dev/null
    tries=0
    while [ -s "$file" ] && kill -0 "$server" 2>/dev/null && [ $tries -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
        [ $tries -eq 5 ] && kill -TERM "$server" 2>/dev/null
        [ $tries -eq 90 ] && kill -KILL "$server" 2>/dev/null
    done
done
rm -rf "$1"
"#;

static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);

/// A directory of ours under the system's temporary directory, removed when this value, or its process, ends.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    janitor: Child,
}

impl Scratch {
    /// Makes an empty directory that only `account` (else we) can enter, and its janitor.
    ///
    /// # Errors
    /// What the file system says, or that there is no shell.
    pub fn create(account: Option<&Account>) -> io::Result<Self> {
        let base = base_directory(account);
        remove_stale(&base);
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let scratch = Self { janitor: spawn_janitor(&path)?, path };
        if let Some(account) = account {
            account.own(&scratch.path)?;
        }
        Ok(scratch)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    /// Removes the directory; whatever ran in it has to have ended.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

/// `$TMPDIR` if a socket's path in it is short enough and the account can get there, else `/tmp`.
fn base_directory(account: Option<&Account>) -> PathBuf {
    let wished = env::temp_dir();
    let longest_name = PREFIX.len() + "4294967295-4294967295".len() + 1;
    let short = wished.as_os_str().len() + longest_name <= LONGEST_DIRECTORY;
    if short && (account.is_none() || everybody_may_enter(&wished)) { wished } else { PathBuf::from("/tmp") }
}

fn everybody_may_enter(directory: &Path) -> bool {
    directory.ancestors().all(|part| fs::metadata(part).is_ok_and(|found| found.mode() & 0o001 != 0))
}

/// The janitor is in a process group of its own, so that Ctrl-C in a terminal reaches the owner only.
fn spawn_janitor(path: &Path) -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", JANITOR, "pgcorral-janitor"])
        .arg(path)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Removes what owners left that are gone. Only tidying: what cannot be removed stays.
fn remove_stale(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(owner_in_name) else { continue };
        if !is_alive(owner) && !has_living_server(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn owner_in_name(name: &str) -> Option<i32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

fn is_alive(process: i32) -> bool {
    let Some(pid) = Pid::from_raw(process) else { return true };
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// A janitor may be at work there, or the owner lives in another container that shares the temporary directory: a
/// socket that answers means hands off.
fn has_living_server(directory: &Path) -> bool {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| std::os::unix::net::UnixStream::connect(entry.path()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_with_the_value() {
        let scratch = Scratch::create(None).unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn the_owner_is_read_from_the_name_and_nothing_else_is_touched() {
        assert_eq!(owner_in_name("pgcorral-run-42-0"), Some(42));
        assert_eq!(owner_in_name("pgcorral-run-42"), None);
        assert_eq!(owner_in_name("pgcorral-run-x-0"), None);
        assert_eq!(owner_in_name("another-42-0"), None);
    }

    #[test]
    fn a_directory_of_a_dead_owner_is_removed_and_one_of_a_living_owner_is_not() {
        let base = Scratch::create(None).unwrap();
        let mut short_lived = Command::new("/bin/true").spawn().unwrap();
        short_lived.wait().unwrap();
        let dead = base.path().join(format!("{PREFIX}{}-0", short_lived.id()));
        let alive = base.path().join(format!("{PREFIX}{}-0", std::process::id()));
        fs::create_dir(&dead).unwrap();
        fs::create_dir(&alive).unwrap();
        remove_stale(base.path());
        assert!(!dead.exists());
        assert!(alive.exists());
    }
}
