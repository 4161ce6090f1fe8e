//! The text of a statement without what differs from one execution to the next, so that a line of a plan's script and
//! a row of `pg_stat_statements` can be compared.
//!
//! PostgreSQL replaces constants by `$1`, `$2` and keeps the rest as the first client wrote it, comments and white space
//! included (PostgreSQL's manual, appendix F, `pg_stat_statements`). Both sides go through the same lossy function here,
//! so it need not know PostgreSQL's grammar: it only has to make equal what PostgreSQL holds to be equal.

use crate::plan::Plan;
use std::collections::BTreeSet;

/// What stands for a constant or parameter.
const CONSTANT: &str = "?";

/// Statements that PostgreSQL plans begin so. Everything else, transaction control among it, is a utility statement:
/// counted only if `track_utility` is on, and before PostgreSQL 16 with its constants.
const PLANNED: [&str; 8] = ["select", "insert", "update", "delete", "merge", "values", "with", "table"];

/// What plans may write in a script's line, and the engine replaces (see [`crate::plan::Function::script`]).
const PLACEHOLDERS: [&str; 3] = ["{instance}", "{invocation}", "{random}"];

/// Whether executions of this line of a plan's script are counted, by PostgreSQL and therefore also by whoever counts
/// what clients heard of. The line as the plan has it, placeholders included: one whose placeholder is part of a name
/// cannot be recognised later. Nor are several statements in one line counted.
#[must_use]
pub fn is_counted(line: &str) -> bool {
    let text = normalised(&filled(line, "0"));
    let first = text.trim_start_matches(['(', ' ']).split(' ').next().unwrap_or_default();
    PLANNED.contains(&first) && !text.contains(';') && text == normalised(&filled(line, "1"))
}

/// The texts of a plan's statements that are counted.
pub(super) fn counted_texts(plan: &Plan) -> BTreeSet<String> {
    let lines = plan.functions.iter().flat_map(|function| &function.script);
    lines.filter(|line| is_counted(line)).map(|line| normalised(&filled(line, "0"))).collect()
}

/// Lower case, single spaces, no comments, `?` for constants and parameters and for lists of them.
pub(super) fn normalised(sql: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for token in Tokens(sql) {
        let word = match token {
            Token::Constant => CONSTANT.to_owned(),
            Token::Word(word) => word.to_lowercase(),
            Token::Verbatim(text) => text.to_owned(),
        };
        // They are constants to PostgreSQL where they are values; elsewhere ("is null") it does no harm.
        let is_constant = matches!(word.as_str(), CONSTANT | "true" | "false" | "null");
        if !is_constant {
            words.push(word);
            continue;
        }
        // A sign may be part of the constant or an operator: gone in either case.
        if words.last().is_some_and(|last| last == "-") {
            words.pop();
        }
        // PostgreSQL 18 writes a list of constants as one.
        match words.as_slice() {
            [.., before, comma] if before == CONSTANT && comma == "," => drop(words.pop()),
            _ => words.push(CONSTANT.to_owned()),
        }
    }
    while words.last().is_some_and(|last| last == ";") {
        words.pop();
    }
    words.join(" ")
}

/// The line with every placeholder replaced.
fn filled(line: &str, by: &str) -> String {
    PLACEHOLDERS.iter().fold(line.to_owned(), |line, placeholder| line.replace(placeholder, by))
}

/// What SQL's text is made of, as far as it matters here (PostgreSQL's manual, chapter 4.1).
enum Token<'a> {
    /// A number, a string, a parameter.
    Constant,
    /// A keyword or a name that is not quoted.
    Word(&'a str),
    /// A quoted name, or one character of anything else.
    Verbatim(&'a str),
}

/// The tokens of what is left of a text.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let first = self.0.chars().next()?;
        let second = self.0.chars().nth(1).unwrap_or(' ');
        Some(match first {
            '\'' => self.constant(string_length(self.0, false)),
            '"' => Token::Verbatim(self.take(quoted_length(self.0, '"'))),
            '$' => match dollar_length(self.0) {
                Some(length) => self.constant(length),
                None => Token::Verbatim(self.take(1)),
            },
            '0'..='9' => self.constant(number_length(self.0)),
            '.' if second.is_ascii_digit() => self.constant(number_length(self.0)),
            _ if is_word(first) => self.word(),
            _ => Token::Verbatim(self.take(first.len_utf8())),
        })
    }
}

