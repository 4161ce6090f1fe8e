//! The values of a configuration file, each with its place and its type, before they are looked at together.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::defaults;
use super::environment::Environment;
use super::error::{Faults, Origin};
use super::model::Preflight;
use super::rate_limits;
use super::reader::{Entry, Read, Reader, Section};
use super::secrets;
use super::traces;
use super::url::UpstreamUrl;
use crate::client::{AuthMethod, ClientTlsMode, UserSecret};
use crate::guard::{Admission, KeyTerms};
use crate::net::ListenAddress;
use crate::obs::logging::LogFilter;
use crate::pool::{Abandoned, AdaptiveLimit, PoolMode, Reset};
use crate::proto::function::NamePattern;
use crate::proto::pin::{PinPolicy, PinReason};
use crate::secret::Secret;

/// A whole file. Fields are named as their keys; `defaults` says what holds for those that are absent.
#[derive(Debug)]
pub(super) struct File {
    /// The file as a whole.
    pub(super) at: Origin,
    pub(super) listen: Read<Vec<Entry<ListenAddress>>>,
    pub(super) admin: Read<Option<SocketAddr>>,
    pub(super) admin_token: Read<Secret>,
    pub(super) threads: Read<usize>,
    pub(super) preflight: Read<Preflight>,
    pub(super) log: Read<LogFilter>,
    pub(super) auth_type: Read<AuthMethod>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) client_tls: ClientTlsKeys,
    pub(super) functions: Functions,
    pub(super) traces: traces::Keys,
    /// Sorted by name.
    pub(super) rate_limits: Vec<rate_limits::Keys>,
    /// Sorted by name.
    pub(super) databases: Vec<Database>,
    pub(super) shares: Vec<(String, KeyTerms)>,
    pub(super) upstreams: Vec<Upstream>,
    /// Sorted by name.
    pub(super) users: Vec<User>,
}

/// `[limits]`
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) max_clients: Read<usize>,
    pub(super) max_handshakes: Read<usize>,
    pub(super) listen_backlog: Read<usize>,
    pub(super) default_pool_size: Read<usize>,
    pub(super) max_waiting: Read<usize>,
    pub(super) max_dials: Read<usize>,
    pub(super) dial_rate: Read<usize>,
    pub(super) dial_burst: Read<usize>,
    pub(super) pkt_buf: Read<usize>,
    pub(super) client_spool: Read<usize>,
    pub(super) max_spool: Read<usize>,
    pub(super) statement_cache_entries: Read<usize>,
    pub(super) statement_cache_size: Read<usize>,
}

/// `[timeouts]`
#[derive(Debug, Default)]
pub(super) struct Timeouts {
    pub(super) client_login_timeout: Read<Duration>,
    pub(super) query_wait_timeout: Read<Duration>,
    pub(super) burst_wait_timeout: Read<Duration>,
    pub(super) server_connect_timeout: Read<Duration>,
    pub(super) server_lifetime: Read<Duration>,
    pub(super) server_idle_timeout: Read<Duration>,
    pub(super) cancel_timeout: Read<Duration>,
    pub(super) evict_idle: Read<Duration>,
    pub(super) drain_timeout: Read<Duration>,
    pub(super) session: SessionTimeouts,
}

/// Timeouts of sessions, in `[timeouts]`, and again for a database and for one of its users.
#[derive(Debug, Default)]
pub(super) struct SessionTimeouts {
    pub(super) query_timeout: Read<Duration>,
    pub(super) transaction_timeout: Read<Duration>,
    pub(super) idle_in_transaction_timeout: Read<Duration>,
    pub(super) client_idle_timeout: Read<Duration>,
    pub(super) client_stall_timeout: Read<Duration>,
}

/// `[client_tls]`
#[derive(Debug, Default)]
pub(super) struct ClientTlsKeys {
    pub(super) mode: Read<ClientTlsMode>,
    pub(super) cert_file: Read<PathBuf>,
    pub(super) key_file: Read<PathBuf>,
}

