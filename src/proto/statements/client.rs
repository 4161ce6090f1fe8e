//! The statements that a client has prepared, by its own names.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::changes::{Changes, Moment, Sequence};
use super::statement::Statement;
use crate::proto::ledger::Voided;

/// Most names that one client may have at once. One more stays on its server connection, and the client with it.
const MOST_NAMES: usize = 10_000;
/// Most bytes of these names and of the texts that they stand for: as long as a client has a name for it, a text is kept. More
/// than any driver's cache holds, and a quarter of what the proxy keeps for all.
const MOST_BYTES: usize = 16 << 20;

/// What one of its names stands for.
#[derive(Debug, Clone)]
pub enum Known {
    /// A statement that the proxy knows, and its generation when the client prepared it.
    Shared(Arc<Statement>, u32),
    /// The body of its Parse message; only for the unnamed statement.
    Own(Box<[u8]>),
    /// A statement that is on its server connection only, under its own name.
    OnServer,
}

impl Known {
    /// Bytes that are kept for it, if nobody else has it.
    fn bytes(&self) -> usize {
        match self {
            Self::Shared(statement, _) => statement.text().len(),
            Self::Own(body) => body.len(),
            Self::OnServer => 0,
        }
    }
}

/// Tells the names of a client's statements from each other, with next to no effort: drivers number them. 0: the unnamed one.
#[inline]
pub fn tail(name: &[u8]) -> u32 {
    name.iter().rev().take(4).fold(0, |tail, byte| tail << 8 | u32::from(*byte))
}

/// The statements that a client has prepared. The unnamed one has the empty name.
#[derive(Debug, Default)]
pub struct ClientStatements {
    by_name: HashMap<Box<[u8]>, Known, RandomState>,
    unnamed: Option<Known>,
    /// Of names and of what they stand for.
    bytes: usize,
    changes: Changes<Box<[u8]>, Known>,
}

