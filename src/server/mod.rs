//! Connections to PostgreSQL: dialling, login, replay of parameters, cancel, recovery.

mod params;

pub use params::{Credentials, ServerTls, TlsVerify, UpstreamParams};
