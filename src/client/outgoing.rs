//! What goes to a server connection: a client's messages, some of them rewritten, with the proxy's own between them.
//!
//! What is sent is whole messages, whatever the client's chunks are cut like: nothing goes between two pieces of a message,
//! and one that is replaced is replaced to its end, also where that is still to come.

use crate::proto::statements::{BindParts, renamed_bind};
use crate::wire::{Frame, FrameStream, Header, Next, Violation};

/// A chunk of a client's messages on its way to the server. As long as nothing has to be rewritten it is passed on as it
/// came, without being copied.
pub(super) struct Outgoing<'b> {
    chunk: &'b [u8],
    frames: FrameStream,
    /// The message that is looked at begins here.
    at: usize,
    /// The client's bytes that are not in `out` yet begin here.
    from: usize,
    out: Vec<u8>,
}

impl<'b> Outgoing<'b> {
    /// `front` goes before the chunk. Its memory is used, so that it can be used again.
    pub(super) fn new(chunk: &'b [u8], frames: FrameStream, front: Vec<u8>) -> Self {
        debug_assert!(
            front.is_empty() || !frames.is_passing(),
            "something goes between two pieces of a message"
        );
        let mut frames = frames;
        let (at, from) = frames.resume_passing(chunk);
        Self { chunk, frames, at, from, out: front }
    }

    /// What the chunk begins with of a message that was passed on in part. To be asked before any message of the chunk.
    #[inline]
    pub(super) fn piece(&self) -> &'b [u8] {
        self.chunk.get(self.from..self.at).unwrap_or_default()
    }

    /// The next message. It is to be [passed](Outgoing::passed) once it is dealt with.
    #[inline]
    pub(super) fn next(&mut self, needs_more: impl Fn(Header, &[u8]) -> bool) -> Result<Next, Violation> {
        self.frames.next_unless(self.chunk, self.at, needs_more)
    }

    /// A message is dealt with.
    #[inline]
    pub(super) fn passed(&mut self, frame: Frame) {
        self.at = frame.end;
    }

    /// A message is to be looked at again later, and so is what is behind it: returns these bytes.
    pub(super) fn put_back(&mut self, frame: Frame) -> &'b [u8] {
        self.frames.rewind();
        self.left(frame.start)
    }

    /// The bytes from this place on.
    pub(super) fn left(&self, at: usize) -> &'b [u8] {
        self.chunk.get(at..).unwrap_or_default()
    }

    /// Where the client's messages stand behind what was looked at.
    pub(super) fn frames(&self) -> FrameStream {
        self.frames
    }

    /// The body of a message, as far as it is in the chunk.
    pub(super) fn body(&self, frame: Frame) -> &'b [u8] {
        frame.body(self.chunk)
    }

    /// Something is to be put in front of a message.
    pub(super) fn before(&mut self, frame: Frame) -> &mut Vec<u8> {
        self.out.extend_from_slice(self.chunk.get(self.from..frame.start).unwrap_or_default());
        self.from = frame.start;
        &mut self.out
    }

    /// Something is to be put in the place of a message: all of it, also of what is not in the chunk.
    pub(super) fn instead(&mut self, frame: Frame) -> &mut Vec<u8> {
        self.before(frame);
        self.from = frame.end;
        self.frames.swallow();
        &mut self.out
    }

    /// A Bind is to be one of another statement. What of it is not in the chunk follows as it comes.
    pub(super) fn rename_bind(&mut self, frame: Frame, parts: &BindParts<'_>, name: &[u8]) {
        let total = self.total(frame);
        renamed_bind(self.before(frame), parts, total, name);
        self.from = frame.end;
    }

    /// Bytes of a whole message, with what is not in the chunk.
    fn total(&self, frame: Frame) -> usize {
        let word = self.chunk.get(frame.start + 1..frame.start + 5).and_then(|word| word.try_into().ok());
        word.map_or(0, |word| u32::from_be_bytes(word) as usize + 1)
    }

    /// Everything that was looked at, as it is to be sent.
    pub(super) fn sent(&mut self) -> &[u8] {
        let rest = self.chunk.get(self.from..self.at).unwrap_or_default();
        if self.out.is_empty() {
            return rest;
        }
        self.out.extend_from_slice(rest);
        self.from = self.at;
        &self.out
    }

    /// Gives the memory back.
    pub(super) fn into_memory(self) -> Vec<u8> {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::statements::parse;
    use crate::wire::{Side, tag};

    /// What becomes of a message.
    #[derive(Clone, Copy)]
    enum Fate {
        Passed,
        Replaced,
        Renamed,
        PutBack,
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    fn bind(value: usize) -> Vec<u8> {
        message(tag::BIND, &[&b"\0mine\0"[..], &vec![b'S'; value]].concat())
    }

    /// Sends chunks as a client would; what arrives.
    fn send(chunks: &[&[u8]], fates: &[Fate]) -> Vec<u8> {
        let (mut frames, mut kept, mut sent) = (FrameStream::new(Side::Client), vec![], vec![]);
        let mut fates = fates.iter().copied();
        for chunk in chunks {
            let chunk = [std::mem::take(&mut kept), chunk.to_vec()].concat();
            let mut out = Outgoing::new(&chunk, frames, vec![]);
            loop {
                let needs_more =
                    |header: Header, part: &[u8]| header.tag == tag::BIND && BindParts::of(part).is_none();
                match out.next(needs_more).unwrap() {
                    Next::Frame(frame) => {
                        match fates.next().unwrap_or(Fate::Passed) {
                            Fate::Passed => {}
                            Fate::Replaced => parse(out.instead(frame), b"", b"no", &[0, 0]),
                            Fate::Renamed => {
                                let parts = BindParts::of(out.body(frame)).unwrap();
                                out.rename_bind(frame, &parts, b"pgc_1");
                            }
                            Fate::PutBack => {
                                kept = out.put_back(frame).to_vec();
                                break;
                            }
                        }
                        out.passed(frame);
                    }
                    Next::End => break,
                    Next::Keep(from) => {
                        kept = out.left(from).to_vec();
                        break;
                    }
                }
            }
            let bytes = out.sent().to_vec();
            assert_eq!(frames.passed(&bytes).map(|to| to.is_passing()), Some(out.frames().is_passing()));
            frames = out.frames();
            sent.extend(bytes);
        }
        assert!(kept.is_empty());
        sent
    }

    #[test]
    fn a_message_that_is_replaced_is_replaced_to_its_end_wherever_it_is_cut() {
        let sync = message(tag::SYNC, b"");
        let mut refused = vec![];
        parse(&mut refused, b"", b"no", &[0, 0]);
        let renamed = message(tag::BIND, &[&b"\0pgc_1\0"[..], &[b'S'; 20]].concat());
        let stream = [bind(20), sync.clone(), bind(20), sync.clone()].concat();
        for (fate, becomes) in [(Fate::Replaced, refused), (Fate::Renamed, renamed), (Fate::Passed, bind(20))]
        {
            let expected = [becomes.clone(), sync.clone(), becomes, sync.clone()].concat();
            for cut in 0..=stream.len() {
                for second in cut..=stream.len() {
                    // The last one is for what was put back.
                    let chunks = [&stream[..cut], &stream[cut..second], &stream[second..], &[]];
                    for fates in [&[fate, Fate::Passed, fate][..], &[Fate::PutBack, fate, Fate::Passed, fate]]
                    {
                        assert_eq!(send(&chunks, fates), expected, "cut at {cut} and {second}");
                    }
                }
            }
        }
    }
}
