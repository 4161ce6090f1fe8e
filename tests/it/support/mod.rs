//! What the tests stand on: a real PostgreSQL, the proxy as a process, a raw client, and conversations as text.

pub mod browser;
pub mod certificate;
pub mod collector;
pub mod decode;
pub mod ground;
pub mod held;
pub mod proxy;
pub mod relay;
pub mod requests;
pub mod script;
pub mod tally;
pub mod text;
pub mod transcript;
pub mod verifier;
pub mod wire;
