//! The one table of all metrics. `docs/metrics.md` is written from it, and the registry is filled from it: a metric
//! that is not a row here cannot be counted.
//!
//! Names start with `pgcorral_`, units are base units, counters end in `_total`. Later issues add rows, and a handle
//! where the row is counted.

use std::fmt::Write as _;

use super::labels::{
    CancelResult, DestroyReason, DialResult, ErrorClass, LabelValue, LoginPhase, LoginResult, Phase, Prepare,
    Refusal, ReloadResult, Shed, SpanResult, Timeout, WaitOutcome,
};
use crate::proto::pin::PinReason;

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Full name, with prefix, unit and `_total`.
    pub name: &'static str,
    /// What Prometheus calls its type.
    pub kind: Kind,
    /// What one of it is: a base unit, or the thing counted.
    pub unit: &'static str,
    /// Its labels, in the order in which values are given.
    pub labels: &'static [Label],
    /// What it says, in a sentence or two.
    pub help: &'static str,
}

/// What Prometheus calls the type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever goes up, until the process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size; see [`BUCKETS`].
    Histogram,
}

impl Kind {
    /// As in a `# TYPE` line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One label.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What its values are, for a reader.
    pub meaning: &'static str,
    /// All its values. Empty: they come from the configuration.
    pub values: &'static [&'static str],
}

/// States of a server connection. They exclude each other.
pub const SERVER_STATES: &[&str] =
    &["idle", "active", "idle_in_transaction", "pinned", "dialling", "cancelling", "closing"];

/// What PostgreSQL refuses a login with that have a series of their own (the label `sqlstate`).
pub const DIAL_SQLSTATES: &[&str] = &["", "28000", "28P01", "3D000", "53300", "57P03", "other"];

/// Upper bounds of every histogram's buckets: the first one, in seconds, and how many; each is twice the one before.
/// From half a millisecond, below which nobody waits noticeably, to 33 seconds, beyond which every function has given up.
pub const BUCKETS: (f64, usize) = (0.000_5, 17);

mod label {
    use super::*;

    const fn label(name: &'static str, meaning: &'static str, values: &'static [&'static str]) -> Label {
        Label { name, meaning, values }
    }

    pub(super) const DATABASE: Label = label("database", "the database as clients name it", &[]);
    pub(super) const USER: Label = label("user", "the user as clients name it", &[]);
    pub(super) const FUNCTION: Label = label(
        "function",
        "the function by the tag or application_name of its clients; the 50 with most connection-time, the others together",
        &[],
    );
    pub(super) const MODE: Label =
        label("mode", "when a server connection goes back", &["transaction", "session", "statement"]);
    pub(super) const RULE: Label = label("rule", "the name of the rate limit in the configuration", &[]);
    pub(super) const RULE_MODE: Label =
        label("mode", "what happened: refused, or counted and let through", &["enforce", "observe"]);
    pub(super) const VERSION: Label = label("version", "the version of pgcorral", &[]);
    pub(super) const CLIENT_STATE: Label = label(
        "state",
        "what the client does: logs in, nothing, waits for a server connection, has one",
        &["login", "idle", "waiting", "active"],
    );
    pub(super) const SERVER_STATE: Label = label(
        "state",
        "what the server connection does: nothing; works for a client; waits for a client in a transaction, or for one that keeps it beyond; is being opened; is kept from everybody while something is cancelled; is being closed",
        SERVER_STATES,
    );
    pub(super) const UPSTREAM: Label = label("upstream", "address of the PostgreSQL server", &[]);
    pub(super) const BREAKER_STATE: Label = label(
        "state",
        "whether arrivals are let in, refused, or refused while a dial finds out",
        &["closed", "open", "half_open"],
    );
    pub(super) const OUTCOME: Label = label("outcome", "how the wait ended", WaitOutcome::LABELS);
    pub(super) const SHED: Label =
        label("reason", "as in the DETAIL of the client's error and in the log", Shed::LABELS);
    pub(super) const DIAL: Label = label("result", "how the dial ended", DialResult::LABELS);
    pub(super) const DIAL_SQLSTATE: Label =
        label("sqlstate", "the code with which PostgreSQL refused; empty: it said nothing", DIAL_SQLSTATES);
    pub(super) const ERROR_CLASS: Label =
        label("class", "the class of the SQLSTATE (appendix A of PostgreSQL's manual)", ErrorClass::LABELS);
    pub(super) const LOGIN_PHASE: Label = label(
        "phase",
        "wait for its turn, TLS handshake, proof of identity, the server's parameters and the greeting",
        LoginPhase::LABELS,
    );
    pub(super) const DESTROYED: Label = label("reason", "why it was closed", DestroyReason::LABELS);
    pub(super) const PIN: Label = label("reason", "what the session has", PinReason::LABELS);
    pub(super) const TIMEOUT: Label =
        label("reason", "as in the DETAIL of the client's error", Timeout::LABELS);
    pub(super) const PHASE: Label = label("phase", "what it was doing", Phase::LABELS);
    pub(super) const PREPARE: Label =
        label("result", "whether it was prepared there already", Prepare::LABELS);
    pub(super) const LOGIN: Label = label("result", "how the login ended", LoginResult::LABELS);
    pub(super) const REFUSAL: Label =
        label("reason", "as in the DETAIL of the FATAL error and in the log", Refusal::LABELS);
    pub(super) const RELOAD: Label =
        label("result", "what became of it: in force, or nothing has changed", ReloadResult::LABELS);
    pub(super) const ADAPTIVE: Label =
        label("mode", "whether the limit is in force or only watched", &["observe", "enforce"]);
    pub(super) const SPAN: Label = label(
        "result",
        "whether the collector has it, did not take it, or could not be asked in time",
        SpanResult::LABELS,
    );
    pub(super) const CANCEL: Label = label("result", "what became of it", CancelResult::LABELS);
}

