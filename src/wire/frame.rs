//! One header: a type byte and a length.

use super::kind::Side;

/// Type byte and length word of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Type byte.
    pub tag: u8,
    /// Bytes of the whole message: type byte, length word and body.
    pub total: usize,
}

impl Header {
    /// Bytes of a type byte and a length word.
    pub const SIZE: usize = 5;
}

/// The peer broke the protocol; the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// No message of that direction has this type byte.
    UnknownType(u8),
    /// The length word is under 4 or over the limit of its type.
    BadLength {
        /// The message's type byte.
        tag: u8,
        /// The length word as sent.
        length: u32,
    },
}

impl std::fmt::Display for Violation {
    /// The texts are PostgreSQL's own.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownType(tag) => write!(f, "invalid frontend message type {tag}"),
            Self::BadLength { .. } => f.write_str("invalid message length"),
        }
    }
}

impl std::error::Error for Violation {}

/// Reads the header that `bytes` begins with; None while it is not complete.
///
/// # Errors
/// A type byte that `side` never sends, or a length outside its limit. An unknown type is reported from its first byte
/// on, so that garbage does not have to amount to five bytes.
#[inline]
pub fn header(side: Side, bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let Some(&tag) = bytes.first() else { return Ok(None) };
    let Some(limit) = side.limit(tag) else { return Err(Violation::UnknownType(tag)) };
    let Some(word) = bytes.get(1..Header::SIZE).and_then(|word| word.try_into().ok()) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(word);
    if length < 4 || length > limit {
        return Err(Violation::BadLength { tag, length });
    }
    Ok(Some(Header { tag, total: length as usize + 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_header_once_it_is_complete() {
        let sync = [b'S', 0, 0, 0, 4];
        for cut in 0..5 {
            assert_eq!(header(Side::Client, &sync[..cut]), Ok(None));
        }
        assert_eq!(header(Side::Client, &sync), Ok(Some(Header { tag: b'S', total: 5 })));
    }

    #[test]
    fn refuses_lengths_outside_the_limit_of_the_type() {
        for (bytes, length) in [
            ([b'Q', 0, 0, 0, 3], 3),
            ([b'Q', 0xff, 0xff, 0xff, 0xff], u32::MAX),
            ([b'Q', 0x40, 0, 0, 0], 0x4000_0000),
            ([b'S', 0, 0, 0x27, 0x11], 10_001),
        ] {
            assert_eq!(header(Side::Client, &bytes), Err(Violation::BadLength { tag: bytes[0], length }));
        }
    }

    #[test]
    fn refuses_unknown_types_from_the_first_byte() {
        assert_eq!(header(Side::Client, b"y"), Err(Violation::UnknownType(b'y')));
        assert_eq!(header(Side::Server, &[0]), Err(Violation::UnknownType(0)));
    }
}
