//! An instance as a task: its body is one connection of the load generator's own client.

use super::body::{Allowance, Body, Failed, Kept, Work};
use super::stage::{Connecting, Counted, Part};
use crate::client::{Failure, Session};
use crate::plan::{End, OnTimeout, Protocol};
use std::future::pending;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a session may take to answer a cancel, or the ROLLBACK after an error, before it is given up.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// A body of one connection.
#[derive(Debug)]
pub struct Wire {
    part: Part,
    open: Option<Open>,
    /// This instance has been connected before.
    was_connected: bool,
}

/// Fields are dropped in their order: closed first, no longer counted then.
#[derive(Debug)]
struct Open {
    session: Session,
    counted: Counted,
}

impl Wire {
    /// One that is not connected.
    #[must_use]
    pub fn new(part: Part) -> Self {
        Self { part, open: None, was_connected: false }
    }

    /// The session, which whoever calls has made sure is there.
    fn session(&mut self) -> Result<&mut Session, Failure> {
        let open = self.open.as_mut().ok_or_else(|| Failure::Connection("not connected".to_owned()))?;
        Ok(&mut open.session)
    }

    async fn run(&mut self, sql: &str, allowance: &mut Allowance) -> Result<(), Failure> {
        let protocol = self.part.function().protocol;
        allowance.within(self.session()?.run(sql, protocol)).await.map(|_| ())
    }

    /// Runs a statement, and is suspended when the reply's first bytes have been read.
    async fn run_frozen(
        &mut self,
        sql: &str,
        lasting: Duration,
        allowance: &mut Allowance,
    ) -> Result<(), Failure> {
        let protocol = self.part.function().protocol;
        let session = self.session()?;
        allowance.within(session.send(sql, protocol)).await?;
        allowance.within(session.first_bytes()).await?;
        sleep(lasting).await;
        allowance.within(session.finish()).await.map(|_| ())
    }
}

impl Body for Wire {
    fn is_connected(&self) -> bool {
        self.open.is_some()
    }

    async fn connect(&mut self, allowance: &mut Allowance) -> Result<(), Failed> {
        // The old one is closed before the new one is opened: never two for one instance.
        self.open = None;
        let counted = self.part.stage.count_connection();
        let mut connecting = Connecting::begin(&self.part, self.was_connected);
        let identity = &self.part.role().identity;
        let session = Session::connect(&self.part.stage.target, identity, &mut connecting.times);
        let session = allowance.within(Box::pin(session)).await;
        connecting.end();
        let session = session.map_err(|failure| Failed { failure, at_login: true })?;
        self.was_connected = true;
        self.open = Some(Open { session, counted });
        Ok(())
    }

    async fn invoke(&mut self, work: Work, allowance: &mut Allowance) -> Result<(), Failed> {
        let part = self.part.clone();
        let script = &part.role().script;
        for (index, sql) in script.fill(work.values).enumerate() {
            match work.freeze_reading.filter(|_| index == script.reading()) {
                Some(lasting) => self.run_frozen(&sql, lasting, allowance).await?,
                None => self.run(&sql, allowance).await?,
            }
            part.hear(index);
            if let Some(lasting) = work.freeze_in_transaction.filter(|_| index == 0) {
                sleep(lasting).await;
            }
        }
        Ok(())
    }

    async fn recover(&mut self, failure: &Failure, on_timeout: OnTimeout) {
        let Some(mut open) = self.open.take() else { return };
        if *failure == Failure::Timeout && !open.session.is_usable() {
            match on_timeout {
                OnTimeout::Fin => return,
                OnTimeout::Rst => {
                    open.session.end(End::Rst).await;
                    return;
                }
                OnTimeout::Cancel => cancel(&mut open.session).await,
            }
        }
        if roll_back(&mut open.session).await {
            self.open = Some(open);
        }
    }

    async fn lose(&mut self) {
        let Some(open) = &mut self.open else { return pending().await };
        let failure = open.session.watch().await;
        self.open = None;
        // A connection that is merely closed shows in the next one; what the server says, or should not say, is kept.
        if !matches!(failure, Failure::Connection(_)) {
            self.part.record_failure(&failure, false);
        }
    }

    async fn freeze(&mut self, lasting: Duration) {
        // Nobody polls the session: nothing is read.
        sleep(lasting).await;
    }

    async fn end(&mut self, how: End) -> Option<Kept> {
        self.was_connected = false;
        let Open { session, counted } = self.open.take()?;
        let silent = session.end(how).await?;
        Some(Kept { silent, counted })
    }
}

/// Whether the session is usable then, is seen afterwards.
async fn cancel(session: &mut Session) {
    let answer = async {
        if session.cancel().await.is_ok() {
            // Its answer is the cancelled statement's error, or its success if it was faster.
            let _ = session.finish().await;
        }
    };
    let _ = timeout(ANSWER_PATIENCE, answer).await;
}

/// Leaves the transaction that a failed attempt left open; whether the session can be used again.
async fn roll_back(session: &mut Session) -> bool {
    if session.is_usable() && session.in_transaction() {
        let _ = timeout(ANSWER_PATIENCE, session.run("rollback", Protocol::Simple)).await;
    }
    session.is_usable() && !session.in_transaction()
}
