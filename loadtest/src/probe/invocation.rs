//! One probe: what a cold function does, from the look-up of the host's name to the good-bye.

use super::outcome::{Fault, Outcome, Phase, Phases, Reason};
use crate::client::{ConnectTimes, Failure, Session, Target, TargetError};
use crate::plan::{End, Protocol};
use std::fmt;
use std::time::{Duration, Instant};

/// SQLSTATE of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// One row for each name: it is written over and over, and never grows.
const CREATE: &str = "create table if not exists loadtest_probe \
    (name text primary key, probes bigint not null, last_at timestamptz not null)";

/// What a probe does.
#[derive(Clone)]
pub struct Invocation {
    /// Where: a `postgres://` URL or a `key=value` DSN. Each probe reads it anew and looks its hosts up anew, and works
    /// out the password's proof anew, as a function that has just started does.
    pub dsn: String,
    /// `application_name`, and the name of the row.
    pub name: ProbeName,
    /// Whether it also writes.
    pub write: bool,
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dsn: _, name, write } = self;
        f.debug_struct("Invocation").field("name", name).field("write", write).finish_non_exhaustive()
    }
}

/// 1 to 63 letters, digits, `-`, `_` and `.`: nothing that would need quoting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeName(String);

impl std::str::FromStr for ProbeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=63).contains(&text.len()) && text.chars().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err("a name is 1 to 63 letters, digits, `-`, `_` and `.`")
    }
}

impl fmt::Display for ProbeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Invocation {
    /// Runs it once, and gives up at `give_up`. Never fails: whatever happens is the outcome.
    ///
    /// Cancel safety: dropped midway, the connection is closed without a word.
    pub async fn run(&self, give_up: Instant) -> Outcome {
        let started = Instant::now();
        let mut times = Times::default();
        let attempt = Box::pin(self.attempt(&mut times));
        let ended = tokio::time::timeout_at(give_up.into(), attempt).await;
        let total = started.elapsed();
        let phases = times.phases();
        let fault = match ended {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(fault(phases.under_way(self.write), &failure)),
            Err(_) => Some(too_late(phases.under_way(self.write), total)),
        };
        Outcome { phases, total, fault }
    }

    async fn attempt(&self, times: &mut Times) -> Result<(), Failure> {
        let mut session = self.connect(times).await?;
        let logged_in = Instant::now();
        transaction(&mut session).await?;
        times.transaction = Some(logged_in.elapsed());
        if self.write {
            let committed = Instant::now();
            self.write(&mut session).await?;
            times.write = Some(committed.elapsed());
        }
        session.end(End::Terminate).await;
        Ok(())
    }

    async fn connect(&self, times: &mut Times) -> Result<Session, Failure> {
        let started = Instant::now();
        let target = Target::parse("probe", &self.dsn).map_err(unusable)?;
        // One connection at a time is no load, and what is probed in production is another machine.
        target.resolve(true).await.map_err(unusable)?;
        times.look_up = started.elapsed();
        Session::connect(&target, &target.identity(&self.name.0), &mut times.connect).await
    }

    /// One upsert. The table is made when it turns out to be missing, and not before: `create table if not exists`
    /// needs the right to create tables even where there is nothing to do.
    async fn write(&self, session: &mut Session) -> Result<(), Failure> {
        let upsert = format!(
            "insert into loadtest_probe as probe (name, probes, last_at) values ('{}', 1, now()) \
             on conflict (name) do update set probes = probe.probes + 1, last_at = now() returning probes",
            self.name
        );
        let mut reply = session.run(&upsert, Protocol::Simple).await;
        if reply.as_ref().is_err_and(|failure| failure.sqlstate() == Some(UNDEFINED_TABLE)) {
            session.run(CREATE, Protocol::Simple).await?;
            reply = session.run(&upsert, Protocol::Simple).await;
        }
        one_row(reply?.rows)
    }
}

async fn transaction(session: &mut Session) -> Result<(), Failure> {
    session.run("begin", Protocol::Simple).await?;
    let reply = session.run("select 1", Protocol::Simple).await?;
    session.run("commit", Protocol::Simple).await?;
    one_row(reply.rows)
}

/// A target that answers, but not what it was asked, is not well.
fn one_row(rows: u64) -> Result<(), Failure> {
    if rows == 1 {
        return Ok(());
    }
    Err(Failure::Protocol(format!("{rows} rows where one was due")))
}

/// How far a probe is; it survives the probe that is given up.
#[derive(Default)]
struct Times {
    look_up: Duration,
    connect: ConnectTimes,
    transaction: Option<Duration>,
    write: Option<Duration>,
}

impl Times {
    fn phases(&self) -> Phases {
        Phases {
            connect: self.connect.connect.map(|connect| self.look_up + connect),
            login: self.connect.login,
            transaction: self.transaction,
            write: self.write,
        }
    }
}

/// The DSN was fit for use when the run began; its host or its certificates are not there any more.
fn unusable(error: TargetError) -> Failure {
    Failure::Connection(error.to_string())
}

fn fault(phase: Phase, failure: &Failure) -> Fault {
    match failure {
        Failure::Server(error) => Fault::from_server(phase, &error.sqlstate, &error.message),
        Failure::Connection(text) => Fault::without_answer(phase, Reason::Connection, text),
        Failure::Protocol(text) => Fault::without_answer(phase, Reason::Protocol, text),
        Failure::Timeout => Fault::without_answer(phase, Reason::Timeout, "no answer in time"),
    }
}

fn too_late(phase: Phase, waited: Duration) -> Fault {
    let waited = humantime::format_duration(Duration::from_millis(millis(waited)));
    Fault::without_answer(phase, Reason::Timeout, &format!("given up after {waited}"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_no_quoting() {
        for name in ["probe", "eu-west-1.a_b", "7"] {
            assert_eq!(name.parse::<ProbeName>().unwrap().to_string(), name);
        }
        for name in ["", "o'brien", "a b", "\\", "é", &"x".repeat(64)] {
            assert!(name.parse::<ProbeName>().is_err(), "{name}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let invocation = Invocation {
            dsn: "postgres://app:hunter2@db/app".to_owned(),
            name: "probe".parse().unwrap(),
            write: false,
        };
        assert!(!format!("{invocation:?}").contains("hunter2"));
    }
}
