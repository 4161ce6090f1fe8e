//! A process in the place of an instance's connection: what the engine fires for `runtime = "node"` and the like.
//!
//! The handler connects by itself, in its first invocation and when the connection was lost, so connecting is a part of
//! invoking here; what it tells of that is recorded as the engine records its own. Two things cannot be known: how
//! much of connecting was the login (all of it counts as login), and which statements of a transaction that failed had
//! been answered (none counts as heard).

use super::{Answer, ConnectNote, Database, Invoker, InvokerOptions, Launch, ProcessInstance, StartError};
use crate::client::{Failure, Target};
use crate::leg::Connect;
use crate::plan::{End, Function, OnTimeout, Plan, Runtime};
use crate::run::body::{Allowance, Body, Failed, Kept, Work};
use crate::run::stage::{Counted, Part, Record};
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// What the processes of a leg share.
#[derive(Debug, Clone)]
pub struct Functions {
    invoker: Invoker,
    database: Database,
}

impl Functions {
    /// For this plan at this target; `None` if none of the plan's functions is a process. `directory` is where the
    /// handlers are, if not in the usual place.
    ///
    /// # Errors
    /// See [`StartError`]; what is not installed is found out here.
    pub fn of(plan: &Plan, target: &Target, directory: Option<&Path>) -> Result<Option<Self>, StartError> {
        let processes = || plan.functions.iter().filter(|function| function.runtime != Runtime::Task);
        if processes().next().is_none() {
            return Ok(None);
        }
        let database = Database::parse(target.dsn())?;
        let most = processes().map(|function| function.instances as usize).sum();
        let directory = directory.map(Path::to_owned);
        let invoker = Invoker::new(&InvokerOptions { directory, most, starting: None })?;
        processes().try_for_each(|function| invoker.check(function.runtime))?;
        Ok(Some(Self { invoker, database }))
    }

    /// An instance's body that is not started.
    #[must_use]
    pub fn body(&self, part: Part) -> ProcessBody {
        let identity = &part.role().identity;
        let database = self.database.clone().with_role(&identity.user, &identity.password);
        ProcessBody {
            database: database.with_options(identity.options.as_deref()),
            part,
            invoker: self.invoker.clone(),
            instance: None,
            counted: None,
            was_connected: false,
        }
    }
}

/// A body that is a process, or will be with the next invocation.
#[derive(Debug)]
pub struct ProcessBody {
    part: Part,
    invoker: Invoker,
    database: Database,
    instance: Option<ProcessInstance>,
    /// Its connection, as far as it is known.
    counted: Option<Counted>,
    was_connected: bool,
}

impl ProcessBody {
    /// The process, which whoever calls has made sure is there.
    fn instance(&mut self) -> Result<&mut ProcessInstance, Failure> {
        self.instance.as_mut().ok_or_else(|| Failure::Connection("not started".to_owned()))
    }

    /// Keeps what an answer says of connections. `sent_us` is when the event was sent.
    fn note(&mut self, sent_us: u64, answer: &Answer) {
        for note in &answer.connects {
            self.part.stage.record(Record::Connect(connect(
                note,
                self.part.role().id,
                sent_us,
                self.was_connected,
            )));
            self.was_connected |= note.ok;
            if note.ok {
                self.counted = None;
                self.counted = Some(self.part.stage.count_connection());
            }
        }
    }

    /// It is gone.
    fn forget(&mut self) {
        self.instance = None;
        self.counted = None;
        self.was_connected = false;
    }
}

impl Body for ProcessBody {
    /// It is running, and connects when it is invoked.
    fn is_connected(&self) -> bool {
        self.instance.is_some()
    }

    /// Starts the process. The client's timeout begins when it is up, as Lambda's does.
    async fn connect(&mut self, _: &mut Allowance) -> Result<(), Failed> {
        let Function { runtime, name, .. } = self.part.function();
        let launch = Launch { runtime: *runtime, database: &self.database, function: name };
        let started = self.invoker.start(launch).await;
        let not_started =
            |error: StartError| Failed { failure: Failure::Connection(error.to_string()), at_login: true };
        self.instance = Some(started.map_err(not_started)?);
        Ok(())
    }

