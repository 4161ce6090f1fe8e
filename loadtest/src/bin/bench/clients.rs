//! Clients that only log in: a storm of logins, and thousands that then stay and do nothing.

use loadtest::poolers::RunningPooler;
use loadtest::poolers::process::{cpu_time, resident_kib};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls};

/// One storm of 1000 logins costs a proxy some 200 ms, and CPU time is told in steps of 10 ms: several count together.
const STORMS: u32 = 3;

/// Logins in flight while idle clients are opened: below every accept backlog.
const OPENING: usize = 100;

/// After this, buffers of the logins have been given back if ever.
const SETTLING: Duration = Duration::from_secs(3);

/// CPU time of the proxy per SCRAM login and logout when `clients` come at once, in microseconds.
///
/// # Errors
/// A login failed.
pub async fn login_cpu_micros(proxy: &RunningPooler, url: &str, clients: u32) -> Result<f64, Box<dyn Error>> {
    let config: Arc<Config> = Arc::new(url.parse()?);
    let before = cpu_time(proxy.process())?;
    for _ in 0..STORMS {
        let mut storm = JoinSet::new();
        for _ in 0..clients {
            let config = Arc::clone(&config);
            storm.spawn(async move { log_in_and_out(&config).await });
        }
        while let Some(outcome) = storm.join_next().await {
            outcome?.map_err(|error| format!("a login at {} failed: {}", proxy.name, told(&error)))?;
        }
    }
    let cpu = cpu_time(proxy.process())?.saturating_sub(before);
    Ok(cpu.as_secs_f64() * 1e6 / f64::from(STORMS * clients))
}

async fn log_in_and_out(config: &Config) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    drop(client);
    connection.await
}

/// Resident memory of a freshly started proxy per client that has logged in and is idle, in KiB.
///
/// # Errors
/// A login failed.
pub async fn idle_client_kib(proxy: &RunningPooler, url: &str, clients: u32) -> Result<f64, Box<dyn Error>> {
    let config: Arc<Config> = Arc::new(url.parse()?);
    warm_up(&config).await?;
    let before = resident_kib(proxy.process())?;
    let open = open_clients(proxy, &config, clients).await?;
    tokio::time::sleep(SETTLING).await;
    let after = resident_kib(proxy.process())?;
    drop(open);
    #[allow(clippy::cast_precision_loss)] // far below 2^52 KiB
    let grown = after.saturating_sub(before) as f64;
    Ok(grown / f64::from(clients))
}

/// Whatever a first client costs once is not counted per client: the server connection, caches, lazily made threads.
async fn warm_up(config: &Config) -> Result<(), Box<dyn Error>> {
    let (client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute("select 1").await?;
    drop(client);
    connection.await??;
    Ok(())
}

/// The clients that are logged in; dropping it closes them all.
struct OpenClients {
    _clients: Vec<Client>,
    _connections: JoinSet<()>,
}

async fn open_clients(
    proxy: &RunningPooler,
    config: &Arc<Config>,
    clients: u32,
) -> Result<OpenClients, Box<dyn Error>> {
    let opening = Arc::new(Semaphore::new(OPENING));
    let mut logins = JoinSet::new();
    for _ in 0..clients {
        let (config, opening) = (Arc::clone(config), Arc::clone(&opening));
        logins.spawn(async move {
            let _permit = opening.acquire().await;
            config.connect(NoTls).await
        });
    }
    let mut connections = JoinSet::new();
    let mut open = Vec::new();
    while let Some(login) = logins.join_next().await {
        let (client, connection) = login?.map_err(|error| {
            format!("login {} of {clients} at {} failed: {}", open.len() + 1, proxy.name, told(&error))
        })?;
        connections.spawn(async move { drop(connection.await) });
        open.push(client);
    }
    Ok(OpenClients { _clients: open, _connections: connections })
}

/// tokio-postgres tells the cause apart from the message.
fn told(error: &tokio_postgres::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
