//! What belongs to a client's time with a server connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::refusal::Timeout;
use crate::pool::{Lease, PinSlot, Pool};
use crate::proto::audit::{Answer, Suspects};
use crate::proto::parameters::Parameters;
use crate::proto::pin::{PinPolicy, PinReason, Pins};
use crate::proto::sql::LongText;
use crate::proto::statements::{Moment, Sequence};
use crate::server::Sequences;

/// Most custom settings of one transaction that are asked about; the names of others are overlooked.
const MOST_NAMES: usize = 64;

/// How long a client waits for a place in the budget for pins: whoever has just given up what it was pinned for is about to
/// free one.
pub(super) const SLOT_PATIENCE: Duration = Duration::from_millis(500);

/// Whether a client may do what would keep its server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayPin {
    Yes,
    No,
    /// It is to be asked again.
    Later,
}

/// Whether a message that takes away all prepared statements is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Clearing {
    #[default]
    No,
    Sent,
    /// The server was asked for its answer, too: without a Sync it would keep it.
    Flushed,
}

/// A client with a server connection.
pub(super) struct Active {
    pub(super) lease: Lease,
    /// When the server began to work on what it works on now.
    pub(super) exec_since: Instant,
    /// No row has come for what the server works on now.
    pub(super) awaits_row: bool,
    /// A row is among the replies that are being looked through.
    pub(super) has_row: bool,
    /// When the open transaction began.
    pub(super) transaction_since: Instant,
    /// When the server was last done with everything.
    pub(super) quiet_since: Instant,
    /// A ReadyForQuery was among the replies that are being looked through.
    pub(super) ready: bool,
    /// DISCARD ALL is done; the ReadyForQuery behind it is still to come.
    pub(super) discarded: bool,
    /// The server connection has this client's unnamed statement.
    pub(super) unnamed_here: bool,
    /// When that was sent.
    unnamed_at: Moment,
    /// The transaction has changed tables.
    pub(super) changed_schema: bool,
    /// A message waits for the answer to one before it, which decides what it means.
    pub(super) stalled: bool,
    /// The server has said something since.
    pub(super) progress: bool,
    /// The batch that has reset settings is not answered yet.
    pub(super) reset_open: bool,
    /// The server connection's sequences may have values of others.
    pub(super) foreign: bool,
    /// Something was sent that may have got the client a value of its own.
    pub(super) touched: bool,
    /// Settings may be as the server has them by default, and not as the client logged in with them.
    pub(super) resets: bool,
    /// The client's settings as they were when its transaction began, if it has changed some.
    pub(super) wanted_before: Option<Arc<Parameters>>,
    /// A custom setting may have been set whose name is not known.
    pub(super) unknown_names: bool,
    /// The transaction has set what decides how texts are read.
    pub(super) reshaped: bool,
    /// ReadyForQuery is held back until settings that were reset are as the client logged in with them.
    pub(super) held_ready: bool,
    /// PostgreSQL is being asked what the transaction has left behind.
    pub(super) auditing: Suspects,
    /// What the transaction may have left behind.
    pub(super) suspects: Suspects,
    /// Why the client keeps its server connection.
    pub(super) pins: Pins,
    /// New pins that the client is to be warned of.
    pub(super) warnings: Pins,
    /// Since when it waits for a place in the pool's budget for pins.
    pub(super) wants_slot_since: Option<Instant>,
    /// Its place in the pool's budget for pins.
    slot: Option<PinSlot>,
    /// An audit is over; its ReadyForQuery is not the client's.
    pub(super) audited: bool,
    /// The audit was made inside a transaction, for a reset.
    pub(super) audit_resets: bool,
    /// What ran was cancelled because it took too long.
    pub(super) timed_out: Option<Timeout>,
    pub(super) extra: Option<Box<Extra>>,
}

