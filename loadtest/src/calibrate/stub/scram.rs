//! The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding: two round trips, and a proof that
//! is checked, so that the generator's login does all that it does before PostgreSQL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use postgres_protocol::password::scram_sha_256;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// What PostgreSQL keeps of a password: `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`.
#[derive(Debug, Default)]
pub(super) struct Verifier {
    iterations: String,
    salt: String,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl Verifier {
    pub(super) fn of(password: &str) -> Self {
        Self::read(&scram_sha_256(password.as_bytes())).unwrap_or_default()
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('$').skip(1);
        let (iterations, salt) = parts.next()?.split_once(':')?;
        let (stored_key, server_key) = parts.next()?.split_once(':')?;
        Some(Self {
            iterations: iterations.to_owned(),
            salt: salt.to_owned(),
            stored_key: BASE64.decode(stored_key).ok()?,
            server_key: BASE64.decode(server_key).ok()?,
        })
    }
}

/// One login under way.
pub(super) struct Exchange {
    client_nonce: String,
    client_first_bare: String,
    server_first: String,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl Exchange {
    /// Reads a SASLInitialResponse.
    pub(super) fn begin(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body.strip_prefix(b"SCRAM-SHA-256\0")?.get(4..)?).ok()?;
        // The channel binding flag and an empty name: `n,,` or `y,,`.
        let client_first_bare = text.splitn(3, ',').nth(2)?.to_owned();
        let client_nonce = attribute(&client_first_bare, "r=")?.to_owned();
        Some(Self { client_nonce, client_first_bare, server_first: String::new() })
    }

    /// The server's first message.
    pub(super) fn challenge(mut self, verifier: &Verifier) -> (Self, String) {
        let nonce = BASE64.encode(rand::random::<[u8; 18]>());
        let Verifier { iterations, salt, .. } = verifier;
        self.server_first = format!("r={}{nonce},s={salt},i={iterations}", self.client_nonce);
        let challenge = self.server_first.clone();
        (self, challenge)
    }

    /// The server's last message, if the client's proof is right.
    pub(super) fn prove(&self, verifier: &Verifier, client_final: &[u8]) -> Option<String> {
        let client_final = std::str::from_utf8(client_final).ok()?;
        let (without_proof, proof) = client_final.rsplit_once(",p=")?;
        let Self { client_first_bare, server_first, .. } = self;
        let signed = format!("{client_first_bare},{server_first},{without_proof}");
        let mask = hmac(&verifier.stored_key, signed.as_bytes())?;
        let proof = BASE64.decode(proof).ok()?;
        let client_key: Vec<u8> = proof.iter().zip(&mask).map(|(a, b)| a ^ b).collect();
        if *Sha256::digest(&client_key) != *verifier.stored_key {
            return None;
        }
        Some(format!("v={}", BASE64.encode(hmac(&verifier.server_key, signed.as_bytes())?)))
    }
}

fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(',').find_map(|part| part.strip_prefix(name))
}

fn hmac(key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(text);
    Some(mac.finalize().into_bytes().to_vec())
}
