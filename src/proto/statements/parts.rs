//! Messages about statements, taken apart and written (manual, "Message Formats": Parse, Bind, Describe, Close).

use crate::wire::tag;

/// The body of a Parse message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseParts<'a> {
    /// The client's name for it; empty: the unnamed statement.
    pub name: &'a [u8],
    /// Its text.
    pub text: &'a [u8],
    /// Number and OIDs of the parameters' types, as in the message.
    pub types: &'a [u8],
}

impl<'a> ParseParts<'a> {
    /// Takes a body apart; None if it is not well formed, which PostgreSQL then says.
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let (name, rest) = cstr(body)?;
        let (text, types) = cstr(rest)?;
        let (count, oids) = types.split_first_chunk()?;
        (usize::from(u16::from_be_bytes(*count)) * 4 == oids.len()).then_some(Self { name, text, types })
    }
}

/// The beginning of the body of a Bind message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindParts<'a> {
    /// The portal's name.
    pub portal: &'a [u8],
    /// The client's name for the statement.
    pub statement: &'a [u8],
    /// What is behind the names.
    pub rest: &'a [u8],
}

impl<'a> BindParts<'a> {
    /// Takes the beginning of a body apart; None while the names are not complete.
    #[inline]
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let (portal, rest) = cstr(body)?;
        let (statement, rest) = cstr(rest)?;
        Some(Self { portal, statement, rest })
    }
}

impl<'a> BindParts<'a> {
    /// The values of the parameters, as far as they are there.
    pub fn values(&self) -> impl Iterator<Item = &'a [u8]> {
        let formats = count(self.rest).map_or(0, |(count, _)| count);
        let behind = self.rest.get(2 + 2 * formats..).unwrap_or_default();
        let (mut left, mut rest) = count(behind).unwrap_or((0, &[]));
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (length, behind) = rest.split_first_chunk()?;
            // -1 is NULL.
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let (value, behind) = behind.split_at_checked(length)?;
            rest = behind;
            Some(value)
        })
    }
}

fn count(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    Some((usize::from(u16::from_be_bytes(*count)), rest))
}

/// The name in the body of a Describe or Close message, behind its kind (`S` or `P`); None if it is not well formed.
pub fn named(body: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, rest) = body.split_first()?;
    match cstr(rest)? {
        (name, []) => Some((*kind, name)),
        _ => None,
    }
}

/// A Bind message for another statement. `total` is the length of the client's message with its type byte; what of it is
/// not in `parts` follows.
#[inline]
pub fn renamed_bind(out: &mut Vec<u8>, parts: &BindParts<'_>, total: usize, name: &[u8]) {
    out.push(tag::BIND);
    let length = (total - 1 + name.len() - parts.statement.len()) as u32;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(parts.portal);
    out.push(0);
    out.extend_from_slice(name);
    out.push(0);
    out.extend_from_slice(parts.rest);
}

/// A Parse message.
pub fn parse(out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u8]) {
    out.push(tag::PARSE);
    out.extend_from_slice(&((4 + name.len() + 1 + text.len() + 1 + types.len()) as u32).to_be_bytes());
    for part in [name, text] {
        out.extend_from_slice(part);
        out.push(0);
    }
    out.extend_from_slice(types);
}

/// A Describe or Close message for a statement.
pub fn close(out: &mut Vec<u8>, kind: u8, name: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&((4 + 1 + name.len() + 1) as u32).to_be_bytes());
    out.push(b'S');
    out.extend_from_slice(name);
    out.push(0);
}

/// Up to the NUL byte, and what is behind it.
#[inline]
fn cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_there_and_back() {
        let mut message = vec![];
        parse(&mut message, b"a", b"select $1", &[0, 1, 0, 0, 0, 23]);
        assert_eq!(
            message.len(),
            1 + u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize
        );
        let parts = ParseParts::of(&message[5..]).unwrap();
        assert_eq!(parts, ParseParts { name: b"a", text: b"select $1", types: &[0, 1, 0, 0, 0, 23] });
        for cut in 5..message.len() {
            assert_eq!(ParseParts::of(&message[5..cut]), None);
        }
    }

    #[test]
    fn bind_is_renamed() {
        let body = b"portal\0a\0rest";
        let parts = BindParts::of(body).unwrap();
        let mut message = vec![];
        renamed_bind(&mut message, &parts, 5 + body.len(), b"pgc_12");
        assert_eq!(message, b"B\0\0\0\x16portal\0pgc_12\0rest");
    }

    #[test]
    fn values_of_a_bind() {
        let body = b"\0\0\0\x01\0\0\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01c\0\0";
        let values = |body| BindParts::of(body).map(|parts| parts.values().collect::<Vec<_>>());
        assert_eq!(values(&body[..]), Some(vec![&b"ab"[..], b"", b"c"]));
        assert_eq!(values(&body[..14]), Some(vec![&b"ab"[..]]));
        assert_eq!(values(&body[..4]), Some(vec![]));
    }
}
