//! Logging clients in: [`ClientAuth`], driven by a client's task between its startup packet and AuthenticationOk.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::keys::hash;
use super::scram_server::{self, ExpectsProof};
use super::{
    ClientSecret, Derivation, Keys, MAX_SASL_MESSAGE, Md5Hash, Misbehaved, Mock, RANDOM_BYTES, Refusal,
    RefusalCause, SCRAM_SHA_256, Verifier,
};
use crate::proto::AuthMethod;
use crate::proto::messages;

/// Longest password message accepted, in bytes, tag and length not counted.
const MAX_PASSWORD_MESSAGE: usize = 10_000;

/// A login under way: waits for a message of the client.
///
/// A user that does not exist, or has nothing that could be checked, goes through the same exchange with an invented
/// secret, and fails at its end like a wrong password.
#[derive(Debug)]
pub struct ClientAuth {
    user: Box<str>,
    /// Why this login fails whatever the client answers.
    doomed: Option<RefusalCause>,
    expects: Expects,
}

/// Named for what the client has to send next.
#[derive(Debug)]
enum Expects {
    Password(ClientSecret),
    Md5Response { hash: Md5Hash, salt: [u8; 4] },
    SaslInitialResponse { verifier: Arc<Verifier>, nonce: String },
    ScramFirst { verifier: Arc<Verifier>, nonce: String },
    ScramLast { verifier: Arc<Verifier>, exchange: ExpectsProof },
}

/// What the shell has to do.
#[derive(Debug)]
pub enum Step {
    /// Send `message`, and feed the client's next one to `next`.
    Send {
        /// A whole message.
        message: Vec<u8>,
        /// The machine from here on.
        next: ClientAuth,
    },
    /// Run `derivation` off the I/O threads, and feed its result to `next`. Only for clear-text passwords checked
    /// against a SCRAM verifier. The password is whatever the client sent: remember only what was right
    /// ([`super::Proven`]), and bound how many run at once.
    Derive {
        /// What to run.
        derivation: Derivation,
        /// The machine from here on.
        next: AwaitsKeys,
    },
    /// The client is who it says: send `message`, which ends with AuthenticationOk.
    Accept {
        /// One or two whole messages.
        message: Vec<u8>,
    },
    /// Send the report as an ErrorResponse, and close.
    Refuse(Refusal),
}

impl ClientAuth {
    /// Starts a login of `user`, who is not known if there is no `secret`. `random` must never be used twice.
    pub fn start(
        method: AuthMethod,
        user: &str,
        secret: Option<&ClientSecret>,
        mock: &Mock,
        random: [u8; RANDOM_BYTES],
    ) -> Step {
        if method == AuthMethod::Trust {
            return trust(user, secret.is_some());
        }
        // Invented in any case: whether it is needed must not show in the time.
        let invented = mock.secret(method, user);
        let (secret, doomed) = match secret {
            None => (invented, Some(RefusalCause::UnknownUser)),
            Some(secret) if usable(method, secret) => (secret.clone(), None),
            Some(_) => (invented, Some(RefusalCause::NoUsableSecret)),
        };
        let mut message = Vec::new();
        let expects = challenge(&mut message, method, secret, random);
        Step::Send { message, next: Self { user: user.into(), doomed, expects } }
    }

    /// The client's next message: its tag and what follows the length.
    pub fn handle(self, tag: u8, body: &[u8]) -> Step {
        if tag != b'p' {
            return self.misbehaved(Misbehaved::UnexpectedMessage(tag));
        }
        match self.expects {
            Expects::Password(_) | Expects::Md5Response { .. } => self.password(body),
            Expects::SaslInitialResponse { .. } | Expects::ScramFirst { .. } | Expects::ScramLast { .. } => {
                self.sasl(body)
            }
        }
    }

    /// PasswordMessage. PostgreSQL manual, "Message Formats".
    fn password(self, body: &[u8]) -> Step {
        let Some((0, password)) = body.split_last() else {
            return self.misbehaved(Misbehaved::MessageLength);
        };
        if body.len() > MAX_PASSWORD_MESSAGE || password.contains(&0) {
            return self.misbehaved(Misbehaved::MessageLength);
        }
        if password.is_empty() {
            return self.misbehaved(Misbehaved::EmptyPassword);
        }
        match &self.expects {
            Expects::Password(ClientSecret::Verifier(verifier)) => {
                let derivation = Derivation::new(password, &verifier.salt, verifier.iterations);
                let next =
                    AwaitsKeys { user: self.user, doomed: self.doomed, verifier: Arc::clone(verifier) };
                Step::Derive { derivation, next }
            }
            Expects::Password(ClientSecret::Md5(expected)) => {
                let right = Md5Hash::new(password, &self.user).digits().ct_eq(expected.digits());
                self.verdict(right.into())
            }
            // Hashed, so that neither length nor common beginning shows in the time.
            Expects::Password(ClientSecret::Password(expected)) => {
                let right = hash(password).ct_eq(&hash(expected.reveal().as_bytes()));
                self.verdict(right.into())
            }
            Expects::Md5Response { hash, salt } => {
                let right = password.ct_eq(hash.response(*salt).as_bytes());
                self.verdict(right.into())
            }
            _ => self.verdict(false),
        }
    }

