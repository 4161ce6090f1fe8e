//! A leg's early end: whoever has a reason tells (somebody's Ctrl-C, a hook that failed, too many records), and everybody
//! who plays listens.

use tokio::sync::watch;

/// Told once, for all.
#[derive(Debug)]
pub(super) struct EarlyEnd(watch::Sender<bool>);

impl EarlyEnd {
    /// Not told yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// The leg is to end now.
    pub fn tell(&self) {
        self.0.send_replace(true);
    }

    /// It has been told.
    pub fn is_told(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it has been told.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn told(&self) {
        let mut telling = self.0.subscribe();
        // Fails only when nobody is left who could tell: `self` can.
        let _ = telling.wait_for(|told| *told).await;
    }
}