/// Rows read `CONSTANT = "name" Kind "unit" [labels] "help";`.
macro_rules! table {
    ($($constant:ident = $name:literal $kind:ident $unit:literal [$($label:ident),*] $help:literal;)+) => {
        $(pub(super) const $constant: Definition = Definition {
            name: $name,
            kind: Kind::$kind,
            unit: $unit,
            labels: &[$(label::$label),*],
            help: $help,
        };)+

        /// Every metric there is.
        pub const TABLE: &[Definition] = &[$($constant),+];
    };
}

table! {
    // The pools: what they decided.
    WAIT = "pgcorral_wait_seconds" Histogram "seconds" [DATABASE, USER, OUTCOME]
        "Time from a client's first message to the end of its wait for a server connection; zero if one was idle.";
    HOLD = "pgcorral_hold_seconds" Histogram "seconds" [DATABASE, USER]
        "Time for which a client kept a server connection: a transaction, or a session in session mode.";
    EXEC = "pgcorral_exec_seconds" Histogram "seconds" [DATABASE, USER]
        "Time from a request to PostgreSQL to its ReadyForQuery: what the database took, without the client's pauses.";
    FIRST_ROW = "pgcorral_first_row_seconds" Histogram "seconds" [DATABASE, USER]
        "Time from a request to PostgreSQL to its first row, for requests that have rows.";
    DIAL = "pgcorral_dial_seconds" Histogram "seconds" [DATABASE, USER]
        "Time to open a server connection (connect, TLS, login), successful or not.";
    TRANSACTIONS = "pgcorral_transactions_total" Counter "transactions" [DATABASE, USER]
        "Transactions finished, whether committed or rolled back; a statement outside a transaction is one.";
    SHEDS = "pgcorral_sheds_total" Counter "requests" [DATABASE, USER, SHED]
        "Requests answered with an overload error instead of a server connection.";
    QUERIES = "pgcorral_queries_total" Counter "statements" [DATABASE, USER]
        "Statements that PostgreSQL has completed.";
    SERVER_ERRORS = "pgcorral_server_errors_total" Counter "errors" [DATABASE, USER, ERROR_CLASS]
        "ErrorResponses of PostgreSQL that were passed on to clients.";
    CLIENT_RECEIVED = "pgcorral_client_received_bytes_total" Counter "bytes" [DATABASE, USER]
        "Bytes of messages received from clients after their login.";
    CLIENT_SENT = "pgcorral_client_sent_bytes_total" Counter "bytes" [DATABASE, USER]
        "Bytes of messages sent to clients after their login.";
    DIALS = "pgcorral_dials_total" Counter "dials" [DATABASE, USER, DIAL, DIAL_SQLSTATE]
        "Attempts to open a server connection.";
    SERVERS_DESTROYED = "pgcorral_servers_destroyed_total" Counter "connections" [DATABASE, USER, DESTROYED]
        "Server connections closed.";

    PINS = "pgcorral_pins_total" Counter "pins" [DATABASE, USER, PIN]
        "Times that a client began to keep its server connection beyond a transaction.";
    TIMEOUTS = "pgcorral_timeouts_total" Counter "timeouts" [DATABASE, USER, TIMEOUT]
        "What the proxy has ended because it took too long.";
    ABANDONED = "pgcorral_abandoned_total" Counter "clients" [DATABASE, USER, PHASE]
        "Clients that vanished while they waited for a server connection or had one.";
    PREPARES = "pgcorral_prepares_total" Counter "statements" [DATABASE, USER, PREPARE]
        "Prepared statements asked for, by whether the server connection had them.";
    REPREPARES = "pgcorral_reprepares_total" Counter "batches" [DATABASE, USER]
        "Batches sent again because what was prepared was out of date.";
    AUDITS = "pgcorral_audits_total" Counter "questions" [DATABASE, USER]
        "Questions to PostgreSQL about what a transaction has left behind in its session.";

    // The pools: how they stand, read at the scrape.
    PINNED = "pgcorral_pinned_clients" Gauge "clients" [DATABASE, USER]
        "Clients that keep a server connection beyond their transactions.";
    POOL_INFO = "pgcorral_pool_info" Gauge "1" [DATABASE, USER, MODE]
        "Always 1: tells the mode of a pool.";
    SERVERS = "pgcorral_servers" Gauge "connections" [DATABASE, USER, SERVER_STATE]
        "Server connections by what they do. Their sum never exceeds the limit.";
    POOL_LIMIT = "pgcorral_pool_limit" Gauge "connections" [DATABASE, USER]
        "Most server connections that the pool may have now.";
    ADAPTIVE_LIMIT = "pgcorral_pool_adaptive_limit" Gauge "transactions" [DATABASE, USER, ADAPTIVE]
        "Most transactions at once by the adaptive limit; absent where it is off.";
    POOL_CLIENTS = "pgcorral_pool_clients" Gauge "clients" [DATABASE, USER]
        "Clients that are logged in to the pool.";
    BUSY = "pgcorral_pool_busy_seconds_total" Counter "seconds" [DATABASE, USER]
        "Connection-time that clients have had, up to now: its rate is the number of server connections in use (erlangs).";
    UTILISATION = "pgcorral_pool_utilisation" Gauge "ratio" [DATABASE, USER]
        "Share of the pool's limit that was in use, from 0 to 1; mean of the last 10 s.";
    ERLANGS = "pgcorral_pool_erlangs" Gauge "connections" [DATABASE, USER]
        "Server connections in use by clients; mean of the last 10 s.";
    COLLAPSE_RATIO = "pgcorral_pool_collapse_ratio" Gauge "ratio" [DATABASE, USER]
        "N·S/(c·(T+Z)): clients × mean hold / (limit × (query_wait_timeout + time between a client's transactions)). Above 1, callers who give up after T would leave a plain queue with nothing but work for the dead.";
    HEADROOM = "pgcorral_pool_headroom_clients" Gauge "clients" [DATABASE, USER]
        "Further clients like those of the last 10 s until the collapse ratio is 1; absent while nothing runs.";
    QUEUE_DEPTH = "pgcorral_queue_depth" Gauge "clients" [DATABASE, USER]
        "Clients that wait for a server connection.";
    QUEUE_LIMIT = "pgcorral_queue_limit" Gauge "clients" [DATABASE, USER]
        "Most clients that may wait; one more is shed.";
    QUEUE_OLDEST = "pgcorral_queue_oldest_seconds" Gauge "seconds" [DATABASE, USER]
        "How long the client has waited that waits longest; zero if nobody waits.";
    QUEUE_STANDING = "pgcorral_queue_standing_seconds" Gauge "seconds" [DATABASE, USER]
        "For how long the queue of a function has never been empty, the longest of all functions: above query_wait_timeout it is an overload and no burst.";
    SHEDS_OBSERVED = "pgcorral_sheds_observed_total" Counter "transactions" [DATABASE, USER]
        "Transactions that were served and would have been shed early with admission = enforce.";
    FUNCTION_HELD = "pgcorral_function_held_seconds_total" Counter "seconds" [DATABASE, USER, FUNCTION]
        "Time for which the function has held server connections.";
    FUNCTION_SHEDS = "pgcorral_function_sheds_total" Counter "transactions" [DATABASE, USER, FUNCTION]
        "Transactions of the function that were not admitted.";
    FUNCTION_TRANSACTIONS = "pgcorral_function_transactions_total" Counter "transactions" [DATABASE, USER, FUNCTION]
        "Transactions of the function that were admitted and are over.";
    FUNCTION_WAIT = "pgcorral_function_wait_seconds_total" Counter "seconds" [DATABASE, USER, FUNCTION]
        "Time for which the function's admitted transactions have waited.";
    FUNCTION_SERVERS = "pgcorral_function_servers" Gauge "connections" [DATABASE, USER, FUNCTION]
        "Server connections that the function holds.";
    FUNCTION_WAITING = "pgcorral_function_waiting" Gauge "clients" [DATABASE, USER, FUNCTION]
        "Clients of the function that wait for a server connection.";

    // The servers, over all pools.
    BUDGET = "pgcorral_upstream_budget" Gauge "connections" [UPSTREAM]
        "Most server connections that all pools may have now: fewer than the limit while PostgreSQL has no room for more (53300).";
    UPSTREAM_LIMIT = "pgcorral_upstream_limit" Gauge "connections" [UPSTREAM]
        "Most server connections over all pools, as configured.";
    UPSTREAM_MAX = "pgcorral_upstream_max_connections" Gauge "connections" [UPSTREAM]
        "Most connections that PostgreSQL allows the proxy's roles (max_connections less what is reserved), as it said last; absent until it was asked.";
    BREAKER = "pgcorral_upstream_breaker" Gauge "1" [UPSTREAM, BREAKER_STATE]
        "1 for what becomes of arrivals now, else 0; open: refused at once, for the server is down.";

    // The clients.
    CONNECTIONS = "pgcorral_client_connections_total" Counter "connections" []
        "Client connections accepted, before anything is known about them.";
    CONNECTIONS_REFUSED = "pgcorral_client_connections_refused_total" Counter "connections" [REFUSAL]
        "Client connections refused by a limit or a rule.";
    RATE_LIMITED = "pgcorral_rate_limited_total" Counter "requests" [RULE, RULE_MODE]
        "Logins and transactions over a rate limit: refused, or let through where the rule only observes.";
    CLIENT_TLS_FAILURES = "pgcorral_client_tls_failures_total" Counter "handshakes" []
        "TLS handshakes with clients that failed.";
    LOGINS = "pgcorral_logins_total" Counter "logins" [LOGIN]
        "Logins of clients to the proxy. CancelRequests are not logins.";
    LOGIN = "pgcorral_login_seconds" Histogram "seconds" []
        "Time from accept to ReadyForQuery, of the logins that succeeded.";
    LOGIN_PHASE_SECONDS = "pgcorral_login_phase_seconds" Histogram "seconds" [LOGIN_PHASE]
        "Time that a phase of a login took, also of logins that failed later.";
    HANDSHAKES = "pgcorral_handshakes_in_flight" Gauge "clients" []
        "Connections between accept and the end of their login.";
    LOGINS_WAITING = "pgcorral_logins_waiting" Gauge "clients" []
        "Logins that wait for their turn because max_handshakes others are under way.";
    CANCELS = "pgcorral_cancels_total" Counter "requests" [CANCEL]
        "CancelRequests received.";
    CLIENTS = "pgcorral_clients" Gauge "clients" [CLIENT_STATE]
        "Clients by what they do, read at the scrape.";

    SPOOL = "pgcorral_spool_bytes" Gauge "bytes" []
        "Bytes of replies that clients have not taken yet.";
    STATEMENTS = "pgcorral_statements" Gauge "statements" []
        "Prepared statements known to the proxy, each once.";
    STATEMENT_BYTES = "pgcorral_statement_bytes" Gauge "bytes" []
        "Bytes of prepared statements that the proxy or a client knows.";

    // The process.
    RELOADS = "pgcorral_reloads_total" Counter "reloads" [RELOAD]
        "Times that the configuration was read again (SIGHUP).";
    SPANS = "pgcorral_spans_total" Counter "spans" [SPAN]
        "Spans of recorded transactions, where traces are on.";
    RELOADED_AT = "pgcorral_config_reload_timestamp_seconds" Gauge "seconds" []
        "When the configuration in force was read, in seconds since 1970 (UTC).";
    CERTIFICATE_EXPIRY = "pgcorral_certificate_expiry_seconds" Gauge "seconds" []
        "When the first certificate of the chain shown to clients expires, in seconds since 1970 (UTC); absent without TLS.";
    DRAINING = "pgcorral_draining" Gauge "1" []
        "1 while the proxy drains, else 0.";
    READY = "pgcorral_ready" Gauge "1" []
        "1 if /readyz says yes, else 0.";
    BUILD_INFO = "pgcorral_build_info" Gauge "1" [VERSION]
        "Always 1: tells what runs.";
    START_TIME = "pgcorral_start_time_seconds" Gauge "seconds" []
        "When the process started, in seconds since 1970 (UTC).";
    OPEN_FILES = "pgcorral_process_open_files" Gauge "files" []
        "File descriptors in use: each client and each server connection is one.";
    MAX_FILES = "pgcorral_process_max_files" Gauge "files" []
        "Most file descriptors that the process may use (RLIMIT_NOFILE, soft).";
    RESIDENT_MEMORY = "pgcorral_process_resident_memory_bytes" Gauge "bytes" []
        "Physical memory in use.";
    CPU = "pgcorral_process_cpu_seconds_total" Counter "seconds" []
        "Processor time used, user and system.";
}