    /// SASLInitialResponse and SASLResponse.
    fn sasl(self, body: &[u8]) -> Step {
        if body.len() > MAX_SASL_MESSAGE {
            return self.misbehaved(Misbehaved::MessageLength);
        }
        let Self { user, doomed, expects } = self;
        let went_on = match expects {
            Expects::SaslInitialResponse { verifier, nonce } => initial_response(verifier, nonce, body),
            Expects::ScramFirst { verifier, nonce } => scram_first(verifier, &nonce, body),
            Expects::ScramLast { verifier, exchange } => {
                return match exchange.last(&verifier, body) {
                    Ok(server_last) => verdict(&user, doomed, server_last),
                    Err(fault) => refuse(&user, RefusalCause::ClientMisbehaved(fault)),
                };
            }
            Expects::Password(_) | Expects::Md5Response { .. } => Err(Misbehaved::UnexpectedMessage(b'p')),
        };
        match went_on {
            Ok((message, expects)) => Step::Send { message, next: Self { user, doomed, expects } },
            Err(fault) => refuse(&user, RefusalCause::ClientMisbehaved(fault)),
        }
    }

    fn verdict(self, right: bool) -> Step {
        verdict(&self.user, self.doomed, right.then(String::new))
    }

    fn misbehaved(self, fault: Misbehaved) -> Step {
        refuse(&self.user, RefusalCause::ClientMisbehaved(fault))
    }
}

/// A login that waits for the derivation of the keys of the password that the client sent.
#[derive(Debug)]
pub struct AwaitsKeys {
    user: Box<str>,
    doomed: Option<RefusalCause>,
    verifier: Arc<Verifier>,
}

impl AwaitsKeys {
    /// The same password was right before.
    pub fn known(self) -> Step {
        verdict(&self.user, self.doomed, Some(String::new()))
    }

    /// The result of the derivation.
    pub fn keys(self, keys: &Keys) -> Step {
        let right = hash(&keys.client).ct_eq(&self.verifier.stored_key);
        verdict(&self.user, self.doomed, bool::from(right).then(String::new))
    }
}

fn trust(user: &str, known: bool) -> Step {
    if known { accept("") } else { Step::Refuse(Refusal::unknown_role(user)) }
}

fn usable(method: AuthMethod, secret: &ClientSecret) -> bool {
    match secret {
        ClientSecret::Verifier(_) => matches!(method, AuthMethod::ScramSha256 | AuthMethod::Password),
        ClientSecret::Md5(_) => matches!(method, AuthMethod::Md5 | AuthMethod::Password),
        ClientSecret::Password(_) => method == AuthMethod::Password,
        ClientSecret::Unusable => false,
    }
}

/// Writes the request for a proof.
fn challenge(
    message: &mut Vec<u8>,
    method: AuthMethod,
    secret: ClientSecret,
    random: [u8; RANDOM_BYTES],
) -> Expects {
    match (method, secret) {
        (AuthMethod::ScramSha256, ClientSecret::Verifier(verifier)) => {
            messages::authentication_sasl(message, &[SCRAM_SHA_256]);
            Expects::SaslInitialResponse { verifier, nonce: STANDARD.encode(random) }
        }
        (AuthMethod::Md5, ClientSecret::Md5(hash)) => {
            let [a, b, c, d, ..] = random;
            let salt = [a, b, c, d];
            messages::authentication_md5_password(message, salt);
            Expects::Md5Response { hash, salt }
        }
        (_, secret) => {
            messages::authentication_cleartext_password(message);
            Expects::Password(secret)
        }
    }
}

type WentOn = Result<(Vec<u8>, Expects), Misbehaved>;

/// SASLInitialResponse: mechanism, length of the client's first message or -1, and that message. Without one the
/// client is asked for it with an empty challenge (RFC 4422 section 5.1).
fn initial_response(verifier: Arc<Verifier>, nonce: String, body: &[u8]) -> WentOn {
    let end = body.iter().position(|byte| *byte == 0).ok_or(Misbehaved::MessageLength)?;
    let (mechanism, rest) = body.split_at(end);
    if mechanism != SCRAM_SHA_256.as_bytes() {
        return Err(Misbehaved::UnknownMechanism);
    }
    let (_nul, rest) = rest.split_first().ok_or(Misbehaved::MessageLength)?;
    let (length, data) = rest.split_first_chunk::<4>().ok_or(Misbehaved::MessageLength)?;
    match i32::from_be_bytes(*length) {
        -1 if data.is_empty() => {
            let mut message = Vec::new();
            messages::authentication_sasl_continue(&mut message, b"");
            Ok((message, Expects::ScramFirst { verifier, nonce }))
        }
        length if usize::try_from(length) == Ok(data.len()) => scram_first(verifier, &nonce, data),
        _ => Err(Misbehaved::MessageLength),
    }
}

fn scram_first(verifier: Arc<Verifier>, nonce: &str, data: &[u8]) -> WentOn {
    let plus_offered = false;
    let (exchange, reply) = scram_server::first(&verifier, nonce, plus_offered, data)?;
    let mut message = Vec::new();
    messages::authentication_sasl_continue(&mut message, reply.as_bytes());
    Ok((message, Expects::ScramLast { verifier, exchange }))
}

/// `proved` is the server's last SCRAM message (empty for other methods), or None if the proof was wrong.
fn verdict(user: &str, doomed: Option<RefusalCause>, proved: Option<String>) -> Step {
    match (doomed, proved) {
        (Some(cause), _) => refuse(user, cause),
        (None, None) => refuse(user, RefusalCause::WrongPassword),
        (None, Some(server_last)) => accept(&server_last),
    }
}

fn accept(server_last: &str) -> Step {
    let mut message = Vec::new();
    if !server_last.is_empty() {
        messages::authentication_sasl_final(&mut message, server_last.as_bytes());
    }
    messages::authentication_ok(&mut message);
    Step::Accept { message }
}

fn refuse(user: &str, cause: RefusalCause) -> Step {
    Step::Refuse(Refusal::new(user, cause))
}
