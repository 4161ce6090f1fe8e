//! The statements of which sequences are made, by topic. `{c}` is the client's number, `{r}` its role, `{k}` a number
//! that no other session has.

use rand::Rng;
use rand::seq::IndexedRandom as _;

/// Settings, and values as they may stand behind `=`. Some are refused.
const SETTINGS: &[(&str, &[&str])] = &[
    // Reported with ParameterStatus.
    ("timezone", &["'UTC'", "'Europe/Berlin'", "'Asia/Tokyo'", "'nowhere'"]),
    ("datestyle", &["'German'", "iso, dmy", "'SQL, MDY'", "'no such style'"]),
    ("intervalstyle", &["iso_8601", "'postgres_verbose'", "postgres"]),
    ("application_name", &["'one'", "'it''s'", "''", "two"]),
    ("client_encoding", &["'UTF8'", "latin1", "'SQL_ASCII'"]),
    ("standard_conforming_strings", &["on", "off"]),
    ("default_transaction_read_only", &["on", "off"]),
    // Not reported.
    ("statement_timeout", &["'10min'", "600001", "0", "'-1s'"]),
    ("lock_timeout", &["'11min'", "0"]),
    ("idle_in_transaction_session_timeout", &["'12min'"]),
    ("work_mem", &["'1MB'", "2048", "'rubbish'"]),
    ("search_path", &["x, public", "y, public", "''", "public", "\"$user\", public"]),
    ("default_transaction_isolation", &["serializable", "'repeatable read'", "'read committed'"]),
    ("extra_float_digits", &["0", "-3", "3", "99"]),
    ("bytea_output", &["escape", "hex"]),
    ("client_min_messages", &["warning", "error", "notice"]),
    ("enable_seqscan", &["off", "on"]),
    // Not the empty text: PostgreSQL does not tell it from unset, so a RESET of anything brings back what a client has
    // logged in with (docs/session-state.md).
    ("my.var", &["'x'", "'it''s'", "E'a\\tb'", "$$dollars$$", "12"]),
    ("my.other", &["'y'", "on", "''"]),
    // Refused to an ordinary role, and to everybody.
    ("log_statement", &["'all'"]),
    ("no_such_setting", &["1"]),
];

/// Everything that a sequence may change of a session, as far as it can be read.
///
/// A custom setting that was set and reset is `''` and not null, and nothing but the end of a session changes that
/// again: not even DISCARD ALL. So the two count as one.
pub const PROBE: &str = "select current_setting('timezone'), current_setting('datestyle'), \
     current_setting('intervalstyle'), current_setting('application_name'), current_setting('client_encoding'), \
     current_setting('standard_conforming_strings'), current_setting('default_transaction_read_only'), \
     current_setting('statement_timeout'), current_setting('lock_timeout'), \
     current_setting('idle_in_transaction_session_timeout'), current_setting('work_mem'), \
     current_setting('search_path'), current_setting('default_transaction_isolation'), \
     current_setting('extra_float_digits'), current_setting('bytea_output'), current_setting('client_min_messages'), \
     current_setting('enable_seqscan'), nullif(current_setting('my.var', true), ''), \
     nullif(current_setting('my.other', true), ''), current_setting('role'), current_user, session_user, \
     current_setting('transaction_isolation'), current_setting('transaction_read_only')";

/// Reads that depend on the session.
const READS: &[&str] = &[
    "select '2020-02-03'::date, '2020-02-03 00:00Z'::timestamptz, interval '1 day 2 hours'",
    "select 0.1::float8 + 0.2, '\\x01ff'::bytea",
    "select nullif(current_setting('my.var', true), '')",
    "select * from u",
    "select a, b from shared where a = 1",
    "select * from t{c}",
    "insert into t{c} values (3, 'three')",
    "show timezone",
    "show search_path",
    "show work_mem",
    "select current_user, session_user",
    "select 1/0",
    // What others may have, and what this one must not find.
    "select * from tt",
    "fetch 1 from held",
    "execute q0(1)",
];

