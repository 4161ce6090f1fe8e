//! One connection: connect, log in, send statements, read replies.

use super::address::Address;
use super::inbox::Event;
use super::login::{Identity, Login, unsendable};
use super::statements::Statements;
use super::stream::{Opened, Stream, lost, not_opened};
use super::target::Parts;
use super::wire::Wire;
use super::{Failure, ServerError, Target};
use crate::plan::Protocol;
use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// CancelRequest's code (PostgreSQL's manual, "Message Formats").
const CANCEL_REQUEST: u32 = 80_877_102;

/// How long the phases of a connect took; `None` for one that was not completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectTimes {
    /// TCP and TLS.
    pub connect: Option<Duration>,
    /// From the StartupMessage to the first ReadyForQuery.
    pub login: Option<Duration>,
}

/// What a statement was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reply {
    /// Rows.
    pub rows: u64,
    /// All bytes of the reply, those of the protocol included.
    pub bytes: u64,
    /// Statements that were completed: a simple query can hold several.
    pub completed: u64,
}

/// One connection of one instance. Dropping it is a plain close without a word (a FIN).
#[derive(Debug)]
pub struct Session {
    pub(super) wire: Wire,
    parts: Arc<Parts>,
    address: Arc<Address>,
    key: Option<Box<[u8]>>,
    /// Of the last ReadyForQuery.
    status: u8,
    state: State,
    statements: Statements,
    completed: u64,
}

#[derive(Debug)]
enum State {
    /// It can take a statement.
    Ready,
    /// A reply is under way.
    Replying(Progress),
    /// Of no use any more.
    Lost,
}

/// What has come of a reply.
#[derive(Debug)]
struct Progress {
    protocol: Protocol,
    reply: Reply,
    /// The inbox's count when the statement was sent.
    counted_before: u64,
    /// Something came that answers a statement.
    answered: bool,
    /// The first error.
    error: Option<ServerError>,
}

impl Session {
    /// Connects, to the first of the target's addresses that can be reached, and logs in. Fills in `times` as the phases
    /// are completed.
    ///
    /// # Errors
    /// [`Failure::Connection`] if no address can be reached; [`Failure::Server`] if the server refuses the login.
    ///
    /// Cancel safety: dropped midway, the connection is closed.
    pub async fn connect(
        target: &Target,
        identity: &Identity,
        times: &mut ConnectTimes,
    ) -> Result<Self, Failure> {
        let parts = target.parts();
        let started = Instant::now();
        let (mut wire, address) = open_any(parts).await?;
        times.connect = Some(started.elapsed());

        let started = Instant::now();
        let login = Login {
            identity,
            database: &parts.database,
            options: parts.options.as_deref(),
            salted: &parts.salted,
        };
        let greeting = login.run(&mut wire).await?;
        times.login = Some(started.elapsed());
        Ok(Self {
            wire,
            parts: Arc::clone(parts),
            address,
            key: greeting.key,
            status: greeting.status,
            state: State::Ready,
            statements: Statements::default(),
            completed: 0,
        })
    }

    /// Sends a statement and reads its reply to the end.
    ///
    /// # Errors
    /// See [`Failure`]. After a [`Failure::Server`] that is not fatal the session is usable, if
    /// [`is_usable`](Self::is_usable) says so: a server may close behind any error.
    ///
    /// Cancel safety: dropped midway, the session is not usable, unless [`finish`](Self::finish) ends what was begun.
    pub async fn run(&mut self, sql: &str, protocol: Protocol) -> Result<Reply, Failure> {
        self.send(sql, protocol).await?;
        self.finish().await
    }

    /// Sends a statement, and reads nothing.
    ///
    /// # Errors
    /// The session is not usable, or the statement cannot be sent. A connection that was lost shows when the reply is
    /// read, since the server may have said why.
    ///
    /// Cancel safety: dropped midway, [`finish`](Self::finish) sends the rest.
    pub async fn send(&mut self, sql: &str, protocol: Protocol) -> Result<(), Failure> {
        if !self.is_usable() {
            return Err(Failure::Connection("the session is not usable".to_owned()));
        }
        if let Err(error) = self.statements.write(sql, protocol, &mut self.wire.outbox) {
            self.wire.outbox.clear();
            return Err(unsendable(&error));
        }
        self.state = State::Replying(Progress {
            protocol,
            reply: Reply::default(),
            counted_before: self.wire.inbox.counted(),
            answered: false,
            error: None,
        });
        self.wire.flush().await;
        Ok(())
    }

