//! The program of the driver matrix for tokio-postgres, a cargo example that `tests/drivers/run.py` runs.
//!
//! It prints one JSON line per check, and nothing in it that differs from run to run (no pids, times or OIDs). Without a
//! statement cache it uses the driver's `query_typed`, which prepares nothing by name; with one, named statements.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{SinkExt, TryStreamExt};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, GenericClient, NoTls, Row, SimpleQueryMessage};

const TABLE: &str = "matrix_tokio_postgres";

const REPORTED: [&str; 13] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
    "server_version",
];

const SHOWN: [&str; 6] = [
    "client_encoding",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "application_name",
];

/// Types that the driver has no Rust type for without further crates: sent as text, received as bytes.
const SAMPLES: [(&str, &str); 17] = [
    ("numeric", "12345678901234567890.000000001"),
    ("numeric", "NaN"),
    ("float8", "-Infinity"),
    ("varchar(5)", "short"),
    ("char(5)", "pad"),
    ("date", "2024-02-29"),
    ("time", "23:59:59.999999"),
    ("timestamp", "1969-07-20 20:17:40.123456"),
    ("timestamptz", "2025-03-30 03:00:00+02"),
    ("interval", "-3 days 00:00:05.000007"),
    ("json", r#"{"a": [1, null, "ü"], "b": {}}"#),
    ("jsonb", r#"[true, 1.5, "x"]"#),
    ("uuid", "12345678-1234-5678-1234-567812345678"),
    ("inet", "192.0.2.1/24"),
    ("int[]", "{{1,2},{3,NULL}}"),
    ("text[]", r#"{"a,b","c\"d",NULL,"{}",""}"#),
    ("int4range", "[3,9)"),
];

type Outcome = Result<Value, Box<dyn Error>>;
type Argument<'a> = (&'a (dyn ToSql + Sync), Type);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let session = connect().await?;
    session.batch_execute(&format!("drop table if exists {TABLE}")).await?;
    session
        .batch_execute(&format!("create table {TABLE} (id int primary key, label text, amount int)"))
        .await?;
    drop(session);

    let mut passed = true;
    for (name, check) in CHECKS {
        passed &= perform(name, check()).await;
    }

    connect().await?.batch_execute(&format!("drop table {TABLE}")).await?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the line of one check; false if it failed.
async fn perform(name: &str, check: Pin<Box<dyn Future<Output = Outcome>>>) -> bool {
    match check.await {
        Ok(result) => println!("{}", json!({ "check": name, "result": result })),
        Err(error) => {
            println!("{}", json!({ "check": name, "failed": error.to_string() }));
            eprintln!("{name}: {error:?}");
            return false;
        }
    }
    true
}

type Check = fn() -> Pin<Box<dyn Future<Output = Outcome>>>;

/// A table of the functions of module `check`, in this order.
macro_rules! checks {
    ($($name:ident)*) => {
        [$((stringify!($name), || Box::pin(check::$name()))),*]
    };
}

const CHECKS: [(&str, Check); 32] = checks![
    connect parameters show startup_parameters set_follows wrong_password simple_query empty_query types large_text
    repeated rows streaming transaction_commit transaction_rollback savepoints errors error_in_transaction multi_statement
    multi_statement_error pipeline pipeline_error copy_in copy_out copy_in_bad_row copy_in_aborted notice cancel
    statement_timeout parallel big_value big_rows
];

/// A client, and what its connection said besides answers to queries.
struct Session {
    client: Client,
    reported: Value,
    notices: Arc<Mutex<Vec<Value>>>,
}

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

fn config() -> Result<Config, Box<dyn Error>> {
    let mut config = Config::new();
    config
        .host(env::var("PGHOST")?)
        .port(env::var("PGPORT")?.parse()?)
        .user(env::var("PGUSER")?)
        .password(env::var("PGPASSWORD")?)
        .dbname(env::var("PGDATABASE")?)
        .application_name("matrix tokio-postgres");
    Ok(config)
}

async fn connect() -> Result<Session, Box<dyn Error>> {
    connect_with(&config()?).await
}

async fn connect_with(config: &Config) -> Result<Session, Box<dyn Error>> {
    let (client, mut connection) = config.connect(NoTls).await?;
    let reported = REPORTED.map(|name| json!([name, connection.parameter(name)]));
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                let line =
                    json!([notice.severity(), notice.code().code(), notice.message(), notice.detail()]);
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        }
    });
    Ok(Session { client, reported: json!(reported), notices })
}

