//! What the Rust programs of this matrix share: the clients, and every check that is the same for each library. See
//! `scenario.py`, of which this is the same in Rust; statements here have `$1` for their parameters.

use std::error::Error;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use serde_json::{Value, json};

pub type Outcome<T = Value> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a check returns when the library cannot do it; the text says why.
#[derive(Debug)]
pub struct Skip(pub &'static str);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Skip {}

/// A statement and its parameters, all of type `int`.
pub type Statement = (String, Vec<i32>);

/// A row with a value of every type; some are null.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: i64,
    pub client: i32,
    pub label: String,
    pub amount: String,
    pub data: Value,
    pub tags: Vec<String>,
    pub seen: DateTime<Utc>,
    pub flag: bool,
    pub ratio: Option<f64>,
    pub mood: &'static str,
}

impl Row {
    pub fn new(client: i32, turn: i32) -> Self {
        Self {
            id: row_id(client, turn),
            client,
            label: format!("client {client}, turn {turn}"),
            amount: format!("{}.25", client * 100 + turn),
            data: json!({"turn": turn, "list": [1, null, "ü"]}),
            tags: [&format!("t{turn}"), "a,b", "c\"d", ""].map(str::to_owned).into(),
            seen: moment(turn),
            flag: turn % 2 == 0,
            ratio: (turn % 3 == 0).then_some(f64::from(turn) / 8.0),
            mood: if turn % 2 == 0 { "calm" } else { "wild" },
        }
    }
}

pub fn row_id(client: i32, row: i32) -> i64 {
    i64::from(client) * 10_000 + i64::from(row)
}

pub fn moment(turn: i32) -> DateTime<Utc> {
    let start = Utc.timestamp_opt(1_743_296_399, 123_456_000).single().expect("a time");
    start + TimeDelta::hours(turn.into())
}

/// Runs one transaction on some connection of a pool.
pub type Checkout<'a> = Box<dyn Fn(i32) -> Outcome + Sync + 'a>;

/// What a program provides, in its library's ordinary style.
pub trait Library: Sync {
    type Session: Send;

    const TABLE: &'static str;

    fn connect(&self) -> Outcome<Self::Session>;
    /// One transaction of several statements on the session's connection: the rows of each. Rolled back if `undo`.
    fn script(
        &self,
        session: &mut Self::Session,
        statements: &[Statement],
        undo: bool,
    ) -> Outcome<Vec<Value>>;
    /// A statement outside a transaction.
    fn alone(&self, session: &mut Self::Session, text: &str) -> Outcome<()>;
    /// One invocation: inserts this row, reads it, changes all of the client's, and sums up.
    fn work(&self, session: &mut Self::Session, row: &Row, turn: i32) -> Outcome;
    /// Statements with parameters outside a transaction.
    fn autocommit(&self, session: &mut Self::Session, id: i64) -> Outcome;
    /// The row of every type, and types that the library has to ask the server about.
    fn types(&self, session: &mut Self::Session, row: &Row) -> Outcome;
    /// Inserts `row` twice in one transaction, which fails; then `row` and `again` in a new one. Returns the error.
    fn unique_violation(&self, session: &mut Self::Session, row: &Row, again: &Row) -> Outcome;
    /// Inserts `row`, `row` once more within a savepoint, which fails, and `again`, in one transaction.
    fn savepoint_error(&self, session: &mut Self::Session, row: &Row, again: &Row) -> Outcome;
    /// A transaction of those of the library's statements that have these numbers, below 24.
    fn reuse(&self, session: &mut Self::Session, numbers: &[i32], value: i32) -> Outcome;
    /// A serializable transaction and an ordinary one.
    fn isolation(&self, session: &mut Self::Session) -> Outcome;
    /// Many rows in the library's way to save round trips.
    fn batch(&self, session: &mut Self::Session, rows: &[Row]) -> Outcome;
    /// A result taken in portions within a transaction.
    fn cursor(&self, session: &mut Self::Session) -> Outcome;
    /// A pool of at most 4 connections.
    fn pool(&self) -> Outcome<Checkout<'_>>;
    /// Listens on a channel, calls `notify` and returns the payloads.
    fn listen(
        &self,
        session: &mut Self::Session,
        channel: &str,
        notify: &mut dyn FnMut() -> Outcome<()>,
    ) -> Outcome;
}

