//! Accepting: one task per listener, and a task for each connection on the thread that has the fewest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use super::door::Door;
use super::handshake::serve;
use crate::guard::Home;
use crate::net::{Accepted, Listener};
use crate::server::is_out_of_files;

/// Pause after a failed accept: EMFILE lasts until somebody leaves, and asking again at once would spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Spreads connections over the I/O threads.
#[derive(Debug)]
pub struct Spreader {
    homes: Vec<Handle>,
    next: AtomicUsize,
}

impl Spreader {
    /// Over these runtimes, one per I/O thread.
    pub fn new(homes: Vec<Handle>) -> Self {
        Self { homes, next: AtomicUsize::new(0) }
    }

    fn spawn(&self, door: &Arc<Door>, accepted: Accepted) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.homes.len().max(1);
        let Some(home) = self.homes.get(index) else { return };
        door.connections.fetch_add(1, Ordering::SeqCst);
        let connection = Connection(Arc::clone(door));
        home.spawn(async move {
            let door = Arc::clone(&connection.0);
            serve(door, accepted, Home(index as u16)).await;
            drop(connection);
        });
    }
}

/// Counts a connection for as long as it lives.
struct Connection(Arc<Door>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Accepts until the proxy drains; then the listener is closed.
pub async fn accept(listener: Listener, door: Arc<Door>, spreader: Arc<Spreader>) {
    let mut closing = std::pin::pin!(door.closing());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closing => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => spreader.spawn(&door, accepted),
            Err(error) => {
                refused(&door, &error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn refused(door: &Door, error: &io::Error) {
    let reason = if is_out_of_files(error) { "out of file descriptors" } else { "accept failed" };
    door.login_failures.count(reason);
    tracing::debug!(%error, "cannot accept a connection");
}