/// Beginnings and ends of transactions.
const BEGINS: &[&str] = &[
    "begin",
    "begin",
    "begin",
    "begin isolation level serializable",
    "start transaction read only",
    "begin; select 1",
    "BEGIN WORK",
];
const ENDS: &[&str] = &[
    "commit",
    "commit",
    "commit",
    "rollback",
    "rollback",
    "rollback",
    "end",
    "abort",
    "commit and chain",
    "rollback and chain",
    "commit; select 1",
];
const SAVEPOINTS: &[&str] = &[
    "savepoint a",
    "savepoint a",
    "savepoint b",
    "rollback to a",
    "rollback to savepoint b",
    "release a",
    "release savepoint b",
];

const ROLES: &[&str] = &[
    "set role {r}_other",
    "set role {r}_other",
    "set role none",
    "reset role",
    "set local role {r}_other",
    "set role nobody_at_all",
    "set session authorization {r}_other",
    "set session authorization {r}",
    "set session authorization default",
    "reset session authorization",
    "select set_config('role', '{r}_other', false)",
    "select current_user, session_user",
    "show role",
    "select b from shared where a = 2",
    "select count(*) from t{c}",
];

/// What is seldom said, and easily taken for something else.
const ODD: &[&str] = &[
    "set transaction_read_only = on",
    "set transaction_isolation = 'serializable'",
    "set transaction isolation level repeatable read",
    "set transaction read only",
    "set session characteristics as transaction read only, isolation level serializable",
    "set session characteristics as transaction isolation level read committed",
    "show transaction_isolation",
    "show transaction_read_only",
    "set time zone -7",
    "set time zone local",
    "set time zone default",
    "set time zone 'Asia/Tokyo'",
    "set time zone interval '-08:00' hour to minute",
    "set names 'LATIN1'",
    "set names",
    "set schema 'x'",
    "set \"my.Var\" = 'quoted'",
    "set my.a.b = 'three parts'",
    "set constraints all deferred",
    "set local timezone = 'Asia/Tokyo'",
    "SeT wOrK_mEm = '4MB'",
    "set -- why\n work_mem = '4MB'",
    "set datestyle = iso, dmy",
    "reset all",
    "reset all",
    "discard all",
    "discard temp",
    "discard plans",
    "discard sequences",
    "deallocate all",
    "deallocate prepare all",
    "deallocate s0",
    "deallocate nothing_of_this_name",
    "unlisten *",
    "notify c{k}, 'nobody listens'",
    "lock table shared in share mode",
    "select pg_advisory_xact_lock({k})",
    "declare c cursor for select generate_series(1, 5)",
    "fetch 2 from c",
    "close c",
    "close all",
    "",
    ";",
    "selekt 1",
    "set",
    "set timezone",
    "reset",
    "select 'set timezone to nowhere'",
    "/* set timezone = 'UTC'; */ select 1",
];

/// What has to come before the first query of a transaction.
const BEFORE_QUERIES: &[&str] =
    &["set transaction isolation", "set transaction_isolation", "begin isolation"];

/// Whether a client that has logged in with settings may say it in a transaction. If that has reset settings, PostgreSQL was
/// asked in the middle of it (docs/session-state.md).
pub fn is_late(text: &str) -> bool {
    BEFORE_QUERIES.iter().any(|words| text.starts_with(words))
}

/// What was prepared of it depends on the settings of then (docs/session-state.md).
pub fn reads_a_literal(sql: &str) -> bool {
    sql.contains("'::") || sql.contains("interval '") || sql.contains('\\')
}

/// State that keeps a server connection.
const PINNING: &[&[&str]] = &[
    &[
        "create temp table tt (a int)",
        "create temporary table if not exists tt (a int)",
        "create temp table tt (a int) on commit drop",
        "create table pg_temp.tt (a int)",
        "select 5 as a into temp tt",
        "create temp table tt as select 7 as a",
        "create temp view tv as select 1 as a",
        "insert into tt values (1)",
        "insert into tt values (2)",
        "select * from tt",
        "select * from tt",
        "drop table tt",
        "drop table if exists tt",
        "discard temp",
    ],
    &[
        "declare held cursor with hold for select generate_series(1, 5)",
        "declare held scroll cursor with hold for select 1/0",
        "fetch 2 from held",
        "fetch 1 from held",
        "move 1 in held",
        "close held",
        "close all",
    ],
    &[
        "listen c{k}",
        "listen c{k}",
        "notify c{k}, 'one'",
        "select pg_notify('c{k}', 'two')",
        "unlisten c{k}",
        "unlisten *",
    ],
    &[
        "select pg_advisory_lock({k})",
        "select pg_try_advisory_lock({k}, 1)",
        "select pg_advisory_lock_shared({k})",
        "select pg_advisory_unlock({k})",
        "select pg_advisory_unlock({k}, 1)",
        "select pg_advisory_unlock_all()",
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    ],
    &[
        "prepare q0 (int) as select $1 + 1",
        "prepare q0 as select $1::text",
        "prepare q1 as select * from t{c}",
        "prepare s0 as select 'by sql'",
        "execute q0(5)",
        "execute q0('five')",
        "execute q1",
        "execute s0",
        "deallocate q0",
        "deallocate prepare q1",
        "deallocate all",
        "deallocate s0",
    ],
    &[
        "begin; select nextval('seq'); select currval('seq'), lastval(); commit",
        "select nextval('seq'); select currval('seq'), lastval()",
        // An error before the first one, whoever had the server connection before.
        "select currval('seq')",
        "select lastval()",
        "discard sequences",
    ],
];

