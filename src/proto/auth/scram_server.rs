//! SCRAM-SHA-256 as the server of the exchange: RFC 5802 section 5, and what PostgreSQL makes of it
//! (`auth-scram.c`): the user name in the exchange is ignored, that of the startup packet counts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::attributes::{Attributes, Malformed, is_nonce};
use super::keys::{hash, hmac, xor};
use super::verifier::key_from;
use super::{Misbehaved, Verifier};

/// What the client's last message is checked with.
#[derive(Debug)]
pub(super) struct ExpectsProof {
    /// Base64 of the header that the client began with: it has to say the same again, now signed.
    binding: &'static str,
    /// Nonces of both.
    nonce: String,
    /// `client-first-message-bare,server-first-message`.
    transcript: String,
}

/// Takes the client's first message; gives the server's first message.
///
/// `plus_offered`: whether SCRAM-SHA-256-PLUS was among the mechanisms; then a client that supports channel binding
/// but believes that we do not has been lied to by somebody in between.
pub(super) fn first(
    verifier: &Verifier,
    server_nonce: &str,
    plus_offered: bool,
    message: &[u8],
) -> Result<(ExpectsProof, String), Misbehaved> {
    let text = std::str::from_utf8(message).map_err(|_| Misbehaved::MalformedScram)?;
    let (binding, bare) = header(text, plus_offered)?;
    let client_nonce = client_nonce(bare)?;
    let nonce = format!("{client_nonce}{server_nonce}");
    let reply = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
    let transcript = format!("{bare},{reply}");
    Ok((ExpectsProof { binding, nonce, transcript }, reply))
}

/// `gs2-header` and the rest of the message. Like PostgreSQL, no authorization identity is taken: it would be silently
/// different from the user of the startup packet.
fn header(text: &str, plus_offered: bool) -> Result<(&'static str, &str), Misbehaved> {
    let (flag, rest) = text.split_once(',').ok_or(Misbehaved::MalformedScram)?;
    let binding = match flag {
        "n" => "biws",
        "y" if plus_offered => return Err(Misbehaved::ChannelBindingDowngraded),
        "y" => "eSws",
        _ if flag.starts_with("p=") => return Err(Misbehaved::ChannelBindingNotOffered),
        _ => return Err(Misbehaved::MalformedScram),
    };
    match rest.split_once(',') {
        Some(("", bare)) => Ok((binding, bare)),
        Some((identity, _)) if identity.starts_with("a=") => Err(Misbehaved::AuthorizationIdentity),
        _ => Err(Misbehaved::MalformedScram),
    }
}

/// Client-first-message-bare: user name (ignored), nonce, optional extensions (ignored).
fn client_nonce(bare: &str) -> Result<&str, Misbehaved> {
    if bare.starts_with("m=") {
        return Err(Misbehaved::MandatoryExtension);
    }
    let mut attributes = Attributes::new(bare);
    attributes.expect('n')?;
    let nonce = attributes.expect('r')?;
    attributes.ignore_rest()?;
    if is_nonce(nonce) { Ok(nonce) } else { Err(Misbehaved::MalformedScram) }
}

impl ExpectsProof {
    /// Takes the client's last message; gives the server's last one, or None if the proof is wrong.
    pub(super) fn last(self, verifier: &Verifier, message: &[u8]) -> Result<Option<String>, Misbehaved> {
        let text = std::str::from_utf8(message).map_err(|_| Misbehaved::MalformedScram)?;
        let (without_proof, proof) = text.split_once(",p=").ok_or(Misbehaved::MalformedScram)?;
        let mut attributes = Attributes::new(without_proof);
        let binding = attributes.expect('c')?;
        let nonce = attributes.expect('r')?;
        attributes.ignore_rest()?;
        let proof = key_from(proof).ok_or(Misbehaved::MalformedScram)?;
        if binding != self.binding {
            return Err(Misbehaved::ChannelBindingMismatch);
        }
        if nonce != self.nonce {
            return Err(Misbehaved::NonceMismatch);
        }
        let signed: [&[u8]; 3] = [self.transcript.as_bytes(), b",", without_proof.as_bytes()];
        let client_key = xor(&proof, &hmac(&verifier.stored_key, &signed));
        let right = hash(&client_key).ct_eq(&verifier.stored_key);
        let server_signature = hmac(&verifier.server_key, &signed);
        Ok(bool::from(right).then(|| format!("v={}", STANDARD.encode(server_signature))))
    }
}

