//! Cuts SQL into tokens (manual, "Lexical Structure"): enough to find statements and their words.

/// A piece of SQL. Comments and white space are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or an identifier without quotes, as written.
    Word(&'a [u8]),
    /// An identifier in double quotes, without them.
    Quoted(&'a [u8]),
    /// A string constant, without its quotes; escapes are as written.
    Text(&'a [u8]),
    /// Any other byte.
    Symbol(u8),
}

impl Token<'_> {
    /// It is this keyword, in any case.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }
}

/// The tokens of a text.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    pub(super) fn new(sql: &'a [u8]) -> Self {
        Self { rest: sql }
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// Comments and white space.
    pub(super) fn skip_blank(&mut self) {
        loop {
            let blank = self.rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.take(blank);
            match self.rest {
                [b'-', b'-', ..] => {
                    let line = self.rest.iter().position(|byte| *byte == b'\n');
                    self.take(line.unwrap_or(self.rest.len()));
                }
                [b'/', b'*', ..] => {
                    self.take(block_comment(self.rest));
                }
                _ => return,
            }
        }
    }

    /// Up to and with the quote that ends it; a doubled one does not, nor one behind a backslash if they count.
    fn quoted(&mut self, quote: u8, backslashes: bool) -> &'a [u8] {
        let mut at = 0;
        while let Some(byte) = self.rest.get(at) {
            if backslashes && *byte == b'\\' {
                at += 2;
            } else if *byte == quote {
                if self.rest.get(at + 1) != Some(&quote) {
                    break;
                }
                at += 2;
            } else {
                at += 1;
            }
        }
        let text = self.take(at);
        self.take(1);
        text
    }

    /// `$tag$ … $tag$`; None if it is a parameter like `$1` or a lone dollar.
    fn dollar_quoted(&mut self) -> Option<&'a [u8]> {
        let tag = self.rest.get(1..)?.iter().take_while(|byte| is_word(**byte) && **byte != b'$').count();
        if self.rest.get(tag + 1) != Some(&b'$') || self.rest.get(1).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let delimiter = self.take(tag + 2);
        let end = self.rest.windows(delimiter.len()).position(|window| window == delimiter);
        let text = self.take(end.unwrap_or(self.rest.len()));
        self.take(delimiter.len());
        Some(text)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let first = *self.rest.first()?;
        Some(match first {
            b'"' => {
                self.take(1);
                Token::Quoted(self.quoted(b'"', false))
            }
            b'\'' => {
                self.take(1);
                Token::Text(self.quoted(b'\'', false))
            }
            b'$' => match self.dollar_quoted() {
                Some(text) => Token::Text(text),
                None => {
                    self.take(1);
                    Token::Symbol(first)
                }
            },
            _ if is_word(first) => {
                let word = self.take(self.rest.iter().take_while(|byte| is_word(**byte)).count());
                // E'…' has backslashes; the other prefixes (B, N, X, U&) read like words in front of a string.
                if self.rest.first() == Some(&b'\'') && word.eq_ignore_ascii_case(b"e") {
                    self.take(1);
                    return Some(Token::Text(self.quoted(b'\'', true)));
                }
                Token::Word(word)
            }
            _ => {
                self.take(1);
                Token::Symbol(first)
            }
        })
    }
}

/// Bytes over 127 are letters to PostgreSQL.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// Length of the comment that a text begins with; they nest.
pub(in crate::proto) fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text.get(at..at + 2) {
            Some(b"/*") => {
                depth += 1;
                at += 2;
            }
            Some(b"*/") => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// The statement begins a transaction, and does nothing else.
#[inline]
pub fn is_transaction_begin(sql: &[u8]) -> bool {
    let may_be = sql.first().is_some_and(|first| !first.is_ascii_alphabetic() || b"bBsS".contains(first));
    may_be && Tokens::new(sql).next().is_some_and(|first| first.is("begin") || first.is("start"))
}

/// The statement ends a transaction, or is none at all: in a failed one it is let through.
pub fn is_transaction_end(sql: &[u8]) -> bool {
    let ends = ["commit", "rollback", "abort", "end"];
    Tokens::new(sql).next().is_none_or(|first| ends.iter().any(|word| first.is(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(sql: &str) -> Vec<Token<'_>> {
        Tokens::new(sql.as_bytes()).collect()
    }

    #[test]
    fn comments_quotes_and_dollars() {
        use Token::{Quoted, Symbol, Text, Word};
        assert_eq!(tokens("a /* b /* c */ d */ -- e\n f"), [Word(b"a"), Word(b"f")]);
        assert_eq!(tokens("'it''s' \"a\"\"b\""), [Text(b"it''s"), Quoted(b"a\"\"b")]);
        assert_eq!(tokens(r"'\' E'\'' x"), [Text(br"\"), Text(br"\'"), Word(b"x")]);
        assert_eq!(tokens("$$a;b$$;$x$ $$ $x$"), [Text(b"a;b"), Symbol(b';'), Text(b" $$ ")]);
        assert_eq!(tokens("$1"), [Symbol(b'$'), Word(b"1")]);
        assert_eq!(tokens("'open"), [Text(b"open")]);
    }

    proptest! {
        #[test]
        fn every_text_ends(sql in prop::collection::vec(prop::sample::select(b"a'\"$/*-; \\E\n".to_vec()), 0..40)) {
            prop_assert!(Tokens::new(&sql).count() <= sql.len());
        }
    }
}
