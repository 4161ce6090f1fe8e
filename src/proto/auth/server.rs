//! Logging in to PostgreSQL: [`ServerAuth`], driven by a dial between its startup packet and AuthenticationOk.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::Key;
use super::scram_client::{self, Challenge};
use super::{Derivation, Keys, Md5Hash, RANDOM_BYTES, SCRAM_SHA_256};
use crate::proto::messages;
use crate::secret::Secret;

/// Longest Authentication message accepted, in bytes, tag and length not counted.
const MAX_AUTHENTICATION: usize = 10_000;

/// A login under way: waits for an Authentication message of the server.
///
/// Other messages (ErrorResponse, NoticeResponse, NegotiateProtocolVersion) are the shell's.
#[derive(Debug)]
pub struct ServerAuth {
    user: Box<str>,
    password: Option<Secret>,
    nonce: String,
    expects: Expects,
}

/// Named for what the server has to send next.
#[derive(Debug)]
enum Expects {
    /// AuthenticationOk, or a request for a proof.
    Request,
    /// AuthenticationSASLContinue.
    Challenge,
    /// AuthenticationSASLFinal with this signature.
    Signature(Key),
    /// AuthenticationOk.
    Verdict,
}

/// What the shell has to do.
#[derive(Debug)]
pub enum Step {
    /// Send `message`, and feed the next Authentication message to `next`.
    Send {
        /// A whole message.
        message: Vec<u8>,
        /// The machine from here on.
        next: ServerAuth,
    },
    /// Run `derivation` off the I/O threads, or take its result from last time, and feed it to `next`. The salt only
    /// changes with the password, so one result remembered per credentials is enough.
    Derive {
        /// What to run.
        derivation: Derivation,
        /// The machine from here on.
        next: AwaitsKeys,
    },
    /// Nothing to send: feed the next Authentication message to the machine.
    Read(ServerAuth),
    /// Logged in: ParameterStatus and the rest follow.
    Authenticated,
    /// Close the connection.
    Fail(Failure),
}

/// Why a login to PostgreSQL failed, apart from the server's own ErrorResponse. `Display` is for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The server asks for a password, and none is configured.
    NoPassword,
    /// The server asks for a proof of this kind (the number in its Authentication message).
    UnsupportedMethod(u32),
    /// None of the SASL mechanisms of the server is known.
    UnsupportedMechanisms,
    /// The server wants more iterations of PBKDF2 than is sane.
    TooManyIterations(u32),
    /// The server does not know the password: it may be an impostor.
    WrongServerSignature,
    /// The server broke the protocol.
    ServerMisbehaved(ServerMisbehaved),
}

/// How a server broke the protocol of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerMisbehaved {
    /// The message is too short or too long for what it is.
    MessageLength,
    /// An Authentication message that does not belong here; its number.
    OutOfTurn(u32),
    /// Not a SCRAM message, or not the one expected.
    MalformedScram,
    /// The nonce is not the one of this exchange.
    NonceMismatch,
    /// AuthenticationOk before the server proved that it knows the password.
    SkippedProof,
}

/// The numbers of Authentication messages: PostgreSQL manual, "Message Formats".
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEARTEXT_PASSWORD: u32 = 3;
    pub(super) const MD5_PASSWORD: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

impl ServerAuth {
    /// The startup packet with this user has been sent. `random` must never be used twice.
    pub fn new(user: &str, password: Option<&Secret>, random: [u8; RANDOM_BYTES]) -> Self {
        Self {
            user: user.into(),
            password: password.cloned(),
            nonce: STANDARD.encode(random),
            expects: Expects::Request,
        }
    }

    /// The body of the next Authentication message: what follows tag `R` and the length.
    pub fn handle(self, body: &[u8]) -> Step {
        match body.split_first_chunk::<4>() {
            Some((code, data)) if body.len() <= MAX_AUTHENTICATION => {
                let code = u32::from_be_bytes(*code);
                self.message(code, data).unwrap_or_else(Step::Fail)
            }
            _ => Step::Fail(Failure::ServerMisbehaved(ServerMisbehaved::MessageLength)),
        }
    }

