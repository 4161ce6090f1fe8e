//! Diesel as it comes, over libpq: queries of its own language are prepared by name and kept, those in SQL are not. It sets
//! the client's encoding and time zone when it connects. With r2d2.

use std::process::ExitCode;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use default_drivers::{Checkout, Library, Outcome, Row, Statement, env, moment, row_id};
use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::pg::{Pg, PgConnection, PgRowByRowLoadingMode, PgValue};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::Error;
use diesel::row::{Field as _, NamedRow};
use diesel::sql_types::Integer;
use serde_json::{Value, json};

/// The type that a program's table brings along; Diesel asks the server for its OID.
mod sql_types {
    #[derive(diesel::sql_types::SqlType, diesel::query_builder::QueryId)]
    #[diesel(postgres_type(name = "default_diesel_mood"))]
    pub struct Mood;
}

diesel::table! {
    use diesel::sql_types::*;
    use super::sql_types::Mood;

    default_diesel (id) {
        id -> BigInt,
        client -> Integer,
        label -> Nullable<Text>,
        amount -> Nullable<Numeric>,
        data -> Nullable<Jsonb>,
        tags -> Nullable<Array<Text>>,
        seen -> Nullable<Timestamptz>,
        flag -> Nullable<Bool>,
        ratio -> Nullable<Double>,
        mood -> Nullable<Mood>,
    }
}

#[derive(Debug, Clone, PartialEq, diesel::expression::AsExpression, diesel::deserialize::FromSqlRow)]
#[diesel(sql_type = sql_types::Mood)]
struct Mood(String);

impl diesel::serialize::ToSql<sql_types::Mood, Pg> for Mood {
    fn to_sql<'b>(&'b self, out: &mut diesel::serialize::Output<'b, '_, Pg>) -> diesel::serialize::Result {
        std::io::Write::write_all(out, self.0.as_bytes())?;
        Ok(diesel::serialize::IsNull::No)
    }
}

impl FromSql<sql_types::Mood, Pg> for Mood {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(String::from_utf8(value.as_bytes().to_vec())?))
    }
}

#[derive(Insertable, Queryable)]
#[diesel(table_name = default_diesel)]
struct Item {
    id: i64,
    client: i32,
    label: Option<String>,
    amount: Option<BigDecimal>,
    data: Option<Value>,
    tags: Option<Vec<String>>,
    seen: Option<DateTime<Utc>>,
    flag: Option<bool>,
    ratio: Option<f64>,
    mood: Option<Mood>,
}

impl Item {
    fn new(row: &Row) -> Self {
        Self {
            id: row.id,
            client: row.client,
            label: Some(row.label.clone()),
            amount: BigDecimal::from_str(&row.amount).ok(),
            data: Some(row.data.clone()),
            tags: Some(row.tags.clone()),
            seen: Some(row.seen),
            flag: Some(row.flag),
            ratio: row.ratio,
            mood: Some(Mood(row.mood.to_owned())),
        }
    }

    fn plain(&self) -> Value {
        let (amount, mood) =
            (self.amount.as_ref().map(ToString::to_string), self.mood.as_ref().map(|mood| &mood.0));
        json!([
            self.id,
            self.client,
            self.label,
            amount,
            self.data,
            self.tags,
            self.seen,
            self.flag,
            self.ratio,
            mood
        ])
    }
}

/// A row of any statement.
struct Any(Value);

impl QueryableByName<Pg> for Any {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let value = |at: usize| -> deserialize::Result<Value> {
            let field = diesel::row::Row::get(row, at).ok_or("no such column")?;
            let Some(value) = field.value() else { return Ok(Value::Null) };
            let bytes = value.as_bytes();
            Ok(match value.get_oid().get() {
                16 => json!(bytes == [1]),
                20 => json!(i64::from_be_bytes(bytes.try_into()?)),
                23 => json!(i32::from_be_bytes(bytes.try_into()?)),
                _ => json!(String::from_utf8(bytes.to_vec())?),
            })
        };
        Ok(Self(Value::Array((0..row.field_count()).map(value).collect::<deserialize::Result<_>>()?)))
    }
}

/// The rows of a statement in SQL.
fn all(connection: &mut PgConnection, text: &str, values: &[i32]) -> Outcome {
    let query = diesel::sql_query(text).into_boxed::<Pg>();
    let query = values.iter().fold(query, |query, value| query.bind::<Integer, _>(*value));
    let rows = query.load::<Any>(connection)?;
    Ok(Value::Array(rows.into_iter().map(|row| row.0).collect()))
}

