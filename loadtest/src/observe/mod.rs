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

pub use normal::is_counted;
pub use server::ServerError;

use crate::client::Target;
use crate::leg::{BackendSample, StatementCount};
use crate::plan::Plan;
use activity::{Samples, Sampling};
use server::{Connection, in_time};
use sessions::Sessions;
use statements::{Counting, Uncounted};
use std::fmt;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Observes one leg. Dropping it ends that.
#[derive(Debug)]
pub struct Observer {
    target: Target,
    database: String,
    settle: Duration,
    sampling: Sampling,
    counting: Option<Counting>,
    sessions: Option<Sessions>,
    /// The plan has statements that are counted: clients that are served hear of them.
    is_heard_of: bool,
    warnings: Vec<String>,
}

/// What was seen of a leg.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Looks at the leg's own backends, in the order of time, also while the observer waited for statements of clients
    /// that are gone. There are none from the time that PostgreSQL could not be asked; where nothing listened on its port
    /// any more, there are looks at no backend. Empty if the role may not see the backends of others, or there never was
    /// one though clients were served.
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
        let database = in_time(database(&connection.client)).await.map_err(ObserveError::Unanswered)?;
        let mut warnings = Vec::new();
        let counting = in_time(Counting::begin(&connection.client, plan)).await;
        let counting = counting.map_err(|why: Uncounted| warnings.push(why.to_string())).ok();
        let sessions = in_time(Sessions::begin(&connection.client)).await;
        let sessions = sessions.map_err(|why| warnings.push(why.to_string())).ok();
        let settle = plan.grace.duration();
        let lasts = plan.duration.duration().saturating_add(settle);
        let sampling = in_time(Sampling::start(observer.clone(), connection, leg_started, lasts)).await;
        let sampling = sampling.map_err(ObserveError::Unanswered)?;
        let mut lines = plan.functions.iter().flat_map(|function| &function.script);
        let is_heard_of = lines.any(|line| is_counted(line));
        let target = observer.clone();
        Ok(Self { target, database, settle, sampling, counting, sessions, is_heard_of, warnings })
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
        let Self { target, database, sampling, counting, sessions, is_heard_of, mut warnings, .. } = self;
        let samples = sampling.finish(settle).await;
        let before = Before { own: samples.reopened + 1, sessions, counting };
        let (mut sessions, mut statements) = before.compare(&target, heard, &mut warnings).await;
        // Whoever was served had a backend: one that was looked for where it is not. No count is better than zeros, which
        // hold every limit.
        let is_blind = samples.saw_none() && (heard > 0 || !is_heard_of);
        if is_blind {
            sessions = sessions.filter(|opened| *opened > 0);
            statements = statements.filter(|statements| statements.executed > 0);
        }
        warnings.extend(doubts(&samples, statements, target.user(), &database));
        // Nor is one that may lack some of the backends.
        let backends = if samples.hidden > 0 || is_blind { Vec::new() } else { samples.taken };
        Observed { backends, sessions, statements, warnings }
    }
}

/// What was counted before the leg, as far as it could be.
struct Before {
    /// Our own sessions, the one that compares included.
    own: u32,
    sessions: Option<Sessions>,
    counting: Option<Counting>,
}

impl Before {
    /// What came in addition since.
    async fn compare(
        self,
        target: &Target,
        heard: u64,
        warnings: &mut Vec<String>,
    ) -> (Option<u64>, Option<StatementCount>) {
        // A connection of its own: the leg's may be lost by now.
        let connection = match Connection::open(target).await {
            Ok(connection) => connection,
            Err(error) => {
                warnings.push(format!("neither sessions nor statements were counted: {error}"));
                return (None, None);
            }
        };
        let sessions = match self.sessions {
            Some(sessions) => {
                let opened = in_time(sessions.end(&connection.client, self.own)).await;
                opened.map_err(|why| warnings.push(why.to_string())).ok()
            }
            None => None,
        };
        let statements = match self.counting {
            Some(counting) => {
                let counted = in_time(counting.end(&connection.client, heard)).await;
                counted.map_err(|why| warnings.push(why.to_string())).ok()
            }
            None => None,
        };
        (sessions, statements)
    }
}

async fn database(client: &Client) -> Result<String, ServerError> {
    Ok(client.query_one("select current_database()::text", &[]).await?.try_get(0)?)
}

/// What makes the figures doubtful.
fn doubts(samples: &Samples, statements: Option<StatementCount>, role: &str, database: &str) -> Vec<String> {
    let mut doubts = Vec::new();
    if samples.hidden > 0 {
        doubts.push(format!(
            "backends were not counted: role \"{role}\" may not see those of other roles; grant it pg_monitor"
        ));
    } else if samples.saw_none() {
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
