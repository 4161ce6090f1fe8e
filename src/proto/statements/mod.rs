//! Prepared statements that follow their clients from one server connection to another.
//!
//! A statement is known by its text and the types of its parameters, whatever its clients call it. The proxy knows each
//! once ([`StatementCache`]); a client's names lead to statements ([`ClientStatements`]); a server connection has some of
//! them prepared, under the proxy's own names ([`ServerStatements`]). A server that lacks one gets its Parse in front of
//! the message that needs it.
//!
//! What a client and a server connection have is changed when a message is sent, since the next one may build on it, and
//! changed back if the message turns out not to have been run (`Changes`).

mod cache;
mod changes;
mod client;
mod parts;
mod server;
mod statement;
mod trace;

pub use cache::{Found, StatementCache};
pub use changes::{Moment, Sequence};
pub use client::{ClientStatements, Known, tail};
pub use parts::{BindParts, ParseParts, close, named, parse, renamed_bind};
pub use server::{Place, ServerStatements};
pub use statement::{NameBuffer, SERVER_NAME_PREFIX, Statement, is_server_name};
pub use trace::{tag, traceparent_comment};
