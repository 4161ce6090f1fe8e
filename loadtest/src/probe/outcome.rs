//! What came of one probe: how long its phases took, and what went wrong in which.

use std::fmt;
use std::time::Duration;

/// The parts of a probe, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Name, TCP and TLS.
    Connect,
    /// From the startup message until the server is ready for queries.
    Login,
    /// `begin; select 1; commit`.
    Transaction,
    /// The write to the probe's own table.
    Write,
    /// The good-bye.
    Disconnect,
}

impl Phase {
    /// As metrics and logs call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Login => "login",
            Self::Transaction => "transaction",
            Self::Write => "write",
            Self::Disconnect => "disconnect",
        }
    }
}

/// How long each phase took; `None`: it did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// [`Phase::Connect`]
    pub connect: Option<Duration>,
    /// [`Phase::Login`]
    pub login: Option<Duration>,
    /// [`Phase::Transaction`]
    pub transaction: Option<Duration>,
    /// [`Phase::Write`]
    pub write: Option<Duration>,
}

impl Phases {
    /// Those that came to their end.
    pub fn ended(&self) -> impl Iterator<Item = (Phase, Duration)> {
        [
            (Phase::Connect, self.connect),
            (Phase::Login, self.login),
            (Phase::Transaction, self.transaction),
            (Phase::Write, self.write),
        ]
        .into_iter()
        .filter_map(|(phase, took)| took.map(|took| (phase, took)))
    }

    /// The one under way: the first that has no end. `write`: there is such a phase.
    #[must_use]
    pub fn under_way(&self, write: bool) -> Phase {
        match self {
            Self { connect: None, .. } => Phase::Connect,
            Self { login: None, .. } => Phase::Login,
            Self { transaction: None, .. } => Phase::Transaction,
            Self { write: None, .. } if write => Phase::Write,
            _ => Phase::Disconnect,
        }
    }
}

/// One probe that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What its phases took.
    pub phases: Phases,
    /// From its start to its end, the disconnecting included.
    pub total: Duration,
    /// What went wrong; `None`: nothing.
    pub fault: Option<Fault>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Meanwhile.
    pub phase: Phase,
    /// What kind of thing.
    pub reason: Reason,
    /// What the server called it, if it called it something.
    pub sqlstate: Option<String>,
    /// In words: one line, and not a long one, whatever the server sent.
    pub message: String,
}

/// The longest message that is kept of a server, in characters.
const LONGEST_MESSAGE: usize = 300;

impl Fault {
    /// An error from the server.
    #[must_use]
    pub fn from_server(phase: Phase, sqlstate: &str, message: &str) -> Self {
        let sqlstate = one_line(sqlstate, 5);
        Self {
            phase,
            reason: Reason::of_sqlstate(&sqlstate),
            message: one_line(message, LONGEST_MESSAGE),
            sqlstate: Some(sqlstate),
        }
    }

    /// No answer, or none that can be understood.
    #[must_use]
    pub fn without_answer(phase: Phase, reason: Reason, message: &str) -> Self {
        Self { phase, reason, sqlstate: None, message: one_line(message, LONGEST_MESSAGE) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, reason, sqlstate, message } = self;
        let what = sqlstate.as_deref().unwrap_or(reason.label());
        write!(f, "{}: {what}: {message}", phase.name())
    }
}

