//! sqlx as it comes: it prepares every statement by a name of its own and keeps it, and its pool asks whether a connection
//! still lives whenever it gives one out. A client is a pool of one connection.

use std::process::ExitCode;
use std::str::FromStr as _;

use chrono::{DateTime, Utc};
use default_drivers::{Checkout, Library, Outcome, Row, Statement, env, moment};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use sqlx::postgres::{PgArguments, PgListener, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::types::BigDecimal;
use sqlx::{
    Acquire as _, Column as _, Executor as _, PgConnection, Postgres, QueryBuilder, Row as _, TypeInfo as _,
};
use tokio::runtime::Runtime;

const TABLE: &str = "default_sqlx";

struct Sqlx(Runtime);

fn insert(row: &Row) -> Outcome<Query<'_, Postgres, PgArguments>> {
    let text = "insert into default_sqlx values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::default_sqlx_mood)";
    Ok(sqlx::query(text)
        .bind(row.id)
        .bind(row.client)
        .bind(&row.label)
        .bind(BigDecimal::from_str(&row.amount)?)
        .bind(&row.data)
        .bind(&row.tags)
        .bind(row.seen)
        .bind(row.flag)
        .bind(row.ratio)
        .bind(row.mood))
}

fn plain(row: &PgRow) -> Outcome {
    let value = |column: usize| -> Outcome {
        Ok(match row.column(column).type_info().name() {
            "INT4" => json!(row.try_get::<Option<i32>, _>(column)?),
            "INT8" => json!(row.try_get::<Option<i64>, _>(column)?),
            "FLOAT8" => json!(row.try_get::<Option<f64>, _>(column)?),
            "BOOL" => json!(row.try_get::<Option<bool>, _>(column)?),
            "NUMERIC" => {
                json!(row.try_get::<Option<BigDecimal>, _>(column)?.map(|number| number.to_string()))
            }
            "JSONB" => json!(row.try_get::<Option<Value>, _>(column)?),
            "TEXT[]" => json!(row.try_get::<Option<Vec<String>>, _>(column)?),
            "TIMESTAMPTZ" => json!(row.try_get::<Option<DateTime<Utc>>, _>(column)?),
            "VOID" => Value::Null,
            // Text, and enums as it.
            _ => json!(row.try_get_unchecked::<Option<String>, _>(column)?),
        })
    };
    Ok(Value::Array((0..row.len()).map(value).collect::<Outcome<_>>()?))
}

async fn all(on: &mut PgConnection, query: Query<'_, Postgres, PgArguments>) -> Outcome {
    let rows = query.fetch_all(on).await?;
    Ok(Value::Array(rows.iter().map(plain).collect::<Outcome<_>>()?))
}

fn refusal<T>(result: Result<T, sqlx::Error>) -> Outcome {
    match result {
        Err(sqlx::Error::Database(error)) => Ok(json!([error.code(), error.constraint(), error.message()])),
        Err(error) => Err(error.into()),
        Ok(_) => Err("no error".into()),
    }
}

async fn create_pool(size: u32) -> Outcome<PgPool> {
    let port = env("PGPORT").parse()?;
    let options = sqlx::postgres::PgConnectOptions::new()
        .host(&env("PGHOST"))
        .port(port)
        .username(&env("PGUSER"))
        .password(&env("PGPASSWORD"))
        .database(&env("PGDATABASE"));
    Ok(PgPoolOptions::new().max_connections(size).connect_with(options).await?)
}

impl Library for Sqlx {
    type Session = Pool;

    const TABLE: &'static str = TABLE;

    fn connect(&self) -> Outcome<Pool> {
        Ok(Pool(self.0.block_on(create_pool(1))?, self.0.handle().clone()))
    }

    fn script(&self, pool: &mut Pool, statements: &[Statement], undo: bool) -> Outcome<Vec<Value>> {
        self.0.block_on(async {
            let mut transaction = pool.0.begin().await?;
            let mut seen = vec![];
            for (text, values) in statements {
                let query = values.iter().fold(sqlx::query(text), |query, value| query.bind(value));
                seen.push(all(&mut transaction, query).await?);
            }
            if undo {
                transaction.rollback().await?
            } else {
                transaction.commit().await?
            }
            Ok(seen)
        })
    }

