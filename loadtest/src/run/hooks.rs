//! What happens to the target meanwhile: the plan's events, and what they mean here.

use super::RunError;
use super::early::EarlyEnd;
use crate::plan::{Event, Plan};
use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a hook may take: a restart of a loaded server, with room.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is done at the plan's events, by the hooks' names.
#[derive(Clone, Default)]
pub struct Hooks(BTreeMap<String, Hook>);

#[derive(Clone)]
enum Hook {
    Command(String),
    Call(Arc<dyn Fn() -> Result<(), String> + Send + Sync>),
}

impl Hooks {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a command with `sh -c`. It fails if it exits with another code than 0; it may take two minutes. The
    /// target's name is in the environment as `LOADTEST_TARGET`.
    #[must_use]
    pub fn with_command(mut self, name: &str, command: &str) -> Self {
        self.0.insert(name.to_owned(), Hook::Command(command.to_owned()));
        self
    }

    /// Calls something, on a thread where it may block.
    #[must_use]
    pub fn with_call(
        mut self,
        name: &str,
        call: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(name.to_owned(), Hook::Call(Arc::new(call)));
        self
    }

    /// Checks that the plan's events can happen: each has a hook, and comes before the leg's end.
    ///
    /// # Errors
    /// [`RunError::NoHook`], [`RunError::LateEvent`].
    pub fn check(&self, plan: &Plan) -> Result<(), RunError> {
        let end = plan.duration.duration() + plan.grace.duration();
        for Event { at, hook } in &plan.events {
            if !self.0.contains_key(hook) {
                return Err(RunError::NoHook { hook: hook.clone() });
            }
            if at.duration() >= end {
                return Err(RunError::LateEvent { hook: hook.clone() });
            }
        }
        Ok(())
    }

    /// Lets the plan's events happen at their times, one after the other. When the leg ends early, those that are left
    /// happen at once: somebody's database that one event stopped has to be started again. If none has happened by
    /// then, there is nothing to make good, and none does.
    ///
    /// # Errors
    /// A hook failed: the leg does not show what it should, and is told to end. Once it was told, a hook that fails is
    /// only warned of.
    ///
    /// Cancel safety: dropped midway, a command is killed; a call goes on to its end.
    pub(super) async fn happen(
        &self,
        plan: &Plan,
        target: &str,
        started: Instant,
        early: &EarlyEnd,
        warn: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), RunError> {
        let mut events: Vec<_> = plan.events.iter().collect();
        events.sort_by_key(|event| event.at);
        let mut happened = Ok(());
        for (index, Event { at, hook }) in events.into_iter().enumerate() {
            tokio::select! {
                biased;
                () = early.told() => if index == 0 { break },
                () = sleep_until(started + at.duration()) => {}
            }
            let Some(what) = self.0.get(hook) else { continue };
            match what.run_in_time(target).await {
                Ok(()) => {}
                Err(why) if early.is_told() => warn(&format!("hook \"{hook}\" failed: {why}")),
                Err(why) => {
                    happened = Err(RunError::Hook { hook: hook.clone(), why });
                    early.tell();
                }
            }
        }
        happened
    }
}

impl Hook {
    async fn run_in_time(&self, target: &str) -> Result<(), String> {
        let done = timeout(PATIENCE, self.run(target)).await;
        done.unwrap_or_else(|_| Err(format!("it took longer than {} s", PATIENCE.as_secs())))
    }

    async fn run(&self, target: &str) -> Result<(), String> {
        match self {
            Self::Command(command) => run_command(command, target).await,
            Self::Call(call) => {
                let call = Arc::clone(call);
                spawn_blocking(move || call()).await.unwrap_or_else(|error| Err(error.to_string()))
            }
        }
    }
}

