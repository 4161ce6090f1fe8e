//! One task per client: accept, handshake, session, relay, refusals.
//!
//! [`accept`] takes connections and hands each to a thread; `handshake` logs it in (`terms` settles its run-time
//! parameters); `session` relays its messages, `replies` those of its server, and `ending` clears up behind it. `refusal` has
//! every word that the proxy itself says to a client.

mod accept;
mod active;
mod audit;
mod class;
mod desk;
mod door;
mod ending;
mod failed;
mod function;
mod handshake;
mod jitter;
mod limited;
mod line;
mod outgoing;
mod overdue;
mod params;
mod refusal;
mod relay;
mod replies;
mod roster;
mod session;
mod spool;
mod terms;
mod traced;
mod turns;

pub use crate::proto::{AuthMethod, ClientTlsMode, UserParams, UserSecret};
pub use accept::{Spreader, accept};
pub use door::Door;
pub use params::{ClientParams, ClientTls, TlsIdentity};
pub use roster::Roster;
pub use session::size_buffer;
