//! The composition root: builds the parts from a configuration, starts them, and takes them down again.

mod check;
mod functions;
mod gauges;
mod preflight;
mod reload;
mod serve;
mod threads;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

pub use check::check;
pub use serve::serve;

use crate::admin::{self, AdminParams};
use crate::client::{Door, Spreader, accept};
use crate::config::{Config, Preflight};
use crate::guard::Home;
use crate::net::tls::TlsSetupError;
use crate::net::{ListenAddress, Listener};
use crate::obs::logging::Logging;
use crate::obs::{Metrics, TICK, Warnings};
use crate::pool::Pools;
use crate::trace::{Tracer, TransportError};
use gauges::Gauges;
use reload::Reloader;
use threads::IoThreads;

/// How often it is looked for what takes too long: the grain of all timeouts of sessions. Ten thousand clients cost some
/// tens of microseconds each time.
const WATCH: Duration = Duration::from_millis(50);

/// A running proxy. Dropped, it stops at once; [`Door::drain`] is the gentle way.
#[derive(Debug)]
pub struct App {
    door: Arc<Door>,
    gauges: Arc<Gauges>,
    listening: Vec<ListenAddress>,
    admin: Option<SocketAddr>,
    // Last: the threads end once nothing runs on them any more.
    threads: IoThreads,
    /// The configuration in force.
    config: Config,
    warnings: Warnings,
}

/// Why the proxy cannot start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Listen(String, io::Error),
    /// TLS cannot be set up.
    Tls(TlsSetupError),
    /// The collector of traces cannot be spoken to in the way that is wanted.
    Traces(TransportError),
    /// The table of metrics contradicts itself.
    Metrics(prometheus::Error),
    /// A thread or runtime cannot be started.
    Threads(io::Error),
    /// PostgreSQL allows fewer connections than the pools may open; a line for each bound.
    Preflight(Vec<String>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Tls(error) => error.fmt(f),
            Self::Traces(error) => error.fmt(f),
            Self::Metrics(error) => write!(f, "cannot set up metrics: {error}"),
            Self::Threads(error) => write!(f, "cannot start a thread: {error}"),
            Self::Preflight(lines) => write!(f, "the pools do not fit: {}", lines.join("; ")),
        }
    }
}

impl std::error::Error for StartError {}

