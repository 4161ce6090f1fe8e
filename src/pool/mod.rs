//! Server connections shared by clients: the shell around [`crate::guard`] and deadpool's store.
//!
//! ```text
//! client ── checkout ──► Books (Gate + waiting clients, one lock per upstream) ── idle ──► Store (deadpool)
//!    ▲                        │ dial                                                          ▲
//!    └──── hand over ─────────┴──────────► Dialler (a task) ── arrives ───────────────────────┘
//! ```
//! The gate alone decides; a connection is always in a store, in a [`Lease`], being dialled or being closed, and the gate's
//! books count it in exactly that place.

mod adaptive;
mod books;
mod checkout;
mod greeting;
mod lease;
mod params;
mod pins;
mod registry;
mod settings;
mod stays;
mod store;
mod upstream;
mod waiting;

pub use adaptive::{Adaptive, AdaptiveLimit};
pub use books::Refused;
pub use checkout::{Checkout, Pool};
pub use greeting::{Greeting, Terms};
pub use lease::Lease;
pub use params::{Abandoned, PinParams, PoolMode, PoolParams, Reset, SessionParams, StatementParams};
pub use pins::{PinSlot, Pinned};
pub use registry::{Database, Pools};
pub use settings::{LiveBound, LiveDuration, Settings};
pub use stays::{Stay, Stays};
pub use upstream::Upstream;
pub use waiting::{WaitCanceller, WaitEnd, Waiting};
