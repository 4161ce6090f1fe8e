//! What a statement may leave behind in its session.

use super::lexer::{Token, Tokens};
use crate::proto::audit::Suspects;
use crate::proto::parameters::decides_reading;
use crate::proto::pin::{PinReason, Pins};

/// Settings and statements named by one text; whoever sends more than these has its others overlooked.
const MOST_NAMES: usize = 32;

/// What a text may leave behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// What PostgreSQL is to be asked about when the transaction is over.
    pub suspects: Suspects,
    /// What it would keep a server connection for.
    pub pins: Pins,
    /// It asks for a value that a sequence gave this session.
    pub reads_sequence: bool,
    /// Custom settings (with a dot in their name) that it may set: PostgreSQL does not list those.
    pub names: Vec<String>,
    /// It may leave settings as the server has them by default: `RESET`, `SET … TO DEFAULT`, `SET TIME ZONE LOCAL`, `DISCARD ALL`.
    pub resets: bool,
    /// It takes away all prepared statements, whoever they belong to: `DEALLOCATE ALL`, `DISCARD ALL`.
    pub clears: bool,
    /// It may change what tables look like: `ALTER`, `DROP`.
    pub alters: bool,
    /// It may set custom settings under names that it does not say.
    pub unknown_names: bool,
    /// It may set, if only for its transaction, what decides how a text is read: the format of dates, say.
    pub reshapes: bool,
    /// Its statements about prepared statements, in their order.
    pub verbs: Vec<Verb>,
}

/// A statement about prepared statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// `PREPARE name`
    Prepare(Box<[u8]>),
    /// `DEALLOCATE name`
    Deallocate(Box<[u8]>),
    /// `DEALLOCATE ALL`, alone in its text.
    DeallocateAllAlone,
    /// `DEALLOCATE ALL` among other statements.
    DeallocateAll,
    /// `EXECUTE name`
    Execute(Box<[u8]>),
}

impl Effects {
    /// Nothing that has to be looked at.
    pub fn is_harmless(&self) -> bool {
        *self == Self::default()
    }
}

/// What a text may leave behind. Cheap for what applications mostly send.
pub fn effects(sql: &[u8]) -> Effects {
    if !is_suspicious(sql) {
        return Effects::default();
    }
    let mut effects = Effects::default();
    let mut tokens = Tokens::new(sql).peekable();
    let (mut statement, mut statements) = (vec![], 0);
    while tokens.peek().is_some() {
        statement.clear();
        statement.extend(tokens.by_ref().take_while(|token| *token != Token::Symbol(b';')));
        if !statement.is_empty() {
            statements += 1;
            look_at(&statement, &mut effects);
        }
    }
    if statements == 1 && effects.verbs == [Verb::DeallocateAll] {
        effects.verbs = vec![Verb::DeallocateAllAlone];
    }
    effects.verbs.truncate(MOST_NAMES);
    effects.names.truncate(MOST_NAMES);
    effects
}

/// The first look: at the first word, for further statements, and for the telling words.
#[inline]
fn is_suspicious(sql: &[u8]) -> bool {
    begins_with_state(sql) || has_more_statements(sql) || has_telling_word(sql)
}

/// Longest telling word.
const LONGEST_WORD: usize = 16;

/// A text that is seen in pieces.
#[derive(Debug, Default)]
pub struct LongText {
    /// The end of the piece before.
    tail: Vec<u8>,
    /// A semicolon with nothing behind it so far.
    ended: bool,
    goes_on: bool,
}

impl LongText {
    /// Whether the text may leave something behind, as far as can be told from this piece and what was before it.
    pub fn is_suspicious(&mut self, piece: &[u8]) -> bool {
        let begins = !std::mem::replace(&mut self.goes_on, true);
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
        let more = self.ended && !piece.iter().all(is_blank);
        self.ended |= memchr::memchr(b';', piece).is_some();
        // A word may be cut.
        self.tail.extend_from_slice(piece.get(..LONGEST_WORD).unwrap_or(piece));
        let cut = has_telling_word(&self.tail);
        self.tail.extend_from_slice(piece.get(LONGEST_WORD..).and_then(last_of).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(LONGEST_WORD));
        begins && begins_with_state(piece)
            || more
            || has_more_statements(piece)
            || cut
            || has_telling_word(piece)
    }
}

