//! One instance's life: cold start, invocations with their retries, freezes, and its end. An instance that ended is
//! followed, at the same place and with the same number, by a new cold one.

use super::backoff::{self, AFTER_FAILURE};
use super::body::{Allowance, Body, Failed, Kept, Work};
use super::draw::Drawn;
use super::script::Values;
use super::stage::{Part, Pending};
use crate::client::Failure;
use crate::leg::{FailureKind, Outcome};
use crate::plan::{End, FreezeAt};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// A place for instances, and the one that lives there now.
#[derive(Debug)]
pub struct Instance<B> {
    part: Part,
    number: u32,
    body: B,
    /// Invocations of this life.
    invoked: u32,
    /// The last attempt did.
    failed: bool,
    kept: Option<Kept>,
}

/// What the next invocation finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// An instance that has been invoked before.
    Warm,
    /// A new one.
    Cold,
    /// Nobody: a silent socket takes the place.
    Gone,
}

/// How an attempt ended.
enum Attempt {
    Served,
    Aborted,
    Failed(Failed),
}

impl<B: Body> Instance<B> {
    /// A cold one.
    #[must_use]
    pub fn new(part: Part, number: u32, body: B) -> Self {
        Self { part, number, body, invoked: 0, failed: false, kept: None }
    }

    /// Its place, counted from 0 within the function.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its function, on its stage.
    #[must_use]
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Runs an invocation, retries included, and whatever the plan has follow it: a freeze, the instance's end.
    ///
    /// Cancel safety: dropped midway, the invocation is recorded as unfinished.
    pub async fn invoke(&mut self, mut pending: Pending, drawn: &mut Drawn) -> State {
        pending.begin(self.invoked == 0 || self.body.is_gone());
        self.attempt_until_over(&mut pending, drawn).await;
        if self.invoked == 0 {
            // It was killed.
            return self.state();
        }
        if let Some(lasting) = drawn.freeze_at(FreezeAt::Between).filter(|_| self.body.is_connected()) {
            self.body.freeze(lasting).await;
        }
        if self.part.function().invocations.is_some_and(|most| self.invoked >= most) {
            self.end().await;
        }
        self.state()
    }

    /// The shortest pause before its next invocation.
    #[must_use]
    pub fn least_pause(&self) -> Duration {
        if self.failed { AFTER_FAILURE } else { Duration::ZERO }
    }

    /// Idle until then. A connection that the server ends meanwhile is closed; the next attempt connects again.
    pub async fn idle_until(&mut self, until: Instant) {
        let mut over = pin!(sleep_until(until));
        loop {
            tokio::select! {
                biased;
                () = &mut over => return,
                () = self.body.lose() => {}
            }
        }
    }

    /// Idle for ever, connection watched.
    pub async fn idle(&mut self) -> ! {
        loop {
            self.body.lose().await;
        }
    }

    /// Ends it as the plan says.
    pub async fn end(&mut self) {
        let how = self.part.function().end;
        self.leave(how).await;
    }

    /// The socket that it left silent, if it did.
    #[must_use]
    pub fn into_kept(self) -> Option<Kept> {
        self.kept
    }

    fn state(&self) -> State {
        match (&self.kept, self.invoked) {
            (Some(_), _) => State::Gone,
            (None, 0) => State::Cold,
            (None, _) => State::Warm,
        }
    }

    async fn leave(&mut self, how: End) {
        self.kept = self.body.end(how).await;
        self.invoked = 0;
    }

    async fn attempt_until_over(&mut self, pending: &mut Pending, drawn: &mut Drawn) {
        loop {
            pending.attempts = pending.attempts.saturating_add(1);
            let attempt = self.attempt(pending.number, drawn).await;
            self.failed = matches!(attempt, Attempt::Failed(_));
            let Failed { failure, at_login } = match attempt {
                Attempt::Served => {
                    pending.end(Outcome::Served);
                    self.invoked += 1;
                    return;
                }
                Attempt::Aborted => return self.die(pending).await,
                Attempt::Failed(failed) => failed,
            };
            self.part.record_failure(&failure, at_login);
            let is_last =
                !may_retry(pending.attempts, self.part.function().retries) || !is_retried(&failure, at_login);
            if is_last {
                // Known now, however long it takes to tidy up.
                pending.end(outcome_of(failure.kind()));
            }
            self.body.recover(&failure, self.part.function().on_timeout).await;
            if is_last {
                self.invoked += 1;
                return;
            }
            self.pause(&failure, pending.attempts, drawn).await;
        }
    }

