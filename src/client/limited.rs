//! Rate limits on logins and transactions: where [`crate::limits`] is asked, and what becomes of its verdict.

use std::net::IpAddr;
use std::time::Instant;

use super::door::Door;
use super::failed::Failed;
use super::function;
use super::refusal;
use super::session::Session;
use crate::limits::{Over, Stage, Who};
use crate::obs::{LabelValue, Refusal, Shed};
use crate::proto::messages::Report;
use crate::proto::startup::StartupPacket;

/// As what a client's transactions are counted; only where there is a rule for them.
pub(super) struct Counted {
    address: Option<IpAddr>,
    keys: Box<[u64]>,
}

/// A login, before or after the client has proved who it is.
///
/// # Errors
/// A rule refuses it.
pub(super) fn check_login(
    door: &Door,
    stage: Stage,
    startup: &StartupPacket,
    address: Option<IpAddr>,
) -> Result<(), Failed> {
    if !door.limits.has(stage) {
        return Ok(());
    }
    let (user, database) = (&startup.user, &startup.database);
    let function = function::at_login(door, startup, address);
    let keys = door.limits.keys(stage, &Who { user, database, function: &function, address });
    let observed = |over: Over<'_>| door.limit_metrics.over(over.rule.index);
    door.limits.check(stage, &keys, Instant::now(), observed).map_err(|over| {
        door.limit_metrics.over(over.rule.index);
        let report = refusal::login(Refusal::RateLimited, &about(&over), door.jitter.beyond(over.wait));
        Failed::Limit(Refusal::RateLimited, report)
    })
}

/// What stands in a DETAIL.
fn about(over: &Over<'_>) -> String {
    format!("rule={} per={}", over.rule.name, over.rule.per)
}

impl Session {
    /// What its transactions are counted as. To be called when the session begins and when its function changes.
    pub(super) fn count_as(&mut self, address: Option<IpAddr>) {
        let door = self.seat.door();
        if !door.limits.has(Stage::Transaction) {
            return;
        }
        let pool = &self.pool.params;
        let who = Who { user: &pool.user, database: &pool.database, function: &self.function, address };
        let keys = door.limits.keys(Stage::Transaction, &who);
        self.counted = Some(Box::new(Counted { address, keys }));
    }

    /// Its function goes by another name.
    pub(super) fn count_anew(&mut self) {
        if let Some(counted) = &self.counted {
            self.count_as(counted.address);
        }
    }

    /// What the client is to be told if one more transaction is too many.
    pub(super) fn over_limit(&self, now: Instant) -> Option<Report> {
        let counted = self.counted.as_ref()?;
        // It is to say ROLLBACK, in a transaction that the proxy has ended.
        if self.failed {
            return None;
        }
        let door = self.seat.door();
        let observed = |over: Over<'_>| door.limit_metrics.over(over.rule.index);
        let over = door.limits.check(Stage::Transaction, &counted.keys, now, observed).err()?;
        door.limit_metrics.over(over.rule.index);
        door.sheds.count(Shed::RateLimited.label());
        self.pool.metrics.shed(Shed::RateLimited);
        Some(refusal::rate_limited(&about(&over), door.jitter.beyond(over.wait)))
    }
}
