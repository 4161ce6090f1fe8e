//! Opening a connection to PostgreSQL and logging in (manual, "Message Flow: Start-up").

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout_at;

use super::cancel::CancelTarget;
use super::connection::{Fate, Sequences};
use super::{Connector, Credentials, Replay, Server, UpstreamParams};
use crate::guard::DialCause;
use crate::lock::lock;
use crate::net::{Inbox, Outbox, Stream};
use crate::proto::auth::{Derivation, Failure, Keys, ServerAuth, ServerStep};
use crate::proto::ledger::{Ledger, field};
use crate::proto::parameters::{Parameters, parameter_status};
use crate::proto::statements::ServerStatements;
use crate::wire::{Frame, Next, Side, Violation, tag};

/// Protocol 3.0: every server speaks it, and the longer cancel keys of 3.2 matter only to those that see ours.
const PROTOCOL_VERSION: u32 = 3 << 16;
/// Longest message accepted before the login is over. PostgreSQL's longest are errors and SASL messages.
const LONGEST: usize = 16 * 1024;
/// Longest wait for the end of a login that failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most reported parameters kept. PostgreSQL 18 reports fifteen.
const MOST_PARAMETERS: usize = 100;
/// Longest cancel key: protocol 3.2's bound.
const LONGEST_SECRET: usize = 256;

/// Opens the server connections of one pool.
#[derive(Debug)]
pub struct Dialler {
    connector: Arc<Connector>,
    database: String,
    credentials: Credentials,
    connect_timeout: Duration,
    cancel_timeout: Duration,
    lifetime: Duration,
    /// Most statements prepared on each connection.
    max_statements: usize,
    /// The keys of the last SCRAM login: the server sends the same salt each time, so PBKDF2 runs once.
    keys: Mutex<Option<(Derivation, Keys)>>,
}

/// Why no connection could be had.
#[derive(Debug)]
pub enum DialError {
    /// It cannot be reached, or it broke before the login was over.
    Unreachable(io::Error),
    /// It did not answer within `server_connect_timeout`.
    Timeout,
    /// PostgreSQL answered with an error.
    Refused(Refusal),
    /// The login failed on our side.
    Login(Failure),
    /// It does not speak PostgreSQL's protocol.
    Protocol(Violation),
    /// It asked for something that a login never asks for, or sent more than one ever sends.
    Unexpected(u8),
}

/// What PostgreSQL says when it lets nobody in (ErrorResponse).
#[derive(Debug)]
pub struct Refusal {
    /// Field C.
    pub sqlstate: String,
    /// Field M. In the language of the server's `lc_messages`.
    pub message: String,
    /// Field R: which function of PostgreSQL's says so. The same in every language.
    pub routine: String,
}

impl Refusal {
    /// 53300 has four texts. Two are about a CONNECTION LIMIT, and come from the functions that know the role and the database
    /// (`miscinit.c`, `postinit.c`); "sorry, too many clients already" and "remaining connection slots are reserved" are
    /// about the server, and so is everything unknown: poolers say 53300, too.
    fn cause(&self) -> DialCause {
        match (self.sqlstate.as_str(), self.routine.as_str()) {
            ("53300", "InitializeSessionUserId" | "CheckMyDatabase") => DialCause::ConnectionLimit,
            ("53300", _) => DialCause::TooManyConnections,
            // cannot_connect_now, admin_shutdown, crash_shutdown: it will be back.
            (state, _) if state.starts_with("57P") => DialCause::Unreachable,
            _ => DialCause::Refused,
        }
    }
}

impl DialError {
    /// Whose failure it is, to the gate.
    pub fn cause(&self) -> DialCause {
        match self {
            Self::Unreachable(error) if is_out_of_files(error) => DialCause::NoFiles,
            Self::Unreachable(_) | Self::Timeout | Self::Protocol(_) | Self::Unexpected(_) => {
                DialCause::Unreachable
            }
            Self::Refused(refusal) => refusal.cause(),
            Self::Login(_) => DialCause::Refused,
        }
    }

    /// The SQLSTATE, if PostgreSQL has answered with an error.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.sqlstate),
            _ => None,
        }
    }
}

/// EMFILE or ENFILE.
pub fn is_out_of_files(error: &io::Error) -> bool {
    let codes = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "server cannot be reached: {error}"),
            Self::Timeout => f.write_str("server did not answer in time"),
            Self::Refused(Refusal { sqlstate, message, .. }) => {
                write!(f, "server refused the login: {message} ({sqlstate})")
            }
            Self::Login(failure) => write!(f, "login to the server failed: {failure}"),
            Self::Protocol(violation) => write!(f, "server does not speak the protocol: {violation}"),
            Self::Unexpected(kind) => {
                write!(f, "server sent a message of type \"{}\" during login", kind.escape_ascii())
            }
        }
    }
}

impl std::error::Error for DialError {}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error)
    }
}

