//! tokio-postgres as it comes: a query with parameters prepares a statement by a name of its own and closes it afterwards,
//! unless the program prepares and keeps it. With deadpool-postgres.

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use default_drivers::{Checkout, Library, Outcome, Row, env, moment};
use futures_util::future::try_join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_postgres::types::{FromSql, Kind, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, GenericClient, IsolationLevel, NoTls, Transaction};

struct TokioPostgres(Runtime);

const INSERT: &str = "insert into default_tokio_postgres values ($1, $2, $3, $4::text::numeric, $5, $6, $7, $8, $9, \
                      $10::text::default_tokio_postgres_mood)";

/// A client, the statements that it prepared outside its handler, and what it is notified of.
struct Session {
    client: Client,
    kept: HashMap<String, tokio_postgres::Statement>,
    notes: mpsc::UnboundedReceiver<String>,
}

impl Session {
    async fn kept(&mut self, text: &str) -> Outcome<tokio_postgres::Statement> {
        if let Some(statement) = self.kept.get(text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(text).await?;
        self.kept.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// A value of an enum; the driver asks the server about its type.
struct Label(String);

impl<'a> FromSql<'a> for Label {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8(raw.to_vec())?))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(kind.kind(), Kind::Enum(_))
    }
}

fn parameters(row: &Row) -> [&(dyn ToSql + Sync); 10] {
    [
        &row.id,
        &row.client,
        &row.label,
        &row.amount,
        &row.data,
        &row.tags,
        &row.seen,
        &row.flag,
        &row.ratio,
        &row.mood,
    ]
}

fn plain(row: &tokio_postgres::Row) -> Outcome {
    let value = |(at, column): (usize, &tokio_postgres::Column)| -> Outcome {
        Ok(match *column.type_() {
            Type::INT4 => json!(row.try_get::<_, Option<i32>>(at)?),
            Type::INT8 => json!(row.try_get::<_, Option<i64>>(at)?),
            Type::FLOAT8 => json!(row.try_get::<_, Option<f64>>(at)?),
            Type::BOOL => json!(row.try_get::<_, Option<bool>>(at)?),
            Type::JSONB => json!(row.try_get::<_, Option<Value>>(at)?),
            Type::TEXT_ARRAY => json!(row.try_get::<_, Option<Vec<String>>>(at)?),
            Type::TIMESTAMPTZ => json!(row.try_get::<_, Option<DateTime<Utc>>>(at)?),
            Type::VOID => Value::Null,
            ref other if matches!(other.kind(), Kind::Enum(_)) => {
                json!(row.try_get::<_, Option<Label>>(at)?.map(|label| label.0))
            }
            _ => json!(row.try_get::<_, Option<String>>(at)?),
        })
    };
    Ok(Value::Array(row.columns().iter().enumerate().map(value).collect::<Outcome<_>>()?))
}

async fn all(on: &impl GenericClient, text: &str, values: &[&(dyn ToSql + Sync)]) -> Outcome {
    let rows = on.query(text, values).await?;
    Ok(Value::Array(rows.iter().map(plain).collect::<Outcome<_>>()?))
}

fn refusal<T>(result: Result<T, tokio_postgres::Error>) -> Outcome {
    let error = result.err().ok_or("no error")?;
    match error.as_db_error() {
        Some(refused) => Ok(json!([refused.code().code(), refused.constraint(), refused.message()])),
        None => Err(error.into()),
    }
}

fn config() -> Outcome<Config> {
    let mut config = Config::new();
    config.host(env("PGHOST")).port(env("PGPORT").parse()?).user(env("PGUSER")).password(env("PGPASSWORD"));
    config.dbname(env("PGDATABASE"));
    Ok(config)
}

async fn connect() -> Outcome<Session> {
    let (client, mut connection) = config()?.connect(NoTls).await?;
    let (sender, notes) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        // An error ends the connection; the client has it from its next query.
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(note) = message {
                let _ = sender.send(note.payload().to_owned());
            }
        }
    });
    Ok(Session { client, kept: HashMap::new(), notes })
}

async fn insert(on: &Transaction<'_>, row: &Row) -> Result<u64, tokio_postgres::Error> {
    on.execute(INSERT, &parameters(row)).await
}

impl Library for TokioPostgres {
    type Session = Session;

    const TABLE: &'static str = "default_tokio_postgres";