    /// The client's timeout ends the process.
    async fn invoke(&mut self, work: Work, _: &mut Allowance) -> Result<(), Failed> {
        let part = self.part.clone();
        let statements: Vec<_> = part.role().script.fill(work.values).map(String::from).collect();
        let timeout = part.function().timeout.duration();
        let sent_us = part.stage.now_us();
        // The plan says how often and when an invocation is tried again; the handler need not.
        let answer = self.instance()?.invoke(within_transaction(&statements), false, timeout).await;
        self.note(sent_us, &answer);
        answer.result.map_err(|failure| Failed { failure, at_login: answer.at_login })?;
        (0..statements.len()).for_each(|statement| part.hear(statement));
        Ok(())
    }

    async fn recover(&mut self, _: &Failure, _: OnTimeout) {
        if self.instance.as_ref().is_some_and(|instance| !instance.is_usable()) {
            self.forget();
        }
    }

    fn is_gone(&self) -> bool {
        self.instance.is_none()
    }

    async fn lose(&mut self) {
        match &mut self.instance {
            Some(instance) => {
                instance.ended().await;
                self.forget();
            }
            None => std::future::pending().await,
        }
    }

    async fn freeze(&mut self, lasting: Duration) {
        let Some(instance) = &mut self.instance else { return sleep(lasting).await };
        // What cannot be suspended cannot be signalled: it is gone, which the next invocation finds out.
        let _ = instance.freeze();
        sleep(lasting).await;
        let _ = instance.thaw();
    }

    /// A process closes its connection by ending: in order where the plan has it leave with Terminate or FIN, and
    /// killed for a reset, or in the middle of an invocation.
    async fn end(&mut self, how: End) -> Option<Kept> {
        let instance = self.instance.take();
        if let Some(instance) = instance {
            match how {
                End::Terminate | End::Fin if instance.is_usable() => instance.end().await,
                End::Terminate | End::Fin | End::Rst | End::Silence => instance.kill().await,
            }
        }
        self.forget();
        None
    }
}

fn connect(note: &ConnectNote, function: u16, sent_us: u64, again: bool) -> Connect {
    let took_us = u32::try_from(note.took_us).unwrap_or(u32::MAX);
    Connect {
        at_us: sent_us.saturating_add(note.after_us),
        function,
        again,
        connect_us: None,
        login_us: note.ok.then_some(took_us),
    }
}

/// The script without its BEGIN and COMMIT: those are the handler's.
fn within_transaction(statements: &[String]) -> &[String] {
    let is = |statement: &str, words: &[&str]| {
        let statement = statement.trim().trim_end_matches(';').trim_end();
        words.iter().any(|word| statement.eq_ignore_ascii_case(word))
    };
    match statements {
        [first, inner @ .., last]
            if is(first, &["begin", "start transaction"]) && is(last, &["commit", "end"]) =>
        {
            inner
        }
        all => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(statements: &[&str]) -> Vec<String> {
        statements.iter().map(|&statement| statement.to_owned()).collect()
    }

    #[test]
    fn the_scripts_own_transaction_is_the_handlers() {
        assert_eq!(within_transaction(&owned(&["BEGIN;", "select 1", "commit"])), ["select 1"]);
        let other = owned(&["begin", "select 1", "commit and chain"]);
        assert_eq!(within_transaction(&other), other);
        assert_eq!(within_transaction(&owned(&["select 1"])), ["select 1"]);
    }

    #[test]
    fn the_whole_of_connecting_counts_as_login_and_a_failed_one_has_no_time() {
        let note = ConnectNote { after_us: 5, took_us: 900, ok: true };
        let made = connect(&note, 3, 100, true);
        assert_eq!((made.at_us, made.function, made.again), (105, 3, true));
        assert_eq!((made.connect_us, made.login_us), (None, Some(900)));
        assert_eq!(connect(&ConnectNote { ok: false, ..note }, 3, 100, false).login_us, None);
    }
}
