//! A mutex whose poison is ignored.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A panic elsewhere must not take down every other client: what is guarded here is kept consistent by
/// transitions that do not panic half-way, and a release build of the machines asserts nothing.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