/// `[functions]`
#[derive(Debug, Default)]
pub(super) struct Functions {
    pub(super) name_pattern: Read<NamePattern>,
    pub(super) tags: Read<Vec<Entry<String>>>,
}

/// `[databases.NAME]`
#[derive(Debug)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) at: Origin,
    pub(super) upstream: Read<UpstreamUrl>,
    pub(super) upstream_password: Read<Secret>,
    pub(super) max_db_connections: Read<usize>,
    /// Most clients over all users of the database.
    pub(super) max_clients: Read<usize>,
    pub(super) pool: PoolKeys,
    pub(super) users: Vec<DatabaseUser>,
}

/// `[databases.NAME.users.NAME]`
#[derive(Debug)]
pub(super) struct DatabaseUser {
    pub(super) name: String,
    pub(super) at: Origin,
    pub(super) max_clients: Read<usize>,
    pub(super) pool: PoolKeys,
}

/// What can be said of the pools of a database, and again of the pool of one of its users.
#[derive(Debug, Default)]
pub(super) struct PoolKeys {
    pub(super) pool_size: Read<usize>,
    pub(super) min_pool_size: Read<usize>,
    pub(super) pool_mode: Read<PoolMode>,
    pub(super) max_waiting: Read<usize>,
    pub(super) query_wait_timeout: Read<Duration>,
    pub(super) burst_wait_timeout: Read<Duration>,
    pub(super) admission: Read<Admission>,
    pub(super) adaptive_limit: Read<AdaptiveLimit>,
    pub(super) adaptive_min: Read<usize>,
    pub(super) server_lifetime: Read<Duration>,
    pub(super) server_idle_timeout: Read<Duration>,
    pub(super) session: SessionKeys,
}

/// What can be said of the sessions of a pool's clients.
#[derive(Debug, Default)]
pub(super) struct SessionKeys {
    pub(super) timeouts: SessionTimeouts,
    pub(super) abandoned: Read<Abandoned>,
    pub(super) reset: Read<Reset>,
    pub(super) max_prepared_statements: Read<usize>,
    pub(super) promote_unnamed: Read<bool>,
    /// Whether they are stripped.
    pub(super) trace_comments: Read<bool>,
    pub(super) pin_timeout: Read<Duration>,
    pub(super) pin_budget: Read<f64>,
    /// The good ones of the sub-section; whatever else is in it is noted.
    pub(super) pins: Vec<(PinReason, PinPolicy)>,
}

/// `[upstreams."HOST:PORT"]`
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) at: Origin,
    pub(super) max_connections: Read<usize>,
    pub(super) reserved_connections: Read<usize>,
    pub(super) max_dials: Read<usize>,
    pub(super) dial_rate: Read<usize>,
    pub(super) dial_burst: Read<usize>,
    pub(super) server_connect_timeout: Read<Duration>,
    pub(super) cancel_timeout: Read<Duration>,
}

/// `[users.NAME]`
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) at: Origin,
    pub(super) secret: Read<UserSecret>,
    pub(super) max_clients: Read<usize>,
    /// It may use the `reserved_connections` of servers.
    pub(super) reserved: Read<bool>,
    pub(super) databases: Read<Vec<Entry<String>>>,
}

/// Reads a file's text. None: its syntax is broken; the faults then name every broken line, and the wrong keys and
/// values of the others, but nothing that may be missing only because the parser lost its way.
pub(super) fn read(path: &Path, text: &str, environment: &dyn Environment, faults: &Faults) -> Option<File> {
    let (tree, syntax_errors) = DeTable::parse_recoverable(text);
    let values = Faults::default();
    let reader = Reader::new(path, text, &values);
    let file = reader.root(tree.get_ref(), |root| whole(root, environment));
    let mut broken = BTreeSet::new();
    for error in &syntax_errors {
        let start = error.span().map_or(0, |span| span.start);
        faults.add(&reader.origin(start, ""), format!("not TOML: {}", error.message()));
        broken.insert(reader.line(start));
    }
    // Keys behind a broken header stand in the wrong section.
    let is_header = |line: usize| {
        text.lines().nth(line.saturating_sub(1)).is_some_and(|line| line.trim_start().starts_with('['))
    };
    let lost = broken.iter().copied().find(|line| is_header(*line)).unwrap_or(usize::MAX);
    faults.absorb(values, |line| line < lost && !broken.contains(&line));
    syntax_errors.is_empty().then_some(file)
}