    fn alone(&self, pool: &mut Pool, text: &str) -> Outcome<()> {
        self.0.block_on(sqlx::query(text).execute(&pool.0))?;
        Ok(())
    }

    fn work(&self, pool: &mut Pool, row: &Row, turn: i32) -> Outcome {
        self.0.block_on(async {
            let mut transaction = pool.0.begin().await?;
            insert(row)?.execute(&mut *transaction).await?;
            let query = sqlx::query("select label, amount from default_sqlx where id = $1").bind(row.id);
            let read = plain(&query.fetch_one(&mut *transaction).await?)?;
            let query = sqlx::query("update default_sqlx set amount = amount + $1 where client = $2");
            let changed =
                query.bind(BigDecimal::from_str("1.5")?).bind(row.client).execute(&mut *transaction).await?;
            let query = sqlx::query_as("select count(*), sum(amount) from default_sqlx where client = $1");
            let (count, sum): (i64, BigDecimal) = query.bind(row.client).fetch_one(&mut *transaction).await?;
            let mut seen = vec![read, json!([changed.rows_affected(), count, sum.to_string()])];
            if turn % 3 == 0 {
                let query =
                    sqlx::query("select id from default_sqlx where client = $1 order by seen desc limit $2");
                seen.push(all(&mut transaction, query.bind(row.client).bind(2_i64)).await?);
            }
            transaction.commit().await?;
            Ok(Value::Array(seen))
        })
    }

    fn autocommit(&self, pool: &mut Pool, id: i64) -> Outcome {
        self.0.block_on(async {
            let query = sqlx::query("update default_sqlx set flag = not flag where id = $1").bind(id);
            let changed = query.execute(&pool.0).await?.rows_affected();
            let query = sqlx::query("select label, flag from default_sqlx where id = $1").bind(id);
            let row = plain(&query.fetch_one(&pool.0).await?)?;
            let now: bool = sqlx::query_scalar("select now() is not null").fetch_one(&pool.0).await?;
            Ok(json!([changed, row, now]))
        })
    }

    fn types(&self, pool: &mut Pool, row: &Row) -> Outcome {
        self.0.block_on(async {
            let mut transaction = pool.0.begin().await?;
            insert(row)?.execute(&mut *transaction).await?;
            // The enum is not known to sqlx: it asks the server.
            let query = sqlx::query("select * from default_sqlx where id = $1").bind(row.id);
            let read = plain(&query.fetch_one(&mut *transaction).await?)?;
            let text = "select count(*) from default_sqlx where client = $1 and mood::text = any($2) and seen = $3 and tags @> $4";
            let turn = (row.id % 10_000) as i32;
            let query = sqlx::query(text).bind(row.client).bind(["calm", "wild"]).bind(moment(turn));
            let found = all(&mut transaction, query.bind(&row.tags[..1])).await?;
            transaction.commit().await?;
            Ok(json!([read, found]))
        })
    }

