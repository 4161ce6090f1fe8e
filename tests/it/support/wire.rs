//! A raw client: it writes whatever bytes a test wants and reads replies message by message.
//!
//! It knows the framing and the login of protocol 3, and nothing about what may follow what, so that tests can be as
//! rude as they like. Reads and writes give up after [`PATIENCE`], so that a hanging peer is a failed test.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// Longest wait for one read or write. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `196608`: protocol 3.0.
pub const PROTOCOL_3_0: i32 = 3 << 16;
/// Protocol 3.2: cancel keys of any length.
pub const PROTOCOL_3_2: i32 = (3 << 16) | 2;
/// The code of an SSLRequest.
pub const SSL_REQUEST: i32 = 80_877_103;
/// The code of a GSSENCRequest.
pub const GSSENC_REQUEST: i32 = 80_877_104;
/// The code of a CancelRequest.
pub const CANCEL_REQUEST: i32 = 80_877_102;

/// One message of the server: its type byte and its body without the length.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The type byte.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// What ended a conversation.
#[derive(Debug)]
pub enum Fault {
    /// The peer closed the connection between two messages (or reset it).
    Closed,
    /// Anything else, time-outs included.
    Broken(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error.kind() {
            UnexpectedEof | ConnectionReset | BrokenPipe => Self::Closed,
            _ => Self::Broken(error),
        }
    }
}

/// A byte stream in both directions: TCP, or TLS over it.
trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// A connection to PostgreSQL or to the proxy.
pub struct Wire {
    stream: Box<dyn Duplex>,
    /// The same socket, for options, for writing from a second thread and for half-closing.
    socket: TcpStream,
    plain: bool,
    unread: Vec<u8>,
    /// What the last BackendKeyData said: process id and key.
    pub cancel_key: Option<(i32, Vec<u8>)>,
}

