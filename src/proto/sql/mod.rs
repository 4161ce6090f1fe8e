//! As much of SQL as the proxy looks at: which statements may leave something behind in a session.
//!
//! Nothing here has to be exact. A statement that is suspected wrongly costs one question to PostgreSQL when its
//! transaction is over; what changes a session without one of the words that are looked for is in
//! `docs/session-state.md`.

mod effects;
mod lexer;
mod redacted;

pub use effects::{Effects, LongText, Verb, effects};
pub(super) use lexer::block_comment;
pub use lexer::{is_transaction_begin, is_transaction_end};
pub use redacted::redacted;