fn refusal<T>(result: Result<T, Error>) -> Outcome {
    match result {
        Err(Error::DatabaseError(kind, error)) => {
            Ok(json!([format!("{kind:?}"), error.constraint_name(), error.message()]))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err("no error".into()),
    }
}

fn insert(connection: &mut PgConnection, row: &Row) -> Result<usize, Error> {
    diesel::insert_into(default_diesel::table).values(Item::new(row)).execute(connection)
}

fn url() -> String {
    env("PGDSN")
}

/// What ends a transaction: an error of the database, or that it is to be rolled back.
enum End {
    Failed(Box<dyn std::error::Error + Send + Sync>),
    Undo(Vec<Value>),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

struct Diesel;

impl Library for Diesel {
    type Session = PgConnection;

    const TABLE: &'static str = "default_diesel";

    fn connect(&self) -> Outcome<PgConnection> {
        Ok(PgConnection::establish(&url())?)
    }

    fn script(
        &self,
        connection: &mut PgConnection,
        statements: &[Statement],
        undo: bool,
    ) -> Outcome<Vec<Value>> {
        let outcome = connection.transaction(|connection| {
            let rows = statements.iter().map(|(text, values)| all(connection, text, values));
            let seen = rows.collect::<Outcome<Vec<Value>>>().map_err(End::Failed)?;
            if undo { Err(End::Undo(seen)) } else { Ok(seen) }
        });
        match outcome {
            Ok(seen) | Err(End::Undo(seen)) => Ok(seen),
            Err(End::Failed(error)) => Err(error),
        }
    }

    fn alone(&self, connection: &mut PgConnection, text: &str) -> Outcome<()> {
        all(connection, text, &[]).map(drop)
    }

    fn work(&self, connection: &mut PgConnection, row: &Row, turn: i32) -> Outcome {
        use default_diesel::{
            dsl::{amount, client, id, label, seen},
            table,
        };
        let half = BigDecimal::from_str("1.5")?;
        Ok(connection.transaction(|connection| {
            insert(connection, row)?;
            let read: (Option<String>, Option<BigDecimal>) =
                table.find(row.id).select((label, amount)).first(connection)?;
            let mine = table.filter(client.eq(row.client));
            let changed = diesel::update(mine).set(amount.eq(amount + half)).execute(connection)?;
            let count: i64 = mine.count().get_result(connection)?;
            let sum: Option<BigDecimal> = mine.select(diesel::dsl::sum(amount)).first(connection)?;
            let latest: Option<Vec<i64>> = (turn % 3 == 0)
                .then(|| mine.order(seen.desc()).limit(2).select(id).load(connection))
                .transpose()?;
            let amounts = [read.1, sum].map(|each| each.map(|number| number.to_string()));
            Ok::<_, Error>(json!([read.0, amounts, changed, count, latest]))
        })?)
    }

    fn autocommit(&self, connection: &mut PgConnection, item: i64) -> Outcome {
        use default_diesel::{
            dsl::{flag, label},
            table,
        };
        let changed =
            diesel::update(table.find(item)).set(flag.eq(diesel::dsl::not(flag))).execute(connection)?;
        let row: (Option<String>, Option<bool>) = table.find(item).select((label, flag)).first(connection)?;
        Ok(json!([changed, row, all(connection, "select now() is not null", &[])?]))
    }

    fn types(&self, connection: &mut PgConnection, row: &Row) -> Outcome {
        use default_diesel::{
            dsl::{client, mood, seen, tags},
            table,
        };
        Ok(connection.transaction(|connection| {
            insert(connection, row)?;
            let read: Item = table.find(row.id).first(connection)?;
            let moods = [Mood("calm".to_owned()), Mood("wild".to_owned())];
            let found: i64 = table
                .filter(client.eq(row.client))
                .filter(mood.eq_any(moods))
                .filter(seen.eq(moment((row.id - row_id(row.client, 0)) as i32)))
                .filter(tags.contains(row.tags.iter().take(1).cloned().collect::<Vec<_>>()))
                .count()
                .get_result(connection)?;
            Ok::<_, Error>(json!([read.plain(), found]))
        })?)
    }

    fn unique_violation(&self, connection: &mut PgConnection, row: &Row, again: &Row) -> Outcome {
        let failure = refusal(connection.transaction(|connection| {
            insert(connection, row)?;
            insert(connection, row)
        }))?;
        connection.transaction(|connection| {
            insert(connection, row)?;
            insert(connection, again)
        })?;
        Ok(failure)
    }

    fn savepoint_error(&self, connection: &mut PgConnection, row: &Row, again: &Row) -> Outcome {
        let failed = connection.transaction(|connection| {
            insert(connection, row)?;
            let failed = connection.transaction(|connection| insert(connection, row));
            insert(connection, again)?;
            Ok::<_, Error>(failed)
        })?;
        refusal(failed)
    }

    /// As many queries as there are combinations of what they filter and sort by.
    fn reuse(&self, connection: &mut PgConnection, numbers: &[i32], value: i32) -> Outcome {
        use default_diesel::{
            dsl::{client, flag, id, label, ratio, seen},
            table,
        };
        type Found = Vec<(i64, Option<String>)>;
        let rows: Result<Vec<Found>, Error> = connection.transaction(|connection| {
            let queries = numbers.iter().map(|number| {
                let mut query = table.select((id, label)).filter(id.eq(row_id(value, value))).into_boxed();
                if number & 1 != 0 {
                    query = query.filter(client.eq(value));
                }
                if number & 2 != 0 {
                    query = query.filter(flag.is_not_null());
                }
                if number & 4 != 0 {
                    query = query.filter(seen.is_not_null());
                }
                query = match number / 8 {
                    0 => query.order(id),
                    1 => query.order(label.desc()),
                    _ => query.order(ratio),
                };
                query.load(connection)
            });
            queries.collect()
        });
        Ok(json!(rows?))
    }

    fn isolation(&self, connection: &mut PgConnection) -> Outcome {
        let shown = |connection: &mut PgConnection| {
            let texts = ["show transaction_isolation", "show transaction_read_only"];
            texts
                .iter()
                .map(|text| all(connection, text, &[]))
                .collect::<Outcome<Value>>()
                .map_err(End::Failed)
        };
        let strict = connection.build_transaction().serializable().read_only().run(shown);
        let usual = connection.transaction(shown);
        match (strict, usual) {
            (Ok(strict), Ok(usual)) => Ok(json!([strict, usual])),
            (Err(End::Failed(error)), _) | (_, Err(End::Failed(error))) => Err(error),
            _ => Err("nothing was to be undone".into()),
        }
    }

    fn batch(&self, connection: &mut PgConnection, rows: &[Row]) -> Outcome {
        use default_diesel::{
            dsl::{id, label},
            table,
        };
        use diesel::upsert::excluded;
        Ok(connection.transaction(|connection| {
            let items = |rows: &[Row]| rows.iter().map(Item::new).collect::<Vec<_>>();
            let inserted: Vec<i64> =
                diesel::insert_into(table).values(items(rows)).returning(id).get_results(connection)?;
            let few = items(rows.get(..5).unwrap_or_default());
            let insert = diesel::insert_into(table).values(few).on_conflict(id);
            let changed = insert.do_update().set(label.eq(excluded(label))).execute(connection)?;
            Ok::<_, Error>(json!([inserted.len(), changed]))
        })?)
    }

    /// Row by row, as libpq gives them out while they come.
    fn cursor(&self, connection: &mut PgConnection) -> Outcome {
        let text = "select g from generate_series(1, 250) g";
        Ok(connection.transaction(|connection| {
            let rows = diesel::sql_query(text).load_iter::<Any, PgRowByRowLoadingMode>(connection)?;
            let mut sum = 0;
            for row in rows {
                sum += row?.0.get(0).and_then(Value::as_i64).unwrap_or_default();
            }
            Ok::<_, Error>(json!(sum))
        })?)
    }

    fn pool(&self) -> Outcome<Checkout<'_>> {
        let pool = Pool::builder().max_size(4).build(ConnectionManager::<PgConnection>::new(url()))?;
        Ok(Box::new(move |number| {
            use default_diesel::{dsl::client, table};
            let count: i64 = table.filter(client.eq(number)).count().get_result(&mut pool.get()?)?;
            Ok(json!(count))
        }))
    }

    fn listen(
        &self,
        connection: &mut PgConnection,
        channel: &str,
        notify: &mut dyn FnMut() -> Outcome<()>,
    ) -> Outcome {
        all(connection, &format!("listen {channel}"), &[])?;
        notify()?;
        let (mut got, limit) = (vec![], Instant::now() + Duration::from_secs(20));
        while got.len() < 2 && Instant::now() < limit {
            for note in connection.notifications_iter() {
                got.push(note?.payload);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        all(connection, &format!("unlisten {channel}"), &[])?;
        Ok(json!([got, all(connection, "select 'usable'", &[])?]))
    }
}

fn main() -> ExitCode {
    default_drivers::main(&Diesel)
}
