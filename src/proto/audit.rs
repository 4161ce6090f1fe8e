//! Asking PostgreSQL what a transaction has left behind in its session.
//!
//! What was set, locked or created is not worked out from SQL: when a transaction is over that may have changed the
//! session, PostgreSQL itself is asked. So rollbacks, savepoints, functions and spellings need no understanding.

use std::fmt::Write as _;

use super::parameters::{Parameters, quote};
use super::pin::{PinReason, Pins};

/// What may have changed in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspects(u8);

impl Suspects {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Settings, role and user.
    pub const SETTINGS: Self = Self(1);
    /// The channels that it listens on.
    pub const LISTENING: Self = Self(2);
    /// Advisory locks of the session.
    pub const LOCKS: Self = Self(4);
    /// Temporary tables and the like.
    pub const TEMP: Self = Self(8);
    /// Cursors WITH HOLD.
    pub const CURSORS: Self = Self(16);
    /// Statements prepared by SQL.
    pub const PREPARED: Self = Self(32);
    /// All of these.
    pub const ALL: Self = Self(63);

    /// There is nothing to ask.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of `other` are among these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds some.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// The reasons for a pin that asking about these can find, or find gone.
    pub fn reasons(self) -> Pins {
        let reasons = FINDINGS.iter().filter(|finding| self.contains(finding.suspects));
        reasons.map(|finding| finding.reason).collect()
    }

    /// What may have become of the reasons for which a session is pinned once this command is done.
    pub fn of_pins(pins: Pins) -> Self {
        let mut suspects = Self::NONE;
        for finding in FINDINGS.iter().filter(|finding| pins.contains(finding.reason)) {
            suspects.insert(finding.suspects);
        }
        suspects
    }
}

struct Finding {
    suspects: Suspects,
    reason: PinReason,
    /// Holds while the reason does.
    condition: &'static str,
}

const FINDINGS: [Finding; 5] = [
    Finding {
        suspects: Suspects::LISTENING,
        reason: PinReason::Listen,
        condition: "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())",
    },
    Finding {
        suspects: Suspects::LOCKS,
        reason: PinReason::AdvisoryLock,
        condition: "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' \
                    AND pid = pg_catalog.pg_backend_pid())",
    },
    Finding {
        suspects: Suspects::TEMP,
        reason: PinReason::TempTable,
        condition: "pg_catalog.pg_my_temp_schema() <> 0 AND (\
                    EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema()) \
                    OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = pg_catalog.pg_my_temp_schema()) \
                    OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE typnamespace = pg_catalog.pg_my_temp_schema()))",
    },
    Finding {
        suspects: Suspects::CURSORS,
        reason: PinReason::HoldCursor,
        condition: "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)",
    },
    Finding {
        suspects: Suspects::PREPARED,
        reason: PinReason::SqlPrepare,
        condition: "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)",
    },
];

/// Every setting of the session. Those of a transaction are no concern of the next one; role and user are asked for below.
const SETTINGS: &str = "SELECT 's', name, setting FROM pg_catalog.pg_settings WHERE source = 'session' \
    AND name NOT LIKE 'transaction\\_%' AND name <> 'is_superuser' AND name <> 'session_authorization' \
    UNION ALL SELECT 's', 'role', pg_catalog.current_setting('role') \
    WHERE pg_catalog.current_setting('role') <> 'none' \
    UNION ALL SELECT 's', 'session_authorization', session_user::pg_catalog.text";

/// The question about `suspects`; `names` are custom settings, which PostgreSQL does not list.
pub fn question<'a>(suspects: Suspects, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut sql = String::new();
    let mut part = |text: &str| {
        if !sql.is_empty() {
            sql.push_str(" UNION ALL ");
        }
        sql.push_str(text);
    };
    if suspects.contains(Suspects::SETTINGS) {
        part(SETTINGS);
        for name in names {
            let mut name_text = String::new();
            quote(&mut name_text, name);
            part(&format!("SELECT 's', {name_text}, pg_catalog.current_setting({name_text}, true)"));
        }
    }
    for Finding { suspects: of, reason, condition } in &FINDINGS {
        if suspects.contains(*of) {
            let mut text = String::new();
            // Infallible: a String takes everything.
            let _ = write!(text, "SELECT 'p', '{}', NULL WHERE {condition}", reason.as_str());
            part(&text);
        }
    }
    sql
}

