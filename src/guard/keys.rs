//! Functions, as fairness sees them: who holds how many servers of a pool, for how long, and who is owed one.
//!
//! A key is a function's name within a pool. What is shared is *connection-time*: a key's [`Key::virtual_time`] grows by
//! the servers that it holds × the time that it holds them ÷ its weight, and a free server goes to the key that has had
//! least. That is weighted fair queueing by start time (Goyal, Vin and Cheng 1996), with the bounds of deficit round
//! robin: who comes back from a pause is owed one quantum at most, and nobody owes more than [`DEEPEST_DEBT`].
//!
//! The number of keys is bounded, whatever clients call themselves: the first [`EXACT_KEYS`] have a place of their own, and
//! while those are all in use further names share [`SHARED_KEYS`] places by their hash.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;

use super::hold::Hold;
use super::trend::Trend;

/// Names that are kept apart at one time, in one pool.
pub const EXACT_KEYS: usize = 1024;
/// Places that names beyond them share.
pub const SHARED_KEYS: usize = 256;

/// No key is held back for more than this much connection-time (over its weight) that it has had beyond the others'.
const DEEPEST_DEBT: f64 = 2.0;
/// What a transaction is expected to take before one has been seen, and the bounds of a quantum, in seconds.
const QUANTUM: (f64, f64, f64) = (0.005, 0.020, 0.050);
/// Longest hold that is charged ahead, in seconds.
const LONGEST_GUESS: f64 = 1.0;

/// A function of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(u16);

impl KeyId {
    /// Position among the pool's keys.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a function may have of a pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyTerms {
    /// Its share of the pool's time relative to others that want it, above 0.
    pub weight: f64,
    /// While it holds a smaller share of the pool's servers than this, from 0 to 1, it goes before others.
    pub min_share: f64,
    /// The largest share of the pool's servers that it may hold at once, above 0 and up to 1; one server at least. Below 1
    /// the rest stays idle rather than go to it.
    pub max_share: f64,
    /// For administrators and health probes: before all others, never refused early, with one server at most.
    pub reserved: bool,
}

impl Default for KeyTerms {
    fn default() -> Self {
        Self { weight: 1.0, min_share: 0.0, max_share: 1.0, reserved: false }
    }
}

/// One function of one pool.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: Arc<str>,
    pub(super) terms: KeyTerms,
    /// Clients that go by this name. Without any, the place may be given to another name.
    pub(super) clients: usize,
    /// Servers that it holds.
    pub(super) active: usize,
    /// Connection-time that it has had, in seconds over its weight.
    virtual_time: f64,
    /// Connection-time that it has had, in seconds.
    used: f64,
    /// Its transactions that were not admitted.
    pub(super) sheds: u64,
    /// Its transactions that were admitted and are over.
    pub(super) done: u64,
    /// How long those that were admitted have waited, in seconds.
    pub(super) waited: f64,
    /// Up to when both are counted.
    counted_at: Option<Instant>,
    /// How long it holds a server.
    pub(super) hold: Hold,
    /// What became of its waiters lately.
    pub(super) trend: Trend,
    /// Position in [`Keys::backlogged`].
    backlogged_at: Option<usize>,
    /// Counts who became backlogged before it.
    backlogged_as: u64,
}

impl Key {
    fn new(name: &str, terms: KeyTerms) -> Self {
        Key {
            name: name.into(),
            terms,
            clients: 0,
            active: 0,
            virtual_time: 0.0,
            used: 0.0,
            sheds: 0,
            done: 0,
            waited: 0.0,
            counted_at: None,
            hold: Hold::default(),
            trend: Trend::default(),
            backlogged_at: None,
            backlogged_as: 0,
        }
    }

    /// Charges for what was held up to now.
    fn count(&mut self, now: Instant) {
        let held = self.uncounted(now);
        self.used += held;
        self.virtual_time += held / self.terms.weight;
        // Threads read the clock before they wait for the lock, so time may seem to go back.
        self.counted_at = self.counted_at.max(Some(now));
    }

