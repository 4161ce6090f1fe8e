//! Which requests are alike, as far as one can tell at a glance: for the adaptive limit, which compares how long like ones
//! take. Wrong guesses only make it less sure.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::wire::{Header, tag};

/// How much of a statement's text, or of its name, is looked at.
const LOOKED_AT: usize = 64;

/// The class of a request that begins with these messages: a hash of the first one's type and of its statement's name, or of
/// the text up to the first literal. As many as are told apart by `guard::Adaptive`.
pub(super) fn of(bytes: &[u8]) -> u8 {
    let (Some(kind), Some(body)) = (bytes.first(), bytes.get(Header::SIZE..)) else { return 0 };
    let what = match *kind {
        tag::QUERY => before_literals(body),
        // Behind the statement's own name, or the portal's.
        tag::PARSE => before_literals(behind_name(body)),
        tag::BIND => name(behind_name(body)),
        _ => &[],
    };
    let hash = FixedState::with_seed(u64::from(*kind)).hash_one(what);
    hash as u8
}

fn name(body: &[u8]) -> &[u8] {
    up_to(body, |byte| *byte == 0)
}

fn behind_name(body: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, body).map_or(body.len(), |end| end + 1);
    body.get(end..).unwrap_or_default()
}

fn before_literals(text: &[u8]) -> &[u8] {
    up_to(text, |byte| byte.is_ascii_digit() || matches!(byte, b'\'' | b'$' | 0))
}

/// What is in front of the first such byte, and no more than is looked at.
fn up_to(bytes: &[u8], ends: impl Fn(&u8) -> bool) -> &[u8] {
    let looked_at = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    looked_at.split(ends).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind], &[0; 4][..], body].concat()
    }

    #[test]
    fn like_requests_are_of_one_class() {
        let query = |sql: &str| of(&message(b'Q', format!("{sql}\0").as_bytes()));
        assert_eq!(query("select * from a where id = 1"), query("select * from a where id = 22"));
        assert_ne!(query("select * from a where id = 1"), query("select * from b where id = 1"));
        let parse = |name: &str, sql: &str| of(&message(b'P', format!("{name}\0{sql}\0").as_bytes()));
        assert_eq!(parse("s1", "select $1"), parse("", "select $2"));
        let bind = |portal: &str, name: &str| of(&message(b'B', format!("{portal}\0{name}\0").as_bytes()));
        assert_eq!(bind("", "s1"), bind("p", "s1"));
        assert_ne!(bind("", "s1"), bind("", "s2"));
    }

    #[test]
    fn whatever_comes_has_a_class() {
        for bytes in [&b""[..], b"Q", b"Q\0\0\0\x04", b"B\0\0\0\x04x", b"\xff\0\0\0\x04abc"] {
            let _ = of(bytes);
        }
    }
}
