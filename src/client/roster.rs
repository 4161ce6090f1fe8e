//! Every client that is logged in: found by its cancel key, woken when the proxy drains.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use subtle::ConstantTimeEq;

use crate::lock::lock;
use crate::obs::CancelResult;
use crate::pool::WaitCanceller;
use crate::server::{CancelTarget, CancelUnderWay};

/// Bytes of the secret of a cancel key under protocol 3.2; under 3.0 it is the first four of them.
pub const SECRET_BYTES: usize = 32;

/// Time between two looks for clients that have been idle for long, while there are none.
const LOOK: Duration = Duration::from_millis(100);

/// A client, as others see it.
#[derive(Debug)]
pub struct Entry {
    /// What it knows as its backend's process id.
    pub process_id: i32,
    secret: [u8; SECRET_BYTES],
    /// How much of the secret it was told.
    told: usize,
    doing: Mutex<Doing>,
    /// Wakes its task.
    pub waker: AtomicWaker,
    /// From when its times are counted.
    started: Instant,
    /// When it is to be looked at because something takes too long, in milliseconds since `started`; 0: not at all.
    due: AtomicU64,
    /// It is due.
    overdue: AtomicBool,
    /// Since when it has nothing to do, in milliseconds since `started`.
    idle_since: AtomicU64,
    /// It is to give way to a login, if it still has nothing to do.
    evicted: AtomicBool,
}

/// What a client does now.
#[derive(Default)]
enum Doing {
    #[default]
    Nothing,
    Waiting(WaitCanceller),
    /// It holds this server connection.
    Running(Arc<CancelTarget>),
}

impl std::fmt::Debug for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.state())
    }
}

impl Doing {
    fn state(&self) -> &'static str {
        match self {
            Self::Nothing => "idle",
            Self::Waiting(_) => "waiting",
            Self::Running(_) => "active",
        }
    }
}

impl Entry {
    /// The secret as the client knows it.
    pub fn secret(&self) -> &[u8] {
        self.secret.get(..self.told).unwrap_or_default()
    }

    /// It waits for a server connection.
    pub fn waits(&self, canceller: WaitCanceller) {
        *lock(&self.doing) = Doing::Waiting(canceller);
    }

    /// It holds a server connection.
    #[inline]
    pub fn runs(&self, target: &Arc<CancelTarget>) {
        *lock(&self.doing) = Doing::Running(Arc::clone(target));
    }

    /// It asks for something.
    #[inline]
    pub fn asks(&self, now: Instant) {
        self.idle_since.store(self.at(now), Ordering::Relaxed);
    }

    /// It holds none. From here on no cancel request can be announced for the one it held.
    #[inline]
    pub fn rests(&self, now: Instant) {
        self.asks(now);
        *lock(&self.doing) = Doing::Nothing;
    }

