//! What ends an invoker's processes when the invoker cannot: a shell in whose process group they all are.
//!
//! It waits on a pipe whose other end only the invoker holds, so that the kernel wakes it when the invoker is killed,
//! and then kills its own group. A process that is suspended cannot see its standard input close; SIGKILL ends it all
//! the same. The group carries the shell's process id, which nobody else can have while the shell lives.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = "trap '' INT TERM HUP; read -r _; kill -KILL 0";

/// The shell, until the last of the invoker and its processes is dropped.
#[derive(Debug)]
pub struct Keeper {
    shell: Child,
}

impl Keeper {
    /// The program.
    pub const SHELL: &str = "/bin/sh";

    /// # Errors
    /// There is no shell, or no process to be had.
    pub fn start() -> io::Result<Self> {
        let shell = Command::new(Self::SHELL)
            .args(["-c", SCRIPT, "loadtest-keeper"])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { shell })
    }

    /// The process group to start processes in.
    pub fn group(&self) -> i32 {
        self.shell.id().cast_signed()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