/// What PostgreSQL has answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// The settings of the session.
    pub settings: Parameters,
    /// What it is to be pinned for.
    pub pins: Pins,
}

impl Answer {
    /// One row of the answer; false if it is none.
    pub fn row(&mut self, columns: &[Option<String>]) -> bool {
        match columns {
            [Some(kind), Some(name), value] if kind == "s" => {
                // An unset custom setting is NULL, or empty once it was set in a transaction that was undone; neither can
                // be told from unset by who reads it with current_setting(…, true) and an empty default.
                if let Some(value) = value {
                    self.settings.set(name, value);
                }
                true
            }
            [Some(kind), Some(name), None] if kind == "p" => {
                let reason = PinReason::ALL.into_iter().find(|reason| reason.as_str() == name);
                if let Some(reason) = reason {
                    self.pins.insert(reason);
                }
                reason.is_some()
            }
            _ => false,
        }
    }
}

/// What a command may have changed, by the tag of its CommandComplete. `pins` are what the session is pinned for.
#[inline]
pub fn suspects_of_tag(tag: &[u8], pins: Pins) -> Suspects {
    // Most commands change nothing, and their first letter says so.
    match tag.first() {
        Some(b'S' | b'R' | b'D' | b'L' | b'U' | b'P' | b'C') => of_rare_tag(tag, pins),
        _ => Suspects::NONE,
    }
}

fn of_rare_tag(tag: &[u8], pins: Pins) -> Suspects {
    let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
    match tag {
        b"SET" | b"RESET" => Suspects::SETTINGS,
        b"LISTEN" | b"UNLISTEN" => Suspects::LISTENING,
        b"PREPARE" => Suspects::PREPARED,
        b"DISCARD TEMP" => Suspects::TEMP,
        _ if pins.is_empty() => Suspects::NONE,
        b"DEALLOCATE" | b"DEALLOCATE ALL" => Suspects::PREPARED,
        b"CLOSE CURSOR" | b"CLOSE CURSOR ALL" => Suspects::CURSORS,
        // What was locked, created or listened for in a transaction may be gone with it.
        b"ROLLBACK" | b"COMMIT" => Suspects::of_pins(pins),
        _ if tag.starts_with(b"DROP ") => Suspects::TEMP,
        _ => Suspects::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_only_about_what_is_suspected() {
        let sql = question(Suspects::LISTENING, ["my.x"]);
        assert_eq!(
            sql,
            "SELECT 'p', 'listen', NULL WHERE EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"
        );
        let sql = question(Suspects::SETTINGS, ["my.x"]);
        assert!(sql.contains("current_setting(E'my.x', true)") && !sql.contains("pg_locks"), "{sql}");
        assert!(question(Suspects::NONE, []).is_empty());
    }

    #[test]
    fn reads_the_answer() {
        let mut answer = Answer::default();
        let text = |text: &str| Some(text.to_owned());
        assert!(answer.row(&[text("s"), text("TimeZone"), text("UTC")]));
        assert!(answer.row(&[text("s"), text("my.unset"), None]));
        assert!(answer.row(&[text("p"), text("listen"), None]));
        assert!(!answer.row(&[text("p"), text("nonsense"), None]));
        assert_eq!(answer.settings, Parameters::collect([("TimeZone", "UTC")]));
        assert!(answer.pins.contains(PinReason::Listen));
    }

    #[test]
    fn tags() {
        let none = Pins::NONE;
        assert_eq!(suspects_of_tag(b"SELECT 1\0", none), Suspects::NONE);
        assert_eq!(suspects_of_tag(b"SET\0", none), Suspects::SETTINGS);
        assert_eq!(suspects_of_tag(b"DROP TABLE\0", none), Suspects::NONE);
        let pinned: Pins = [PinReason::TempTable].into_iter().collect();
        assert_eq!(suspects_of_tag(b"DROP TABLE\0", pinned), Suspects::TEMP);
        assert_eq!(suspects_of_tag(b"ROLLBACK\0", pinned), Suspects::TEMP);
    }
}
