//! What an instance is made of: the seam between its life ([`Instance`](super::instance::Instance)) and what it does
//! that life with, be it a task with a socket ([`Wire`](super::wire::Wire)) or a process in another language.

use super::script::Values;
use super::stage::Counted;
use crate::client::{Failure, Silent};
use crate::plan::{End, OnTimeout};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// An instance's body. It has at most one connection; every future may be dropped midway, and [`end`](Self::end) works
/// after that, too.
pub trait Body: Send + 'static {
    /// It has a connection, as far as it knows.
    fn is_connected(&self) -> bool;

    /// Starts what has to be started, and connects: called when it is not connected. Records the attempt.
    fn connect(&mut self, allowance: &mut Allowance) -> impl Future<Output = Result<(), Failed>> + Send;

    /// Runs the script once. The client's timeout counts through `allowance`; freezes do not go through it.
    fn invoke(
        &mut self,
        work: Work,
        allowance: &mut Allowance,
    ) -> impl Future<Output = Result<(), Failed>> + Send;

    /// After an attempt that failed: leaves the connection in a state in which the next attempt can use it, or closes
    /// it. Takes a few seconds at most.
    fn recover(&mut self, failure: &Failure, on_timeout: OnTimeout) -> impl Future<Output = ()> + Send;

    /// More than the connection was lost: what [`connect`](Self::connect) has to start next is a new instance.
    fn is_gone(&self) -> bool {
        false
    }

    /// Idle, but awake: returns when the connection was lost, which is closed then; never, if there is none.
    fn lose(&mut self) -> impl Future<Output = ()> + Send;

    /// Suspended between invocations: nothing is read.
    fn freeze(&mut self, lasting: Duration) -> impl Future<Output = ()> + Send;

    /// Ends for good, also in the middle of an invocation. The next [`connect`](Self::connect) is that of a new
    /// instance. Takes a few seconds at most.
    fn end(&mut self, how: End) -> impl Future<Output = Option<Kept>> + Send;
}

/// What an invocation does.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// What the script is filled in with.
    pub values: Values,
    /// Suspended in the open transaction, after the first statement.
    pub freeze_in_transaction: Option<Duration>,
    /// Suspended in the middle of a reply.
    pub freeze_reading: Option<Duration>,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What happened.
    pub failure: Failure,
    /// While connecting or logging in.
    pub at_login: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, at_login: false }
    }
}

/// What is left of the client's timeout in an attempt. Its clock runs only in [`within`](Self::within): a frozen
/// process' timers stand still.
#[derive(Debug)]
pub struct Allowance {
    left: Duration,
}

impl Allowance {
    /// All of it.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { left: timeout }
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.left
    }

    /// Does something within what is left.
    ///
    /// # Errors
    /// Those of `work`, and [`Failure::Timeout`]: `work` was dropped midway.
    pub async fn within<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let began = Instant::now();
        let done = timeout(self.left, work).await;
        self.left = self.left.saturating_sub(began.elapsed());
        done.unwrap_or(Err(Failure::Timeout))
    }
}

/// The socket of an instance that went silent. It takes its instance's place among the connections until the leg ends.
#[derive(Debug)]
pub struct Kept {
    /// Closed when this is dropped.
    pub silent: Silent,
    /// And no longer counted then.
    pub counted: Counted,
}
