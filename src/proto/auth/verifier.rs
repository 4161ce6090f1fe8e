//! What a server keeps of a password for SCRAM-SHA-256: `pg_authid.rolpassword` (PostgreSQL manual, "pg_authid").

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::{Key, Keys, hash};

/// Checks a client's proof; does not contain the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Box<[u8]>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl Verifier {
    /// The verifier of keys derived with this salt and number of iterations.
    pub fn new(keys: &Keys, salt: &[u8], iterations: u32) -> Self {
        Self { iterations, salt: salt.into(), stored_key: hash(&keys.client), server_key: keys.server }
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`; None if it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            iterations: iterations_from(iterations)?,
            salt: STANDARD.decode(salt).ok()?.into(),
            stored_key: key_from(stored_key)?,
            server_key: key_from(server_key)?,
        })
    }

    /// The text that [`Verifier::parse`] reads. A secret.
    pub fn reveal(&self) -> String {
        let [salt, stored_key, server_key] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        format!("SCRAM-SHA-256${}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// RFC 5802 section 5.1: a positive decimal number, here of 31 bits as PostgreSQL's.
pub(super) fn iterations_from(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u32>().ok()?;
    (digits && (1..=i32::MAX.unsigned_abs()).contains(&number)).then_some(number)
}

/// 32 bytes in base64.
pub(super) fn key_from(text: &str) -> Option<Key> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::Derivation;
    use super::*;

    #[test]
    fn text_comes_back() {
        for salt in [&b""[..], b"s", &[7; 32], &[1; 200]] {
            let verifier = Derivation::new(b"pw", salt, 3).verifier();
            assert_eq!(Verifier::parse(&verifier.reveal()), Some(verifier));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let good = Derivation::new(b"pw", b"salt", 3).verifier().reveal();
        assert!(Verifier::parse(&good).is_some());
        let changed = [
            good.replace("SCRAM-SHA-256$", "SCRAM-SHA-1$"),
            good.replace("$3:", "$0:"),
            good.replace("$3:", "$+3:"),
            good.replace("$3:", "$4294967296:"),
            good.replace("$3:", "$2147483648:"),
            good.replace("$3:", "$:"),
            good.replace("$3:", "$3:!"),
            good.replace(":", ";"),
            format!("{good}AAAA"),
            good[..good.len() - 4].to_owned(),
            String::new(),
            "md5aabbccddeeff00112233445566778899".to_owned(),
        ];
        for text in changed {
            assert_eq!(Verifier::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Derivation::new(b"pw", b"salt", 3).verifier()), "Verifier(…)");
    }
}
