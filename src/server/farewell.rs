//! Closing a server connection so that PostgreSQL's slot is known to be free again.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{Fate, Server};
use crate::wire::tag;

/// Longest wait for PostgreSQL to close its side. A backend closes its socket only by ending, so the end of the stream
/// says that its slot is free; a network that swallows it must not keep the slot for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes leave of PostgreSQL, and waits until the backend is gone. What still runs is cancelled.
pub async fn farewell(mut server: Server) {
    if server.fate == Fate::Lost {
        // Its backend is gone already, or out of reach: there is nobody to say it to.
        return;
    }
    let goodbye = async {
        if !server.ledger.is_settled() && server.fate != Fate::Leaving {
            let _ = server.cancel.begin().send().await;
        }
        server.cancel.over().await;
        if server.fate == Fate::Sound && server.outbox.is_empty() {
            let _ = server.stream.write_all(&[tag::TERMINATE, 0, 0, 0, 4]).await;
        }
        let _ = server.stream.shutdown().await;
        let mut rest = vec![0; 4096];
        while matches!(server.stream.read(&mut rest).await, Ok(read) if read > 0) {}
    };
    if tokio::time::timeout(PATIENCE, goodbye).await.is_err() {
        tracing::warn!(pid = server.cancel.process_id(), "server did not close its connection");
    }
}