impl From<Malformed> for Misbehaved {
    fn from(_: Malformed) -> Self {
        Self::MalformedScram
    }
}

#[cfg(test)]
mod tests {
    use super::super::Derivation;
    use super::*;

    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

    /// RFC 7677 section 3.
    fn rfc() -> Verifier {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        Derivation::new(b"pencil", &salt, 4096).verifier()
    }

    fn rfc_first(verifier: &Verifier) -> (ExpectsProof, String) {
        first(verifier, SERVER_NONCE, false, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap()
    }

    const RFC_LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn exchange_of_the_rfc() {
        let verifier = rfc();
        let (exchange, reply) = rfc_first(&verifier);
        assert_eq!(
            reply,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = exchange.last(&verifier, RFC_LAST.as_bytes());
        assert_eq!(last, Ok(Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned())));
    }

    #[test]
    fn first_messages_that_are_refused() {
        use Misbehaved::*;
        let verifier = Derivation::new(b"pw", b"salt", 1).verifier();
        let table: [(&[u8], Misbehaved); 16] = [
            (b"", MalformedScram),
            (b"n", MalformedScram),
            (b"n,", MalformedScram),
            (b"n,,", MalformedScram),
            (b"n,,n=", MalformedScram),
            (b"n,,r=x", MalformedScram),
            (b"n,,n=,r=", MalformedScram),
            (b"n,,n=,r=a\tb", MalformedScram),
            (b"n,,n=,r=a,junk", MalformedScram),
            (b"n,,n=,r=\xff", MalformedScram),
            (b"x,,n=,r=a", MalformedScram),
            (b"n,b=,n=,r=a", MalformedScram),
            (b"n,a=admin,n=,r=a", AuthorizationIdentity),
            (b"n,,m=x,n=,r=a", MandatoryExtension),
            (b"p=tls-unique,,n=,r=a", ChannelBindingNotOffered),
            (b"p=tls-server-end-point,,n=,r=a", ChannelBindingNotOffered),
        ];
        for (message, expected) in table {
            let found = first(&verifier, "nonce", false, message).map(|(_, reply)| reply);
            assert_eq!(found, Err(expected), "{}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn extensions_and_user_names_are_ignored() {
        let verifier = Derivation::new(b"pw", b"salt", 1).verifier();
        for message in ["n,,n=,r=abc", "n,,n=*,r=abc", "y,,n=other,r=abc,x=1,y=2"] {
            let (_, reply) = first(&verifier, "NONCE", false, message.as_bytes()).unwrap();
            assert_eq!(reply, "r=abcNONCE,s=c2FsdA==,i=1");
        }
    }

    #[test]
    fn a_client_that_was_told_of_no_channel_binding_is_a_downgrade_when_it_was_offered() {
        let verifier = Derivation::new(b"pw", b"salt", 1).verifier();
        let found = first(&verifier, "nonce", true, b"y,,n=,r=a").map(|(_, reply)| reply);
        assert_eq!(found, Err(Misbehaved::ChannelBindingDowngraded));
        assert!(first(&verifier, "nonce", true, b"n,,n=,r=a").is_ok());
    }

    #[test]
    fn last_messages_that_are_refused() {
        let verifier = rfc();
        let last = |text: String| rfc_first(&verifier).0.last(&verifier, text.as_bytes());
        let replaced = |from: &str, to: &str| last(RFC_LAST.replace(from, to));
        let malformed = Err(Misbehaved::MalformedScram);
        assert_eq!(last(String::new()), malformed);
        assert_eq!(replaced(",p=", ",q="), malformed);
        assert_eq!(replaced("VQ=", "VQ=,x=y"), malformed);
        assert_eq!(replaced("dHzb", ""), malformed, "a proof of 29 bytes");
        assert_eq!(replaced("c=biws,", ""), malformed);
        assert_eq!(replaced("dHzb", "!!!!"), malformed);
        assert_eq!(replaced("biws", "eSws"), Err(Misbehaved::ChannelBindingMismatch));
        assert_eq!(replaced("%hvY", "%hvZ"), Err(Misbehaved::NonceMismatch));
        assert_eq!(replaced("k0,", "k0,x=1,"), Ok(None), "extensions are signed too");
        assert_eq!(replaced("dHzb", "dHzc"), Ok(None));
    }
}
