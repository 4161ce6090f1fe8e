//! Run-time parameters of a session (manual, "Server Configuration"): what a client wants, what a server connection has,
//! and the statement that turns one into the other.

use std::fmt::Write as _;

/// Longest `application_name`: PostgreSQL cuts names at `NAMEDATALEN - 1`.
const NAME_MAX: usize = 63;

/// Parameters that PostgreSQL reports and nobody can set.
const READ_ONLY: [&str; 5] =
    ["in_hot_standby", "integer_datetimes", "is_superuser", "server_encoding", "server_version"];

/// As whom a session acts. Setting the first takes back the second; and what else may be set depends on both.
const IDENTITY: [&str; 2] = ["session_authorization", "role"];

/// Parameters that do not decide how the text of a statement is read. All others are taken to: a date in the text is
/// read, once and for all, when the statement is prepared.
const WITHOUT_READING: [&str; 20] = [
    "application_name",
    "client_min_messages",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "lock_timeout",
    "maintenance_work_mem",
    "random_page_cost",
    "role",
    "row_security",
    "session_authorization",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
    "work_mem",
];

/// Names and values, sorted by name without regard to case, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Parameters(Vec<(Box<str>, Box<str>)>);

impl Parameters {
    /// Collects pairs; of the same name the later one wins.
    pub fn collect<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut parameters = Self::default();
        for (name, value) in pairs {
            parameters.set(name, value);
        }
        parameters
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of one; its name in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).ok().map(|index| &*self.0[index].1)
    }

    /// Sets one; its name is kept as it was first written.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.find(name) {
            Ok(index) => self.0[index].1 = value.into(),
            Err(index) => self.0.insert(index, (name.into(), value.into())),
        }
    }

    /// Takes one away.
    pub fn remove(&mut self, name: &str) {
        if let Ok(index) = self.find(name) {
            self.0.remove(index);
        }
    }

    /// These parameters after PostgreSQL has reported one. One that has its value of `base` again is not kept.
    #[must_use]
    pub fn with(&self, name: &str, value: &str, base: &Self) -> Self {
        let mut parameters = self.clone();
        if base.get(name) == Some(value) {
            parameters.remove(name)
        } else {
            parameters.set(name, value)
        }
        parameters
    }

    /// Those that decide how the text of a statement is read, in one text; None if there is none.
    pub fn reading(&self) -> Option<String> {
        let reading: String = self.reading_parts().collect();
        (!reading.is_empty()).then_some(reading)
    }

    /// Whether [`Parameters::reading`] is this.
    pub fn reads_as(&self, reading: Option<&str>) -> bool {
        let mut rest = reading.unwrap_or_default();
        let parts = self.reading_parts();
        for part in parts {
            match rest.strip_prefix(part) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        rest.is_empty()
    }

    fn reading_parts(&self) -> impl Iterator<Item = &str> {
        // As whom it acts decides it, too, by "$user" in the search path. (Set for a transaction only, PostgreSQL itself sees
        // to that.)
        let decides = |name: &str| decides_reading(name.as_bytes()) || is_identity(name);
        let decide = self.iter().filter(move |(name, _)| !name.contains('.') && decides(name));
        decide.flat_map(|(name, value)| [name, "=", value, "\n"])
    }

    /// Bytes of names and values.
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The statement that turns a session that has `self` into one that has `wanted`; None if they are alike. It is one
    /// message, so it takes effect whole or not at all. Everything is set as the user that has logged in.
    pub fn change_to(&self, wanted: &Self) -> Option<String> {
        if self == wanted {
            return None;
        }
        let mut statements = vec![];
        // Infallible: a String takes everything. A custom parameter's name has a dot between its identifiers.
        let reset = |name: &str| format!("RESET {}", identifiers(name));
        statements
            .extend(IDENTITY.iter().rev().filter(|name| self.get(name).is_some()).map(|name| reset(name)));
        let gone = |name: &&str| wanted.get(name).is_none() && !is_identity(name);
        statements.extend(self.iter().map(|(name, _)| name).filter(gone).map(reset));
        let mut set = String::new();
        let changed =
            wanted.iter().filter(|(name, value)| !is_identity(name) && self.get(name) != Some(value));
        let identity = IDENTITY.iter().filter_map(|name| Some((*name, wanted.get(name)?)));
        for (name, value) in changed.chain(identity) {
            // set_config() and not SET: it takes a list ("search_path") as one text.
            set.push_str(if set.is_empty() { "SELECT " } else { ", " });
            set.push_str("pg_catalog.set_config(");
            quote(&mut set, name);
            set.push(',');
            quote(&mut set, value);
            set.push_str(",false)");
        }
        statements.extend((!set.is_empty()).then_some(set));
        Some(statements.join("; "))
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        fn key(name: &str) -> impl Iterator<Item = u8> {
            name.bytes().map(|byte| byte.to_ascii_lowercase())
        }
        self.0.binary_search_by(|(entry, _)| key(entry).cmp(key(name)))
    }
}

/// Name and value in the body of a ParameterStatus; None if it is not well formed.
pub fn parameter_status(body: &[u8]) -> Option<(&str, &str)> {
    let mut texts = body.split(|byte| *byte == 0).map(std::str::from_utf8);
    Some((texts.next()?.ok()?, texts.next()?.ok()?))
}

/// A parameter that a client can change, so that it has to follow it from server to server.
pub fn is_settable(name: &str) -> bool {
    !READ_ONLY.iter().any(|read_only| read_only.eq_ignore_ascii_case(name))
}

