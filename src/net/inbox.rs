//! One direction of a connection as it comes in: chunks from the socket, cut into messages.

use std::io;
use std::task::{Context, Poll, ready};

use super::Stream;
use crate::wire::{FrameStream, Side};

/// Where reading stands between two chunks. It owns memory only while a message is cut in its header, or one that is
/// wanted whole has not arrived to its end.
#[derive(Debug)]
pub struct Inbox {
    /// The messages' boundaries.
    pub frames: FrameStream,
    kept: Vec<u8>,
}

impl Inbox {
    /// An inbox at a message boundary.
    pub fn new(side: Side) -> Self {
        Self { frames: FrameStream::new(side), kept: Vec::new() }
    }

    /// Everything that was read is dealt with.
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.kept.is_empty() && self.frames.at_boundary()
    }

    /// Reads the next chunk into `buffer`, behind what was kept; how many bytes it holds, or None at the end of the
    /// stream. Nothing is lost while it is pending.
    ///
    /// # Errors
    /// The connection is broken.
    #[inline]
    pub fn poll_chunk(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Option<usize>>> {
        let kept = self.kept.len();
        let Some((front, room)) = buffer.split_at_mut_checked(kept) else {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        };
        let read = ready!(stream.poll_fill(cx, room))?;
        front.copy_from_slice(&self.kept);
        self.kept = Vec::new();
        Poll::Ready(Ok((read > 0).then_some(kept + read)))
    }

    /// Takes what was kept.
    pub fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// Keeps the end of a chunk for the next one, in front of what is kept already.
    pub fn keep(&mut self, rest: &[u8]) {
        self.kept.splice(..0, rest.iter().copied());
    }
}