impl App {
    /// Builds everything, listens, and begins to dial. The admin address is served by the calling runtime. `warnings` are the
    /// log's, to be shown there.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(config: Config, warnings: Warnings) -> Result<Self, StartError> {
        preflight::vet(config.preflight, &config.upstreams).await.map_err(StartError::Preflight)?;
        let metrics = Metrics::new().map_err(StartError::Metrics)?;
        let threads =
            IoThreads::start(config.threads, config.relay_buffer_bytes).map_err(StartError::Threads)?;
        let pools = pools(&config, &threads, &metrics).map_err(StartError::Tls)?;
        let tracer = tracer(&config, &metrics).map_err(StartError::Traces)?;
        let door = Door::new(config.clients.clone(), pools, metrics, tracer).map_err(StartError::Tls)?;
        let door = Arc::new(door);
        // A millisecond for each user with a plain password, and only once.
        let deriving = Arc::clone(&door);
        let _ = tokio::task::spawn_blocking(move || deriving.derive_verifiers()).await;
        let gauges = Arc::new(Gauges::new(Arc::clone(&door)));
        let mut app = Self { door, gauges, listening: vec![], admin: None, threads, config, warnings };
        app.listen()?;
        if let Some(params) = app.config.admin.clone() {
            app.admin = app.serve_admin(params).await?;
        }
        app.door.pools.start();
        if let Some(home) = app.threads.homes().first() {
            if app.config.preflight != Preflight::Off {
                let (door, mode) = (Arc::clone(&app.door), app.config.preflight);
                home.spawn(preflight::look(door, mode, app.config.upstreams.clone()));
            }
            home.spawn(watch(Arc::downgrade(&app.door)));
            home.spawn(monitor(Arc::downgrade(&app.gauges)));
        }
        Ok(app)
    }

    /// Where clients connect: the addresses of the configuration, with real ports in the place of 0.
    pub fn listening(&self) -> &[ListenAddress] {
        &self.listening
    }

    /// Where metrics are served.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What all clients share.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// The part that takes over other configurations, which is the caller's from then on.
    fn reloader(&self, logging: Logging) -> Reloader {
        let home = self.threads.homes().first().cloned();
        Reloader::new(Arc::clone(&self.door), home, self.config.clone(), logging)
    }

    /// Has the collector told what was recorded so far, if that takes no longer than it may.
    async fn flush_traces(&self) {
        if let (Some(tracer), Some(params)) = (&self.door.tracer, &self.config.traces) {
            tracer.flush(params.timeout).await;
        }
    }

    fn listen(&mut self) -> Result<(), StartError> {
        let spreader = Arc::new(Spreader::new(self.threads.homes().to_vec()));
        for address in &self.config.listen {
            let failed = |error| StartError::Listen(address.to_string(), error);
            // On an I/O thread, so that a login needs no other.
            let Some(home) = self.threads.homes().first() else { continue };
            let _context = home.enter();
            let listener = Listener::bind(address, self.door.params.listen_backlog).map_err(failed)?;
            self.listening.push(listener.address().map_err(failed)?);
            home.spawn(accept(listener, Arc::clone(&self.door), Arc::clone(&spreader), Home(0)));
        }
        Ok(())
    }

    /// An address that nobody has asked for may be another's.
    async fn serve_admin(&self, params: AdminParams) -> Result<Option<SocketAddr>, StartError> {
        let AdminParams { address, is_default, token } = params;
        let failed = |error| StartError::Listen(address.to_string(), error);
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) if is_default => {
                tracing::warn!(%address, %error, "no admin address: set admin, or \"off\"");
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let bound = listener.local_addr().map_err(failed)?;
        let shown = admin::Shown {
            metrics: self.door.metrics.clone(),
            sources: Arc::<Gauges>::clone(&self.gauges),
            warnings: self.warnings.clone(),
            token,
        };
        // Ends with the process: until then /readyz says that the proxy drains.
        tokio::spawn(admin::serve(listener, shown, std::future::pending()));
        Ok(Some(bound))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.door.drain();
        for address in &self.listening {
            if let ListenAddress::Unix(path) = address {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Wakes clients for which something takes too long.
async fn watch(door: Weak<Door>) {
    loop {
        tokio::time::sleep(WATCH).await;
        let Some(door) = door.upgrade() else { return };
        door.roster.wake_overdue(Instant::now());
    }
}

/// Begins to export traces, if there is somewhere to. On the calling runtime, which is none that serves clients.
fn tracer(config: &Config, metrics: &Metrics) -> Result<Option<Arc<Tracer>>, TransportError> {
    let Some(params) = &config.traces else { return Ok(None) };
    let (tracer, exporter) = Tracer::new(params, metrics.spans().clone())?;
    // Ends with the last client.
    tokio::spawn(exporter.run());
    Ok(Some(tracer))
}

/// Follows the pools for what is shown of the last seconds and minutes.
async fn monitor(gauges: Weak<Gauges>) {
    loop {
        let Some(gauges) = gauges.upgrade() else { return };
        // Off the I/O thread: with many pools it takes milliseconds.
        let look = move || gauges.metrics().tick(Instant::now(), gauges.as_ref());
        let _ = tokio::task::spawn_blocking(look).await;
        tokio::time::sleep(TICK).await;
    }
}

fn pools(config: &Config, threads: &IoThreads, metrics: &Metrics) -> Result<Pools, TlsSetupError> {
    let mut pools = Pools::default();
    for upstream in &config.upstreams {
        let databases = upstream.databases.iter().map(|database| {
            (
                database.name.as_str(),
                database.max_connections,
                database.max_clients,
                database.pools.as_slice(),
            )
        });
        pools.add_upstream(&upstream.params, databases, threads.homes(), metrics)?;
    }
    Ok(pools)
}
