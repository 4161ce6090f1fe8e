//! The statements that are prepared on one server connection.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::changes::{Changes, Moment, Sequence};
use super::statement::{Statement, server_name};
use crate::proto::ledger::Voided;

/// The statements that are prepared on a server connection, the least recently used of which make room.
#[derive(Debug)]
pub struct ServerStatements {
    most: usize,
    by_id: HashMap<u64, Prepared, RandomState>,
    /// Goes up with each use.
    clock: u64,
    changes: Changes<u64, Prepared>,
}

#[derive(Debug, Clone, Copy)]
struct Prepared {
    generation: u32,
    used: u64,
    /// How often tables had changed by then.
    schema: u32,
}

/// Whether a statement is prepared on a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is.
    Prepared,
    /// It is not.
    Missing,
    /// It is, and is no good any more: to be closed first.
    Outdated,
    /// A message of an earlier batch decides it.
    Open,
}

impl ServerStatements {
    /// None yet; at most so many.
    pub fn new(most: usize) -> Self {
        Self { most, by_id: HashMap::default(), clock: 0, changes: Changes::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether a statement is prepared, for use in this batch.
    #[inline]
    pub fn find(&mut self, statement: &Statement, batch: u32) -> Place {
        self.clock += 1;
        if self.changes.is_open_before(&statement.id, batch) {
            return Place::Open;
        }
        match self.by_id.get_mut(&statement.id) {
            Some(prepared) if prepared.generation == statement.generation() => {
                prepared.used = self.clock;
                Place::Prepared
            }
            Some(_) => Place::Outdated,
            None => Place::Missing,
        }
    }

    /// Whether a statement was prepared when tables had changed so often.
    pub fn is_under(&self, statement: &Statement, schema: u32) -> bool {
        self.by_id.get(&statement.id).is_some_and(|prepared| prepared.schema == schema)
    }

    /// The Parse of a statement is sent, when tables have changed so often.
    pub fn prepare(&mut self, at: Moment, statement: &Statement, schema: u32) {
        let prepared = Prepared { generation: statement.generation(), used: self.clock, schema };
        let before = self.by_id.insert(statement.id, prepared);
        self.changes.note(at, statement.id, before);
    }

    /// The Close of a statement is sent.
    pub fn close(&mut self, at: Moment, id: u64) {
        let before = self.by_id.remove(&id);
        self.changes.note(at, id, before);
    }

    /// The one to be closed before another is prepared, if there is no room: its id, and its name in `name`.
    pub fn surplus(&self, name: &mut Vec<u8>) -> Option<u64> {
        if self.by_id.len() < self.most {
            return None;
        }
        let (id, _) = self.by_id.iter().min_by_key(|(_, prepared)| prepared.used)?;
        server_name(*id, name);
        Some(*id)
    }

    /// None is prepared any more (DISCARD ALL, DEALLOCATE ALL).
    pub fn clear(&mut self) {
        self.by_id.clear();
        self.changes.clear();
    }

    /// Some may be gone, nobody knows which: each is closed and prepared anew before it is used.
    pub fn distrust(&mut self) {
        for prepared in self.by_id.values_mut() {
            prepared.generation = prepared.generation.wrapping_sub(1);
        }
    }

    /// Every message up to this one is done.
    #[inline]
    pub fn confirm(&mut self, through: Sequence) {
        self.changes.confirm(through);
    }

    /// Messages were not run.
    pub fn void(&mut self, voided: Voided) {
        let by_id = &mut self.by_id;
        let restore = |id, before| match before {
            Some(prepared) => drop(by_id.insert(id, prepared)),
            None => drop(by_id.remove(&id)),
        };
        self.changes.void(voided.through, |_, _| false, restore);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Found, ParseParts, StatementCache};
    use super::*;

    fn statements(count: usize) -> Vec<Arc<Statement>> {
        let mut cache = StatementCache::new(1, 100, 1 << 20);
        let texts: Vec<String> = (0..count).map(|n| format!("select {n}")).collect();
        let find = |text: &String| {
            let parse = ParseParts { name: b"", text: text.as_bytes(), types: &[0, 0] };
            match cache.find(&parse, None, false, false) {
                Found::Statement(statement) => statement,
                other => panic!("{other:?}"),
            }
        };
        texts.iter().map(find).collect()
    }

    fn at(sequence: Sequence, batch: u32) -> Moment {
        Moment { sequence, batch }
    }

    #[test]
    fn what_was_not_run_is_taken_back_and_what_was_is_not() {
        let all = statements(3);
        let mut server = ServerStatements::new(10);
        server.prepare(at(1, 1), &all[0], 0);
        server.prepare(at(2, 1), &all[1], 0);
        assert_eq!(server.find(&all[0], 1), Place::Prepared);
        assert_eq!(server.find(&all[0], 2), Place::Open);
        server.confirm(1);
        server.close(at(3, 1), all[0].id);
        server.prepare(at(4, 2), &all[2], 0);
        server.void(Voided { through: 3, failed: None });
        assert_eq!(server.find(&all[0], 2), Place::Prepared);
        assert_eq!(server.find(&all[1], 2), Place::Missing);
        server.confirm(4);
        assert_eq!(server.find(&all[2], 3), Place::Prepared);
    }

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let all = statements(3);
        let mut server = ServerStatements::new(2);
        for (n, statement) in all.iter().take(2).enumerate() {
            server.find(statement, 1);
            server.prepare(at(n as u32, 1), statement, 0);
        }
        server.confirm(9);
        assert_eq!(server.find(&all[0], 2), Place::Prepared);
        let mut name = vec![];
        assert_eq!(server.surplus(&mut name), Some(all[1].id));
        assert!(name.starts_with(b"pgc_"));
    }

    #[test]
    fn outdated_everywhere() {
        let all = statements(1);
        let mut server = ServerStatements::new(2);
        server.prepare(at(1, 1), &all[0], 0);
        server.confirm(1);
        all[0].outdate();
        assert_eq!(server.find(&all[0], 2), Place::Outdated);
        server.prepare(at(2, 2), &all[0], 0);
        server.confirm(2);
        assert_eq!(server.find(&all[0], 3), Place::Prepared);
        server.distrust();
        assert_eq!(server.find(&all[0], 3), Place::Outdated);
    }
}
