//! How often PostgreSQL ran a plan's statements, by `pg_stat_statements`.

use super::normal::{counted_texts, normalised};
use super::server::{ServerError, server_started};
use crate::leg::StatementCount;
use crate::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;
use tokio_postgres::{Client, Error};

/// Counts of a moment, to be compared with those of a later one.
#[derive(Debug)]
pub(super) struct Counting {
    texts: BTreeSet<String>,
    view: String,
    server_started: SystemTime,
    before: Calls,
}

/// Why statements are not counted.
#[derive(Debug)]
pub(super) enum Uncounted {
    /// The plan has only statements that cannot be recognised, or are not planned.
    NothingToCount,
    /// The module is not in `shared_preload_libraries`.
    NotLoaded,
    /// The extension is not in the database. It is not ours to create: it would stay.
    NoExtension,
    /// `pg_stat_statements.track` is `none`.
    NotTracked,
    /// Texts of other roles' statements are hidden from us, and some of them ran meanwhile.
    Hidden,
    /// The counts of before are gone.
    Reset,
    /// The view could not be read.
    Unreadable(ServerError),
}

impl fmt::Display for Uncounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("statements that PostgreSQL ran were not counted: ")?;
        match self {
            Self::NothingToCount => f.write_str("the plan has none that can be recognised"),
            Self::NotLoaded => f.write_str("pg_stat_statements is not in its shared_preload_libraries"),
            Self::NoExtension => f.write_str("its database needs `create extension pg_stat_statements`"),
            Self::NotTracked => f.write_str("its pg_stat_statements.track is \"none\""),
            Self::Hidden => f.write_str("the observer's role may not see other roles'; grant it pg_monitor"),
            Self::Reset => f.write_str("pg_stat_statements was reset, or forgot some of them, meanwhile"),
            Self::Unreadable(error) => write!(f, "pg_stat_statements cannot be read: {error}"),
        }
    }
}

impl From<ServerError> for Uncounted {
    fn from(error: ServerError) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Error> for Uncounted {
    fn from(error: Error) -> Self {
        Self::Unreadable(error.into())
    }
}

impl Counting {
    /// Takes the counts of now, of the connection's database.
    pub(super) async fn begin(client: &Client, plan: &Plan) -> Result<Self, Uncounted> {
        let texts = counted_texts(plan);
        if texts.is_empty() {
            return Err(Uncounted::NothingToCount);
        }
        let track = client.query_one("select current_setting('pg_stat_statements.track', true)", &[]).await?;
        match track.try_get::<_, Option<&str>>(0)? {
            None | Some("") => return Err(Uncounted::NotLoaded),
            Some("none") => return Err(Uncounted::NotTracked),
            Some(_) => {}
        }
        let view = view(client).await?;
        let before = Calls::read(client, &view, &texts).await?;
        Ok(Self { texts, view, server_started: server_started(client).await?, before })
    }

    /// What was executed since, of which `heard` reached clients. Fewer than that may have been counted: a statement of
    /// the extended protocol whose transaction is rolled back before its portal is closed is answered but not counted.
    pub(super) async fn end(self, client: &Client, heard: u64) -> Result<StatementCount, Uncounted> {
        let now = Calls::read(client, &self.view, &self.texts).await?;
        let executed = now.since(&self.before)?;
        // In a crash the counts are lost, and nothing tells so but that they do not suffice.
        if executed < heard && server_started(client).await? != self.server_started {
            return Err(Uncounted::Reset);
        }
        Ok(StatementCount { executed, heard })
    }
}

/// How often statements had been executed at one moment.
#[derive(Debug, Default)]
struct Calls {
    /// The plan's, by role and query.
    by_query: BTreeMap<(u32, i64), i64>,
    /// Those whose text we may not see.
    hidden: i64,
}

impl Calls {
    async fn read(client: &Client, view: &str, texts: &BTreeSet<String>) -> Result<Self, Error> {
        let mut calls = Self::default();
        for row in client.query(view, &[]).await? {
            let count: i64 = row.try_get("calls")?;
            let Some(query) = row.try_get::<_, Option<i64>>("queryid")? else {
                calls.hidden = calls.hidden.saturating_add(count);
                continue;
            };
            let text: Option<&str> = row.try_get("query")?;
            if text.is_some_and(|text| texts.contains(&normalised(text))) {
                calls.by_query.insert((row.try_get("userid")?, query), count);
            }
        }
        Ok(calls)
    }

    fn since(&self, before: &Self) -> Result<u64, Uncounted> {
        if self.hidden != before.hidden {
            return Err(Uncounted::Hidden);
        }
        let of = |calls: &Self, key| calls.by_query.get(key).copied().unwrap_or(0);
        if before.by_query.keys().any(|key| of(self, key) < of(before, key)) {
            return Err(Uncounted::Reset);
        }
        let executed: i64 = self.by_query.keys().map(|key| of(self, key) - of(before, key)).sum();
        Ok(u64::try_from(executed).unwrap_or(0))
    }
}

/// How the extension's view is read, wherever it was installed and whichever version it has. Statements within functions
/// are no statements of the plan; before version 1.9 of the extension they could not be told apart.
async fn view(client: &Client) -> Result<String, Uncounted> {
    let find = "select extnamespace::regnamespace::text as schema, \
                       exists (select from pg_attribute join pg_class on attrelid = pg_class.oid \
                               where relname = 'pg_stat_statements' and relnamespace = extnamespace \
                                     and attname = 'toplevel') as tells_level \
                from pg_extension where extname = 'pg_stat_statements'";
    let row = client.query_opt(find, &[]).await?.ok_or(Uncounted::NoExtension)?;
    let (schema, tells_level): (String, bool) = (row.try_get("schema")?, row.try_get("tells_level")?);
    let level = if tells_level { "and toplevel" } else { "" };
    Ok(format!(
        "select userid, queryid, query, calls from {schema}.pg_stat_statements \
         where dbid = (select oid from pg_database where datname = current_database()) {level}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(by_query: &[(i64, i64)], hidden: i64) -> Calls {
        let by_query = by_query.iter().map(|&(query, calls)| ((10, query), calls)).collect();
        Calls { by_query, hidden }
    }

    #[test]
    fn executions_are_what_came_in_addition() {
        let now = calls(&[(1, 12), (2, 5)], 3);
        assert_eq!(now.since(&calls(&[(1, 10)], 3)).unwrap(), 7);
    }

    #[test]
    fn counts_that_cannot_be_true_are_none() {
        let now = calls(&[(1, 12)], 3);
        assert!(matches!(now.since(&calls(&[(1, 10)], 2)), Err(Uncounted::Hidden)));
        assert!(matches!(now.since(&calls(&[(1, 13)], 3)), Err(Uncounted::Reset)));
        assert!(matches!(now.since(&calls(&[(2, 1)], 3)), Err(Uncounted::Reset)));
    }
}
