//! Every reason for which the proxy refuses or ends something, and what a client is told then: the overload contract.
//!
//! A reason has one word. It is the word of the error's DETAIL, the label of the metric and the field of the log, so that
//! what a user reports, a dashboard and the log can be laid side by side. The kinds of reasons that a metric counts
//! ([`super::Shed`], [`super::Refusal`], [`super::Timeout`]) take their words from here, and so does the table in
//! `docs/overload.md`.

use std::fmt::{self, Write as _};

use crate::proto::pin::PinReason;

/// What a client is told for a [`Reason`]. Constant: what differs from case to case stands in the DETAIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Five characters; manual, appendix "PostgreSQL Error Codes".
    pub sqlstate: &'static str,
    /// In PostgreSQL's style: lower case, no period.
    pub message: &'static str,
    /// A sentence.
    pub hint: Option<&'static str>,
    /// What ends with it.
    pub ends: Ends,
    /// Whether to try again.
    pub retry: Retry,
}

/// What ends with a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The statement or the transaction (ERROR); the session goes on.
    Statement,
    /// The connection (FATAL).
    Connection,
    /// Either, depending on where it happens: at login or where the session's state goes with it, the connection.
    Either,
}

/// Whether a client may try again what was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Yes: none of it has taken effect. The DETAIL says when, in `retry_after_ms`.
    After,
    /// Only if it may run twice: it may have been committed.
    IfIdempotent,
    /// No: the same would happen again, or it is the client's own doing.
    No,
}

impl Ends {
    /// The error's severity, for a reader.
    fn severity(self) -> &'static str {
        match self {
            Self::Statement => "ERROR",
            Self::Connection => "FATAL",
            Self::Either => "ERROR or FATAL",
        }
    }
}

impl Retry {
    /// The answer to "retry?", for a reader.
    fn advice(self) -> &'static str {
        match self {
            Self::After => "after `retry_after_ms`",
            Self::IfIdempotent => "if it may run twice",
            Self::No => "no",
        }
    }
}

/// Rows read `/// When. Variant "word" "SQLSTATE" Ends Retry "message" hint;`. The doc comment, one line, is the "when" of
/// `docs/overload.md`.
macro_rules! reasons {
    ($(#[doc = $when:literal] $variant:ident $word:literal $sqlstate:literal $ends:ident $retry:ident $message:literal $hint:expr;)+) => {
        /// Why the proxy refuses or ends something.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $when] $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The reason's one word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// What a client is told.
            pub const fn terms(self) -> Terms {
                match self {
                    $(Self::$variant => Terms {
                        sqlstate: $sqlstate,
                        message: $message,
                        hint: $hint,
                        ends: Ends::$ends,
                        retry: Retry::$retry,
                    },)+
                }
            }

            /// When it happens: a sentence.
            fn when(self) -> &'static str {
                match self {
                    $(Self::$variant => $when,)+
                }
            }
        }
    };
}

const BUSY: Option<&str> = Some("The pool is busy. Retry after retry_after_ms.");
const TRYING: Option<&str> = Some("The proxy keeps trying. Retry after retry_after_ms.");
const ELSEWHERE: Option<&str> = Some("Connect again: another instance may be up.");
const FULL: Option<&str> = Some("Connect again after retry_after_ms, or raise the limit.");
const ROLLED_BACK: Option<&str> =
    Some("The transaction was rolled back. End it with ROLLBACK; the session goes on.");
const IF_TWICE: Option<&str> = Some("Any open transaction was rolled back. Retry it if it may run twice.");