/// Whether a parameter, but for custom ones, decides how the text of a statement is read.
pub fn decides_reading(name: &[u8]) -> bool {
    !WITHOUT_READING.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

fn is_identity(name: &str) -> bool {
    IDENTITY.iter().any(|identity| identity.eq_ignore_ascii_case(name))
}

/// `application_name` as PostgreSQL keeps it: printable ASCII, at most 63 bytes.
pub fn application_name(name: &str) -> String {
    let clean = |byte: u8| if (32..127).contains(&byte) { char::from(byte) } else { '?' };
    name.bytes().take(NAME_MAX).map(clean).collect()
}

/// `UTF8`, `utf-8` and `'UTF_8'` are the same encoding (PostgreSQL's `clean_encoding_name()`).
pub fn same_value(name: &str, a: &str, b: &str) -> bool {
    if !name.eq_ignore_ascii_case("client_encoding") {
        return a == b;
    }
    let clean = |text: &str| {
        text.bytes()
            .filter(u8::is_ascii_alphanumeric)
            .map(|byte| byte.to_ascii_lowercase())
            .collect::<Vec<u8>>()
    };
    match (clean(a).as_slice(), clean(b).as_slice()) {
        (b"unicode", other) | (other, b"unicode") => matches!(other, b"utf8" | b"unicode"),
        (a, b) => a == b,
    }
}

/// Whether this `client_encoding` is UTF-8, as it is where none is said.
pub fn is_utf8(client_encoding: Option<&str>) -> bool {
    client_encoding.is_none_or(|encoding| same_value("client_encoding", encoding, "UTF8"))
}

/// An escape string, which reads the same whatever `standard_conforming_strings` says, and in whatever encoding: what is not
/// ASCII is written by its code.
pub(super) fn quote(sql: &mut String, text: &str) {
    sql.push_str("E'");
    for character in text.chars() {
        if !character.is_ascii() {
            // Infallible: a String takes everything.
            let _ = write!(sql, "\\U{:08X}", u32::from(character));
            continue;
        }
        if matches!(character, '\'' | '\\') {
            sql.push(character);
        }
        sql.push(character);
    }
    sql.push('\'');
}

fn identifiers(name: &str) -> String {
    let quoted = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\"")));
    quoted.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Parameters {
        Parameters::collect(pairs.iter().copied())
    }

    #[test]
    fn names_have_no_case_and_the_later_value_wins() {
        let parameters = set(&[("TimeZone", "UTC"), ("b", "1"), ("timezone", "CET")]);
        assert_eq!(parameters.iter().collect::<Vec<_>>(), [("b", "1"), ("TimeZone", "CET")]);
        assert_eq!(parameters.get("TIMEZONE"), Some("CET"));
        assert_eq!(parameters, set(&[("b", "1"), ("TimeZone", "CET")]));
    }

    #[test]
    fn changes_only_what_differs_in_one_message() {
        for (has, wants, sql) in [
            (&[][..], &[][..], None),
            (&[("a", "1")], &[("a", "1")], None),
            (&[], &[("a", "1")], Some("SELECT pg_catalog.set_config(E'a',E'1',false)")),
            (&[("a", "1"), ("b", "2")], &[("b", "2")], Some("RESET \"a\"")),
            (
                &[("a", "1"), ("my.x", "2")],
                &[("b", "it's \\"), ("a", "3")],
                Some(
                    "RESET \"my\".\"x\"; SELECT pg_catalog.set_config(E'a',E'3',false), \
                     pg_catalog.set_config(E'b',E'it''s \\\\',false)",
                ),
            ),
            (
                &[("role", "r"), ("session_authorization", "u")],
                &[("a", "1"), ("role", "r")],
                Some(
                    "RESET \"role\"; RESET \"session_authorization\"; \
                     SELECT pg_catalog.set_config(E'a',E'1',false), pg_catalog.set_config(E'role',E'r',false)",
                ),
            ),
        ] {
            assert_eq!(set(has).change_to(&set(wants)).as_deref(), sql);
        }
    }

    #[test]
    fn statements_are_ascii() {
        let sql = Parameters::default().change_to(&set(&[("my.x", "é'")]));
        assert_eq!(sql.as_deref(), Some("SELECT pg_catalog.set_config(E'my.x',E'\\U000000E9''',false)"));
    }

    #[test]
    fn what_decides_reading() {
        let german = set(&[("DateStyle", "German"), ("work_mem", "1MB"), ("my.x", "2")]);
        assert_eq!(german.reading().as_deref(), Some("DateStyle=German\n"));
        assert!(german.reads_as(Some("DateStyle=German\n")) && !german.reads_as(None));
        assert!(!german.reads_as(Some("DateStyle=German\nTimeZone=UTC\n")));
        assert_eq!(set(&[("role", "r")]).reading().as_deref(), Some("role=r\n"));
        let plain = set(&[("work_mem", "1MB")]);
        assert!(
            plain.reading().is_none() && plain.reads_as(None) && !plain.reads_as(Some("DateStyle=German\n"))
        );
    }

    #[test]
    fn application_names_are_cut_and_cleaned_as_by_the_server() {
        assert_eq!(application_name("job é\n"), "job ???");
        assert_eq!(application_name(&"x".repeat(100)).len(), 63);
    }

    #[test]
    fn encodings_have_many_spellings() {
        assert!(same_value("client_encoding", "UTF8", "'utf-8'"));
        assert!(same_value("client_encoding", "UTF8", "unicode"));
        assert!(!same_value("client_encoding", "UTF8", "LATIN1"));
        assert!(!same_value("TimeZone", "UTC", "utc"));
    }
}
