//! What happens to the target meanwhile: the plan's events, and what they mean here.

use super::RunError;
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

    /// Lets the plan's events happen at their times, one after the other.
    ///
    /// # Errors
    /// A hook failed: the leg does not show what it should.
    ///
    /// Cancel safety: dropped midway, a command is killed; a call goes on to its end.
    pub(super) async fn happen(&self, plan: &Plan, target: &str, started: Instant) -> Result<(), RunError> {
        let mut events: Vec<_> = plan.events.iter().collect();
        events.sort_by_key(|event| event.at);
        for Event { at, hook } in events {
            sleep_until(started + at.duration()).await;
            let Some(what) = self.0.get(hook) else { continue };
            let done = timeout(PATIENCE, what.run(target)).await;
            let done = done.unwrap_or_else(|_| Err(format!("it took longer than {} s", PATIENCE.as_secs())));
            done.map_err(|why| RunError::Hook { hook: hook.clone(), why })?;
        }
        Ok(())
    }
}

impl Hook {
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

/// Its output is not waited for: what it starts in the background may keep that open for ever.
async fn run_command(command: &str, target: &str) -> Result<(), String> {
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env("LOADTEST_TARGET", target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
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
        hooks.happen(&plan, "pgcorral", Instant::now()).await.unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told_and_one_that_leaves_somebody_behind_is_not_waited_for() {
        let plan = plan("[[event]]\nat = \"0s\"\nhook = \"it\"");
        let failing = Hooks::new().with_command("it", "exit 3");
        let error = failing.happen(&plan, "t", Instant::now()).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        let leaving = Hooks::new().with_command("it", "sleep 30 & true");
        leaving.happen(&plan, "t", Instant::now()).await.unwrap();
    }
}