    fn unique_violation(&self, pool: &mut Pool, row: &Row, again: &Row) -> Outcome {
        self.0.block_on(async {
            let mut transaction = pool.0.begin().await?;
            insert(row)?.execute(&mut *transaction).await?;
            let failure = refusal(insert(row)?.execute(&mut *transaction).await)?;
            // Dropped: rolled back when the pool has the connection back.
            drop(transaction);
            let mut transaction = pool.0.begin().await?;
            for each in [row, again] {
                insert(each)?.execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            Ok(failure)
        })
    }

    fn savepoint_error(&self, pool: &mut Pool, row: &Row, again: &Row) -> Outcome {
        self.0.block_on(async {
            let mut transaction = pool.0.begin().await?;
            insert(row)?.execute(&mut *transaction).await?;
            let mut inner = transaction.begin().await?;
            let failure = refusal(insert(row)?.execute(&mut *inner).await)?;
            inner.rollback().await?;
            insert(again)?.execute(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(failure)
        })
    }

    fn reuse(&self, pool: &mut Pool, numbers: &[i32], value: i32) -> Outcome {
        let text = |number: &i32| (format!("select $1::int + {number}, 'statement {number}'"), vec![value]);
        let statements: Vec<Statement> = numbers.iter().map(text).collect();
        Ok(Value::Array(self.script(pool, &statements, false)?))
    }

    fn isolation(&self, pool: &mut Pool) -> Outcome {
        self.0.block_on(async {
            let mut seen = vec![];
            for begin in ["begin isolation level serializable read only", "begin"] {
                let mut transaction = pool.0.begin_with(begin).await?;
                for text in ["show transaction_isolation", "show transaction_read_only"] {
                    seen.push(all(&mut transaction, sqlx::query(text)).await?);
                }
                transaction.commit().await?;
            }
            Ok(Value::Array(seen))
        })
    }

    /// One INSERT of many rows, and COPY.
    fn batch(&self, pool: &mut Pool, rows: &[Row]) -> Outcome {
        self.0.block_on(async {
            let mut transaction = pool.0.begin().await?;
            let (first, rest) = rows.split_at(10);
            let mut builder =
                QueryBuilder::<Postgres>::new("insert into default_sqlx (id, client, label, seen, flag) ");
            builder.push_values(first, |mut values, row| {
                values
                    .push_bind(row.id)
                    .push_bind(row.client)
                    .push_bind(&row.label)
                    .push_bind(row.seen)
                    .push_bind(row.flag);
            });
            let inserted = builder.build().execute(&mut *transaction).await?.rows_affected();
            let lines: String = rest
                .iter()
                .map(|row| format!("{}\t{}\t{}\t{}\n", row.id, row.client, row.amount, row.seen))
                .collect();
            let mut copy =
                transaction.copy_in_raw("copy default_sqlx (id, client, amount, seen) from stdin").await?;
            copy.send(lines.into_bytes()).await?;
            let copied = copy.finish().await?;
            transaction.commit().await?;
            Ok(json!([inserted, copied]))
        })
    }

    /// A stream, once to its end and once left early.
    fn cursor(&self, pool: &mut Pool) -> Outcome {
        self.0.block_on(async {
            let mut transaction = pool.0.begin().await?;
            let text = "select g from generate_series(1, $1) g";
            let mut stream = sqlx::query_scalar::<_, i32>(text).bind(1000).fetch(&mut *transaction);
            let mut sum = 0;
            while let Some(number) = stream.try_next().await? {
                sum += number;
            }
            drop(stream);
            let mut stream = sqlx::query_scalar::<_, i32>(text).bind(500).fetch(&mut *transaction);
            let first = stream.try_next().await?;
            drop(stream);
            let one = transaction.fetch_one("select 1").await?.try_get::<i32, _>(0)?;
            transaction.commit().await?;
            Ok(json!([sum, first, one]))
        })
    }

    fn pool(&self) -> Outcome<Checkout<'_>> {
        let pool = Pool(self.0.block_on(create_pool(4))?, self.0.handle().clone());
        Ok(Box::new(move |number| {
            let query = sqlx::query("select count(*) from default_sqlx where client = $1").bind(number);
            plain(&self.0.block_on(query.fetch_one(&pool.0))?)
        }))
    }

    fn listen(&self, pool: &mut Pool, channel: &str, notify: &mut dyn FnMut() -> Outcome<()>) -> Outcome {
        // Where a listener is dropped there has to be a runtime.
        let _within = self.0.enter();
        let mut listener = self.0.block_on(PgListener::connect_with(&pool.0))?;
        self.0.block_on(listener.listen(channel))?;
        notify()?;
        let mut got = vec![];
        while got.len() < 2 {
            got.push(self.0.block_on(listener.recv())?.payload().to_owned());
        }
        self.0.block_on(listener.unlisten_all())?;
        drop(listener);
        Ok(json!([got, self.script(pool, &[("select 'usable'".to_owned(), vec![])], false)?]))
    }
}

/// Closed in order when it is dropped.
struct Pool(PgPool, tokio::runtime::Handle);

impl Drop for Pool {
    fn drop(&mut self) {
        self.1.block_on(self.0.close());
    }
}

fn main() -> ExitCode {
    default_drivers::main(&Sqlx(Runtime::new().expect("a runtime")))
}
