//! Connections to PostgreSQL itself, for looking at it.

use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error, NoTls};

/// By this name observers know each other, and do not count each other.
const APPLICATION_NAME: &str = "loadtest-observer";

/// For each address. A server that does not even accept within it hangs.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// A PostgreSQL server that can be connected to again.
#[derive(Debug, Clone)]
pub(super) struct Server {
    config: Config,
}

impl Server {
    /// # Errors
    /// The DSN cannot be read.
    pub(super) fn parse(dsn: &str) -> Result<Self, Error> {
        let mut config: Config = dsn.parse()?;
        config.application_name(APPLICATION_NAME).connect_timeout(CONNECT_WITHIN);
        Ok(Self { config })
    }

    /// The role.
    pub(super) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// # Errors
    /// Nobody is there, or the login failed.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        let driving = tokio::spawn(async move {
            // Whoever asks over the connection hears of its end.
            let _ = connection.await;
        });
        Ok(Connection { client, driving })
    }
}

/// A connection; dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    /// To ask with.
    pub(super) client: Client,
    driving: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driving.abort();
    }
}
