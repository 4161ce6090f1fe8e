//! Sockets: addresses, listeners, streams (plain, Unix, TLS) and their options.

mod address;

pub use address::{ListenAddress, UpstreamAddress};
