//! Why a client is not let in: what the log knows, and what the client is told.

use crate::proto::messages::{Report, sqlstate};

/// Why a client is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For the log and the metrics; not for the client.
    pub cause: RefusalCause,
    /// For the client. The same for unknown users and wrong passwords.
    pub report: Report,
}

/// Why a client is not let in, as the log may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// No such user.
    UnknownUser,
    /// The user has no secret that the method could use.
    NoUsableSecret,
    /// The proof does not fit.
    WrongPassword,
    /// The client broke the protocol.
    ClientMisbehaved(Misbehaved),
}

/// How a client broke the protocol of its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaved {
    /// Another message than the answer it was asked for; the tag it had.
    UnexpectedMessage(u8),
    /// The answer is too long, or does not end where it should.
    MessageLength,
    /// An empty password: most likely the user forgot to give one.
    EmptyPassword,
    /// A SASL mechanism that was not offered.
    UnknownMechanism,
    /// Not a SCRAM message, or not the one expected.
    MalformedScram,
    /// An authorization identity, which PostgreSQL does not support.
    AuthorizationIdentity,
    /// An extension without which the client cannot go on.
    MandatoryExtension,
    /// Channel binding, which was not offered.
    ChannelBindingNotOffered,
    /// The client did not see that channel binding was offered: somebody in between took it out.
    ChannelBindingDowngraded,
    /// The client's last message is not bound to what its first one said.
    ChannelBindingMismatch,
    /// The nonce is not the one of this exchange.
    NonceMismatch,
}

impl Refusal {
    /// The refusal of a login as `user`.
    pub(super) fn new(user: &str, cause: RefusalCause) -> Self {
        let report = match cause {
            RefusalCause::ClientMisbehaved(fault) => fault.report(),
            RefusalCause::UnknownUser | RefusalCause::NoUsableSecret | RefusalCause::WrongPassword => {
                let message = format!("password authentication failed for user \"{user}\"");
                Report::fatal(sqlstate::INVALID_PASSWORD, message)
            }
        };
        Self { cause, report }
    }

    /// What PostgreSQL says under `trust`, where there is no secret that could be hidden behind a wrong password.
    pub(super) fn unknown_role(user: &str) -> Self {
        let message = format!("role \"{user}\" does not exist");
        let report = Report::fatal(sqlstate::INVALID_AUTHORIZATION, message);
        Self { cause: RefusalCause::UnknownUser, report }
    }
}

impl Misbehaved {
    /// What the client is told. Texts as PostgreSQL's (`auth.c`, `auth-sasl.c`, `auth-scram.c`).
    pub fn report(self) -> Report {
        let violation = |message: &'static str| Report::fatal(sqlstate::PROTOCOL_VIOLATION, message);
        match self {
            Self::UnexpectedMessage(tag) => {
                let message = format!("expected password response, got message type {tag}");
                Report::fatal(sqlstate::PROTOCOL_VIOLATION, message)
            }
            Self::MessageLength => violation("invalid password packet size"),
            Self::EmptyPassword => {
                Report::fatal(sqlstate::INVALID_PASSWORD, "empty password returned by client")
            }
            Self::UnknownMechanism => violation("client selected an invalid SASL authentication mechanism"),
            Self::MalformedScram => violation("malformed SCRAM message"),
            Self::AuthorizationIdentity => Report::fatal(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "client uses authorization identity, but it is not supported",
            ),
            Self::MandatoryExtension => Report::fatal(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "client requires an unsupported SCRAM extension",
            ),
            Self::ChannelBindingNotOffered => violation("malformed SCRAM message")
                .with_detail("The client uses channel binding, which was not offered."),
            Self::ChannelBindingDowngraded => {
                Report::fatal(sqlstate::INVALID_AUTHORIZATION, "SCRAM channel binding negotiation error")
                    .with_detail("The client believes that channel binding was not offered, but it was.")
            }
            Self::ChannelBindingMismatch => violation("SCRAM channel binding check failed"),
            Self::NonceMismatch => violation("invalid SCRAM response").with_detail("Nonce does not match."),
        }
    }
}