    /// Waits for the first bytes of the reply.
    ///
    /// # Errors
    /// The connection is lost, or no reply is under way.
    ///
    /// Cancel safety: nothing is lost; call it again.
    pub async fn first_bytes(&mut self) -> Result<(), Failure> {
        self.expect_a_reply()?;
        self.wire.flush().await;
        if self.wire.inbox.has_bytes() {
            return Ok(());
        }
        let filled = self.wire.inbox.fill(&mut self.wire.stream).await;
        filled.map_err(|failure| self.lose(failure))
    }

    /// Reads the rest of the reply.
    ///
    /// # Errors
    /// See [`Failure`]. After a [`Failure::Server`] that is not fatal the session is usable, if
    /// [`is_usable`](Self::is_usable) says so.
    ///
    /// Cancel safety: nothing is lost; call it again, for instance after a [`cancel`](Self::cancel).
    pub async fn finish(&mut self) -> Result<Reply, Failure> {
        self.expect_a_reply()?;
        self.wire.flush().await;
        loop {
            match self.wire.event().await {
                Ok(event) => {
                    if let Some(result) = self.take(event) {
                        return result;
                    }
                }
                Err(failure) => return Err(self.lose(failure)),
            }
            if !self.wire.outbox.is_empty() {
                self.wire.flush().await;
            }
        }
    }

    /// Reads while nothing is asked: returns only when the server ends the session (57P01, say), or is lost.
    ///
    /// Cancel safety: nothing is lost; the session can be used afterwards.
    pub async fn watch(&mut self) -> Failure {
        if !self.is_usable() {
            return Failure::Connection("the session is not usable".to_owned());
        }
        loop {
            let failure = match self.wire.event().await {
                // NoticeResponse, ParameterStatus, NotificationResponse.
                Ok(Event::Passed(b'N' | b'S' | b'A')) => continue,
                Ok(Event::Error(error)) => Failure::Server(error),
                Ok(event) => Failure::Protocol(format!("{event} though nothing was asked")),
                Err(failure) => failure,
            };
            self.state = State::Lost;
            return failure;
        }
    }

    /// Asks the server, over a connection of its own, to cancel what this session runs; returns when the server has
    /// closed that connection.
    ///
    /// # Errors
    /// The server cannot be reached, or gave no key.
    ///
    /// Cancel safety: dropped midway, the request may have been sent or not.
    pub async fn cancel(&self) -> Result<(), Failure> {
        let no_key = || Failure::Connection("the server gave no key to cancel with".to_owned());
        let key = self.key.as_deref().ok_or_else(no_key)?;
        let mut request = BytesMut::new();
        request.put_u32(u32::try_from(8 + key.len()).map_err(|_| no_key())?);
        request.put_u32(CANCEL_REQUEST);
        request.put_slice(key);
        let mut wire = open(&self.parts, &self.address).await?;
        wire.stream.write_all(&request).await.map_err(|error| lost(&error))?;
        wire.stream.flush().await.map_err(|error| lost(&error))?;
        // Nothing is ever said here: any byte, as well as a reset, is as good as the end.
        let _ = wire.stream.read(&mut [0]).await;
        Ok(())
    }

