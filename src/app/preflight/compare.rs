//! The judgement: numbers in, findings out.
//!
//! What the pools may open at most is compared with what PostgreSQL allows the whole server, each role and each database.
//! A pool is never larger than what its role and its database may have together, so that it needs no line of its own.

use std::collections::BTreeSet;

use super::facts::{Expiry, Facts};
use super::finding::Finding;
use crate::config::UpstreamConfig;
use crate::pool::PoolParams;

/// Most pools that a line names.
const MOST_NAMES: usize = 3;

/// Compares an upstream's pools with what its logins were told. What nobody was told about is left out.
pub(super) fn compare(upstream: &UpstreamConfig, facts: &[Facts]) -> Vec<Finding> {
    let Some(first) = facts.first() else { return vec![] };
    let comparison = Comparison { upstream, facts };
    let mut findings = comparison.server(first);
    for facts in distinct(facts, |facts| &facts.role) {
        findings.push(comparison.role(facts));
        findings.extend(facts.expires.as_ref().map(|expiry| expires(&facts.role, expiry)));
    }
    findings.extend(distinct(facts, |facts| &facts.database).map(|facts| comparison.database(facts)));
    findings
}

/// The first of each.
fn distinct(facts: &[Facts], key: fn(&Facts) -> &String) -> impl Iterator<Item = &Facts> {
    let mut seen = BTreeSet::new();
    facts.iter().filter(move |facts| seen.insert(key(facts)))
}

struct Comparison<'c> {
    upstream: &'c UpstreamConfig,
    facts: &'c [Facts],
}

impl Comparison<'_> {
    fn server(&self, first: &Facts) -> Vec<Finding> {
        let Facts { max_connections, superuser_reserved, reserved, .. } = first;
        // The least that any of the roles can fill: who may fill more takes it from the others.
        let slots = self.facts.iter().map(Facts::slots).min().unwrap_or(0);
        let wanted = self.wanted(|_| true);
        let bound = Bound {
            what: "server".to_owned(),
            wanted,
            others: first.present.server.saturating_sub(self.own(|_| true)),
            most: Some(slots),
            source: format!(
                "max_connections = {max_connections}, superuser_reserved_connections = {superuser_reserved}, \
                 reserved_connections = {reserved}"
            ),
            remedy: format!(
                "lower pool_size, set [upstreams.\"{}\"] max_connections, or raise the server's max_connections",
                self.upstream.params.address
            ),
        };
        let mut findings = vec![bound.judge()];
        let unreserved = first.unreserved_slots();
        if (unreserved + 1..=slots).contains(&wanted) {
            findings.push(Finding::warning(format!(
                "server: the pools may open {wanted} connections and so take some of those that are reserved for \
                 administrators: {unreserved} are not; log in as a role that may not use them"
            )));
        }
        findings
    }

    fn role(&self, facts: &Facts) -> Finding {
        let role = &facts.role;
        let is_its = |pool: &PoolParams| pool.credentials.user == *role;
        let wanted = self.wanted(is_its);
        Bound {
            what: format!("role {role}"),
            wanted,
            others: facts.present.role.saturating_sub(self.own(|other| other.role == *role)),
            most: facts.role_limit.filter(|_| !facts.is_superuser),
            source: limit_text(facts.role_limit, !facts.is_superuser),
            remedy: format!(
                "lower pool_size of {}, or ALTER ROLE {} CONNECTION LIMIT {wanted}",
                self.names(is_its),
                quoted(role)
            ),
        }
        .judge()
    }

    fn database(&self, facts: &Facts) -> Finding {
        let database = &facts.database;
        let is_its = |pool: &PoolParams| pool.server_database == *database;
        let wanted = self.wanted(is_its);
        // It binds each role that is not a superuser, and counts everybody.
        let mut roles = self.facts.iter().filter(|other| other.database == *database);
        let binds = roles.any(|other| !other.is_superuser);
        Bound {
            what: format!("database {database}"),
            wanted,
            others: facts.present.database.saturating_sub(self.own(|other| other.database == *database)),
            most: facts.database_limit.filter(|_| binds),
            source: limit_text(facts.database_limit, binds),
            remedy: format!(
                "lower pool_size of {}, set max_db_connections, or ALTER DATABASE {} CONNECTION LIMIT {wanted}",
                self.names(is_its),
                quoted(database)
            ),
        }
        .judge()
    }

    /// Connections that some of the pools may have at most, within the bounds that they share.
    fn wanted(&self, counts: impl Fn(&PoolParams) -> bool) -> u64 {
        let databases = self.upstream.databases.iter().map(|database| {
            let sizes = database.pools.iter().filter(|pool| counts(pool)).map(|pool| pool.size);
            sizes.fold(0, usize::saturating_add).min(database.max_connections)
        });
        databases.fold(0, usize::saturating_add).min(self.upstream.params.max_connections) as u64
    }

    /// Connections that some of the pools seem to have already.
    fn own(&self, counts: impl Fn(&Facts) -> bool) -> u64 {
        let mut seen = BTreeSet::new();
        let own =
            self.facts.iter().filter(|facts| counts(facts) && seen.insert((&facts.role, &facts.database)));
        own.map(|facts| facts.present.own).fold(0, u64::saturating_add)
    }

    /// Names of pools, as in metrics and refusals.
    fn names(&self, counts: impl Fn(&PoolParams) -> bool) -> String {
        let pools = self.upstream.databases.iter().flat_map(|database| &database.pools);
        let names: Vec<_> = pools
            .filter(|pool| counts(pool))
            .map(|pool| format!("{}/{}", pool.database, pool.user))
            .collect();
        match names.split_at_checked(MOST_NAMES) {
            Some((some, others @ [_, ..])) => format!("{} and {} more", some.join(", "), others.len()),
            _ => names.join(", "),
        }
    }
}

