//! OTLP to a collector, over gRPC or HTTP. One client of hyper for both; gRPC's frames and status are tonic's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use rustls::{ClientConfig, RootCertStore};
use tonic::Code;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic_prost::ProstCodec;

use super::params::{Endpoint, TraceParams, TraceProtocol};

/// What OTLP calls the method over gRPC.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Most bytes of an answer that are read.
const LONGEST_ANSWER: usize = 64 * 1024;
/// What collectors see in their logs.
const AGENT: &str = concat!("pgcorral/", env!("CARGO_PKG_VERSION"));

type Connector = HttpsConnector<HttpConnector>;

/// Why a collector cannot be spoken to.
#[derive(Debug)]
pub enum TransportError {
    /// The certificates of the system, by which it would be known.
    Roots(std::io::Error),
    /// TLS itself.
    Tls(rustls::Error),
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(error) => {
                write!(f, "traces: the system's certificates, for the collector's, cannot be read: {error}")
            }
            Self::Tls(error) => write!(f, "traces: TLS: {error}"),
        }
    }
}

impl std::error::Error for TransportError {}

/// A batch was not taken.
#[derive(Debug)]
pub(super) struct Failure {
    /// The same may be taken later.
    pub(super) may_pass: bool,
    /// For the log.
    pub(super) why: String,
}

impl Failure {
    fn new(may_pass: bool, why: impl Into<String>) -> Self {
        Self { may_pass, why: why.into() }
    }
}

/// The way to a collector.
pub(super) struct Transport {
    wire: Wire,
    headers: HeaderMap,
    timeout: Duration,
}

enum Wire {
    Grpc(Grpc<Client<Connector, tonic::body::Body>>),
    Http(Client<Connector, Full<Bytes>>, Uri),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may be secret.
        f.debug_struct("Transport").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Transport {
    pub(super) fn new(params: &TraceParams) -> Result<Self, TransportError> {
        let tls = tls(&params.endpoint)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let mut builder = Client::builder(TokioExecutor::new());
        let wire = match params.protocol {
            TraceProtocol::Grpc => {
                let client = builder.http2_only(true).build(connector.enable_http2().build());
                let origin = params.endpoint.uri().clone();
                Wire::Grpc(Grpc::with_origin(client, origin).max_decoding_message_size(LONGEST_ANSWER))
            }
            TraceProtocol::Http => {
                Wire::Http(builder.build(connector.enable_http1().build()), params.endpoint.http_uri())
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        for (name, value) in &params.headers {
            // The configuration has checked both.
            if let (Ok(name), Ok(mut value)) =
                (name.parse::<HeaderName>(), value.reveal().parse::<HeaderValue>())
            {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        Ok(Self { wire, headers, timeout: params.timeout })
    }

    /// Sends a batch; how many of its spans the collector did not want. Cancelled, it may have been sent.
    pub(super) async fn send(&mut self, batch: ExportTraceServiceRequest) -> Result<u64, Failure> {
        let headers = self.headers.clone();
        let send = async {
            match &mut self.wire {
                Wire::Grpc(client) => grpc(client, headers, batch).await,
                Wire::Http(client, uri) => post(client, uri.clone(), headers, &batch).await,
            }
        };
        let late = |_| Failure::new(true, "no answer in time");
        let answer = tokio::time::timeout(self.timeout, send).await.map_err(late)??;
        let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(refused).unwrap_or(0))
    }
}

async fn grpc(
    client: &mut Grpc<Client<Connector, tonic::body::Body>>,
    headers: HeaderMap,
    batch: ExportTraceServiceRequest,
) -> Result<ExportTraceServiceResponse, Failure> {
    client.ready().await.map_err(|error| Failure::new(true, error.to_string()))?;
    let mut request = tonic::Request::new(batch);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    let path = PathAndQuery::from_static(GRPC_PATH);
    match client.unary(request, path, ProstCodec::default()).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => {
            // As the OTLP specification has it ("Failures" of OTLP/gRPC).
            let may_pass = matches!(
                status.code(),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
                    // Of a connection that broke.
                    | Code::Unknown
                    | Code::Internal
            );
            let cause = std::error::Error::source(&status).map(chain);
            let cause = cause.unwrap_or_else(|| status.message().to_owned());
            Err(Failure::new(may_pass, format!("{}: {cause}", status.code())))
        }
    }
}

async fn post(
    client: &Client<Connector, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
    batch: &ExportTraceServiceRequest,
) -> Result<ExportTraceServiceResponse, Failure> {
    let mut request = Request::new(Full::new(Bytes::from(batch.encode_to_vec())));
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (Method::POST, uri, headers);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let answer = client.request(request).await.map_err(|error| Failure::new(true, chain(&error)))?;
    let status = answer.status();
    if !status.is_success() {
        // As the OTLP specification has it ("Retryable Response Codes").
        let may_pass = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ]
        .contains(&status);
        return Err(Failure::new(may_pass, status.to_string()));
    }
    let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
    let body = body.map_err(|error| Failure::new(true, error.to_string()))?.to_bytes();
    // It has taken the batch, whatever else it says.
    Ok(ExportTraceServiceResponse::decode(body).unwrap_or_default())
}

/// An error with what lies behind it: hyper's own words are `client error (Connect)`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Without TLS nobody needs the system's certificates, and an image may have none.
fn tls(endpoint: &Endpoint) -> Result<ClientConfig, TransportError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TransportError::Tls)?;
    let builder = if endpoint.is_encrypted() {
        builder.with_native_roots().map_err(TransportError::Roots)?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}
