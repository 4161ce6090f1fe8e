//! `[traces]`: what is recorded, and the collector that it goes to.

use std::time::Duration;

use super::build::Context;
use super::defaults;
use super::environment::Environment;
use super::error::Origin;
use super::reader::{Read, Section};
use super::secrets;
use crate::secret::Secret;
use crate::trace::{Endpoint, TraceParams, TraceProtocol};

/// The keys of the section.
#[derive(Debug, Default)]
pub(super) struct Keys {
    endpoint: Read<Endpoint>,
    protocol: Read<TraceProtocol>,
    sample: Read<f64>,
    slow_wait: Read<Duration>,
    query_text: Read<bool>,
    service_name: Read<String>,
    timeout: Read<Duration>,
    /// Sorted by name.
    headers: Vec<Header>,
}

/// `[traces.headers.NAME]`
#[derive(Debug)]
struct Header {
    name: String,
    at: Origin,
    value: Read<Secret>,
}

pub(super) fn read(section: &mut Section<'_, '_>, environment: &dyn Environment) -> Keys {
    Keys {
        endpoint: section.parsed("endpoint", str::parse),
        protocol: section.choice("protocol", &[("grpc", TraceProtocol::Grpc), ("http", TraceProtocol::Http)]),
        sample: section.fraction_or_zero("sample"),
        slow_wait: section.duration("slow_wait"),
        query_text: section.boolean("query_text"),
        service_name: section.parsed("service_name", |name| match name {
            "" => Err("is empty".to_owned()),
            _ => Ok(name.to_owned()),
        }),
        timeout: section.duration("timeout"),
        headers: section.named("headers", |name, section| header(name, section, environment)),
    }
}

fn header(name: &str, section: &mut Section<'_, '_>, environment: &dyn Environment) -> Header {
    let is_name = name.parse::<http::HeaderName>().is_ok_and(|name| !OURS.contains(&name.as_str()));
    if !is_name {
        section.fault(section.at(), "is not the name of a header that may be set");
    }
    let value = secrets::read(section, &secrets::HEADER_VALUE, environment);
    if let Some(entry) = value.good()
        && entry.value.reveal().parse::<http::HeaderValue>().is_err()
    {
        section.fault(&entry.at, "has characters that a header must not have");
    }
    Header { name: name.to_owned(), at: section.at().clone(), value }
}

/// Headers that the protocol needs for itself.
const OURS: [&str; 7] =
    ["content-type", "content-length", "transfer-encoding", "connection", "host", "te", "grpc-timeout"];

/// None: nothing is recorded.
pub(super) fn build(context: &Context<'_>) -> Option<TraceParams> {
    let keys = &context.file.traces;
    let headers = keys.headers.iter().filter_map(|header| {
        if matches!(header.value, Read::Absent) {
            context.faults.add(&header.at, "needs a value, value_env or value_file");
        }
        Some((header.name.clone(), header.value.good()?.value.clone()))
    });
    let headers = headers.collect();
    Some(TraceParams {
        endpoint: keys.endpoint.good()?.value.clone(),
        protocol: keys.protocol.or(defaults::TRACE_PROTOCOL),
        headers,
        timeout: keys.timeout.or(defaults::TRACE_TIMEOUT),
        service_name: keys
            .service_name
            .good()
            .map_or(defaults::TRACE_SERVICE_NAME, |name| &name.value)
            .to_owned(),
        sample: keys.sample.or(defaults::TRACE_SAMPLE),
        slow_wait: keys.slow_wait.or(defaults::TRACE_SLOW_WAIT),
        query_text: keys.query_text.or(defaults::TRACE_QUERY_TEXT),
    })
}
