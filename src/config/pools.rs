//! Databases, their pools, and the servers behind them; and that every bound fits into the next larger one.
//!
//! A bound that is written and does not fit is a fault: somebody expects more connections than there can be. A default
//! that does not fit is cut down: nobody has asked for it.

use std::sync::Arc;
use std::time::Duration;

use super::build::Context;
use super::defaults;
use super::error::Origin;
use super::file::{Database, DatabaseUser, PoolKeys, Upstream};
use super::logins::{Login, upstream_password};
use super::model::{DatabaseParams, UpstreamConfig};
use super::nearest::nearest;
use super::reader::{Entry, Read};
use super::sessions;
use super::url::{UpstreamUrl, parse_address};
use crate::client::{AuthMethod, UserSecret};
use crate::pool::{AdaptiveLimit, PoolMode, PoolParams};
use crate::server::{Credentials, ServerTls, TlsVerify, UpstreamParams};

/// A database whose URL could be read.
type Reachable<'c> = (&'c Database, &'c Entry<UpstreamUrl>);

/// A bound that is written, and the key that says so.
struct Ceiling<'c> {
    most: usize,
    key: &'c str,
}

impl<'c> Ceiling<'c> {
    fn of(read: &'c Read<usize>) -> Option<Self> {
        read.good().map(|entry| Self { most: entry.value, key: entry.at.key() })
    }
}

/// One upstream for each address, in the order of its first database.
pub(super) fn upstreams(context: &Context<'_>) -> Vec<UpstreamConfig> {
    let mut groups: Vec<Vec<Reachable<'_>>> = Vec::new();
    for database in &context.file.databases {
        let Some(url) = database.upstream.good() else { continue };
        let same = |group: &&mut Vec<Reachable<'_>>| {
            group.iter().any(|(_, known)| known.value.address == url.value.address)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push((database, url)),
            None => groups.push(vec![(database, url)]),
        }
    }
    check_upstream_names(context, &groups);
    groups.iter().filter_map(|group| upstream(context, group)).collect()
}

fn upstream(context: &Context<'_>, group: &[Reachable<'_>]) -> Option<UpstreamConfig> {
    let (_, url) = group.first()?;
    check_tls(context, group);
    let keys = context.file.upstreams.iter().find(|keys| leads_to(keys, &url.value));
    let ceiling = keys.and_then(|keys| Ceiling::of(&keys.max_connections));
    let databases: Vec<_> = group.iter().map(|one| database(context, *one, ceiling.as_ref())).collect();
    let wanted = databases.iter().map(|database| database.max_connections).fold(0, usize::saturating_add);
    if let Some(bound) = keys.and_then(|keys| keys.max_connections.good()) {
        check_warm(context, bound, databases.iter().flat_map(|database| &database.pools));
    }
    let bound = ceiling.map_or(wanted, |ceiling| ceiling.most);
    let (file, absent) = (context.file, Read::Absent);
    let own = |pick: fn(&Upstream) -> &Read<Duration>| keys.map_or(&absent, pick);
    let rate = |pick: fn(&Upstream) -> &Read<usize>, general: &Read<usize>, default: u32| {
        let written = keys.and_then(|keys| pick(keys).value()).or(general.value());
        written.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(default)
    };
    let params = UpstreamParams {
        address: url.value.address.clone(),
        tls: url.value.tls.clone(),
        max_connections: bound,
        max_dials: keys
            .map_or(&Read::Absent, |keys| &keys.max_dials)
            .or(file.limits.max_dials.or(defaults::MAX_DIALS)),
        reserved_connections: reserved(context, keys, &databases, bound),
        dial_rate: rate(|keys| &keys.dial_rate, &file.limits.dial_rate, defaults::DIAL_RATE),
        dial_burst: rate(|keys| &keys.dial_burst, &file.limits.dial_burst, defaults::DIAL_BURST),
        connect_timeout: first(
            [own(|keys| &keys.server_connect_timeout), &file.timeouts.server_connect_timeout],
            defaults::SERVER_CONNECT_TIMEOUT,
        ),
        cancel_timeout: first(
            [own(|keys| &keys.cancel_timeout), &file.timeouts.cancel_timeout],
            defaults::CANCEL_TIMEOUT,
        ),
    };
    Some(UpstreamConfig { params, databases })
}