    /// The last reply left a transaction open, be it a failed one.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.status != b'I'
    }

    /// It can take a statement: no reply is under way, and it is not lost.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Statements that were completed since the login, also in replies that ended with an error or never ended.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.completed
    }

    fn expect_a_reply(&self) -> Result<(), Failure> {
        match self.state {
            State::Replying(_) => Ok(()),
            State::Ready | State::Lost => Err(Failure::Connection("no reply is under way".to_owned())),
        }
    }

    /// Takes one message of a reply; the result, if it was the last.
    fn take(&mut self, event: Event) -> Option<Result<Reply, Failure>> {
        let State::Replying(progress) = &mut self.state else { return None };
        match event {
            Event::Passed(b'D') => progress.reply.rows += 1,
            Event::Passed(b'C') => {
                progress.reply.completed += 1;
                progress.answered = true;
                self.completed += 1;
            }
            Event::Passed(b'1') => self.statements.parsed(),
            // EmptyQueryResponse, PortalSuspended.
            Event::Passed(b'I' | b's') => progress.answered = true,
            // CopyInResponse: this client has nothing to copy.
            Event::Passed(b'G') => refuse_copy(progress.protocol, &mut self.wire.outbox),
            Event::Passed(kind) if is_part_of_a_reply(kind) => {}
            Event::Error(error) if error.fatal => return Some(Err(self.lose(Failure::Server(error)))),
            Event::Error(error) => {
                progress.answered = true;
                progress.error.get_or_insert(error);
            }
            Event::Ready(status) => return Some(self.end_of_reply(status)),
            event => return Some(Err(self.lose(Failure::Protocol(format!("{event} in a reply"))))),
        }
        None
    }

    fn end_of_reply(&mut self, status: u8) -> Result<Reply, Failure> {
        self.status = status;
        let State::Replying(mut progress) = std::mem::replace(&mut self.state, State::Ready) else {
            return Err(self.lose(Failure::Protocol("ReadyForQuery though nothing was asked".to_owned())));
        };
        if let Some(error) = progress.error {
            return Err(Failure::Server(error));
        }
        if !progress.answered {
            return Err(self.lose(Failure::Protocol("ReadyForQuery without an answer".to_owned())));
        }
        progress.reply.bytes = self.wire.inbox.counted().saturating_sub(progress.counted_before);
        Ok(progress.reply)
    }

    /// The session is of no use any more. An error that came before its end says more than the end.
    fn lose(&mut self, failure: Failure) -> Failure {
        match (std::mem::replace(&mut self.state, State::Lost), failure) {
            (State::Replying(Progress { error: Some(error), .. }), Failure::Connection(_)) => {
                Failure::Server(error)
            }
            (_, failure) => failure,
        }
    }
}

/// RowDescription, NoData, ParameterDescription, BindComplete, CloseComplete, CopyOutResponse, CopyData, CopyDone; and
/// what may come at any time: NoticeResponse, ParameterStatus, NotificationResponse.
fn is_part_of_a_reply(kind: u8) -> bool {
    matches!(kind, b'T' | b'n' | b't' | b'2' | b'3' | b'H' | b'd' | b'c' | b'N' | b'S' | b'A')
}

/// While it waits for data, a server drops every Sync, ours behind Execute too (PostgreSQL's manual, "COPY Operations").
fn refuse_copy(protocol: Protocol, out: &mut BytesMut) {
    // Fails only for texts with a zero byte.
    let _ = frontend::copy_fail("nothing to copy", out);
    if protocol != Protocol::Simple {
        frontend::sync(out);
    }
}

/// The first address that can be reached. One that refuses, or is silent for longer than the DSN's `connect_timeout`, is
/// passed over, as in libpq.
async fn open_any(parts: &Parts) -> Result<(Wire, Arc<Address>), Failure> {
    let addresses = parts.addresses(false).await.map_err(|error| Failure::Connection(error.to_string()))?;
    let mut failures = Vec::new();
    for address in addresses {
        let opening = open(parts, address);
        let opened = match parts.connect_timeout {
            Some(limit) => tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
                Err(Failure::Connection(format!("cannot connect to {address}: timeout")))
            }),
            None => opening.await,
        };
        match opened {
            Ok(wire) => return Ok((wire, Arc::clone(address))),
            Err(Failure::Connection(text)) => failures.push(text),
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Connection(failures.join("; ")))
}

/// TCP, and TLS where it is wanted.
async fn open(parts: &Parts, address: &Address) -> Result<Wire, Failure> {
    let stream = Stream::connect(address).await.map_err(|error| not_opened(&error, address))?;
    match stream.secured(&parts.encryption, address).await? {
        Opened::Ready(stream) => Ok(Wire::new(stream)),
        Opened::Refused(stream) => Err(refusal(stream).await),
    }
}

/// The error with which a server answered an SSLRequest.
async fn refusal(stream: Stream) -> Failure {
    let mut wire = Wire::new(stream);
    wire.inbox.put_back_error();
    match wire.event().await {
        Ok(Event::Error(error)) => Failure::Server(error),
        Ok(event) => Failure::Protocol(format!("{event} in answer to SSLRequest")),
        Err(failure) => failure,
    }
}