impl Dialler {
    /// A dialler for one pool of this upstream.
    pub fn new(
        upstream: &UpstreamParams,
        connector: Arc<Connector>,
        database: &str,
        credentials: &Credentials,
        lifetime: Duration,
        max_statements: usize,
    ) -> Self {
        Self {
            connector,
            database: database.to_owned(),
            credentials: credentials.clone(),
            connect_timeout: upstream.connect_timeout,
            cancel_timeout: upstream.cancel_timeout,
            lifetime,
            max_statements,
            keys: Mutex::new(None),
        }
    }

    /// Opens one connection.
    ///
    /// # Errors
    /// See [`DialError`]; it takes no longer than `server_connect_timeout`, and a few seconds more if the server does not
    /// close a connection whose login has failed.
    pub async fn dial(&self) -> Result<Server, DialError> {
        let end = tokio::time::Instant::now() + self.connect_timeout;
        let stream = timeout_at(end, self.connector.connect()).await.map_err(|_| DialError::Timeout)??;
        let mut login = Login { stream, inbox: Inbox::new(Side::Server), chunk: vec![0; LONGEST] };
        match timeout_at(end, self.log_in(&mut login)).await.unwrap_or(Err(DialError::Timeout)) {
            Ok(greeting) => Ok(self.server(login, greeting)),
            Err(error) => {
                login.give_up().await;
                Err(error)
            }
        }
    }

    async fn log_in(&self, login: &mut Login) -> Result<Greeting, DialError> {
        login.stream.write_all(&self.startup_packet()).await?;
        let mut greeting = Greeting::default();
        let password = self.credentials.password.as_ref();
        let mut auth = Some(ServerAuth::new(&self.credentials.user, password, rand::random()));
        loop {
            for message in login.messages().await? {
                match (message.kind, auth.take()) {
                    (tag::AUTHENTICATION, Some(machine)) => {
                        auth = self.authenticate(machine, &message.body, login).await?;
                    }
                    (tag::ERROR_RESPONSE, _) => return Err(refused(&message.body)),
                    (tag::NOTICE_RESPONSE | tag::NEGOTIATE_PROTOCOL_VERSION, machine) => auth = machine,
                    (tag::READY_FOR_QUERY, None) => return Ok(greeting),
                    (kind, None) => greeting.take(kind, &message.body)?,
                    (kind, Some(_)) => return Err(DialError::Unexpected(kind)),
                }
            }
        }
    }

    /// One step of the login; None once the server has let us in.
    async fn authenticate(
        &self,
        machine: ServerAuth,
        body: &[u8],
        login: &mut Login,
    ) -> Result<Option<ServerAuth>, DialError> {
        let mut step = machine.handle(body);
        if let ServerStep::Derive { derivation, next } = step {
            step = next.keys(&self.keys(derivation).await?);
        }
        match step {
            ServerStep::Send { message, next } => {
                login.stream.write_all(&message).await?;
                login.stream.flush().await?;
                Ok(Some(next))
            }
            ServerStep::Read(next) => Ok(Some(next)),
            ServerStep::Authenticated => Ok(None),
            ServerStep::Fail(failure) => Err(DialError::Login(failure)),
            ServerStep::Derive { .. } => Err(DialError::Unexpected(tag::AUTHENTICATION)),
        }
    }

    /// The keys of this derivation: those of the last login if it was the same, else made off the I/O threads.
    async fn keys(&self, derivation: Derivation) -> Result<Keys, DialError> {
        if let Some((last, keys)) = &*lock(&self.keys)
            && *last == derivation
        {
            return Ok(keys.clone());
        }
        let work = derivation.clone();
        let keys = tokio::task::spawn_blocking(move || work.run()).await.map_err(io::Error::other)?;
        *lock(&self.keys) = Some((derivation, keys.clone()));
        Ok(keys)
    }

    fn startup_packet(&self) -> Vec<u8> {
        let mut packet = vec![0; 4];
        packet.extend(PROTOCOL_VERSION.to_be_bytes());
        for text in ["user", &self.credentials.user, "database", &self.database] {
            packet.extend_from_slice(text.as_bytes());
            packet.push(0);
        }
        packet.push(0);
        let length = (packet.len() as u32).to_be_bytes();
        packet.splice(..4, length);
        packet
    }

    fn server(&self, login: Login, greeting: Greeting) -> Server {
        let now = Instant::now();
        // Up to a tenth earlier, so that connections opened together are not replaced together.
        let early = self.lifetime.mul_f64(rand::random_range(0.0..0.1));
        let secret = greeting.secret;
        let connector = Arc::clone(&self.connector);
        Server {
            stream: login.stream,
            inbox: login.inbox,
            outbox: Outbox::default(),
            ledger: Ledger::new(),
            parameters: Arc::default(),
            base: Arc::new(greeting.parameters),
            cancel: Arc::new(CancelTarget::new(greeting.process_id, secret, connector, self.cancel_timeout)),
            expires: (!self.lifetime.is_zero()).then(|| now + self.lifetime - early),
            idle_since: now,
            swallowing: false,
            unsure: false,
            fate: Fate::Sound,
            statements: ServerStatements::new(self.max_statements),
            debris: vec![],
            class: 0,
            replay: Replay::default(),
            sequences: Sequences::default(),
        }
    }
}

