//! Rate limits on logins and transactions: where [`crate::limits`] is asked, and what becomes of its verdict.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::door::{Door, Rules};
use super::failed::Failed;
use super::function;
use super::line::line;
use super::refusal;
use super::session::Session;
use crate::limits::{Over, Stage, Who};
use crate::obs::{LabelValue, Refusal, Shed};
use crate::proto::messages::Report;
use crate::proto::startup::StartupPacket;
use crate::trace::Ending;

/// As what a client's transactions are counted.
pub(super) struct Counted {
    /// Where the client comes from.
    address: Option<IpAddr>,
    /// Of which rules.
    version: u32,
    /// Only where there is a rule for transactions.
    by: Option<Keys>,
}

/// A client's keys, and the rules that they are for.
struct Keys {
    rules: Arc<Rules>,
    keys: Box<[u64]>,
}

impl Counted {
    /// Not counted yet.
    pub(super) fn nothing() -> Self {
        Self { address: None, version: 0, by: None }
    }

    /// Where the client comes from.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl Rules {
    /// One more login or transaction. Each rule that it is over is counted, whether or not that one refuses it.
    fn check(&self, stage: Stage, keys: &[u64], now: Instant) -> Result<(), Over<'_>> {
        let count = |over: &Over<'_>| self.metrics.over(over.rule.index);
        self.limits.check(stage, keys, now, |over| count(&over)).inspect_err(count)
    }
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
    let rules = door.rules();
    if !rules.limits.has(stage) {
        return Ok(());
    }
    let (user, database) = (&startup.user, &startup.database);
    let function = function::at_login(door, startup, address);
    let keys = rules.limits.keys(stage, &Who { user, database, function: &function, address });
    rules.check(stage, &keys, Instant::now()).map_err(|over| {
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
        let (version, rules) = (door.rules_version(), door.rules());
        let pool = &self.pool.params;
        let who = Who { user: &pool.user, database: &pool.database, function: &self.function, address };
        let by = rules.limits.has(Stage::Transaction).then(|| {
            let keys = rules.limits.keys(Stage::Transaction, &who);
            Keys { rules, keys }
        });
        *self.counted = Counted { address, version, by };
    }

    /// Its function goes by another name.
    pub(super) fn count_anew(&mut self) {
        self.count_as(self.counted.address);
    }

    /// What the client is to be told if one more transaction is too many.
    #[inline]
    pub(super) fn over_limit(&mut self, now: Instant) -> Option<Report> {
        if self.counted.version != self.seat.door().rules_version() {
            self.count_anew();
        }
        if self.counted.by.is_some() { self.count_one(now) } else { None }
    }

    fn count_one(&mut self, now: Instant) -> Option<Report> {
        let Keys { rules, keys } = self.counted.by.as_ref()?;
        // It is to say ROLLBACK, in a transaction that the proxy has ended.
        if self.failed {
            return None;
        }
        let over = rules.check(Stage::Transaction, keys, now).err()?;
        let report = refusal::rate_limited(&about(&over), self.seat.door().jitter.beyond(over.wait));
        self.is_shed(Shed::RateLimited);
        Some(report)
    }

    /// Its transaction is not admitted. To be called here and not by the pool: a login that tries parameters, and does without,
    /// is not told anything.
    pub(super) fn is_shed(&mut self, shed: Shed) {
        self.pool.metrics.shed(shed);
        self.seat.door().sheds.count(shed.label());
        line!(debug, self, reason = shed.label(), "transaction shed");
        self.trace_ends(Instant::now(), Ending::Shed(shed.into()));
    }
}
