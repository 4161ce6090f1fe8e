//! A server that answers logins and queries at once, whatever they ask: what is measured against it is the generator.
//!
//! It is no PostgreSQL and stands in for none in a test: it knows nothing but `begin`, `commit`, statements that give
//! one row, and `refuse`, which it answers with an error of the overload contract. It runs in a process of its own, so that its CPU is not the generator's, on a loopback address.

mod replies;
mod scram;

use replies::Answering;
use scram::{Exchange, Verifier};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The only password, of everybody.
pub const PASSWORD: &str = "stub";

/// A thousand that connect at once must not wait for the kernel's retransmissions.
const BACKLOG: u32 = 8192;

/// No message of the generator is longer.
const LONGEST_MESSAGE: usize = 1 << 20;

/// Codes of the first message (PostgreSQL's manual, "Message Formats").
const PROTOCOL_3: u32 = 196_608;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// How clients log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Without a password.
    Trust,
    /// SCRAM-SHA-256 with [`PASSWORD`], 4096 iterations, the client's proof checked.
    Scram,
}

impl Login {
    /// As command lines and reports call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Scram => "scram",
        }
    }
}

impl std::str::FromStr for Login {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Trust, Self::Scram];
        all.into_iter().find(|login| login.name() == text).ok_or("trust or scram")
    }
}

/// A listening stub.
#[derive(Debug)]
pub struct Stub {
    listener: TcpListener,
    verifier: Option<Arc<Verifier>>,
}

impl Stub {
    /// Listens on a free port of 127.0.0.1. Needs a tokio runtime.
    ///
    /// # Errors
    /// There is no port.
    pub fn bind(login: Login) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let verifier = (login == Login::Scram).then(|| Arc::new(Verifier::of(PASSWORD)));
        Ok(Self { listener: socket.listen(BACKLOG)?, verifier })
    }

    /// Its port.
    ///
    /// # Errors
    /// The system does not say.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Serves everybody who comes.
    ///
    /// # Errors
    /// Nobody can come any more.
    ///
    /// Cancel safety: dropped, it accepts no more; connections go on until their clients leave.
    pub async fn serve(self) -> io::Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let verifier = self.verifier.clone();
            // A client that leaves, or speaks another language, is its own affair.
            tokio::spawn(async move { Connection::new(stream).serve(verifier.as_deref()).await });
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Received, and not understood yet.
    received: Vec<u8>,
    /// How much of it is done with.
    done: usize,
}

/// A message: its type, 0 for the first one, and what is in it.
type Message<'a> = (u8, &'a [u8]);

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, received: Vec::with_capacity(1024), done: 0 }
    }

    async fn serve(mut self, verifier: Option<&Verifier>) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.start_up().await?;
        if let Some(verifier) = verifier {
            self.prove(verifier).await?;
        }
        self.stream.write_all(&replies::welcome()).await?;
        self.answer().await
    }

    /// Until the StartupMessage; encryption is declined, and a CancelRequest is an error that closes the connection.
    async fn start_up(&mut self) -> io::Result<()> {
        loop {
            let (_, body) = self.receive(true).await?;
            let (code, _) = body.split_first_chunk::<4>().ok_or_else(misspoken)?;
            match u32::from_be_bytes(*code) {
                PROTOCOL_3 => return Ok(()),
                SSL_REQUEST | GSS_REQUEST => self.stream.write_all(b"N").await?,
                _ => return Err(misspoken()),
            }
        }
    }

    async fn prove(&mut self, verifier: &Verifier) -> io::Result<()> {
        self.stream.write_all(&replies::sasl_mechanisms()).await?;
        let (_, first) = self.receive(false).await?;
        let (exchange, challenge) = Exchange::begin(first).ok_or_else(misspoken)?.challenge(verifier);
        self.stream.write_all(&replies::sasl(11, &challenge)).await?;
        let (_, last) = self.receive(false).await?;
        let signature = exchange.prove(verifier, last).ok_or_else(misspoken)?;
        self.stream.write_all(&replies::sasl(12, &signature)).await
    }

    /// Everything that has come is answered in one write, as a server does after a Sync.
    async fn answer(&mut self) -> io::Result<()> {
        let mut answering = Answering::default();
        let mut reply = Vec::with_capacity(1024);
        loop {
            while let Some((kind, body)) = take(&self.received, &mut self.done, false)? {
                if kind == b'X' {
                    return Ok(());
                }
                answering.answer(kind, body, &mut reply).ok_or_else(misspoken)?;
            }
            self.stream.write_all(&reply).await?;
            reply.clear();
            self.read().await?;
        }
    }

    /// The next message.
    async fn receive(&mut self, first: bool) -> io::Result<Message<'_>> {
        let begin = loop {
            let begin = self.done;
            if take(&self.received, &mut self.done, first)?.is_some() {
                break begin;
            }
            self.read().await?;
        };
        let mut again = begin;
        take(&self.received, &mut again, first)?.ok_or_else(misspoken)
    }

    async fn read(&mut self) -> io::Result<()> {
        self.received.drain(..self.done);
        self.done = 0;
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The message at `done`, which moves behind it, if all of it is there. The first message has no type.
fn take<'a>(received: &'a [u8], done: &mut usize, first: bool) -> io::Result<Option<Message<'a>>> {
    let rest = received.get(*done..).unwrap_or_default();
    let (kind, rest) = if first { (0, rest) } else { rest.split_first().map_or((0, rest), |(k, r)| (*k, r)) };
    let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if !(4..=LONGEST_MESSAGE).contains(&length) {
        return Err(misspoken());
    }
    let Some(body) = rest.get(..length - 4) else { return Ok(None) };
    *done += length + usize::from(!first);
    Ok(Some((kind, body)))
}

fn misspoken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}