/// Changes of a client's own table.
const CHANGES: &[&str] = &[
    "alter table t{c} alter column a type text",
    "alter table t{c} alter column a type bigint using a::bigint",
    "alter table t{c} alter column b type varchar(20)",
    "alter table t{c} add column extra int default 7",
    "alter table t{c} add column if not exists more text",
    "truncate t{c}",
    "create index on t{c} (b)",
    "drop table t{c}; create table t{c} (a text, b int, c int)",
];

/// Columns that go away: what was parsed with them is an error then.
const REMOVALS: &[&str] =
    &["alter table t{c} drop column if exists extra", "alter table t{c} drop column b", "drop table t{c}"];

/// A statement for the extended protocol.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Its text.
    pub sql: &'static str,
    /// Values for its parameters; one of these lists is taken.
    pub values: &'static [&'static [&'static str]],
    /// Types that Parse may give, or not.
    pub types: &'static [u32],
}

const fn text(sql: &'static str, values: &'static [&'static [&'static str]], types: &'static [u32]) -> Text {
    Text { sql, values, types }
}

const NO_VALUES: &[&[&str]] = &[&[]];
const INT4: &[u32] = &[23];
const TEXT: &[u32] = &[25];

/// Statements that are alike for all clients.
pub const SHARED_TEXTS: &[Text] = &[
    text("select $1::int + 1", &[&["41"], &["1"], &["rubbish"]], &[]),
    text("select $1", &[&["1"], &["2"]], INT4),
    text("select $1", &[&["1"], &["2"]], TEXT),
    text("select $1", &[&["1"]], &[]),
    text("select 10/$1::int", &[&["5"], &["0"]], &[]),
    text("select a, b from shared where a = $1", &[&["1"], &["2"], &["3"]], INT4),
    text("select generate_series(1, 3)", NO_VALUES, &[]),
    text("select current_setting('timezone'), current_setting('search_path')", NO_VALUES, &[]),
    text("select current_user, session_user", NO_VALUES, &[]),
    text("select 'one statement'", NO_VALUES, &[]),
    text("set work_mem = '6MB'", NO_VALUES, &[]),
    text("set timezone = 'Asia/Tokyo'", NO_VALUES, &[]),
    text("set local timezone = 'Asia/Tokyo'", NO_VALUES, &[]),
    text(
        "select set_config($1, $2, false)",
        &[&["my.var", "set"], &["work_mem", "7MB"], &["timezone", "UTC"]],
        &[],
    ),
    text("select set_config('my.var', $1, true)", &[&["local"]], &[]),
    text("begin", NO_VALUES, &[]),
    text("commit", NO_VALUES, &[]),
    text("rollback", NO_VALUES, &[]),
    text("discard all", NO_VALUES, &[]),
    text("deallocate all", NO_VALUES, &[]),
    text("", NO_VALUES, &[]),
    text("selekt 1", NO_VALUES, &[]),
    text("select * from missing", NO_VALUES, &[]),
    text("select 1; select 2", NO_VALUES, &[]),
    text("select $2::int", &[&["1", "2"], &["1"]], &[]),
];