/// What the pools may open against what they may have.
struct Bound {
    what: String,
    /// Connections that the pools may open at most.
    wanted: u64,
    /// Connections that others have now.
    others: u64,
    /// Connections that PostgreSQL allows; None: any number.
    most: Option<u64>,
    /// Which settings say so.
    source: String,
    remedy: String,
}

impl Bound {
    fn judge(self) -> Finding {
        let Self { what, wanted, others, most, source, remedy } = self;
        match most {
            None => {
                Finding::ok(format!("{what}: the pools may open {wanted}, others have {others}; {source}"))
            }
            Some(most) if wanted > most => Finding::error(format!(
                "{what}: the pools may open {wanted}, and PostgreSQL refuses more than {most} ({source}); {remedy}"
            )),
            Some(most) if wanted.saturating_add(others) > most => Finding::warning(format!(
                "{what}: the pools may open {wanted} and others have {others} now, and PostgreSQL refuses more than {most} \
                 ({source}); see who they are in pg_stat_activity, or {remedy}"
            )),
            Some(most) => Finding::ok(format!(
                "{what}: the pools may open {wanted}, others have {others}, PostgreSQL allows {most} ({source})"
            )),
        }
    }
}

fn limit_text(limit: Option<u64>, binds: bool) -> String {
    match limit {
        None => "no CONNECTION LIMIT".to_owned(),
        Some(limit) if binds => format!("CONNECTION LIMIT {limit}"),
        Some(limit) => format!("CONNECTION LIMIT {limit}, which does not bind a superuser"),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn expires(role: &str, Expiry { at, is_over }: &Expiry) -> Finding {
    // It was let in all the same: pg_hba.conf does not ask it for its password.
    let when = if *is_over { "has expired" } else { "expires within a week" };
    let role = format!(
        "role {role}: its password {when} (VALID UNTIL {at}); ALTER ROLE {} VALID UNTIL",
        quoted(role)
    );
    Finding::warning(format!("{role} a later time or 'infinity'"))
}

#[cfg(test)]
mod tests;
