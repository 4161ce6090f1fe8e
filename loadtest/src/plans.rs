//! The plans that the binary brings along, so that they are found by name anywhere. Their files are in
//! `loadtest/plans/`, and a user's own plan begins as a copy of one.

/// Name and text of each, in the order in which they are shown: first what everybody wants, then the experiments.
#[must_use]
pub fn built_in() -> &'static [(&'static str, &'static str)] {
    BUILT_IN
}

/// The text of one of them.
#[must_use]
pub fn named(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(other, _)| *other == name).map(|(_, text)| *text)
}

macro_rules! plans {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("../plans/", $name, ".toml")))),*]
    };
}

const BUILT_IN: &[(&str, &str)] = plans![
    "lambda-1000",
    "deploy-2x",
    "retry-storm",
    "frozen",
    "noisy-neighbour",
    "soak",
    "e1",
    "e1b",
    "e2",
    "e3",
    "e4",
    "e5",
    "e6",
    "e7",
    "e8",
    "e9",
];
