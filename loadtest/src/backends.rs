//! Waiting until PostgreSQL itself counts no client any more.

use std::time::Duration;
use tokio_postgres::{Error, NoTls};

/// How often is counted.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long backends may take to end after their clients.
const QUIET_WITHIN: Duration = Duration::from_secs(5);

/// Every client's backend but our own.
const COUNT: &str = "select count(*) from pg_stat_activity \
                     where backend_type = 'client backend' and pid <> pg_backend_pid()";

/// Waits until PostgreSQL counts no client but us, which happens a little after the last one said Terminate; gives up
/// waiting after five seconds, since a client that stays is no error here.
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
