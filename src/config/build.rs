//! Puts the values of a file together into the parameters of the parts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::defaults;
use super::environment::Environment;
use super::error::{Faults, Origin};
use super::file::File;
use super::logins::{Login, logins};
use super::model::Config;
use super::pools;
use super::quantity::print_size;
use super::rate_limits;
use super::reader::{Entry, Read};
use super::traces;
use crate::admin::AdminParams;
use crate::client::{ClientParams, ClientTls, ClientTlsMode, TlsIdentity};
use crate::guard::KeyTerms;
use crate::net::ListenAddress;
use crate::proto::function::{FunctionRules, NamePattern};

/// What the steps of building look at.
pub(super) struct Context<'c> {
    pub(super) file: &'c File,
    pub(super) logins: &'c [Login],
    pub(super) environment: &'c dyn Environment,
    pub(super) faults: &'c Faults,
    /// What single functions may have, in every pool.
    pub(super) shares: Arc<HashMap<Box<str>, KeyTerms>>,
}

/// A configuration; to be used only if the faults stay empty.
pub(super) fn build(file: &File, environment: &dyn Environment, faults: &Faults) -> Config {
    let logins = logins(file, faults);
    let shares = file.shares.iter().map(|(name, terms)| (name.as_str().into(), *terms)).collect();
    let context = Context { file, logins: &logins, environment, faults, shares: Arc::new(shares) };
    if file.databases.is_empty() {
        faults.add(&file.at, "there is no [databases.NAME]: nothing to serve");
    }
    for database in file.databases.iter().filter(|database| matches!(database.upstream, Read::Absent)) {
        faults.add(&database.at, "needs an upstream, as postgres://user:password@host:5432/database");
    }
    let listen = listen(&context);
    let admin = admin(&context, &listen);
    Config {
        listen: listen.into_iter().map(|entry| entry.value).collect(),
        admin,
        threads: file.threads.value(),
        preflight: file.preflight.or(defaults::PREFLIGHT),
        log: file.log.good().map(|log| log.value.clone()).unwrap_or_default(),
        traces: traces::build(&context),
        relay_buffer_bytes: file.limits.pkt_buf.or(defaults::PKT_BUF),
        clients: clients(&context),
        upstreams: pools::upstreams(&context),
    }
}

fn listen(context: &Context<'_>) -> Vec<Entry<ListenAddress>> {
    let Some(list) = context.file.listen.good() else {
        return vec![Entry { value: ListenAddress::Tcp(defaults::LISTEN), at: context.file.at.clone() }];
    };
    if list.value.is_empty() {
        context.faults.add(&list.at, "is empty: clients could not connect");
    }
    for (n, entry) in list.value.iter().enumerate() {
        if list.value.iter().take(n).any(|earlier| collide(&earlier.value, &entry.value)) {
            context.faults.add(&entry.at, format!("{} is there twice", entry.value));
        }
    }
    list.value.clone()
}

fn admin(context: &Context<'_>, listen: &[Entry<ListenAddress>]) -> Option<AdminParams> {
    let token = context.file.admin_token.good().map(|entry| entry.value.clone());
    let taken = |address| listen.iter().any(|clients| collide(&clients.value, &ListenAddress::Tcp(address)));
    let Some(entry) = context.file.admin.good() else {
        let (address, is_default) = (defaults::ADMIN, true);
        return (!taken(address)).then_some(AdminParams { address, is_default, token });
    };
    let address = entry.value?;
    if taken(address) {
        context.faults.add(&entry.at, format!("clients connect to {address} already"));
    }
    Some(AdminParams { address, is_default: false, token })
}

/// Whether both cannot be bound. Port 0 is a new port each time.
fn collide(one: &ListenAddress, other: &ListenAddress) -> bool {
    one == other && !matches!(one, ListenAddress::Tcp(address) if address.port() == 0)
}

