//! When a transaction that was not admitted may be tried again.

use std::time::{Duration, Instant};

use super::Pool;
use crate::guard::ShedReason;

/// After a drain: another instance is up already, or will be soon.
const ELSEWHERE: Duration = Duration::from_millis(500);

impl Pool {
    /// When it is worth asking again, before jitter: what is left of the back-off if there is no server, else half of the
    /// longest wait.
    pub fn retry_after(&self, reason: ShedReason) -> Duration {
        match reason {
            ShedReason::QueueTimeout | ShedReason::QueueFull | ShedReason::Estimate => {
                self.params.max_wait / 2
            }
            ShedReason::ServerDown | ShedReason::ServerRefused => self.backoff_left(Instant::now()),
            ShedReason::Draining => ELSEWHERE,
        }
    }

    /// How long until the next dial may start; zero if one is under way or may start now.
    fn backoff_left(&self, now: Instant) -> Duration {
        let until = self.upstream.with_books(|books| {
            let (own, all) = (books.gate.snapshot(now, self.id), books.gate.snapshot_upstream(now));
            own.backing_off_until.max(all.backing_off_until)
        });
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}
