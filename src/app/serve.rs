//! `pgcorral serve`: run until a signal, then drain.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{App, StartError};
use crate::config::Config;

/// Files besides those of clients and servers: listeners, logs, cancel requests under way.
const OTHER_FILES: usize = 100;
/// How often a drain looks whether the last client has gone.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the proxy until SIGTERM or SIGINT; then lets transactions finish up to `drain_timeout`. A second signal ends it at
/// once. The addresses are printed on standard output, with a line `ready` behind them.
///
/// # Errors
/// The proxy cannot start.
pub async fn serve(config: Config) -> Result<(), StartError> {
    let drain_timeout = config.clients.drain_timeout;
    raise_open_files(&config);
    // Before anything runs: a signal that comes early is not lost.
    let mut signals = Signals::new().map_err(StartError::Threads)?;
    let app = App::start(config).await?;
    announce(&app);
    signals.first(&app).await;
    tracing::info!(clients = app.door().roster.len(), timeout = ?drain_timeout, "draining");
    app.door().drain();
    tokio::select! {
        biased;
        () = signals.next() => tracing::warn!("stopped by a second signal"),
        clients = drained(&app, drain_timeout) => match clients {
            0 => tracing::info!("drained"),
            clients => tracing::warn!(clients, "stopped with clients still in a transaction"),
        },
    }
    Ok(())
}

/// Every client and every server connection is an open file, and the usual soft limit is 1024.
fn raise_open_files(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let usable = if raised.is_ok() { limit.maximum } else { limit.current };
    let servers: usize = config.upstreams.iter().map(|upstream| upstream.params.max_connections).sum();
    let needed = (config.clients.max_clients + servers + OTHER_FILES) as u64;
    // No value means no limit.
    if let Some(allowed) = usable.filter(|allowed| *allowed < needed) {
        tracing::warn!(needed, allowed, "max_clients needs more open files than are allowed (ulimit -Hn)");
    }
}

fn announce(app: &App) {
    let mut lines = String::new();
    for address in app.listening() {
        lines += &format!("listening on {address}\n");
    }
    if let Some(admin) = app.admin() {
        lines += &format!("admin on {admin}\n");
    }
    lines += "ready\n";
    let mut out = io::stdout().lock();
    // Nobody has to read it.
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
}

/// Waits until the last client is gone, or the time is up; how many are left.
async fn drained(app: &App, limit: Duration) -> usize {
    let end = Instant::now() + limit;
    while !app.door().roster.is_empty() && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
    }
    app.door().roster.len()
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the first signal, writing the logs' summaries meanwhile.
    async fn first(&mut self, app: &App) {
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => tracing::warn!("SIGHUP: the configuration is read at start only"),
                _ = every_second.tick() => {
                    app.door().login_failures.flush();
                    app.door().sheds.flush();
                }
            }
        }
    }
}
