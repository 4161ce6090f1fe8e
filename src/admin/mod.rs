//! The admin address: metrics and health over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `GET /` | 200, the live page: the status, as long as it is looked at |
//! | `GET /metrics` | 200, Prometheus' text format; `docs/metrics.md` |
//! | `GET /status` | 200, everything that the live page shows, as JSON |
//! | `GET /events` | 200, the same once a second, as server-sent events |
//! | `GET /healthz` | 200 as long as the process runs: whether to restart it |
//! | `GET /readyz` | 200, or 503 and the reason: whether to send it clients |
//!
//! It is bound to loopback by default, and never answers with anything secret. With a token, those paths that tell names
//! and numbers ask for it (`Authorization: Bearer`, RFC 6750): `/metrics`, `/status` and `/events`. The admin address cannot
//! be used to take memory or files from the clients: `listener.rs` bounds its connections and their time.

mod events;
mod listener;
mod page;
mod token;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;

use self::listener::{Bounded, Limits, Streams};
use crate::obs::{Metrics, Readiness, Sources, Warnings};
use crate::secret::Secret;

const EXISTS: &str = "there is /, /metrics, /status, /events, /healthz and /readyz\n";

/// Serves the admin address until `shutdown`, then finishes the requests under way (for at most 10 seconds).
///
/// End it last in a drain: until then `/readyz` tells load balancers to go elsewhere.
///
/// # Errors
/// None at present: failing accepts are logged and tried again after a second.
pub async fn serve(
    listener: TcpListener,
    shown: Shown,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_within(Limits::default(), listener, shown, shutdown).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    shown: Shown,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Bounded::new(listener, limits);
    let service = router(shown).into_make_service_with_connect_info::<Streams>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown).await
}

/// Where the admin address is, and who may see what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminParams {
    /// Where it listens.
    pub address: SocketAddr,
    /// Nobody has asked for it.
    pub is_default: bool,
    /// What has to be known to see metrics and status. None: nothing.
    pub token: Option<Secret>,
}

