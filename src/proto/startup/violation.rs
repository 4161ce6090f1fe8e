//! What clients do wrong before they log in, and what they are told.

use crate::proto::messages::{Report, sqlstate};

/// A fault of the client; all of them end the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// The length field is impossible, or does not fit the kind of packet.
    Length,
    /// A cancel key of less than 4 or more than 256 bytes.
    CancelKeyLength,
    /// Not protocol 3.
    Protocol {
        /// Requested.
        major: u16,
        /// Requested.
        minor: u16,
    },
    /// The list of parameters does not end where the packet does.
    Layout,
    /// A parameter is not UTF-8. PostgreSQL lets it pass, as bytes in an encoding that nobody knows yet; here names
    /// are keys of the configuration, which is UTF-8.
    NotUtf8,
    /// No user name.
    NoUser,
    /// A value of `replication` that is none.
    Replication(String),
    /// A word of `options` that is not a setting.
    Switch(String),
    /// A setting in `options` without `=`: the switch as it was given.
    SettingWithoutValue(String),
    /// SSLRequest or GSSENCRequest where there is nothing left to ask.
    RepeatedRequest,
    /// Bytes were received behind SSLRequest before it was answered.
    PlainTextBehindSslRequest,
    /// Bytes were received behind GSSENCRequest before it was answered.
    PlainTextBehindGssEncRequest,
    /// Encryption is required and the client did not ask for it.
    TlsRequired,
    /// An event that this state does not expect: a fault of the shell, answered safely.
    OutOfTurn,
}

const INJECTED: &str =
    "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.";

impl Violation {
    /// What the client is told; always FATAL. Texts as PostgreSQL's, so that drivers and people know them.
    pub fn report(&self) -> Report {
        let violation = |message: &'static str| Report::fatal(sqlstate::PROTOCOL_VIOLATION, message);
        match self {
            Self::Length => violation("invalid length of startup packet"),
            Self::CancelKeyLength => violation("invalid length of cancel key in cancel request packet"),
            Self::Protocol { major, minor } => unsupported_protocol(*major, *minor),
            Self::Layout => violation("invalid startup packet layout: expected terminator as last byte"),
            Self::NotUtf8 => violation("startup packet contains text that is not valid UTF-8"),
            Self::NoUser => Report::fatal(
                sqlstate::INVALID_AUTHORIZATION,
                "no PostgreSQL user name specified in startup packet",
            ),
            Self::Replication(value) => Report::fatal(
                sqlstate::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"replication\": \"{value}\""),
            )
            .with_hint("Valid values are: \"false\", 0, \"true\", 1, \"database\"."),
            Self::Switch(word) => Report::fatal(
                sqlstate::SYNTAX_ERROR,
                format!("invalid command-line argument for server process: {word}"),
            )
            .with_hint("Only settings are allowed here: -c name=value or --name=value."),
            Self::SettingWithoutValue(switch) => {
                Report::fatal(sqlstate::SYNTAX_ERROR, format!("{switch} requires a value"))
            }
            Self::RepeatedRequest => violation("unexpected request for encryption"),
            Self::PlainTextBehindSslRequest => {
                violation("received unencrypted data after SSL request").with_detail(INJECTED)
            }
            Self::PlainTextBehindGssEncRequest => {
                violation("received unencrypted data after GSSAPI encryption request").with_detail(INJECTED)
            }
            Self::TlsRequired => {
                Report::fatal(sqlstate::INVALID_AUTHORIZATION, "connection must be encrypted with TLS")
                    .with_hint("Connect with sslmode=require or stricter.")
            }
            Self::OutOfTurn => violation("unexpected packet during startup"),
        }
    }
}

fn unsupported_protocol(major: u16, minor: u16) -> Report {
    let newest = super::NEWEST_MINOR;
    let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{newest}");
    Report::fatal(sqlstate::FEATURE_NOT_SUPPORTED, message)
}
