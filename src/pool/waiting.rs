//! A client's place in the queue.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::books::{Outcome, Refused};
use super::{Lease, Pool};
use crate::guard::{KeyId, Ticket};
use crate::obs::WaitOutcome;

/// How a wait ended.
pub enum WaitEnd {
    /// With a server connection.
    Granted(Lease),
    /// With a refusal.
    Shed(Refused),
    /// With a CancelRequest.
    Cancelled,
}

/// A place in the queue. Dropped, it is given up at once, and whatever was handed over unseen goes to the next.
pub struct Waiting {
    pool: Arc<Pool>,
    ticket: Ticket,
    cell: usize,
    key: KeyId,
    since: Instant,
    over: bool,
}

impl Waiting {
    pub(super) fn new(pool: &Arc<Pool>, ticket: Ticket, cell: usize, (key, since): (KeyId, Instant)) -> Self {
        Self { pool: Arc::clone(pool), ticket, cell, key, since, over: false }
    }

    /// Whether the wait is over; if not, the task is woken when it is.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<WaitEnd> {
        let outcome = self.pool.upstream.with_books(|books| books.outcome(self.cell, cx.waker()));
        let Some(outcome) = outcome else { return Poll::Pending };
        self.over = true;
        let now = Instant::now();
        let waited = now.saturating_duration_since(self.since);
        Poll::Ready(match outcome {
            Outcome::Granted(held, home) => {
                self.pool.metrics.waited(WaitOutcome::Granted, waited);
                WaitEnd::Granted(Lease::new(held, &self.pool, home, (self.key, now)))
            }
            Outcome::Shed(refused) => {
                self.pool.metrics.waited(WaitOutcome::Shed, refused.waited);
                WaitEnd::Shed(refused)
            }
            Outcome::Cancelled => {
                self.pool.metrics.waited(WaitOutcome::Cancelled, waited);
                WaitEnd::Cancelled
            }
        })
    }

    /// When it began.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What ends this wait from outside.
    pub fn canceller(&self) -> WaitCanceller {
        WaitCanceller { pool: Arc::clone(&self.pool), ticket: self.ticket }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let now = Instant::now();
        let left = self.pool.upstream.with_books(|books| books.leave(now, self.ticket, self.cell));
        if let Some(Outcome::Granted(held, home)) = left {
            // It was the client's from the moment it was handed over, but for no time.
            self.pool.give_back(held, home, (self.key, Duration::ZERO), now);
        }
        self.pool.metrics.waited(WaitOutcome::Abandoned, now.saturating_duration_since(self.since));
    }
}

/// Ends a wait from outside: a CancelRequest for a client that is queued.
pub struct WaitCanceller {
    pool: Arc<Pool>,
    ticket: Ticket,
}

impl WaitCanceller {
    /// Ends the wait; false if it was over already.
    pub fn cancel(&self) -> bool {
        let waiter = self.pool.upstream.with_books(|books| {
            books.gate.abandon(Instant::now(), self.ticket)?;
            Some(books.end(self.ticket, Outcome::Cancelled))
        });
        if let Some(Some(waker)) = &waiter {
            waker.wake_by_ref();
        }
        waiter.is_some()
    }
}
