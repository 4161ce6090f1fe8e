//! The first packets of a client, up to the point where it has said who it is.
//!
//! [`Startup`] is fed by the accepting task with whole packets ([`packet_length`] tells how long one is) and says what
//! to answer. It never logs a client in: that is [`super::auth`]'s part. PostgreSQL manual, "Message Flow",
//! sections "Start-up", "Canceling Requests in Progress" and "SSL Session Encryption".

mod options;
mod packet;
mod violation;

pub use packet::{FirstPacket, MAX_SECRET, MAX_STARTUP_PACKET, StartupPacket, packet_length, parse};
pub use violation::Violation;

use crate::proto::ClientTlsMode;
use crate::proto::messages;

/// Newest minor version of protocol 3 that is served.
pub const NEWEST_MINOR: u16 = 2;

/// What a client's connection runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A network: may have to be encrypted.
    Tcp,
    /// A socket file: never encrypted, as in PostgreSQL.
    Unix,
}

/// What happened to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole packet came.
    Packet {
        /// The packet, its length included.
        bytes: &'a [u8],
        /// How many bytes have been received behind it and not been looked at.
        buffered: usize,
    },
    /// The TLS handshake that [`Action::StartTls`] asked for succeeded.
    TlsUp,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send the byte `N`, and read the next packet.
    Deny,
    /// Send the byte `S`, run the TLS handshake on the socket, and report [`Event::TlsUp`].
    StartTls,
    /// Read the next packet.
    Read,
    /// Look for the session with this key, cancel what it runs, and close without an answer. Nobody has been
    /// authenticated: knowing the key is all that counts.
    Cancel {
        /// First part of the key, as in BackendKeyData.
        process_id: i32,
        /// Second part of the key: 4 to [`MAX_SECRET`] bytes.
        secret: &'a [u8],
    },
    /// Go on to authentication. `reply` goes to the client first; it is empty, or NegotiateProtocolVersion.
    Accept {
        /// Who the client says it is, and what it wants.
        startup: StartupPacket,
        /// Bytes to send before anything else.
        reply: Vec<u8>,
    },
    /// Send [`Violation::report`] as an ErrorResponse, and close.
    Refuse(Violation),
}

/// The session before login: which request is allowed next.
#[derive(Debug)]
pub struct Startup {
    tls: ClientTlsMode,
    transport: Transport,
    encrypted: bool,
    expects: Expects,
}

/// Named for what has to come next.
#[derive(Debug, Clone, Copy)]
enum Expects {
    /// A packet; these requests among them have not been made yet.
    Packet { ssl: bool, gssenc: bool },
    /// The end of the TLS handshake.
    TlsUp,
    /// Nothing: the last action was the last.
    Nothing,
}

impl Startup {
    /// A connection of which nothing has been read.
    pub fn new(tls: ClientTlsMode, transport: Transport) -> Self {
        Self { tls, transport, encrypted: false, expects: Expects::Packet { ssl: true, gssenc: true } }
    }

    /// Whether the client's connection is encrypted.
    pub fn encrypted(&self) -> bool {
        self.encrypted
    }

    /// The next thing that happened. After [`Action::Cancel`], [`Action::Accept`] and [`Action::Refuse`] the machine
    /// is done, and refuses whatever else it is given.
    pub fn handle<'a>(&mut self, event: Event<'a>) -> Action<'a> {
        let expected = std::mem::replace(&mut self.expects, Expects::Nothing);
        let action = match (expected, event) {
            (Expects::Packet { ssl, gssenc }, Event::Packet { bytes, buffered }) => {
                self.packet(ssl, gssenc, bytes, buffered)
            }
            (Expects::TlsUp, Event::TlsUp) => {
                self.encrypted = true;
                self.expects = Expects::Packet { ssl: false, gssenc: false };
                Ok(Action::Read)
            }
            _ => Err(Violation::OutOfTurn),
        };
        action.unwrap_or_else(Action::Refuse)
    }

    fn packet<'a>(
        &mut self,
        ssl: bool,
        gssenc: bool,
        bytes: &'a [u8],
        buffered: usize,
    ) -> Result<Action<'a>, Violation> {
        match parse(bytes)? {
            FirstPacket::SslRequest if ssl => self.ssl_request(gssenc, buffered),
            FirstPacket::GssEncRequest if gssenc => self.gssenc_request(ssl, buffered),
            FirstPacket::SslRequest | FirstPacket::GssEncRequest => Err(Violation::RepeatedRequest),
            FirstPacket::CancelRequest { process_id, secret } => Ok(Action::Cancel { process_id, secret }),
            FirstPacket::Startup(startup) => self.startup(startup),
        }
    }

    /// Bytes behind the request were not encrypted, and would be taken for the first of the encrypted ones: an
    /// attacker in the middle could put words into the client's mouth (CVE-2021-3935, CVE-2021-23214).
    fn ssl_request(&mut self, gssenc: bool, buffered: usize) -> Result<Action<'static>, Violation> {
        if buffered > 0 {
            return Err(Violation::PlainTextBehindSslRequest);
        }
        if self.tls == ClientTlsMode::Disable || self.transport == Transport::Unix {
            self.expects = Expects::Packet { ssl: false, gssenc };
            return Ok(Action::Deny);
        }
        self.expects = Expects::TlsUp;
        Ok(Action::StartTls)
    }

    /// GSSAPI encryption is not served; a client may then ask for TLS.
    fn gssenc_request(&mut self, ssl: bool, buffered: usize) -> Result<Action<'static>, Violation> {
        if buffered > 0 {
            return Err(Violation::PlainTextBehindGssEncRequest);
        }
        self.expects = Expects::Packet { ssl, gssenc: false };
        Ok(Action::Deny)
    }

    fn startup(&self, startup: StartupPacket) -> Result<Action<'static>, Violation> {
        let plain = self.transport == Transport::Tcp && !self.encrypted;
        if plain && self.tls == ClientTlsMode::Require {
            return Err(Violation::TlsRequired);
        }
        let mut reply = Vec::new();
        if startup.needs_negotiation() {
            let minor = startup.served_minor();
            messages::negotiate_protocol_version(&mut reply, minor, &startup.unsupported_protocol_options);
        }
        Ok(Action::Accept { startup, reply })
    }
}

#[cfg(test)]
mod tests;
