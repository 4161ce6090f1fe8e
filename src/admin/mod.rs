//! The admin address: metrics and health over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `GET /metrics` | 200, Prometheus' text format; `docs/metrics.md` |
//! | `GET /healthz` | 200 as long as the process runs: whether to restart it |
//! | `GET /readyz` | 200, or 503 and the reason: whether to send it clients |
//!
//! Nobody logs in here, so it is bound to loopback by default, and it never answers with anything secret. It cannot
//! be used to take memory or files from the clients: `listener.rs` bounds its connections and their time.

mod listener;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::obs::{Metrics, Readiness, Sources};

use self::listener::{Bounded, Limits};

const EXISTS: &str = "there is /metrics, /healthz and /readyz\n";

/// Serves the admin address until `shutdown`, then finishes the requests under way (for at most 10 seconds).
///
/// End it last in a drain: until then `/readyz` tells load balancers to go elsewhere.
///
/// # Errors
/// None at present: failing accepts are logged and tried again after a second.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    sources: Arc<dyn Sources>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_within(Limits::default(), listener, metrics, sources, shutdown).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    metrics: Metrics,
    sources: Arc<dyn Sources>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Bounded::new(listener, limits);
    axum::serve(listener, router(Admin { metrics, sources })).with_graceful_shutdown(shutdown).await
}

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    sources: Arc<dyn Sources>,
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(async || (StatusCode::NOT_FOUND, EXISTS))
        .layer(map_response(close_after))
        .with_state(admin)
}

async fn scrape(State(admin): State<Admin>) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    // Off the I/O thread: it takes milliseconds with many pools, and queries must not wait for that.
    let rendered = tokio::task::spawn_blocking(move || admin.metrics.render(admin.sources.as_ref())).await;
    match rendered {
        Ok(Ok(text)) => Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &dyn std::error::Error) -> StatusCode {
    tracing::error!(%error, "metrics could not be rendered");
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.sources.readiness() {
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
    use std::net::SocketAddr;
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
            let task = tokio::spawn(serve_within(limits, listener, metrics, sources, shutdown));
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
        for path in ["/", "/metrics/x", "/%00", "/../etc/passwd"] {
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
