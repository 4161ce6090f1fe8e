//! The stub in a process of its own.

use super::stub::Login;
use std::io;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// A running stub; it ends when this is dropped, and when this process is gone.
#[derive(Debug)]
pub(super) struct StubProcess {
    port: u16,
    _process: Child,
    /// The stub ends when nobody holds the other end of its standard input any more.
    _leash: Option<ChildStdin>,
}

impl StubProcess {
    /// Starts `program stub`; returns when it listens.
    ///
    /// Cancel safety: dropped midway, the process is killed.
    pub(super) async fn start(program: &Path, login: Login) -> io::Result<Self> {
        let mut process = Command::new(program)
            .args(["stub", "--login", login.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).await?;
        }
        let port = line.trim().parse().map_err(|_| io::Error::other("the stub did not start"))?;
        Ok(Self { port, _leash: process.stdin.take(), _process: process })
    }

    /// Where it is.
    pub(super) fn dsn(&self) -> String {
        let password = super::stub::PASSWORD;
        format!("postgres://stub:{password}@127.0.0.1:{}/stub?sslmode=disable", self.port)
    }
}
