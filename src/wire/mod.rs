//! Bytes to frames: the length-prefixed messages of PostgreSQL's protocol 3 (manual, chapter "Message Formats").
//!
//! Pure, and it looks at headers only: who calls it decides whether a body is wanted whole or just passes through.
//! A length that a peer claims is never trusted: it is checked against the limit of its kind before anything is done
//! with it, and nothing is allocated for it.

mod frame;
mod kind;
mod stream;

pub use frame::{Header, Violation, header};
pub use kind::{Side, tag};
pub use stream::{Frame, FrameStream, Next};
