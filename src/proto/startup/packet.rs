//! The packets without a tag that open a connection: PostgreSQL manual, "Message Formats", CancelRequest,
//! GSSENCRequest, SSLRequest and StartupMessage.

use std::collections::BTreeMap;

use super::{NEWEST_MINOR, Violation, options};

/// Longest packet accepted before login, in bytes, length field included (PostgreSQL's
/// `MAX_STARTUP_PACKET_LENGTH` is the same without it).
pub const MAX_STARTUP_PACKET: usize = 10_000;

/// Longest secret of a cancel key, in bytes (protocol 3.2).
pub const MAX_SECRET: usize = 256;

/// Shortest secret of a cancel key, in bytes (protocol 3.0, where it is the only length).
const MIN_SECRET: usize = 4;

/// Length field and protocol version or request code.
const HEADER: usize = 8;

const CANCEL_REQUEST: (u16, u16) = (1234, 5678);
const SSL_REQUEST: (u16, u16) = (1234, 5679);
const GSSENC_REQUEST: (u16, u16) = (1234, 5680);

/// What the first packets of a client can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket<'a> {
    /// The client wants TLS.
    SslRequest,
    /// The client wants GSSAPI encryption.
    GssEncRequest,
    /// The connection is only there to cancel what another one runs.
    CancelRequest {
        /// First part of the key, as in BackendKeyData.
        process_id: i32,
        /// Second part of the key: 4 to [`MAX_SECRET`] bytes.
        secret: &'a [u8],
    },
    /// The client wants to log in.
    Startup(StartupPacket),
}

/// Who a client says it is, and what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupPacket {
    /// Minor version of protocol 3 that was requested; it may be newer than what is served.
    pub minor: u16,
    /// Never empty.
    pub user: String,
    /// Never empty: a missing one is the user's name.
    pub database: String,
    /// Run-time parameters, each name once whatever its case; in the order in which they were first named. As in
    /// PostgreSQL those within `options` come first and the packet's own ones override them.
    pub parameters: Vec<(String, String)>,
    /// The value of `replication` if it asks for a replication connection (a true boolean, or `database`).
    pub replication: Option<String>,
    /// Names of `_pq_.` options; none of them is known here.
    pub unsupported_protocol_options: Vec<String>,
}

impl StartupPacket {
    /// Minor version that is spoken from now on. 3.1 has never been in use; PostgreSQL takes it for 3.0 silently.
    pub fn served_minor(&self) -> u16 {
        if self.minor < NEWEST_MINOR { 0 } else { NEWEST_MINOR }
    }

    /// Whether the client has to be told what it will not get.
    pub(super) fn needs_negotiation(&self) -> bool {
        self.minor > NEWEST_MINOR || !self.unsupported_protocol_options.is_empty()
    }
}

/// Length in bytes of the packet that starts with `received`. None: four bytes are needed to tell. The result is
/// between 8 and [`MAX_STARTUP_PACKET`], so it is safe to wait for that many.
pub fn packet_length(received: &[u8]) -> Result<Option<usize>, Violation> {
    let Some(length) = received.first_chunk::<4>() else { return Ok(None) };
    match usize::try_from(u32::from_be_bytes(*length)) {
        Ok(length @ HEADER..=MAX_STARTUP_PACKET) => Ok(Some(length)),
        _ => Err(Violation::Length),
    }
}

/// Reads one whole packet, its length included.
pub fn parse(packet: &[u8]) -> Result<FirstPacket<'_>, Violation> {
    if packet_length(packet)? != Some(packet.len()) {
        return Err(Violation::Length);
    }
    let (version, body) = version(packet).ok_or(Violation::Length)?;
    match version {
        CANCEL_REQUEST => cancel_request(body),
        SSL_REQUEST if body.is_empty() => Ok(FirstPacket::SslRequest),
        GSSENC_REQUEST if body.is_empty() => Ok(FirstPacket::GssEncRequest),
        SSL_REQUEST | GSSENC_REQUEST => Err(Violation::Length),
        (3, minor) => startup(minor, body).map(FirstPacket::Startup),
        (major, minor) => Err(Violation::Protocol { major, minor }),
    }
}

