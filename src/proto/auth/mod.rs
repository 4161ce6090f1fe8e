//! Proving who one is, on both sides: clients to the proxy, the proxy to PostgreSQL.
//!
//! Pure machines: messages go in, messages to send come out. Random bytes are parameters, and what takes long
//! (PBKDF2) is handed out as a [`Derivation`] for the shell to run off the I/O threads and to remember.
//! - [`ClientAuth`] checks a client against a [`ClientSecret`]; [`Mock`] stands in for users that do not exist.
//! - [`ServerAuth`] logs the proxy in to PostgreSQL.
//!
//! PostgreSQL manual, "Message Flow: Start-up" and "SASL Authentication"; RFC 5802 and RFC 7677.

mod attributes;
mod client;
mod client_secret;
mod keys;
mod md5;
mod mock;
mod refusal;
mod scram_client;
mod scram_server;
mod server;
mod verifier;

pub use client::{AwaitsKeys as ClientAwaitsKeys, ClientAuth, Step as ClientStep};
pub use client_secret::{ClientSecret, Prepared};
pub use keys::{Derivation, Keys, Proven};
pub use md5::Md5Hash;
pub use mock::Mock;
pub use refusal::{Misbehaved, Refusal, RefusalCause};
pub use server::{AwaitsKeys as ServerAwaitsKeys, Failure, ServerAuth, ServerMisbehaved, Step as ServerStep};
pub use verifier::Verifier;

/// Random bytes that one login needs, on either side: as many as PostgreSQL puts into its nonces
/// (`SCRAM_RAW_NONCE_LEN`).
pub const RANDOM_BYTES: usize = 18;

/// Iterations of PBKDF2 for verifiers made here: PostgreSQL's default (`scram_iterations`).
pub const DEFAULT_ITERATIONS: u32 = 4096;

/// Bytes of salt in verifiers made here: as many as PostgreSQL puts in.
pub const SALT_BYTES: usize = 16;

/// The only SASL mechanism spoken (RFC 7677); there is no channel binding (SCRAM-SHA-256-PLUS).
const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// Longest message of a SASL exchange accepted, in bytes, tag and length not counted (PostgreSQL's
/// `PG_MAX_SASL_MESSAGE_LENGTH`).
const MAX_SASL_MESSAGE: usize = 1024;

#[cfg(test)]
mod tests;
