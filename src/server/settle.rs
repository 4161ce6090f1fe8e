//! Brings a server connection whose client has gone back to a state in which another may have it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::connection::{Fate, Server};
use crate::proto::ledger::{Status, Verdict};
use crate::wire::{Next, tag};

/// Most bytes read at once while a reply is thrown away.
const CHUNK: usize = 16 * 1024;

/// Why a server connection cannot be used any more.
#[derive(Debug)]
pub enum Unsettled {
    /// A message to the server is half written, and its rest went with the client.
    HalfSent,
    /// The server's replies do not fit what was sent.
    OutOfStep,
    /// The server closed the connection.
    Lost(io::Error),
    /// It took too long.
    Timeout,
}

impl From<io::Error> for Unsettled {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// What is owed to the client that went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// It took its leave: what it asked for runs to its end, as PostgreSQL itself would have it.
    Finish,
    /// It vanished: nobody wants what still runs.
    Cancel,
}

impl Server {
    /// Ends what runs and any open transaction, then sends `reset` if given. `mid_message` says that the client has sent
    /// only part of its last message.
    ///
    /// # Errors
    /// The connection is of no more use. Not cancel safe: a caller that stops waiting has to close the connection.
    pub async fn settle(
        &mut self,
        owed: Owed,
        mid_message: bool,
        reset: Option<&str>,
        limit: Option<Duration>,
    ) -> Result<(), Unsettled> {
        self.ledger.forget_own_answers();
        if mid_message {
            self.fate = Fate::HalfSent;
            return Err(Unsettled::HalfSent);
        }
        if owed == Owed::Cancel && !self.ledger.is_settled() {
            // Best effort: without it the statement runs to its end or to the limit below.
            let _ = self.cancel.begin().send().await;
        }
        let work = async {
            self.complete().await?;
            if self.ledger.status() != Status::Idle {
                self.statement("ROLLBACK").await?;
            }
            if let Some(reset) = reset {
                self.statement(reset).await?;
            }
            if self.is_free() { Ok(()) } else { Err(Unsettled::OutOfStep) }
        };
        match limit {
            Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| Unsettled::Timeout)?,
            None => work.await,
        }
    }

    /// Reads to the end of what the client began, supplying what it did not send.
    async fn complete(&mut self) -> Result<(), Unsettled> {
        // A COPY may begin, or a batch fail, only while we wait: each round supplies what is missing by then.
        while !self.ledger.is_settled() || self.ledger.wants_sync() {
            if self.ledger.is_copying_in() {
                self.ledger.sent(tag::COPY_FAIL, None);
                self.send(&[tag::COPY_FAIL, 0, 0, 0, 5, 0]).await?;
            } else if self.ledger.is_skipping() {
                self.ledger.sent(tag::SYNC, None);
                self.send(&[tag::SYNC, 0, 0, 0, 4]).await?;
            } else if self.ledger.wants_sync() {
                // A Sync of ours would commit what PostgreSQL rolls back when a client leaves.
                poll_fn(|cx| Poll::Ready(self.inject(cx, "ROLLBACK"))).await?;
                self.send(&[]).await?;
            }
            self.drain_replies().await?;
        }
        Ok(())
    }

    async fn statement(&mut self, sql: &str) -> Result<(), Unsettled> {
        poll_fn(|cx| Poll::Ready(self.inject(cx, sql))).await?;
        self.send(&[]).await?;
        self.drain_replies().await
    }

    /// Writes everything.
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        poll_fn(|cx| Poll::Ready(self.outbox.write(&mut self.stream, cx, bytes))).await?;
        poll_fn(|cx| self.outbox.poll_drain(&mut self.stream, cx)).await
    }

    /// Throws replies away until nothing is owed, or the server waits for CopyData or a Sync.
    async fn drain_replies(&mut self) -> Result<(), Unsettled> {
        let mut chunk = vec![0; CHUNK];
        poll_fn(|cx| self.poll_drain_replies(cx, &mut chunk)).await
    }

    fn poll_drain_replies(&mut self, cx: &mut Context<'_>, chunk: &mut [u8]) -> Poll<Result<(), Unsettled>> {
        while !self.ledger.is_settled() && !self.ledger.is_skipping() && !self.ledger.is_copying_in() {
            let read = ready!(self.inbox.poll_chunk(&mut self.stream, cx, chunk))?;
            let Some(read) = read else {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            };
            self.discard_replies(chunk.get(..read).unwrap_or_default())?;
        }
        Poll::Ready(Ok(()))
    }

    fn note(&mut self, kind: u8, body: &[u8]) {
        match kind {
            tag::PARAMETER_STATUS => drop(self.note_parameter(body)),
            tag::COMMAND_COMPLETE => self.note_completed(body),
            tag::PARSE_COMPLETE | tag::CLOSE_COMPLETE | tag::ERROR_RESPONSE => self.note_answered(),
            _ => {}
        }
    }

    fn discard_replies(&mut self, bytes: &[u8]) -> Result<(), Unsettled> {
        let mut at = self.inbox.frames.resume(bytes);
        let wanted = |kind| {
            let telling = matches!(kind, tag::READY_FOR_QUERY | tag::ERROR_RESPONSE);
            telling || matches!(kind, tag::PARAMETER_STATUS | tag::COMMAND_COMPLETE)
        };
        loop {
            match self.inbox.frames.next(bytes, at, CHUNK / 2, wanted).map_err(|_| Unsettled::OutOfStep)? {
                Next::Frame(frame) => {
                    match self.ledger.reply(frame.tag, frame.body(bytes)) {
                        Verdict::InjectedFailed | Verdict::OutOfStep => return Err(Unsettled::OutOfStep),
                        _ => self.note(frame.tag, frame.body(bytes)),
                    }
                    at = frame.end;
                }
                Next::End => return Ok(()),
                Next::Keep(from) => {
                    self.inbox.keep(bytes.get(from..).unwrap_or_default());
                    return Ok(());
                }
            }
        }
    }
}
