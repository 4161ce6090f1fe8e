//! What the configuration says about traces.

use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;

use crate::secret::Secret;

/// Where a collector takes traces over HTTP, if its address has no path (the OTLP specification, "OTLP/HTTP Request").
const HTTP_PATH: &str = "/v1/traces";

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceProtocol {
    /// Over gRPC.
    Grpc,
    /// Binary protobuf over HTTP/1.1.
    Http,
}

/// The address of a collector: `http://` or `https://`, a host, a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "is not a URL, as http://127.0.0.1:4317".to_owned())?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        if !is_http || uri.host().is_none_or(str::is_empty) {
            return Err("needs http:// or https://, and a host".to_owned());
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("has a login in it: put it into a header".to_owned());
        }
        Ok(Self(uri))
    }
}

impl Endpoint {
    /// As it was written.
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it is spoken to over TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Where traces are posted to over HTTP.
    pub(super) fn http_uri(&self) -> Uri {
        let mut parts = self.0.clone().into_parts();
        if self.0.path().trim_matches('/').is_empty() {
            parts.path_and_query = Some(PathAndQuery::from_static(HTTP_PATH));
        }
        // It has a scheme, a host and a path.
        Uri::from_parts(parts).unwrap_or_else(|_| self.0.clone())
    }
}

/// What is recorded, and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceParams {
    /// The collector.
    pub endpoint: Endpoint,
    /// How it is spoken to.
    pub protocol: TraceProtocol,
    /// Sent with each request, as an API key.
    pub headers: Vec<(String, Secret)>,
    /// Longest request to the collector.
    pub timeout: Duration,
    /// What the proxy is called in traces.
    pub service_name: String,
    /// Share of the transactions that are recorded of those whose caller says nothing.
    pub sample: f64,
    /// Who has waited as long as this for a server connection is recorded.
    pub slow_wait: Duration,
    /// Whether spans have the text of the first query, without its constants.
    pub query_text: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, posted_to) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://otlp.example.com/v1/traces", "https://otlp.example.com/v1/traces"),
            ("https://example.com/otlp?key=a", "https://example.com/otlp?key=a"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().http_uri().to_string(), posted_to);
        }
        for text in ["", "127.0.0.1:4317", "grpc://a:1", "http://", "http://user:s3cret@a:1", "a b"] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