reasons! {
    /// It waited for `query_wait_timeout`, and the server connections were busy with others.
    QueueTimeout "queue_timeout" "53300" Statement After
        "no server connection became free in time" BUSY;
    /// `max_waiting` others wait already.
    QueueFull "queue_full" "53300" Statement After
        "too many clients wait for a server connection" BUSY;
    /// Its wait would be longer than its deadline or than the pool's burst allowance; said at once.
    Estimate "estimate" "53300" Statement After
        "no server connection will become free in time" BUSY;
    /// Logins or transactions come faster than a rate limit allows.
    RateLimited "rate_limited" "53400" Either After
        "too many requests" Some("A rate limit is reached. Retry after retry_after_ms.");
    /// PostgreSQL cannot be reached: at the end of the wait, and at once after 3 s.
    ServerDown "server_down" "57P03" Statement After
        "the database server cannot be reached" TRYING;
    /// PostgreSQL refuses the proxy's login: at the end of the wait, and at once after 3 s.
    ServerRefused "server_refused" "57P03" Statement After
        "the database server refuses the proxy's login"
        Some("The proxy's configuration or the database's roles have to be corrected.");
    /// The proxy shuts down, and it waits for a server connection (ERROR) or logs in (FATAL).
    Draining "draining" "57P03" Either After
        "the proxy is shutting down" ELSEWHERE;
    /// It would keep its server connection beyond the transaction, and `pin_budget` others do already.
    PinBudget "pin_budget" "53300" Statement After
        "too many clients keep their server connections"
        Some("Retry later, release what is kept, or raise pin_budget.");

    /// `max_clients` of the whole proxy are connected.
    MaxClients "max_clients" "53300" Connection After
        "sorry, too many clients already" FULL;
    /// `max_clients` of its user are connected.
    MaxUserClients "max_user_clients" "53300" Connection After
        "sorry, too many clients already" FULL;
    /// `max_clients` of its database are connected.
    MaxDatabaseClients "max_database_clients" "53300" Connection After
        "sorry, too many clients already" FULL;
    /// It logs in before any server connection was ever up, and PostgreSQL has no slot left.
    ServerFull "server_full" "53300" Connection After
        "the database server has no connection to spare" TRYING;
    /// It logs in before any server connection was ever up, and none can be had.
    NoServer "no_server" "08001" Connection After
        "cannot connect to the database server" TRYING;
    /// Its login took longer than `client_login_timeout`.
    LoginTimeout "login_timeout" "57P05" Connection After
        "login timeout" Some("The client or the proxy is slow. Connect again after retry_after_ms.");
    /// Plain text where TLS is required.
    TlsRequired "tls_required" "28000" Connection No
        "connection must be encrypted with TLS" Some("Connect with sslmode=require or stricter.");
    /// The proxy shuts down, and it is between two transactions.
    Shutdown "shutdown" "57P01" Connection After
        "terminating connection due to administrator command" ELSEWHERE;

    /// Its server connection was lost.
    ServerLost "server_lost" "08006" Either IfIdempotent
        "the connection to the database server was lost" IF_TWICE;
    /// Its server connection's replies no longer fit its requests.
    OutOfStep "out_of_step" "08006" Connection IfIdempotent
        "the connection to the database server is out of step" IF_TWICE;
    /// A server connection does not take the parameters that it logged in with.
    ParametersRefused "parameters_refused" "08006" Connection No
        "the session's parameters could not be set on a server connection" None;

    /// Its request took longer than `query_timeout`.
    QueryTimeout "query_timeout" "57014" Either No
        "canceling statement due to query timeout" None;
    /// Its transaction took longer than `transaction_timeout`.
    TransactionTimeout "transaction_timeout" "25P04" Either No
        "terminating transaction due to transaction timeout" ROLLED_BACK;
    /// It was silent in a transaction for `idle_in_transaction_timeout`; said with its next message.
    IdleInTransactionTimeout "idle_in_transaction_timeout" "25P03" Either No
        "the transaction was rolled back due to idle-in-transaction timeout"
        Some("End it with ROLLBACK; the session goes on.");
    /// It was silent outside a transaction for `client_idle_timeout`.
    ClientIdleTimeout "client_idle_timeout" "57P05" Connection No
        "terminating connection due to idle-session timeout" Some("Connect again when there is work to do.");
    /// It had nothing to do for `evict_idle`, and somebody else wanted its place under `max_clients`.
    EvictIdle "evict_idle" "57P05" Connection No
        "terminating connection due to idle-session timeout" Some("Connect again when there is work to do.");
    /// It kept a server connection and was silent for `pin_timeout`.
    PinTimeout "pin_timeout" "57P05" Connection No
        "terminating connection due to idle-session timeout" Some("Connect again when there is work to do.");
    /// It took none of its replies for `client_stall_timeout`. Mostly it cannot be told.
    ClientStallTimeout "client_stall_timeout" "08006" Connection No
        "terminating connection because it takes no replies" None;

    /// It broke the protocol. The message says how.
    ProtocolViolation "protocol_violation" "08P01" Connection No
        "invalid message" None;
    /// It asked for a replication connection.
    Replication "replication" "0A000" Connection No
        "replication connections are not supported" Some("Connect to the database server itself.");
    /// It began a transaction over several statements in statement mode.
    StatementMode "statement_mode" "0A000" Connection No
        "transactions over several statements are not allowed in statement mode"
        Some("Set pool_mode = \"transaction\" for this database.");
    /// It may not listen beyond the transaction (LISTEN).
    Listen "listen" "0A000" Statement No
        "this would keep a server connection beyond the transaction"
        Some("Poll, or listen on a connection of its own in session mode.");
    /// It may not hold an advisory lock of the session.
    AdvisoryLock "advisory_lock" "0A000" Statement No
        "this would keep a server connection beyond the transaction"
        Some("Use pg_advisory_xact_lock: it is released with its transaction.");
    /// It may not have a temporary table, view, sequence or function.
    TempTable "temp_table" "0A000" Statement No
        "this would keep a server connection beyond the transaction"
        Some("Use CREATE TEMPORARY TABLE ... ON COMMIT DROP in one transaction, or an ordinary table.");
    /// It may not have a cursor WITH HOLD.
    HoldCursor "hold_cursor" "0A000" Statement No
        "this would keep a server connection beyond the transaction"
        Some("Use a cursor WITHOUT HOLD in one transaction, or read by key.");
    /// It may not load a shared library (LOAD).
    Load "load" "0A000" Statement No
        "this would keep a server connection beyond the transaction"
        Some("Use shared_preload_libraries or session_preload_libraries.");
    /// It may not ask for what a sequence gave it before (`currval`, `lastval`).
    SequenceValue "sequence_value" "0A000" Statement No
        "this would keep a server connection beyond the transaction"
        Some("Use INSERT ... RETURNING, or the value that nextval returned.");
    /// It may not prepare by SQL (PREPARE), or a statement that is too large to be kept.
    SqlPrepare "sql_prepare" "0A000" Statement No
        "this would keep a server connection beyond the transaction"
        Some("Prepare with the driver: statements of the protocol follow the client.");
    /// It may not have more settings than can be kept for it.
    SessionMode "session_mode" "0A000" Statement No
        "this would keep a server connection beyond the transaction"
        Some("Set fewer or shorter settings.");
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<PinReason> for Reason {
    fn from(reason: PinReason) -> Self {
        match reason {
            PinReason::Listen => Self::Listen,
            PinReason::AdvisoryLock => Self::AdvisoryLock,
            PinReason::TempTable => Self::TempTable,
            PinReason::HoldCursor => Self::HoldCursor,
            PinReason::Load => Self::Load,
            PinReason::SequenceValue => Self::SequenceValue,
            PinReason::SqlPrepare => Self::SqlPrepare,
            PinReason::SessionMode => Self::SessionMode,
        }
    }
}

/// The table of reasons as it stands in `docs/overload.md`.
pub fn markdown() -> String {
    let mut text = String::from("| reason | SQLSTATE | severity | when | retry |\n|---|---|---|---|---|\n");
    for reason in Reason::ALL {
        let Terms { sqlstate, ends, retry, .. } = reason.terms();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{reason}` | {sqlstate} | {} | {} | {} |",
            ends.severity(),
            reason.when().trim(),
            retry.advice()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The table of the contract: which reasons have which SQLSTATE. A reason that is missing here fails the test.
    const SQLSTATES: &[(&str, &[&str])] = &[
        (
            "53300",
            &[
                "queue_timeout",
                "queue_full",
                "estimate",
                "pin_budget",
                "max_clients",
                "max_user_clients",
                "max_database_clients",
                "server_full",
            ],
        ),
        ("53400", &["rate_limited"]),
        ("57P03", &["server_down", "server_refused", "draining"]),
        ("08001", &["no_server"]),
        ("08006", &["server_lost", "out_of_step", "parameters_refused", "client_stall_timeout"]),
        ("25P03", &["idle_in_transaction_timeout"]),
        ("25P04", &["transaction_timeout"]),
        ("57014", &["query_timeout"]),
        ("57P01", &["shutdown"]),
        ("57P05", &["login_timeout", "client_idle_timeout", "evict_idle", "pin_timeout"]),
        ("28000", &["tls_required"]),
        ("08P01", &["protocol_violation"]),
        (
            "0A000",
            &[
                "replication",
                "statement_mode",
                "listen",
                "advisory_lock",
                "temp_table",
                "hold_cursor",
                "load",
                "sequence_value",
                "sql_prepare",
                "session_mode",
            ],
        ),
    ];

    #[test]
    fn every_reason_has_the_sqlstate_of_the_contract() {
        for reason in Reason::ALL {
            let row = SQLSTATES.iter().find(|(_, words)| words.contains(&reason.as_str()));
            assert_eq!(row.map(|(sqlstate, _)| *sqlstate), Some(reason.terms().sqlstate), "{reason}");
        }
        let rows: usize = SQLSTATES.iter().map(|(_, words)| words.len()).sum();
        assert_eq!(rows, Reason::ALL.len(), "a row without a reason");
    }

    #[test]
    fn words_are_unique_and_fit_a_label_and_a_detail() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for word in words {
            assert!(word.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{word}");
        }
    }

    #[test]
    fn texts_are_in_the_style_of_postgresql() {
        for reason in Reason::ALL {
            let Terms { message, hint, .. } = reason.terms();
            assert!(!message.ends_with('.') && !message.starts_with(char::is_uppercase), "{message}");
            assert!(hint.is_none_or(|hint| hint.ends_with('.')), "{reason}");
            assert!(reason.when().ends_with('.'), "{reason}");
        }
    }

    /// The SQLSTATEs that drivers retry by: with these, nothing has taken effect.
    #[test]
    fn what_drivers_retry_by_its_sqlstate_is_safe_to_retry() {
        for reason in Reason::ALL {
            let Terms { sqlstate, retry, .. } = reason.terms();
            if ["53300", "53400", "57P03", "08001"].contains(&sqlstate) {
                assert_eq!(retry, Retry::After, "{reason}");
            }
            if ["0A000", "08P01", "28000", "57014"].contains(&sqlstate) {
                assert_eq!(retry, Retry::No, "{reason}");
            }
        }
    }

    /// The page with the table of reasons, and with the examples as they are run by the tests.
    fn page_filled_in(page: &str) -> String {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
        let mut page = page.to_owned();
        let examples =
            [("psycopg.py", "python"), ("node-postgres.js", "js"), ("pgx.go", "go"), ("Jdbc.java", "java")];
        let examples = examples.map(|(file, language)| {
            let text = std::fs::read_to_string(format!("{docs}/retry/{file}")).unwrap();
            (format!("retry/{file}"), format!("```{language}\n{text}```\n"))
        });
        for (name, text) in examples.into_iter().chain([("reasons".to_owned(), markdown())]) {
            let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->\n"));
            let from = page.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
            let to = page.find(&end).unwrap_or_else(|| panic!("no {end}"));
            page.replace_range(from..to, &text);
        }
        page
    }

    #[test]
    fn overload_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/overload.md");
        let page = std::fs::read_to_string(path).unwrap();
        let filled_in = page_filled_in(&page);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &filled_in).unwrap();
        } else {
            assert!(
                page == filled_in,
                "docs/overload.md is out of date: run `UPDATE_DOCS=1 cargo test overload_page` and commit it"
            );
        }
    }

    #[test]
    fn reasons_for_pins_have_the_words_of_the_configuration() {
        for pin in PinReason::ALL {
            assert_eq!(Reason::from(pin).as_str(), pin.as_str());
        }
    }
}