fn whole(root: &mut Section<'_, '_>, environment: &dyn Environment) -> File {
    File {
        at: root.at().clone(),
        listen: root.list("listen", str::parse),
        admin: root.parsed("admin", admin_address),
        admin_token: secrets::read(root, &secrets::ADMIN_TOKEN, environment),
        threads: root.count("threads", defaults::THREADS),
        preflight: root.choice("preflight", &PREFLIGHTS),
        log: root.parsed("log", str::parse),
        auth_type: root.section("auth", auth),
        limits: root.section("limits", limits),
        timeouts: root.section("timeouts", timeouts),
        client_tls: root.section("client_tls", client_tls),
        functions: root.section("functions", functions),
        traces: root.section("traces", |section| traces::read(section, environment)),
        rate_limits: root.named("rate_limits", rate_limits::read),
        databases: root.named("databases", |name, section| database(name, section, environment)),
        shares: root.named("shares", share),
        upstreams: root.named("upstreams", upstream),
        users: root.named("users", |name, section| user(name, section, environment)),
    }
}

const PREFLIGHTS: [(&str, Preflight); 3] =
    [("warn", Preflight::Warn), ("refuse", Preflight::Refuse), ("off", Preflight::Off)];

fn admin_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let wrong = |_| format!("{text:?} is not an IP address with a port, as 127.0.0.1:9432, nor \"off\"");
    text.parse().map(Some).map_err(wrong)
}

fn auth(section: &mut Section<'_, '_>) -> Read<AuthMethod> {
    let methods = [
        ("scram-sha-256", AuthMethod::ScramSha256),
        ("md5", AuthMethod::Md5),
        ("password", AuthMethod::Password),
        ("trust", AuthMethod::Trust),
    ];
    section.choice("auth_type", &methods)
}

fn limits(section: &mut Section<'_, '_>) -> Limits {
    Limits {
        max_clients: section.count("max_clients", defaults::CLIENTS),
        max_handshakes: section.count("max_handshakes", defaults::CLIENTS),
        listen_backlog: section.count("listen_backlog", defaults::BACKLOG),
        default_pool_size: section.count("default_pool_size", defaults::SERVER_CONNECTIONS),
        max_waiting: section.count("max_waiting", defaults::WAITING),
        max_dials: section.count("max_dials", defaults::DIALS),
        dial_rate: section.count("dial_rate", defaults::DIAL_RATES),
        dial_burst: section.count("dial_burst", defaults::DIAL_RATES),
        pkt_buf: section.size("pkt_buf", defaults::BUFFER),
        client_spool: section.size("client_spool", defaults::CLIENT_SPOOLS),
        max_spool: section.size("max_spool", defaults::MAX_SPOOLS),
        statement_cache_entries: section.count("statement_cache_entries", defaults::CACHE_ENTRIES),
        statement_cache_size: section.size("statement_cache_size", defaults::CACHE_SIZES),
    }
}

fn timeouts(section: &mut Section<'_, '_>) -> Timeouts {
    Timeouts {
        client_login_timeout: section.duration("client_login_timeout"),
        query_wait_timeout: section.duration("query_wait_timeout"),
        burst_wait_timeout: section.duration("burst_wait_timeout"),
        server_connect_timeout: section.duration("server_connect_timeout"),
        server_lifetime: section.duration_or_zero("server_lifetime"),
        server_idle_timeout: section.duration_or_zero("server_idle_timeout"),
        cancel_timeout: section.duration("cancel_timeout"),
        evict_idle: section.duration_or_zero("evict_idle"),
        drain_timeout: section.duration_or_zero("drain_timeout"),
        session: session_timeouts(section),
    }
}

