//! The gate and the clients that wait at it, under one lock.

use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

use super::store::Held;
use crate::guard::{Action, Gate, Home, PoolId, ShedReason, Ticket};

/// How a wait ended.
pub(super) enum Outcome {
    /// With a server connection, whose socket this home watches.
    Granted(Held, Home),
    /// With a refusal.
    Shed(Refused),
    /// With a CancelRequest.
    Cancelled,
}

/// Why, after how long, and when trying again is of use (to be jittered).
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    /// Why.
    pub reason: ShedReason,
    /// Since its arrival.
    pub waited: Duration,
    /// When trying again is of use; to be jittered.
    pub retry_after: Duration,
}

/// A client that waits.
#[derive(Default)]
struct Cell {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// What has to be done once the lock is released.
#[derive(Default)]
pub(super) struct Chores {
    pub(super) wake: Vec<Waker>,
    pub(super) grant: Vec<(Ticket, PoolId, Home)>,
    pub(super) dial: Vec<(PoolId, Home)>,
    pub(super) close_idle: Vec<(PoolId, Home)>,
}

/// The gate and the clients that wait at it.
pub(super) struct Books {
    pub(super) gate: Gate,
    /// Filled by the gate, emptied by [`Books::chores`]; its memory is kept.
    pub(super) actions: Vec<Action>,
    cells: Slab<Cell>,
    /// The cell of each ticket, by the ticket's index.
    by_ticket: Vec<usize>,
}

impl Books {
    pub(super) fn new(gate: Gate) -> Self {
        Self { gate, actions: vec![], cells: Slab::new(), by_ticket: vec![] }
    }

    /// A client starts to wait. The index is that of its cell.
    pub(super) fn queued(&mut self, ticket: Ticket) -> usize {
        let cell = self.cells.insert(Cell::default());
        if self.by_ticket.len() <= ticket.index() {
            self.by_ticket.resize(ticket.index() + 1, usize::MAX);
        }
        self.by_ticket[ticket.index()] = cell;
        cell
    }

    /// A client's wait is over; it finds out when it next looks, for which it is to be woken once the lock is released.
    #[must_use = "who waits has to be woken"]
    pub(super) fn end(&mut self, ticket: Ticket, outcome: Outcome) -> Option<Waker> {
        let cell = self.by_ticket.get(ticket.index()).and_then(|cell| self.cells.get_mut(*cell));
        debug_assert!(cell.is_some(), "a ticket ends once");
        let cell = cell?;
        cell.outcome = Some(outcome);
        cell.waker.take()
    }

    /// How a client's wait ended; while it has not, `waker` is kept.
    pub(super) fn outcome(&mut self, cell: usize, waker: &Waker) -> Option<Outcome> {
        let waiting = self.cells.get_mut(cell)?;
        match waiting.outcome.take() {
            Some(outcome) => {
                self.cells.remove(cell);
                Some(outcome)
            }
            None => {
                waiting.waker = Some(waker.clone());
                None
            }
        }
    }

    /// A client does not wait any more. What it was given without having seen it comes back.
    pub(super) fn leave(&mut self, now: Instant, ticket: Ticket, cell: usize) -> Option<Outcome> {
        let waiting = self.cells.try_remove(cell)?;
        if waiting.outcome.is_none() {
            self.gate.abandon(now, ticket);
        }
        waiting.outcome
    }

    /// Takes what is to be done outside the lock; None, and no cost, if it is nothing.
    #[inline]
    pub(super) fn chores(&mut self) -> Option<Chores> {
        if self.actions.is_empty() {
            return None;
        }
        Some(self.sort_actions())
    }

    #[cold]
    fn sort_actions(&mut self) -> Chores {
        let mut chores = Chores::default();
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Shed { ticket, reason, waited, retry_after } => {
                    let refused = Refused { reason, waited, retry_after };
                    chores.wake.extend(self.end(ticket, Outcome::Shed(refused)));
                }
                Action::Grant { ticket, pool, from } => chores.grant.push((ticket, pool, from)),
                Action::Dial { pool, home } => chores.dial.push((pool, home)),
                Action::CloseIdle { pool, home } => chores.close_idle.push((pool, home)),
            }
        }
        self.actions = actions;
        chores
    }
}
