//! All statements that the proxy knows, each once.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;

use super::parts::ParseParts;
use super::statement::{Reading, Statement};
use super::trace;
use crate::proto::sql;

/// Texts of unnamed statements that are remembered as seen, by hash alone.
const SEEN: usize = 4096;

/// All statements that the proxy knows, each once; the ones not used for longest make room. Clients keep what they use,
/// so a statement that has made room lives on for those who know it.
#[derive(Debug)]
pub struct StatementCache {
    most_entries: usize,
    most_bytes: usize,
    hasher: RandomState,
    by_hash: HashMap<u64, Entry, RandomState>,
    /// Hashes in the order in which they are looked at for making room: those used since get a second chance.
    order: VecDeque<u64>,
    /// Bytes of all statements that are alive, whoever keeps them.
    bytes: Arc<AtomicUsize>,
    next_id: u64,
    /// Hashes of unnamed statements that have come once; each has one place.
    seen: Vec<u64>,
}

#[derive(Debug)]
struct Entry {
    statement: Arc<Statement>,
    used: bool,
}

/// What is known about a text.
#[derive(Debug)]
pub enum Found {
    /// The statement.
    Statement(Arc<Statement>),
    /// An unnamed one that has not come before, as far as is known.
    New,
    /// All statements together take as much room as they may.
    NoRoom,
}

impl StatementCache {
    /// An empty cache for at most `entries` statements of at most `bytes` bytes; what clients keep beyond that is bounded by
    /// the same number of bytes once more. `seed` is to be random: names of statements are not to be guessed, nor to be those of
    /// another proxy between this one and PostgreSQL.
    pub fn new(seed: u64, entries: usize, bytes: usize) -> Self {
        Self {
            most_entries: entries,
            most_bytes: bytes,
            hasher: RandomState::default(),
            by_hash: HashMap::default(),
            order: VecDeque::new(),
            bytes: Arc::default(),
            // More than a client's own name is likely to say, and far from where numbers end.
            next_id: (1 << 40) + (seed >> 2),
            seen: vec![0; SEEN],
        }
    }

    /// How many statements are in the cache.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Bytes of all statements that are alive.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The statement of a Parse message. `strip` takes trace comments out of what is prepared. An unnamed one is
    /// taken in only when it comes again (`only_repeated`). `settings` are those of a client that has its own.
    pub fn find(
        &mut self,
        parse: &ParseParts<'_>,
        settings: Option<&str>,
        strip: bool,
        only_repeated: bool,
    ) -> Found {
        let key_at = trace::without(parse.text);
        let key = parse.text.get(key_at.clone()).unwrap_or_default();
        let hash = self.hasher.hash_one((key, parse.types, settings));
        if let Some(entry) = self.by_hash.get_mut(&hash)
            && entry.statement.is(key, parse.types, settings)
        {
            entry.used = true;
            return Found::Statement(Arc::clone(&entry.statement));
        }
        if only_repeated && !self.has_come_before(hash) {
            return Found::New;
        }
        let text = if strip { padded(parse.text, key_at.clone()) } else { (parse.text.into(), key_at) };
        self.take_in(hash, text, (parse.types.into(), Reading::Under(settings.map(Into::into))))
    }

    /// A statement that nobody else is to have.
    pub fn alone(&mut self, parse: &ParseParts<'_>) -> Found {
        if self.bytes() > 2 * self.most_bytes {
            return Found::NoRoom;
        }
        let text = (parse.text.into(), 0..parse.text.len());
        Found::Statement(self.new_statement(text, (parse.types.into(), Reading::Alone)))
    }

    fn new_statement(
        &mut self,
        text: (Box<[u8]>, std::ops::Range<usize>),
        types: (Box<[u8]>, Reading),
    ) -> Arc<Statement> {
        let effects = sql::effects(&text.0);
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        Arc::new(Statement::new(id, text, types, effects, Arc::clone(&self.bytes)))
    }

    fn has_come_before(&mut self, hash: u64) -> bool {
        let count = self.seen.len() as u64;
        match self.seen.get_mut((hash % count) as usize) {
            Some(place) => std::mem::replace(place, hash) == hash,
            None => false,
        }
    }

    fn take_in(
        &mut self,
        hash: u64,
        text: (Box<[u8]>, std::ops::Range<usize>),
        types: (Box<[u8]>, Reading),
    ) -> Found {
        let size = text.0.len() + types.0.len() + size_of::<Statement>();
        while self.order.len() >= self.most_entries || self.bytes() + size > self.most_bytes {
            let before = self.bytes();
            // What clients keep frees nothing: to let go of all of it would only make it strange to whoever asks next.
            if !self.make_room() || self.order.len() < self.most_entries && self.bytes() == before {
                break;
            }
        }
        if self.bytes() + size > 2 * self.most_bytes {
            return Found::NoRoom;
        }
        let statement = self.new_statement(text, types);
        let entry = Entry { statement: Arc::clone(&statement), used: false };
        // Two texts with the same hash: the later one takes the place.
        if self.by_hash.insert(hash, entry).is_none() {
            self.order.push_back(hash);
        }
        Found::Statement(statement)
    }

