//! One line of a report.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::app) enum Severity {
    /// As it should be.
    Ok,
    /// It works, but may cease to.
    Warning,
    /// Clients are or will be refused.
    Error,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A fact about an upstream and what to think of it. Prints as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::app) struct Finding {
    /// How bad it is.
    pub(in crate::app) severity: Severity,
    /// What is so, and what to do about it.
    pub(in crate::app) text: String,
}

impl Finding {
    pub(super) fn ok(text: String) -> Self {
        Self::new(Severity::Ok, &text)
    }

    pub(super) fn warning(text: String) -> Self {
        Self::new(Severity::Warning, &text)
    }

    pub(super) fn error(text: String) -> Self {
        Self::new(Severity::Error, &text)
    }

    fn new(severity: Severity, text: &str) -> Self {
        // Part of it may come from a server: it stays on its line and gives the terminal no orders.
        Self { severity, text: text.replace(char::is_control, " ") }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {}", self.severity.as_str(), self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Finding;

    #[test]
    fn prints_one_line() {
        assert_eq!(Finding::ok("fine".to_owned()).to_string(), "ok       fine");
        assert_eq!(Finding::error("a\nb\x1b[2J".to_owned()).to_string(), "error    a b [2J");
    }
}
