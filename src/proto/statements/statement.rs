//! One statement, whoever prepares it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::parts::{self, ParseParts};
use crate::proto::parameters::Parameters;
use crate::proto::sql::{Effects, is_transaction_end};

/// What the names begin with under which the proxy prepares statements.
pub const SERVER_NAME_PREFIX: &[u8] = b"pgc_";

/// Room for such a name.
pub type NameBuffer = [u8; 24];

/// A name that may be one of a proxy's, if only of another one's.
#[inline]
pub fn is_server_name(name: &[u8]) -> bool {
    let id = name.strip_prefix(SERVER_NAME_PREFIX);
    id.is_some_and(|id| !id.is_empty() && id.iter().all(u8::is_ascii_digit))
}

/// A text with the types of its parameters.
#[derive(Debug)]
pub struct Statement {
    /// The part of its server name behind the prefix; never used twice, and hardly by another proxy.
    pub id: u64,
    /// As it is prepared.
    text: Box<[u8]>,
    /// The part of the text by which it is known: without trace comments.
    key: Range<usize>,
    /// Number and OIDs of the types that were given with it, as in a Parse message.
    types: Box<[u8]>,
    /// The settings that it is prepared under: the same text may mean something else.
    reading: Reading,
    /// What it may leave behind in a session.
    pub effects: Effects,
    /// It ends a transaction, and is let through in a failed one.
    pub ends_transaction: bool,
    /// Goes up when it has to be prepared anew everywhere.
    generation: AtomicU32,
    /// Bytes of all statements that are alive.
    bytes: Arc<AtomicUsize>,
}

/// Under which settings, of those that decide how a text is read, a statement is prepared.
#[derive(Debug)]
pub(super) enum Reading {
    /// These are its clients' own; None: they have none of their own.
    Under(Option<Box<str>>),
    /// One client alone has it, and prepares it under whatever it has set.
    Alone,
}

impl Statement {
    pub(super) fn new(
        id: u64,
        (text, key): (Box<[u8]>, Range<usize>),
        (types, reading): (Box<[u8]>, Reading),
        effects: Effects,
        bytes: Arc<AtomicUsize>,
    ) -> Self {
        let statement = Self {
            id,
            ends_transaction: is_transaction_end(&text),
            text,
            key,
            types,
            reading,
            effects,
            generation: AtomicU32::new(0),
            bytes,
        };
        statement.bytes.fetch_add(statement.size(), Ordering::Relaxed);
        statement
    }

    /// Whether it is known by this part of its text, with these types given, under this setting.
    #[inline]
    pub(super) fn is(&self, key: &[u8], types: &[u8], settings: Option<&str>) -> bool {
        self.text.get(self.key.clone()) == Some(key)
            && *self.types == *types
            && matches!(&self.reading, Reading::Under(under) if under.as_deref() == settings)
    }

    /// One client alone has it.
    pub fn is_alone(&self) -> bool {
        matches!(self.reading, Reading::Alone)
    }

    /// Whether a client with these settings may prepare it: to all others who have it it would mean the same.
    pub fn is_read_under(&self, settings: &Parameters) -> bool {
        match &self.reading {
            Reading::Under(under) => settings.reads_as(under.as_deref()),
            Reading::Alone => true,
        }
    }

    /// Its text and types, as a Parse message has them.
    pub fn as_parse(&self) -> ParseParts<'_> {
        ParseParts { name: b"", text: &self.text, types: &self.types }
    }

    /// Bytes that it takes, roughly.
    pub(super) fn size(&self) -> usize {
        let settings = match &self.reading {
            Reading::Under(Some(settings)) => settings.len(),
            Reading::Under(None) | Reading::Alone => 0,
        };
        let names: usize = self.effects.names.iter().map(|name| size_of::<String>() + name.len()).sum();
        size_of::<Self>() + self.text.len() + self.types.len() + settings + names
    }

    /// Which preparation of it is good.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What is prepared of it is no good any more: something that it depends on has changed.
    pub fn outdate(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Its name on every server connection.
    pub fn server_name(&self, out: &mut Vec<u8>) {
        server_name(self.id, out);
    }

    /// Its name on every server connection, written into `buffer`.
    #[inline]
    pub fn short_name<'b>(&self, buffer: &'b mut NameBuffer) -> &'b [u8] {
        let at = write_server_name(self.id, buffer);
        buffer.get(at..).unwrap_or_default()
    }

    /// Its Parse message under its server name.
    pub fn parse(&self, out: &mut Vec<u8>) {
        parts::parse(out, self.short_name(&mut NameBuffer::default()), &self.text, &self.types);
    }

    /// Its text, for a Parse under another name.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Its types, for a Parse under another name.
    pub fn types(&self) -> &[u8] {
        &self.types
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.size(), Ordering::Relaxed);
    }
}

/// The name under which the statement of this id is prepared.
pub(super) fn server_name(id: u64, out: &mut Vec<u8>) {
    let mut buffer = NameBuffer::default();
    let at = write_server_name(id, &mut buffer);
    out.extend_from_slice(buffer.get(at..).unwrap_or_default());
}

/// Writes the name to the end of the buffer; where it begins.
fn write_server_name(id: u64, buffer: &mut NameBuffer) -> usize {
    let (mut at, mut rest) = (buffer.len(), id);
    let mut push = |at: &mut usize, byte: u8| {
        *at -= 1;
        if let Some(place) = buffer.get_mut(*at) {
            *place = byte;
        }
    };
    loop {
        push(&mut at, b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // Twenty digits at most.
    SERVER_NAME_PREFIX.iter().rev().for_each(|byte| push(&mut at, *byte));
    at
}
