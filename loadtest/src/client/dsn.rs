//! The words of a DSN that `tokio_postgres::Config` does not know: `sslmode=verify-ca`, `sslmode=verify-full` and
//! `sslrootcert`. They are taken out, so that it reads the rest.

use std::fmt::Write as _;

/// A DSN in two parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// Without the words below.
    pub rest: String,
    /// How certificates are to be checked.
    pub check: Option<Check>,
    /// The file of `sslrootcert`.
    pub root_file: Option<String>,
}

/// `sslmode` where it asks for more than encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// `verify-ca`: somebody whom we trust has signed the certificate.
    Chain,
    /// `verify-full`: and it is for the host that we meant.
    ChainAndHost,
}

impl Split {
    /// A DSN that cannot be taken apart comes back whole: whoever reads `rest` will say what is wrong with it.
    pub fn new(dsn: &str) -> Self {
        let mut split = Self { rest: String::new(), check: None, root_file: None };
        if dsn.starts_with("postgres://") || dsn.starts_with("postgresql://") {
            split.take_from_url(dsn);
        } else if let Some(words) = words(dsn) {
            split.take_from_words(&words);
        } else {
            dsn.clone_into(&mut split.rest);
        }
        split
    }

    /// The query part begins with the first `?` behind the user's name and password.
    fn take_from_url(&mut self, url: &str) {
        let begin = url.find('@').unwrap_or(0);
        let Some(query) = url.get(begin..).and_then(|rest| rest.find('?')).map(|at| begin + at) else {
            url.clone_into(&mut self.rest);
            return;
        };
        let (before, query) = url.split_at(query);
        before.clone_into(&mut self.rest);
        let mut separator = '?';
        for word in query.trim_start_matches('?').split('&') {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if !self.takes(name, &percent_decoded(value)) {
                self.rest.push(separator);
                self.rest.push_str(word);
                separator = '&';
            }
        }
        if self.check.is_some() {
            let _ = write!(self.rest, "{separator}sslmode=require");
        }
    }

    fn take_from_words(&mut self, words: &[(String, String)]) {
        for (name, value) in words {
            if !self.takes(name, value) {
                self.keep(name, value);
            }
        }
        if self.check.is_some() {
            self.keep("sslmode", "require");
        }
    }

    fn keep(&mut self, name: &str, value: &str) {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        let _ = write!(self.rest, "{name}='{value}' ");
    }

    fn takes(&mut self, name: &str, value: &str) -> bool {
        match (name, value) {
            ("sslmode", "verify-ca") => self.check = Some(Check::Chain),
            ("sslmode", "verify-full") => self.check = Some(Check::ChainAndHost),
            ("sslrootcert", file) => self.root_file = Some(file.to_owned()),
            _ => return false,
        }
        true
    }
}

/// `name = value`, `name='it\'s'` (libpq's manual, "Keyword/Value Connection Strings"); `None` if it is not that.
fn words(dsn: &str) -> Option<Vec<(String, String)>> {
    let mut words = Vec::new();
    let mut rest = dsn.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        words.push((name.trim_end().to_owned(), value));
        rest = after.trim_start();
    }
    Some(words)
}

/// The value that `text` begins with, unquoted, and what is behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('\'');
    let quoted = inner.is_some();
    let text = inner.unwrap_or(text);
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, text.get(at + 1..)?)),
            _ if !quoted && character.is_whitespace() => return Some((value, text.get(at..)?)),
            _ => value.push(character),
        }
    }
    if quoted { None } else { Some((value, "")) }
}

/// What is not an escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| byte == b'%');
        let escaped =
            escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        rest = after.get(if escaped.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_words_are_taken_out_of_urls() {
        let split = Split::new(
            "postgres://u:p?q@h/d?sslmode=verify-full&application_name=x&sslrootcert=%2Fa%20b.crt",
        );
        assert_eq!(split.rest, "postgres://u:p?q@h/d?application_name=x&sslmode=require");
        assert_eq!(split.check, Some(Check::ChainAndHost));
        assert_eq!(split.root_file.as_deref(), Some("/a b.crt"));
        let split = Split::new("postgresql://h/d?sslmode=verify-ca");
        assert_eq!(
            (split.rest.as_str(), split.check),
            ("postgresql://h/d?sslmode=require", Some(Check::Chain))
        );
    }

    #[test]
    fn our_words_are_taken_out_of_words() {
        let split = Split::new(
            r"host=h password = 'it\'s \\ me' sslmode=verify-full sslrootcert='/a b.crt' user=x\ y",
        );
        assert_eq!(split.rest, r"host='h' password='it\'s \\ me' user='x y' sslmode='require' ");
        assert_eq!(split.check, Some(Check::ChainAndHost));
        assert_eq!(split.root_file.as_deref(), Some("/a b.crt"));
    }

    #[test]
    fn other_dsns_stay_as_they_are() {
        for dsn in ["postgres://u@h/d", "postgres://h?sslmode=prefer", "host='h", "host", ""] {
            assert_eq!(
                Split::new(dsn),
                Split { rest: dsn.to_owned(), check: None, root_file: None },
                "{dsn}"
            );
        }
        assert_eq!(percent_decoded("%41%4x%"), "A%4x%");
    }
}