/// The table as `docs/metrics.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the admin address, in Prometheus' text format. This page is written from the table in\n\
         `src/obs/table.rs`: change it there, then run `UPDATE_DOCS=1 cargo test metrics_page`.\n\n",
    );
    let (first, count) = BUCKETS;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "Histograms have {count} buckets, from {first} s upwards, each twice the one before. Everything else that\n\
         Prometheus derives from them (`_bucket`, `_sum`, `_count`) is as usual.\n"
    );
    text.push_str("| name | type | unit | labels | |\n|---|---|---|---|---|\n");
    for metric in TABLE {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{}`", label.name)).collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            metric.name,
            metric.kind.as_str(),
            metric.unit,
            labels.join(", "),
            metric.help
        );
    }
    text.push_str("\n## Labels\n\n| label | of | meaning | values |\n|---|---|---|---|\n");
    for (label, metrics) in labels_and_their_metrics() {
        let values = match label.values {
            [] => "–".to_owned(),
            values => format!("`{}`", values.join("`, `")),
        };
        let _ = writeln!(text, "| `{}` | {} | {} | {} |", label.name, metrics, label.meaning, values);
    }
    text
}

/// Labels of the same name may mean different things (`reason`, `result`), so each comes with its metrics.
fn labels_and_their_metrics() -> Vec<(Label, String)> {
    let mut found: Vec<(Label, Vec<&str>)> = Vec::new();
    for metric in TABLE {
        for label in metric.labels {
            match found.iter_mut().find(|(known, _)| known.meaning == label.meaning) {
                Some((_, metrics)) => metrics.push(metric.name),
                None => found.push((*label, vec![metric.name])),
            }
        }
    }
    let name_metrics = |label: Label, metrics: Vec<&str>| match metrics.as_slice() {
        many if many.len() > 4 => match label.name {
            "function" => "everything about functions".to_owned(),
            _ => "everything about pools".to_owned(),
        },
        few => format!("`{}`", few.join("`, `")),
    };
    found.into_iter().map(|(label, metrics)| (label, name_metrics(label, metrics))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            page == markdown(),
            "docs/metrics.md is out of date: run `UPDATE_DOCS=1 cargo test metrics_page` and commit it"
        );
    }

    #[test]
    fn names_follow_the_rules() {
        for metric in TABLE {
            let name = metric.name;
            assert!(name.starts_with("pgcorral_"), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            for unit in ["seconds", "bytes"] {
                let bare = name.trim_end_matches("_total");
                assert_eq!(metric.unit == unit, bare.ends_with(unit), "{name} in {unit}");
            }
            assert!(metric.help.ends_with('.'), "{name}: help is a sentence");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = TABLE.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
