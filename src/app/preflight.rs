//! Do the pools fit into their servers? Asked by `pgcorral check --connect` over connections of its own, and at the
//! start of the proxy over those of its pools; with `preflight = "refuse"` before it has any.
//!
//! `facts` is the question to PostgreSQL, `compare` the judgement, `finding` its form; `login` opens the connections of
//! `check`. Nothing here changes anything, and no secret is ever part of a finding.

mod compare;
mod facts;
mod finding;
mod login;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::client::Door;
use crate::config::{Preflight, UpstreamConfig};
use crate::guard::Home;
use crate::pool::{Checkout, Lease, Pool, PoolParams};
use crate::secret::Secret;
use crate::server::{Answer, Connector};
use compare::compare;
use facts::{Facts, QUESTION};
use finding::Finding;
use login::Visit;

pub(super) use finding::Severity;

/// When a server that could not be asked is asked again, and how many times: for an hour.
const AGAIN: (Duration, usize) = (Duration::from_secs(10), 360);
/// How often a pool is looked at for an idle connection.
const LOOK: Duration = Duration::from_millis(50);

/// Logs in to an upstream once for each distinct database and credentials, one after the other, and says what was found.
/// Each login and its question take no longer than `server_connect_timeout`; a server that cannot be reached is not
/// tried again.
pub(super) async fn inspect(upstream: &UpstreamConfig) -> Vec<Finding> {
    let connector = match Connector::new(&upstream.params) {
        Ok(connector) => connector,
        Err(error) => return vec![Finding::error(error.to_string())],
    };
    let (mut findings, mut facts) = (vec![], vec![]);
    let logins = logins(upstream);
    for (done, login) in logins.iter().enumerate() {
        match login::visit(&upstream.params, &connector, login).await {
            Visit::Told(told) => {
                findings.push(login::succeeded(login));
                facts.push(told);
            }
            Visit::Silent(why) => {
                findings.push(login::succeeded(login));
                findings.push(facts::unknown(login, &why));
            }
            Visit::Failed(failure) => {
                findings.push(failure.finding(&upstream.params, login));
                let untried = logins.len() - done - 1;
                if failure.is_of_the_server() && untried > 0 {
                    findings
                        .push(Finding::error(format!("other logins to this server: not tried ({untried})")));
                    break;
                }
            }
        }
    }
    findings.extend(compare(upstream, &facts));
    findings
}

/// Asks every upstream over connections of its own, before the pools have any, whether it allows what the pools may open:
/// at the start, and before a configuration takes the place of another. A server that cannot be asked is no reason to refuse;
/// what is less than an error is logged.
///
/// # Errors
/// With [`Preflight::Refuse`]: what does not fit, a line each.
pub(super) async fn vet(mode: Preflight, upstreams: &[UpstreamConfig]) -> Result<(), Vec<String>> {
    if mode != Preflight::Refuse {
        return Ok(());
    }
    let mut refusals = vec![];
    for upstream in upstreams {
        let facts = ask_server(upstream).await;
        for finding in compare(upstream, &facts) {
            let line = format!("{}: {}", upstream.params.address, finding.text);
            match finding.severity {
                Severity::Ok => {}
                Severity::Warning => tracing::warn!("{line}"),
                Severity::Error => refusals.push(line),
            }
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(refusals) }
}

/// What an upstream tells our logins. Up to the first that fails because of the server.
async fn ask_server(upstream: &UpstreamConfig) -> Vec<Facts> {
    let mut facts = vec![];
    let Ok(connector) = Connector::new(&upstream.params) else { return facts };
    for login in logins(upstream) {
        match login::visit(&upstream.params, &connector, login).await {
            Visit::Told(told) => facts.push(told),
            Visit::Silent(why) => tracing::warn!("{}", facts::unknown(login, &why).text),
            Visit::Failed(failure) => {
                tracing::warn!("{}", failure.finding(&upstream.params, login).text);
                if failure.is_of_the_server() {
                    break;
                }
            }
        }
    }
    facts
}

/// Notes how many connections PostgreSQL allows, as soon as the pools have a connection each; and logs what is wrong, unless
/// that was asked before ([`vet`]). It asks over these: one backend more than the pools may have, even for a moment, could be
/// the one that PostgreSQL refuses. A pool that has none in time is left out, and its failed dial is in the log already; of a
/// server that none of them could ask, it is asked again later.
pub(super) async fn look(door: Arc<Door>, mode: Preflight, mut upstreams: Vec<UpstreamConfig>) {
    let weak = Arc::downgrade(&door);
    let mut door = Some(door);
    for _ in 0..AGAIN.1 {
        let Some(open) = door.take().or_else(|| weak.upgrade()) else { return };
        let mut unknown = vec![];
        for upstream in upstreams {
            if !look_at(&open, mode, &upstream).await {
                unknown.push(upstream);
            }
        }
        if unknown.is_empty() {
            return;
        }
        upstreams = unknown;
        drop(open);
        tokio::time::sleep(AGAIN.0).await;
    }
}

/// False: nobody could ask.
async fn look_at(door: &Door, mode: Preflight, upstream: &UpstreamConfig) -> bool {
    let mut facts = vec![];
    for login in logins(upstream) {
        let asking = ask_pool(door, login);
        facts.extend(timeout(upstream.params.connect_timeout, asking).await.ok().flatten());
    }
    let Some(slots) = facts.iter().map(Facts::slots).min() else { return false };
    if let Some(running) = door.pools.upstreams().iter().find(|up| *up.address() == upstream.params.address) {
        running.allows(slots);
    }
    if mode == Preflight::Warn {
        for finding in compare(upstream, &facts).iter().filter(|finding| finding.severity > Severity::Ok) {
            tracing::warn!(upstream = %upstream.params.address, "{}", finding.text);
        }
    }
    true
}

/// One pool for each distinct login, in the order of the configuration.
fn logins(upstream: &UpstreamConfig) -> Vec<&PoolParams> {
    let mut seen = HashSet::new();
    let pools = upstream.databases.iter().flat_map(|database| &database.pools);
    let distinct = pools.filter(|pool| {
        let password = pool.credentials.password.as_ref().map(Secret::reveal);
        seen.insert((&pool.server_database, &pool.credentials.user, password))
    });
    distinct.collect()
}

async fn ask_pool(door: &Door, login: &PoolParams) -> Option<Facts> {
    let pool = door.pools.database(&login.database)?.pool(&login.user)?;
    let mut lease = idle_connection(pool).await?;
    // Given up half-way, it is closed with the lease.
    let answer = lease.ask(QUESTION).await.ok()?;
    lease.release(Instant::now());
    match answer {
        Answer::Row(row) => Facts::read(login, &row),
        Answer::Nothing | Answer::Refused { .. } => None,
    }
}

/// Waits until a connection is idle, and never in the queue: clients come first. None once a dial has failed.
async fn idle_connection(pool: &Arc<Pool>) -> Option<Lease> {
    while pool.failure().is_none() {
        if pool.snapshot().idle > 0
            && let Checkout::Granted(lease) = pool.checkout(Instant::now(), &pool.own_caller(Home(0)))
        {
            return Some(lease);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}