fn clients(context: &Context<'_>) -> ClientParams {
    let (limits, timeouts) = (&context.file.limits, &context.file.timeouts);
    for user in &context.file.users {
        context.check_clients(&user.max_clients);
    }
    let (client_spool, max_spool) = spools(context);
    let backlog = limits.listen_backlog.value().and_then(|backlog| u32::try_from(backlog).ok());
    ClientParams {
        auth: context.file.auth_type.or(defaults::AUTH),
        tls: client_tls(context),
        max_clients: limits.max_clients.or(defaults::MAX_CLIENTS),
        max_handshakes: limits.max_handshakes.or(defaults::MAX_HANDSHAKES),
        login_timeout: timeouts.client_login_timeout.or(defaults::CLIENT_LOGIN_TIMEOUT),
        listen_backlog: backlog.unwrap_or(defaults::LISTEN_BACKLOG),
        evict_idle: timeouts.evict_idle.or(defaults::EVICT_IDLE),
        drain_timeout: timeouts.drain_timeout.or(defaults::DRAIN_TIMEOUT),
        client_spool,
        max_spool,
        statement_cache_entries: limits.statement_cache_entries.or(defaults::STATEMENT_CACHE_ENTRIES),
        statement_cache_bytes: limits.statement_cache_size.or(defaults::STATEMENT_CACHE_SIZE),
        functions: functions(context),
        rate_limits: rate_limits::build(context),
        users: context.logins.iter().map(Login::params).collect(),
    }
}

fn functions(context: &Context<'_>) -> FunctionRules {
    let keys = &context.file.functions;
    let version = match &keys.name_pattern {
        Read::Good(pattern) => Some(pattern.value.clone()),
        Read::Absent | Read::Bad => NamePattern::new(defaults::NAME_PATTERN).ok(),
    };
    let tags = keys.tags.good().map(|tags| tags.value.iter().map(|tag| tag.value.clone()).collect());
    FunctionRules { version, tags: tags.unwrap_or_default() }
}

/// The bounds for one client and for all of them. If only that for all is written, the other is cut down to it.
fn spools(context: &Context<'_>) -> (usize, usize) {
    let limits = &context.file.limits;
    let most = limits.max_spool.or(defaults::MAX_SPOOL);
    if let (Some(one), Some(all)) = (limits.client_spool.good(), limits.max_spool.good())
        && one.value > all.value
    {
        let sizes = (print_size(one.value), print_size(all.value));
        context.faults.add(&one.at, format!("{} is more than {} = {}", sizes.0, all.at.key(), sizes.1));
    }
    (limits.client_spool.or(defaults::CLIENT_SPOOL).min(most), most)
}

fn client_tls(context: &Context<'_>) -> ClientTls {
    let keys = &context.file.client_tls;
    let mode = keys.mode.or(ClientTlsMode::Disable);
    let mut identity = None;
    match (&keys.cert_file, &keys.key_file) {
        (Read::Good(cert), Read::Good(key)) => {
            if mode != ClientTlsMode::Disable {
                context.check_readable(&cert.at, &cert.value);
                context.check_readable(&key.at, &key.value);
            }
            identity = Some(TlsIdentity { cert_file: cert.value.clone(), key_file: key.value.clone() });
        }
        (Read::Good(cert), Read::Absent) => context.faults.add(&cert.at, "needs a key_file beside it"),
        (Read::Absent, Read::Good(key)) => context.faults.add(&key.at, "needs a cert_file beside it"),
        (Read::Absent, Read::Absent) => {
            if let Some(mode) = keys.mode.good().filter(|mode| mode.value != ClientTlsMode::Disable) {
                context.faults.add(&mode.at, "needs cert_file and key_file");
            }
        }
        (Read::Bad, _) | (_, Read::Bad) => {}
    }
    ClientTls { mode, identity }
}

impl Context<'_> {
    /// A bound on some clients is not above the bound on all of them: whoever wrote it expects to get as many.
    pub(super) fn check_clients(&self, bound: &Read<usize>) {
        let all = &self.file.limits.max_clients;
        let most = all.or(defaults::MAX_CLIENTS);
        if let Some(entry) = bound.good().filter(|entry| entry.value > most && !all.is_bad()) {
            self.faults.add(&entry.at, format!("{} is more than limits.max_clients = {most}", entry.value));
        }
    }

    /// A file that another part will read is there.
    pub(super) fn check_readable(&self, at: &Origin, path: &Path) {
        if let Err(error) = self.environment.read(path) {
            self.faults.add(at, format!("{} cannot be read: {error}", path.display()));
        }
    }
}
