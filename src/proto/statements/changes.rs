//! Changes that are made when a message is sent, and taken back if it is not run.

use std::borrow::Borrow;
use std::collections::VecDeque;

/// Number of a change on one server connection; they go up by one.
pub type Sequence = u32;

/// When a change was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Its number.
    pub sequence: Sequence,
    /// Number of the batch that its message belongs to: what ends in one ReadyForQuery.
    pub batch: u32,
}

impl Moment {
    /// It is behind this change.
    pub fn is_behind(&self, other: Sequence) -> bool {
        !is_at_most(self.sequence, other)
    }
}

/// A change whose message is not answered yet, and what was there before it.
#[derive(Debug)]
struct Change<K, V> {
    at: Moment,
    key: K,
    before: Option<V>,
}

/// Changes whose messages are not answered yet, oldest first. Bounded by what may be unanswered on a server connection.
#[derive(Debug)]
pub(super) struct Changes<K, V>(VecDeque<Change<K, V>>);

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<K, V> Changes<K, V> {
    pub(super) fn note(&mut self, at: Moment, key: K, before: Option<V>) {
        self.0.push_back(Change { at, key, before });
    }

    /// Whether this key was last changed in a batch before that one: whether the change will hold is not known yet. One that
    /// was changed in the same batch holds, or the message that asks is not run either.
    #[inline]
    pub(super) fn is_open_before<Q: ?Sized + PartialEq>(&self, key: &Q, batch: u32) -> bool
    where
        K: Borrow<Q>,
    {
        let last = self.0.iter().rev().find(|change| change.key.borrow() == key);
        last.is_some_and(|change| change.at.batch != batch)
    }

    /// What was there before each of the open changes, if anything was.
    pub(super) fn before(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().filter_map(|change| Some((&change.key, change.before.as_ref()?)))
    }

    /// What was there before the open changes is gone, for the keys that this holds for.
    pub(super) fn forget_before(&mut self, is_gone: impl Fn(&K) -> bool) {
        for change in self.0.iter_mut().filter(|change| is_gone(&change.key)) {
            change.before = None;
        }
    }

    /// Whether it is changed by a message that is not answered yet.
    pub(super) fn is_open<Q: ?Sized + PartialEq>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.iter().any(|change| change.key.borrow() == key)
    }

    /// Everything up to this one is done.
    #[inline]
    pub(super) fn confirm(&mut self, through: Sequence) {
        while self.0.front().is_some_and(|change| is_at_most(change.at.sequence, through)) {
            self.0.pop_front();
        }
    }

    /// What was not confirmed up to this one was not run: `restore` puts back what was there, latest first, unless it was
    /// changed once more since. What has `ended` all the same is not put back.
    pub(super) fn void(
        &mut self,
        through: Sequence,
        ended: impl Fn(&K, Sequence) -> bool,
        mut restore: impl FnMut(K, Option<V>),
    ) where
        K: PartialEq,
    {
        let kept = self.0.iter().position(|change| !is_at_most(change.at.sequence, through));
        let mut later = self.0.split_off(kept.unwrap_or(self.0.len()));
        while let Some(Change { at, key, before }) = self.0.pop_back() {
            let before = before.filter(|_| !ended(&key, at.sequence));
            match later.iter_mut().find(|change| change.key == key) {
                Some(change) => change.before = before,
                None => restore(key, before),
            }
        }
        self.0 = later;
    }

    /// Forgets all, as done.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// In the order of their numbers, which wrap around.
fn is_at_most(one: Sequence, other: Sequence) -> bool {
    other.wrapping_sub(one) < u32::MAX / 2
}
