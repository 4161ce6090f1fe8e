//! A pooler's process, from its start to its end.

use super::{PoolerError, doing};
use crate::scratch::{DIRECTORY_VARIABLE, Scratch};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a pooler may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the start and the end are looked for.
const GLANCE: Duration = Duration::from_millis(20);

/// How much of what it printed is shown.
const LOG_TAIL_BYTES: usize = 2000;

/// A pooler that listens; ended when it is dropped, which blocks for as long as that takes.
#[derive(Debug)]
pub struct RunningPooler {
    /// As in [`Pooler`](super::Pooler).
    pub name: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    child: Child,
    scratch: Scratch,
}

impl RunningPooler {
    pub(super) fn start(
        name: &str,
        scratch: Scratch,
        mut command: Command,
        port: u16,
    ) -> Result<Self, PoolerError> {
        let log = File::create(scratch.path().join("log")).map_err(doing("making a pooler's log"))?;
        let child = command
            .env(DIRECTORY_VARIABLE, scratch.path())
            // Ctrl-C in a terminal is not meant for it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(doing("making a pooler's log"))?)
            .stderr(log)
            .spawn()
            .map_err(doing("starting a pooler"))?;
        let mut running = Self { name: name.to_owned(), port, child, scratch };
        // The janitor of the directory ends it should we be killed.
        let pid_file = running.scratch.path().join("pooler.pid");
        fs::write(pid_file, format!("{}\n", running.process())).map_err(doing("writing a process id"))?;
        running.wait_until_it_listens()?;
        Ok(running)
    }

    /// Its process id.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it printed last, for errors.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.scratch.path().join("log")).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or_default();
        String::from_utf8_lossy(tail).into_owned()
    }

    fn wait_until_it_listens(&mut self) -> Result<(), PoolerError> {
        let started = Instant::now();
        let runs = |child: &mut Child| child.try_wait().map_err(doing("waiting for a pooler"));
        while started.elapsed() < PATIENCE && runs(&mut self.child)?.is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            sleep(GLANCE);
        }
        Err(PoolerError::Start { name: self.name.clone(), printed: self.log_tail() })
    }
}

impl Drop for RunningPooler {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(GLANCE);
            // PgBouncer, and poolers that drain, wait for clients on the first signal.
            if asked.elapsed() > PATIENCE / 10 {
                let _ = kill_process(Pid::from_child(&self.child), Signal::QUIT);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
