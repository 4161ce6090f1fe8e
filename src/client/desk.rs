//! Where a client's messages are looked at on their way to the server: statements get the proxy's names, and what may
//! leave something behind in the session is noted.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::active::{Active, Clearing, MayPin};
use super::outgoing::Outgoing;
use crate::lock::lock;
use crate::pool::{Pool, PoolMode};
use crate::proto::audit::Suspects;
use crate::proto::ledger::{OwnAnswer, Refused, Status};
use crate::proto::parameters::Parameters;
use crate::proto::pin::{PinPolicy, PinReason};
use crate::proto::sql::{self, Effects, LongText, Verb};
use crate::proto::statements::{
    BindParts, ClientStatements, Found, Known, NameBuffer, ParseParts, Place, Statement, StatementCache,
    close, is_server_name, named, parse, tail,
};
use crate::server::query;
use crate::wire::{Frame, tag};

/// The name of the statement that is deallocated in place of all of them.
const SACRIFICE: &[u8] = b"pgc_0";
/// A whole Flush message.
const FLUSH: [u8; 5] = [tag::FLUSH, 0, 0, 0, 4];
/// The name of no statement: in place of a client's that may be one of the proxy's own.
const NOBODY: &[u8] = b"pgc_";
/// A Parse message's types if there are none.
const NO_TYPES: &[u8] = &[0, 0];
/// Most statements under clients' names that wait for being closed, before messages that would make more have to wait.
const MOST_DEBRIS: usize = 100;
/// Longest name of a custom setting that is looked for among a statement's parameters.
const LONGEST_NAME: usize = 128;
/// Takes away the values that sequences have given.
pub(super) const DISCARD_SEQUENCES: &str = "DISCARD SEQUENCES";
/// The same, unless the transaction has used a sequence: it has it locked then.
const DISCARD_UNLESS_USED: &str = "DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_locks AS l \
    JOIN pg_catalog.pg_class AS c ON c.oid = l.relation WHERE l.pid = pg_catalog.pg_backend_pid() \
    AND l.mode = 'RowExclusiveLock' AND c.relkind = 'S') THEN DISCARD SEQUENCES; END IF; END$$";
/// In place of what is refused: it fails, and so does the transaction, as it should.
const REFUSED: &str = "pgcorral refuses this statement";

/// Where a client's messages are looked at.
pub(super) struct Desk<'s> {
    pub(super) active: &'s mut Active,
    pub(super) statements: &'s mut Option<Box<ClientStatements>>,
    pub(super) pool: &'s Pool,
    pub(super) cache: &'s Mutex<StatementCache>,
    /// The client has logged in with settings of its own.
    pub(super) logs_in_with: bool,
    /// The client's settings.
    pub(super) wanted: &'s Parameters,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is dealt with.
    Sent,
    /// What it means is decided by an answer that is still to come.
    Stall,
}

/// Why a message was not passed on as it is.
enum Stop {
    Stall,
    Refuse(Refused),
}

