//! A stream with what is to be sent and what has come.

use super::Failure;
use super::inbox::{Event, Inbox};
use super::stream::Stream;
use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

#[derive(Debug)]
pub(super) struct Wire {
    pub stream: Stream,
    pub inbox: Inbox,
    /// What is to be sent.
    pub outbox: BytesMut,
}

impl Wire {
    pub fn new(stream: Stream) -> Self {
        Self { stream, inbox: Inbox::default(), outbox: BytesMut::new() }
    }

    /// Sends all of the outbox. An error is kept to itself: the server may have said why it closed, and whoever reads
    /// will learn of the loss.
    ///
    /// Cancel safety: what was not sent is still in the outbox.
    pub async fn flush(&mut self) {
        while !self.outbox.is_empty() {
            if self.stream.write_buf(&mut self.outbox).await.is_err() {
                self.outbox.clear();
                return;
            }
        }
        let _ = self.stream.flush().await;
    }

    /// The next message.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn event(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.inbox.next()? {
                return Ok(event);
            }
            self.inbox.fill(&mut self.stream).await?;
        }
    }
}
