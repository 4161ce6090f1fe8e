//! Sockets: addresses, listeners, streams (plain, Unix, TLS) and their options.

mod address;
mod inbox;
mod outbox;
mod socket;
mod stream;
pub mod tls;

pub use address::{ListenAddress, UpstreamAddress};
pub use inbox::Inbox;
pub use outbox::Outbox;
pub use socket::{Detached, Listener, tune};
pub use stream::Stream;