/// Line breaks and other control characters, with which a server could forge lines of our log, become spaces.
fn one_line(text: &str, characters: usize) -> String {
    text.chars().take(characters).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Kinds of failure: the values of a metric's label, so there is a fixed number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The server's error; its SQLSTATE, which is one of a few.
    Sqlstate(&'static str),
    /// The server's error; the class of its SQLSTATE, the first two characters.
    Class(&'static str),
    /// The server's error, of a class that PostgreSQL does not have.
    Other,
    /// No connection, or it was lost.
    Connection,
    /// What came is not the protocol, or not the answer to what was asked.
    Protocol,
    /// Not over in time.
    Timeout,
}

/// SQLSTATEs that are labels of their own, because they tell a pooler or database in trouble from a mistake in the DSN:
/// those of the overload contract ([`crate::leg::CONTRACT`]), a wrong password, a refused role, a database that is not
/// there, a server that is being stopped, a cancelled statement, a missing right.
const TOLD_APART: [&str; 12] = [
    "53300", "53400", "57P03", "08001", "08006", "25P03", "28P01", "28000", "3D000", "57P01", "57014",
    "42501",
];

/// The classes of errors of PostgreSQL's manual, appendix A.
const CLASSES: [&str; 44] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23",
    "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44",
    "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX",
];

impl Reason {
    /// Those that a pooler or a database in trouble gives: their series exist from the start, because a rate over a
    /// series that begins with its first failure does not show that failure.
    pub fn expected() -> impl Iterator<Item = Self> {
        let classes = ["08", "28", "53", "57"].map(Self::Class);
        let others = [Self::Other, Self::Connection, Self::Protocol, Self::Timeout];
        TOLD_APART.map(Self::Sqlstate).into_iter().chain(classes).chain(others)
    }

    /// The SQLSTATE if it is one of those that are told apart, else its class.
    #[must_use]
    pub fn of_sqlstate(sqlstate: &str) -> Self {
        if let Some(told) = TOLD_APART.into_iter().find(|told| *told == sqlstate) {
            return Self::Sqlstate(told);
        }
        let class = sqlstate.get(..2).and_then(|start| CLASSES.into_iter().find(|class| *class == start));
        class.map_or(Self::Other, Self::Class)
    }

    /// As metrics and logs call it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Sqlstate(label) | Self::Class(label) => label,
            Self::Other => "other",
            Self::Connection => "connection",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_server_sends_the_labels_are_few() {
        for (sqlstate, label) in [
            ("28P01", "28P01"),
            ("28P02", "28"),
            ("53300", "53300"),
            ("53100", "53"),
            ("0A000", "0A"),
            ("ZZ123", "other"),
            ("", "other"),
            ("5", "other"),
        ] {
            assert_eq!(Reason::of_sqlstate(sqlstate).label(), label);
        }
        assert_eq!(Reason::of_sqlstate("é1234").label(), "other");
    }

    #[test]
    fn every_refusal_of_the_contract_is_told_by_its_code_and_has_a_series_from_the_start() {
        for sqlstate in crate::leg::CONTRACT {
            let reason = Reason::of_sqlstate(sqlstate);
            assert_eq!(reason.label(), sqlstate);
            assert!(Reason::expected().any(|expected| expected == reason), "{sqlstate}");
        }
    }

    #[test]
    fn a_server_cannot_forge_lines_or_fill_the_log() {
        let fault = Fault::from_server(
            Phase::Login,
            "28\n01 and more",
            &format!("a\r\nb\x1b[2J{}", "x".repeat(9999)),
        );
        assert_eq!(fault.sqlstate.as_deref(), Some("28 01"));
        assert!(fault.message.starts_with("a  b [2Jxxx"), "{}", fault.message);
        assert_eq!(fault.message.chars().count(), LONGEST_MESSAGE);
    }

    #[test]
    fn a_fault_names_the_sqlstate_or_else_the_reason() {
        let wrong = Fault::from_server(Phase::Login, "28P01", "no such password");
        assert_eq!(wrong.to_string(), "login: 28P01: no such password");
        let late = Fault::without_answer(Phase::Connect, Reason::Timeout, "not over after 5s");
        assert_eq!(late.to_string(), "connect: timeout: not over after 5s");
    }

    #[test]
    fn the_phase_under_way_is_the_first_without_an_end() {
        let took = Some(Duration::from_millis(1));
        let mut phases = Phases::default();
        assert_eq!(phases.under_way(true), Phase::Connect);
        phases.connect = took;
        assert_eq!(phases.under_way(true), Phase::Login);
        phases.login = took;
        assert_eq!(phases.under_way(true), Phase::Transaction);
        phases.transaction = took;
        assert_eq!(phases.under_way(true), Phase::Write);
        assert_eq!(phases.under_way(false), Phase::Disconnect, "nothing is written");
        assert_eq!(phases.ended().count(), 3);
        phases.write = took;
        assert_eq!(phases.under_way(true), Phase::Disconnect);
    }
}