    fn connect(&self) -> Outcome<Session> {
        self.0.block_on(connect())
    }

    fn script(
        &self,
        session: &mut Session,
        statements: &[default_drivers::Statement],
        undo: bool,
    ) -> Outcome<Vec<Value>> {
        self.0.block_on(async {
            let transaction = session.client.transaction().await?;
            let mut seen = vec![];
            for (text, values) in statements {
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
                seen.push(all(&transaction, text, &values).await?);
            }
            if undo {
                transaction.rollback().await?
            } else {
                transaction.commit().await?
            }
            Ok(seen)
        })
    }

    fn alone(&self, session: &mut Session, text: &str) -> Outcome<()> {
        Ok(self.0.block_on(session.client.batch_execute(text))?)
    }

    fn work(&self, session: &mut Session, row: &Row, turn: i32) -> Outcome {
        self.0.block_on(async {
            let insert = session.kept(INSERT).await?;
            let transaction = session.client.transaction().await?;
            transaction.execute(&insert, &parameters(row)).await?;
            let text = "select label, amount::text from default_tokio_postgres where id = $1";
            let read = plain(&transaction.query_one(text, &[&row.id]).await?)?;
            let text = "update default_tokio_postgres set amount = amount + 1.5 where client = $1";
            let changed = transaction.execute(text, &[&row.client]).await?;
            let text = "select count(*), sum(amount)::text from default_tokio_postgres where client = $1";
            let mut seen = vec![read, json!(changed), all(&transaction, text, &[&row.client]).await?];
            if turn % 3 == 0 {
                let text =
                    "select id from default_tokio_postgres where client = $1 order by seen desc limit $2";
                seen.push(all(&transaction, text, &[&row.client, &2_i64]).await?);
            }
            transaction.commit().await?;
            Ok(Value::Array(seen))
        })
    }

    fn autocommit(&self, session: &mut Session, id: i64) -> Outcome {
        self.0.block_on(async {
            let text = "select label, flag from default_tokio_postgres where id = $1";
            let kept = session.kept(text).await?;
            let client = &session.client;
            let update = "update default_tokio_postgres set flag = not flag where id = $1";
            let changed = client.execute(update, &[&id]).await?;
            let row = plain(&client.query_one(&kept, &[&id]).await?)?;
            let typed = client.query_typed("select $1 is not null", &[(&id, Type::INT8)]).await?;
            Ok(json!([changed, row, plain(typed.first().ok_or("no row")?)?]))
        })
    }

    fn types(&self, session: &mut Session, row: &Row) -> Outcome {
        self.0.block_on(async {
            let transaction = session.client.transaction().await?;
            insert(&transaction, row).await?;
            let text = "select id, label, data, tags, seen, flag, ratio, mood from default_tokio_postgres where id = $1";
            let read = plain(&transaction.query_one(text, &[&row.id]).await?)?;
            let text = "select count(*) from default_tokio_postgres where client = $1 and mood::text = any($2) \
                        and seen = $3 and tags @> $4";
            let seen = moment((row.id % 10_000) as i32);
            let tags = row.tags.get(..1).ok_or("no tags")?;
            let found = all(&transaction, text, &[&row.client, &["calm", "wild"].as_slice(), &seen, &tags]).await?;
            transaction.commit().await?;
            Ok(json!([read, found]))
        })
    }

    fn unique_violation(&self, session: &mut Session, row: &Row, again: &Row) -> Outcome {
        self.0.block_on(async {
            let transaction = session.client.transaction().await?;
            insert(&transaction, row).await?;
            let failure = refusal(insert(&transaction, row).await)?;
            // Dropped: the driver sends the ROLLBACK by itself.
            drop(transaction);
            let transaction = session.client.transaction().await?;
            insert(&transaction, row).await?;
            insert(&transaction, again).await?;
            transaction.commit().await?;
            Ok(failure)
        })
    }

    fn savepoint_error(&self, session: &mut Session, row: &Row, again: &Row) -> Outcome {
        self.0.block_on(async {
            let kept = session.kept(INSERT).await?;
            let mut transaction = session.client.transaction().await?;
            transaction.execute(&kept, &parameters(row)).await?;
            let inner = transaction.transaction().await?;
            let failure = refusal(inner.execute(&kept, &parameters(row)).await)?;
            inner.rollback().await?;
            transaction.execute(&kept, &parameters(again)).await?;
            transaction.commit().await?;
            Ok(failure)
        })
    }

