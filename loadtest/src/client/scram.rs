//! SCRAM-SHA-256 from the client's side (RFC 5802, RFC 7677; PostgreSQL's manual, "SCRAM-SHA-256 Authentication").
//!
//! A cold start has to salt its password thousands of times, on a CPU of its own. Here all instances share the
//! generator's CPU, so the salted keys are remembered: the load is the server's to bear, not the generator's.

use super::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The mechanism's name in SASL messages.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";

/// No channel binding, whatever the server offers, and in base64.
const HEADER: &str = "n,,";
const HEADER_IN_BASE64: &str = "biws";

/// Most iterations that a server can make us run: half a second of CPU.
const MOST_ITERATIONS: u32 = 1_000_000;

/// Most keys that are remembered; the oldest is forgotten first. A role has one salt.
const MOST_KEYS: usize = 256;

/// The bytes of a random nonce; as many as libpq takes.
const NONCE_BYTES: usize = 18;

/// What SHA-256 makes.
type Digest32 = [u8; 32];

/// Keys that were salted before, shared by all sessions of a target.
#[derive(Default)]
pub(super) struct SaltedKeys(Mutex<VecDeque<(Salting, Keys)>>);

#[derive(Clone, PartialEq, Eq)]
struct Salting {
    password: String,
    salt: Vec<u8>,
    iterations: u32,
}

#[derive(Clone, Copy)]
struct Keys {
    client: Digest32,
    server: Digest32,
}

/// The client has said its first word.
pub(super) struct Exchange {
    nonce: String,
}

/// The client has proved that it knows the password; now the server has to.
pub(super) struct Proved {
    signature: Digest32,
}

impl SaltedKeys {
    /// Salts under the lock, so that a thousand logins at once salt once.
    fn of(&self, salting: Salting) -> Keys {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, keys)) = remembered.iter().find(|(known, _)| *known == salting) {
            return *keys;
        }
        let keys = salting.run();
        if remembered.len() >= MOST_KEYS {
            remembered.pop_front();
        }
        remembered.push_back((salting, keys));
        keys
    }
}

impl Exchange {
    /// A new exchange, and its first message.
    pub fn begin() -> (Self, String) {
        let exchange = Self { nonce: STANDARD.encode(rand::random::<[u8; NONCE_BYTES]>()) };
        let message = format!("{HEADER}{}", exchange.bare());
        (exchange, message)
    }

    /// Answers the server's first message.
    pub fn prove(
        self,
        challenge: &[u8],
        password: &str,
        salted: &SaltedKeys,
    ) -> Result<(Proved, String), Failure> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| malformed())?;
        let mut attributes = challenge.split(',');
        let mut attribute =
            |name| attributes.next().and_then(|text| text.strip_prefix(name)).ok_or_else(malformed);
        let nonce = attribute("r=")?;
        let salt = STANDARD.decode(attribute("s=")?).map_err(|_| malformed())?;
        let iterations = attribute("i=")?.parse().map_err(|_| malformed())?;
        // The server has to add something of its own, or it could replay an old exchange.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Failure::Protocol("a SCRAM nonce that is not ours".to_owned()));
        }
        if !(1..=MOST_ITERATIONS).contains(&iterations) {
            return Err(Failure::Protocol(format!("SCRAM with {iterations} iterations")));
        }
        let keys = salted.of(Salting { password: password.to_owned(), salt, iterations });
        let without_proof = format!("c={HEADER_IN_BASE64},r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.bare());
        let client_signature = hmac(&Sha256::digest(keys.client), signed.as_bytes());
        let proof = STANDARD.encode(xor(&keys.client, &client_signature));
        let proved = Proved { signature: hmac(&keys.server, signed.as_bytes()) };
        Ok((proved, format!("{without_proof},p={proof}")))
    }

    /// The user's name is empty: that of the StartupMessage counts.
    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }
}

impl Proved {
    /// Checks the server's last message.
    pub fn check(self, message: &[u8]) -> Result<(), Failure> {
        let signature = message.strip_prefix(b"v=").ok_or_else(malformed)?;
        let signature = signature.split(|byte| *byte == b',').next().unwrap_or_default();
        if STANDARD.decode(signature).is_ok_and(|signature| signature == self.signature) {
            return Ok(());
        }
        Err(Failure::Protocol("the server does not know the password (SCRAM signature)".to_owned()))
    }
}

