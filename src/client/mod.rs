//! One task per client: accept, handshake, session, relay, refusals.

mod params;

pub use params::{AuthMethod, ClientParams, ClientTls, ClientTlsMode, TlsIdentity, UserParams, UserSecret};
