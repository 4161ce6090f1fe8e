//! OpenTelemetry traces: what is recorded of a client's transactions, and how it gets to a collector.
//!
//! A client at work keeps a [`Transaction`], plain memory that is used again. Whether it is recorded is decided at its end
//! ([`crate::proto::trace`]), and only then something is allocated: a [`Record`], which goes into a queue with a bound. One
//! task, the [`Exporter`], takes records out in batches, makes spans of them (`otlp`) and sends them (`transport`). Nobody
//! waits for it: what does not fit into the queue is dropped and counted.

mod exporter;
mod otlp;
mod params;
mod record;
mod tracer;
mod transaction;
mod transport;

pub use exporter::Exporter;
pub use params::{Endpoint, TraceParams, TraceProtocol};
pub use record::{Outcome, Record, Subject};
pub use tracer::Tracer;
pub use transaction::{Ending, TraceId, Transaction};
pub use transport::TransportError;
