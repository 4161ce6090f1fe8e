//! Connections to PostgreSQL: dialling, login, replay of parameters, cancel, recovery, farewell.

mod ask;
mod cancel;
mod connection;
mod connector;
mod dial;
mod farewell;
mod params;
mod replay;
mod settle;
mod trial;

pub use ask::{Answer, columns};
pub use cancel::{CancelTarget, CancelUnderWay};
pub use connection::{Fate, Sequences, Server, query};
pub use connector::Connector;
pub use dial::{DialError, Dialler, is_out_of_files};
pub use farewell::farewell;
pub use params::{Credentials, ServerTls, TlsVerify, UpstreamParams};
pub use replay::{Replay, Used};
pub use settle::{Owed, Unsettled};
pub use trial::Trial;