    fn at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    /// It is to give way.
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Acquire)
    }

    /// It has something to do, and stays.
    pub fn stays(&self) {
        self.evicted.store(false, Ordering::Release);
    }

    /// For how long it has had nothing to do. None: it has, or gives way already.
    fn idle_for(&self, now: Instant) -> Option<u64> {
        let rests = matches!(*lock(&self.doing), Doing::Nothing) && !self.evicted.load(Ordering::Acquire);
        rests.then(|| self.at(now).saturating_sub(self.idle_since.load(Ordering::Relaxed)))
    }

    /// It is to be looked at at this time; None: not at all.
    #[inline]
    pub fn look_at(&self, when: Option<Instant>) {
        let due = when.map_or(0, |when| when.saturating_duration_since(self.started).as_millis() as u64 + 1);
        self.due.store(due, Ordering::Relaxed);
    }

    /// It has something to be looked at.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.due.load(Ordering::Relaxed) != 0
    }

    /// Whether it is due; asked once, it is not any more.
    #[inline]
    pub fn take_overdue(&self, cx: &Context<'_>) -> bool {
        if !self.overdue.load(Ordering::Acquire) {
            return false;
        }
        // Being woken uses the waker up. Before the flag is taken back, or who sets it in between would wake nobody.
        self.waker.register(cx.waker());
        self.overdue.swap(false, Ordering::AcqRel)
    }

    /// Wakes its task if it is due.
    fn wake_if_due(&self, now: Instant) {
        let due = self.due.load(Ordering::Relaxed);
        let elapsed = self.at(now);
        if due != 0 && due <= elapsed {
            // What it was due for may have changed by now: it sees for itself, and says when it is due again.
            let _ = self.due.compare_exchange(due, 0, Ordering::Relaxed, Ordering::Relaxed);
            self.overdue.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    /// Ends its wait, or announces a request for the server connection that it holds at this moment.
    fn cancel(&self) -> Cancel {
        match &*lock(&self.doing) {
            Doing::Nothing => Cancel::Done(CancelResult::NothingRuns),
            Doing::Waiting(canceller) if canceller.cancel() => Cancel::Done(CancelResult::EndedWait),
            Doing::Waiting(_) => Cancel::Done(CancelResult::NothingRuns),
            Doing::Running(target) => Cancel::Send(target.begin()),
        }
    }
}

/// What is left to do for a CancelRequest.
#[derive(Debug)]
pub enum Cancel {
    /// Nothing.
    Done(CancelResult),
    /// The request has to be sent to PostgreSQL.
    Send(CancelUnderWay),
}

/// Every client that is logged in. Bounded by `max_clients`.
#[derive(Debug, Default)]
pub struct Roster {
    entries: Mutex<HashMap<i32, Arc<Entry>>>,
    /// Until then it is not looked again for clients that have been idle for long: there were none.
    busy_until: Mutex<Option<Instant>>,
}

impl Roster {
    /// Enters a client under a process id that no other client has. `long` secrets are for protocol 3.2.
    pub fn enter(self: &Arc<Self>, long: bool) -> Member {
        let mut entries = lock(&self.entries);
        let process_id = loop {
            let process_id = rand::random_range(1..=i32::MAX);
            if !entries.contains_key(&process_id) {
                break process_id;
            }
        };
        let entry = Arc::new(Entry {
            process_id,
            secret: rand::random(),
            told: if long { SECRET_BYTES } else { 4 },
            doing: Mutex::default(),
            waker: AtomicWaker::new(),
            started: Instant::now(),
            due: AtomicU64::new(0),
            overdue: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            evicted: AtomicBool::new(false),
        });
        entries.insert(process_id, Arc::clone(&entry));
        Member { entry, roster: Arc::clone(self) }
    }

    /// Acts on a CancelRequest.
    pub fn cancel(&self, process_id: i32, secret: &[u8]) -> Cancel {
        let entry = lock(&self.entries).get(&process_id).cloned();
        match entry {
            Some(entry) if bool::from(entry.secret().ct_eq(secret)) => entry.cancel(),
            _ => Cancel::Done(CancelResult::UnknownKey),
        }
    }

    /// Wakes the task of each client for which something takes too long.
    pub fn wake_overdue(&self, now: Instant) {
        for entry in lock(&self.entries).values() {
            entry.wake_if_due(now);
        }
    }

    /// Some client has had nothing to do for so long; zero: nobody is to be found. In a storm of logins it is looked for only now
    /// and then.
    pub fn has_idle(&self, now: Instant, least: Duration) -> bool {
        let mut busy_until = lock(&self.busy_until);
        if least.is_zero() || busy_until.is_some_and(|until| now < until) {
            return false;
        }
        let least = least.as_millis() as u64;
        let found =
            lock(&self.entries).values().any(|entry| entry.idle_for(now).is_some_and(|time| time >= least));
        *busy_until = (!found).then(|| now + LOOK);
        found
    }

    /// Tells the client that has had nothing to do for longest to give way, if that is as long as this. False: nobody has.
    pub fn evict(&self, now: Instant, least: Duration) -> bool {
        let least = least.as_millis() as u64;
        let entries = lock(&self.entries);
        let idle = entries.values().filter_map(|entry| Some((entry.idle_for(now)?, entry)));
        let Some((_, entry)) = idle.filter(|(time, _)| *time >= least).max_by_key(|(time, _)| *time) else {
            return false;
        };
        entry.evicted.store(true, Ordering::Release);
        entry.overdue.store(true, Ordering::Release);
        entry.waker.wake();
        true
    }

    /// Every client is to see what is due for it: its timeouts have changed.
    pub fn look_at_all(&self) {
        for entry in lock(&self.entries).values() {
            entry.due.store(1, Ordering::Relaxed);
        }
    }

    /// Wakes every client's task.
    pub fn wake_all(&self) {
        for entry in lock(&self.entries).values() {
            entry.waker.wake();
        }
    }

    /// How many are logged in.
    pub fn len(&self) -> usize {
        lock(&self.entries).len()
    }

    /// Nobody is logged in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many clients are in each state.
    pub fn states(&self) -> [(&'static str, usize); 3] {
        let mut states = [("idle", 0), ("waiting", 0), ("active", 0)];
        for entry in lock(&self.entries).values() {
            let state = lock(&entry.doing).state();
            for (name, count) in &mut states {
                *count += usize::from(*name == state);
            }
        }
        states
    }
}

/// A client's place in the roster; dropped, it is out.
#[derive(Debug)]
pub struct Member {
    entry: Arc<Entry>,
    roster: Arc<Roster>,
}

impl std::ops::Deref for Member {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        lock(&self.roster.entries).remove(&self.entry.process_id);
    }
}