/// What few clients need.
#[derive(Default)]
pub(super) struct Extra {
    /// A message is not answered yet that may change tables.
    pub(super) altering: bool,
    /// The transaction has bound what takes away all prepared statements when it is executed.
    pub(super) binds_clearing: bool,
    /// Whether statements are being taken away, so that what is prepared is not known before that is answered.
    pub(super) clearing: Clearing,
    /// Custom settings that were set.
    pub(super) names: Vec<String>,
    /// The answer of the audit so far.
    pub(super) answer: Answer,
    /// The answer did not fit.
    pub(super) overflow: bool,
    /// There was an error instead of an answer.
    pub(super) failed: bool,
    /// The batch that has reset settings last.
    pub(super) reset_batch: u32,
    /// What PostgreSQL was asked and has not answered.
    pub(super) ask_again: Suspects,
    /// Something was sent that was not looked at to its end: the tags of its answers count.
    pub(super) opaque: bool,
    /// Statements that are being deallocated (None: all), with the batch of the message that does it.
    pub(super) deallocating: VecDeque<(u32, Option<Box<[u8]>>)>,
    /// The text of the message that passes in pieces.
    pub(super) long: Option<Box<LongText>>,
}

impl Active {
    pub(super) fn new(lease: Lease, now: Instant, client: i32) -> Self {
        let mut lease = lease;
        let foreign = lease.sequences.used_by(client);
        Self {
            lease,
            exec_since: now,
            awaits_row: true,
            has_row: false,
            transaction_since: now,
            quiet_since: now,
            ready: false,
            discarded: false,
            unnamed_here: false,
            unnamed_at: Moment { sequence: 0, batch: 0 },
            changed_schema: false,
            stalled: false,
            progress: false,
            reset_open: false,
            foreign,
            touched: false,
            resets: false,
            wanted_before: None,
            unknown_names: false,
            reshaped: false,
            held_ready: false,
            auditing: Suspects::NONE,
            suspects: Suspects::NONE,
            pins: Pins::NONE,
            warnings: Pins::NONE,
            wants_slot_since: None,
            slot: None,
            audited: false,
            audit_resets: false,
            timed_out: None,
            extra: None,
        }
    }

    /// A command is done (the body of its CommandComplete): if it has taken away the values of sequences, what there is from
    /// now on is the client's.
    #[inline]
    pub(super) fn note_discarded(&mut self, tag: &[u8], client: i32) {
        if matches!(tag, b"DISCARD SEQUENCES\0" | b"DISCARD ALL\0") {
            self.lease.sequences = Sequences::Of(client);
            self.foreign = false;
        }
    }

    /// Something has failed: if that was what takes others' values away, they are still there.
    pub(super) fn keep_guard(&mut self) {
        self.foreign |= self.lease.sequences == Sequences::Mixed;
    }

