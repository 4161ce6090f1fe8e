//! What a server allows one of our logins, and who else is there: one question, one row.

use super::finding::Finding;
use crate::pool::PoolParams;

/// As what the connections of [`login`](super::login) show themselves in `pg_stat_activity`; they are not counted.
pub(super) const APPLICATION_NAME: &str = "pgcorral check";

/// For any role, from PostgreSQL 10 on; `reserved_connections` and `pg_use_reserved_connections` came with 16.
///
/// Without `pg_read_all_stats` a role sees that others' backends are there, but neither their type nor their address: what
/// belongs to a role and a database then counts as a client's. A connection of the same role, to the same database, from
/// the same address as ours is taken for one of the proxy's own.
pub(super) const QUESTION: &str = "\
SELECT current_setting('max_connections'), current_setting('superuser_reserved_connections'), \
coalesce(current_setting('reserved_connections', true), '0'), r.rolsuper, \
EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE g.rolname = 'pg_use_reserved_connections' \
AND pg_has_role(r.oid, g.oid, 'USAGE')), \
r.rolconnlimit, d.datconnlimit, \
CASE WHEN r.rolvaliduntil <= now() + interval '7 days' THEN r.rolvaliduntil::text END, r.rolvaliduntil <= now(), \
others.* \
FROM pg_catalog.pg_roles r, pg_catalog.pg_database d, \
(SELECT count(*), count(*) FILTER (WHERE a.usesysid = me.usesysid), count(*) FILTER (WHERE a.datid = me.datid), \
count(*) FILTER (WHERE a.usesysid = me.usesysid AND a.datid = me.datid \
AND a.client_addr IS NOT DISTINCT FROM me.client_addr) \
FROM pg_catalog.pg_stat_activity a, \
(SELECT * FROM pg_catalog.pg_stat_activity WHERE pid = pg_backend_pid()) me \
WHERE a.pid <> me.pid AND a.usesysid IS NOT NULL AND a.datid IS NOT NULL \
AND coalesce(a.backend_type, 'client backend') = 'client backend' \
AND a.application_name IS DISTINCT FROM 'pgcorral check') others \
WHERE r.rolname = session_user AND d.datname = current_database()";

/// What a server says to one login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The role that is logged in.
    pub(super) role: String,
    /// The database that it is logged in to.
    pub(super) database: String,
    pub(super) max_connections: u64,
    pub(super) superuser_reserved: u64,
    /// `reserved_connections`; 0 before PostgreSQL 16.
    pub(super) reserved: u64,
    /// `rolsuper`
    pub(super) is_superuser: bool,
    /// It has the rights of `pg_use_reserved_connections`.
    pub(super) may_use_reserved: bool,
    /// `rolconnlimit`. None: no limit.
    pub(super) role_limit: Option<u64>,
    /// `datconnlimit`. None: no limit.
    pub(super) database_limit: Option<u64>,
    /// `rolvaliduntil`, if that is over or within a week.
    pub(super) expires: Option<Expiry>,
    /// Who else is there now.
    pub(super) present: Present,
}

/// When a role's password expires, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expiry {
    /// As the server writes it.
    pub(super) at: String,
    pub(super) is_over: bool,
}

/// Client backends, without the one that asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Present {
    pub(super) server: u64,
    pub(super) role: u64,
    pub(super) database: u64,
    /// Of this role, in this database, from our address: very likely a running proxy's.
    pub(super) own: u64,
}

impl Facts {
    /// Reads the answer to [`QUESTION`]; None if it is not one.
    pub(super) fn read<T: AsRef<str>>(login: &PoolParams, row: &[Option<T>]) -> Option<Self> {
        let text = |at: usize| row.get(at)?.as_ref().map(AsRef::as_ref);
        let number = |at| text(at)?.parse::<u64>().ok();
        // -1 is no limit; -2 marks a database whose removal was cut short, and nobody logs in to that.
        let limit = |at| Some(u64::try_from(text(at)?.parse::<i64>().ok()?).ok());
        let flag = |at| text(at) == Some("t");
        Some(Self {
            role: login.credentials.user.clone(),
            database: login.server_database.clone(),
            max_connections: number(0)?,
            superuser_reserved: number(1)?,
            reserved: number(2)?,
            is_superuser: flag(3),
            may_use_reserved: flag(4),
            role_limit: limit(5)?,
            database_limit: limit(6)?,
            expires: text(7).map(|at| Expiry { at: at.to_owned(), is_over: flag(8) }),
            present: Present {
                server: number(9)?,
                role: number(10)?,
                database: number(11)?,
                own: number(12)?,
            },
        })
    }

    /// Connections that the server has for everybody, and none of them kept for administrators.
    pub(super) fn unreserved_slots(&self) -> u64 {
        self.max_connections.saturating_sub(self.superuser_reserved).saturating_sub(self.reserved)
    }

    /// Connections that this role can fill (`InitPostgres()` in PostgreSQL's `postinit.c`).
    pub(super) fn slots(&self) -> u64 {
        match () {
            () if self.is_superuser => self.max_connections,
            () if self.may_use_reserved => self.max_connections.saturating_sub(self.superuser_reserved),
            () => self.unreserved_slots(),
        }
    }
}

/// The login went well, and the question did not.
pub(super) fn unknown(login: &PoolParams, why: &str) -> Finding {
    let (role, database) = (&login.credentials.user, &login.server_database);
    Finding::warning(format!(
        "database {database}: the server does not say what it allows {role} ({why}); the pools cannot be compared with it"
    ))
}

#[cfg(test)]
mod tests {
    use super::{APPLICATION_NAME, QUESTION};

    #[test]
    fn question_leaves_out_who_asks() {
        assert!(QUESTION.contains(&format!("IS DISTINCT FROM '{APPLICATION_NAME}'")));
    }
}