/// A connection, with an empty table.
async fn connect_with_empty_table() -> Result<Session, Box<dyn Error>> {
    let session = connect().await?;
    session.batch_execute(&format!("delete from {TABLE}")).await?;
    Ok(session)
}

/// Prepared statements that outlive a transaction: only where one server connection belongs to one client.
fn cache() -> bool {
    env::var("PGCORRAL_CACHE").is_ok_and(|value| value == "on")
}

async fn query(
    on: &impl GenericClient,
    text: &str,
    arguments: &[Argument<'_>],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    if !cache() {
        return on.query_typed(text, arguments).await;
    }
    let types: Vec<Type> = arguments.iter().map(|(_, kind)| kind.clone()).collect();
    let values: Vec<_> = arguments.iter().map(|(value, _)| *value).collect();
    let statement = on.prepare_typed(text, &types).await?;
    on.query(&statement, &values).await
}

async fn all(on: &impl GenericClient, text: &str, arguments: &[Argument<'_>]) -> Outcome {
    let rows = query(on, text, arguments).await?;
    rows.iter().map(plain_row).collect()
}

async fn one(on: &impl GenericClient, text: &str) -> Outcome {
    let rows = query(on, text, &[]).await?;
    plain(rows.first().ok_or("no row")?, 0)
}

/// What the server refused, as the driver shows it; any other error fails the check.
fn refusal<T>(outcome: Result<T, tokio_postgres::Error>) -> Outcome {
    let error = match outcome {
        Ok(_) => return Ok(json!("no error")),
        Err(error) => error,
    };
    let Some(refused) = error.as_db_error() else { return Err(error.into()) };
    let fields = [
        ("sqlstate", Some(refused.code().code().to_owned())),
        ("severity", Some(refused.severity().to_owned())),
        ("message", Some(refused.message().to_owned())),
        ("detail", refused.detail().map(str::to_owned)),
        ("hint", refused.hint().map(str::to_owned)),
        ("constraint", refused.constraint().map(str::to_owned)),
        ("where", refused.where_().map(str::to_owned)),
        ("position", refused.position().map(|position| format!("{position:?}"))),
    ];
    let kept = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
    Ok(Value::Object(kept.collect::<Map<_, _>>()))
}

fn plain_row(row: &Row) -> Outcome {
    (0..row.len()).map(|column| plain(row, column)).collect()
}

fn plain(row: &Row, column: usize) -> Outcome {
    Ok(match *row.columns()[column].type_() {
        Type::BOOL => json!(row.try_get::<_, Option<bool>>(column)?),
        Type::INT2 => json!(row.try_get::<_, Option<i16>>(column)?),
        Type::INT4 => json!(row.try_get::<_, Option<i32>>(column)?),
        Type::INT8 => json!(row.try_get::<_, Option<i64>>(column)?),
        Type::TEXT | Type::VARCHAR | Type::NAME => json!(row.try_get::<_, Option<String>>(column)?),
        _ => json!(row.try_get::<_, Option<Raw>>(column)?.map(|Raw(bytes)| hex(&bytes))),
    })
}

/// A value of any type, in PostgreSQL's binary format.
struct Raw(Vec<u8>);

impl FromSql<'_> for Raw {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Length and hash of a value too big to print.
fn digest(bytes: &[u8]) -> Value {
    json!({ "bytes": bytes.len(), "sha256": hex(&Sha256::digest(bytes)) })
}

/// The checks, each on connections of its own.
mod check {
    use super::*;

    pub async fn connect() -> Outcome {
        let session = super::connect().await?;
        all(&session.client, "select 1, current_user::text, current_database()::text", &[]).await
    }

    pub async fn parameters() -> Outcome {
        Ok(super::connect().await?.reported)
    }

    pub async fn show() -> Outcome {
        let session = super::connect().await?;
        let mut seen = Vec::new();
        for name in SHOWN {
            seen.push(json!([name, one(&session.client, &format!("show {name}")).await?]));
        }
        Ok(json!(seen))
    }

    pub async fn startup_parameters() -> Outcome {
        let mut config = config()?;
        config.options("-c TimeZone=Asia/Tokyo -c DateStyle=German -c statement_timeout=54321 -c search_path=pg_catalog,public");
        let session = connect_with(&config).await?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            for name in ["TimeZone", "DateStyle", "statement_timeout", "search_path"] {
                seen.push(one(&session.client, &format!("show {name}")).await?);
            }
        }
        Ok(json!(seen))
    }

    pub async fn set_follows() -> Outcome {
        let (client, other) = (super::connect().await?, super::connect().await?);
        client.batch_execute("set TimeZone = 'Asia/Tokyo'").await?;
        client.batch_execute("set IntervalStyle = 'iso_8601'").await?;
        other.batch_execute("set TimeZone = 'America/Lima'").await?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            for each in [&client, &other] {
                seen.push(json!([
                    one(&each.client, "show TimeZone").await?,
                    one(&each.client, "show IntervalStyle").await?
                ]));
            }
        }
        Ok(json!(seen))
    }

    pub async fn wrong_password() -> Outcome {
        let mut config = config()?;
        config.password("not the password");
        refusal(config.connect(NoTls).await)
    }

    pub async fn simple_query() -> Outcome {
        let session = super::connect().await?;
        Ok(readable(session.simple_query("select 7 as seven, 'text' as text, null as nothing").await?))
    }

    /// What a query of several statements gave: columns, rows as text, counts.
    fn readable(messages: Vec<SimpleQueryMessage>) -> Value {
        let lines = messages.iter().map(|message| match message {
            SimpleQueryMessage::RowDescription(columns) => {
                json!(columns.iter().map(|column| column.name()).collect::<Vec<_>>())
            }
            SimpleQueryMessage::Row(row) => {
                json!((0..row.len()).map(|column| row.get(column)).collect::<Vec<_>>())
            }
            SimpleQueryMessage::CommandComplete(count) => json!(count),
            _ => json!("another message"),
        });
        lines.collect()
    }

    pub async fn empty_query() -> Outcome {
        let session = super::connect().await?;
        let simple = readable(session.simple_query("").await?);
        let extended = all(&session.client, "", &[]).await?;
        Ok(json!([simple, extended, one(&session.client, "select 1").await?]))
    }

    pub async fn types() -> Outcome {
        let session = super::connect().await?;
        session.batch_execute("set TimeZone = 'UTC'").await?;
        let mut seen = Vec::new();
        for (kind, value) in SAMPLES {
            let text = format!("select ($1::text)::{kind}, ($1::text)::{kind}::text");
            seen.push(json!([kind, all(&session.client, &text, &[(&value, Type::TEXT)]).await?]));
        }
        let moment = SystemTime::UNIX_EPOCH + Duration::from_micros(1_743_296_400_123_456);
        let every_byte: Vec<u8> = (0..=255).collect();
        let words = vec![Some("a,b"), None, Some("")];
        let arguments: [Argument<'_>; 15] = [
            (&i16::MIN, Type::INT2),
            (&i32::MAX, Type::INT4),
            (&i64::MIN, Type::INT8),
            (&1.5_f32, Type::FLOAT4),
            (&0.1_f64, Type::FLOAT8),
            (&true, Type::BOOL),
            (&"", Type::TEXT),
            (&"quote ' backslash \\ dollar $1 percent %s", Type::TEXT),
            (&"zażółć 日本語 🐎 e\u{301}", Type::TEXT),
            (&every_byte, Type::BYTEA),
            (&moment, Type::TIMESTAMPTZ),
            (&vec![Some(1), None, Some(3)], Type::INT4_ARRAY),
            (&words, Type::TEXT_ARRAY),
            (&None::<i32>, Type::INT4),
            (&None::<&str>, Type::TEXT),
        ];
        for argument in arguments {
            let text = format!("select $1::{0}, ($1::{0})::text", argument.1.name());
            seen.push(json!([
                argument.1.name(),
                all(&session.client, &text, std::slice::from_ref(&argument)).await?
            ]));
        }
        Ok(json!(seen))
    }

    pub async fn large_text() -> Outcome {
        let session = super::connect().await?;
        let sent = "grüße ".repeat(150_000);
        let rows = query(&session.client, "select $1::text", &[(&sent, Type::TEXT)]).await?;
        let received: String = rows.first().ok_or("no row")?.try_get(0)?;
        Ok(json!([digest(received.as_bytes()), received == sent]))
    }

    pub async fn repeated() -> Outcome {
        let session = super::connect().await?;
        let kept = if cache() { Some(session.prepare("select $1::int * 2").await?) } else { None };
        let mut seen = Vec::new();
        for number in 0..20_i32 {
            let rows = match &kept {
                Some(statement) => session.query(statement, &[&number]).await?,
                None => session.query_typed("select $1::int * 2", &[(&number, Type::INT4)]).await?,
            };
            seen.push(rows.iter().map(plain_row).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(json!(seen))
    }

    pub async fn rows() -> Outcome {
        let session = super::connect().await?;
        let rows = query(&session.client, "select g from generate_series(1, 100000) g", &[]).await?;
        Ok(json!([rows.len(), sum(&rows)?]))
    }

    fn sum(rows: &[Row]) -> Result<i64, tokio_postgres::Error> {
        rows.iter().map(|row| row.try_get::<_, i32>(0).map(i64::from)).sum()
    }

    pub async fn streaming() -> Outcome {
        let mut session = super::connect().await?;
        let transaction = session.transaction().await?;
        let statement = transaction.prepare("select g from generate_series(1, $1::int) g").await?;
        let portal = transaction.bind(&statement, &[&20_000_i32]).await?;
        let mut by_portal = 0;
        loop {
            let rows = transaction.query_portal(&portal, 1000).await?;
            by_portal += sum(&rows)?;
            if rows.is_empty() {
                break;
            }
        }
        // Dropping them closes them on the server, while the transaction still holds it.
        drop(portal);
        drop(statement);
        transaction.commit().await?;

        let none: [(i32, Type); 0] = [];
        let mut stream =
            pin!(session.query_typed_raw("select g from generate_series(1, 20000) g", none).await?);
        let mut by_stream = 0;
        while let Some(row) = stream.try_next().await? {
            by_stream += i64::from(row.try_get::<_, i32>(0)?);
        }
        Ok(json!([by_portal, by_stream, one(&session.client, "select 1").await?]))
    }

    fn insert() -> String {
        format!("insert into {TABLE} values ($1, $2)")
    }

    fn contents() -> String {
        format!("select id, label from {TABLE} order by id")
    }

    fn count() -> String {
        format!("select count(*) from {TABLE}")
    }

    pub async fn transaction_commit() -> Outcome {
        let mut session = connect_with_empty_table().await?;
        let transaction = session.transaction().await?;
        for (id, label) in [(1, "kept"), (2, "kept too")] {
            query(&transaction, &insert(), &[(&id, Type::INT4), (&label, Type::TEXT)]).await?;
        }
        transaction.commit().await?;
        all(&session.client, &contents(), &[]).await
    }

    pub async fn transaction_rollback() -> Outcome {
        let mut session = connect_with_empty_table().await?;
        let transaction = session.transaction().await?;
        transaction.batch_execute(&format!("insert into {TABLE} values (1, 'gone')")).await?;
        let inside = one(&transaction, &count()).await?;
        transaction.rollback().await?;
        let outside = one(&session.client, &count()).await?;
        // Dropped without an end: the driver sends ROLLBACK by itself, with the next query.
        let forgotten = session.transaction().await?;
        forgotten.batch_execute(&format!("insert into {TABLE} values (2, 'gone too')")).await?;
        drop(forgotten);
        Ok(json!([inside, outside, one(&session.client, &count()).await?]))
    }

    pub async fn savepoints() -> Outcome {
        let mut session = connect_with_empty_table().await?;
        let mut transaction = session.transaction().await?;
        transaction.batch_execute(&format!("insert into {TABLE} values (1, 'outer')")).await?;
        let inner = transaction.transaction().await?;
        inner.batch_execute(&format!("insert into {TABLE} values (2, 'undone')")).await?;
        inner.rollback().await?;
        let inner = transaction.savepoint("named").await?;
        let failure = refusal(query(&inner, &insert(), &[(&1, Type::INT4), (&"twice", Type::TEXT)]).await)?;
        inner.rollback().await?;
        transaction.batch_execute(&format!("insert into {TABLE} values (3, 'after')")).await?;
        transaction.commit().await?;
        Ok(json!([failure, all(&session.client, &contents(), &[]).await?]))
    }

    pub async fn errors() -> Outcome {
        let session = connect_with_empty_table().await?;
        let client = &session.client;
        client.batch_execute(&format!("insert into {TABLE} values (1, 'first')")).await?;
        let own =
            "do $$ begin raise exception 'own' using errcode = 'P0123', hint = 'H', detail = 'D'; end $$";
        Ok(json!([
            refusal(client.simple_query("selec 1").await)?,
            refusal(query(client, "selec 1", &[]).await)?,
            refusal(query(client, &insert(), &[(&1, Type::INT4), (&"again", Type::TEXT)]).await)?,
            refusal(query(client, "select 1 / $1::int", &[(&0, Type::INT4)]).await)?,
            refusal(query(client, "select * from no_such_table", &[]).await)?,
            refusal(query(client, "select $1::text::int", &[(&"not a number", Type::TEXT)]).await)?,
            refusal(client.batch_execute(own).await)?,
            one(client, "select 1").await?,
        ]))
    }

    pub async fn error_in_transaction() -> Outcome {
        let mut session = super::connect().await?;
        let transaction = session.transaction().await?;
        let first = refusal(transaction.simple_query("select 1/0").await)?;
        let second = refusal(query(&transaction, "select 1", &[]).await)?;
        transaction.rollback().await?;
        Ok(json!([first, second, one(&session.client, "select 1").await?]))
    }

    pub async fn multi_statement() -> Outcome {
        let session = super::connect().await?;
        Ok(readable(session.simple_query("select 1; select 'two', 2; values (3), (4)").await?))
    }

    pub async fn multi_statement_error() -> Outcome {
        let session = connect_with_empty_table().await?;
        let text = format!("insert into {TABLE} values (1, 'undone'); select 1/0; select 2");
        Ok(json!([refusal(session.simple_query(&text).await)?, one(&session.client, &count()).await?]))
    }

    /// Queries whose futures are polled together go out together, each with its own Sync.
    pub async fn pipeline() -> Outcome {
        let mut session = super::connect().await?;
        let numbers: Vec<i32> = (0..50).collect();
        let arguments: Vec<[Argument<'_>; 1]> =
            numbers.iter().map(|number| [(number as _, Type::INT4)]).collect();
        let outside = arguments.iter().map(|argument| all(&session.client, "select $1::int + 1", argument));
        let outside = join_all(outside).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let transaction = session.transaction().await?;
        let inside = arguments.iter().take(10).map(|argument| all(&transaction, "select $1::int", argument));
        let inside = join_all(inside).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        transaction.commit().await?;
        Ok(json!([outside, inside, one(&session.client, "select 1").await?]))
    }

    pub async fn pipeline_error() -> Outcome {
        let session = super::connect().await?;
        let texts = ["select 1", "select 1/0", "select 2", "selec", "select 3"];
        let outcomes = join_all(texts.map(|text| query(&session.client, text, &[]))).await;
        outcomes.into_iter().map(refusal).collect()
    }

    /// COPY is inside a transaction everywhere: the driver prepares it as a named statement first.
    pub async fn copy_in() -> Outcome {
        let mut session = connect_with_empty_table().await?;
        let transaction = session.transaction().await?;
        let mut sink = Box::pin(transaction.copy_in(&format!("copy {TABLE} (id, label) from stdin")).await?);
        for number in 0..20_000 {
            let label = if number % 7 == 0 { "tab\\tand newline\\n" } else { "\\N" };
            sink.send(Bytes::from(format!("{number}\t{label}\n"))).await?;
        }
        let copied = sink.as_mut().finish().await?;
        transaction.commit().await?;
        let summary = format!(
            "select count(*), count(label), sum(id), md5(string_agg(label, '' order by id)) from {TABLE}"
        );
        Ok(json!([copied, all(&session.client, &summary, &[]).await?]))
    }

    pub async fn copy_out() -> Outcome {
        let mut session = super::connect().await?;
        let transaction = session.transaction().await?;
        let mut seen = Vec::new();
        for format in ["text", "binary"] {
            let text = format!(
                "copy (select g, 'row ' || g from generate_series(1, 50000) g) to stdout (format {format})"
            );
            let blocks: Vec<Bytes> = transaction.copy_out(&text).await?.try_collect().await?;
            seen.push(digest(&blocks.concat()));
        }
        transaction.commit().await?;
        Ok(json!([seen, one(&session.client, "select 1").await?]))
    }

    pub async fn copy_in_bad_row() -> Outcome {
        let mut session = connect_with_empty_table().await?;
        let transaction = session.transaction().await?;
        let mut sink = Box::pin(transaction.copy_in(&format!("copy {TABLE} (id, label) from stdin")).await?);
        sink.send(Bytes::from_static(b"1\tgood\nbad\tbad\n")).await?;
        let failure = refusal(sink.as_mut().finish().await)?;
        transaction.rollback().await?;
        Ok(json!([failure, one(&session.client, &count()).await?]))
    }

    pub async fn copy_in_aborted() -> Outcome {
        let mut session = connect_with_empty_table().await?;
        let transaction = session.transaction().await?;
        let mut sink = Box::pin(transaction.copy_in(&format!("copy {TABLE} (id, label) from stdin")).await?);
        sink.send(Bytes::from_static(b"1\tgood\n")).await?;
        drop(sink);
        let after = refusal(query(&transaction, "select 1", &[]).await)?;
        transaction.rollback().await?;
        Ok(json!([after, one(&session.client, &count()).await?]))
    }

    pub async fn notice() -> Outcome {
        let session = super::connect().await?;
        session
            .batch_execute(
                "do $$ begin raise notice 'one'; raise warning 'two' using detail = 'more'; end $$",
            )
            .await?;
        session
            .batch_execute("do $$ begin for i in 1..50 loop raise notice 'number %', i; end loop; end $$")
            .await?;
        let notices = session.notices.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(json!(*notices))
    }

    pub async fn cancel() -> Outcome {
        const SLEEP: &str = "select pg_sleep(50) /* tokio-postgres */";
        let session = super::connect().await?;
        let cancelling = async {
            until_running(&format!("{SLEEP}%")).await?;
            session.cancel_token().cancel_query(NoTls).await.map_err(Box::<dyn Error>::from)
        };
        let (slept, cancelled) = tokio::join!(session.simple_query(SLEEP), cancelling);
        cancelled?;
        Ok(json!([refusal(slept)?, after_cancel(&session).await?]))
    }

    /// PostgreSQL signals a backend twice for one CancelRequest (`signal_child` in postmaster.c), and this driver does not
    /// wait for the end of the request's connection: the second signal may hit the next query.
    async fn after_cancel(session: &Session) -> Outcome {
        match session.simple_query("select 'usable'").await {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                one(&session.client, "select 'usable'").await
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(json!("usable")),
        }
    }

    /// Waits until the server says that it runs a statement like this.
    async fn until_running(like: &str) -> Result<(), Box<dyn Error>> {
        let observer = super::connect().await?;
        let text = "select count(*) > 0 from pg_stat_activity
                    where state = 'active' and pid <> pg_backend_pid() and query like $1";
        for _ in 0..750 {
            let rows = query(&observer.client, text, &[(&like, Type::TEXT)]).await?;
            if rows.first().ok_or("no row")?.try_get(0)? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("the statement never ran".into())
    }

    pub async fn statement_timeout() -> Outcome {
        let mut session = super::connect().await?;
        let transaction = session.transaction().await?;
        transaction.batch_execute("set local statement_timeout = '50ms'").await?;
        let failure = refusal(query(&transaction, "select pg_sleep(50)::text", &[]).await)?;
        transaction.rollback().await?;
        let usable = one(&session.client, "select 'usable'").await?;
        Ok(json!([failure, usable, one(&session.client, "show statement_timeout").await?]))
    }

    pub async fn parallel() -> Outcome {
        let session = connect_with_empty_table().await?;
        let counters = format!("insert into {TABLE} select g, 'counter', 0 from generate_series(0, 9) g");
        session.batch_execute(&counters).await?;
        let counts = join_all((0..20).map(|number| Box::pin(worker(number)))).await;
        let counts = counts.into_iter().collect::<Result<Vec<_>, _>>()?;
        let totals = all(&session.client, &format!("select count(*), sum(amount) from {TABLE}"), &[]).await?;
        Ok(json!([counts, totals]))
    }

    async fn worker(number: i32) -> Outcome {
        let mut session = super::connect().await?;
        let low = 1000 + number * 10;
        for turn in 0..10 {
            let transaction = session.transaction().await?;
            let update = format!("update {TABLE} set amount = amount + 1 where id = $1");
            query(&transaction, &update, &[(&turn, Type::INT4)]).await?;
            query(&transaction, &insert(), &[(&(low + turn), Type::INT4), (&"mine", Type::TEXT)]).await?;
            transaction.commit().await?;
        }
        let text = format!("select count(*) from {TABLE} where id between $1 and $2");
        all(&session.client, &text, &[(&low, Type::INT4), (&(low + 9), Type::INT4)]).await
    }

    pub async fn big_value() -> Outcome {
        let session = super::connect().await?;
        let text = query(&session.client, "select repeat('0123456789', 1048576)", &[]).await?;
        let text: &str = text.first().ok_or("no row")?.try_get(0)?;
        let blob = query(&session.client, "select convert_to(repeat('xyz', 3000000), 'UTF8')", &[]).await?;
        let blob: &[u8] = blob.first().ok_or("no row")?.try_get(0)?;
        Ok(json!([digest(text.as_bytes()), digest(blob), one(&session.client, "select 1").await?]))
    }

    pub async fn big_rows() -> Outcome {
        let session = super::connect().await?;
        let text = "select g, repeat(md5(g::text), 32) from generate_series(1, 10000) g order by g";
        let rows = query(&session.client, text, &[]).await?;
        let parts = rows.iter().map(|row| row.try_get::<_, &str>(1)).collect::<Result<Vec<_>, _>>()?;
        Ok(json!([rows.len(), digest(parts.concat().as_bytes())]))
    }
}
