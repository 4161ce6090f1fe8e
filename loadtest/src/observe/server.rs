//! Connections to PostgreSQL itself, for looking at it.

use crate::client::Target;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};

/// By this name observers know each other, and do not count each other.
const APPLICATION_NAME: &str = "loadtest-observer";

/// A server that takes longer to answer hangs; a busy one answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection; dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    /// To ask with.
    pub(super) client: Client,
    driving: JoinHandle<()>,
}

/// Why there is no connection, or no answer over it.
#[derive(Debug)]
pub enum ServerError {
    /// No address of the target can be reached, or there is no agreement on TLS.
    Unreachable(io::Error),
    /// PostgreSQL refuses the login or the question, or the connection was lost.
    Refused(Error),
    /// It accepts connections, but takes too long to say anything.
    Silent,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "PostgreSQL cannot be reached: {error}"),
            Self::Refused(error) => match error.as_db_error() {
                Some(told) => write!(f, "PostgreSQL says: {}", told.message()),
                None => write!(f, "PostgreSQL does not answer: {error}"),
            },
            Self::Silent => {
                write!(f, "PostgreSQL does not answer within {}", humantime::format_duration(PATIENCE))
            }
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Refused(error) => Some(error),
            Self::Silent => None,
        }
    }
}

impl From<Error> for ServerError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl ServerError {
    /// Nothing listens on the port, or there is no socket file: no server, and so no backends.
    pub(super) fn is_nobody_there(&self) -> bool {
        let Self::Unreachable(error) = self else { return false };
        matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
    }
}

impl Connection {
    /// Connects and logs in, within [`PATIENCE`].
    pub(super) async fn open(target: &Target) -> Result<Self, ServerError> {
        in_time(Self::log_in(target)).await
    }

    async fn log_in(target: &Target) -> Result<Self, ServerError> {
        let stream = target.open().await.map_err(ServerError::Unreachable)?;
        let mut config = Config::new();
        config.user(target.user()).password(target.password()).dbname(target.database());
        config.application_name(APPLICATION_NAME);
        // The stream is encrypted already, if it is to be.
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        let driving = tokio::spawn(async move {
            // Whoever asks over the connection hears of its end.
            let _ = connection.await;
        });
        Ok(Self { client, driving })
    }
}

/// The answer, if it comes within [`PATIENCE`]: nobody may keep a run waiting by saying nothing.
pub(super) async fn in_time<T, E: From<ServerError>>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err(ServerError::Silent.into()))
}

/// When it was started: another time than before means that it was restarted.
pub(super) async fn server_started(client: &Client) -> Result<SystemTime, Error> {
    client.query_one("select pg_postmaster_start_time()", &[]).await?.try_get(0)
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driving.abort();
    }
}