/// Slots for pools of reserved users alone: there is such a user, and something is left for the others.
fn reserved(
    context: &Context<'_>,
    keys: Option<&Upstream>,
    databases: &[DatabaseParams],
    bound: usize,
) -> usize {
    let Some(entry) = keys.and_then(|keys| keys.reserved_connections.good()) else { return 0 };
    if entry.value >= bound {
        let message = format!("{} leaves nothing of the {bound} connections for other users", entry.value);
        context.faults.add(&entry.at, message);
    }
    let mut pools = databases.iter().flat_map(|database| &database.pools);
    if entry.value > 0 && !pools.any(|pool| pool.reserved) {
        context.faults.add(&entry.at, "nobody could use them: no user of this server is `reserved`");
    }
    entry.value
}

fn database(
    context: &Context<'_>,
    (database, url): Reachable<'_>,
    upstream: Option<&Ceiling<'_>>,
) -> DatabaseParams {
    check_login_keys(context, database, url);
    check_overrides(context, database);
    context.check_clients(&database.max_clients);
    let own = Ceiling::of(&database.max_db_connections);
    let ceilings: Vec<_> = own.iter().chain(upstream).collect();
    let logins = context.logins.iter().filter(|login| login.may_use(&database.name));
    let pools: Vec<_> = logins.map(|login| pool(context, (database, url), login, &ceilings)).collect();
    if pools.is_empty() && !context.file.users.is_empty() {
        context.faults.add(&database.at, "no user may log in to it");
    }
    let wanted = pools.iter().map(|pool| pool.size).fold(0, usize::saturating_add);
    if let Some(bound) = database.max_db_connections.good() {
        check_warm(context, bound, pools.iter());
    }
    let above: Vec<_> = upstream.into_iter().collect();
    DatabaseParams {
        name: database.name.clone(),
        max_connections: fitted(context, database.max_db_connections.good(), wanted, &above),
        max_clients: database.max_clients.value(),
        pools,
    }
}

fn pool(
    context: &Context<'_>,
    (database, url): Reachable<'_>,
    login: &Login,
    ceilings: &[&Ceiling<'_>],
) -> PoolParams {
    let (file, general) = (context.file, &database.pool);
    let nothing = PoolKeys::default();
    let user = database.users.iter().find(|user| user.name == login.name);
    let own = user.map_or(&nothing, |user| &user.pool);
    let size = size(context, own, general, ceilings);
    let mode = first([&own.pool_mode, &general.pool_mode], defaults::POOL_MODE);
    PoolParams {
        database: database.name.clone(),
        user: login.name.clone(),
        server_database: url.value.database.clone().unwrap_or_else(|| database.name.clone()),
        credentials: credentials(context, (database, url), login),
        mode,
        size,
        reserved: login.reserved,
        min_idle: min_idle(context, own, general, size, &login.name),
        max_waiting: first(
            [&own.max_waiting, &general.max_waiting, &file.limits.max_waiting],
            defaults::MAX_WAITING,
        ),
        max_wait: first(
            [&own.query_wait_timeout, &general.query_wait_timeout, &file.timeouts.query_wait_timeout],
            defaults::QUERY_WAIT_TIMEOUT,
        ),
        burst_wait: first(
            [&own.burst_wait_timeout, &general.burst_wait_timeout, &file.timeouts.burst_wait_timeout],
            defaults::BURST_WAIT_TIMEOUT,
        ),
        admission: first([&own.admission, &general.admission], defaults::ADMISSION),
        adaptive_limit: adaptive_limit(context, own, general, mode),
        adaptive_min: first([&own.adaptive_min, &general.adaptive_min], defaults::ADAPTIVE_MIN).min(size),
        shares: Arc::clone(&context.shares),
        server_lifetime: first(
            [&own.server_lifetime, &general.server_lifetime, &file.timeouts.server_lifetime],
            defaults::SERVER_LIFETIME,
        ),
        server_idle_timeout: first(
            [&own.server_idle_timeout, &general.server_idle_timeout, &file.timeouts.server_idle_timeout],
            defaults::SERVER_IDLE_TIMEOUT,
        ),
        max_clients: user.and_then(|user| user.max_clients.value()),
        session: sessions::params(&own.session, &general.session, &file.timeouts.session),
    }
}

/// The first one that is written, or the default.
pub(super) fn first<T: Copy, const N: usize>(reads: [&Read<T>; N], default: T) -> T {
    reads.into_iter().find_map(Read::value).unwrap_or(default)
}

fn size(context: &Context<'_>, own: &PoolKeys, general: &PoolKeys, ceilings: &[&Ceiling<'_>]) -> usize {
    let chosen = own.pool_size.good().or(general.pool_size.good());
    fitted(context, chosen, context.file.limits.default_pool_size.or(defaults::POOL_SIZE), ceilings)
}