fn last_of(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(bytes.len().saturating_sub(LONGEST_WORD)..)
}

fn begins_with_state(sql: &[u8]) -> bool {
    let sql = match sql.first() {
        Some(first) if first.is_ascii_alphabetic() => sql,
        _ => {
            let mut tokens = Tokens::new(sql);
            tokens.skip_blank();
            tokens.rest()
        }
    };
    // Most texts are told apart by their first letters.
    let Some([first, second]) =
        sql.first_chunk().map(|letters: &[u8; 2]| letters.map(|l| l.to_ascii_lowercase()))
    else {
        return false;
    };
    let words: &[&str] = match (first, second) {
        (b'a', b'l') => &["alter"],
        (b's', b'e') => &["set"],
        (b'r', b'e') => &["reset"],
        (b'd', b'i') => &["discard"],
        (b'd', b'e') => &["deallocate", "declare"],
        (b'd', b'o') => &["do"],
        (b'd', b'r') => &["drop"],
        (b'l', b'i') => &["listen"],
        (b'l', b'o') => &["load"],
        (b'u', b'n') => &["unlisten"],
        (b'p', b'r') => &["prepare"],
        (b'e', b'x') => &["execute"],
        (b'c', b'l') => &["close"],
        (b'c', b'r') => &["create"],
        _ => return false,
    };
    let word = sql.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    words
        .iter()
        .any(|known| known.len() == word && Tokens::new(sql).next().is_some_and(|token| token.is(known)))
}

fn has_more_statements(sql: &[u8]) -> bool {
    let behind = memchr::memchr(b';', sql).and_then(|at| sql.get(at + 1..)).unwrap_or_default();
    behind.iter().any(|byte| !byte.is_ascii_whitespace() && *byte != 0)
}

/// `set_config`, `advisory`, `currval`, `lastval` and `temp` say something wherever they stand; everything else begins a
/// statement, or has a tag of its own. They are found by their rarer letters.
fn has_telling_word(sql: &[u8]) -> bool {
    let is_at = |start: Option<usize>, word: &str| {
        let found = start.and_then(|start| sql.get(start..start + word.len()));
        found.is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    };
    let one = memchr::memchr3_iter(b'v', b'V', b'_', sql).any(|at| match sql.get(at) {
        Some(b'_') => is_at(at.checked_sub(3), "set_config"),
        _ => {
            is_at(at.checked_sub(4), "currval")
                || is_at(at.checked_sub(4), "lastval")
                || is_at(at.checked_sub(2), "advisory")
        }
    });
    one || memchr::memchr2_iter(b'p', b'P', sql).any(|at| is_at(at.checked_sub(3), "temp"))
}