    pub(super) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_with(Box::default)
    }

    /// The client's unnamed statement is sent to the server connection.
    pub(super) fn has_unnamed(&mut self, at: Moment) {
        self.unnamed_here = true;
        self.unnamed_at = at;
    }

    /// Whether the server connection has the unnamed statement is decided by an earlier batch.
    pub(super) fn unnamed_is_open(&self) -> bool {
        let ledger = &self.lease.ledger;
        let is_open = self.unnamed_at.is_behind(ledger.answered()) && self.unnamed_at.batch != ledger.batch();
        self.unnamed_here && is_open && !ledger.is_copying_in()
    }

    /// Messages behind the first of these and up to the second were not run.
    pub(super) fn were_not_run(&mut self, answered: Sequence, through: Sequence) {
        if self.unnamed_at.is_behind(answered) && !self.unnamed_at.is_behind(through) {
            self.unnamed_here = false;
        }
    }

    /// A statement of this name is being deallocated by a message that is not answered yet.
    pub(super) fn is_being_deallocated(&self, name: &[u8]) -> bool {
        let Some(extra) = &self.extra else { return false };
        let batch = self.lease.ledger.batch();
        let is_it = |gone: &Option<Box<[u8]>>| gone.as_deref().is_none_or(|gone| gone == name);
        !name.is_empty() && extra.deallocating.iter().any(|(sent, gone)| *sent != batch && is_it(gone))
    }

    /// A message is not answered yet that may change tables.
    pub(super) fn is_altering(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.altering)
    }

    /// Whether statements are being taken away.
    #[inline]
    pub(super) fn clearing(&self) -> Clearing {
        self.extra.as_ref().map_or(Clearing::No, |extra| extra.clearing)
    }

    /// Whether what is executed may take away all prepared statements.
    pub(super) fn may_clear(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.binds_clearing)
    }

    /// A batch before the one that is being sent has reset settings, and is not answered yet.
    #[inline]
    pub(super) fn was_reset(&self) -> bool {
        let batch = self.lease.ledger.batch();
        self.reset_open && self.extra.as_ref().is_some_and(|extra| extra.reset_batch != batch)
    }

    /// What few clients have.
    pub(super) fn some_extra(&mut self) -> Option<&mut Extra> {
        self.extra.as_deref_mut()
    }

    /// Something is sent that is not looked at to its end.
    pub(super) fn is_opaque(&mut self) {
        self.extra().opaque = true;
    }

    /// Everything that was sent was looked at to its end.
    pub(super) fn is_clear(&self) -> bool {
        self.extra.as_ref().is_none_or(|extra| !extra.opaque)
    }

    /// A text passes that may do anything.
    pub(super) fn suspect_all(&mut self) {
        self.suspects = Suspects::ALL;
        self.unknown_names = true;
        self.reshaped = true;
        self.lease.unsure = true;
    }

    /// More of a message that passes in pieces.
    pub(super) fn passes(&mut self, piece: &[u8]) {
        let Some(long) = self.extra.as_mut().and_then(|extra| extra.long.as_mut()) else { return };
        if long.is_suspicious(piece) {
            self.is_opaque();
            self.suspect_all();
        }
    }

    /// A custom setting may have been set.
    pub(super) fn note_name(&mut self, name: &str) {
        let names = &mut self.extra().names;
        if names.len() < MOST_NAMES && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }

    /// The client is to keep its server connection.
    pub(super) fn pin(&mut self, reason: PinReason) {
        if self.pins.contains(reason) {
            return;
        }
        self.pins.insert(reason);
        let pool: &Arc<Pool> = self.lease.pool();
        if self.slot.is_none() {
            self.slot = Some(PinSlot::take(pool));
        }
        pool.metrics.pinned(reason);
        if pool.params.session.pins.policies.of(reason) == PinPolicy::Warn {
            self.warnings.insert(reason);
        }
    }

    /// The client need not keep its server connection for this reason any more.
    pub(super) fn unpin(&mut self, reason: PinReason) {
        self.pins.remove(reason);
        if self.pins.is_empty() {
            self.slot = None;
        }
    }

    /// The client is to keep its server connection if the budget has a place for it.
    pub(super) fn pin_within_budget(&mut self, reason: PinReason) {
        if self.has_slot() {
            self.pin(reason);
        }
    }

    /// Whether it has a place in the budget; takes one if there is one.
    fn has_slot(&mut self) -> bool {
        if self.slot.is_none() {
            self.slot = PinSlot::within_budget(self.lease.pool());
        }
        self.slot.is_some()
    }

    /// Whether the client may do what would keep its server connection. If so, it has a place in the budget from then on, until
    /// PostgreSQL has said that there is nothing to keep it for.
    pub(super) fn may_pin(&mut self, reason: PinReason) -> MayPin {
        let pool = self.lease.pool();
        if pool.params.session.pins.policies.of(reason) == PinPolicy::Reject {
            return MayPin::No;
        }
        if reason == PinReason::SequenceValue || self.has_slot() {
            self.wants_slot_since = None;
            return MayPin::Yes;
        }
        let since = *self.wants_slot_since.get_or_insert_with(Instant::now);
        if since.elapsed() < SLOT_PATIENCE {
            return MayPin::Later;
        }
        self.wants_slot_since = None;
        MayPin::No
    }

    /// The server connection, and the place in the budget for pins.
    pub(super) fn into_lease(self) -> (Lease, Option<PinSlot>) {
        (self.lease, self.slot)
    }

    /// What the server connection may have to be cleaned of if the client leaves now.
    pub(super) fn soil(&self) -> Pins {
        self.pins.union(self.suspects.reasons()).union(self.auditing.reasons())
    }
}
