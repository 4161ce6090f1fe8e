//! Server connections shared by clients: the gate's shell around deadpool's store.

mod params;

pub use params::{PoolMode, PoolParams};
