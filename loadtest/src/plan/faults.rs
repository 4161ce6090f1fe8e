//! What is wrong with a plan that can be read: what contradicts itself, and what would silently do nothing.

use super::share::MOST_INSTANCES;
use super::{
    Arrival, Assertion, Delay, End, FreezeAt, Function, Metric, OnTimeout, Plan, Protocol, Runtime, Span,
};
use std::collections::HashSet;
use std::time::Duration;

/// No leg lasts longer, and nothing in it: a typing error must not keep a machine busy for a month.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// No generator on this earth fires faster.
const MOST_PER_SECOND: f64 = 1e6;

impl Plan {
    /// All of them.
    pub(super) fn faults(&self) -> Vec<String> {
        let whole = told([
            (self.duration.duration().is_zero(), "`duration` is zero"),
            (
                self.duration.duration().saturating_add(self.grace.duration()) > LONGEST,
                "the plan lasts longer than a week",
            ),
            (self.functions.is_empty(), "there is no [[function]]"),
            (self.connections() > u64::from(MOST_INSTANCES), "more than 60000 instances"),
        ]);
        let mut faults: Vec<String> = whole.map(str::to_owned).collect();
        let mut names = HashSet::new();
        for function in &self.functions {
            let Function { name, .. } = function;
            if !names.insert(name) {
                faults.push(format!("two functions are called {name:?}"));
            }
            let of_function =
                of_function(function).chain(without_effect(function)).chain(self.in_time(function));
            faults.extend(of_function.map(|text| format!("function {name:?}: {text}")));
        }
        for phase in self.phases.iter().filter(|phase| phase.from >= phase.to) {
            faults.push(format!("phase {:?} ends before it begins", phase.name));
        }
        for phase in self.phases.iter().filter(|phase| phase.to.duration() > LONGEST) {
            faults.push(format!("phase {:?} ends after more than a week", phase.name));
        }
        for event in self.events.iter().filter(|event| event.at.duration() > LONGEST) {
            faults.push(format!("event {:?} is due after more than a week", event.hook));
        }
        faults.extend(self.assertions.iter().flat_map(|assertion| self.of_assertion(assertion)));
        faults
    }

    /// How a function's times and the plan's go together.
    fn in_time(&self, function: &Function) -> impl Iterator<Item = &'static str> {
        let end = self.duration.duration();
        let start = function.start.duration();
        let stop = function.stop.map_or(end, |stop| stop.duration().min(end));
        let last_due = if matches!(function.arrival, Arrival::AtOnce {}) { start } else { stop };
        let cut_off = end.saturating_add(self.grace.duration());
        // Some are meant to be stuck until the end.
        let is_stuck = function.freeze.as_ref().is_some_and(|freeze| freeze.when != FreezeAt::Between);
        let recorded = match &function.arrival {
            Arrival::Trace { due, .. } => due.last().map(|last| start.saturating_add(last.duration())),
            _ => None,
        };
        told([
            (start >= end, "it starts when the plan's `duration` is over"),
            (
                !is_stuck && last_due.saturating_add(function.timeout.duration()) > cut_off,
                "an invocation may be cut off before its `timeout`: raise the plan's `grace`",
            ),
            (
                function.stop.is_none() && recorded.is_some_and(|last| last >= end),
                "its trace goes on after the plan's `duration`: raise that, or cut the trace with `stop`",
            ),
        ])
    }

    fn of_assertion(&self, assertion: &Assertion) -> impl Iterator<Item = String> {
        let is_function = |name: &String| self.functions.iter().any(|function| function.name == *name);
        let is_phase = |name: &String| self.phases.iter().any(|phase| phase.name == *name);
        let faults = told([
            (assertion.function.as_ref().is_some_and(|name| !is_function(name)), "there is no such function"),
            (assertion.phase.as_ref().is_some_and(|name| !is_phase(name)), "there is no such phase"),
            (assertion.metric == Metric::OfCapacity && self.capacity.is_none(), "the plan has no `capacity`"),
        ]);
        faults.map(move |text| format!("assertion \"{assertion}\": {text}"))
    }
}

