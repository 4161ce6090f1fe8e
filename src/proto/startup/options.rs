//! Settings inside the startup parameter `options`, which PostgreSQL treats as a command line.
//!
//! Words are split as `pg_split_opts` of PostgreSQL does: at white space, and a backslash takes the next
//! character as it is (libpq manual, `options`). Three spellings of a setting are understood: `-c name=value`,
//! `-cname=value` and `--name=value`. PostgreSQL knows a dozen older switches (manual, "postgres"), of which sessions
//! may use a few (`-e`, `-S`, …): each has a setting that does the same. They are refused here, with PostgreSQL's error
//! for unknown switches, rather than ignored: a client must not run with settings it did not ask for.

use super::Violation;

/// The settings in the order given, names as PostgreSQL sees them (`-` is another way to write `_`).
pub(super) fn parse(options: &str) -> Result<Vec<(String, String)>, Violation> {
    let mut settings = Vec::new();
    let mut words = split(options).into_iter();
    while let Some(word) = words.next() {
        let (prefix, assignment) = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(rest), _) => ("--", rest.to_owned()),
            (None, Some("")) => ("-c ", words.next().ok_or_else(|| Violation::Switch(word.clone()))?),
            (None, Some(rest)) => ("-c ", rest.to_owned()),
            (None, None) => return Err(Violation::Switch(word)),
        };
        match assignment.split_once('=') {
            Some(("", _)) => return Err(Violation::Switch(word)),
            Some((name, value)) => settings.push((name.replace('-', "_"), value.to_owned())),
            None => return Err(Violation::SettingWithoutValue(format!("{prefix}{assignment}"))),
        }
    }
    Ok(settings)
}

/// Words between white space (C's `isspace`); a backslash at the very end is dropped.
fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &str) -> Result<Vec<(String, String)>, Violation> {
        parse(options)
    }

    fn one(name: &str, value: &str) -> Result<Vec<(String, String)>, Violation> {
        Ok(vec![(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn three_spellings_mean_the_same() {
        for options in
            ["-c work_mem=1MB", "-cwork_mem=1MB", "--work_mem=1MB", "--work-mem=1MB", "-c  work_mem=1MB "]
        {
            assert_eq!(settings(options), one("work_mem", "1MB"), "{options}");
        }
    }

    #[test]
    fn backslash_takes_the_next_character_as_it_is() {
        assert_eq!(settings(r"-c search_path=a,\ b"), one("search_path", "a, b"));
        assert_eq!(settings(r"-c x.y=a\\b"), one("x.y", r"a\b"));
        assert_eq!(settings(r"-c x.y=a\"), one("x.y", "a"));
    }

    #[test]
    fn only_the_first_equals_sign_divides() {
        assert_eq!(settings("-c x.y=a=b"), one("x.y", "a=b"));
        assert_eq!(settings("-c x.y="), one("x.y", ""));
    }

    #[test]
    fn order_is_kept_and_blank_is_nothing() {
        assert_eq!(settings(" \t\n"), Ok(vec![]));
        let both = settings("-c a=1\t--a=2").unwrap();
        assert_eq!(both, [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn what_is_not_a_setting_is_refused() {
        let switch = |word: &str| Err(Violation::Switch(word.to_owned()));
        assert_eq!(settings("-e"), switch("-e"));
        assert_eq!(settings("work_mem=1MB"), switch("work_mem=1MB"));
        assert_eq!(settings("-c"), switch("-c"));
        assert_eq!(settings("-c =1"), switch("-c"));
        let bare = |switch: &str| Err(Violation::SettingWithoutValue(switch.to_owned()));
        assert_eq!(settings("-c a"), bare("-c a"));
        assert_eq!(settings("--a"), bare("--a"));
        assert_eq!(settings("--"), bare("--"));
    }
}
