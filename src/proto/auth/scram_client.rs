//! SCRAM-SHA-256 as the client of the exchange: RFC 5802 section 5, and how PostgreSQL wants it (manual, "SCRAM-SHA-256
//! Authentication"): the user name is left empty, since that of the startup packet counts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::Keys;
use super::attributes::{Attributes, Malformed, is_nonce};
use super::keys::{Key, hash, hmac, xor};
use super::server::{Failure, ServerMisbehaved};
use super::verifier::{iterations_from, key_from};

/// We support no channel binding, so that is what we say, whatever was offered.
const HEADER: &str = "n,,";

/// [`HEADER`] in base64.
const BINDING: &str = "biws";

/// Most iterations that a server can make us run: seconds of CPU.
const MAX_ITERATIONS: u32 = 10_000_000;

/// The server's first message, before the keys are known.
#[derive(Debug)]
pub(super) struct Challenge {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    nonce: String,
    transcript: String,
}

/// The client's first message.
pub(super) fn first(nonce: &str) -> String {
    format!("{HEADER}{}", bare(nonce))
}

fn bare(nonce: &str) -> String {
    format!("n=,r={nonce}")
}

impl Challenge {
    /// Reads the answer to [`first`] with the same nonce.
    pub(super) fn new(nonce: &str, message: &[u8]) -> Result<Self, Failure> {
        let malformed = Failure::ServerMisbehaved(ServerMisbehaved::MalformedScram);
        let text = std::str::from_utf8(message).map_err(|_| malformed.clone())?;
        let mut attributes = Attributes::new(text);
        let both = attributes.expect('r')?;
        let salt = STANDARD.decode(attributes.expect('s')?).map_err(|_| malformed.clone())?;
        let iterations = iterations_from(attributes.expect('i')?).ok_or(malformed)?;
        attributes.ignore_rest()?;
        if iterations > MAX_ITERATIONS {
            return Err(Failure::TooManyIterations(iterations));
        }
        // The server has to add something of its own, or it could replay an old exchange.
        if !is_nonce(both) || !both.starts_with(nonce) || both.len() == nonce.len() {
            return Err(Failure::ServerMisbehaved(ServerMisbehaved::NonceMismatch));
        }
        let transcript = format!("{},{text}", bare(nonce));
        Ok(Self { salt, iterations, nonce: both.to_owned(), transcript })
    }

    /// The client's last message, and the signature that only a server that knows the password can answer with.
    pub(super) fn last(&self, keys: &Keys) -> (String, Key) {
        let without_proof = format!("c={BINDING},r={}", self.nonce);
        let signed: [&[u8]; 3] = [self.transcript.as_bytes(), b",", without_proof.as_bytes()];
        let client_signature = hmac(&hash(&keys.client), &signed);
        let proof = STANDARD.encode(xor(&keys.client, &client_signature));
        (format!("{without_proof},p={proof}"), hmac(&keys.server, &signed))
    }
}

/// Checks the server's last message.
pub(super) fn check(expected: &Key, message: &[u8]) -> Result<(), Failure> {
    let malformed = Failure::ServerMisbehaved(ServerMisbehaved::MalformedScram);
    let text = std::str::from_utf8(message).map_err(|_| malformed.clone())?;
    let mut attributes = Attributes::new(text);
    let signature = attributes.expect('v')?;
    attributes.ignore_rest()?;
    let signature = key_from(signature).ok_or(malformed)?;
    if bool::from(signature.ct_eq(expected)) { Ok(()) } else { Err(Failure::WrongServerSignature) }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::ServerMisbehaved(ServerMisbehaved::MalformedScram)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Derivation;
    use super::*;

    /// RFC 7677 section 3, but for the user name, which PostgreSQL leaves out: so the proof is another one, and the
    /// exchange is checked against the server's side in `super::super::tests`.
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn challenge(message: &str) -> Result<Challenge, Failure> {
        Challenge::new("rOprNGfwEbeRWgbNEkqO", message.as_bytes())
    }

    /// RFC 7677 section 3.
    #[test]
    fn proof_and_signature_of_the_rfc() {
        let mut challenge = challenge(CHALLENGE).unwrap();
        challenge.transcript = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{CHALLENGE}");
        let keys = Derivation::new(b"pencil", &challenge.salt, challenge.iterations).run();
        let (last, signature) = challenge.last(&keys);
        assert!(last.ends_with("k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{last}");
        let server = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(check(&signature, server.as_bytes()), Ok(()));
        assert_eq!(
            check(&signature, server.replace("6rri", "6rrj").as_bytes()),
            Err(Failure::WrongServerSignature)
        );
    }

    #[test]
    fn challenges_that_are_refused() {
        let malformed = Failure::ServerMisbehaved(ServerMisbehaved::MalformedScram);
        let nonce = Failure::ServerMisbehaved(ServerMisbehaved::NonceMismatch);
        let table = [
            ("", "", malformed.clone()),
            ("r=", "m=x,r=", malformed.clone()),
            ("s=W22Z", "s=!", malformed.clone()),
            (",i=4096", "", malformed.clone()),
            ("i=4096", "i=0", malformed.clone()),
            ("i=4096", "i=-1", malformed.clone()),
            ("i=4096", "i=99999999999", malformed.clone()),
            ("i=4096", "i=4096,junk", malformed),
            ("i=4096", "i=10000001", Failure::TooManyIterations(10_000_001)),
            ("rOpr", "xOpr", nonce.clone()),
            ("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "", nonce.clone()),
            ("%hvY", "\u{7f}", nonce),
        ];
        for (from, to, expected) in table {
            let message = if from.is_empty() { String::new() } else { CHALLENGE.replacen(from, to, 1) };
            assert_eq!(challenge(&message).map(|_| ()), Err(expected), "{message}");
        }
    }

    #[test]
    fn any_salt_length_and_extensions_are_taken() {
        assert_eq!(challenge("r=rOprNGfwEbeRWgbNEkqOx,s=,i=1").map(|c| c.salt.len()), Ok(0));
        let long = STANDARD.encode([1; 300]);
        let message = format!("r=rOprNGfwEbeRWgbNEkqOx,s={long},i=10000000,x=y");
        assert_eq!(challenge(&message).map(|c| c.salt.len()), Ok(300));
    }

    #[test]
    fn last_messages_that_are_refused() {
        let malformed = Err(Failure::ServerMisbehaved(ServerMisbehaved::MalformedScram));
        for message in [&b""[..], b"v=", b"v=AAAA", b"v=!", b"x=1", b"e=invalid-proof", b"\xff"] {
            assert_eq!(check(&[0; 32], message), malformed, "{message:?}");
        }
    }
}
