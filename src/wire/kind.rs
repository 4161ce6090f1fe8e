//! The message types, and how long each may be.

/// Which peer sends the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A driver (PostgreSQL's *frontend*).
    Client,
    /// PostgreSQL (its *backend*).
    Server,
}

/// Type bytes, named as in the manual. Some bytes mean different things in each direction.
#[allow(missing_docs, reason = "the names are the manual's")]
pub mod tag {
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';

    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// PostgreSQL's `PQ_LARGE_MESSAGE_LIMIT` (`MaxAllocSize`, 1 GiB less one byte).
const LARGE: u32 = 0x3fff_ffff;
/// PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`.
const SMALL: u32 = 10_000;

impl Side {
    /// The longest length word that a message of this type may carry; None for a type that this side never sends.
    /// The client's limits are those of `SocketBackend()` in PostgreSQL's `postgres.c`.
    pub(super) fn limit(self, kind: u8) -> Option<u32> {
        match self {
            Self::Client => match kind {
                tag::QUERY
                | tag::BIND
                | tag::PARSE
                | tag::FUNCTION_CALL
                | tag::COPY_DATA
                | tag::COPY_FAIL => Some(LARGE),
                tag::CLOSE | tag::DESCRIBE | tag::EXECUTE | tag::FLUSH | tag::SYNC => Some(SMALL),
                tag::COPY_DONE | tag::TERMINATE | tag::PASSWORD => Some(SMALL),
                _ => None,
            },
            // A row may be larger than any message a client can send; PostgreSQL bounds it by MaxAllocSize too.
            Self::Server => kind.is_ascii_alphanumeric().then_some(LARGE),
        }
    }
}
