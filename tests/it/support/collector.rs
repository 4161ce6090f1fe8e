//! A collector of traces: what OpenTelemetry's receives, over gRPC and over HTTP, from the published protobuf.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;

use super::ground::eventually;

/// What a collector does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Takes it, but for one span of each request.
    TakesMost,
    /// Says that it is overloaded.
    IsBusy,
    /// Says that the request is wrong.
    Refuses,
    /// Never answers.
    Hangs,
}

/// A collector with a gRPC and an HTTP address. Dropped, it is gone.
pub struct Collector {
    /// Where it speaks gRPC.
    pub grpc: SocketAddr,
    /// Where it speaks HTTP.
    pub http: SocketAddr,
    state: Arc<State>,
    _runtime: Runtime,
}

struct State {
    manner: Mutex<Manner>,
    requests: Mutex<Vec<ExportTraceServiceRequest>>,
    /// The headers of the last request.
    headers: Mutex<BTreeMap<String, String>>,
}

impl Collector {
    /// Starts one.
    pub fn start(manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let state = Arc::new(State {
            manner: Mutex::new(manner),
            requests: Mutex::default(),
            headers: Mutex::default(),
        });
        let (grpc, http) = runtime.block_on(async {
            let [grpc, http] = [bound().await, bound().await];
            let addresses = (grpc.local_addr().expect("bound"), http.local_addr().expect("bound"));
            let service = TraceServiceServer::new(Grpc(Arc::clone(&state)));
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(grpc)));
            let taking = Arc::clone(&state);
            let take = move |headers: HeaderMap, body: Bytes| posted(Arc::clone(&taking), headers, body);
            let router = Router::new().route("/v1/traces", post(take));
            tokio::spawn(async move { axum::serve(http, router).await });
            addresses
        });
        Self { grpc, http, state, _runtime: runtime }
    }

    /// It behaves like this from now on.
    pub fn set(&self, manner: Manner) {
        *self.state.manner.lock().expect("no panic") = manner;
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self.state.requests.lock().expect("no panic");
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Those of transactions. On a busy machine any of them may have had to wait, and has another span for that.
    pub fn transactions(&self) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.kind == SpanKind::Client as i32).collect()
    }

    /// Those of transactions, once there are as many.
    pub fn wait_for_transactions(&self, transactions: usize) -> Vec<Span> {
        eventually("the transactions arrive", || self.transactions().len() >= transactions);
        self.transactions()
    }

    /// All spans, once there are as many.
    pub fn wait_for(&self, spans: usize) -> Vec<Span> {
        eventually("the spans arrive", || self.spans().len() >= spans);
        self.spans()
    }

    /// What is said of the program that sends.
    pub fn resource(&self) -> BTreeMap<String, String> {
        let requests = self.state.requests.lock().expect("no panic");
        let resource = requests.last().and_then(|request| request.resource_spans.first());
        attributes(&resource.and_then(|spans| spans.resource.clone()).expect("a resource").attributes)
    }

    /// A header of the last request.
    pub fn header(&self, name: &str) -> Option<String> {
        self.state.headers.lock().expect("no panic").get(name).cloned()
    }
}

async fn bound() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

impl State {
    fn take(&self, request: ExportTraceServiceRequest, headers: &HeaderMap) -> ExportTraceServiceResponse {
        let text = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        *self.headers.lock().expect("no panic") = headers.iter().map(text).collect();
        let partial_success = (self.manner() == Manner::TakesMost)
            .then(|| ExportTracePartialSuccess { rejected_spans: 1, error_message: "one too many".into() });
        self.requests.lock().expect("no panic").push(request);
        ExportTraceServiceResponse { partial_success }
    }

    fn manner(&self) -> Manner {
        *self.manner.lock().expect("no panic")
    }
}

struct Grpc(Arc<State>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        match self.0.manner() {
            Manner::Takes | Manner::TakesMost => {}
            Manner::IsBusy => return Err(tonic::Status::unavailable("busy")),
            Manner::Refuses => return Err(tonic::Status::invalid_argument("wrong")),
            Manner::Hangs => std::future::pending().await,
        }
        let (metadata, _, request) = request.into_parts();
        Ok(tonic::Response::new(self.0.take(request, &metadata.into_headers())))
    }
}

async fn posted(state: Arc<State>, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    match state.manner() {
        Manner::Takes | Manner::TakesMost => {}
        Manner::IsBusy => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Manner::Refuses => return StatusCode::BAD_REQUEST.into_response(),
        Manner::Hangs => tokio::time::sleep(Duration::from_secs(3600)).await,
    }
    let is_protobuf = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/x-protobuf");
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) if is_protobuf => {
            let answer = state.take(request, &headers).encode_to_vec();
            ([(header::CONTENT_TYPE, "application/x-protobuf")], answer).into_response()
        }
        _ => StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
    }
}

/// Attributes as text.
pub fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text =
        |pair: &KeyValue| (pair.key.clone(), shown(pair.value.as_ref().and_then(|any| any.value.as_ref())));
    pairs.iter().map(text).collect()
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(array)) => {
            let shown: Vec<_> = array.values.iter().map(|any| shown(any.value.as_ref())).collect();
            shown.join(",")
        }
        other => format!("{other:?}"),
    }
}

/// The id as it is written.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