    /// Connection-time that it has had, up to now, in seconds.
    pub(super) fn held(&self, now: Instant) -> f64 {
        self.used + self.uncounted(now)
    }

    fn uncounted(&self, now: Instant) -> f64 {
        let passed = self.counted_at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        passed * self.active as f64
    }

    fn change(&mut self, terms: KeyTerms, backlog: &mut Backlog) {
        if self.backlogged_at.is_some() {
            backlog.weight += terms.weight - self.terms.weight;
        }
        self.terms = terms;
    }

    fn in_use(&self) -> bool {
        self.clients > 0 || self.active > 0 || self.backlogged_at.is_some()
    }

    /// How many servers of a pool of this size it may hold.
    fn cap(&self, size: usize) -> usize {
        if self.terms.reserved {
            return 1;
        }
        ((self.terms.max_share * size as f64) as usize).max(1)
    }
}

/// Which key goes first: smaller is earlier.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Rank {
    tier: u8,
    virtual_time: f64,
    /// Who has waited for longer, of those who have had as much.
    backlogged_as: u64,
}

/// What the backlogged keys have together.
#[derive(Debug, Clone, Copy, Default)]
struct Backlog {
    weight: f64,
    active: usize,
}

/// The keys of one pool.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    by_name: HashMap<Arc<str>, KeyId>,
    hasher: FixedState,
    /// Keys with waiters.
    backlogged: Vec<KeyId>,
    /// What those have together. Weights are whole numbers, so that nothing drifts.
    backlog: Backlog,
    /// How often a key has become backlogged.
    backlogs: u64,
    /// The virtual time of the key that was last served: where one that comes back from a pause goes on.
    virtual_now: f64,
    /// How long servers are held, over all keys.
    hold: Hold,
    /// Servers that all keys hold, and the connection-time that they have had up to a time, in seconds.
    active: usize,
    busy: f64,
    busy_at: Option<Instant>,
}

impl Keys {
    /// `seed` decides which names share a place.
    pub(super) fn new(seed: u64) -> Self {
        Keys {
            keys: Vec::new(),
            by_name: HashMap::new(),
            hasher: FixedState::with_seed(seed),
            backlogged: Vec::new(),
            backlog: Backlog::default(),
            backlogs: 0,
            virtual_now: 0.0,
            hold: Hold::default(),
            active: 0,
            busy: 0.0,
            busy_at: None,
        }
    }

    /// The key of a client by this name; the client counts until `leave`. New terms are those of all its clients.
    pub(super) fn enter(&mut self, name: &str, terms: KeyTerms) -> KeyId {
        let id = match self.by_name.get(name) {
            Some(id) => *id,
            None => self.place_for(name, terms),
        };
        let key = &mut self.keys[id.index()];
        key.clients += 1;
        if id.index() < EXACT_KEYS {
            key.change(terms, &mut self.backlog);
        }
        id
    }

    /// New terms for the names that have a place of their own. What was held up to now was held under the old ones.
    pub(super) fn set_terms(&mut self, now: Instant, terms_of: impl Fn(&str) -> KeyTerms) {
        for key in self.keys.iter_mut().take(EXACT_KEYS) {
            key.count(now);
            let terms = terms_of(&key.name);
            key.change(terms, &mut self.backlog);
        }
    }

    /// A client has left.
    pub(super) fn leave(&mut self, id: KeyId) {
        if let Some(key) = self.keys.get_mut(id.index()) {
            key.clients = key.clients.saturating_sub(1);
        }
    }

