//! How a session is left.

use super::Session;
use crate::plan::End;

/// The socket of an instance that went silent. Dropping it closes it.
#[derive(Debug)]
#[must_use = "dropping it closes the socket"]
pub struct Silent {}

impl Session {
    /// Leaves the connection. Takes no longer than a second, whatever the server does.
    ///
    /// Cancel safety: dropped midway, the socket is closed (a FIN).
    pub async fn end(self, how: End) -> Option<Silent> {
        let _ = how;
        todo!()
    }
}
