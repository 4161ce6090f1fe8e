//! Bytes on their way to a peer that may not take them all at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::Stream;

/// What a peer has not taken yet. Empty, it holds no memory; its owner bounds it by not reading the other side while
/// something is left in it.
#[derive(Debug, Default)]
pub struct Outbox {
    rest: Vec<u8>,
    /// How much of `rest` is written.
    written: usize,
    /// TLS holds a record back.
    unflushed: bool,
}

impl Outbox {
    /// All is with the kernel.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty() && !self.unflushed
    }

    /// Bytes that the peer has not taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.rest.len() - self.written
    }

    /// Writes `bytes` behind what is still to be written, keeping what the peer does not take now. The task is woken
    /// when [`Outbox::poll_drain`] can go on.
    ///
    /// # Errors
    /// The connection is broken.
    #[inline]
    pub fn write(&mut self, stream: &mut Stream, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        if !self.rest.is_empty() {
            // What is written takes no room, however long it is until all is.
            if self.written > self.rest.len() / 2 {
                self.rest.drain(..std::mem::take(&mut self.written));
            }
            self.rest.extend_from_slice(bytes);
            return Ok(());
        }
        let mut at = 0;
        while at < bytes.len() {
            match Pin::new(&mut *stream).poll_write(cx, bytes.get(at..).unwrap_or_default()) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(taken)) => at += taken,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.rest.extend_from_slice(bytes.get(at..).unwrap_or_default());
                    return Ok(());
                }
            }
        }
        self.flush(stream, cx)
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_drain(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes @ [_, ..]) = self.rest.get(self.written..) {
            match ready!(Pin::new(&mut *stream).poll_write(cx, bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.written += taken,
            }
        }
        // Its memory goes back: an idle client holds no buffer.
        self.rest = Vec::new();
        self.written = 0;
        self.flush(stream, cx)?;
        if self.unflushed { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> io::Result<()> {
        self.unflushed = match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(result) => {
                result?;
                false
            }
            Poll::Pending => true,
        };
        Ok(())
    }
}
