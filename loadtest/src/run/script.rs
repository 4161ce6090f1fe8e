//! A function's script, ready to be filled in for each invocation.

use crate::plan::Function;
use std::borrow::Cow;
use std::fmt::Write as _;

/// A function's statements, with the places of `{instance}`, `{invocation}` and `{random}` found.
#[derive(Debug)]
pub struct Script {
    statements: Vec<Vec<Piece>>,
    reading: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Instance,
    Invocation,
    Random,
}

/// What is filled in: the same in all statements of one invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    /// `{instance}`: counted from 0 within the function. One that takes the place of another has its number.
    pub instance: u32,
    /// `{invocation}`: counted from 0 within the function; no two of a leg have the same.
    pub invocation: u64,
    /// `{random}`: 0 to 999999.
    pub random: u32,
}

const MARKS: [(&str, Piece); 3] =
    [("{instance}", Piece::Instance), ("{invocation}", Piece::Invocation), ("{random}", Piece::Random)];

impl Script {
    /// The function's.
    #[must_use]
    pub fn of(function: &Function) -> Self {
        Self {
            statements: function.script.iter().map(|text| pieces(text)).collect(),
            reading: function.script.iter().position(|text| !opens_transaction(text)).unwrap_or(0),
        }
    }

    /// How many statements it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// It has none. No plan has such a function.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// In the middle of which statement's reply an instance is suspended: the first that does not merely open the
    /// transaction.
    #[must_use]
    pub fn reading(&self) -> usize {
        self.reading
    }

    /// The statements in their order.
    pub fn fill(&self, values: Values) -> impl Iterator<Item = Cow<'_, str>> {
        self.statements.iter().map(move |pieces| filled(pieces, values))
    }
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((at, mark, piece)) = first_mark(rest) {
        pieces.push(Piece::Text(rest[..at].to_owned()));
        pieces.push(piece);
        rest = &rest[at + mark..];
    }
    pieces.push(Piece::Text(rest.to_owned()));
    pieces
}

/// Where the first mark is, and how long. Other braces are SQL's own.
fn first_mark(text: &str) -> Option<(usize, usize, Piece)> {
    let found = MARKS.into_iter().filter_map(|(mark, piece)| Some((text.find(mark)?, mark.len(), piece)));
    found.min_by_key(|(at, _, _)| *at)
}

fn filled(pieces: &[Piece], values: Values) -> Cow<'_, str> {
    if let [Piece::Text(text)] = pieces {
        return Cow::Borrowed(text);
    }
    let mut sql = String::new();
    for piece in pieces {
        // Writing to a string does not fail.
        let _ = match piece {
            Piece::Text(text) => sql.write_str(text),
            Piece::Instance => write!(sql, "{}", values.instance),
            Piece::Invocation => write!(sql, "{}", values.invocation),
            Piece::Random => write!(sql, "{}", values.random),
        };
    }
    Cow::Owned(sql)
}

fn opens_transaction(sql: &str) -> bool {
    let first = sql.split(|letter: char| !letter.is_ascii_alphanumeric()).find(|word| !word.is_empty());
    // Several statements in one text do more than that.
    let is_single = !sql.trim_end().trim_end_matches(';').contains(';');
    is_single
        && first.is_some_and(|word| ["begin", "start", "set"].iter().any(|it| word.eq_ignore_ascii_case(it)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use std::path::Path;

    fn script(statements: &[&str]) -> Script {
        let text = format!(
            "title = \"t\"\nduration = \"1s\"\n[[function]]\nname = \"f\"\ninstances = 1\narrival = {{ kind = \
             \"at_once\" }}\nscript = {statements:?}"
        );
        Script::of(&Plan::parse("t", &text, Path::new(".")).unwrap().functions[0])
    }

    const VALUES: Values = Values { instance: 7, invocation: 31, random: 999_999 };

    #[test]
    fn marks_are_replaced_and_other_braces_left_alone() {
        let script = script(&["{invocation}", "select '{1,2}', {instance}{random}, '{instance'", "commit"]);
        let filled: Vec<_> = script.fill(VALUES).collect();
        assert_eq!(filled, ["31", "select '{1,2}', 7999999, '{instance'", "commit"]);
        assert!(matches!(filled[2], Cow::Borrowed(_)));
        assert_eq!(script.len(), 3);
    }

    #[test]
    fn what_is_read_slowly_is_the_first_statement_with_work() {
        assert_eq!(script(&["select 1"]).reading(), 0);
        assert_eq!(script(&["BEGIN;", "set local x = 1", "select 1", "commit"]).reading(), 2);
        assert_eq!(script(&["begin; select 1; commit"]).reading(), 0);
        assert_eq!(script(&["begin"]).reading(), 0);
    }
}
