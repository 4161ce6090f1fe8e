//! `config/pgcorral.toml` says what the code does, and `config/minimal.toml` works.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::file::known_keys;
use super::tests::{Fake, load};

const REFERENCE: &str = include_str!("../../config/pgcorral.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");

/// The one key without which the file does not work.
const NEEDED: &str = "upstream = ";

/// Whether a line is a key or the header of a section.
fn is_toml(line: &str) -> bool {
    let key = line.split_once(" = ").map(|(key, _)| key);
    key.is_some_and(|key| key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        || line.starts_with('[')
}

/// The reference with all its keys in force.
fn uncommented() -> String {
    let bare = |line: &'static str| line.strip_prefix("# ").filter(|line| is_toml(line)).unwrap_or(line);
    REFERENCE.lines().map(bare).collect::<Vec<_>>().join("\n")
}

fn environment() -> Fake {
    Fake::default()
        .variable("APP_PASSWORD", "a")
        .variable("ALICE_PASSWORD", "b")
        .variable("OTLP_TOKEN", "e")
        .variable("PGCORRAL_ADMIN_TOKEN", "e")
        .file("admin.token", "f")
        .file("app.password", "c")
        .file("alice.password", "d")
        .file("otlp.token", "f")
}

fn keys_of(table: &DeTable<'_>, pattern: &str, keys: &mut BTreeSet<String>) {
    for (name, value) in table {
        let names = matches!(
            pattern,
            "databases."
                | "databases.*.users."
                | "rate_limits."
                | "upstreams."
                | "users."
                | "shares."
                | "traces.headers."
        );
        let name = if names { "*" } else { name.get_ref().as_ref() };
        if !names {
            keys.insert(format!("{pattern}{name}"));
        }
        if let DeValue::Table(table) = value.get_ref() {
            keys_of(table, &format!("{pattern}{name}."), keys);
        }
    }
}

#[test]
fn minimal_file_works() {
    let lines = MINIMAL.lines().filter(|line| !line.starts_with('#')).count();
    let config = load(MINIMAL, &Fake::default()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((lines, config.clients.users.len(), config.upstreams.len()), (5, 1, 1));
}

#[test]
fn reference_has_every_key_and_no_other() {
    let text = uncommented();
    let tree = DeTable::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut written = BTreeSet::new();
    keys_of(tree.get_ref(), "", &mut written);
    let known = known_keys(&text, &environment());
    assert_eq!(written, known, "left: the reference; right: the code");
}

#[test]
fn reference_has_the_defaults_of_the_code() {
    let whole =
        format!("{:?}", load(REFERENCE, &Fake::default()).unwrap_or_else(|errors| panic!("{errors}")));
    let mut compared = 0;
    for (number, line) in REFERENCE.lines().enumerate() {
        if !is_toml(line) || line.starts_with('[') || line.starts_with(NEEDED) {
            continue;
        }
        let others = REFERENCE.lines().enumerate().filter(|(n, _)| *n != number);
        let without: String = others.map(|(_, line)| format!("{line}\n")).collect();
        let config =
            load(&without, &Fake::default()).unwrap_or_else(|errors| panic!("without {line}: {errors}"));
        assert_eq!(format!("{config:?}"), whole, "line {}: {line}", number + 1);
        compared += 1;
    }
    assert!(compared >= 42, "only {compared} keys were compared");
}

/// The keys that have a `#` are good ones, too: all that is wrong with them is that they exclude each other.
#[test]
fn reference_with_all_keys_in_force_has_only_secrets_twice() {
    let errors = load(&uncommented(), &environment()).expect_err("three places for one secret");
    let keys: Vec<String> = errors
        .iter()
        .map(|error| error.to_string())
        .filter(|error| !error.contains("the secret is given twice"))
        .collect();
    assert_eq!(keys, Vec::<String>::new());
}
