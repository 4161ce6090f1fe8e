//! What a function answers, and what became of the invocation by it. The other side is `bootstrap.*` of
//! `loadtest/functions/`.

use crate::client::{Failure, ServerError};
use serde::Deserialize;
use std::time::Duration;

/// What became of one invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Rows returned or changed, or why it failed.
    pub result: Result<u64, Failure>,
    /// It failed while connecting or logging in.
    pub at_login: bool,
    /// How often the handler tried: 2 if it waited for `retry_after_ms` and tried again.
    pub attempts: u16,
    /// The connections that it opened, or tried to.
    pub connects: Vec<ConnectNote>,
}

/// One attempt of a driver to connect. Drivers do not say which part of it was the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ConnectNote {
    /// It began so long after the event had reached the process, in microseconds.
    pub after_us: u64,
    /// It took so long, in microseconds: name, TCP, TLS and login.
    pub took_us: u64,
    /// It is connected.
    pub ok: bool,
}

/// One line from a bootstrap.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    init: bool,
    ok: Option<bool>,
    rows: u64,
    attempts: Option<u16>,
    sqlstate: Option<String>,
    message: Option<String>,
    detail: Option<String>,
    connect: bool,
    timeout: bool,
    bug: Option<String>,
    connects: Option<Vec<ConnectNote>>,
}

/// Whether a process says with this line that it is ready for events.
pub fn is_init(line: &[u8]) -> bool {
    serde_json::from_slice::<Line>(line).is_ok_and(|line| line.init)
}

impl Answer {
    /// Reads a line; one that makes no sense is a failure of the kind "protocol".
    pub fn read(line: &[u8]) -> Self {
        let line: Line = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return Self::failed(Failure::Protocol(format!("the function's answer: {error}"))),
        };
        let Some(ok) = line.ok else {
            return Self::failed(Failure::Protocol("the function's answer has no \"ok\"".to_owned()));
        };
        Self {
            at_login: line.connect && !ok,
            attempts: line.attempts.unwrap_or(1).max(1),
            connects: line.connects.clone().unwrap_or_default(),
            result: if ok { Ok(line.rows) } else { Err(failure(line)) },
        }
    }

    /// There was no answer.
    pub fn failed(failure: Failure) -> Self {
        Self { result: Err(failure), at_login: false, attempts: 1, connects: Vec::new() }
    }
}

fn failure(line: Line) -> Failure {
    let message = line.message.unwrap_or_default();
    if line.timeout {
        return Failure::Timeout;
    }
    if let Some(bug) = line.bug {
        return Failure::Protocol(format!("the handler failed: {bug}: {message}"));
    }
    if let Some(sqlstate) = line.sqlstate {
        return server_error(line.connect, sqlstate, message, &line.detail.unwrap_or_default());
    }
    match refused_login(&message).filter(|_| line.connect) {
        Some((message, detail)) => server_error(true, sqlstate_of(message), message.to_owned(), detail),
        None => Failure::Connection(message),
    }
}

fn server_error(fatal: bool, sqlstate: String, message: String, detail: &str) -> Failure {
    let word = |name: &str| {
        detail
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let retry_after = word("retry_after_ms").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    Failure::Server(ServerError { fatal, sqlstate, message, reason: word("reason"), retry_after })
}

/// libpq has no fields of a refused login, only one text of all that was tried, the last attempt at its end: message
/// and DETAIL of that.
fn refused_login(text: &str) -> Option<(&str, &str)> {
    let (_, last) = text.rsplit_once("FATAL:  ")?;
    let mut lines = last.lines();
    let message = lines.next().unwrap_or_default();
    let detail = lines.find_map(|line| line.strip_prefix("DETAIL:  ")).unwrap_or_default();
    Some((message, detail))
}

/// The SQLSTATE that PostgreSQL (`postinit.c`, `backend_startup.c`) and pgcorral send with these words; empty for others.
fn sqlstate_of(message: &str) -> String {
    const TEXTS: [(&str, &str); 9] = [
        ("sorry, too many clients already", "53300"),
        ("remaining connection slots are reserved", "53300"),
        ("too many connections for", "53300"),
        ("the database server has no connection to spare", "53300"),
        ("the database system is", "57P03"),
        ("the proxy is shutting down", "57P03"),
        ("too many requests", "53400"),
        ("the database server refuses the proxy's login", "08001"),
        ("cannot connect to the database server", "08001"),
    ];
    let found = TEXTS.iter().find(|(text, _)| message.starts_with(text));
    found.map(|(_, sqlstate)| (*sqlstate).to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leg::FailureKind;

    fn read(line: &str) -> Answer {
        Answer::read(line.as_bytes())
    }

    #[test]
    fn a_served_invocation_has_its_rows_and_its_connection() {
        let answer = read(r#"{"ok":true,"rows":7,"connects":[{"after_us":3,"took_us":900,"ok":true}]}"#);
        assert_eq!(answer.result, Ok(7));
        assert_eq!((answer.at_login, answer.attempts), (false, 1));
        assert_eq!(answer.connects, [ConnectNote { after_us: 3, took_us: 900, ok: true }]);
    }

    #[test]
    fn a_refusal_says_why_and_when_to_come_again() {
        let answer = read(
            r#"{"ok":false,"sqlstate":"53300","message":"busy","connect":false,
                "detail":"reason=queue_timeout pool=app/api wait_ms=412 retry_after_ms=730"}"#,
        );
        let failure = answer.result.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Shed);
        assert_eq!(failure.reason(), "queue_timeout");
        assert_eq!(failure.retry_after(), Some(Duration::from_millis(730)));
    }

    #[test]
    fn a_login_that_libpq_tells_as_text_is_as_good() {
        let answer = read(
            r#"{"ok":false,"sqlstate":null,"connect":true,
                "message":"connection failed: connection to server at \"::1\", port 1 failed: refused\nconnection to server at \"127.0.0.1\", port 1 failed: FATAL:  sorry, too many clients already\nDETAIL:  reason=max_clients limit=10"}"#,
        );
        assert!(answer.at_login);
        let failure = answer.result.unwrap_err();
        assert_eq!((failure.kind(), failure.sqlstate()), (FailureKind::Shed, Some("53300")));
        assert_eq!(failure.reason(), "max_clients");

        let odd = read(
            r#"{"ok":false,"connect":true,"message":"x failed: FATAL:  password authentication failed"}"#,
        );
        assert_eq!(odd.result.unwrap_err().kind(), FailureKind::Sql);
        let unreachable = read(r#"{"ok":false,"connect":true,"message":"connection refused"}"#);
        assert_eq!(unreachable.result.unwrap_err(), Failure::Connection("connection refused".to_owned()));
    }

    #[test]
    fn timeouts_bugs_and_nonsense_are_told_apart() {
        let kind = |line| read(line).result.map_err(|failure| failure.kind());
        assert_eq!(kind(r#"{"ok":false,"timeout":true,"sqlstate":"57014"}"#), Err(FailureKind::Timeout));
        assert_eq!(kind(r#"{"ok":false,"bug":"TypeError","message":"x"}"#), Err(FailureKind::Protocol));
        assert_eq!(kind("hello"), Err(FailureKind::Protocol));
        assert_eq!(kind(r#"{"ok":true,"rows":-1}"#), Err(FailureKind::Protocol));
        assert_eq!(kind("[]"), Err(FailureKind::Protocol));
        assert!(is_init(br#"{"init":true,"connects":null}"#) && !is_init(b"{}"));
    }
}