impl Wire {
    /// Connects and sends nothing.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Connects from another address of this machine, `127.0.0.2` say.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        Self::over(socket.into())
    }

    fn over(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let stream = Box::new(socket.try_clone()?);
        Ok(Self { stream, socket, plain: true, unread: Vec::new(), cancel_key: None })
    }

    /// Connects and logs in; panics with the reason if that fails.
    pub fn login(address: SocketAddr, user: &str, password: &str, database: &str) -> Self {
        let mut wire = Self::connect(address).expect("connect");
        wire.send_startup(PROTOCOL_3_0, &[("user", user), ("database", database)]).expect("startup");
        match wire.authenticate(user, password) {
            (_, Ok(())) => wire,
            (messages, Err(fault)) => panic!("login as {user} to {database}: {fault:?} after {messages:?}"),
        }
    }

    /// Asks for TLS and, if the answer is `S`, starts it without looking at the certificate.
    pub fn start_tls(mut self) -> io::Result<Self> {
        self.send(&untagged(SSL_REQUEST, &[]))?;
        if self.read_byte()? != b'S' {
            return Err(io::Error::other("TLS was refused"));
        }
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate))
                .with_no_client_auth();
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = rustls::ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let stream = rustls::StreamOwned::new(session, self.socket.try_clone()?);
        Ok(Self { stream: Box::new(stream), plain: false, ..self })
    }

    /// Sends a startup packet of any version with any parameters.
    pub fn send_startup(&mut self, version: i32, params: &[(&str, &str)]) -> io::Result<()> {
        self.send(&startup(version, params))
    }

    /// Answers whatever login exchange is asked for, up to ReadyForQuery. Returns the messages seen and what ended it
    /// early: an ErrorResponse counts as [`Fault::Closed`] and is the last message.
    pub fn authenticate(&mut self, user: &str, password: &str) -> (Vec<Message>, Result<(), Fault>) {
        let mut seen = Vec::new();
        let result = self.authenticate_into(user, password, &mut seen);
        (seen, result)
    }

    fn authenticate_into(
        &mut self,
        user: &str,
        password: &str,
        seen: &mut Vec<Message>,
    ) -> Result<(), Fault> {
        let mut scram = None;
        loop {
            let message = self.read()?;
            let body = message.body.clone();
            let tag = message.tag;
            seen.push(message);
            match tag {
                b'Z' => return Ok(()),
                b'E' => return Err(Fault::Closed),
                b'R' => self.answer(&body, user, password, &mut scram)?,
                _ => {}
            }
        }
    }

    fn answer(
        &mut self,
        body: &[u8],
        user: &str,
        password: &str,
        scram: &mut Option<ScramSha256>,
    ) -> Result<(), Fault> {
        let rest = &body[4..];
        match i32::from_be_bytes(body[..4].try_into().expect("an R message has a code")) {
            3 => self.send(&tagged(b'p', &cstr(password)))?,
            5 => {
                let salt = rest[..4].try_into().expect("a salt of four bytes");
                let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
                self.send(&tagged(b'p', &cstr(&hash)))?;
            }
            10 => {
                let state = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                let mut reply = cstr("SCRAM-SHA-256");
                let first = state.message();
                reply.extend_from_slice(&length(first.len()));
                reply.extend_from_slice(first);
                self.send(&tagged(b'p', &reply))?;
                *scram = Some(state);
            }
            11 => {
                let state = scram.as_mut().expect("SASL was begun");
                state.update(rest)?;
                let reply = tagged(b'p', state.message());
                self.send(&reply)?;
            }
            12 => scram.as_mut().expect("SASL was begun").finish(rest)?,
            _ => {}
        }
        Ok(())
    }

    /// Writes bytes as they are. Large ones go out from a second thread while this one is free to read, but only on a
    /// plain connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.plain && bytes.len() > 64 * 1024 {
            let mut socket = self.socket.try_clone()?;
            let bytes = bytes.to_vec();
            // The reader sees what went wrong: the peer closes, or the read times out.
            std::thread::spawn(move || drop(socket.write_all(&bytes)));
            return Ok(());
        }
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a Query message.
    pub fn query(&mut self, sql: &str) -> io::Result<()> {
        self.send(&query(sql))
    }

    /// Reads one message. Remembers the key of a BackendKeyData.
    pub fn read(&mut self) -> Result<Message, Fault> {
        self.fill(5)?;
        let claimed = u32::from_be_bytes(self.unread[1..5].try_into().expect("four bytes"));
        let total = claimed as usize + 1;
        if !(5..=1 << 30).contains(&total) {
            return Err(Fault::Broken(io::Error::other(format!("a reply claims a length of {claimed}"))));
        }
        self.fill(total).map_err(|fault| match fault {
            Fault::Closed => Fault::Broken(io::Error::other("closed within a message")),
            fault => fault,
        })?;
        let body = self.unread[5..total].to_vec();
        let tag = self.unread[0];
        self.unread.drain(..total);
        if tag == b'K' {
            self.cancel_key =
                Some((i32::from_be_bytes(body[..4].try_into().expect("a pid")), body[4..].to_vec()));
        }
        Ok(Message { tag, body })
    }

    /// Reads up to and including the first message of this type.
    pub fn read_until(&mut self, tag: u8) -> Result<Vec<Message>, (Vec<Message>, Fault)> {
        let mut seen = Vec::new();
        loop {
            match self.read() {
                Ok(message) => {
                    let found = message.tag == tag;
                    seen.push(message);
                    if found {
                        return Ok(seen);
                    }
                }
                Err(fault) => return Err((seen, fault)),
            }
        }
    }

    /// Sends a Query and reads its replies up to ReadyForQuery; panics if the connection ends.
    pub fn run(&mut self, sql: &str) -> Vec<Message> {
        self.query(sql).expect("send a query");
        self.ready()
    }

    /// Reads up to ReadyForQuery; panics if the connection ends.
    pub fn ready(&mut self) -> Vec<Message> {
        self.read_until(b'Z').unwrap_or_else(|(seen, fault)| panic!("{fault:?} after {seen:?}"))
    }

    /// Runs a query and returns the text of each row's columns; panics on an error.
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let replies = self.run(sql);
        if let Some(error) = replies.iter().find(|m| m.tag == b'E') {
            panic!("{sql}: {error:?}");
        }
        replies.iter().filter(|m| m.tag == b'D').map(Message::columns).collect()
    }

    /// Runs a query and returns its first column of its first row; panics if there is none.
    pub fn value(&mut self, sql: &str) -> String {
        self.rows(sql).first().and_then(|row| row.first().cloned().flatten()).expect("a value")
    }

    /// Reads until the peer closes; panics if it does anything else first but send messages, which are returned.
    pub fn read_to_close(&mut self) -> Vec<Message> {
        let mut seen = Vec::new();
        loop {
            match self.read() {
                Ok(message) => seen.push(message),
                Err(Fault::Closed) => return seen,
                Err(Fault::Broken(error)) => panic!("not closed but {error} after {seen:?}"),
            }
        }
    }

    /// Reads a single byte, as the answer to SSLRequest is.
    pub fn read_byte(&mut self) -> io::Result<u8> {
        match self.fill(1) {
            Ok(()) => Ok(self.unread.remove(0)),
            Err(Fault::Closed) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(Fault::Broken(error)) => Err(error),
        }
    }

    /// The socket itself, for options and shutdown.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn fill(&mut self, wanted: usize) -> Result<(), Fault> {
        let mut chunk = [0; 64 * 1024];
        while self.unread.len() < wanted {
            match self.stream.read(&mut chunk)? {
                0 if self.unread.is_empty() => return Err(Fault::Closed),
                0 => return Err(Fault::Broken(io::Error::other("closed within a message"))),
                n => self.unread.extend_from_slice(&chunk[..n]),
            }
        }
        Ok(())
    }
}