/// The bound that is written, which must fit, or the default, which is made to.
fn fitted(
    context: &Context<'_>,
    chosen: Option<&Entry<usize>>,
    default: usize,
    ceilings: &[&Ceiling<'_>],
) -> usize {
    let lowest = |size: usize| ceilings.iter().fold(size, |size, ceiling| size.min(ceiling.most));
    let Some(entry) = chosen else { return lowest(default) };
    for ceiling in ceilings.iter().filter(|ceiling| entry.value > ceiling.most) {
        context
            .faults
            .add(&entry.at, format!("{} is more than {} = {}", entry.value, ceiling.key, ceiling.most));
    }
    lowest(entry.value)
}

/// Sessions that have a server connection do not run all the time, so their number says nothing about the database.
fn adaptive_limit(
    context: &Context<'_>,
    own: &PoolKeys,
    general: &PoolKeys,
    mode: PoolMode,
) -> AdaptiveLimit {
    let Some(entry) = own.adaptive_limit.good().or(general.adaptive_limit.good()) else {
        return defaults::ADAPTIVE_LIMIT;
    };
    if mode == PoolMode::Session && entry.value != AdaptiveLimit::Off {
        context.faults.add(&entry.at, "is for pool_mode \"transaction\" and \"statement\" only");
    }
    entry.value
}

fn min_idle(context: &Context<'_>, own: &PoolKeys, general: &PoolKeys, size: usize, user: &str) -> usize {
    let Some(entry) = own.min_pool_size.good().or(general.min_pool_size.good()) else {
        return defaults::MIN_POOL_SIZE;
    };
    let size_is_known = !own.pool_size.is_bad() && !general.pool_size.is_bad();
    if entry.value > size && size_is_known {
        context
            .faults
            .add(&entry.at, format!("{} is more than the size of the pool of {user}, {size}", entry.value));
    }
    entry.value.min(size)
}

/// What must be kept open at all times fits into the bound.
fn check_warm<'p>(context: &Context<'_>, bound: &Entry<usize>, pools: impl Iterator<Item = &'p PoolParams>) {
    let warm = pools.map(|pool| pool.min_idle).fold(0, usize::saturating_add);
    if warm > bound.value {
        let message = format!("{} is less than the sum of min_pool_size of its pools, {warm}", bound.value);
        context.faults.add(&bound.at, message);
    }
}

