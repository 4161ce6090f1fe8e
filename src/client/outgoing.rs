//! What goes to a server connection: a client's messages, some of them rewritten, with the proxy's own between them.

use crate::wire::Frame;

/// A chunk of a client's messages on its way to the server. As long as nothing has to be rewritten it is passed on as it
/// came, without being copied.
pub(super) struct Outgoing<'b> {
    chunk: &'b [u8],
    /// The client's bytes that are not in `out` yet begin here.
    from: usize,
    out: Vec<u8>,
}

impl<'b> Outgoing<'b> {
    /// `front` goes before the chunk. Its memory is used, so that it can be used again.
    pub(super) fn new(chunk: &'b [u8], front: Vec<u8>) -> Self {
        Self { chunk, from: 0, out: front }
    }

    /// The body of a message, as far as it is in the chunk.
    pub(super) fn body(&self, frame: Frame) -> &'b [u8] {
        frame.body(self.chunk)
    }

    /// Bytes of a whole message, with what is not in the chunk.
    pub(super) fn total(&self, frame: Frame) -> usize {
        let word = self.chunk.get(frame.start + 1..frame.start + 5).and_then(|word| word.try_into().ok());
        word.map_or(0, |word| u32::from_be_bytes(word) as usize + 1)
    }

    /// Something is to be put in front of a message.
    pub(super) fn before(&mut self, frame: Frame) -> &mut Vec<u8> {
        self.out.extend_from_slice(self.chunk.get(self.from..frame.start).unwrap_or_default());
        self.from = frame.start;
        &mut self.out
    }

    /// Something is to be put in the place of a message, or of the part of it that is in the chunk.
    pub(super) fn instead(&mut self, frame: Frame) -> &mut Vec<u8> {
        self.before(frame);
        self.from = frame.end;
        &mut self.out
    }

    /// Everything up to this place of the chunk, as it is to be sent.
    pub(super) fn up_to(&mut self, at: usize) -> &[u8] {
        let rest = self.chunk.get(self.from..at).unwrap_or_default();
        if self.out.is_empty() {
            return rest;
        }
        self.out.extend_from_slice(rest);
        self.from = at;
        &self.out
    }

    /// Gives the memory back.
    pub(super) fn into_memory(self) -> Vec<u8> {
        self.out
    }
}