fn told<const N: usize>(faults: [(bool, &'static str); N]) -> impl Iterator<Item = &'static str> {
    faults.into_iter().filter_map(|(is, text)| is.then_some(text))
}

/// What cannot be.
fn of_function(function: &Function) -> impl Iterator<Item = &'static str> {
    let is_no_share = |share: f64| !(0.0..=1.0).contains(&share);
    let rate = match function.arrival {
        Arrival::Ramp { per_second } | Arrival::Poisson { per_second } | Arrival::Steady { per_second } => {
            per_second
        }
        Arrival::AtOnce {} | Arrival::Closed { .. } | Arrival::Trace { .. } => 1.0,
    };
    let shares = [
        function.freeze.as_ref().map(|freeze| freeze.share),
        function.abort.as_ref().map(|abort| abort.share),
    ];
    told([
        (function.instances == 0, "no `instances`, neither its own nor the plan's"),
        (!function.weight.is_finite() || function.weight <= 0.0, "`weight` has to be above 0"),
        (function.script.is_empty(), "`script` is empty"),
        (function.timeout.duration().is_zero(), "`timeout` is zero"),
        (function.invocations == Some(0), "`invocations` is zero"),
        (!rate.is_finite() || rate <= 0.0, "`per_second` has to be above 0"),
        (rate > MOST_PER_SECOND, "`per_second` is more than a million"),
        (shares.into_iter().flatten().any(is_no_share), "a `share` is from 0 to 1"),
        (
            function.backoff.factor < 1.0 || is_no_share(function.backoff.jitter),
            "`backoff`: factor from 1, jitter from 0 to 1",
        ),
        (function.stop.is_some_and(|stop| stop <= function.start), "it stops before it starts"),
        (longest(function) > LONGEST, "one of its times is longer than a week"),
        (
            function.runtime != Runtime::Task && asks_for_a_socket(function),
            "a process can be frozen only `between` invocations, and cannot end in `silence`",
        ),
    ])
}

/// What would do nothing, and nobody would notice.
fn without_effect(function: &Function) -> impl Iterator<Item = &'static str> {
    let is_process = function.runtime != Runtime::Task;
    let is_loop = matches!(function.arrival, Arrival::Closed { .. } | Arrival::Ramp { .. });
    let is_frozen_in_transaction =
        function.freeze.as_ref().is_some_and(|freeze| freeze.when == FreezeAt::InTransaction);
    told([
        (
            is_process && function.protocol != Protocol::default(),
            "`protocol` does nothing in a process: its driver decides",
        ),
        (
            is_process && function.on_timeout != OnTimeout::default(),
            "`on_timeout` does nothing in a process: its timeout ends it",
        ),
        (
            !is_loop && !function.think.longest().is_zero(),
            "`think` does nothing but in a closed loop and a ramp",
        ),
        (
            is_frozen_in_transaction && !function.script.first().is_some_and(|line| begins(line)),
            "to be frozen `in_transaction`, its script has to start with BEGIN or START TRANSACTION alone",
        ),
    ])
}

/// What needs a hand on the socket itself, which is the driver's in a process.
fn asks_for_a_socket(function: &Function) -> bool {
    let silent = |how: End| how == End::Silence;
    function.freeze.as_ref().is_some_and(|freeze| freeze.when != FreezeAt::Between)
        || function.abort.as_ref().is_some_and(|abort| silent(abort.how))
        || silent(function.end)
}

/// The longest of its times.
fn longest(function: &Function) -> Duration {
    let within = match function.arrival {
        Arrival::Closed { within } => within,
        _ => Span::default(),
    };
    let spans = [
        function.start,
        function.stop.unwrap_or_default(),
        function.timeout,
        function.backoff.base,
        function.backoff.max,
        within,
    ];
    let frozen = function.freeze.as_ref().map(|freeze| &freeze.lasting);
    let aborted = function.abort.as_ref().map(|abort| &abort.after);
    let delays = [Some(&function.think), frozen, aborted].into_iter().flatten().map(Delay::longest);
    spans.into_iter().map(Span::duration).chain(delays).max().unwrap_or_default()
}

/// The statement opens a transaction, and does no more than that.
fn begins(line: &str) -> bool {
    let statement = line.trim().trim_end_matches(';').to_lowercase();
    let mut words = statement.split_whitespace();
    let opens = match words.next() {
        Some("begin") => true,
        Some("start") => words.next() == Some("transaction"),
        _ => false,
    };
    opens && !statement.contains(';')
}

#[cfg(test)]
mod tests {
    use super::super::PlanError;
    use super::*;
    use std::path::Path;

    const AT_ONCE: &str = "arrival = { kind = \"at_once\" }";
    const CLOSED: &str = "arrival = { kind = \"closed\" }";
    const OPEN: &str = "arrival = { kind = \"poisson\", per_second = 5 }";

    fn plan(head: &str, function: &str) -> Result<Plan, PlanError> {
        let script = if function.contains("script") { "" } else { "script = [\"select 1\"]" };
        let duration = if head.contains("duration") { "" } else { "duration = \"10s\"" };
        let text = format!(
            "title = \"t\"\n{duration}\n{head}\n[[function]]\nname = \"f\"\ninstances = 1\n{script}\n{function}\n"
        );
        Plan::parse("t", &text, Path::new("."))
    }

    #[test]
    fn what_would_do_nothing_is_told() {
        let frozen = "freeze = { when = \"in_transaction\", lasting = \"1s\" }\nscript";
        for (function, expected) in [
            (format!("{AT_ONCE}\nthink = \"1s\""), "`think` does nothing"),
            (format!("{OPEN}\nthink = {{ mean = \"1s\" }}"), "`think` does nothing"),
            (format!("{CLOSED}\nruntime = \"node\"\nprotocol = \"prepared\""), "`protocol` does nothing"),
            (format!("{CLOSED}\nruntime = \"go\"\non_timeout = \"cancel\""), "`on_timeout` does nothing"),
            (format!("{CLOSED}\n{frozen} = [\"select 1\", \"begin\"]"), "start with BEGIN"),
            (format!("{CLOSED}\n{frozen} = [\"begin; select 1; commit\"]"), "start with BEGIN"),
            (format!("{CLOSED}\nstart = \"10s\""), "it starts when"),
            (format!("{CLOSED}\nstart = \"11s\"\nstop = \"12s\""), "it starts when"),
        ] {
            let faults = plan("", &function).unwrap_err().to_string();
            assert!(faults.contains(expected) && faults.lines().count() == 1, "{function}: {faults}");
        }
    }

    #[test]
    fn what_has_an_effect_is_no_fault() {
        let ramp = "arrival = { kind = \"ramp\", per_second = 1 }";
        let frozen = "freeze = { when = \"in_transaction\", lasting = \"1s\" }\nscript";
        for function in [
            format!("{ramp}\nthink = \"1s\""),
            format!("{CLOSED}\nthink = \"1s\"\nprotocol = \"prepared\"\non_timeout = \"rst\""),
            format!("{CLOSED}\n{frozen} = [\"BEGIN isolation level serializable;\", \"select 1\"]"),
            format!("{CLOSED}\n{frozen} = [\"start  transaction\"]"),
            format!("{AT_ONCE}\nstart = \"9s\""),
        ] {
            assert_eq!(plan("", &function).map(|_| ()), Ok(()), "{function}");
        }
    }

    #[test]
    fn every_invocation_has_time_for_its_timeout() {
        let closed = |timeout: &str| format!("{CLOSED}\ntimeout = \"{timeout}\"");
        assert!(plan("grace = \"5s\"", &closed("5s")).is_ok());
        let faults = plan("grace = \"5s\"", &closed("6s")).unwrap_err().to_string();
        assert!(faults.contains("raise the plan's `grace`"), "{faults}");
        // The last is due long before the plan ends.
        assert!(plan("grace = \"5s\"", &format!("{}\nstop = \"9s\"", closed("6s"))).is_ok());
        assert!(plan("grace = \"5s\"", &format!("{AT_ONCE}\nstart = \"1s\"\ntimeout = \"14s\"")).is_ok());
        assert!(plan("grace = \"5s\"", &format!("{AT_ONCE}\nstart = \"1s\"\ntimeout = \"15s\"")).is_err());
        // Stuck on purpose.
        let stuck = "freeze = { when = \"reading\", lasting = \"1m\" }";
        assert!(plan("grace = \"5s\"", &format!("{}\n{stuck}", closed("2m"))).is_ok());
        // Whoever says nothing about either has no fault.
        assert!(plan("", CLOSED).is_ok());
    }

    #[test]
    fn no_time_is_longer_than_a_week_and_none_too_long_to_be_added_up() {
        const LONG: [&str; 3] = ["8days", "1000years", "18446744073709551615s"];
        for long in LONG {
            for function in [
                format!("{CLOSED}\nthink = \"{long}\""),
                format!("{CLOSED}\nthink = {{ mean = \"{long}\" }}"),
                format!("{CLOSED}\ntimeout = \"{long}\""),
                format!("{CLOSED}\nstop = \"{long}\""),
                format!("{CLOSED}\nbackoff = {{ base = \"{long}\" }}"),
                format!("{CLOSED}\nbackoff = {{ max = \"{long}\" }}"),
                format!("{CLOSED}\nfreeze = {{ when = \"between\", lasting = \"{long}\" }}"),
                format!(
                    "{CLOSED}\nabort = {{ after = {{ min = \"1s\", max = \"{long}\" }}, how = \"rst\" }}"
                ),
                format!("arrival = {{ kind = \"closed\", within = \"{long}\" }}"),
            ] {
                let faults = plan("", &function).unwrap_err().to_string();
                assert!(faults.contains("one of its times is longer than a week"), "{function}: {faults}");
            }
            for head in [format!("duration = \"{long}\""), format!("grace = \"{long}\"")] {
                let faults = plan(&head, CLOSED).unwrap_err().to_string();
                assert!(faults.contains("the plan lasts longer than a week"), "{head}: {faults}");
            }
            let late = format!(
                "[[phase]]\nname = \"p\"\nfrom = \"1s\"\nto = \"{long}\"\n[[event]]\nat = \"{long}\"\nhook = \"h\""
            );
            let faults = plan(&late, CLOSED).unwrap_err().to_string();
            assert!(faults.contains("phase \"p\" ends after") && faults.contains("event \"h\""), "{faults}");
        }
    }

    #[test]
    fn nobody_fires_a_million_times_a_second() {
        for kind in ["poisson", "steady", "ramp"] {
            let arrival = |rate: &str| format!("arrival = {{ kind = \"{kind}\", per_second = {rate} }}");
            let faults = plan("", &arrival("1e7")).unwrap_err().to_string();
            assert!(faults.contains("`per_second` is more than a million"), "{faults}");
            assert!(plan("", &arrival("1e6")).is_ok());
        }
    }

    #[test]
    fn recordings_fit_into_the_plan() {
        let directory = tempfile::tempdir().unwrap();
        let faults_of = |trace: &str, more: &str| {
            std::fs::write(directory.path().join("trace"), trace).unwrap();
            let text = format!(
                "title = \"t\"\nduration = \"10s\"\n[[function]]\nname = \"f\"\ninstances = 1\nscript = [\"select 1\"]\n\
                 arrival = {{ kind = \"trace\", file = \"trace\" }}\n{more}\n"
            );
            Plan::parse("t", &text, directory.path())
                .map_or_else(|faults| faults.to_string(), |_| String::new())
        };
        assert_eq!(faults_of("0\n9.9\n", ""), "");
        assert!(faults_of("0\n10\n", "").contains("its trace goes on"));
        assert!(faults_of("0\n5\n", "start = \"5s\"").contains("its trace goes on"));
        assert_eq!(faults_of("0\n10\n", "stop = \"7s\""), "");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let head = "duration = \"0s\"\nassert = [\"goodput{web} >= 1\", \"of_capacity@late >= 1\"]\n\
                    [[phase]]\nname = \"early\"\nfrom = \"2s\"\nto = \"1s\"";
        let twice = format!(
            "script = []\n{CLOSED}\n[[function]]\nname = \"f\"\ninstances = 1\nscript = [\"select 1\"]\n{CLOSED}"
        );
        let faults = plan(head, &twice).unwrap_err().to_string();
        for told in [
            "`duration` is zero",
            "two functions are called \"f\"",
            "`script` is empty",
            "phase \"early\" ends before",
            "no such function",
            "no such phase",
            "no `capacity`",
        ] {
            assert!(faults.contains(told), "{told}: {faults}");
        }
    }
}