/// Its output is not waited for: what it starts in the background may keep that open for ever. It is in a process group
/// of its own, so that a terminal's Ctrl-C, which ends the leg, does not end the command that makes good what an earlier
/// one did.
async fn run_command(command: &str, target: &str) -> Result<(), String> {
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env("LOADTEST_TARGET", target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(status.to_string()) }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn plan(events: &str) -> Plan {
        let text = format!(
            "title = \"t\"\nduration = \"100ms\"\ngrace = \"1s\"\n[[function]]\nname = \"f\"\ninstances = 1\n\
             timeout = \"1s\"\nscript = [\"select 1\"]\narrival = {{ kind = \"at_once\" }}\n{events}"
        );
        Plan::parse("t", &text, Path::new(".")).unwrap()
    }

    async fn happen(hooks: &Hooks, plan: &Plan, target: &str) -> Result<(), RunError> {
        hooks.happen(plan, target, Instant::now(), &EarlyEnd::new(), &|_| ()).await
    }

    #[test]
    fn a_missing_hook_and_an_event_after_the_end_are_told() {
        let plan_of = |at: &str| plan(&format!("[[event]]\nat = \"{at}\"\nhook = \"stop\""));
        let missing = Hooks::new().with_command("start", "true").check(&plan_of("10ms")).unwrap_err();
        assert!(missing.to_string().contains("\"stop\""), "{missing}");
        let hooks = Hooks::new().with_command("stop", "true");
        assert!(hooks.check(&plan_of("10ms")).is_ok());
        assert!(matches!(hooks.check(&plan_of("1100ms")), Err(RunError::LateEvent { .. })));
    }

    #[tokio::test]
    async fn events_happen_in_the_order_of_their_times() {
        let calls = Arc::new(AtomicU32::new(0));
        let (first, second) = (Arc::clone(&calls), Arc::clone(&calls));
        let is = |expected, found| if expected == found { Ok(()) } else { Err(format!("{found}")) };
        let hooks = Hooks::new()
            .with_call("late", move || is(1, second.fetch_add(1, Ordering::SeqCst)))
            .with_call("early", move || is(0, first.fetch_add(1, Ordering::SeqCst)))
            .with_command("named", "test \"$LOADTEST_TARGET\" = pgcorral");
        let plan = plan(
            "[[event]]\nat = \"20ms\"\nhook = \"late\"\n[[event]]\nat = \"10ms\"\nhook = \"early\"\n\
             [[event]]\nat = \"30ms\"\nhook = \"named\"",
        );
        happen(&hooks, &plan, "pgcorral").await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told_and_one_that_leaves_somebody_behind_is_not_waited_for() {
        let plan = plan("[[event]]\nat = \"0s\"\nhook = \"it\"");
        let failing = Hooks::new().with_command("it", "exit 3");
        let error = happen(&failing, &plan, "t").await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        let leaving = Hooks::new().with_command("it", "sleep 30 & true");
        happen(&leaving, &plan, "t").await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_command_is_in_a_process_group_of_its_own() {
        let plan = plan("[[event]]\nat = \"0s\"\nhook = \"it\"");
        // The first and the fifth field: the process, and its group (`man 5 proc`).
        let own = Hooks::new().with_command("it", "set -- $(cat /proc/$$/stat); test \"$5\" = \"$1\"");
        happen(&own, &plan, "t").await.unwrap();
    }

    #[tokio::test]
    async fn one_that_fails_ends_the_leg_and_those_after_it_happen_nevertheless() {
        let plan = plan(
            "[[event]]\nat = \"0s\"\nhook = \"stop\"\n[[event]]\nat = \"1050ms\"\nhook = \"start\"\n\
             [[event]]\nat = \"1060ms\"\nhook = \"check\"",
        );
        let started = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&started);
        let hooks = Hooks::new()
            .with_command("stop", "exit 3")
            .with_call("start", move || {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .with_command("check", "exit 4");
        let (early, warnings) = (EarlyEnd::new(), std::sync::Mutex::new(Vec::new()));
        let warn = |text: &str| warnings.lock().unwrap().push(text.to_owned());
        let error = hooks.happen(&plan, "t", Instant::now(), &early, &warn).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert!(early.is_told());
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert_eq!(*warnings.lock().unwrap(), ["hook \"check\" failed: exit status: 4"]);
    }

    #[tokio::test]
    async fn nothing_happens_after_an_end_before_the_first() {
        let plan = plan("[[event]]\nat = \"1050ms\"\nhook = \"stop\"");
        let hooks = Hooks::new().with_command("stop", "exit 3");
        let early = EarlyEnd::new();
        early.tell();
        let warn = |text: &str| panic!("{text}");
        hooks.happen(&plan, "t", Instant::now(), &early, &warn).await.unwrap();
    }
}