/// A function instance: connects once, then runs invocations, each one transaction, with a pause between two.
struct Client<S> {
    number: i32,
    session: Option<S>,
}

impl<S> Client<S> {
    fn session(&mut self) -> Outcome<&mut S> {
        Ok(self.session.as_mut().ok_or("not connected")?)
    }
}

struct Scenario<'a, L: Library> {
    library: &'a L,
    clients: Vec<Client<L::Session>>,
}

const CLIENTS: i32 = 20;

const ZONES: [&str; 5] = ["Asia/Tokyo", "America/Lima", "Europe/Warsaw", "UTC", "Australia/Sydney"];

const SHOW: &str = "select current_setting('application_name'), current_setting('TimeZone'), \
                    current_setting('statement_timeout'), current_setting('search_path')";

/// Between two invocations. Of another length for each, so that clients overtake each other.
fn pause(number: i32, turn: i32) {
    std::thread::sleep(Duration::from_millis(((number * 7 + turn * 13) % 11 * 3) as u64));
}

/// Runs work for every one of the clients at once.
fn together<S: Send>(clients: &mut [Client<S>], work: impl Fn(&mut Client<S>) -> Outcome + Sync) -> Outcome {
    let work = &work;
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = clients.iter_mut().map(|client| scope.spawn(move || work(client))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    });
    Ok(Value::Array(outcomes.into_iter().collect::<Outcome<_>>()?))
}

/// One transaction of one statement; its rows.
fn statement<L: Library>(
    library: &L,
    client: &mut Client<L::Session>,
    text: &str,
    values: &[i32],
) -> Outcome {
    let statements = [(text.to_owned(), values.to_vec())];
    Ok(library.script(client.session()?, &statements, false)?.pop().ok_or("no result")?)
}

fn set_all<L: Library>(
    library: &L,
    client: &mut Client<L::Session>,
    texts: &[&str],
    undo: bool,
) -> Outcome<()> {
    let statements: Vec<Statement> = texts.iter().map(|text| ((*text).to_owned(), vec![])).collect();
    library.script(client.session()?, &statements, undo)?;
    Ok(())
}

fn set_alone<L: Library>(library: &L, client: &mut Client<L::Session>, texts: &[&str]) -> Outcome<()> {
    texts.iter().try_for_each(|text| library.alone(client.session()?, text))
}

type Fail<L> = fn(&L, &mut <L as Library>::Session, &Row, &Row) -> Outcome;

