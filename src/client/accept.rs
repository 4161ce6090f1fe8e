//! Accepting: one task per listener, and a task for each connection, on the I/O threads in turn.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use super::door::{Connection, Door};
use super::handshake::serve;
use crate::guard::Home;
use crate::net::{Detached, Listener, Stream};
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

    /// `here` is the home of the listener, whose runtime has accepted the connection.
    fn spawn(&self, door: &Arc<Door>, here: Home, stream: Stream) -> io::Result<()> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.homes.len().max(1);
        let Some(runtime) = self.homes.get(index) else { return Ok(()) };
        let home = Home(index as u16);
        let connection = Connection::new(door);
        if home == here {
            runtime.spawn(serve(connection, stream, home));
            return Ok(());
        }
        let detached = Detached::from_stream(stream)?;
        runtime.spawn(async move {
            if let Ok(stream) = detached.into_stream() {
                serve(connection, stream, home).await;
            }
        });
        Ok(())
    }
}

/// Accepts until the proxy drains; then the listener is closed. `here` is the home whose runtime this runs on.
pub async fn accept(listener: Listener, door: Arc<Door>, spreader: Arc<Spreader>, here: Home) {
    let mut closing = std::pin::pin!(door.closing());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closing => return,
            accepted = listener.accept() => accepted,
        };
        if let Err(error) = accepted.and_then(|stream| spreader.spawn(&door, here, stream)) {
            refused(&door, &error);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn refused(door: &Door, error: &io::Error) {
    let reason = if is_out_of_files(error) { "out of file descriptors" } else { "accept failed" };
    door.login_failures.count(reason);
    tracing::debug!(%error, "cannot accept a connection");
}