impl Desk<'_> {
    /// A message that the server answers, or part of one.
    #[inline]
    pub(super) fn take(&mut self, out: &mut Outgoing<'_>, frame: Frame) -> Taken {
        // What follows an error is ignored up to the Sync, so it changes nothing.
        let looked_at = self.pool.params.mode != PoolMode::Session && !self.active.lease.ledger.is_skipping();
        if looked_at && (self.waits_for_reset() || self.waits_for_clearing(out, frame)) {
            return Taken::Stall;
        }
        let result = match frame.tag {
            tag::EXECUTE if looked_at && self.active.may_clear() => {
                self.active.extra().clearing = Clearing::Sent;
                self.pass(out, frame);
                Ok(())
            }
            tag::QUERY if looked_at => self.query(out, frame),
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::CLOSE if looked_at && self.names_statements() => {
                match frame.tag {
                    tag::PARSE => self.parse(out, frame),
                    tag::BIND => self.bind(out, frame),
                    tag::DESCRIBE => self.describe(out, frame),
                    _ => self.close(out, frame),
                }
            }
            _ => {
                self.pass(out, frame);
                Ok(())
            }
        };
        match result {
            Ok(()) => Taken::Sent,
            Err(Stop::Stall) => Taken::Stall,
            Err(Stop::Refuse(reason)) => {
                self.refuse(out, frame, reason);
                Taken::Sent
            }
        }
    }

    /// A batch before this one has reset settings: what the client has logged in with is to be set again first.
    #[inline]
    fn waits_for_reset(&self) -> bool {
        self.logs_in_with && self.active.was_reset()
    }

    /// A message before this one takes away all prepared statements: what this one needs is decided by its answer.
    #[inline]
    fn waits_for_clearing(&mut self, out: &mut Outgoing<'_>, frame: Frame) -> bool {
        self.active.clearing() != Clearing::No
            && matches!(frame.tag, tag::PARSE | tag::BIND | tag::DESCRIBE | tag::CLOSE)
            && self.is_clearing(out, frame)
    }

    fn is_clearing(&mut self, out: &mut Outgoing<'_>, frame: Frame) -> bool {
        if self.active.lease.ledger.is_copying_in() {
            return false;
        }
        if self.active.clearing() == Clearing::Sent {
            self.active.extra().clearing = Clearing::Flushed;
            out.before(frame).extend_from_slice(&FLUSH);
        }
        true
    }

    fn names_statements(&self) -> bool {
        self.pool.params.session.statements.max_per_server > 0
    }

    /// Passes a message on as it is.
    fn pass(&mut self, out: &Outgoing<'_>, frame: Frame) {
        self.active.lease.ledger.sent(frame.tag, out.body(frame).first().copied());
    }

    fn refuse(&mut self, out: &mut Outgoing<'_>, frame: Frame, reason: Refused) {
        match frame.tag {
            tag::QUERY => query(out.instead(frame), REFUSED),
            _ => parse(out.instead(frame), b"", REFUSED.as_bytes(), NO_TYPES),
        }
        self.active.unnamed_here = false;
        self.active.lease.ledger.sent_refused(frame.tag, reason);
    }

    fn may_pin(&mut self, reason: PinReason) -> Result<(), Stop> {
        match self.active.may_pin(reason) {
            MayPin::Yes => Ok(()),
            MayPin::Later => Err(Stop::Stall),
            MayPin::No => Err(Stop::Refuse(Refused::Pin(reason))),
        }
    }

    /// Notes what a statement may leave behind.
    fn look_at(&mut self, effects: &Effects) -> Result<(), Stop> {
        let fresh = effects.pins.without(self.active.pins);
        fresh.iter().try_for_each(|reason| self.may_pin(reason))?;
        self.active.suspects.insert(effects.suspects);
        self.active.reshaped |= effects.reshapes;
        self.active.unknown_names |= effects.unknown_names;
        if effects.alters {
            self.active.extra().altering = true;
        }
        if effects.resets {
            self.active.resets = true;
            self.active.reset_open = true;
            let batch = self.active.lease.ledger.batch();
            self.active.extra().reset_batch = batch;
        }
        if effects.suspects.contains(Suspects::SETTINGS) {
            self.active.lease.unsure = true;
        }
        effects.names.iter().for_each(|name| self.active.note_name(name));
        Ok(())
    }

    /// A value that a sequence gave somebody else is not to be seen, and one that it has given the client itself is. Once
    /// anybody in the pool asks for such values, others' are taken away in front of everything else
    /// ([`Session::start`](super::session::Session)).
    fn guard_sequences(&mut self, out: &mut Outgoing<'_>, frame: Frame, text: &[u8], effects: &Effects) {
        let active = &mut *self.active;
        if !effects.reads_sequence {
            active.touched |= active.foreign && !sql::is_transaction_begin(text);
            return;
        }
        self.pool.pinned.note_read_of_sequence();
        if active.foreign && !(active.touched && active.lease.ledger.wants_sync()) {
            active.foreign = false;
            // In a transaction that has failed meanwhile it fails, too; then nobody gets a value either.
            active.lease.ledger.sent_spoil();
            let sql = if active.touched { DISCARD_UNLESS_USED } else { DISCARD_SEQUENCES };
            query(out.before(frame), sql);
            active.unnamed_here = false;
        }
        // With others' values among its own it is not to stay.
        if !active.touched {
            active.pin_within_budget(PinReason::SequenceValue);
        }
    }

    /// A text goes on in pieces: what of it is still to come is looked at as it passes.
    fn begins_long(&mut self, text: &[u8]) {
        let mut long = Box::new(LongText::default());
        if long.is_suspicious(text) {
            self.active.is_opaque();
            self.active.suspect_all();
        } else {
            self.active.extra().long = Some(long);
        }
    }

    fn query(&mut self, out: &mut Outgoing<'_>, frame: Frame) -> Result<(), Stop> {
        let body = out.body(frame);
        let text = body.strip_suffix(b"\0").unwrap_or(body);
        let mut effects = sql::effects(text);
        if !frame.whole {
            // What is alone in this piece need not be alone in the text.
            for verb in effects.verbs.iter_mut().filter(|verb| **verb == Verb::DeallocateAllAlone) {
                *verb = Verb::DeallocateAll;
            }
            self.begins_long(text);
        }
        let mut instead = None;
        if !effects.is_harmless() {
            self.look_at(&effects)?;
            instead = self.about_statements(out, frame, &effects.verbs)?;
        }
        self.guard_sequences(out, frame, text, &effects);
        match instead {
            Some(sql) => query(out.instead(frame), sql),
            None if effects.clears => self.active.extra().clearing = Clearing::Sent,
            None => {}
        }
        self.active.unnamed_here = false;
        if let Some(statements) = self.statements {
            statements.end_unnamed();
        }
        self.pass(out, frame);
        Ok(())
    }

    /// SQL about statements that the server has under another name: one of the client's name is put in front, for it
    /// to act upon. Returns what is to be sent instead of a Query.
    fn about_statements(
        &mut self,
        out: &mut Outgoing<'_>,
        frame: Frame,
        verbs: &[Verb],
    ) -> Result<Option<&'static str>, Stop> {
        if !self.names_statements() {
            return Ok(None);
        }
        // First of all, since a message that has to wait is looked at again from the start.
        for verb in verbs {
            if let Verb::Prepare(name) | Verb::Deallocate(name) | Verb::Execute(name) = verb {
                self.settled(name)?;
            }
        }
        if let [Verb::Deallocate(name)] = verbs
            && self.is_of_nobody(name)
            && frame.whole
            && is_alone(out.body(frame))
        {
            return Ok(Some("DEALLOCATE pgc_"));
        }
        // Those that are executed come first: the others are noted with the number of their batch.
        for verb in verbs {
            if let Verb::Execute(name) = verb
                && let Some(statement) = self.shared_under(name)
            {
                self.stand_in(out, frame, name, Some(&statement));
            }
        }
        let is_executed = |name: &[u8]| verbs.iter().any(|verb| *verb == Verb::Execute(name.into()));
        let mut instead = None;
        for verb in verbs {
            match verb {
                Verb::DeallocateAllAlone
                    if frame.tag == tag::QUERY && !self.active.pins.contains(PinReason::SqlPrepare) =>
                {
                    self.deallocates(None);
                    let out = out.before(frame);
                    self.active.lease.own_close(out, SACRIFICE);
                    self.active.lease.own_parse(out, SACRIFICE, b"", NO_TYPES);
                    instead = Some("DEALLOCATE pgc_0");
                }
                Verb::DeallocateAllAlone | Verb::DeallocateAll => self.deallocates(None),
                // That there is one already, or that there is one to be taken away, is for PostgreSQL to find.
                Verb::Prepare(name) | Verb::Deallocate(name) => {
                    if !is_executed(name) && self.shared_under(name).is_some() {
                        self.stand_in(out, frame, name, None);
                    }
                    if matches!(verb, Verb::Deallocate(_)) {
                        self.deallocates(Some(name.clone()));
                    }
                }
                Verb::Execute(_) => {}
            }
        }
        Ok(instead)
    }

    /// The statement that a name stands for, if the server has it under another one.
    fn shared_under(&self, name: &[u8]) -> Option<Arc<Statement>> {
        match self.statements.as_ref()?.get(name)? {
            Known::Shared(statement, _) => Some(Arc::clone(statement)),
            _ => None,
        }
    }

    fn deallocates(&mut self, name: Option<Box<[u8]>>) {
        let batch = self.active.lease.ledger.batch();
        self.active.extra().deallocating.push_back((batch, name));
    }

    /// Prepares a statement, or just something, under a client's name, to be closed before the server connection is used
    /// again.
    fn stand_in(&mut self, out: &mut Outgoing<'_>, frame: Frame, name: &[u8], statement: Option<&Statement>) {
        let lease = &mut self.active.lease;
        let out = out.before(frame);
        // There may be one of an earlier message; a Parse that fails would take the client's message with it.
        lease.own_close(out, name);
        match statement {
            // It fails in a failed transaction, and where its tables are gone.
            Some(statement) if frame.tag == tag::QUERY => {
                lease.tried_parse(out, name, statement.text(), statement.types());
            }
            Some(statement) => drop(lease.own_parse(out, name, statement.text(), statement.types())),
            None => drop(lease.own_parse(out, name, b"", NO_TYPES)),
        }
        lease.debris.push(name.into());
    }

    fn parse(&mut self, out: &mut Outgoing<'_>, frame: Frame) -> Result<(), Stop> {
        let body = out.body(frame);
        if !frame.whole {
            // A name that does not end within what is looked at is one all the same.
            let name = memchr::memchr(0, body).and_then(|end| body.get(..end)).unwrap_or(body);
            let text = body.get(name.len() + 1..).unwrap_or_default();
            self.look_at(&sql::effects(text))?;
            self.keep_on_server(name)?;
            self.begins_long(text);
            return Ok(());
        }
        let Some(parts) = ParseParts::of(body) else {
            self.pass(out, frame);
            return Ok(());
        };
        if parts.name.is_empty() {
            return self.parse_unnamed(out, frame, &parts);
        }
        self.settled(parts.name)?;
        let lease = &self.active.lease;
        if lease.debris.len() >= MOST_DEBRIS && !lease.ledger.is_settled() && !lease.ledger.is_copying_in() {
            return Err(Stop::Stall);
        }
        if self.statements.as_ref().is_some_and(|all| all.get(parts.name).is_some()) {
            // PostgreSQL is to say so, in its own words and at its own time.
            self.stand_in(out, frame, parts.name, None);
            self.pass(out, frame);
            return Ok(());
        }
        if self.active.pins.contains(PinReason::SqlPrepare) {
            // One of SQL's PREPARE may have the name: then PostgreSQL says so, and nothing behind it is run.
            let out = out.before(frame);
            self.active.lease.own_parse(out, parts.name, b"", NO_TYPES);
            self.active.lease.own_close(out, parts.name);
        }
        match self.look_up(&parts) {
            Found::Statement(statement) if self.statements.as_ref().is_none_or(|all| !all.is_full()) => {
                self.prepare(out, frame, parts.name, statement)
            }
            _ => {
                if !sql::effects(parts.text).is_harmless() {
                    self.active.is_opaque();
                }
                self.keep_on_server(parts.name)
            }
        }
    }

    fn parse_unnamed(
        &mut self,
        out: &mut Outgoing<'_>,
        frame: Frame,
        parts: &ParseParts<'_>,
    ) -> Result<(), Stop> {
        let params = &self.pool.params.session.statements;
        let found = if params.promote_unnamed && !self.active.reshaped {
            let settings = self.wanted.reading();
            lock(self.cache).find(parts, settings.as_deref(), params.strip_trace_comments, true)
        } else {
            Found::New
        };
        if let Found::Statement(statement) = found {
            return self.prepare(out, frame, b"", statement);
        }
        let at = self.active.lease.ledger.next_moment();
        self.active.lease.ledger.sent_parse(at);
        self.active.has_unnamed(at);
        self.known().set(at, b"", Some(Known::Own(out.body(frame).into())));
        Ok(())
    }

    /// A statement that cannot be kept stays where it is prepared, and with it the client, if it has a name.
    fn keep_on_server(&mut self, name: &[u8]) -> Result<(), Stop> {
        if !name.is_empty() {
            self.settled(name)?;
            self.may_pin(PinReason::SqlPrepare)?;
            self.active.pin(PinReason::SqlPrepare);
        }
        let at = self.active.lease.ledger.next_moment();
        self.active.lease.ledger.sent_parse(at);
        if name.is_empty() {
            self.active.has_unnamed(at);
        }
        self.known().set(at, name, Some(Known::OnServer));
        Ok(())
    }

    /// The client prepares a statement that the proxy knows.
    fn prepare(
        &mut self,
        out: &mut Outgoing<'_>,
        frame: Frame,
        name: &[u8],
        statement: Arc<Statement>,
    ) -> Result<(), Stop> {
        let rejected =
            |reason: &PinReason| self.pool.params.session.pins.policies.of(*reason) == PinPolicy::Reject;
        if let Some(reason) = statement.effects.pins.iter().find(rejected) {
            return Err(Stop::Refuse(Refused::Pin(reason)));
        }
        let schema = self.pool.schema.load(Ordering::Relaxed);
        let place = match self.place(&statement)? {
            // Prepared anew, as far as this client can tell, so tables have to be as they are now.
            Place::Prepared
                if self.active.is_altering()
                    || !self.active.lease.statements.is_under(&statement, schema) =>
            {
                Place::Outdated
            }
            place => place,
        };
        // Whether it can be prepared may depend on what is being set.
        let sets = self.active.suspects.contains(Suspects::SETTINGS);
        let ends = statement.ends_transaction;
        let ledger = &mut self.active.lease.ledger;
        let failed = ledger.status() == Status::Failed;
        if place == Place::Prepared && failed && !ends && ledger.unanswered() == 0 {
            // It fails before its name is looked at. Were it closed first, it could not be prepared again before ROLLBACK.
            let at = ledger.next_moment();
            ledger.sent_parse(at);
            statement.parse(out.instead(frame));
            self.known().set(at, name, shared(statement));
            return Ok(());
        }
        if place == Place::Prepared && (!failed || ends && ledger.unanswered() == 0) && !sets {
            let at = ledger.next_moment();
            let answer = if ends { OwnAnswer::ParseCompleteAlways } else { OwnAnswer::ParseComplete };
            ledger.answers(answer, at);
            out.instead(frame);
            self.active.lease.replay.uses(&statement, false, true);
            self.known().set(at, name, shared(statement));
            return Ok(());
        }
        self.make_way(out, frame, &statement, place);
        let lease = &mut self.active.lease;
        let at = lease.ledger.next_moment();
        lease.ledger.sent_parse(at);
        lease.statements.prepare(at, &statement, schema);
        lease.replay.uses(&statement, true, true);
        statement.parse(out.instead(frame));
        self.known().set(at, name, shared(statement));
        Ok(())
    }

    /// Whether a statement is prepared here; counts it.
    fn place(&mut self, statement: &Statement) -> Result<Place, Stop> {
        let lease = &mut self.active.lease;
        let batch = lease.ledger.batch();
        let place = lease.statements.find(statement, batch);
        if place == Place::Open && !lease.ledger.is_copying_in() {
            return Err(Stop::Stall);
        }
        self.pool.metrics.prepared(place == Place::Prepared);
        Ok(place)
    }

    /// Closes what is in the way of preparing a statement: an older one of the same name, or one too many.
    fn make_way(&mut self, out: &mut Outgoing<'_>, frame: Frame, statement: &Statement, place: Place) {
        let lease = &mut self.active.lease;
        let mut name = vec![];
        let id = if place == Place::Missing {
            lease.statements.surplus(&mut name)
        } else {
            statement.server_name(&mut name);
            Some(statement.id)
        };
        if let Some(id) = id {
            let at = lease.ledger.next_moment();
            lease.ledger.sent_own_close(at);
            lease.statements.close(at, id);
            close(out.before(frame), tag::CLOSE, &name);
        }
    }

    /// Prepares a statement that the next message needs.
    fn ensure(&mut self, out: &mut Outgoing<'_>, frame: Frame, statement: &Arc<Statement>, place: Place) {
        let fresh = place != Place::Prepared;
        if fresh {
            self.make_way(out, frame, statement, place);
            let lease = &mut self.active.lease;
            let at = lease.ledger.next_moment();
            lease.ledger.sent_own_parse(at);
            lease.statements.prepare(at, statement, self.pool.schema.load(Ordering::Relaxed));
            statement.parse(out.before(frame));
        }
        self.active.lease.replay.uses(statement, fresh, false);
    }

    /// What a name stands for, with its statement on the server; None if PostgreSQL is to answer by itself.
    fn statement_of(
        &mut self,
        out: &mut Outgoing<'_>,
        frame: Frame,
        name: &[u8],
        executes: bool,
    ) -> Result<Option<Arc<Statement>>, Stop> {
        self.settled(name)?;
        match self.statements.as_ref().and_then(|all| all.get(name)).cloned() {
            Some(Known::Shared(statement, generation)) => {
                if generation != statement.generation() {
                    return Err(Stop::Refuse(Refused::Outdated));
                }
                // First of all, since a message that has to wait is looked at again from the start.
                let (statement, place) = self.readable(name, statement)?;
                if executes {
                    self.will_execute(out, frame, statement.text(), &statement.effects)?;
                }
                self.ensure(out, frame, &statement, place);
                return Ok(Some(statement));
            }
            Some(Known::Own(body)) => {
                if executes && let Some(parts) = ParseParts::of(&body) {
                    self.will_execute(out, frame, parts.text, &sql::effects(parts.text))?;
                }
                if self.active.unnamed_is_open() {
                    return Err(Stop::Stall);
                }
                if !self.active.unnamed_here
                    && let Some(parts) = ParseParts::of(&body)
                {
                    let at = self.active.lease.own_parse(out.before(frame), b"", parts.text, parts.types);
                    self.active.has_unnamed(at);
                }
            }
            Some(Known::OnServer) if executes && !self.active.is_clear() => self.active.suspect_all(),
            Some(Known::OnServer) => {}
            // Somebody else's may be there.
            None if name.is_empty() => self.active.lease.own_close(out.before(frame), b""),
            None => {}
        }
        Ok(None)
    }

    /// A statement as it may be prepared here. One that others have, too, is not to be prepared under settings under which it
    /// would mean something else: the client has one of its own from then on.
    fn readable(&mut self, name: &[u8], statement: Arc<Statement>) -> Result<(Arc<Statement>, Place), Stop> {
        let place = self.place(&statement)?;
        let is_alike = statement.is_alone() || !self.active.reshaped && statement.is_read_under(self.wanted);
        if place == Place::Prepared || is_alike {
            return Ok((statement, place));
        }
        // Its driver prepares it again.
        let Found::Statement(other) = self.look_up(&statement.as_parse()) else {
            return Err(Stop::Refuse(Refused::Outdated));
        };
        self.known().replace(name, &other);
        let place = self.place(&other)?;
        Ok((other, place))
    }

    /// The statement of this text as the client reads it now: one of its own where others would read it otherwise.
    fn look_up(&self, parts: &ParseParts<'_>) -> Found {
        if self.active.reshaped {
            return lock(self.cache).alone(parts);
        }
        let strip = self.pool.params.session.statements.strip_trace_comments;
        let reading = self.wanted.reading();
        lock(self.cache).find(parts, reading.as_deref(), strip, false)
    }

    fn will_execute(
        &mut self,
        out: &mut Outgoing<'_>,
        frame: Frame,
        text: &[u8],
        effects: &Effects,
    ) -> Result<(), Stop> {
        if !effects.is_harmless() {
            self.look_at(effects)?;
            if effects.clears {
                self.active.extra().binds_clearing = true;
            }
            // What was prepared as DEALLOCATE ALL does what it says, and so to the other clients' statements here.
            self.about_statements(out, frame, &effects.verbs)?;
        }
        self.guard_sequences(out, frame, text, effects);
        Ok(())
    }

    #[inline]
    fn bind(&mut self, out: &mut Outgoing<'_>, frame: Frame) -> Result<(), Stop> {
        let Some(parts) = BindParts::of(out.body(frame)) else {
            // Whatever it executes, PostgreSQL is asked what it has done.
            self.active.suspect_all();
            self.pass(out, frame);
            return Ok(());
        };
        let statement = self.statement_of(out, frame, parts.statement, true)?;
        // Of this statement or of one before it.
        if self.active.unknown_names {
            parts.values().filter_map(custom_name).for_each(|name| self.active.note_name(name));
        }
        if let Some(statement) = statement {
            let mut name = NameBuffer::default();
            let name = statement.short_name(&mut name);
            out.rename_bind(frame, &parts, name);
            self.active.lease.ledger.sent_bind(tail(parts.statement));
        } else if self.is_of_nobody(parts.statement) {
            out.rename_bind(frame, &parts, NOBODY);
            self.active.lease.ledger.sent_bind(tail(parts.statement));
        } else {
            self.pass(out, frame);
        }
        Ok(())
    }

    fn describe(&mut self, out: &mut Outgoing<'_>, frame: Frame) -> Result<(), Stop> {
        self.active.lease.replay.describes = true;
        if let Some((b'S', name)) = named(out.body(frame)) {
            if let Some(statement) = self.statement_of(out, frame, name, false)? {
                let mut name = NameBuffer::default();
                close(out.instead(frame), tag::DESCRIBE, statement.short_name(&mut name));
            } else if self.is_of_nobody(name) {
                close(out.instead(frame), tag::DESCRIBE, NOBODY);
            }
        }
        self.pass(out, frame);
        Ok(())
    }

    /// The client has no statement of this name, and a proxy may: it is not to be had by asking for it.
    #[inline]
    fn is_of_nobody(&self, name: &[u8]) -> bool {
        is_server_name(name)
            && self.statements.as_ref().is_none_or(|all| all.get(name).is_none())
            // It may have prepared one by SQL.
            && !self.active.pins.contains(PinReason::SqlPrepare)
    }

    fn close(&mut self, out: &mut Outgoing<'_>, frame: Frame) -> Result<(), Stop> {
        let Some((b'S', name)) = named(out.body(frame)) else {
            self.pass(out, frame);
            return Ok(());
        };
        self.settled(name)?;
        let known = self.statements.as_ref().and_then(|all| all.get(name));
        let is_here = match known {
            Some(Known::OnServer) => true,
            Some(Known::Own(_)) => self.active.unnamed_here,
            Some(Known::Shared(..)) => false,
            // Prepared by SQL, perhaps.
            None => self.active.pins.contains(PinReason::SqlPrepare),
        };
        let (known, lease) = (known.is_some(), &mut self.active.lease);
        let at = lease.ledger.next_moment();
        if is_here {
            lease.ledger.sent_close(at);
        } else {
            lease.ledger.answers(OwnAnswer::CloseComplete, at);
            out.instead(frame);
        }
        if known {
            self.known().set(at, name, None);
        }
        if is_here && self.active.pins.contains(PinReason::SqlPrepare) {
            self.active.suspects.insert(Suspects::PREPARED);
        }
        Ok(())
    }

    /// What the name stands for is decided.
    #[inline]
    fn settled(&self, name: &[u8]) -> Result<(), Stop> {
        let Some(all) = self.statements.as_ref() else { return Ok(()) };
        let ledger = &self.active.lease.ledger;
        let open = all.is_open_before(name, ledger.batch()) || self.active.is_being_deallocated(name);
        if open && !ledger.is_copying_in() { Err(Stop::Stall) } else { Ok(()) }
    }

    fn known(&mut self) -> &mut ClientStatements {
        self.statements.get_or_insert_default()
    }
}

fn shared(statement: Arc<Statement>) -> Option<Known> {
    let generation = statement.generation();
    Some(Known::Shared(statement, generation))
}

/// A value that may be the name of a custom setting.
fn custom_name(value: &[u8]) -> Option<&str> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.$".contains(byte) || *byte >= 0x80;
    let name = std::str::from_utf8(value).ok()?;
    (name.contains('.') && name.len() <= LONGEST_NAME && value.iter().all(is_name)).then_some(name)
}

/// There is nothing in a Query message's text but one statement. False for some where that is so.
fn is_alone(body: &[u8]) -> bool {
    let text = body.strip_suffix(b"\0").unwrap_or(body);
    text.split(|byte| *byte == b';').filter(|part| !part.trim_ascii().is_empty()).count() == 1
}
