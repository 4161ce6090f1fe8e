//! From bytes to what they mean to this client. Most messages are passed over by their header alone, in pieces, so that
//! a session needs a few kilobytes whatever the server sends.

use super::stream::{CLOSED, Stream, lost};
use super::{Failure, ServerError};
use bytes::{Buf, BytesMut};
use std::fmt;
use tokio::io::AsyncReadExt;

/// Read at once. Thousands of sessions have such a buffer.
const CHUNK: usize = 4096;

/// Kind and length.
const HEADER: usize = 5;

/// Most of a body that is looked at. What is longer is cut off if it is an ErrorResponse (its first fields are those that
/// count), and is a failure otherwise.
const LONGEST_KEPT: usize = 4096;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An Authentication message's body.
    Authentication(Vec<u8>),
    /// BackendKeyData's body.
    Key(Box<[u8]>),
    /// ErrorResponse.
    Error(ServerError),
    /// ReadyForQuery, with `I`, `T` or `E`.
    Ready(u8),
    /// A message of which only its kind is known.
    Passed(u8),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authentication(_) => f.write_str("Authentication"),
            Self::Key(_) => f.write_str("BackendKeyData"),
            Self::Error(_) => f.write_str("ErrorResponse"),
            Self::Ready(_) => f.write_str("ReadyForQuery"),
            Self::Passed(kind) => write!(f, "a message of kind \"{}\"", kind.escape_ascii()),
        }
    }
}

/// What has come and was not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buffer: BytesMut,
    /// Bytes, of what is to come, that nobody wants.
    unwanted: usize,
    /// Bytes of all messages so far.
    counted: u64,
}

impl Inbox {
    /// Bytes of all messages that were taken so far, headers included.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Something has come that was not taken.
    pub fn has_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next message's kind was read already: it is an ErrorResponse.
    pub fn put_back_error(&mut self) {
        self.buffer.extend_from_slice(b"E");
    }

    /// Takes the next message; `None` if more has to be read first.
    pub fn next(&mut self) -> Result<Option<Event>, Failure> {
        self.drop_unwanted();
        let Some((&[kind, a, b, c, d], rest)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = body_length([a, b, c, d])?;
        if length > LONGEST_KEPT && matches!(kind, b'R' | b'K' | b'Z') {
            return Err(Failure::Protocol(format!("{length} bytes of kind \"{}\"", char::from(kind))));
        }
        let event = if matches!(kind, b'R' | b'K' | b'Z' | b'E') {
            let Some(body) = rest.get(..length.min(LONGEST_KEPT)) else { return Ok(None) };
            event(kind, body)?
        } else {
            Event::Passed(kind)
        };
        self.counted += (HEADER + length) as u64;
        self.unwanted = HEADER + length;
        self.drop_unwanted();
        Ok(Some(event))
    }

    /// Reads some more. The end of the stream is a failure.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn fill(&mut self, stream: &mut Stream) -> Result<(), Failure> {
        self.drop_unwanted();
        // A chunk in all, if little is left over; that way the buffer does not grow.
        let more = if self.buffer.len() < CHUNK / 2 { CHUNK - self.buffer.len() } else { CHUNK };
        self.buffer.reserve(more);
        match stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Failure::Connection(CLOSED.to_owned())),
            Ok(_) => Ok(()),
            Err(error) => Err(lost(&error)),
        }
    }

    fn drop_unwanted(&mut self) {
        let here = self.unwanted.min(self.buffer.len());
        self.buffer.advance(here);
        self.unwanted -= here;
    }
}

/// The length in a header counts itself.
fn body_length(bytes: [u8; 4]) -> Result<usize, Failure> {
    let length = i32::from_be_bytes(bytes);
    let body = length.checked_sub(4).and_then(|body| usize::try_from(body).ok());
    body.ok_or_else(|| Failure::Protocol(format!("a message of length {length}")))
}

fn event(kind: u8, body: &[u8]) -> Result<Event, Failure> {
    match (kind, body) {
        (b'R', _) => Ok(Event::Authentication(body.to_vec())),
        (b'K', _) => Ok(Event::Key(body.into())),
        (b'Z', &[status @ (b'I' | b'T' | b'E')]) => Ok(Event::Ready(status)),
        (b'Z', _) => Err(Failure::Protocol("a ReadyForQuery that is none".to_owned())),
        _ => Ok(Event::Error(ServerError::parse(body))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(bytes: &[u8]) -> Inbox {
        Inbox { buffer: bytes.into(), ..Inbox::default() }
    }

    #[test]
    fn messages_are_taken_one_by_one_wherever_they_are_cut() {
        let bytes = b"D\0\0\0\x06xxZ\0\0\0\x05TK\0\0\0\x081234S\0\0\0\x04";
        for cut in 0..bytes.len() {
            let mut inbox = inbox(&bytes[..cut]);
            let mut events = Vec::new();
            while let Some(event) = inbox.next().unwrap() {
                events.push(event);
            }
            inbox.buffer.extend_from_slice(&bytes[cut..]);
            while let Some(event) = inbox.next().unwrap() {
                events.push(event);
            }
            let key = Event::Key(b"1234"[..].into());
            assert_eq!(events, [Event::Passed(b'D'), Event::Ready(b'T'), key, Event::Passed(b'S')], "{cut}");
            assert_eq!(inbox.counted(), bytes.len() as u64);
        }
    }

    #[test]
    fn a_gigabyte_is_passed_over_without_being_kept() {
        let mut inbox = inbox(b"D\x40\0\0\x04xxxx");
        assert_eq!(inbox.next(), Ok(Some(Event::Passed(b'D'))));
        assert_eq!((inbox.unwanted, inbox.counted), (0x4000_0000 - 4, 0x4000_0005));
        assert_eq!(inbox.next(), Ok(None));
        assert!(!inbox.has_bytes());
    }

    #[test]
    fn nonsense_is_a_failure() {
        let table: [&[u8]; 6] = [
            b"D\0\0\0\x03",
            b"D\xff\xff\xff\xff",
            b"D\x80\0\0\0",
            b"Z\0\0\0\x04",
            b"Z\0\0\0\x05x",
            b"Z\0\0\0\x06II",
        ];
        for bytes in table {
            assert!(matches!(inbox(bytes).next(), Err(Failure::Protocol(_))), "{bytes:?}");
        }
        assert!(matches!(inbox(b"R\0\x01\0\0").next(), Err(Failure::Protocol(_))), "it is not waited for");
    }

    #[test]
    fn a_long_error_is_cut_off() {
        let mut bytes = b"E\0\x01\0\0SERROR\0C22012\0Mdivision by zero\0D".to_vec();
        bytes.resize(HEADER + LONGEST_KEPT, b'x');
        let mut inbox = inbox(&bytes);
        let Ok(Some(Event::Error(error))) = inbox.next() else { panic!("no error") };
        assert_eq!((error.sqlstate.as_str(), error.message.as_str()), ("22012", "division by zero"));
        assert_eq!(inbox.unwanted, 0x1_0000 - 4 - LONGEST_KEPT);
    }
}
