//! From a password to the keys of SCRAM-SHA-256: RFC 5802 section 3, RFC 7677, RFC 8018 (PBKDF2).

use std::fmt;
use std::hash::{Hash, Hasher};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Verifier;

/// The output of SHA-256, and every key made with it.
pub(super) type Key = [u8; 32];

/// Bytes that SHA-256 takes at once.
const BLOCK: usize = 64;

/// A derivation of keys that has to be run: milliseconds of CPU. Run it off the I/O threads and remember the result;
/// derivations that are equal have equal results.
#[derive(Clone, PartialEq, Eq)]
pub struct Derivation {
    password: Box<[u8]>,
    salt: Box<[u8]>,
    iterations: u32,
}

impl Derivation {
    /// `password` as the user wrote it, `salt` of any length; no iterations count as one.
    pub fn new(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        Self { password: password.into(), salt: salt.into(), iterations }
    }

    /// The long part. Time grows with the iterations: 4096 take milliseconds.
    pub fn run(&self) -> Keys {
        let salted_password = match prepared(&self.password) {
            Some(prepared) => pbkdf2(prepared.as_bytes(), &self.salt, self.iterations),
            None => pbkdf2(&self.password, &self.salt, self.iterations),
        };
        Keys {
            client: hmac(&salted_password, &[b"Client Key"]),
            server: hmac(&salted_password, &[b"Server Key"]),
        }
    }

    /// What a server keeps instead of the password: runs the derivation.
    pub fn verifier(&self) -> Verifier {
        Verifier::new(&self.run(), &self.salt, self.iterations.max(1))
    }
}

/// What a derivation that has let its user in is known by when it comes again: so that a thousand logins with one clear-text
/// password derive its keys once. Only for what was right: nothing that is invented is ever kept. The password is not kept
/// either, but its HMAC under a key of this process.
pub struct Proven {
    secret: Key,
    right: Option<Key>,
}

impl Proven {
    /// Nothing was right yet. `secret` is random.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret, right: None }
    }

    /// It was right before.
    pub fn knows(&self, derivation: &Derivation) -> bool {
        self.right.is_some_and(|right| right.ct_eq(&self.mark(derivation)).into())
    }

    /// It was right; what was right before is forgotten.
    pub fn remember(&mut self, derivation: &Derivation) {
        self.right = Some(self.mark(derivation));
    }

    fn mark(&self, derivation: &Derivation) -> Key {
        let Derivation { password, salt, iterations } = derivation;
        // The lengths keep the parts apart.
        let lengths = [salt.len().to_be_bytes(), password.len().to_be_bytes()].concat();
        hmac(&self.secret, &[&lengths, &iterations.to_be_bytes(), salt, password])
    }
}

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proven").finish_non_exhaustive()
    }
}

/// The password takes no part, so that maps do not depend on it; equality does look at it.
impl Hash for Derivation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.salt.hash(state);
        self.iterations.hash(state);
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derivation").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// `ClientKey` and `ServerKey`: as good as the password for whoever has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub(super) client: Key,
    pub(super) server: Key,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// SASLprep (RFC 4013). None where PostgreSQL takes the bytes as they are (`pg_saslprep`): not UTF-8, a character that
/// is prohibited, or nothing left.
fn prepared(password: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    let text = std::str::from_utf8(password).ok()?;
    stringprep::saslprep(text).ok().filter(|prepared| !prepared.is_empty())
}

/// `Hi(password, salt, iterations)` of RFC 5802: PBKDF2 with HMAC-SHA-256 and one block of output.
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let keyed = keyed(password);
    let mut round = finish(keyed.clone(), &[salt, &1_u32.to_be_bytes()]);
    let mut sum = round;
    for _ in 1..iterations {
        round = finish(keyed.clone(), &[&round]);
        sum = xor(&sum, &round);
    }
    sum
}

/// HMAC-SHA-256 of the parts one after the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    finish(keyed(key), parts)
}

/// SHA-256: `H` of RFC 5802.
pub(super) fn hash(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}

/// Bit by bit: `XOR` of RFC 5802.
pub(super) fn xor(left: &Key, right: &Key) -> Key {
    std::array::from_fn(|place| left[place] ^ right[place])
}

fn finish(mut mac: Hmac<Sha256>, parts: &[&[u8]]) -> Key {
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// RFC 2104: a key longer than a block is hashed first, a shorter one filled up with zeros.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0; BLOCK];
    match block.get_mut(..key.len()) {
        Some(start) => start.copy_from_slice(key),
        None => block[..32].copy_from_slice(&hash(key)),
    }
    Mac::new(&block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_was_right_is_known_again() {
        let right = Derivation::new(b"right", b"salt", 4096);
        let mut proven = Proven::new([7; 32]);
        assert!(!proven.knows(&right));
        proven.remember(&right);
        assert!(proven.knows(&right.clone()));
        for (password, salt, iterations) in [
            ("wrong", "salt", 4096),
            ("right", "pepper", 4096),
            ("right", "salt", 4095),
            ("tright", "sal", 4096),
        ] {
            let other = Derivation::new(password.as_bytes(), salt.as_bytes(), iterations);
            assert!(!proven.knows(&other), "{password} {salt} {iterations}");
        }
        proven.remember(&Derivation::new(b"new", b"salt", 4096));
        assert!(!proven.knows(&right));
        assert_eq!(format!("{proven:?}"), "Proven { .. }");
    }

    /// RFC 4231, test cases 1 and 6 (a key longer than a block).
    #[test]
    fn hmac_of_the_rfc() {
        let short = hmac(&[0x0b; 20], &[b"Hi ", b"There"]);
        assert_eq!(hex(&short), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let long = hmac(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]);
        assert_eq!(hex(&long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    /// RFC 7914 section 11, first half of its first vector.
    #[test]
    fn pbkdf2_of_the_rfc() {
        let derived = pbkdf2(b"passwd", b"salt", 1);
        assert_eq!(hex(&derived), "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
    }

    #[test]
    fn passwords_are_prepared_or_taken_as_they_are() {
        let run = |password: &[u8]| Derivation::new(password, b"salt", 2).run();
        assert_eq!(run("I\u{ad}X".as_bytes()), run(b"IX"), "soft hyphen maps to nothing");
        assert_eq!(run("\u{2168}".as_bytes()), run(b"IX"), "compatibility composition");
        assert_ne!(run("a\u{7}".as_bytes()), run(b"a"), "prohibited: raw");
        assert_ne!(run("\u{ad}".as_bytes()), run(b""), "nothing left: raw");
        assert_ne!(run(b"a\xff"), run(b"a"), "not UTF-8: raw");
    }

    #[test]
    fn debug_shows_no_secret() {
        let derivation = Derivation::new(b"hunter2", b"salt", 1);
        assert_eq!(format!("{derivation:?}"), "Derivation { iterations: 1, .. }");
        assert_eq!(format!("{:?}", derivation.run()), "Keys(…)");
    }
}