    fn place_for(&mut self, name: &str, terms: KeyTerms) -> KeyId {
        if self.keys.len() < EXACT_KEYS {
            self.keys.push(Key::new(name, terms));
            return self.named(self.keys.len() - 1);
        }
        // The one that has been out of use for longest.
        let unused = self.keys.iter().enumerate().take(EXACT_KEYS).filter(|(_, key)| !key.in_use());
        if let Some((at, _)) = unused.min_by_key(|(_, key)| key.counted_at) {
            self.by_name.remove(&self.keys[at].name);
            self.keys[at] = Key::new(name, terms);
            return self.named(at);
        }
        let shared = EXACT_KEYS + (self.hasher.hash_one(name) % SHARED_KEYS as u64) as usize;
        while self.keys.len() <= shared {
            self.keys.push(Key::new("other", KeyTerms::default()));
        }
        KeyId(shared as u16)
    }

    fn named(&mut self, at: usize) -> KeyId {
        let id = KeyId(at as u16);
        self.by_name.insert(Arc::clone(&self.keys[at].name), id);
        id
    }

    pub(super) fn get(&self, id: KeyId) -> &Key {
        &self.keys[id.index()]
    }

    pub(super) fn get_mut(&mut self, id: KeyId) -> &mut Key {
        &mut self.keys[id.index()]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyId, &Key)> {
        self.keys.iter().enumerate().map(|(at, key)| (KeyId(at as u16), key))
    }

    /// For how long a key has always had waiters; the longest of all.
    pub(super) fn standing(&self, now: Instant) -> Duration {
        let times = self.backlogged.iter().map(|id| self.keys[id.index()].trend.standing(now));
        times.max().unwrap_or_default()
    }

    /// Connection-time that all keys have had, up to now, in seconds.
    pub(super) fn busy(&self, now: Instant) -> f64 {
        let passed = self.busy_at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.busy + passed * self.active as f64
    }

    /// How long a server is held on the mean, lately. None: none was yet.
    pub(super) fn mean_hold(&self) -> Option<Duration> {
        self.hold.mean()
    }

    /// A transaction of the key was not admitted.
    pub(super) fn shed(&mut self, id: KeyId) {
        let key = &mut self.keys[id.index()];
        key.sheds += 1;
        key.trend.shed();
    }

    pub(super) fn backlogged(&self) -> &[KeyId] {
        &self.backlogged
    }

    /// The key gets a server, after it has waited for it for so long or, by None, at once. Who comes back from a pause is owed a quantum; who has
    /// waited keeps what it is owed, or long holds would be paid for by those who wait for them.
    pub(super) fn granted(&mut self, now: Instant, id: KeyId, waited: Option<Duration>) {
        let (owed, deepest) = self.bounds();
        let key = &mut self.keys[id.index()];
        key.count(now);
        key.virtual_time = key.virtual_time.min(deepest);
        match waited {
            Some(waited) => key.waited += waited.as_secs_f64(),
            None => key.virtual_time = key.virtual_time.max(owed),
        }
        key.active += 1;
        if key.backlogged_at.is_some() {
            self.backlog.active += 1;
        }
        let virtual_time = key.virtual_time;
        self.holds(now, 1);
        self.virtual_now = self.virtual_now.max(virtual_time);
    }

    /// The key gives one back, which it has held for so long.
    pub(super) fn returned(&mut self, now: Instant, id: KeyId, held: Duration) {
        let key = &mut self.keys[id.index()];
        key.count(now);
        key.hold.add(held);
        self.hold.add(held);
        if key.active > 0 {
            key.active -= 1;
            self.backlog.active -= usize::from(key.backlogged_at.is_some());
            self.holds(now, -1);
        }
    }

    /// What the keys hold together changes by so many.
    fn holds(&mut self, now: Instant, change: isize) {
        self.busy = self.busy(now);
        self.busy_at = self.busy_at.max(Some(now));
        self.active = self.active.saturating_add_signed(change);
    }