impl Salting {
    fn run(&self) -> Keys {
        // A password that SASLprep does not take is used as it is: so does PostgreSQL (`pg_saslprep`).
        let prepared = stringprep::saslprep(&self.password).ok().filter(|prepared| !prepared.is_empty());
        let password = prepared.as_deref().unwrap_or(&self.password);
        let salted = salted(password.as_bytes(), &self.salt, self.iterations);
        Keys { client: hmac(&salted, b"Client Key"), server: hmac(&salted, b"Server Key") }
    }
}

/// `Hi` of RFC 5802: PBKDF2 with one block of output.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Digest32 {
    let keyed = keyed(password);
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1_u32.to_be_bytes());
    let mut round: Digest32 = first.finalize().into_bytes().into();
    let mut sum = round;
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&round);
        round = next.finalize().into_bytes().into();
        sum = xor(&sum, &round);
    }
    sum
}

fn hmac(key: &[u8], text: &[u8]) -> Digest32 {
    let mut mac = keyed(key);
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// RFC 2104: a key longer than a block is hashed first, a shorter one filled up with zeros. A block of the right size is
/// what the constructor cannot refuse.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0_u8; 64];
    let digest = Sha256::digest(key);
    let key = if key.len() > block.len() { digest.as_slice() } else { key };
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into())
}

fn xor(left: &Digest32, right: &Digest32) -> Digest32 {
    let mut result = *left;
    result.iter_mut().zip(right).for_each(|(byte, other)| *byte ^= other);
    result
}

fn malformed() -> Failure {
    Failure::Protocol("a SCRAM message that is none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

    fn prove(challenge: &str) -> Result<(Proved, String), Failure> {
        let exchange = Exchange { nonce: NONCE.to_owned() };
        exchange.prove(challenge.as_bytes(), "pencil", &SaltedKeys::default())
    }

    /// RFC 7677 section 3: salt, iterations, and the keys that its proof and signature come from. The whole exchange is
    /// tested against PostgreSQL.
    #[test]
    fn keys_of_the_rfc() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Salting { password: "pencil".to_owned(), salt, iterations: 4096 }.run();
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signed = format!("n=user,r={NONCE},r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}");
        let proof = xor(&keys.client, &hmac(&Sha256::digest(keys.client), signed.as_bytes()));
        assert_eq!(STANDARD.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let signature = hmac(&keys.server, signed.as_bytes());
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn challenges_that_are_refused() {
        assert!(prove(&format!("r={NONCE}x,s=AAAA,i=1")).is_ok());
        for challenge in [
            String::new(),
            format!("r={NONCE}x"),
            format!("r={NONCE},s=AAAA,i=1"),
            "r=other,s=AAAA,i=1".to_owned(),
            format!("r={NONCE}x,s=!,i=1"),
            format!("r={NONCE}x,s=AAAA,i=0"),
            format!("r={NONCE}x,s=AAAA,i=1000001"),
            format!("r={NONCE}x,s=AAAA,i=99999999999"),
            format!("m=x,r={NONCE}x,s=AAAA,i=1"),
        ] {
            assert!(matches!(prove(&challenge), Err(Failure::Protocol(_))), "{challenge}");
        }
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for message in ["v=AAAA", "", "v=", "e=invalid-proof"] {
            let (proved, _) = prove(&format!("r={NONCE}x,s=AAAA,i=1")).unwrap();
            assert!(matches!(proved.check(message.as_bytes()), Err(Failure::Protocol(_))), "{message}");
        }
        let (proved, _) = prove(&format!("r={NONCE}x,s=AAAA,i=1")).unwrap();
        let right = format!("v={}", STANDARD.encode(proved.signature));
        assert_eq!(proved.check(right.as_bytes()), Ok(()));
    }

    #[test]
    fn keys_are_remembered_up_to_a_bound() {
        let salted = SaltedKeys::default();
        let salting =
            |number: usize| Salting { password: number.to_string(), salt: Vec::new(), iterations: 1 };
        for number in [0, 0].into_iter().chain(0..MOST_KEYS + 5) {
            let keys = salted.of(salting(number));
            assert_eq!(keys.client, salting(number).run().client);
        }
        let remembered = salted.0.lock().unwrap();
        assert_eq!(remembered.len(), MOST_KEYS);
        assert_eq!(remembered.front().map(|(salting, _)| salting.password.as_str()), Some("5"));
    }
}
