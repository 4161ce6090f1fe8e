//! As whom a client gets server connections: the function that it belongs to, and how long it wants to wait.

use std::sync::Arc;
use std::time::Duration;

use crate::guard::{Caller, Home, KeyId};
use crate::pool::Pool;
use crate::proto::parameters::Parameters;

/// The client's own deadline for a transaction, from its beginning, in milliseconds: a startup option
/// (`-c pgcorral.deadline_ms=2500`) or a `SET`, since PostgreSQL lets anybody set a name with a dot.
pub const DEADLINE: &str = "pgcorral.deadline_ms";

/// As whom a client gets server connections.
pub(super) struct Function {
    key: KeyId,
    /// Zero: it has not said.
    patience_ms: u32,
    /// The parameters that this was read from.
    read: Arc<Parameters>,
}

impl Function {
    /// What the parameters of a client of this pool say. To be left when the client goes.
    pub(super) fn of(pool: &Pool, parameters: &Arc<Parameters>) -> Self {
        let key = pool.enter_function(name(pool, parameters));
        Self { key, patience_ms: patience_ms(parameters), read: Arc::clone(parameters) }
    }

    /// Looks whether the client's parameters have changed, and what that means.
    #[inline]
    pub(super) fn follow(&mut self, pool: &Pool, parameters: &Arc<Parameters>) {
        if !Arc::ptr_eq(&self.read, parameters) {
            self.read_again(pool, parameters);
        }
    }

    #[cold]
    fn read_again(&mut self, pool: &Pool, parameters: &Arc<Parameters>) {
        let before = self.key;
        *self = Self::of(pool, parameters);
        pool.leave_function(before);
    }

    /// The client has gone.
    pub(super) fn leave(&self, pool: &Pool) {
        pool.leave_function(self.key);
    }

    /// Who asks.
    #[inline]
    pub(super) fn caller(&self, home: Home, process_id: i32) -> Caller {
        let patience = (self.patience_ms > 0).then(|| Duration::from_millis(u64::from(self.patience_ms)));
        // A number that says nothing about the order in which clients came.
        let lot = (process_id as u32).wrapping_mul(0x9E37_79B9).rotate_left(15).wrapping_mul(0x85EB_CA6B);
        Caller { home, key: self.key, lot, patience }
    }
}

fn name<'a>(pool: &'a Pool, parameters: &'a Parameters) -> &'a str {
    let named = parameters.get("application_name").filter(|name| !name.is_empty());
    named.unwrap_or(&pool.params.user)
}

/// The deadline that the client has set, or else the time after which PostgreSQL is to give up: with less than both it is
/// served in vain.
fn patience_ms(parameters: &Parameters) -> u32 {
    let own = parameters.get(DEADLINE).and_then(|value| value.trim().parse().ok()).filter(|ms| *ms > 0);
    let timeout = || parameters.get("statement_timeout").and_then(milliseconds);
    own.or_else(timeout).unwrap_or(0)
}

/// PostgreSQL's notation of a time whose unit is the millisecond (manual, "Setting Parameters"). None: none, or not understood.
fn milliseconds(value: &str) -> Option<u32> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let factor = match unit.trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let time = number.parse::<f64>().ok()? * factor;
    (time >= 1.0 && time <= f64::from(u32::MAX)).then_some(time as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_clients_own_or_its_statement_timeout() {
        let of = |pairs: &[(&str, &str)]| patience_ms(&Parameters::collect(pairs.iter().copied()));
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[("pgcorral.deadline_ms", "2500")]), 2500);
        assert_eq!(of(&[("statement_timeout", "3s"), ("pgcorral.deadline_ms", "2500")]), 2500);
        assert_eq!(of(&[("statement_timeout", "3s"), ("pgcorral.deadline_ms", "")]), 3000);
        for (value, ms) in
            [("0", 0), ("1500", 1500), ("1.5s", 1500), ("2min", 120_000), ("soon", 0), ("9us", 0)]
        {
            assert_eq!(of(&[("statement_timeout", value)]), ms, "{value}");
        }
        for odd in ["-1", "1e9", "99999999999", "\u{0}", "1 2"] {
            assert_eq!(of(&[("pgcorral.deadline_ms", odd)]), 0, "{odd}");
        }
    }
}