fn version(packet: &[u8]) -> Option<((u16, u16), &[u8])> {
    let (_length, rest) = packet.split_first_chunk::<4>()?;
    let (major, rest) = rest.split_first_chunk::<2>()?;
    let (minor, body) = rest.split_first_chunk::<2>()?;
    Some(((u16::from_be_bytes(*major), u16::from_be_bytes(*minor)), body))
}

fn cancel_request(body: &[u8]) -> Result<FirstPacket<'_>, Violation> {
    match body.split_first_chunk::<4>() {
        Some((process_id, secret)) if (MIN_SECRET..=MAX_SECRET).contains(&secret.len()) => {
            Ok(FirstPacket::CancelRequest { process_id: i32::from_be_bytes(*process_id), secret })
        }
        _ => Err(Violation::CancelKeyLength),
    }
}

/// `ProcessStartupPacket` of PostgreSQL: the last of several values of the same name counts.
fn startup(minor: u16, body: &[u8]) -> Result<StartupPacket, Violation> {
    let (mut user, mut database, mut switches, mut replication) = ("", "", "", None);
    let mut own = Vec::new();
    let mut unsupported_protocol_options = Vec::new();
    for (name, value) in pairs(body)? {
        match name {
            "user" => user = value,
            "database" => database = value,
            "options" => switches = value,
            "replication" => replication = wants_replication(value)?,
            _ if name.starts_with("_pq_.") => unsupported_protocol_options.push(name.to_owned()),
            _ => own.push((name.to_owned(), value.to_owned())),
        }
    }
    if user.is_empty() {
        return Err(Violation::NoUser);
    }
    Ok(StartupPacket {
        minor,
        user: user.to_owned(),
        database: if database.is_empty() { user.to_owned() } else { database.to_owned() },
        parameters: last_of_each(options::parse(switches)?.into_iter().chain(own)),
        replication,
        unsupported_protocol_options,
    })
}

/// Names and values, each ended by a NUL, up to an empty name at the very end of the packet.
fn pairs(mut body: &[u8]) -> Result<Vec<(&str, &str)>, Violation> {
    let mut pairs = Vec::new();
    loop {
        let name = text(&mut body)?;
        if name.is_empty() {
            return if body.is_empty() { Ok(pairs) } else { Err(Violation::Layout) };
        }
        pairs.push((name, text(&mut body)?));
    }
}

fn text<'a>(body: &mut &'a [u8]) -> Result<&'a str, Violation> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(Violation::Layout)?;
    let (text, rest) = body.split_at(end);
    *body = rest.get(1..).unwrap_or_default();
    std::str::from_utf8(text).map_err(|_| Violation::NotUtf8)
}

/// The value if it is a true boolean or `database`. PostgreSQL's booleans can be shortened (`parse_bool`).
fn wants_replication(value: &str) -> Result<Option<String>, Violation> {
    let lower = value.to_ascii_lowercase();
    let short_for = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if value == "database" || short_for("true", 1) || short_for("yes", 1) || lower == "on" || value == "1" {
        return Ok(Some(value.to_owned()));
    }
    if short_for("false", 1) || short_for("no", 1) || short_for("off", 2) || value == "0" {
        return Ok(None);
    }
    Err(Violation::Replication(value.to_owned()))
}

/// Names that differ in case alone are one to PostgreSQL. A map, because a packet has room for thousands of names.
fn last_of_each(settings: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = Vec::new();
    let mut places = BTreeMap::new();
    for (name, value) in settings {
        let place = *places.entry(name.to_ascii_lowercase()).or_insert(kept.len());
        match kept.get_mut(place) {
            Some(earlier) => earlier.1 = value,
            None => kept.push((name, value)),
        }
    }
    kept
}
