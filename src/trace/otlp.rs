//! Records as spans of OTLP, with the names of OpenTelemetry's conventions for database calls.
//!
//! The span of a transaction is of the kind CLIENT: the conventions have that kind for a call to a database and no other, and
//! this one is the proxy's call to PostgreSQL, within the caller's call to the proxy.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};

use super::record::{Outcome, Record, Subject};
use crate::proto::sql::redacted;

/// The flag of W3C Trace Context: the span is recorded.
const SAMPLED: u32 = 1;
/// What a transaction is called among the operations of a database.
const OPERATION: &str = "transaction";

/// Makes spans of records.
#[derive(Debug)]
pub(super) struct Spans {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Spans {
    pub(super) fn new(service_name: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut attributes = Attributes::default();
        attributes.text("service.name", service_name);
        attributes.text("service.version", version);
        attributes.number("process.pid", i64::from(std::process::id()));
        Self {
            resource: Resource { attributes: attributes.0, ..Resource::default() },
            scope: InstrumentationScope {
                name: "pgcorral".to_owned(),
                version: version.to_owned(),
                ..InstrumentationScope::default()
            },
        }
    }

    /// A request with these records.
    pub(super) fn request(&self, records: &[Record]) -> ExportTraceServiceRequest {
        let spans = records.iter().flat_map(|record| [Some(transaction(record)), wait(record)]).flatten();
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(self.scope.clone()),
                    spans: spans.collect(),
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        }
    }
}

fn transaction(record: &Record) -> Span {
    let remote = SpanFlags::ContextHasIsRemoteMask as u32 | SpanFlags::ContextIsRemoteMask as u32;
    let local = SpanFlags::ContextHasIsRemoteMask as u32;
    Span {
        trace_id: record.trace_id.to_vec(),
        span_id: record.span_id.to_vec(),
        parent_span_id: record.parent.map(Vec::from).unwrap_or_default(),
        flags: SAMPLED | if record.parent.is_some() { remote } else { local },
        name: format!("{OPERATION} {}", record.subject.database),
        kind: SpanKind::Client as i32,
        start_time_unix_nano: nanoseconds(record.began),
        end_time_unix_nano: nanoseconds(record.began + record.took),
        attributes: attributes(record),
        status: status(&record.outcome),
        ..Span::default()
    }
}

/// The time in the queue.
fn wait(record: &Record) -> Option<Span> {
    let (span_id, waited) = record.wait?;
    let mut attributes = Attributes::default();
    attributes.text("pgcorral.function", &record.subject.function);
    // What happened after the wait is not its fault.
    let has_ended_it = record.subject.server_pid.is_none();
    Some(Span {
        trace_id: record.trace_id.to_vec(),
        span_id: span_id.to_vec(),
        parent_span_id: record.span_id.to_vec(),
        flags: SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32,
        name: "pool.wait".to_owned(),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: nanoseconds(record.began),
        end_time_unix_nano: nanoseconds(record.began + waited),
        attributes: attributes.0,
        status: if has_ended_it { status(&record.outcome) } else { None },
        ..Span::default()
    })
}

fn attributes(record: &Record) -> Vec<KeyValue> {
    let Record { subject, outcome, wait, .. } = record;
    let mut attributes = Attributes::default();
    attributes.text("db.system.name", "postgresql");
    attributes.text("db.namespace", &subject.database);
    attributes.text("db.operation.name", OPERATION);
    whose(subject, &mut attributes);
    if let Some(sqlstate) = outcome.sqlstate {
        attributes.text("db.response.status_code", &String::from_utf8_lossy(&sqlstate));
    }
    if outcome.is_error() {
        attributes.text("error.type", &error_type(outcome));
    }
    match outcome.reason {
        Some(reason) if outcome.is_shed => attributes.text("pgcorral.shed_reason", reason),
        Some(reason) => attributes.text("pgcorral.end_reason", reason),
        None => {}
    }
    let waited = wait.map_or(Duration::ZERO, |(_, waited)| waited);
    attributes.number("pgcorral.wait_ms", i64::try_from(waited.as_millis()).unwrap_or(i64::MAX));
    if let Some(text) = &record.text {
        attributes.text("db.query.text", &redacted(text));
    }
    attributes.0
}

fn whose(subject: &Subject, attributes: &mut Attributes) {
    attributes.text("server.address", &subject.server_address);
    if let Some(port) = subject.server_port {
        attributes.number("server.port", i64::from(port));
    }
    if let Some(address) = subject.client_address {
        attributes.text("client.address", &address.to_string());
    }
    attributes.text("pgcorral.function", &subject.function);
    // The conventions have no name for it any more (`db.user` is gone).
    attributes.text("pgcorral.user", &subject.user);
    attributes.number("pgcorral.client", i64::from(subject.client));
    if let Some(pid) = subject.server_pid {
        attributes.number("pgcorral.server_pid", i64::from(pid));
    }
    if !subject.pins.is_empty() {
        attributes.texts("pgcorral.pin", &subject.pins);
    }
}

/// PostgreSQL's word for it, and the proxy's own where that is the proxy's doing.
fn error_type(outcome: &Outcome) -> String {
    let sqlstate = outcome.sqlstate.map(|sqlstate| String::from_utf8_lossy(&sqlstate).into_owned());
    outcome.reason.map(str::to_owned).or(sqlstate).unwrap_or_default()
}

fn status(outcome: &Outcome) -> Option<Status> {
    outcome.is_error().then(|| Status { message: error_type(outcome), code: StatusCode::Error as i32 })
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn push(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    fn text(&mut self, key: &str, text: &str) {
        self.push(key, Value::StringValue(text.to_owned()));
    }

    fn number(&mut self, key: &str, number: i64) {
        self.push(key, Value::IntValue(number));
    }

    fn texts(&mut self, key: &str, texts: &[&str]) {
        let value = |text: &&str| AnyValue { value: Some(Value::StringValue((*text).to_owned())) };
        self.push(key, Value::ArrayValue(ArrayValue { values: texts.iter().map(value).collect() }));
    }
}
