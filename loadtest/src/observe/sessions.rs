//! How many sessions PostgreSQL opened: every login that it accepted, whether a look at its backends met it or not.
//!
//! `pg_stat_database` counts them (PostgreSQL's manual, chapter 28.2.17; since version 14). A backend reports itself
//! when its login is over, before its client hears that it may begin, so our own are always counted when we read.

use super::server::{ServerError, server_started};
use std::fmt;
use std::time::SystemTime;
use tokio_postgres::{Client, Error};

/// The count of one moment, to be compared with that of a later one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sessions {
    before: i64,
    server_started: SystemTime,
}

/// Why sessions are not counted.
#[derive(Debug)]
pub(super) enum Unknown {
    /// PostgreSQL is older than 14.
    TooOld,
    /// Statistics were reset.
    Reset,
    /// PostgreSQL was restarted: if it had crashed, its statistics are gone, and nothing tells so.
    Restarted,
    /// The view could not be read.
    Unreadable(ServerError),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sessions were not counted: ")?;
        match self {
            Self::TooOld => f.write_str("PostgreSQL counts them since version 14"),
            Self::Reset => f.write_str("pg_stat_database was reset meanwhile"),
            Self::Restarted => f.write_str("PostgreSQL was restarted meanwhile"),
            Self::Unreadable(error) => write!(f, "pg_stat_database cannot be read: {error}"),
        }
    }
}

impl From<ServerError> for Unknown {
    fn from(error: ServerError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Error> for Unknown {
    fn from(error: Error) -> Self {
        Self::Unreadable(error.into())
    }
}

impl Sessions {
    /// The count of now, of the connection's database.
    pub(super) async fn begin(client: &Client) -> Result<Self, Unknown> {
        Ok(Self { before: read(client).await?, server_started: server_started(client).await? })
    }

    /// How many were opened since, but for `own`: those of observers.
    pub(super) async fn end(self, client: &Client, own: u32) -> Result<u64, Unknown> {
        if server_started(client).await? != self.server_started {
            return Err(Unknown::Restarted);
        }
        let opened = read(client).await? - self.before - i64::from(own);
        u64::try_from(opened).map_err(|_| Unknown::Reset)
    }
}

async fn read(client: &Client) -> Result<i64, Unknown> {
    let version = client.query_one("select current_setting('server_version_num')::int", &[]).await?;
    if version.try_get::<_, i32>(0)? < 140_000 {
        return Err(Unknown::TooOld);
    }
    let sessions = "select sessions from pg_stat_database where datname = current_database()";
    Ok(client.query_one(sessions, &[]).await?.try_get(0)?)
}