impl ClientStatements {
    /// What a name stands for.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&Known> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.by_name.get(name) }
    }

    /// No further name fits.
    pub fn is_full(&self) -> bool {
        self.by_name.len() >= MOST_NAMES || self.bytes >= MOST_BYTES
    }

    /// Whether it is not known yet what the name stands for: a message of an earlier batch decides it.
    #[inline]
    pub fn is_open_before(&self, name: &[u8], batch: u32) -> bool {
        self.changes.is_open_before(name, batch)
    }

    /// A message is sent by which the name comes to stand for this; None: for nothing.
    pub fn set(&mut self, at: Moment, name: &[u8], known: Option<Known>) {
        let before = self.put(name.into(), known);
        self.changes.note(at, name.into(), before);
    }

    fn put(&mut self, name: Box<[u8]>, known: Option<Known>) -> Option<Known> {
        if name.is_empty() {
            return std::mem::replace(&mut self.unnamed, known);
        }
        let length = name.len();
        let size = |known: &Option<Known>| known.as_ref().map_or(0, |known| length + known.bytes());
        let after = size(&known);
        let before = match known {
            Some(known) => self.by_name.insert(name, known),
            None => self.by_name.remove(&name),
        };
        self.bytes = (self.bytes + after).saturating_sub(size(&before));
        before
    }

    /// The unnamed statement is gone, whatever becomes of the message that ended it.
    pub fn end_unnamed(&mut self) {
        self.unnamed = None;
    }

    /// A statement is gone for good (DEALLOCATE is done). What was sent since stands.
    pub fn remove(&mut self, name: &[u8]) {
        self.changes.forget_before(|key| **key == *name);
        if !self.changes.is_open(name) {
            self.put(name.into(), None);
        }
    }

    /// All are gone for good (DEALLOCATE ALL is done); the unnamed one is none of those. What was sent since stands.
    pub fn remove_all(&mut self) {
        self.changes.forget_before(|key| !key.is_empty());
        let Self { by_name, changes, .. } = self;
        by_name.retain(|name, _| changes.is_open(&**name));
        self.count();
        if self.by_name.is_empty() {
            self.by_name = HashMap::default();
        }
    }

    fn count(&mut self) {
        self.bytes = self.by_name.iter().map(|(name, known)| name.len() + known.bytes()).sum();
    }

    /// The client has no server connection any more, and was not pinned to the one it had.
    #[inline]
    pub fn released(&mut self) {
        self.changes.clear();
        if matches!(self.unnamed, Some(Known::OnServer)) {
            self.unnamed = None;
        }
    }

    /// The name that stands for the statement of this id, or stood for it until a message that is not answered yet; of
    /// several, the one with this [`tail`].
    pub fn name_of(&self, id: u64, end: Option<u32>) -> Option<&[u8]> {
        let is_it = |known: &Known| matches!(known, Known::Shared(statement, _) if statement.id == id);
        let now = self.by_name.iter().map(|(name, known)| (&**name, known));
        let unnamed = self.unnamed.iter().map(|known| (&b""[..], known));
        let before = self.changes.before().map(|(name, known)| (&**name, known));
        let all = unnamed.chain(now).chain(before);
        let mut names = all.filter(|(_, known)| is_it(known)).map(|(name, _)| name);
        names.find(|name| end.is_none_or(|end| tail(name) == end))
    }

    /// A name stands for another statement of the same text from now on.
    pub fn replace(&mut self, name: &[u8], statement: &Arc<Statement>) {
        let known = if name.is_empty() { self.unnamed.as_mut() } else { self.by_name.get_mut(name) };
        let Some(known) = known else { return };
        let before = std::mem::replace(known, Known::Shared(Arc::clone(statement), statement.generation()));
        if !name.is_empty() {
            // The same text may have another trace comment.
            self.bytes = (self.bytes + known.bytes()).saturating_sub(before.bytes());
        }
    }

    /// The client is told what its statements look like now.
    pub fn renew(&mut self, statements: &[Arc<Statement>]) {
        for known in self.by_name.values_mut().chain(&mut self.unnamed) {
            if let Known::Shared(statement, generation) = known
                && statements.iter().any(|renewed| renewed.id == statement.id)
            {
                *generation = statement.generation();
            }
        }
    }

    /// Some are on the server connection only.
    pub fn are_on_server(&self) -> bool {
        self.by_name.values().any(|known| matches!(known, Known::OnServer))
    }

    /// Those that were on the server connection only are gone with it.
    pub fn leave_server(&mut self) {
        self.by_name.retain(|_, known| !matches!(known, Known::OnServer));
        self.count();
        if matches!(self.unnamed, Some(Known::OnServer)) {
            self.unnamed = None;
        }
        self.changes.clear();
    }

    /// Every message up to this one is done.
    #[inline]
    pub fn confirm(&mut self, through: Sequence) {
        self.changes.confirm(through);
    }

    /// Messages were not run.
    pub fn void(&mut self, voided: Voided) {
        let mut changes = std::mem::take(&mut self.changes);
        changes.void(
            voided.through,
            // A Parse without a name ends the unnamed statement even if it fails.
            |name, sequence| name.is_empty() && voided.failed == Some(sequence),
            |name, before| drop(self.put(name, before)),
        );
        self.changes = changes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::statements::cache::{Found, StatementCache};
    use crate::proto::statements::parts::ParseParts;

    const AT: Moment = Moment { sequence: 0, batch: 0 };

    #[test]
    fn one_client_cannot_keep_more_than_its_share_of_texts() {
        let mut cache = StatementCache::new(1, 10_000, 1 << 30);
        let mut statements = ClientStatements::default();
        let mut set = |statements: &mut ClientStatements, name: usize, length: usize| {
            let text = format!("select {name}, '{}'", "x".repeat(length));
            let parts = ParseParts { name: b"", text: text.as_bytes(), types: &[0, 0] };
            let Found::Statement(statement) = cache.find(&parts, None, true, false) else { panic!() };
            let known = Known::Shared(Arc::clone(&statement), statement.generation());
            statements.set(AT, name.to_string().as_bytes(), Some(known));
        };
        (0..1000).for_each(|name| set(&mut statements, name, 1000));
        assert!(!statements.is_full(), "what a driver keeps");
        (0..1000).for_each(|name| set(&mut statements, name, 1000));
        assert!(!statements.is_full(), "the same names again");
        (1000..9000).for_each(|name| set(&mut statements, name, 2000));
        assert!(statements.is_full());
        (0..9000_usize).for_each(|name| statements.set(AT, name.to_string().as_bytes(), None));
        assert_eq!(statements.bytes, 0);
    }

    #[test]
    fn the_same_text_with_another_comment_is_counted_as_what_it_is() {
        let mut cache = StatementCache::new(1, 10, 1 << 20);
        let comment = "x".repeat(500);
        let texts = ["select 1".to_owned(), format!("/*a='{comment}'*/ select 1")];
        let [short, long] = texts.map(|text| {
            let (settings, parts) =
                (text.len().to_string(), ParseParts { name: b"", text: text.as_bytes(), types: &[0, 0] });
            let Found::Statement(statement) = cache.find(&parts, Some(&settings), true, false) else {
                panic!()
            };
            statement
        });
        let mut statements = ClientStatements::default();
        statements.set(AT, b"s", Some(Known::Shared(Arc::clone(&short), short.generation())));
        statements.replace(b"s", &long);
        assert_eq!(statements.bytes, 1 + long.text().len());
        statements.set(AT, b"s", None);
        assert_eq!(statements.bytes, 0);
    }
}
