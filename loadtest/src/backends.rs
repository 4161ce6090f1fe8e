//! How many clients PostgreSQL itself counts, looked at many times a second over a connection of its own.
//!
//! A pooler's own figures say what it believes; only `pg_stat_activity` says what it did.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{Client, Error, NoTls};

/// How often is counted.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// How long backends may take to end after their clients.
pub const QUIET_WITHIN: Duration = Duration::from_secs(5);

/// Every client's backend but our own.
const COUNT: &str = "select count(*) from pg_stat_activity \
                     where backend_type = 'client backend' and pid <> pg_backend_pid()";

/// Counts until it is stopped or dropped.
#[derive(Debug)]
pub struct BackendCount {
    most: Arc<AtomicI64>,
    counting: JoinHandle<()>,
}

impl BackendCount {
    /// Connects to PostgreSQL itself, as a superuser so that a full server still lets it in, and starts counting.
    ///
    /// # Errors
    /// The connection or its first count failed.
    pub async fn start(superuser_url: &str) -> Result<Self, Error> {
        let (client, connection) = tokio_postgres::connect(superuser_url, NoTls).await?;
        tokio::spawn(connection);
        let first = client.query_one(COUNT, &[]).await?.try_get(0)?;
        let most = Arc::new(AtomicI64::new(first));
        let counting = tokio::spawn(count(client, Arc::clone(&most)));
        Ok(Self { most, counting })
    }

    /// The most backends seen so far.
    #[must_use]
    pub fn most(&self) -> i64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for BackendCount {
    fn drop(&mut self) {
        self.counting.abort();
    }
}

/// Waits until PostgreSQL counts no client but us, which happens a little after the last one said Terminate; gives up
/// waiting after [`QUIET_WITHIN`], since a client that stays is no error here.
///
/// # Errors
/// The connection or a count failed.
pub async fn wait_for_none(superuser_url: &str) -> Result<(), Error> {
    let (client, connection) = tokio_postgres::connect(superuser_url, NoTls).await?;
    tokio::spawn(connection);
    for _ in 0..QUIET_WITHIN.as_millis() / INTERVAL.as_millis() {
        if client.query_one(COUNT, &[]).await?.try_get::<_, i64>(0)? == 0 {
            break;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}

/// Ends when PostgreSQL does: then there is nothing to count.
async fn count(client: Client, most: Arc<AtomicI64>) {
    let Ok(statement) = client.prepare(COUNT).await else { return };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The view is no snapshot: a backend that ends and one that begins while it is read are both in it. So what counts is
    // what two looks in a row agree on.
    let mut last = 0;
    loop {
        ticks.tick().await;
        let Ok(row) = client.query_one(&statement, &[]).await else { return };
        let now: i64 = row.get(0);
        most.fetch_max(now.min(last), Ordering::Relaxed);
        last = now;
    }
}