/// What the admin address shows, and to whom.
#[derive(Clone)]
pub struct Shown {
    /// What was counted.
    pub metrics: Metrics,
    /// How everything stands.
    pub sources: Arc<dyn Sources>,
    /// The log's latest warnings.
    pub warnings: Warnings,
    /// What has to be known to see them. None: nothing.
    pub token: Option<Secret>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("token", &self.token).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Admin {
    shown: Shown,
    live: Arc<events::Live>,
}

fn router(shown: Shown) -> Router {
    let admin = Admin { shown, live: Arc::new(events::Live::new()) };
    let guarded = Router::new()
        .route("/metrics", get(scrape))
        .route("/status", get(status))
        .route("/events", get(events::events))
        .layer(from_fn_with_state(admin.clone(), token::check));
    guarded
        .route("/", get(page::page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(async || (StatusCode::NOT_FOUND, EXISTS))
        .layer(map_response(close_after))
        .with_state(admin)
}

async fn scrape(State(admin): State<Admin>) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    let Shown { metrics, sources, .. } = admin.shown;
    let text = off_the_io_thread(move || metrics.render(sources.as_ref())).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

async fn status(State(admin): State<Admin>) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    Ok(([(CONTENT_TYPE, "application/json")], told(admin.shown, true).await?))
}

/// The status as JSON.
async fn told(shown: Shown, with_history: bool) -> Result<String, StatusCode> {
    let Shown { metrics, sources, warnings, .. } = shown;
    off_the_io_thread(move || metrics.status(sources.as_ref(), &warnings, with_history)).await
}

/// What takes milliseconds with many pools: queries must not wait for that.
async fn off_the_io_thread<E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<String, E> + Send + 'static,
) -> Result<String, StatusCode> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &dyn std::error::Error) -> StatusCode {
    tracing::error!(%error, "metrics could not be rendered");
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.shown.sources.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

/// One request per connection: a scraper comes every few seconds, and a connection kept open for it is one more file
/// that has to be bounded and timed out.
async fn close_after(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::obs::PoolGauges;

    #[derive(Default)]
    struct Fake {
        draining: AtomicBool,
        broken: bool,
        token: Option<&'static str>,
    }

    impl Sources for Fake {
        fn pools(&self) -> Vec<PoolGauges> {
            assert!(!self.broken, "this source is broken on purpose");
            vec![PoolGauges {
                database: "app".into(),
                user: "web".into(),
                limit: 20,
                ..PoolGauges::default()
            }]
        }

        fn upstreams(&self) -> Vec<crate::obs::UpstreamGauges> {
            Vec::new()
        }

        fn clients(&self) -> Vec<(&'static str, usize)> {
            vec![("idle", 1000)]
        }

        fn kept(&self) -> crate::obs::Kept {
            crate::obs::Kept::default()
        }

        fn is_draining(&self) -> bool {
            self.draining.load(Ordering::Relaxed)
        }

        fn certificate_expiry(&self) -> Option<f64> {
            None
        }

        fn readiness(&self) -> Readiness {
            if self.draining.load(Ordering::Relaxed) {
                Readiness::NotReady("draining".into())
            } else {
                Readiness::Ready
            }
        }
    }

    struct Served {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<io::Result<()>>,
    }

    impl Served {
        async fn start(limits: Limits, sources: Arc<Fake>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel::<()>();
            let shutdown = async {
                let _ = stopped.await;
            };
            let metrics = Metrics::new().unwrap();
            metrics.pool("app", "web").transaction();
            let token = sources.token.map(Secret::new);
            let shown = Shown { metrics, sources, warnings: Warnings::default(), token };
            let task = tokio::spawn(serve_within(limits, listener, shown, shutdown));
            Self { address, stop, task }
        }

        /// The whole answer, read until the server closes: it must close, or the test hangs.
        async fn send(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }

        async fn get(&self, path: &str) -> (String, String) {
            let answer = self.send(&format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n")).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.to_owned(), body.to_owned())
        }
    }

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_text() {
        let served = Served::start(Limits::default(), Arc::default()).await;
        let (head, body) = served.get("/metrics").await;
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        for line in [
            "pgcorral_transactions_total{database=\"app\",user=\"web\"} 1",
            "pgcorral_pool_limit{database=\"app\",user=\"web\"} 20",
            "pgcorral_clients{state=\"idle\"} 1000",
            "pgcorral_ready 1",
        ] {
            assert!(body.lines().any(|found| found == line), "{line} is not in {body}");
        }
    }

    #[tokio::test]
    async fn readiness_follows_the_app_and_health_does_not() {
        let sources = Arc::new(Fake::default());
        let served = Served::start(Limits::default(), Arc::clone(&sources)).await;
        assert!(served.get("/readyz").await.0.starts_with("HTTP/1.1 200 "));
        sources.draining.store(true, Ordering::Relaxed);
        let (head, body) = served.get("/readyz").await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(body, "not ready: draining\n");
        assert!(served.get("/healthz").await.0.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn other_paths_say_what_exists_and_other_methods_are_refused() {
        let served = Served::start(Limits::default(), Arc::default()).await;
        for path in ["/page", "/metrics/x", "/%00", "/../etc/passwd"] {
            let (head, body) = served.get(path).await;
            assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
            assert_eq!(body, EXISTS);
        }
        let answer = served.send("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }

    #[tokio::test]
    async fn a_source_that_panics_is_a_500_and_the_next_request_is_served() {
        let served =
            Served::start(Limits::default(), Arc::new(Fake { broken: true, ..Fake::default() })).await;
        assert!(served.get("/metrics").await.0.starts_with("HTTP/1.1 500 "));
        assert!(served.get("/healthz").await.0.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_or_not_enough_is_cut_off() {
        let limits = Limits { deadline: Duration::from_millis(50), ..Limits::default() };
        let served = Served::start(limits, Arc::default()).await;
        // Each ends only because the server closes.
        assert_eq!(served.send("").await, "");
        assert_eq!(served.send("GET /metrics HTTP/1.1\r\nHost: ").await, "");
    }

    #[tokio::test]
    async fn status_is_json_with_all_that_a_page_needs() {
        let served = Served::start(Limits::default(), Arc::default()).await;
        let (head, body) = served.get("/status").await;
        assert!(head.contains("content-type: application/json"), "{head}");
        let status: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status["pools"][0]["limit"], 20);
        assert_eq!(status["clients"]["idle"], 1000);
        assert_eq!(status["history"]["points"], serde_json::json!([]));
    }

    #[tokio::test]
    async fn events_go_on_beyond_the_deadline_for_as_long_as_they_are_taken() {
        let limits = Limits { deadline: Duration::from_millis(1500), ..Limits::default() };
        let served = Served::start(limits, Arc::default()).await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: admin\r\n\r\n").await.unwrap();
        let (mut seen, mut buffer) = (String::new(), [0; 4096]);
        while seen.matches("data: {").count() < 4 {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "closed after {seen}");
            seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        assert!(seen.contains("content-type: text/event-stream") && !seen.contains("\"history\""), "{seen}");
    }

    #[tokio::test]
    async fn there_are_only_so_many_streams() {
        let served = Served::start(Limits::default(), Arc::default()).await;
        let mut streams = vec![];
        for _ in 0..events::MOST_STREAMS {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            stream.write_all(b"GET /events HTTP/1.1\r\nHost: admin\r\n\r\n").await.unwrap();
            let mut start = [0; 15];
            stream.read_exact(&mut start).await.unwrap();
            assert_eq!(&start, b"HTTP/1.1 200 OK");
            streams.push(stream);
        }
        assert!(served.get("/events").await.0.starts_with("HTTP/1.1 503 "));
        assert!(served.get("/healthz").await.0.starts_with("HTTP/1.1 200 "), "others are served");
    }

    #[tokio::test]
    async fn with_a_token_only_who_knows_it_sees_numbers() {
        let sources = Arc::new(Fake { token: Some("hunter2"), ..Fake::default() });
        let served = Served::start(Limits::default(), sources).await;
        for path in ["/metrics", "/status", "/events"] {
            for header in ["", "Authorization: Bearer hunter\r\n", "Authorization: Basic hunter2\r\n"] {
                let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n{header}\r\n");
                let answer = served.send(&request).await;
                assert!(answer.starts_with("HTTP/1.1 401 "), "{path} {header}: {answer}");
                assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
            }
        }
        let right = "Host: admin\r\nAuthorization: bearer hunter2\r\n\r\n";
        assert!(served.send(&format!("GET /metrics HTTP/1.1\r\n{right}")).await.starts_with("HTTP/1.1 200 "));
        for path in ["/healthz", "/readyz"] {
            assert!(served.get(path).await.0.starts_with("HTTP/1.1 200 "), "{path}");
        }
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let served = Served::start(Limits::default(), Arc::default()).await;
        let answer = served.send("\u{0}\u{0}\u{0}\u{8}\u{4}\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }

    #[tokio::test]
    async fn serve_ends_on_shutdown() {
        let served = Served::start(Limits::default(), Arc::default()).await;
        served.get("/healthz").await;
        served.stop.send(()).unwrap();
        served.task.await.unwrap().unwrap();
    }
}
