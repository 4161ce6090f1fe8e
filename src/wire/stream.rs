//! A stream of messages read in chunks: where each message begins and ends, without keeping any of it.

use super::frame::{Header, Violation, header};
use super::kind::Side;

/// Where one direction of a connection stands between two chunks. Eight bytes, so that an idle client costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameStream {
    side: Side,
    /// Bytes of the current message's body that have yet to come.
    rest: u32,
    /// They go nowhere: what was there of the message was not passed on either.
    swallows: bool,
}

/// A message found in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Type byte.
    pub tag: u8,
    /// Where in the chunk it begins.
    pub start: usize,
    /// Where in the chunk it ends, or the chunk's end if the body goes on.
    pub end: usize,
    /// The body is in the chunk to its last byte.
    pub whole: bool,
}

impl Frame {
    /// The part of the body that is in the chunk it was found in.
    pub fn body<'a>(&self, chunk: &'a [u8]) -> &'a [u8] {
        chunk.get(self.start + Header::SIZE..self.end).unwrap_or_default()
    }
}

/// What comes next in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A message begins.
    Frame(Frame),
    /// The chunk is used up.
    End,
    /// What is left from here is an incomplete header, or a message that is wanted whole and is not: keep it, and put it
    /// in front of the next chunk.
    Keep(usize),
}

impl FrameStream {
    /// A stream at a message boundary.
    pub fn new(side: Side) -> Self {
        Self { side, rest: 0, swallows: false }
    }

    /// No message is half through.
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.rest == 0
    }

    /// A message is half passed on: nothing but its rest may go to where it goes.
    #[inline]
    pub fn is_passing(&self) -> bool {
        self.rest != 0 && !self.swallows
    }

    /// The message that was found last goes nowhere: neither does what is yet to come of it.
    #[inline]
    pub fn swallow(&mut self) {
        self.swallows = self.rest != 0;
    }

    /// Begins a chunk whose bytes are passed on: where its first message begins, and where what is to be passed on does.
    #[inline]
    pub fn resume_passing(&mut self, chunk: &[u8]) -> (usize, usize) {
        let swallows = self.swallows;
        let at = self.resume(chunk);
        (at, if swallows { at } else { 0 })
    }

    /// Where a stream of the same side stands that is sent these bytes, and was sent what was passed on of this one; None if
    /// they end in a header, or are no messages. For checks: it looks at every message again.
    pub fn passed(self, bytes: &[u8]) -> Option<Self> {
        let mut sent = Self { rest: if self.swallows { 0 } else { self.rest }, swallows: false, ..self };
        let mut at = sent.resume(bytes);
        loop {
            match sent.next(bytes, at, 0, |_| false) {
                Ok(Next::Frame(frame)) => at = frame.end,
                Ok(Next::End) => return Some(sent),
                Ok(Next::Keep(_)) | Err(_) => return None,
            }
        }
    }

    /// The message that was found last is looked at again later.
    #[inline]
    pub fn rewind(&mut self) {
        *self = Self::new(self.side);
    }

    /// Begins a chunk: the number of its first bytes that belong to the message before.
    #[inline]
    pub fn resume(&mut self, chunk: &[u8]) -> usize {
        let passing = chunk.len().min(self.rest as usize);
        self.rest -= passing as u32;
        self.swallows &= self.rest != 0;
        passing
    }

    /// The message at `at`. One for whose type `wanted` holds is only returned whole, unless it is larger than `most`
    /// bytes: then it passes in pieces like the others.
    ///
    /// # Errors
    /// The peer broke the protocol; the stream is of no more use.
    #[inline]
    pub fn next(
        &mut self,
        chunk: &[u8],
        at: usize,
        most: usize,
        wanted: impl Fn(u8) -> bool,
    ) -> Result<Next, Violation> {
        self.next_unless(chunk, at, |header, _| header.total <= most && wanted(header.tag))
    }

    /// The message at `at`, whole or its first piece. `needs_more` is asked about a message that is not whole, with the
    /// part of its body that is there: if it says yes, the message is to be kept until more of it has come.
    ///
    /// # Errors
    /// The peer broke the protocol; the stream is of no more use.
    #[inline]
    pub fn next_unless(
        &mut self,
        chunk: &[u8],
        at: usize,
        needs_more: impl Fn(Header, &[u8]) -> bool,
    ) -> Result<Next, Violation> {
        let left = chunk.get(at..).unwrap_or_default();
        if left.is_empty() {
            return Ok(Next::End);
        }
        let Some(header) = header(self.side, left)? else { return Ok(Next::Keep(at)) };
        let Header { tag, total } = header;
        if total <= left.len() {
            return Ok(Next::Frame(Frame { tag, start: at, end: at + total, whole: true }));
        }
        if needs_more(header, left.get(Header::SIZE..).unwrap_or_default()) {
            return Ok(Next::Keep(at));
        }
        // Bounded by the type's limit, which `header` checked.
        self.rest = (total - left.len()) as u32;
        Ok(Next::Frame(Frame { tag, start: at, end: chunk.len(), whole: false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads `chunks` as a socket would deliver them; the tags, and the bytes that would have been forwarded.
    fn read(chunks: &[&[u8]], most: usize, wanted: impl Fn(u8) -> bool + Copy) -> (Vec<u8>, Vec<u8>) {
        let (mut stream, mut kept, mut tags, mut out) =
            (FrameStream::new(Side::Client), vec![], vec![], vec![]);
        for chunk in chunks {
            let mut chunk = [std::mem::take(&mut kept), chunk.to_vec()].concat();
            let mut at = stream.resume(&chunk);
            loop {
                match stream.next(&chunk, at, most, wanted).unwrap() {
                    Next::Frame(frame) => {
                        assert!(frame.whole || !wanted(frame.tag) || chunk.len() - frame.start > 0);
                        tags.push(frame.tag);
                        at = frame.end;
                    }
                    Next::End => break,
                    Next::Keep(from) => {
                        kept = chunk.split_off(from);
                        break;
                    }
                }
            }
            out.extend(chunk);
        }
        out.extend(kept);
        (tags, out)
    }

    fn message(tag: u8, body: usize) -> Vec<u8> {
        let mut message = vec![tag];
        message.extend((body as u32 + 4).to_be_bytes());
        message.extend(std::iter::repeat_n(b'x', body));
        message
    }

    proptest! {
        #[test]
        fn any_cut_finds_the_same_messages(
            bodies in prop::collection::vec((prop::sample::select(b"QPBES".to_vec()), 0usize..40), 1..8),
            cuts in prop::collection::vec(0usize..300, 0..6),
            most in 0usize..64,
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|(tag, body)| message(*tag, *body)).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let (tags, out) = read(&chunks, most, |tag| tag == b'P');
            prop_assert_eq!(tags, bodies.iter().map(|(tag, _)| *tag).collect::<Vec<_>>());
            prop_assert_eq!(out, stream);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let mut stream = FrameStream::new(Side::Client);
            for chunk in [&bytes[..cut.min(bytes.len())], &bytes[cut.min(bytes.len())..]] {
                let mut at = stream.resume(chunk);
                while let Ok(Next::Frame(frame)) = stream.next(chunk, at, 16, |tag| tag == b'Q') {
                    prop_assert!(frame.end > at && frame.end <= chunk.len());
                    at = frame.end;
                }
            }
        }
    }
}