    /// Prepares what is new, and keeps it.
    fn reuse(&self, session: &mut Session, numbers: &[i32], value: i32) -> Outcome {
        self.0.block_on(async {
            let mut kept = vec![];
            for number in numbers {
                kept.push(session.kept(&format!("select $1::int + {number}, 'statement {number}'")).await?);
            }
            let transaction = session.client.transaction().await?;
            let mut seen = vec![];
            for statement in &kept {
                seen.push(plain(&transaction.query_one(statement, &[&value]).await?)?);
            }
            transaction.commit().await?;
            Ok(Value::Array(seen))
        })
    }

    fn isolation(&self, session: &mut Session) -> Outcome {
        self.0.block_on(async {
            let mut seen = vec![];
            for strict in [true, false] {
                let builder = session.client.build_transaction();
                let builder = if strict {
                    builder.isolation_level(IsolationLevel::Serializable).read_only(true)
                } else {
                    builder
                };
                let transaction = builder.start().await?;
                seen.push(all(&transaction, "show transaction_isolation", &[]).await?);
                seen.push(all(&transaction, "show transaction_read_only", &[]).await?);
                transaction.commit().await?;
            }
            Ok(Value::Array(seen))
        })
    }

    /// A pipeline of one prepared statement, and COPY.
    fn batch(&self, session: &mut Session, rows: &[Row]) -> Outcome {
        self.0.block_on(async {
            let kept = session.kept(INSERT).await?;
            let transaction = session.client.transaction().await?;
            let (first, rest) = rows.split_at(10);
            let parameters: Vec<_> = first.iter().map(parameters).collect();
            let inserted = try_join_all(parameters.iter().map(|row| transaction.execute(&kept, row))).await?;
            let lines: String = rest
                .iter()
                .map(|row| format!("{}\t{}\t{}\t{}\n", row.id, row.client, row.amount, row.seen))
                .collect();
            let text = "copy default_tokio_postgres (id, client, amount, seen) from stdin";
            let sink = transaction.copy_in::<_, bytes::Bytes>(text).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(lines.into()).await?;
            let copied = sink.finish().await?;
            transaction.commit().await?;
            Ok(json!([inserted, copied]))
        })
    }

    /// A portal that is read in portions.
    fn cursor(&self, session: &mut Session) -> Outcome {
        self.0.block_on(async {
            let transaction = session.client.transaction().await?;
            let portal = transaction.bind("select g from generate_series(1, $1) g", &[&250]).await?;
            let mut portions = vec![];
            loop {
                let rows = transaction.query_portal(&portal, 100).await?;
                let Some(first) = rows.first() else { break };
                portions.push(json!([first.try_get::<_, i32>(0)?, rows.len()]));
            }
            transaction.commit().await?;
            Ok(Value::Array(portions))
        })
    }

    fn pool(&self) -> Outcome<Checkout<'_>> {
        let manager = deadpool_postgres::Manager::new(config()?, NoTls);
        let pool = deadpool_postgres::Pool::builder(manager).max_size(4).build()?;
        Ok(Box::new(move |number| {
            self.0.block_on(async {
                let client = pool.get().await?;
                // From the pool's cache of statements.
                let text = "select count(*) from default_tokio_postgres where client = $1";
                let statement = client.prepare_cached(text).await?;
                plain(&client.query_one(&statement, &[&number]).await?)
            })
        }))
    }

    fn listen(
        &self,
        session: &mut Session,
        channel: &str,
        notify: &mut dyn FnMut() -> Outcome<()>,
    ) -> Outcome {
        self.0.block_on(session.client.batch_execute(&format!("listen {channel}")))?;
        notify()?;
        self.0.block_on(async {
            let mut got = vec![];
            while got.len() < 2 {
                let note = tokio::time::timeout(Duration::from_secs(20), session.notes.recv()).await?;
                got.push(note.ok_or("the connection is gone")?);
            }
            session.client.batch_execute(&format!("unlisten {channel}")).await?;
            Ok(json!([got, all(&session.client, "select 'usable'", &[]).await?]))
        })
    }
}

fn main() -> ExitCode {
    default_drivers::main(&TokioPostgres(Runtime::new().expect("a runtime")))
}