    /// The key has its first waiter.
    pub(super) fn backlog(&mut self, now: Instant, id: KeyId) {
        let (owed, deepest) = self.bounds();
        let key = &mut self.keys[id.index()];
        if key.backlogged_at.is_some() {
            return;
        }
        key.count(now);
        key.virtual_time = key.virtual_time.clamp(owed, deepest);
        key.trend.begin(now);
        key.backlogged_at = Some(self.backlogged.len());
        key.backlogged_as = self.backlogs;
        self.backlogs += 1;
        self.backlog.weight += key.terms.weight;
        self.backlog.active += key.active;
        self.backlogged.push(id);
    }

    /// The key has no waiter any more.
    pub(super) fn clear(&mut self, id: KeyId) {
        let key = &mut self.keys[id.index()];
        let Some(at) = key.backlogged_at.take() else { return };
        key.trend.end();
        self.backlog.weight -= key.terms.weight;
        self.backlog.active -= key.active;
        self.backlogged.swap_remove(at);
        if let Some(moved) = self.backlogged.get(at) {
            self.keys[moved.index()].backlogged_at = Some(at);
        }
    }

    /// The key whose waiter gets the next free server of a pool of this size. None: nobody waits who may have one.
    pub(super) fn next(&mut self, now: Instant, size: usize) -> Option<KeyId> {
        let mut best: Option<(Rank, KeyId)> = None;
        for at in 0..self.backlogged.len() {
            let id = self.backlogged[at];
            let key = &mut self.keys[id.index()];
            if key.active >= key.cap(size) {
                continue;
            }
            key.count(now);
            let rank = self.rank(id, size);
            if best.is_none_or(|(first, _)| rank < first) {
                best = Some((rank, id));
            }
        }
        best.map(|(_, id)| id)
    }

    /// What it holds counts as if each were held for as long as usual: else one key would get all that is free at once.
    fn rank(&self, id: KeyId, size: usize) -> Rank {
        let key = &self.keys[id.index()];
        let ahead = key.active as f64 * self.guess(id) / key.terms.weight;
        let short = (key.active as f64) < key.terms.min_share * size as f64;
        let tier = if key.terms.reserved { 0 } else { 2 - u8::from(short) };
        Rank { tier, virtual_time: key.virtual_time + ahead, backlogged_as: key.backlogged_as }
    }

    /// How long a server is held by this key; while it has held none, by all of them. None: nobody has held one yet.
    pub(super) fn usual_hold(&self, id: KeyId) -> Option<Duration> {
        self.keys[id.index()].hold.mean().or(self.hold.mean())
    }

    fn guess(&self, id: KeyId) -> f64 {
        self.usual_hold(id).map_or(QUANTUM.1, |mean| mean.as_secs_f64().min(LONGEST_GUESS))
    }

    /// The least virtual time of a key that comes back from a pause, and the most of any.
    fn bounds(&self) -> (f64, f64) {
        (self.virtual_now - self.quantum(), self.virtual_now + DEEPEST_DEBT)
    }

    fn quantum(&self) -> f64 {
        self.hold.mean().map_or(QUANTUM.1, |mean| mean.as_secs_f64().clamp(QUANTUM.0, QUANTUM.2))
    }

    /// May the key have one more server of a pool of this size?
    pub(super) fn below_cap(&self, id: KeyId, size: usize) -> bool {
        let key = &self.keys[id.index()];
        key.active < key.cap(size)
    }

    /// How many of a pool's servers a key with waiters has a right to, when `active` are in use. What others hold who have
    /// no waiters is theirs.
    pub(super) fn fair_share(&self, id: KeyId, active: usize) -> f64 {
        let backlog = self.backlog;
        let key = &self.keys[id.index()];
        let (weight, own) = match key.backlogged_at {
            Some(_) => (backlog.weight, 0),
            None => (backlog.weight + key.terms.weight, key.active),
        };
        let others = active.saturating_sub(backlog.active + own);
        (active - others) as f64 * key.terms.weight / weight
    }
}
