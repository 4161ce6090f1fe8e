//! One task per client: accept, handshake, session, relay, refusals.

mod params;

pub use crate::proto::{AuthMethod, ClientTlsMode, UserParams, UserSecret};
pub use params::{ClientParams, ClientTls, TlsIdentity};