impl<L: Library> Scenario<'_, L> {
    fn all(&mut self, work: impl Fn(&L, &mut Client<L::Session>) -> Outcome + Sync) -> Outcome {
        let library = self.library;
        together(&mut self.clients, |client| work(library, client))
    }

    /// Invocations of every client.
    fn turns(
        &mut self,
        count: i32,
        once: impl Fn(&L, &mut Client<L::Session>, i32) -> Outcome + Sync,
    ) -> Outcome {
        self.all(|library, client| {
            let mut seen = vec![];
            for turn in 0..count {
                seen.push(once(library, client, turn)?);
                pause(client.number, turn);
            }
            Ok(Value::Array(seen))
        })
    }

    /// A transaction of each of three other clients: whatever stays on a server connection has other company now.
    fn others(&mut self, text: &str) -> Outcome<()> {
        let library = self.library;
        let others = self.clients.get_mut(1..4).ok_or("too few clients")?;
        together(others, |client| statement(library, client, text, &[])).map(drop)
    }

    fn company(&mut self) -> Outcome<()> {
        self.others(&format!("select count(*) >= 0 from {}", L::TABLE))
    }

    fn connect_all(&mut self) -> Outcome {
        self.all(|library, client| {
            client.session = Some(library.connect()?);
            Ok(Value::Null)
        })
    }

    fn disconnect_all(&mut self) {
        self.clients.iter_mut().for_each(|client| client.session = None);
    }

    /// A client that has just connected; what it leaves behind goes with it.
    fn extra(&self) -> Outcome<Client<L::Session>> {
        // The one before has left a moment ago, and may still be on its way out.
        std::thread::sleep(Duration::from_millis(100));
        Ok(Client { number: CLIENTS, session: Some(self.library.connect()?) })
    }

    /// One transaction for each text, with others' transactions in between.
    fn script(&mut self, texts: &[&str]) -> Outcome {
        let mut extra = self.extra()?;
        let mut seen = vec![];
        for text in texts {
            seen.push(statement(self.library, &mut extra, text, &[])?);
            self.company()?;
        }
        Ok(Value::Array(seen))
    }

    fn execute(&self, texts: &[&str]) -> Outcome<()> {
        let mut extra = self.extra()?;
        texts.iter().try_for_each(|text| statement(self.library, &mut extra, text, &[]).map(drop))
    }

    fn clear(&self) -> Outcome<()> {
        let table = L::TABLE;
        self.execute(&[
            &format!("drop table if exists {table}"),
            &format!("drop type if exists {table}_mood"),
            &format!("drop sequence if exists {table}_seq"),
        ])
    }

    fn prepare(&self) -> Outcome<()> {
        self.clear()?;
        let table = L::TABLE;
        self.execute(&[
            &format!("create type {table}_mood as enum ('calm', 'wild')"),
            &format!("create sequence {table}_seq"),
            &format!(
                "create table {table} (id bigint primary key, client int not null, label text, amount numeric(12, 2), \
                 data jsonb, tags text[], seen timestamptz, flag bool, ratio float8, mood {table}_mood)"
            ),
        ])
    }

    fn check_connect(&mut self) -> Outcome {
        self.connect_all()?;
        let text = "select 1, current_user::text, current_database()::text";
        self.all(|library, client| statement(library, client, text, &[]))
    }

    fn check_work(&mut self, count: i32, first: i32) -> Outcome {
        self.turns(count, |library, client, turn| {
            let row = Row::new(client.number, first + turn);
            library.work(client.session()?, &row, turn)
        })
    }

    fn check_autocommit(&mut self) -> Outcome {
        self.turns(4, |library, client, turn| {
            let id = row_id(client.number, turn);
            library.autocommit(client.session()?, id)
        })
    }

    fn check_types(&mut self) -> Outcome {
        self.turns(4, |library, client, turn| {
            let row = Row::new(client.number, 100 + turn);
            library.types(client.session()?, &row)
        })
    }

    fn failing_twice(&mut self, first: i32, fail: Fail<L>) -> Outcome {
        let text = format!(
            "select id, label from {} where client = $1::int and id >= $2::int order by id",
            L::TABLE
        );
        self.turns(3, |library, client, turn| {
            let low = first + 2 * turn;
            let (row, again) = (Row::new(client.number, low), Row::new(client.number, low + 1));
            let failure = fail(library, client.session()?, &row, &again)?;
            let values = [client.number, row.id as i32];
            Ok(json!([failure, statement(library, client, &text, &values)?]))
        })
    }

    /// A client runs some of as many different statements, and each client begins with another.
    fn check_prepared_reuse(&mut self) -> Outcome {
        self.turns(8, |library, client, turn| {
            let number = client.number;
            let numbers: Vec<i32> = (0..5).map(|place| (number * 5 + (place + turn) % 5 * 7) % 24).collect();
            library.reuse(client.session()?, &numbers, turn)
        })
    }

    fn check_batch(&mut self) -> Outcome {
        let text = format!(
            "select count(*), sum(amount)::text from {} where client = $1::int and id >= $2::int",
            L::TABLE
        );
        self.turns(2, |library, client, turn| {
            let low = 400 + 20 * turn;
            let rows: Vec<Row> = (low..low + 20).map(|row| Row::new(client.number, row)).collect();
            let done = library.batch(client.session()?, &rows)?;
            let values = [client.number, row_id(client.number, low) as i32];
            Ok(json!([done, statement(library, client, &text, &values)?]))
        })
    }

    fn check_session_settings(&mut self) -> Outcome {
        self.all(|library, client| {
            let number = client.number;
            let name = format!("set application_name = 'client {number}'");
            let zone = format!("set timezone = '{}'", ZONES[number as usize % ZONES.len()]);
            let timeout = format!("set statement_timeout = '{}ms'", 20_000 + number);
            let path = if number % 2 == 0 { "public, pg_catalog" } else { "pg_catalog, public" };
            let path = format!("set search_path = {path}");
            let settings = [name.as_str(), &zone, &timeout, &path];
            if number / 2 % 2 == 0 {
                set_all(library, client, &settings, false)?;
            } else {
                set_alone(library, client, &settings)?;
            }
            let mut seen = vec![];
            for turn in 0..4 {
                seen.push(statement(library, client, SHOW, &[])?);
                pause(number, turn);
            }
            let again = format!("select set_config('application_name', 'again {number}', false)");
            seen.push(statement(library, client, &again, &[])?);
            pause(number, 4);
            seen.push(statement(library, client, SHOW, &[])?);
            Ok(Value::Array(seen))
        })
    }

    fn check_settings_undone(&mut self) -> Outcome {
        let show = "select current_setting('statement_timeout'), current_setting('TimeZone'), \
                    current_setting('lock_timeout')";
        let local = ["set local statement_timeout = '25s'", "set local timezone = 'Asia/Tokyo'"];
        let undone = ["set timezone = 'Asia/Tokyo'", "set lock_timeout = '26s'"];
        let saved =
            ["savepoint s", "set lock_timeout = '27s'", "rollback to savepoint s", "release savepoint s"];
        self.turns(2, |library, client, turn| {
            let mut seen = vec![];
            for (place, (texts, undo)) in
                [(&local[..], false), (&undone[..], true), (&saved[..], false)].into_iter().enumerate()
            {
                set_all(library, client, texts, undo)?;
                pause(client.number, turn + place as i32);
                seen.push(statement(library, client, show, &[])?);
            }
            Ok(Value::Array(seen))
        })
    }

    /// Back to what the client asked for when it logged in.
    fn check_settings_reset(&mut self) -> Outcome {
        let set = [
            "set application_name = 'to be reset'",
            "set timezone = 'Asia/Tokyo'",
            "set statement_timeout = '28s'",
            "set search_path = pg_catalog, public",
        ];
        let each = [
            "reset application_name",
            "set timezone to default",
            "reset statement_timeout",
            "reset search_path",
        ];
        self.turns(4, |library, client, turn| {
            let run = |client: &mut Client<L::Session>, texts: &[&str]| match turn {
                0 | 1 => set_all(library, client, texts, false),
                _ => set_alone(library, client, texts),
            };
            run(client, &set)?;
            pause(client.number, turn);
            run(client, if turn % 2 == 0 { &each } else { &["reset all"] })?;
            pause(client.number, turn + 1);
            statement(library, client, SHOW, &[])
        })
    }

    fn check_pool_checkout(&mut self) -> Outcome {
        let checkout = self.library.pool()?;
        self.turns(3, |_, client, _| checkout(client.number))
    }

    fn check_listen_notify(&mut self) -> Outcome {
        let channel = format!("{}_channel", L::TABLE);
        let (library, mut extra) = (self.library, self.extra()?);
        library.listen(extra.session()?, &channel, &mut || {
            self.company()?;
            for payload in ["one", "two"] {
                let text = format!("select pg_notify('{channel}', '{payload}')::text");
                let notifier = self.clients.first_mut().ok_or("no client")?;
                statement(library, notifier, &text, &[])?;
            }
            self.company()
        })
    }

    fn check_temp_table(&mut self) -> Outcome {
        self.script(&[
            "create temporary table scratch (n int)",
            "insert into scratch values (1), (2), (3)",
            "select sum(n) from scratch",
            "insert into scratch select n + 3 from scratch returning n",
            "select sum(n) from scratch",
            "drop table scratch",
            "select to_regclass('scratch')::text",
        ])
    }

    fn check_advisory_lock(&mut self) -> Outcome {
        let key: u32 = L::TABLE.bytes().map(u32::from).sum();
        let mut extra = self.extra()?;
        let mut seen = vec![];
        for (by_extra, text) in [
            (true, format!("select pg_advisory_lock({key})::text")),
            (false, format!("select pg_try_advisory_xact_lock({key})")),
            (
                true,
                format!(
                    "select count(*) from pg_locks where locktype = 'advisory' and objid = {key} and pid = pg_backend_pid()"
                ),
            ),
            (true, format!("select pg_advisory_unlock({key})")),
            (false, format!("select pg_try_advisory_xact_lock({key})")),
        ] {
            let client = if by_extra { &mut extra } else { self.clients.first_mut().ok_or("no client")? };
            seen.push(statement(self.library, client, &text, &[])?);
            self.company()?;
        }
        Ok(Value::Array(seen))
    }

    fn check_hold_cursor(&mut self) -> Outcome {
        self.script(&[
            "declare held cursor with hold for select g from generate_series(1, 10) g",
            "fetch 3 from held",
            "fetch 4 from held",
            "close held",
            "select count(*) from pg_cursors where name = 'held'",
        ])
    }

    /// Asked for in the transaction that drew the number, and again in later ones.
    fn check_sequence_value(&mut self) -> Outcome {
        let name = format!("'{}_seq'", L::TABLE);
        let mut extra = self.extra()?;
        let mut seen = vec![];
        for text in [
            format!("select setval({name}, 1000)"),
            format!("select nextval({name}), currval({name})"),
            format!("select currval({name})"),
            "select lastval()".to_owned(),
        ] {
            seen.push(statement(self.library, &mut extra, &text, &[])?);
            self.others(&format!("select nextval({name})"))?;
        }
        Ok(Value::Array(seen))
    }

    fn check_sql_prepare(&mut self) -> Outcome {
        self.script(&[
            "prepare doubled (int) as select $1 * 2",
            "execute doubled (4)",
            "execute doubled (5)",
            "deallocate doubled",
            "select count(*) from pg_prepared_statements where name = 'doubled'",
        ])
    }

    fn check_reconnect(&mut self) -> Outcome {
        self.disconnect_all();
        self.connect_all()?;
        self.check_work(3, 500)
    }

    /// What a new client finds: nothing of what others did.
    fn check_no_leaks(&mut self) -> Outcome {
        let left = [
            SHOW,
            "select current_setting('lock_timeout'), current_setting('transaction_isolation')",
            "select count(*) from pg_listening_channels()",
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
            "select count(*) from pg_cursors where is_holdable",
            "select count(*) from pg_class where relpersistence = 't' and pg_table_is_visible(oid)",
            "select count(*) from pg_prepared_statements where from_sql",
        ];
        self.disconnect_all();
        self.connect_all()?;
        self.all(|library, client| {
            let seen =
                left.iter().map(|text| statement(library, client, text, &[])).collect::<Outcome<_>>()?;
            Ok(Value::Array(seen))
        })
    }

    fn perform_all(&mut self) -> bool {
        let mut passed = perform("connect", self.check_connect());
        passed &= perform("transactions", self.check_work(12, 0));
        passed &= perform("autocommit", self.check_autocommit());
        passed &= perform("types", self.check_types());
        passed &= perform("unique_violation", self.failing_twice(200, L::unique_violation));
        passed &= perform("savepoint_error", self.failing_twice(300, L::savepoint_error));
        passed &= perform("prepared_reuse", self.check_prepared_reuse());
        passed &=
            perform("isolation", self.turns(3, |library, client, _| library.isolation(client.session()?)));
        passed &= perform("batch", self.check_batch());
        passed &= perform("cursor", self.turns(2, |library, client, _| library.cursor(client.session()?)));
        passed &= perform("session_settings", self.check_session_settings());
        passed &= perform("settings_undone", self.check_settings_undone());
        passed &= perform("settings_reset", self.check_settings_reset());
        passed &= perform("pool_checkout", self.check_pool_checkout());
        passed &= perform("listen_notify", self.check_listen_notify());
        passed &= perform("temp_table", self.check_temp_table());
        passed &= perform("advisory_lock", self.check_advisory_lock());
        passed &= perform("hold_cursor", self.check_hold_cursor());
        passed &= perform("sequence_value", self.check_sequence_value());
        passed &= perform("sql_prepare", self.check_sql_prepare());
        passed &= perform("reconnect", self.check_reconnect());
        passed & perform("no_leaks", self.check_no_leaks())
    }
}

/// Prints the line of one check; false if it failed.
fn perform(name: &str, outcome: Outcome) -> bool {
    let passed = match &outcome {
        Ok(_) => true,
        Err(error) => error.is::<Skip>(),
    };
    let line = match outcome {
        Ok(result) => json!({"check": name, "result": result}),
        Err(error) if passed => json!({"check": name, "skipped": error.to_string()}),
        Err(error) => {
            let (mut text, mut cause) = (error.to_string(), error.source());
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            eprintln!("{name}: {text}");
            json!({"check": name, "failed": text})
        }
    };
    let _ = writeln!(std::io::stdout().lock(), "{line}");
    passed
}

/// Runs every check.
pub fn main<L: Library>(library: &L) -> ExitCode {
    let clients = (0..CLIENTS).map(|number| Client { number, session: None }).collect();
    let mut scenario = Scenario { library, clients };
    if let Err(error) = scenario.prepare() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let passed = scenario.perform_all();
    scenario.disconnect_all();
    if let Err(error) = scenario.clear() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A variable that the runner sets.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
