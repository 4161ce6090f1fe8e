//! How a session is left.

use super::Session;
use super::stream::Stream;
use crate::plan::End;
use postgres_protocol::message::frontend;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// A server that does not read must not keep an instance that wants to go.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket of an instance that went silent: nothing is read from it or written to it. Dropping it closes it.
#[derive(Debug)]
#[must_use = "dropping it closes the socket"]
pub struct Silent {
    _stream: Stream,
}

impl Session {
    /// Leaves the connection; takes no longer than a second, whatever the server does. With [`End::Terminate`] behind a
    /// query in flight, the server finds the good-bye when it has run the query. With what was received and not read, the
    /// system makes a reset of every close. Unix sockets know no reset: [`End::Rst`] just closes them.
    ///
    /// Cancel safety: dropped midway, the socket is closed (a FIN).
    pub async fn end(mut self, how: End) -> Option<Silent> {
        match how {
            End::Terminate => {
                let _ = timeout(PATIENCE, self.say_goodbye()).await;
            }
            End::Fin => {}
            End::Rst => {
                // A socket that is closed already cannot be reset.
                let _ = self.wire.stream.reset_on_close();
            }
            End::Silence => return Some(Silent { _stream: self.wire.stream }),
        }
        None
    }

    async fn say_goodbye(&mut self) {
        frontend::terminate(&mut self.wire.outbox);
        self.wire.flush().await;
        let _ = self.wire.stream.shutdown().await;
    }
}