    async fn attempt(&mut self, invocation: u64, drawn: &Drawn) -> Attempt {
        let mut allowance = Allowance::new(self.part.function().timeout.duration());
        if !self.body.is_connected()
            && let Err(failed) = self.body.connect(&mut allowance).await
        {
            return Attempt::Failed(failed);
        }
        let work = Work {
            values: Values { instance: self.number, invocation, random: drawn.random },
            freeze_in_transaction: drawn.freeze_at(FreezeAt::InTransaction),
            freeze_reading: drawn.freeze_at(FreezeAt::Reading),
        };
        let invoked = async {
            let invoke = self.body.invoke(work, &mut allowance);
            let Some(after) = drawn.abort else { return Some(invoke.await) };
            tokio::select! {
                biased;
                invoked = invoke => Some(invoked),
                () = sleep(after) => None,
            }
        };
        match invoked.await {
            Some(Ok(())) => Attempt::Served,
            Some(Err(failed)) => Attempt::Failed(failed),
            None => Attempt::Aborted,
        }
    }

    /// Killed in the middle of an invocation.
    async fn die(&mut self, pending: &mut Pending) {
        pending.end(Outcome::Aborted);
        let how = self.part.function().abort.as_ref().map(|abort| abort.how);
        self.leave(how.unwrap_or_default()).await;
    }

    async fn pause(&mut self, failure: &Failure, attempts: u16, drawn: &mut Drawn) {
        let backoff = &self.part.function().backoff;
        let pause = backoff::pause(backoff, attempts, failure.retry_after(), &mut drawn.more);
        let pause = pause.max(AFTER_FAILURE);
        // What no clock can show is longer than any leg.
        match Instant::now().checked_add(pause) {
            Some(until) => self.idle_until(until).await,
            None => self.idle().await,
        }
    }
}

/// Whether the plan has another attempt after so many. Attempts are counted up to 65535: there are no more.
fn may_retry(attempts: u16, retries: u16) -> bool {
    attempts <= retries && attempts < u16::MAX
}

/// What another attempt may cure. A session that the server ended (57P01, say) is a lost connection to its client; a
/// login that it refused for other reasons than load is refused again.
fn is_retried(failure: &Failure, at_login: bool) -> bool {
    match failure.kind() {
        FailureKind::Shed | FailureKind::Timeout | FailureKind::Connection => true,
        FailureKind::Sql => !at_login && matches!(failure, Failure::Server(error) if error.fatal),
        FailureKind::Protocol => false,
    }
}

fn outcome_of(kind: FailureKind) -> Outcome {
    match kind {
        FailureKind::Shed => Outcome::Shed,
        FailureKind::Timeout => Outcome::Timeout,
        FailureKind::Sql | FailureKind::Connection | FailureKind::Protocol => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ServerError;

    fn error(sqlstate: &str, fatal: bool) -> Failure {
        Failure::Server(ServerError { fatal, sqlstate: sqlstate.to_owned(), ..ServerError::default() })
    }

    #[test]
    fn attempts_come_to_an_end() {
        assert!(!may_retry(1, 0));
        assert!(may_retry(1, 1) && !may_retry(2, 1));
        assert!(may_retry(u16::MAX - 1, u16::MAX) && !may_retry(u16::MAX, u16::MAX));
    }

    #[test]
    fn overload_timeouts_and_lost_connections_are_tried_again_and_nothing_else() {
        for at_login in [true, false] {
            assert!(is_retried(&error("53300", true), at_login));
            assert!(is_retried(&error("57P03", false), at_login));
            assert!(is_retried(&Failure::Timeout, at_login));
            assert!(is_retried(&Failure::Connection(String::new()), at_login));
            assert!(!is_retried(&Failure::Protocol(String::new()), at_login));
            assert!(!is_retried(&error("42601", false), at_login));
        }
        assert!(is_retried(&error("57P01", true), false), "the session was ended");
        assert!(!is_retried(&error("28P01", true), true), "wrong password");
    }
}