impl<'a> Tokens<'a> {
    fn take(&mut self, length: usize) -> &'a str {
        let (token, rest) = self.0.split_at_checked(length).unwrap_or((self.0, ""));
        self.0 = rest;
        token
    }

    fn constant(&mut self, length: usize) -> Token<'a> {
        self.take(length);
        Token::Constant
    }

    /// A word, or a string with a letter before it (`E'\n'`, `B'1'`, `X'F'`, `U&'…'`).
    fn word(&mut self) -> Token<'a> {
        for (prefix, has_escapes) in [("e'", true), ("b'", false), ("x'", false), ("u&'", false)] {
            if self.0.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
                self.take(prefix.len() - 1);
                return self.constant(string_length(self.0, has_escapes));
            }
        }
        let length = self.0.find(|c| !is_word(c)).unwrap_or(self.0.len());
        Token::Word(self.take(length))
    }

    fn skip_blanks(&mut self) {
        loop {
            self.0 = self.0.trim_start();
            let length = match self.0.get(..2) {
                Some("--") => self.0.find('\n').unwrap_or(self.0.len()),
                Some("/*") => comment_length(self.0),
                _ => return,
            };
            self.take(length);
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// Of a text that begins with `quote`: up to the one that closes it. A doubled one does not; the rest is read as a
/// second quoted text right behind, which is why its length is added.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut inside = false;
    for (at, c) in text.char_indices() {
        if c == quote {
            inside = !inside;
        } else if !inside {
            return at;
        }
    }
    text.len()
}

fn string_length(text: &str, has_escapes: bool) -> usize {
    if !has_escapes {
        return quoted_length(text, '\'');
    }
    let mut inside = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '\'' => inside = !inside,
            _ if !inside => return at,
            _ => {}
        }
    }
    text.len()
}

/// `$1`, or a string between `$tag$` and `$tag$`.
fn dollar_length(text: &str) -> Option<usize> {
    let behind = text.strip_prefix('$')?;
    let digits = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
    if digits > 0 {
        return Some(1 + digits);
    }
    let tag_length = behind.find('$')?;
    if behind.chars().take_while(|&c| c != '$').any(|c| !is_word(c)) {
        return None;
    }
    let (tag, body) = text.split_at_checked(tag_length + 2)?;
    Some(body.find(tag).map_or(text.len(), |end| tag.len() + end + tag.len()))
}

/// `1`, `1.5e-3`, `0xFF`, `1_000`.
fn number_length(text: &str) -> usize {
    let mut last = ' ';
    for (at, c) in text.char_indices() {
        let is_sign = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
        if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || is_sign) {
            return at;
        }
        last = c;
    }
    text.len()
}

/// Comments nest.
fn comment_length(text: &str) -> usize {
    let mut depth = 0_u32;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a script has, and what PostgreSQL 15 makes of it.
    #[test]
    fn a_script_and_what_postgres_shows_of_it_are_equal() {
        for (script, shown) in [
            ("select pg_sleep(0.02)", "select pg_sleep($1)"),
            ("SELECT  1 ;", "SELECT  $1"),
            ("select -1, a - 1, a -1.5e-3", "select $1, a - $2, a -$3"),
            ("select E'it\\'s', 'it''s', $$a'b$$, $x$a$x$", "select $1, $2, $3, $4"),
            ("select true, null where a is not null", "select $1, $2 where a is not null"),
            ("select /* job=7 */ 1 -- one\n+ 2", "select /* job=9 */ $1 -- one\n+ $2"),
            ("select 1 where 5 in (1, 2, 3)", "select $1 where $2 in ($3 /*, ... */)"),
            ("insert into t values (1, 'a'), (2, 'b')", "insert into t values ($1, $2), ($3, $4)"),
            ("select \"Wörter\" from \"A b\" where ä = 'ö'", "select \"Wörter\" from \"A b\" where ä = $1"),
            ("update t2 set n = n+1 where id=17", "update t2 set n = n+$1 where id=$2"),
        ] {
            assert_eq!(normalised(script), normalised(shown), "{script}");
        }
    }

    #[test]
    fn statements_that_differ_stay_different() {
        for (one, other) in [
            ("select 1 from a", "select 1 from b"),
            ("select \"A\"", "select \"a\""),
            ("select t1", "select t2"),
            ("select 1", "select 1 + 1"),
        ] {
            assert_ne!(normalised(one), normalised(other));
        }
    }

    #[test]
    fn what_is_planned_is_counted_and_nothing_else() {
        for line in [
            "select 1",
            " -- first\nWITH a as (select 1) select 2;",
            "(select 1)",
            "select '{random}', {instance}",
        ] {
            assert!(is_counted(line), "{line}");
        }
        for line in [
            "begin",
            "COMMIT;",
            "rollback",
            "set a = 1",
            "select 1; select 2",
            "select 1 from t{instance}",
            "",
        ] {
            assert!(!is_counted(line), "{line}");
        }
    }

    #[test]
    fn texts_that_end_too_early_are_read_to_their_end() {
        for text in ["'", "\"a", "E'\\", "$a$ b", "/* /* */", "--", "$", "1e", "u&'", "select 'ä"] {
            let _ = normalised(text);
        }
        assert_eq!(normalised("select 'never closed"), "select ?");
    }
}
