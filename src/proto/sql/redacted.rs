//! SQL as others may see it: without its constants and comments.

use super::lexer::{Token, Tokens};

/// In place of a constant.
const CONSTANT: &[u8] = b"?";
/// In place of a rest that cannot be told apart.
const REST: &[u8] = b"...";

/// The text with a `?` for each string and number, without comments, and with one space where there was some. It errs on the
/// safe side: behind a backslash that may or may not have kept a string open nothing is shown.
pub fn redacted(sql: &[u8]) -> String {
    let mut shown = vec![];
    let mut tokens = Tokens::new(sql);
    let mut is_parameter = false;
    loop {
        let before = tokens.rest().len();
        tokens.skip_blank();
        let is_apart = tokens.rest().len() < before && !shown.is_empty();
        // `E'…'` is read as PostgreSQL reads it; in other strings it depends on a setting whether backslashes count.
        let escapes = matches!(tokens.rest().first(), Some(b'E' | b'e'));
        let Some(token) = tokens.next() else { break };
        if is_apart {
            shown.push(b' ');
        }
        match token {
            Token::Text(text) => {
                shown.extend_from_slice(CONSTANT);
                if text.contains(&b'\\') && !escapes {
                    shown.extend_from_slice(REST);
                    break;
                }
            }
            Token::Word(word) if word.first().is_some_and(u8::is_ascii_digit) && !is_parameter => {
                shown.extend_from_slice(CONSTANT);
            }
            Token::Word(word) => shown.extend_from_slice(word),
            Token::Quoted(name) => shown.extend([b"\"", name, b"\""].concat()),
            Token::Symbol(symbol) => shown.push(symbol),
        }
        is_parameter = token == Token::Symbol(b'$');
    }
    String::from_utf8_lossy(&shown).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn constants_and_comments_are_gone() {
        for (sql, shown) in [
            ("select 1", "select ?"),
            ("select  a.b,\n 'it''s' from \"T x\"", "select a.b, ? from \"T x\""),
            ("insert into t values ($1, $2, -1.5e3, 0x1F)", "insert into t values ($1, $2, -?.?, ?)"),
            ("select $$secret$$, $a$secret$a$", "select ?, ?"),
            (r"select E'it\'s a secret' x", "select ? x"),
            (r"select 'it\'s a secret' x", "select ?..."),
            (r"select '\'' , 'secret'", "select ?..."),
            ("select /* secret */ a -- secret", "select a"),
            ("select a /*traceparent='00'*/", "select a"),
            ("select date '2026-01-01', B'01', N'secret'", "select date ?, B?, N?"),
            ("select 'secre", "select ?"),
            ("", ""),
        ] {
            assert_eq!(redacted(sql.as_bytes()).trim_end(), shown, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_string_is_shown(before in "[a-z(), \n]{0,20}", secret in "[^'$]{0,20}", after in "[a-z ']{0,20}") {
            let sql = format!("{before} 'SECRET{secret}' {after}");
            prop_assert!(!redacted(sql.as_bytes()).contains("SECRET"), "{}", sql);
        }

        #[test]
        fn every_text_ends(sql in any::<Vec<u8>>()) {
            redacted(&sql);
        }
    }
}
