//! What an operator sees: the table of metrics, the handles that count, the text of a scrape, and the log.
//!
//! Everybody who counts something gets a handle from [`Metrics`], with its labels resolved once; what can be read
//! when somebody asks (queue depth, clients by state) is not counted but read through [`Sources`] at the scrape.
//! Nothing here is global, and nothing here decides anything.

mod clients;
mod labels;
pub mod logging;
mod metrics;
mod monitor;
mod pool;
mod process;
pub mod reason;
mod recent;
mod sources;
mod status;
mod summary;
pub mod table;
mod warnings;

pub use clients::{ClientMetrics, Handshake, LimitMetrics};
pub use labels::{
    CancelResult, DestroyReason, DialResult, ErrorClass, LabelValue, LoginPhase, LoginResult, Phase, Prepare,
    Refusal, ReloadResult, Shed, SpanResult, Timeout, WaitOutcome,
};
pub use metrics::{Metrics, SpanMetrics};
pub use monitor::TICK;
pub use pool::PoolMetrics;
pub use reason::Reason;
pub use sources::{FunctionGauges, Kept, PoolGauges, Readiness, Sources, UpstreamGauges};
pub use summary::{Line, Summary, SummaryLog};
pub use warnings::{Warning, Warnings};