    /// Lets go of one statement; false if there is none.
    fn make_room(&mut self) -> bool {
        while let Some(hash) = self.order.pop_front() {
            let used = self.by_hash.get_mut(&hash).is_some_and(|entry| std::mem::take(&mut entry.used));
            if !used {
                return self.by_hash.remove(&hash).is_some();
            }
            self.order.push_back(hash);
        }
        false
    }
}

/// The text without what is around its key. In front of it stand as many spaces, so that PostgreSQL's positions in errors
/// stay what they are.
fn padded(text: &[u8], key: std::ops::Range<usize>) -> (Box<[u8]>, std::ops::Range<usize>) {
    let mut padded = vec![b' '; key.start];
    padded.extend_from_slice(text.get(key.clone()).unwrap_or_default());
    (padded.into(), key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ParseParts<'_> {
        ParseParts { name: b"", text: text.as_bytes(), types: &[0, 0] }
    }

    fn statement(found: Found) -> Arc<Statement> {
        match found {
            Found::Statement(statement) => statement,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_text_is_the_same_statement_and_a_trace_comment_does_not_matter() {
        let mut cache = StatementCache::new(1, 10, 10_000);
        let one = statement(cache.find(&parse("select 1"), None, true, false));
        let traced =
            statement(cache.find(&parse("/*a='b'*/ select 1 /*traceparent='x'*/"), None, true, false));
        assert_eq!(one.id, traced.id);
        let typed = ParseParts { types: &[0, 1, 0, 0, 0, 23], ..parse("select 1") };
        assert_ne!(statement(cache.find(&typed, None, true, false)).id, one.id);
        assert_eq!(
            statement(cache.find(&parse("/*a='b'*/ select 2"), None, true, false)).text(),
            b"          select 2"
        );
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn an_unnamed_one_is_taken_in_when_it_comes_again() {
        let mut cache = StatementCache::new(1, 10, 10_000);
        assert!(matches!(cache.find(&parse("select 1"), None, true, true), Found::New));
        statement(cache.find(&parse("select 1"), None, true, true));
    }

    #[test]
    fn both_bounds_hold_whatever_comes() {
        let mut cache = StatementCache::new(1, 8, 4_000);
        let mut kept = vec![];
        let mut refused = 0;
        for n in 0..200 {
            match cache.find(&parse(&format!("select {n}, '{}'", "x".repeat(n))), None, true, false) {
                Found::Statement(statement) if n % 2 == 0 => kept.push(statement),
                Found::NoRoom => refused += 1,
                _ => {}
            }
            assert!(cache.len() <= 8 && cache.order.len() <= 8 && cache.bytes() <= 8_000);
        }
        assert!(refused > 0, "who keeps everything is refused at some point");
        drop(kept);
        statement(cache.find(&parse("select 'again'"), None, true, false));
    }

    #[test]
    fn what_clients_keep_does_not_empty_the_cache() {
        let mut cache = StatementCache::new(1, 1_000, 10_000);
        let text = |n: usize| format!("select {n}, '{}'", "x".repeat(300));
        let kept: Vec<_> =
            (0..18).map(|n| statement(cache.find(&parse(&text(n)), None, true, false))).collect();
        let before = cache.len();
        for n in 100..103 {
            drop(cache.find(&parse(&format!("select {n}")), None, true, false));
        }
        assert!(cache.len() >= before, "{} of {before} are left", cache.len());
        assert_eq!(kept.len(), 18);
    }

    #[test]
    fn settings_and_names_count() {
        let mut cache = StatementCache::new(1, 10, 100_000);
        statement(cache.find(
            &parse("select set_config('my.x', '1', false)"),
            Some(&"x".repeat(1_000)),
            true,
            false,
        ));
        assert!(cache.bytes() > 1_000 + size_of::<Statement>());
    }

    #[test]
    fn what_is_used_stays() {
        let mut cache = StatementCache::new(1, 4, 100_000);
        let first = statement(cache.find(&parse("select 'hot'"), None, true, false)).id;
        for n in 0..50 {
            cache.find(&parse(&format!("select {n}")), None, true, false);
            assert_eq!(statement(cache.find(&parse("select 'hot'"), None, true, false)).id, first, "{n}");
        }
    }
}
