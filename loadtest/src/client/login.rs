//! From an open connection to the first ReadyForQuery (PostgreSQL's manual, "Start-up").

use super::Failure;
use super::inbox::Event;
use super::scram::{Exchange, MECHANISM, Proved, SaltedKeys};
use super::wire::Wire;
use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::message::frontend;
use std::fmt;

/// Who an instance is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The role.
    pub user: String,
    /// Its password; empty if it has none.
    pub password: String,
    /// The function's name.
    pub application_name: String,
    /// Startup options (`-c name=value`), sent behind those of the DSN.
    pub options: Option<String>,
}

/// What a server says of the session that it has opened.
#[derive(Debug)]
pub(super) struct Greeting {
    /// What a CancelRequest has to name: BackendKeyData's body.
    pub key: Option<Box<[u8]>>,
    /// ReadyForQuery's status.
    pub status: u8,
}

/// Logs in.
pub(super) struct Login<'a> {
    pub identity: &'a Identity,
    pub database: &'a str,
    /// The DSN's own options.
    pub options: Option<&'a str>,
    pub salted: &'a SaltedKeys,
}

/// How far the proof of who we are has come.
enum Step {
    Begun,
    /// The first SCRAM message was sent.
    Greeted(Exchange),
    /// The second one was.
    Proved(Proved),
    /// The server has proved itself, and only has to say so.
    Checked,
    /// AuthenticationOk.
    Over,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user)
            .field("application_name", &self.application_name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Login<'_> {
    /// Not cancel safe: dropped midway, the wire is of no use.
    pub async fn run(&self, wire: &mut Wire) -> Result<Greeting, Failure> {
        self.write_startup(&mut wire.outbox)?;
        let mut step = Step::Begun;
        let mut key = None;
        loop {
            wire.flush().await;
            match (wire.event().await?, &step) {
                (Event::Error(error), _) => return Err(Failure::Server(error)),
                (Event::Authentication(body), _) => step = self.answer(step, &body, &mut wire.outbox)?,
                (Event::Key(body), Step::Over) => key = Some(body),
                (Event::Ready(status), Step::Over) => return Ok(Greeting { key, status }),
                // ParameterStatus, NoticeResponse, NegotiateProtocolVersion.
                (Event::Passed(b'S' | b'N' | b'v'), _) => {}
                (event, _) => return Err(Failure::Protocol(format!("{event} during the login"))),
            }
        }
    }

    fn write_startup(&self, out: &mut BytesMut) -> Result<(), Failure> {
        let options = [self.options, self.identity.options.as_deref()];
        let options = options.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let parameters = [
            ("user", self.identity.user.as_str()),
            ("database", self.database),
            ("application_name", &self.identity.application_name),
            ("client_encoding", "UTF8"),
            ("options", &options),
        ];
        let given = parameters.into_iter().filter(|(_, value)| !value.is_empty());
        frontend::startup_message(given, out).map_err(|error| unsendable(&error))
    }

    fn answer(&self, step: Step, body: &[u8], out: &mut BytesMut) -> Result<Step, Failure> {
        let password = &self.identity.password;
        let Some((code, rest)) = body.split_first_chunk() else {
            return Err(Failure::Protocol("an empty Authentication message".to_owned()));
        };
        let next = match (i32::from_be_bytes(*code), step) {
            (0, Step::Begun | Step::Checked) => return Ok(Step::Over),
            (3, Step::Begun) => frontend::password_message(password.as_bytes(), out).map(|()| Step::Begun),
            (5, Step::Begun) => {
                let salt =
                    rest.try_into().map_err(|_| Failure::Protocol("an MD5 salt that is none".to_owned()))?;
                let hash = md5_hash(self.identity.user.as_bytes(), password.as_bytes(), salt);
                frontend::password_message(hash.as_bytes(), out).map(|()| Step::Begun)
            }
            (10, Step::Begun) => {
                if !rest.split(|byte| *byte == 0).any(|name| name == MECHANISM.as_bytes()) {
                    return Err(Failure::Protocol(format!("SASL without {MECHANISM}")));
                }
                let (exchange, message) = Exchange::begin();
                frontend::sasl_initial_response(MECHANISM, message.as_bytes(), out)
                    .map(|()| Step::Greeted(exchange))
            }
            (11, Step::Greeted(exchange)) => {
                let (proved, message) = exchange.prove(rest, password, self.salted)?;
                frontend::sasl_response(message.as_bytes(), out).map(|()| Step::Proved(proved))
            }
            (12, Step::Proved(proved)) => proved.check(rest).map(|()| Ok(Step::Checked))?,
            (code, _) => {
                return Err(Failure::Protocol(format!("an unexpected Authentication message: {code}")));
            }
        };
        next.map_err(|error| unsendable(&error))
    }
}

/// A zero byte in a text, or a text of gigabytes: ours is the fault, and nothing was sent.
pub(super) fn unsendable(error: &std::io::Error) -> Failure {
    Failure::Protocol(format!("cannot be sent: {error}"))
}
