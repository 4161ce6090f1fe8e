//! What of a pool's parameters may change while it runs. Single numbers are atomics: reading one is a load, without a
//! lock or a copy, and a client that reads two at a reload may see one old and one new, which harms nobody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::PoolParams;
use crate::guard::KeyTerms;
use crate::lock::lock;

/// A duration that may change; up to 584 years, to the nanosecond.
#[derive(Debug, Default)]
pub struct LiveDuration(AtomicU64);

impl LiveDuration {
    /// As it is at first.
    pub fn new(duration: Duration) -> Self {
        Self(AtomicU64::new(nanoseconds(duration)))
    }

    /// As it is now.
    #[inline]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// As it is from now on.
    pub fn set(&self, duration: Duration) {
        self.0.store(nanoseconds(duration), Ordering::Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A number of which there is none or some, and which may change.
#[derive(Debug, Default)]
pub struct LiveBound(AtomicUsize);

impl LiveBound {
    /// As it is at first. None: no bound.
    pub fn new(bound: Option<usize>) -> Self {
        Self(AtomicUsize::new(bound.unwrap_or(usize::MAX)))
    }

    /// As it is now. None: no bound.
    #[inline]
    pub fn now(&self) -> Option<usize> {
        Some(self.0.load(Ordering::Relaxed)).filter(|bound| *bound != usize::MAX)
    }

    /// As it is from now on.
    pub fn set(&self, bound: Option<usize>) {
        self.0.store(bound.unwrap_or(usize::MAX), Ordering::Relaxed);
    }
}

/// See [`PoolParams`] and [`SessionParams`](super::SessionParams) for what the fields mean.
#[derive(Debug, Default)]
pub struct Settings {
    /// Most server connections.
    pub size: AtomicUsize,
    /// Server connections that are kept even without clients.
    pub min_idle: AtomicUsize,
    /// Most clients in the queue.
    pub max_waiting: AtomicUsize,
    /// Most clients.
    pub max_clients: LiveBound,
    /// How long a server connection may be idle.
    pub server_idle_timeout: LiveDuration,
    /// Longest request.
    pub query_timeout: LiveDuration,
    /// Longest transaction.
    pub transaction_timeout: LiveDuration,
    /// Longest silence inside a transaction.
    pub idle_in_transaction_timeout: LiveDuration,
    /// Longest silence outside a transaction.
    pub client_idle_timeout: LiveDuration,
    /// Longest time without a byte taken.
    pub client_stall_timeout: LiveDuration,
    /// Longest silence of a client that keeps a server connection.
    pub pin_timeout: LiveDuration,
    shares: Mutex<Arc<HashMap<Box<str>, KeyTerms>>>,
}

impl Settings {
    pub(super) fn new(params: &PoolParams) -> Self {
        let settings = Self::default();
        settings.set(params);
        settings
    }

    pub(super) fn set(&self, params: &PoolParams) {
        let session = &params.session;
        self.size.store(params.size, Ordering::Relaxed);
        self.min_idle.store(params.min_idle, Ordering::Relaxed);
        self.max_waiting.store(params.max_waiting, Ordering::Relaxed);
        self.max_clients.set(params.max_clients);
        self.server_idle_timeout.set(params.server_idle_timeout);
        self.query_timeout.set(session.query_timeout);
        self.transaction_timeout.set(session.transaction_timeout);
        self.idle_in_transaction_timeout.set(session.idle_in_transaction_timeout);
        self.client_idle_timeout.set(session.client_idle_timeout);
        self.client_stall_timeout.set(session.client_stall_timeout);
        self.pin_timeout.set(session.pins.timeout);
        *lock(&self.shares) = Arc::clone(&params.shares);
    }

    /// What a function may have, by its name.
    pub(super) fn terms(&self, function: &str) -> KeyTerms {
        lock(&self.shares).get(function).copied().unwrap_or_default()
    }
}
