//! What is kept of one leg: one plan, once, against one target. Everything that a report says is computed from this,
//! and this is what the JSON report holds, so that it can be computed again.

use serde::{Deserialize, Serialize};

/// One plan, once, against one target. All times are microseconds since the leg's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// The target's name.
    pub target: String,
    /// 0 for the first round.
    pub round: u32,
    /// When it began: milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// From the start to the last outcome.
    pub wall_us: u64,
    /// Somebody ended it early.
    pub interrupted: bool,
    /// Names of the plan's functions; records refer to them by index.
    pub functions: Vec<String>,
    /// Every invocation that was due, in the order of their ends.
    pub invocations: Vec<Invocation>,
    /// Every attempt that failed, also of invocations that a later attempt served.
    pub failures: Vec<AttemptFailure>,
    /// Connections: every attempt to open one.
    pub connects: Vec<Connect>,
    /// What PostgreSQL counted; empty where nobody could ask it.
    pub backends: Vec<BackendSample>,
    /// Sessions that PostgreSQL opened during the leg, by `pg_stat_database`; `None` where nobody could ask it.
    pub sessions: Option<u64>,
    /// What `pg_stat_statements` counted; `None` where it is not there.
    pub statements: Option<StatementCount>,
    /// Every 100 ms: what was going on in the load generator.
    pub progress: Vec<ProgressSample>,
    /// What the generator itself needed.
    pub generator: GeneratorLoad,
    /// What somebody who reads the figures has to know about them; sentences without a period.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Leg {
    /// Nothing was due in it, nothing happened, and nobody asked PostgreSQL.
    #[must_use]
    pub fn empty(target: &str, round: u32, functions: Vec<String>) -> Self {
        Self {
            target: target.to_owned(),
            round,
            started_unix_ms: 0,
            wall_us: 0,
            interrupted: false,
            functions,
            invocations: Vec::new(),
            failures: Vec::new(),
            connects: Vec::new(),
            backends: Vec::new(),
            sessions: None,
            statements: None,
            progress: Vec::new(),
            generator: GeneratorLoad::default(),
            warnings: Vec::new(),
        }
    }
}

/// One invocation, retries included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// Index of its function.
    pub function: u16,
    /// When the plan wanted it to begin. Latency counts from here: a generator (or a target) that falls behind must
    /// not hide the waiting that this caused ("coordinated omission").
    pub intended_us: u64,
    /// When it did begin: an instance was free.
    pub started_us: u64,
    /// When its outcome was known.
    pub ended_us: u64,
    /// At least 1.
    pub attempts: u16,
    /// Its instance had to be started for it.
    pub cold: bool,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an invocation after its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was answered in time.
    Served,
    /// The last attempt was refused with an error of the overload contract.
    Shed,
    /// The last attempt ran into the client's timeout.
    Timeout,
    /// The last attempt failed in another way.
    Failed,
    /// The plan killed the instance in the middle of it: neither a success nor a failure of the target.
    Aborted,
    /// The leg ended first: the target did not serve it. Where somebody interrupted the leg, this says nothing of the
    /// target.
    Unfinished,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFailure {
    /// When.
    pub at_us: u64,
    /// Index of its function.
    pub function: u16,
    /// What kind.
    pub kind: FailureKind,
    /// What the server said, if it said something.
    pub sqlstate: Option<String>,
    /// `reason=` of the DETAIL; else, for an error from the server, its message; else the error's text.
    pub reason: String,
    /// It happened while connecting or logging in.
    pub at_login: bool,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// An error whose SQLSTATE is of the overload contract ([`CONTRACT`]).
    Shed,
    /// The client's own timeout.
    Timeout,
    /// Any other ErrorResponse.
    Sql,
    /// No connection, or it ended without an ErrorResponse.
    Connection,
    /// What came is not the protocol.
    Protocol,
}

/// SQLSTATEs with which a target may refuse work: too many connections, a configured limit, cannot connect now, cannot
/// reach the server, lost the server, idle too long in a transaction (PostgreSQL's manual, appendix A).
pub const CONTRACT: [&str; 6] = ["53300", "53400", "57P03", "08001", "08006", "25P03"];

/// One attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// When it began.
    pub at_us: u64,
    /// Index of its function.
    pub function: u16,
    /// The instance had been connected before.
    pub again: bool,
    /// TCP's (and TLS') part; `None` if it failed.
    pub connect_us: Option<u32>,
    /// From the StartupMessage to the first ReadyForQuery; `None` if it failed.
    pub login_us: Option<u32>,
}

/// What `pg_stat_activity` showed at one moment, of the leg's own backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendSample {
    /// When.
    pub at_us: u64,
    /// All.
    pub total: u32,
    /// Running a statement.
    pub active: u32,
    /// In a transaction, waiting for their client.
    pub idle_in_transaction: u32,
}

/// How many backends two looks in a row agree on, look by look, with the time of the first of the two.
///
/// `pg_stat_activity` is no snapshot: one look may show a backend that has just ended beside the one that has taken its
/// place. A single look is taken at its word.
#[must_use]
pub fn agreed_backends(looks: &[BackendSample]) -> Vec<(u64, u32)> {
    match looks {
        [only] => vec![(only.at_us, only.total)],
        _ => looks.windows(2).map(|two| (two[0].at_us, two[0].total.min(two[1].total))).collect(),
    }
}

/// The most backends that two looks in a row agree on; `None` if nobody looked.
#[must_use]
pub fn max_backends(looks: &[BackendSample]) -> Option<u32> {
    agreed_backends(looks).into_iter().map(|(_, total)| total).max()
}

/// How often PostgreSQL ran the plan's statements, by `pg_stat_statements`, against what clients heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementCount {
    /// Executions that ended.
    pub executed: u64,
    /// Those whose completion reached a client.
    pub heard: u64,
}

impl StatementCount {
    /// Executed for clients that were gone.
    #[must_use]
    pub fn unheard(&self) -> u64 {
        self.executed.saturating_sub(self.heard)
    }
}

/// The load generator at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProgressSample {
    /// When.
    pub at_us: u64,
    /// Invocations under way, those that wait for an instance included.
    pub in_flight: u32,
    /// Open connections.
    pub connections: u32,
    /// How late this sample was taken: what the generator's own timers lag behind.
    pub lag_us: u32,
}

/// What the generator itself needed: whether it, and not the target, was the bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GeneratorLoad {
    /// CPU of all its processes, user and system.
    pub cpu_us: u64,
    /// Cores that it may use.
    pub cores: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_that_nobody_confirms_does_not_count() {
        let samples = |totals: &[u32]| -> Vec<_> {
            let sample = |&total| BackendSample { at_us: 0, total, active: 0, idle_in_transaction: 0 };
            totals.iter().map(sample).collect()
        };
        assert_eq!(max_backends(&samples(&[])).unwrap_or(0), 0);
        assert_eq!(max_backends(&samples(&[3, 20, 21, 20, 4])), Some(20));
        assert_eq!(max_backends(&samples(&[3, 21, 21, 4])), Some(21));
    }
}
