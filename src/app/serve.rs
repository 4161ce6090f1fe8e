//! `pgcorral serve`: run until a signal, then drain.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::Reloader;
use super::{App, StartError};
use crate::config::{Config, ConfigErrors};
use crate::obs::logging::Logging;

/// Files besides those of clients and servers: listeners, logs, cancel requests under way.
const OTHER_FILES: usize = 100;
/// How often a drain looks whether the last client has gone.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the proxy until SIGTERM or SIGINT; then lets transactions finish up to `drain_timeout`. A second signal ends it at
/// once. SIGHUP reads the configuration again, by `reread`; None: there is no file. What of it is about the log is told to
/// `logging`, whose warnings the live page shows. The addresses are printed on standard output, with a line `ready` behind them.
///
/// # Errors
/// The proxy cannot start.
pub async fn serve<F>(config: Config, reread: Option<F>, logging: Logging) -> Result<(), StartError>
where
    F: Fn() -> Result<Config, ConfigErrors> + Send + 'static,
{
    raise_open_files(&config);
    // Before anything runs: a signal that comes early is not lost.
    let mut signals = Signals::new().map_err(StartError::Threads)?;
    let app = App::start(config, logging.warnings.clone()).await?;
    announce(&app);
    // A task of its own: a preflight may take seconds, in which a signal to end is heard.
    tokio::spawn(reload_on(signals.hangup, app.reloader(logging), reread));
    first(&mut signals.ends, &app).await;
    let drain_timeout = app.door().drain_timeout.now();
    tracing::info!(clients = app.door().roster.len(), timeout = ?drain_timeout, "draining");
    app.door().drain();
    tokio::select! {
        biased;
        () = signals.ends.next() => tracing::warn!("stopped by a second signal"),
        clients = drained(&app, drain_timeout) => match clients {
            0 => tracing::info!("drained"),
            clients => tracing::warn!(clients, "stopped with clients still in a transaction"),
        },
    }
    app.door().flush_summaries();
    app.flush_traces().await;
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
    ends: Ends,
    hangup: Signal,
}

/// The signals that end the proxy.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            ends: Ends {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl Ends {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for the first signal, writing the logs' summaries meanwhile.
async fn first(signals: &mut Ends, app: &App) {
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            biased;
            () = signals.next() => return,
            _ = every_second.tick() => app.door().flush_summaries(),
        }
    }
}

/// Reads the configuration again for each SIGHUP; for several that come meanwhile, once.
async fn reload_on(
    mut hangup: Signal,
    mut reloader: Reloader,
    reread: Option<impl Fn() -> Result<Config, ConfigErrors>>,
) {
    while hangup.recv().await.is_some() {
        match &reread {
            Some(reread) => {
                if reloader.reload(reread()).await {
                    raise_open_files(reloader.config());
                }
            }
            None => tracing::warn!("SIGHUP: there is no configuration file to read again"),
        }
    }
}