fn session_timeouts(section: &mut Section<'_, '_>) -> SessionTimeouts {
    SessionTimeouts {
        query_timeout: section.duration_or_zero("query_timeout"),
        transaction_timeout: section.duration_or_zero("transaction_timeout"),
        idle_in_transaction_timeout: section.duration_or_zero("idle_in_transaction_timeout"),
        client_idle_timeout: section.duration_or_zero("client_idle_timeout"),
        client_stall_timeout: section.duration_or_zero("client_stall_timeout"),
    }
}

fn client_tls(section: &mut Section<'_, '_>) -> ClientTlsKeys {
    let modes = [
        ("disable", ClientTlsMode::Disable),
        ("prefer", ClientTlsMode::Prefer),
        ("require", ClientTlsMode::Require),
    ];
    ClientTlsKeys {
        mode: section.choice("mode", &modes),
        cert_file: section.path("cert_file"),
        key_file: section.path("key_file"),
    }
}

fn functions(section: &mut Section<'_, '_>) -> Functions {
    Functions {
        name_pattern: section.parsed("name_pattern", NamePattern::new),
        tags: section.list("tags", |tag| {
            let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            if tag.is_empty() || tag.len() > 64 || !tag.bytes().all(is_key) {
                return Err(format!("{tag:?} is not the name of a tag: letters, digits, '_', '.' and '-'"));
            }
            Ok(tag.to_owned())
        }),
    }
}

fn database(name: &str, section: &mut Section<'_, '_>, environment: &dyn Environment) -> Database {
    let directory = section.reader().resolve("");
    if name == "*" {
        section.fault(section.at(), "a database for all names is not supported: name each one");
    }
    Database {
        name: name.to_owned(),
        at: section.at().clone(),
        upstream: section.parsed("upstream", |text| UpstreamUrl::parse(text, &directory)),
        upstream_password: secrets::read(section, &secrets::UPSTREAM_PASSWORD, environment),
        max_db_connections: section.count("max_db_connections", defaults::SERVER_CONNECTIONS),
        max_clients: section.count("max_clients", defaults::CLIENTS),
        pool: pool(section),
        users: section.named("users", database_user),
    }
}

fn database_user(name: &str, section: &mut Section<'_, '_>) -> DatabaseUser {
    DatabaseUser {
        name: name.to_owned(),
        at: section.at().clone(),
        max_clients: section.count("max_clients", defaults::CLIENTS),
        pool: pool(section),
    }
}

fn pool(section: &mut Section<'_, '_>) -> PoolKeys {
    let modes = [
        ("transaction", PoolMode::Transaction),
        ("session", PoolMode::Session),
        ("statement", PoolMode::Statement),
    ];
    let admission = [("enforce", Admission::Enforce), ("observe", Admission::Observe)];
    let adaptive = [AdaptiveLimit::Off, AdaptiveLimit::Observe, AdaptiveLimit::Enforce]
        .map(|mode| (mode.as_str(), mode));
    PoolKeys {
        pool_size: section.count("pool_size", defaults::SERVER_CONNECTIONS),
        min_pool_size: section.count("min_pool_size", 0..=*defaults::SERVER_CONNECTIONS.end()),
        pool_mode: section.choice("pool_mode", &modes),
        max_waiting: section.count("max_waiting", defaults::WAITING),
        query_wait_timeout: section.duration("query_wait_timeout"),
        burst_wait_timeout: section.duration("burst_wait_timeout"),
        admission: section.choice("admission", &admission),
        adaptive_limit: section.choice("adaptive_limit", &adaptive),
        adaptive_min: section.count("adaptive_min", defaults::SERVER_CONNECTIONS),
        server_lifetime: section.duration_or_zero("server_lifetime"),
        server_idle_timeout: section.duration_or_zero("server_idle_timeout"),
        session: session(section),
    }
}

