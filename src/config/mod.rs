//! The configuration: files, environment and flags become the parameter types of the parts.

mod model;

pub use model::{Config, DatabaseParams, UpstreamConfig};