/// One statement.
fn look_at(statement: &[Token<'_>], effects: &mut Effects) {
    let Some(first) = statement.first() else { return };
    let rest = statement.get(1..).unwrap_or_default();
    let Token::Word(word) = first else { return anywhere(statement, effects) };
    match word.to_ascii_lowercase().as_slice() {
        b"set" => set(rest, effects),
        b"reset" => {
            effects.suspects.insert(Suspects::SETTINGS);
            effects.resets = true;
            effects.reshapes |= reshapes(rest);
            note_name(rest, effects);
        }
        b"discard" => {
            effects.suspects.insert(Suspects::TEMP);
            let all = rest.first().is_some_and(|token| token.is("all"));
            effects.resets |= all;
            effects.clears |= all;
        }
        b"listen" => {
            effects.suspects.insert(Suspects::LISTENING);
            effects.pins.insert(PinReason::Listen);
        }
        b"unlisten" => effects.suspects.insert(Suspects::LISTENING),
        b"load" => effects.pins.insert(PinReason::Load),
        b"prepare" if !rest.first().is_some_and(|token| token.is("transaction")) => {
            effects.suspects.insert(Suspects::PREPARED);
            effects.pins.insert(PinReason::SqlPrepare);
            effects.verbs.extend(rest.first().and_then(name).map(Verb::Prepare));
        }
        b"alter" | b"drop" => effects.alters = true,
        b"deallocate" => {
            effects.suspects.insert(Suspects::PREPARED);
            let verb = deallocate(rest);
            effects.clears |= verb == Some(Verb::DeallocateAll);
            effects.verbs.extend(verb);
        }
        b"execute" => effects.verbs.extend(rest.first().and_then(name).map(Verb::Execute)),
        b"declare" if pairs(rest, "with", "hold") => {
            effects.suspects.insert(Suspects::CURSORS);
            effects.pins.insert(PinReason::HoldCursor);
        }
        b"close" => effects.suspects.insert(Suspects::CURSORS),
        b"create" => create(rest, effects),
        // Its body is a program: it is asked about whatever it may have done.
        b"do" => {
            effects.suspects.insert(Suspects::ALL);
            effects.reshapes = true;
            effects.alters = true;
            effects.unknown_names = true;
        }
        _ => {}
    }
    anywhere(statement, effects);
}

/// Behind SET.
fn set(rest: &[Token<'_>], effects: &mut Effects) {
    let mut rest = rest;
    if let Some(first) = rest.first() {
        if first.is("local") {
            effects.reshapes |= reshapes(rest.get(1..).unwrap_or_default());
            return;
        }
        if first.is("transaction") || first.is("constraints") {
            return;
        }
        if first.is("session") && !rest.get(1).is_some_and(|token| matches!(token, Token::Symbol(_))) {
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    // SET NAMES without one, too.
    effects.resets |= rest.len() == 1;
    effects.suspects.insert(Suspects::SETTINGS);
    effects.reshapes |= reshapes(rest);
    effects.resets |= rest.iter().any(|token| ["default", "none", "local"].iter().any(|word| token.is(word)));
    note_name(rest, effects);
}

/// Whether the setting that these tokens begin with may decide how a text is read.
fn reshapes(tokens: &[Token<'_>]) -> bool {
    match tokens {
        [Token::Word(_) | Token::Quoted(_), Token::Symbol(b'.'), ..] => false,
        [Token::Word(name) | Token::Quoted(name), ..] => decides_reading(name),
        _ => true,
    }
}

/// A setting's name with a dot in it.
fn note_name(tokens: &[Token<'_>], effects: &mut Effects) {
    let mut name = vec![];
    for pair in tokens.chunks(2) {
        let (Some(Token::Word(part) | Token::Quoted(part)), next) = (pair.first(), pair.get(1)) else {
            return;
        };
        name.extend_from_slice(part);
        if next != Some(&Token::Symbol(b'.')) {
            break;
        }
        name.push(b'.');
    }
    note(&name, effects);
}

fn note(name: &[u8], effects: &mut Effects) {
    if let Ok(name) = std::str::from_utf8(name)
        && name.contains('.')
    {
        effects.names.push(name.to_owned());
    }
}

/// Behind CREATE.
fn create(rest: &[Token<'_>], effects: &mut Effects) {
    let is_temporary = |token: &Token<'_>| token.is("temp") || token.is("temporary");
    // CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP
    if rest.iter().take(4).any(is_temporary) || rest.iter().take(8).any(|token| token.is("pg_temp")) {
        temporary(rest, effects);
    }
}

fn temporary(rest: &[Token<'_>], effects: &mut Effects) {
    effects.suspects.insert(Suspects::TEMP);
    // ON COMMIT DROP
    if !pairs(rest, "commit", "drop") {
        effects.pins.insert(PinReason::TempTable);
    }
}

/// Whether one word follows the other.
fn pairs(tokens: &[Token<'_>], one: &str, other: &str) -> bool {
    tokens.windows(2).any(|pair| matches!(pair, [a, b] if a.is(one) && b.is(other)))
}

/// What says something wherever it stands.
fn anywhere(statement: &[Token<'_>], effects: &mut Effects) {
    for (at, token) in statement.iter().enumerate() {
        let (Token::Word(word) | Token::Quoted(word)) = token else { continue };
        let behind = statement.get(at + 1..).unwrap_or_default();
        match word.to_ascii_lowercase().as_slice() {
            b"set_config" => set_config(behind, effects),
            b"pg_advisory_lock"
            | b"pg_advisory_lock_shared"
            | b"pg_try_advisory_lock"
            | b"pg_try_advisory_lock_shared" => {
                effects.suspects.insert(Suspects::LOCKS);
                effects.pins.insert(PinReason::AdvisoryLock);
            }
            b"pg_advisory_unlock" | b"pg_advisory_unlock_shared" | b"pg_advisory_unlock_all" => {
                effects.suspects.insert(Suspects::LOCKS);
            }
            b"currval" | b"lastval" => {
                effects.reads_sequence = true;
                effects.pins.insert(PinReason::SequenceValue);
            }
            b"into" if behind.first().is_some_and(|token| token.is("temp") || token.is("temporary")) => {
                temporary(behind, effects);
            }
            _ => {}
        }
    }
}

/// Behind `set_config`: `('name', value, is_local)`.
fn set_config(behind: &[Token<'_>], effects: &mut Effects) {
    let (mut depth, mut commas, mut name) = (0_usize, 0_usize, &b""[..]);
    for (at, token) in behind.iter().enumerate() {
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') if depth <= 1 => break,
            Token::Symbol(b')') => depth -= 1,
            Token::Symbol(b',') if depth == 1 => commas += 1,
            Token::Text(text) if depth == 1 && commas == 0 => name = text,
            // Local to the transaction: the whole third argument is the word `true`.
            token
                if depth == 1
                    && commas == 2
                    && token.is("true")
                    && behind.get(at + 1) == Some(&Token::Symbol(b')')) =>
            {
                effects.reshapes |= !name.contains(&b'.') && decides_reading(name);
                return;
            }
            _ => {}
        }
    }
    note(name, effects);
    effects.unknown_names |= name.is_empty();
    effects.reshapes |= !name.contains(&b'.') && decides_reading(name);
    effects.suspects.insert(Suspects::SETTINGS);
}

/// Behind DEALLOCATE.
fn deallocate(rest: &[Token<'_>]) -> Option<Verb> {
    let what = match rest {
        [first, second, ..] if first.is("prepare") => second,
        [first, ..] => first,
        [] => return None,
    };
    if what.is("all") { Some(Verb::DeallocateAll) } else { name(what).map(Verb::Deallocate) }
}

/// The name of a prepared statement.
fn name(token: &Token<'_>) -> Option<Box<[u8]>> {
    match token {
        // Identifiers without quotes are folded to lower case.
        Token::Word(word) => Some(word.to_ascii_lowercase().into()),
        Token::Quoted(word) => Some(unquoted(word)),
        _ => None,
    }
}

/// A doubled quote is one.
fn unquoted(word: &[u8]) -> Box<[u8]> {
    let mut plain = Vec::with_capacity(word.len());
    for byte in word {
        if *byte != b'"' || plain.last() != Some(&b'"') {
            plain.push(*byte);
        }
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Effects {
        effects(sql.as_bytes())
    }

    #[test]
    fn what_applications_mostly_send_is_harmless() {
        for sql in [
            "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
            "insert into template_x values ('a;b', 1)",
            "BEGIN",
            "commit;",
            "select pg_advisory_xact_lock(1)",
            "select nextval('s')",
            "set local my.x = 1",
            "set transaction isolation level serializable",
            "select set_config('my.x', 'a', true)",
            "prepare transaction 'x'",
            "declare c cursor for select 1",
            "create table t (a int)",
            "update t set reset = 1",
        ] {
            let effects = of(sql);
            assert!(effects.is_harmless(), "{sql}: {effects:?}");
        }
    }

    #[test]
    fn settings_and_their_names() {
        for (sql, names) in [
            ("SET work_mem = 1", &[][..]),
            ("/* a */ set session my.x to 'y'", &["my.x"]),
            ("set \"My\".x = 1; select 1; reset other.y", &["My.x", "other.y"]),
            ("select 1, set_config('my.x', $1, false)", &["my.x"]),
            ("select pg_catalog.set_config('my.x', 'true', f(true, 1))", &["my.x"]),
            ("set session characteristics as transaction read only", &[]),
            ("set session authorization default", &[]),
            ("set time zone 'UTC'", &[]),
            ("reset all", &[]),
        ] {
            let effects = of(sql);
            assert!(effects.suspects.contains(Suspects::SETTINGS), "{sql}");
            assert_eq!(effects.names, names, "{sql}");
        }
        for (sql, reshapes) in [
            ("set local datestyle = 'German'", true),
            ("select set_config('TimeZone', 'UTC', true)", true),
            ("select set_config($1, $2, true)", true),
            ("reset all", true),
            ("set local my.x = 1", false),
            ("set statement_timeout = 1", false),
        ] {
            assert_eq!(of(sql).reshapes, reshapes, "{sql}");
        }
        assert!(of("set x to default").resets && of("reset x").resets && !of("set x = 1").resets);
    }

    #[test]
    fn telling_words_anywhere_in_any_case() {
        for word in ["set_config", "ADVISORY", "CurrVal", "lastval", "Temp"] {
            for (front, behind) in [("", ""), ("x", "y"), ("select ", "(1)")] {
                assert!(
                    has_telling_word(format!("{front}{word}{behind}").as_bytes()),
                    "{front}{word}{behind}"
                );
            }
        }
        assert!(!has_telling_word(b"select v_a, tem, p, set_x from set_confi where lastva = visory"));
    }

    #[test]
    fn a_long_text_is_suspected_wherever_it_is_cut() {
        let suspicious = |text: &str, cut: usize, second: usize| {
            let mut long = LongText::default();
            let pieces = [&text[..cut], &text[cut..second], &text[second..]];
            pieces.map(|piece| long.is_suspicious(piece.as_bytes())).contains(&true)
        };
        for (text, is) in [
            ("select 1, set_config('a', 'b', false)", true),
            ("select 1; set a = 1", true),
            ("insert into v values (1, 'x'); \0", false),
        ] {
            for cut in 0..=text.len() {
                for second in cut..=text.len() {
                    assert_eq!(suspicious(text, cut, second), is, "{text:?} cut at {cut} and {second}");
                }
            }
        }
    }

    #[test]
    fn pins() {
        for (sql, pins) in [
            ("LISTEN a", &[PinReason::Listen][..]),
            ("select pg_try_advisory_lock(1)", &[PinReason::AdvisoryLock]),
            ("create temp table t (a int)", &[PinReason::TempTable]),
            ("create or replace temporary view v as select 1", &[PinReason::TempTable]),
            ("create table pg_temp.t (a int)", &[PinReason::TempTable]),
            ("create temp table t (a int) on commit drop", &[]),
            ("select 1 as a into temp t", &[PinReason::TempTable]),
            ("declare c cursor with hold for select 1", &[PinReason::HoldCursor]),
            ("load 'x'", &[PinReason::Load]),
            ("select currval('s')", &[PinReason::SequenceValue]),
            ("prepare p as select 1", &[PinReason::SqlPrepare]),
            ("select 1; listen a; prepare p as select 1", &[PinReason::Listen, PinReason::SqlPrepare]),
            ("unlisten *", &[]),
        ] {
            assert_eq!(of(sql).pins.iter().collect::<Vec<_>>(), pins, "{sql}");
        }
    }

    #[test]
    fn verbs() {
        let deallocate = |name: &str| Verb::Deallocate(name.as_bytes().into());
        assert_eq!(of("DEALLOCATE PREPARE \"A\"\"b\"").verbs, [deallocate("A\"b")]);
        assert_eq!(of("deallocate Foo;").verbs, [deallocate("foo")]);
        assert_eq!(of("deallocate all").verbs, [Verb::DeallocateAllAlone]);
        assert_eq!(of("prepare Foo (int) as select $1").verbs, [Verb::Prepare(b"foo"[..].into())]);
        assert_eq!(of("execute foo(1)").verbs, [Verb::Execute(b"foo"[..].into())]);
        assert_eq!(of("deallocate a; deallocate all").verbs, [deallocate("a"), Verb::DeallocateAll]);
        for sql in ["deallocate all", "DEALLOCATE PREPARE ALL", "select 1; deallocate all", "discard all"] {
            assert!(of(sql).clears, "{sql}");
        }
        for sql in ["deallocate \"all\"", "deallocate allegro", "discard plans", "discard temp"] {
            assert!(!of(sql).clears, "{sql}");
        }
    }
}
