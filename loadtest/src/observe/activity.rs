//! Looks at `pg_stat_activity`, one after the other, for as long as a leg lasts.

use super::server::{Connection, PATIENCE, ServerError};
use crate::client::Target;
use crate::leg::BackendSample;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{Error, Statement};

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(20);

/// No more looks are kept: a leg of more than an hour is looked at less often.
const MOST_SAMPLES: u32 = 180_000;

/// How often a server that is away is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Clients' backends in this database, but observers. A backend belongs to the leg if it began after the leg did, or has
/// done something since: warm connections that nobody uses do not count, wherever they come from. What belongs to
/// roles whose states we may not see has no `backend_type`.
const LOOK: &str = "\
    select count(*) filter (where belongs), \
           count(*) filter (where belongs and state in ('active', 'fastpath function call')), \
           count(*) filter (where belongs and state like 'idle in transaction%'), \
           count(*) filter (where backend_type is null) \
    from (select backend_type, state, \
                 backend_type = 'client backend' and (backend_start >= $1 or state_change >= $1) as belongs \
          from pg_stat_activity \
          where datname = current_database() and usesysid is not null and pid <> pg_backend_pid() \
                and application_name <> 'loadtest-observer') as backends";

/// Looks until it is told to finish, or dropped.
#[derive(Debug)]
pub(super) struct Sampling {
    finish: oneshot::Sender<Duration>,
    looking: JoinHandle<Samples>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// All looks.
    pub(super) taken: Vec<BackendSample>,
    /// The most backends at once whose states we may not see.
    pub(super) hidden: u32,
    /// How often the connection was lost and opened again.
    pub(super) reopened: u32,
}

impl Samples {
    /// There never was a backend of the leg, hidden ones included.
    pub(super) fn saw_none(&self) -> bool {
        self.hidden == 0 && self.taken.iter().all(|sample| sample.total == 0)
    }
}

impl Sampling {
    /// `leg_started` is the zero of the samples' times; a leg that lasts longer than an hour is looked at less often.
    ///
    /// # Errors
    /// The server did not tell its time, or could not be asked.
    pub(super) async fn start(
        target: Target,
        connection: Connection,
        leg_started: Instant,
        leg_lasts: Duration,
    ) -> Result<Self, ServerError> {
        // The server's clock decides, since its times are compared.
        let since: SystemTime =
            connection.client.query_one("select clock_timestamp()", &[]).await?.try_get(0)?;
        let view = View::prepare(connection).await?;
        let (finish, told) = oneshot::channel();
        let looker = Looker { target, since, leg_started, seen: Samples::default() };
        let period = PERIOD.max(leg_lasts / MOST_SAMPLES);
        Ok(Self { finish, looking: tokio::spawn(looker.run(view, period, told)) })
    }

    /// Ends when no backend of the leg runs a statement any more, or after `settle`.
    pub(super) async fn finish(self, settle: Duration) -> Samples {
        let _ = self.finish.send(settle);
        self.looking.await.unwrap_or_default()
    }
}

/// Who looks.
struct Looker {
    target: Target,
    since: SystemTime,
    leg_started: Instant,
    seen: Samples,
}

impl Looker {
    async fn run(mut self, view: View, period: Duration, mut told: oneshot::Receiver<Duration>) -> Samples {
        let mut view = Some(view);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = None;
        let mut quiet_looks = 0;
        loop {
            tokio::select! {
                biased;
                settle = &mut told, if deadline.is_none() => {
                    // Nobody is there to tell us: the observer was dropped.
                    let Ok(settle) = settle else { return self.seen };
                    deadline = Some(Instant::now() + settle);
                    continue;
                }
                _ = ticks.tick() => {}
            }
            let before = self.seen.taken.len();
            view = self.look(view).await;
            let Some(deadline) = deadline else { continue };
            let is_quiet = self.seen.taken.get(before).is_some_and(|sample| sample.active == 0);
            quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
            if quiet_looks == 2 || Instant::now() >= deadline {
                return self.seen;
            }
        }
    }

    /// One look. Takes none while the server cannot be asked, but if nothing listens where it was, it has no backends:
    /// that is a look, too.
    async fn look(&mut self, view: Option<View>) -> Option<View> {
        let at_us = u64::try_from(self.leg_started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(view) = view {
            return match timeout(PATIENCE, view.look(self.since)).await {
                Ok(Ok((sample, hidden))) => {
                    self.seen.taken.push(BackendSample { at_us, ..sample });
                    self.seen.hidden = self.seen.hidden.max(hidden);
                    Some(view)
                }
                Ok(Err(_)) | Err(_) => None,
            };
        }
        match timeout(PATIENCE, View::open(&self.target)).await {
            Ok(Ok(view)) => {
                self.seen.reopened += 1;
                return Some(view);
            }
            Ok(Err(error)) if error.is_nobody_there() => {
                self.seen.taken.push(BackendSample { at_us, total: 0, active: 0, idle_in_transaction: 0 });
            }
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(AGAIN_AFTER).await;
        None
    }
}

/// A connection with the look prepared on it.
struct View {
    connection: Connection,
    statement: Statement,
}

impl View {
    async fn open(target: &Target) -> Result<Self, ServerError> {
        Ok(Self::prepare(Connection::open(target).await?).await?)
    }

    async fn prepare(connection: Connection) -> Result<Self, Error> {
        let statement = connection.client.prepare(LOOK).await?;
        Ok(Self { connection, statement })
    }

    /// What belongs to a leg that began at `since`, and how many backends hide from us. The sample has no time.
    async fn look(&self, since: SystemTime) -> Result<(BackendSample, u32), Error> {
        let row = self.connection.client.query_one(&self.statement, &[&since]).await?;
        let count = |column: usize| -> Result<u32, Error> {
            Ok(u32::try_from(row.try_get::<_, i64>(column)?).unwrap_or(u32::MAX))
        };
        let sample =
            BackendSample { at_us: 0, total: count(0)?, active: count(1)?, idle_in_transaction: count(2)? };
        Ok((sample, count(3)?))
    }
}
