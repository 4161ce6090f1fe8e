//! What PostgreSQL itself counted while a leg ran: a pooler's own figures say what it believes, PostgreSQL's say what
//! it did.
//!
//! An [`Observer`] has connections of its own, straight to PostgreSQL, in the database that the target's clients end up
//! in. It looks at `pg_stat_activity` every 20 ms, and at `pg_stat_database` and `pg_stat_statements` before and after. The engine starts it
//! before a leg's first client and finishes it after the last one. It never fails a leg: what it could not see is not
//! there, and [`Observed::warnings`] say why.

mod activity;
mod normal;
mod server;
mod sessions;
mod statements;

pub use activity::most;
pub use normal::is_counted;
pub use server::ServerError;

use crate::client::Target;
use crate::leg::{BackendSample, StatementCount};
use crate::plan::Plan;
use activity::{Samples, Sampling};
use server::Connection;
use sessions::Sessions;
use statements::{Counting, Uncounted};
use std::fmt;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error};

/// Observes one leg. Dropping it ends that.
#[derive(Debug)]
pub struct Observer {
    target: Target,
    database: String,
    settle: Duration,
    sampling: Sampling,
    counting: Option<Counting>,
    sessions: Option<Sessions>,
    warnings: Vec<String>,
}

/// What was seen of a leg.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Looks at the leg's own backends, in the order of time, also while the observer waited for statements of clients
    /// that are gone. There are none from the time that PostgreSQL could not be asked; where nothing listened on its port
    /// any more, there are looks at no backend. Empty if the role may not see the backends of others.
    pub backends: Vec<BackendSample>,
    /// Sessions that PostgreSQL opened for others than observers; `None` where they could not be counted.
    pub sessions: Option<u64>,
    /// `None` where they could not be counted.
    pub statements: Option<StatementCount>,
    /// What somebody who reads the figures has to know about them; sentences without a period.
    pub warnings: Vec<String>,
}

/// Why nothing can be observed.
#[derive(Debug)]
pub enum ObserveError {
    /// PostgreSQL could not be reached, or refused the login.
    Unreachable(ServerError),
    /// It does not answer what every PostgreSQL answers.
    Unanswered(ServerError),
}

impl fmt::Display for ObserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "the observer cannot connect: {error}"),
            Self::Unanswered(error) => write!(f, "the observer gets no answer: {error}"),
        }
    }
}

impl std::error::Error for ObserveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) | Self::Unanswered(error) => Some(error),
        }
    }
}

impl From<Error> for ObserveError {
    fn from(error: Error) -> Self {
        Self::Unanswered(error.into())
    }
}

impl Observer {
    /// Connects and begins to look. Backends that begin to do something from now on are the leg's; the times of the samples
    /// count from `leg_started`, before which they are 0.
    ///
    /// # Errors
    /// See [`ObserveError`].
    ///
    /// Cancel safety: dropped midway, the connection is closed and nothing goes on.
    pub async fn start(observer: &Target, plan: &Plan, leg_started: Instant) -> Result<Self, ObserveError> {
        let connection = Connection::open(observer).await.map_err(ObserveError::Unreachable)?;
        let database = database(&connection.client).await?;
        let mut warnings = Vec::new();
        let counting = Counting::begin(&connection.client, plan).await;
        let counting = counting.map_err(|why: Uncounted| warnings.push(why.to_string())).ok();
        let sessions = Sessions::begin(&connection.client).await;
        let sessions = sessions.map_err(|why| warnings.push(why.to_string())).ok();
        let settle = plan.grace.duration();
        let lasts = plan.duration.duration() + settle;
        let sampling = Sampling::start(observer.clone(), connection, leg_started, lasts).await?;
        let target = observer.clone();
        Ok(Self { target, database, settle, sampling, counting, sessions, warnings })
    }

    /// Waits until no backend of the leg runs a statement any more, at most for the plan's `grace`, and tells what was
    /// seen. `heard` is how many statements clients heard the completion of, among those that [`is_counted`].
    ///
    /// Cancel safety: dropped midway, everything seen is lost.
    pub async fn finish(self, heard: u64) -> Observed {
        let settle = self.settle;
        self.finish_within(settle, heard).await
    }

    /// The same with another limit to the waiting.
    pub async fn finish_within(self, settle: Duration, heard: u64) -> Observed {
        let Self { target, database, sampling, counting, sessions, mut warnings, .. } = self;
        let samples = sampling.finish(settle).await;
        // A connection of its own: the leg's may be lost by now.
        let (sessions, statements) = match Connection::open(&target).await {
            Ok(connection) => {
                let own = samples.reopened + 1;
                let mut warn = |why: String| warnings.push(why);
                let sessions = match sessions {
                    None => None,
                    Some(sessions) => {
                        let opened = sessions.end(&connection.client, own).await;
                        opened.map_err(|why| warn(why.to_string())).ok()
                    }
                };
                let statements = match counting {
                    None => None,
                    Some(counting) => {
                        let counted = counting.end(&connection.client, heard).await;
                        counted.map_err(|why| warn(why.to_string())).ok()
                    }
                };
                (sessions, statements)
            }
            Err(error) => {
                warnings.push(format!("neither sessions nor statements were counted: {error}"));
                (None, None)
            }
        };
        warnings.extend(doubts(&samples, statements, target.user(), &database));
        // A count that may lack some of the backends is worse than none: it holds every limit.
        let backends = if samples.hidden == 0 { samples.taken } else { Vec::new() };
        Observed { backends, sessions, statements, warnings }
    }
}

async fn database(client: &Client) -> Result<String, Error> {
    client.query_one("select current_database()::text", &[]).await?.try_get(0)
}

/// What makes the figures doubtful.
fn doubts(samples: &Samples, statements: Option<StatementCount>, role: &str, database: &str) -> Vec<String> {
    let mut doubts = Vec::new();
    if samples.hidden > 0 {
        doubts.push(format!(
            "backends were not counted: role \"{role}\" may not see those of other roles; grant it pg_monitor"
        ));
    } else if samples.taken.iter().all(|sample| sample.total == 0) {
        doubts.push(format!(
            "PostgreSQL had no backend for this in database \"{database}\": does the observer look at the server and \
             database that the clients reach?"
        ));
    }
    let few = statements.filter(|statements| statements.executed < statements.heard / 2);
    if let Some(StatementCount { executed, heard }) = few {
        doubts.push(format!(
            "pg_stat_statements counted {executed} statements in database \"{database}\" and clients heard of {heard}: \
             does the observer look at the server and database that the clients reach?"
        ));
    }
    doubts
}