fn credentials(context: &Context<'_>, (database, url): Reachable<'_>, login: &Login) -> Credentials {
    if let Some(user) = &url.value.user {
        return Credentials { user: user.clone(), password: upstream_password(database, &url.value) };
    }
    let trust = context.file.auth_type.is_bad() || context.file.auth_type.value() == Some(AuthMethod::Trust);
    let password = match &login.secret {
        Some(UserSecret::Password(password)) => Some(password.clone()),
        Some(UserSecret::ScramVerifier(_) | UserSecret::Md5Hash(_)) if !trust => {
            let message = format!(
                "is not the password itself, which {} needs to log in to its server: give the password, or a user in \
                 that URL",
                url.at.key()
            );
            context.faults.add(&login.at, message);
            None
        }
        _ => None,
    };
    Credentials { user: login.name.clone(), password }
}

fn check_login_keys(context: &Context<'_>, database: &Database, url: &Entry<UpstreamUrl>) {
    if let Some(entry) = database.upstream_password.good() {
        if url.value.user.is_none() {
            context.faults.add(&entry.at, "needs a user in the upstream URL whose password it is");
        }
        if url.value.password.is_some() {
            context.faults.add(&entry.at, "the secret is given twice: the upstream URL has a password, too");
        }
    }
    if let ServerTls::Require(TlsVerify::Full { ca_file }) = &url.value.tls {
        context.check_readable(&url.at, ca_file);
    }
}

fn check_overrides(context: &Context<'_>, database: &Database) {
    for user in &database.users {
        context.check_clients(&user.max_clients);
        match context.logins.iter().find(|login| login.name == user.name) {
            Some(login) if login.may_use(&database.name) => {}
            Some(_) => context.faults.add(&user.at, "this user may not log in to this database"),
            None => context.faults.add(&user.at, no_such_user(context, user)),
        }
    }
}

fn no_such_user(context: &Context<'_>, user: &DatabaseUser) -> String {
    match nearest(&user.name, context.logins.iter().map(|login| login.name.as_str())) {
        Some(known) => format!("there is no such user; did you mean `{known}`?"),
        None => "there is no such user".to_owned(),
    }
}

fn check_tls(context: &Context<'_>, group: &[Reachable<'_>]) {
    let Some(((_, first), others)) = group.split_first() else { return };
    for (_, url) in others.iter().filter(|(_, url)| url.value.tls != first.value.tls) {
        let message = format!(
            "leads to {} as {} does, but with another sslmode or sslrootcert",
            url.value.address,
            first.at.key()
        );
        context.faults.add(&url.at, message);
    }
}

fn leads_to(keys: &Upstream, url: &UpstreamUrl) -> bool {
    parse_address(&keys.name).is_ok_and(|address| address == url.address)
}

/// Every `[upstreams.NAME]` is a server that a database leads to, and is there once.
fn check_upstream_names(context: &Context<'_>, groups: &[Vec<Reachable<'_>>]) {
    let known: Vec<_> = groups.iter().filter_map(|group| group.first()).map(|(_, url)| &url.value).collect();
    let all_known = context.file.databases.len() == groups.iter().map(Vec::len).sum::<usize>();
    let mut seen: Vec<(_, &Origin)> = Vec::new();
    for keys in &context.file.upstreams {
        let Ok(address) = parse_address(&keys.name) else {
            context.faults.add(&keys.at, "must be called as \"host:port\", \"host\" or the path of a socket");
            continue;
        };
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == address) {
            context.faults.add(&keys.at, format!("is the same server as {}", first.key()));
        }
        if all_known && !known.iter().any(|url| url.address == address) {
            context.faults.add(&keys.at, unused_upstream(&address.to_string(), &known));
        }
        seen.push((address, &keys.at));
    }
}

fn unused_upstream(name: &str, known: &[&UpstreamUrl]) -> String {
    let known: Vec<_> = known.iter().map(|url| url.address.to_string()).collect();
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("no database leads to {name}; did you mean `{near}`?"),
        None => format!("no database leads to {name}"),
    }
}