/// Statements about the client's table.
pub const TABLE_TEXTS: &[Text] = &[
    text("select * from t{c}", NO_VALUES, &[]),
    text("select a from t{c} order by 1", NO_VALUES, &[]),
    text("insert into t{c} (a) values ($1)", &[&["4"], &["5"]], &[]),
    text("insert into t{c} (a) values ($1) returning *", &[&["6"]], &[]),
    text("select count(*) from t{c}", NO_VALUES, &[]),
    text("alter table t{c} add column extra int default 7", NO_VALUES, &[]),
];

/// Statements that mean something else with another search path.
pub const PATH_TEXTS: &[Text] = &[
    text("select * from u", NO_VALUES, &[]),
    text("select a from u where a = $1", &[&["1"], &["2"], &["rubbish"]], &[]),
    text("select a, b from u, shared where a = $1", &[&["1"]], &[]),
];

/// Statements with literals whose meaning PostgreSQL settles when it parses them.
pub const LITERAL_TEXTS: &[Text] = &[
    text("select '01/02/2020'::date", NO_VALUES, &[]),
    text("select '2020-06-01 12:00'::timestamptz at time zone 'UTC'", NO_VALUES, &[]),
    text("select interval '1 day 2 hours'", NO_VALUES, &[]),
    text("select 'a\\nb'", NO_VALUES, &[]),
];

/// All of them.
pub fn all_texts() -> impl Iterator<Item = &'static Text> {
    [SHARED_TEXTS, TABLE_TEXTS, PATH_TEXTS, LITERAL_TEXTS].into_iter().flatten()
}

/// One of these.
pub fn pick<T: Copy>(rng: &mut impl Rng, choices: &[T]) -> T {
    *choices.choose(rng).expect("there are choices")
}

/// SET, RESET or `set_config` of a setting, in one of their many forms.
pub fn setting(rng: &mut impl Rng) -> String {
    let (name, values) = pick(rng, SETTINGS);
    let value = pick(rng, values);
    match rng.random_range(0..16) {
        0..=5 => format!("set {name} = {value}"),
        6 => format!("set session {name} to {value}"),
        7 => format!("SET {} TO {value};", name.to_uppercase()),
        8 => format!("/* why */ set {name}={value}"),
        9 | 10 => format!("reset {name}"),
        11 => format!("set {name} to default"),
        // One that was never set is an error, and set and reset it is empty: see PROBE.
        12 if !name.starts_with("my.") => format!("show {name}"),
        _ => format!("select set_config('{name}', {}, false)", quoted(value)),
    }
}

/// The same for the rest of the transaction only.
pub fn local_setting(rng: &mut impl Rng) -> String {
    let (name, values) = pick(rng, SETTINGS);
    let value = pick(rng, values);
    match rng.random_range(0..8) {
        0..=5 => format!("set local {name} = {value}"),
        // Not `to default`: it goes to the server's default, and not to what the client has logged in with
        // (docs/session-state.md).
        _ => format!("select set_config('{name}', {}, true)", quoted(value)),
    }
}

fn quoted(value: &str) -> String {
    if value.contains('\'') || value.contains('$') { value.to_owned() } else { format!("'{value}'") }
}

/// A read.
pub fn read(rng: &mut impl Rng) -> &'static str {
    // The probe sees most.
    if rng.random_ratio(1, 3) { PROBE } else { pick(rng, READS) }
}

/// The beginning of a transaction, one of its savepoints, or its end.
pub fn transaction(rng: &mut impl Rng, status: u8) -> &'static str {
    match (status, rng.random_range(0..10)) {
        (b'I', 0..=7) => pick(rng, BEGINS),
        (b'I', _) => pick(rng, ENDS),
        (b'E', 0..=5) | (_, 0..=3) => pick(rng, ENDS),
        (_, 4) => pick(rng, BEGINS),
        _ => pick(rng, SAVEPOINTS),
    }
}

/// About roles.
pub fn role(rng: &mut impl Rng) -> &'static str {
    pick(rng, ROLES)
}

/// Something odd.
pub fn odd(rng: &mut impl Rng) -> &'static str {
    pick(rng, ODD)
}

/// A kind of state that keeps a server connection: all of its statements.
pub fn pinning(rng: &mut impl Rng) -> &'static [&'static str] {
    pick(rng, PINNING)
}

/// A change of the client's table.
pub fn change(rng: &mut impl Rng, removals: bool) -> &'static str {
    if removals && rng.random_ratio(1, 3) { pick(rng, REMOVALS) } else { pick(rng, CHANGES) }
}
