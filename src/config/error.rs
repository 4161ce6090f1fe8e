//! What is wrong with a configuration, and where.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// Everything that is wrong with a configuration, in the order of the file; never empty. `Display` prints one fault a
/// line. No secret is ever part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn one(at: Origin, message: &str) -> Self {
        Self(vec![ConfigError { at, message: message.to_owned() }])
    }

    /// The faults, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            let end_of_last = if n > 0 { "\n" } else { "" };
            write!(f, "{end_of_last}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One fault. Prints as `file:line:column: key: message`, or `--flag: message`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    at: Origin,
    message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The file as a whole.
    File(Arc<str>),
    /// A place in the file, counted from one; columns are characters.
    Place { file: Arc<str>, line: usize, column: usize, key: String },
    /// A flag of the command line.
    Flag(&'static str),
}

impl Origin {
    /// The key or flag alone, to name it in the error of another one.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::File(file) => file,
            Self::Place { key, .. } => key,
            Self::Flag(flag) => flag,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::Place { file, line, column, key } if key.is_empty() => write!(f, "{file}:{line}:{column}"),
            Self::Place { file, line, column, key } => write!(f, "{file}:{line}:{column}: {key}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Collects faults while reading goes on. Shared, because every reader of a value may find one.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<ConfigError>>);

impl Faults {
    pub(super) fn add(&self, at: &Origin, message: impl Into<String>) {
        self.0.borrow_mut().push(ConfigError { at: at.clone(), message: message.into() });
    }

    /// The faults in the order of the file, each once: a database's fault may have been found for each of its users.
    pub(super) fn into_errors(self) -> Option<ConfigErrors> {
        let mut errors = self.0.into_inner();
        errors.sort();
        errors.dedup();
        (!errors.is_empty()).then_some(ConfigErrors(errors))
    }

    /// Takes over those faults of another collection whose line is sound.
    pub(super) fn absorb(&self, other: Self, is_sound: impl Fn(usize) -> bool) {
        let sound = |error: &ConfigError| !matches!(error.at, Origin::Place { line, .. } if !is_sound(line));
        self.0.borrow_mut().extend(other.0.into_inner().into_iter().filter(sound));
    }
}
