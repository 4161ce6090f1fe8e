//! What the configuration asks of the machine: variables and files. A trait, so that tests need neither.

use std::env::VarError;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Longest file that is read, in bytes: a configuration, a certificate chain or a password has no business being
/// longer, and a mistyped path may be a device without an end.
const MAX_FILE: u64 = 4 << 20;

/// Variables and files that a configuration refers to.
pub trait Environment {
    /// The value of an environment variable.
    ///
    /// # Errors
    /// It is not set, or is not UTF-8.
    fn variable(&self, name: &str) -> Result<String, VarError>;

    /// The whole text of a file.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Result<String, VarError> {
        // `std::env::var` panics on a name like this one.
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(VarError::NotPresent);
        }
        std::env::var(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        let read = fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
        if read as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 4 MiB"));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, ProcessEnvironment};

    #[test]
    fn endless_file_is_refused() {
        assert!(ProcessEnvironment.read("/dev/zero".as_ref()).is_err());
    }

    #[test]
    fn impossible_variable_names_are_not_set() {
        for name in ["", "A=B", "A\0B"] {
            assert!(ProcessEnvironment.variable(name).is_err(), "{name:?}");
        }
    }
}
