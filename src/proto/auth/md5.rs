//! MD5 passwords: PostgreSQL manual, "Message Flow: Start-up", AuthenticationMD5Password.

use std::fmt;

use md5::{Digest, Md5};

/// `md5(password || user)` in hexadecimal: what a server keeps, and what the answer to a challenge is made from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Md5Hash([u8; 32]);

impl Md5Hash {
    /// The hash of a user's password.
    pub fn new(password: &[u8], user: &str) -> Self {
        Self(hex_digest(&[password, user.as_bytes()]))
    }

    /// Reads `md5` and 32 lower-case hex digits, as in `pg_authid.rolpassword`; None if it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: [u8; 32] = text.strip_prefix("md5")?.as_bytes().try_into().ok()?;
        digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(digits))
    }

    /// The answer to a challenge with this salt: `md5` and 32 hex digits.
    pub fn response(&self, salt: [u8; 4]) -> String {
        let digits = hex_digest(&[&self.0, &salt]);
        "md5".chars().chain(digits.into_iter().map(char::from)).collect()
    }

    /// The 32 hex digits, for comparison in constant time.
    pub(super) fn digits(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Md5Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Hash(…)")
    }
}

fn hex_digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    let digest = md5.finalize();
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    std::array::from_fn(|place| {
        let byte = digest[place / 2];
        digit(if place % 2 == 0 { byte >> 4 } else { byte & 0xf })
    })
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::md5_hash;
    use proptest::prelude::*;

    use super::*;

    /// `create role foo password 'foobar'` on PostgreSQL 15 with `password_encryption = md5`.
    #[test]
    fn known_vector() {
        let hash = Md5Hash::new(b"foobar", "foo");
        assert_eq!(Md5Hash::parse("md5c98cbfeb6a347a47eb8e96cfb4c4b890"), Some(hash));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "md5", "md5c98cbfeb6a347a47eb8e96cfb4c4b89", "md5C98CBFEB6A347a47eb8e96cfb4c4b890"] {
            assert_eq!(Md5Hash::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn response_is_the_driver_s(password in ".{0,40}", user in "[a-z]{1,20}", salt in any::<[u8; 4]>()) {
            let response = Md5Hash::new(password.as_bytes(), &user).response(salt);
            prop_assert_eq!(response, md5_hash(user.as_bytes(), password.as_bytes(), salt));
        }
    }
}