/// What a server says of itself once it has let us in.
#[derive(Default)]
struct Greeting {
    parameters: Parameters,
    process_id: i32,
    secret: Vec<u8>,
}

impl Greeting {
    fn take(&mut self, kind: u8, body: &[u8]) -> Result<(), DialError> {
        match kind {
            tag::PARAMETER_STATUS if self.parameters.len() < MOST_PARAMETERS => {
                if let Some((name, value)) = parameter_status(body) {
                    self.parameters.set(name, value);
                }
                Ok(())
            }
            tag::BACKEND_KEY_DATA if (8..=4 + LONGEST_SECRET).contains(&body.len()) => {
                if let Some((process_id, secret)) = body.split_first_chunk() {
                    self.process_id = i32::from_be_bytes(*process_id);
                    self.secret = secret.to_vec();
                }
                Ok(())
            }
            kind => Err(DialError::Unexpected(kind)),
        }
    }
}

fn refused(body: &[u8]) -> DialError {
    let text = |code| String::from_utf8_lossy(field(body, code).unwrap_or_default()).into_owned();
    DialError::Refused(Refusal { sqlstate: text(b'C'), message: text(b'M'), routine: text(b'R') })
}

/// A connection that is logging in.
struct Login {
    stream: Stream,
    inbox: Inbox,
    chunk: Vec<u8>,
}

struct Message {
    kind: u8,
    body: Vec<u8>,
}

impl Login {
    /// Waits until the server has closed its side: until then there may be a backend, and its slot is taken.
    async fn give_up(mut self) {
        let gone = async {
            let _ = self.stream.shutdown().await;
            while matches!(self.stream.read(&mut self.chunk).await, Ok(read) if read > 0) {}
        };
        let _ = tokio::time::timeout(PATIENCE, gone).await;
    }

    /// The next whole messages. Not cancel safe: a dial that is given up closes its connection.
    async fn messages(&mut self) -> Result<Vec<Message>, DialError> {
        let Self { stream, inbox, chunk } = self;
        let read = poll_fn(|cx| inbox.poll_chunk(stream, cx, chunk)).await?;
        let Some(bytes) = read.and_then(|read| chunk.get(..read)) else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "server closed the connection").into());
        };
        let (mut messages, mut at) = (vec![], 0);
        loop {
            match inbox.frames.next(bytes, at, usize::MAX, |_| true).map_err(DialError::Protocol)? {
                Next::Frame(frame @ Frame { tag, end, .. }) => {
                    messages.push(Message { kind: tag, body: frame.body(bytes).to_vec() });
                    at = end;
                }
                Next::End => return Ok(messages),
                Next::Keep(from) if from == 0 && bytes.len() == LONGEST => {
                    return Err(DialError::Unexpected(bytes.first().copied().unwrap_or_default()));
                }
                Next::Keep(from) => {
                    inbox.keep(bytes.get(from..).unwrap_or_default());
                    return Ok(messages);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(fields: &str) -> DialCause {
        refused(fields.replace('|', "\0").as_bytes()).cause()
    }

    /// As PostgreSQL 15 sends them; what is about a CONNECTION LIMIT is known by its routine, in whatever language.
    #[test]
    fn whose_limit_it_is() {
        let limits = [
            ("too many connections for role \"lim\"", "miscinit.c|L842|RInitializeSessionUserId"),
            ("zu viele Verbindungen von Rolle »lim«", "miscinit.c|L842|RInitializeSessionUserId"),
            ("too many connections for database \"dlim\"", "postinit.c|L384|RCheckMyDatabase"),
        ];
        for (message, routine) in limits {
            let fields = format!("SFATAL|VFATAL|C53300|M{message}|F{routine}||");
            assert_eq!(cause(&fields), DialCause::ConnectionLimit, "{message}");
        }
        let full = [
            ("sorry, too many clients already", "|Fproc.c|L357|RInitProcess"),
            ("remaining connection slots are reserved", "|Fpostinit.c|L886|RInitPostgres"),
            ("no more connections allowed (max_client_conn)", ""),
        ];
        for (message, routine) in full {
            let fields = format!("SFATAL|VFATAL|C53300|M{message}{routine}||");
            assert_eq!(cause(&fields), DialCause::TooManyConnections, "{message}");
        }
        assert_eq!(cause("SFATAL|C28P01|Mno|Fauth.c|L1|Rauth_failed||"), DialCause::Refused);
        assert_eq!(
            cause("SFATAL|C57P03|Mstarting|Fpostmaster.c|L1|RProcessStartupPacket||"),
            DialCause::Unreachable
        );
    }
}