fn session(section: &mut Section<'_, '_>) -> SessionKeys {
    let abandoned = [("cancel", Abandoned::Cancel), ("finish", Abandoned::Finish)];
    let reset = [("auto", Reset::Auto), ("always", Reset::Always)];
    SessionKeys {
        timeouts: session_timeouts(section),
        abandoned: section.choice("abandoned", &abandoned),
        reset: section.choice("reset", &reset),
        max_prepared_statements: section.count("max_prepared_statements", defaults::PREPARED_STATEMENTS),
        promote_unnamed: section.boolean("promote_unnamed"),
        trace_comments: section.choice("trace_comments", &[("strip", true), ("keep", false)]),
        pin_timeout: section.duration_or_zero("pin_timeout"),
        pin_budget: section.fraction("pin_budget"),
        pins: section.section("pins", pins),
    }
}

fn pins(section: &mut Section<'_, '_>) -> Vec<(PinReason, PinPolicy)> {
    let policies = [("allow", PinPolicy::Allow), ("warn", PinPolicy::Warn), ("reject", PinPolicy::Reject)];
    // More settings than the proxy keeps are its own bound and no wish of the client: there is no policy for that.
    let reasons = PinReason::ALL.into_iter().filter(|reason| *reason != PinReason::SessionMode);
    reasons.filter_map(|reason| Some((reason, section.choice(reason.as_str(), &policies).value()?))).collect()
}

/// What is wrong is noted; the default is then as good as any.
fn share(name: &str, section: &mut Section<'_, '_>) -> (String, KeyTerms) {
    let default = KeyTerms::default();
    let weight = section.count("weight", defaults::WEIGHTS).value();
    let terms = KeyTerms {
        weight: weight.map_or(default.weight, |weight| weight as f64),
        min_share: section.fraction("min_share").or(default.min_share),
        max_share: section.fraction("max_share").or(default.max_share),
        reserved: section.boolean("reserved").or(default.reserved),
    };
    (name.to_owned(), terms)
}

fn upstream(name: &str, section: &mut Section<'_, '_>) -> Upstream {
    Upstream {
        name: name.to_owned(),
        at: section.at().clone(),
        max_connections: section.count("max_connections", defaults::SERVER_CONNECTIONS),
        reserved_connections: section.count("reserved_connections", 0..=*defaults::SERVER_CONNECTIONS.end()),
        max_dials: section.count("max_dials", defaults::DIALS),
        dial_rate: section.count("dial_rate", defaults::DIAL_RATES),
        dial_burst: section.count("dial_burst", defaults::DIAL_RATES),
        server_connect_timeout: section.duration("server_connect_timeout"),
        cancel_timeout: section.duration("cancel_timeout"),
    }
}

fn user(name: &str, section: &mut Section<'_, '_>, environment: &dyn Environment) -> User {
    User {
        name: name.to_owned(),
        at: section.at().clone(),
        secret: user_secret(section, environment),
        max_clients: section.count("max_clients", defaults::CLIENTS),
        reserved: section.boolean("reserved"),
        databases: section.list("databases", |text| Ok(text.to_owned())),
    }
}

fn user_secret(section: &mut Section<'_, '_>, environment: &dyn Environment) -> Read<UserSecret> {
    match secrets::read(section, &secrets::USER_PASSWORD, environment) {
        Read::Absent => Read::Absent,
        Read::Bad => Read::Bad,
        Read::Good(Entry { value, at }) => match secrets::user_secret(value) {
            Ok(value) => Read::Good(Entry { value, at }),
            Err(message) => {
                section.fault(&at, message);
                Read::Bad
            }
        },
    }
}

/// The keys that a reader of files asks for, with `*` for names.
#[cfg(test)]
pub(super) fn known_keys(text: &str, environment: &dyn Environment) -> BTreeSet<String> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let faults = Faults::default();
    let reader = Reader::new(Path::new("known.toml"), text, &faults);
    reader.root(tree.get_ref(), |root| whole(root, environment));
    reader.known()
}