impl Message {
    /// The columns of a DataRow as text.
    pub fn columns(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D');
        let mut rest = &self.body[2..];
        let mut columns = Vec::new();
        while let Some((size, after)) = rest.split_first_chunk::<4>() {
            let size = i32::from_be_bytes(*size);
            let taken = usize::try_from(size).unwrap_or(0);
            columns.push((size >= 0).then(|| String::from_utf8_lossy(&after[..taken]).into_owned()));
            rest = &after[taken..];
        }
        columns
    }

    /// A field of an ErrorResponse or NoticeResponse, by its letter.
    pub fn field(&self, letter: u8) -> Option<String> {
        assert!(matches!(self.tag, b'E' | b'N'), "{self:?} has no fields");
        let fields = self.body.split(|byte| *byte == 0);
        fields
            .filter(|f| f.first() == Some(&letter))
            .map(|f| String::from_utf8_lossy(&f[1..]).into_owned())
            .next()
    }

    /// The SQLSTATE of an ErrorResponse or NoticeResponse.
    pub fn sqlstate(&self) -> String {
        self.field(b'C').unwrap_or_default()
    }
}

/// The first ErrorResponse's SQLSTATE, if there is one.
pub fn sqlstate(messages: &[Message]) -> Option<String> {
    messages.iter().find(|m| m.tag == b'E').map(Message::sqlstate)
}

/// A message with a type byte.
pub fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&length(body.len() + 4));
    bytes.extend_from_slice(body);
    bytes
}

/// A message of the time before login: a length, a code, a body.
pub fn untagged(code: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = length(body.len() + 8).to_vec();
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A startup packet.
pub fn startup(version: i32, params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in params {
        body.extend(cstr(name));
        body.extend(cstr(value));
    }
    body.push(0);
    untagged(version, &body)
}

/// A Query message.
pub fn query(sql: &str) -> Vec<u8> {
    tagged(b'Q', &cstr(sql))
}

/// A CancelRequest for a key as BackendKeyData gave it.
pub fn cancel_request(key: &(i32, Vec<u8>)) -> Vec<u8> {
    let mut body = key.0.to_be_bytes().to_vec();
    body.extend_from_slice(&key.1);
    untagged(CANCEL_REQUEST, &body)
}

/// Sends a CancelRequest on a connection of its own and waits until the peer closes it.
pub fn cancel(address: SocketAddr, key: &(i32, Vec<u8>)) {
    let mut wire = Wire::connect(address).expect("connect to cancel");
    wire.send(&cancel_request(key)).expect("send a cancel");
    wire.read_to_close();
}

/// Text and a terminator.
pub fn cstr(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("a test message fits").to_be_bytes()
}

/// Accepts any certificate: the tests look at what goes through TLS, not at who offers it.
#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
