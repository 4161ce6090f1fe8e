//! Why a client keeps its server connection between transactions, and what the configuration says about it.

/// State of a session that cannot follow its client from one server connection to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PinReason {
    /// It listens on a channel (LISTEN).
    Listen,
    /// It holds an advisory lock of the session (`pg_advisory_lock`).
    AdvisoryLock,
    /// It has a temporary table, view, sequence or function.
    TempTable,
    /// It has a cursor WITH HOLD.
    HoldCursor,
    /// It has loaded a shared library (LOAD).
    Load,
    /// It asks for the value that a sequence gave it (`currval`, `lastval`).
    SequenceValue,
    /// It has a statement prepared by SQL (PREPARE), or one that is too large to be kept.
    SqlPrepare,
    /// It has more settings than can be kept for it, so its pool treats it as in session mode.
    SessionMode,
}

impl PinReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Listen,
        Self::AdvisoryLock,
        Self::TempTable,
        Self::HoldCursor,
        Self::Load,
        Self::SequenceValue,
        Self::SqlPrepare,
        Self::SessionMode,
    ];

    /// The word of the configuration, of DETAILs and of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::AdvisoryLock => "advisory_lock",
            Self::TempTable => "temp_table",
            Self::HoldCursor => "hold_cursor",
            Self::Load => "load",
            Self::SequenceValue => "sequence_value",
            Self::SqlPrepare => "sql_prepare",
            Self::SessionMode => "session_mode",
        }
    }
}

/// A set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pins(u8);

impl Pins {
    /// No reason.
    pub const NONE: Self = Self(0);

    /// There is no reason.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This reason is among them.
    #[inline]
    pub fn contains(self, reason: PinReason) -> bool {
        self.0 & (1 << reason as u8) != 0
    }

    /// Adds a reason.
    pub fn insert(&mut self, reason: PinReason) {
        self.0 |= 1 << reason as u8;
    }

    /// Takes a reason away.
    pub fn remove(&mut self, reason: PinReason) {
        self.0 &= !(1 << reason as u8);
    }

    /// Those of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Each of them, in the order of declaration.
    pub fn iter(self) -> impl Iterator<Item = PinReason> {
        PinReason::ALL.into_iter().filter(move |reason| self.contains(*reason))
    }
}

impl FromIterator<PinReason> for Pins {
    fn from_iter<I: IntoIterator<Item = PinReason>>(reasons: I) -> Self {
        let mut pins = Self::NONE;
        reasons.into_iter().for_each(|reason| pins.insert(reason));
        pins
    }
}

/// What happens when a client does what would keep a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PinPolicy {
    /// It keeps its server connection for as long as the state lasts.
    #[default]
    Allow,
    /// The same, and it gets a WARNING (a notice) that says so.
    Warn,
    /// It gets an ERROR with 0A000 in place of an answer.
    Reject,
}

/// A policy for each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PinPolicies([PinPolicy; PinReason::ALL.len()]);

impl PinPolicies {
    /// The policy for one reason.
    pub fn of(&self, reason: PinReason) -> PinPolicy {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// Sets the policy for one reason.
    pub fn set(&mut self, reason: PinReason, policy: PinPolicy) {
        if let Some(slot) = self.0.get_mut(reason as usize) {
            *slot = policy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        let mut pins: Pins = [PinReason::Load, PinReason::Listen].into_iter().collect();
        assert_eq!(pins.iter().collect::<Vec<_>>(), [PinReason::Listen, PinReason::Load]);
        pins.remove(PinReason::Load);
        assert!(pins.contains(PinReason::Listen) && !pins.contains(PinReason::Load));
        pins.remove(PinReason::Listen);
        assert!(pins.is_empty());
    }

    #[test]
    fn policies_are_kept_by_reason() {
        let mut policies = PinPolicies::default();
        policies.set(PinReason::SessionMode, PinPolicy::Reject);
        assert_eq!(policies.of(PinReason::SessionMode), PinPolicy::Reject);
        assert_eq!(policies.of(PinReason::Listen), PinPolicy::Allow);
    }
}