    fn message(self, code: u32, data: &[u8]) -> Result<Step, Failure> {
        match (&self.expects, code) {
            (Expects::Request | Expects::Verdict, code::OK) => Ok(Step::Authenticated),
            (Expects::Request, code::CLEARTEXT_PASSWORD) => self.cleartext(),
            (Expects::Request, code::MD5_PASSWORD) => self.md5(data),
            (Expects::Request, code::SASL) => self.sasl(data),
            (Expects::Request, code) if code < code::SASL => Err(Failure::UnsupportedMethod(code)),
            (Expects::Challenge, code::SASL_CONTINUE) => self.challenge(data),
            (Expects::Signature(signature), code::SASL_FINAL) => {
                scram_client::check(signature, data)?;
                Ok(Step::Read(Self { expects: Expects::Verdict, ..self }))
            }
            (Expects::Challenge | Expects::Signature(_), code::OK) => {
                Err(Failure::ServerMisbehaved(ServerMisbehaved::SkippedProof))
            }
            (_, code) => Err(Failure::ServerMisbehaved(ServerMisbehaved::OutOfTurn(code))),
        }
    }

    fn cleartext(self) -> Result<Step, Failure> {
        let mut message = Vec::new();
        messages::password_message(&mut message, self.password()?);
        Ok(self.send(message, Expects::Verdict))
    }

    fn md5(self, salt: &[u8]) -> Result<Step, Failure> {
        let salt = salt.try_into().map_err(|_| Failure::ServerMisbehaved(ServerMisbehaved::MessageLength))?;
        let hash = Md5Hash::new(self.password()?.as_bytes(), &self.user);
        let mut message = Vec::new();
        messages::password_message(&mut message, &hash.response(salt));
        Ok(self.send(message, Expects::Verdict))
    }

    /// Of SCRAM-SHA-256-PLUS and SCRAM-SHA-256 the latter is taken: there is no channel binding.
    fn sasl(self, mechanisms: &[u8]) -> Result<Step, Failure> {
        self.password()?;
        if !mechanisms.split(|byte| *byte == 0).any(|mechanism| mechanism == SCRAM_SHA_256.as_bytes()) {
            return Err(Failure::UnsupportedMechanisms);
        }
        let mut message = Vec::new();
        let first = scram_client::first(&self.nonce);
        messages::sasl_initial_response(&mut message, SCRAM_SHA_256, first.as_bytes());
        Ok(self.send(message, Expects::Challenge))
    }

    fn challenge(self, data: &[u8]) -> Result<Step, Failure> {
        let challenge = Challenge::new(&self.nonce, data)?;
        let derivation = Derivation::new(self.password()?.as_bytes(), &challenge.salt, challenge.iterations);
        Ok(Step::Derive { derivation, next: AwaitsKeys { login: self, challenge } })
    }

    fn send(self, message: Vec<u8>, expects: Expects) -> Step {
        Step::Send { message, next: Self { expects, ..self } }
    }

    /// Empty counts as none: PostgreSQL refuses it anyway.
    fn password(&self) -> Result<&str, Failure> {
        self.password.as_ref().map(Secret::reveal).filter(|text| !text.is_empty()).ok_or(Failure::NoPassword)
    }
}

/// A login that waits for the derivation of the keys of its password.
#[derive(Debug)]
pub struct AwaitsKeys {
    login: ServerAuth,
    challenge: Challenge,
}

impl AwaitsKeys {
    /// The result of the derivation.
    pub fn keys(self, keys: &Keys) -> Step {
        let (last, signature) = self.challenge.last(keys);
        let mut message = Vec::new();
        messages::sasl_response(&mut message, last.as_bytes());
        self.login.send(message, Expects::Signature(signature))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPassword => f.write_str("server asks for a password, and none is configured"),
            Self::UnsupportedMethod(code) => {
                write!(f, "server asks for {} authentication, which is not supported", method(*code))
            }
            Self::UnsupportedMechanisms => f.write_str("server offers no SASL mechanism that is supported"),
            Self::TooManyIterations(count) => write!(f, "server asks for {count} iterations of SCRAM"),
            Self::WrongServerSignature => f.write_str("server did not prove that it knows the password"),
            Self::ServerMisbehaved(fault) => write!(f, "server broke the protocol of the login: {fault}"),
        }
    }
}

impl fmt::Display for ServerMisbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageLength => f.write_str("wrong length of an authentication message"),
            Self::OutOfTurn(code) => write!(f, "unexpected authentication message {code}"),
            Self::MalformedScram => f.write_str("malformed SCRAM message"),
            Self::NonceMismatch => f.write_str("SCRAM nonce does not match"),
            Self::SkippedProof => f.write_str("login was granted before SCRAM was finished"),
        }
    }
}

impl std::error::Error for Failure {}

impl std::error::Error for ServerMisbehaved {}

fn method(code: u32) -> String {
    match code {
        2 => "Kerberos V5".to_owned(),
        6 => "SCM credential".to_owned(),
        7 | 8 => "GSSAPI".to_owned(),
        9 => "SSPI".to_owned(),
        code => format!("unknown ({code})"),
    }
}
