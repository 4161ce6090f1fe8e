//! A run as JSON, to keep and to read again.
//!
//! ```json
//! {"format": 1,
//!  "verdicts": [{"assertion": "goodput >= 0.95", "target": "pgcorral", "value": 0.998, "holds": true}],
//!  "figures": [{"target": "pgcorral", "round": 0, "offered": 1000, "p99": 0.412}],
//!  "run": {"plan": {}, "targets": [], "legs": [{"target": "pgcorral", "invocations": {"intended_us": [0, 120]}}]}}
//! ```
//!
//! `verdicts` and `figures` are for scripts and are computed anew when the file is read; `holds` is null where nobody was to
//! measure it. Records are columns of equal
//! length, about 50 bytes per invocation, and what a data frame is made of.

use super::{Ruling, Run, Summary, judge};
use crate::leg::{
    AttemptFailure, BackendSample, Connect, FailureKind, GeneratorLoad, Invocation, Leg, Outcome,
    ProgressSample, StatementCount,
};
use crate::plan::Metric;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::{fmt, io};

/// What this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// Why a report was not read.
#[derive(Debug)]
pub enum ReadError {
    /// The file could not be read.
    Io(io::Error),
    /// It is not the JSON of a report; where and why.
    Syntax(String),
    /// It is a report of another version.
    Format(u32),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Syntax(text) => write!(f, "not a report: {text}"),
            Self::Format(format) => write!(f, "a report of format {format}; this version reads {FORMAT}"),
        }
    }
}

impl std::error::Error for ReadError {}

#[derive(Serialize)]
struct File<'a> {
    format: u32,
    verdicts: Vec<Judged>,
    figures: Vec<LegFigures<'a>>,
    run: &'a Run,
}

#[derive(Serialize)]
struct Judged {
    assertion: String,
    target: String,
    value: Option<f64>,
    /// `None` where nobody was to measure it.
    holds: Option<bool>,
}

#[derive(Serialize)]
struct LegFigures<'a> {
    target: &'a str,
    round: u32,
    #[serde(flatten)]
    figures: BTreeMap<&'static str, Option<f64>>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
struct Kept {
    run: Run,
}

/// Writes the whole run, and flushes. Not buffered: give it a `BufWriter`.
///
/// # Errors
/// What the writer says.
pub fn write(run: &Run, mut to: impl Write) -> io::Result<()> {
    let file = File { format: FORMAT, verdicts: judged(run), figures: figures(run), run };
    serde_json::to_writer(&mut to, &file).map_err(io::Error::from)?;
    // A `BufWriter` that is dropped forgets what went wrong with the rest.
    to.flush()
}

/// Reads what [`fn@write`] has written.
///
/// # Errors
/// It is not such a file, or cannot be read.
pub fn read(mut from: impl Read) -> Result<Run, ReadError> {
    let mut text = String::new();
    from.read_to_string(&mut text).map_err(ReadError::Io)?;
    let syntax = |error: serde_json::Error| ReadError::Syntax(error.to_string());
    // The version first: a file of another one need not look like this one in any other way.
    let Format { format } = serde_json::from_str(&text).map_err(syntax)?;
    if format != FORMAT {
        return Err(ReadError::Format(format));
    }
    let Kept { run } = serde_json::from_str(&text).map_err(syntax)?;
    Ok(run)
}

fn judged(run: &Run) -> Vec<Judged> {
    let verdicts = judge(run).into_iter();
    verdicts
        .map(|verdict| Judged {
            assertion: verdict.assertion.to_string(),
            target: verdict.target,
            value: verdict.value,
            holds: match verdict.ruling {
                Ruling::Holds => Some(true),
                Ruling::Fails => Some(false),
                Ruling::NotMeasured => None,
            },
        })
        .collect()
}

fn figures(run: &Run) -> Vec<LegFigures<'_>> {
    let of_leg = |leg| {
        let figures = Summary::of(&run.plan, leg).figures(None, None);
        let value = |metric| figures.as_ref().and_then(|figures| figures.value(metric));
        Metric::ALL.iter().map(|metric| (metric.name(), value(*metric))).collect()
    };
    run.legs
        .iter()
        .map(|leg| LegFigures { target: &leg.target, round: leg.round, figures: of_leg(leg) })
        .collect()
}

/// For serde: a run's legs in columns.
pub(super) mod legs {
    use super::{Columns, Leg};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(legs: &[Leg], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(legs.iter().map(Columns::of))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Leg>, D::Error> {
        let legs = Vec::<Columns>::deserialize(deserializer)?.into_iter();
        legs.map(|columns| columns.leg().map_err(de::Error::custom)).collect()
    }
}

/// A leg whose records are columns.
#[derive(Serialize, Deserialize)]
struct Columns {
    target: String,
    round: u32,
    started_unix_ms: u64,
    wall_us: u64,
    interrupted: bool,
    functions: Vec<String>,
    invocations: Invocations,
    /// Failures name a cause by its index.
    causes: Vec<KnownCause>,
    failures: Failures,
    connects: Connects,
    backends: Backends,
    sessions: Option<u64>,
    statements: Option<StatementCount>,
    progress: Progress,
    generator: GeneratorLoad,
    /// Absent in files of before.
    #[serde(default)]
    warnings: Vec<String>,
}

/// Columns of unequal length, or a failure by an unknown cause.
struct Torn(&'static str);

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the columns of `{}` do not fit together", self.0)
    }
}

/// `columns!(Columns of Record as "name" { field: Type, … })`: one vector per field, there and back.
macro_rules! columns {
    ($columns:ident of $record:ident as $name:literal { $($field:ident: $type:ty,)* }) => {
        #[derive(Serialize, Deserialize)]
        struct $columns {
            $($field: Vec<$type>,)*
        }

        impl $columns {
            fn of(records: &[$record]) -> Self {
                Self { $($field: records.iter().map(|record| record.$field).collect(),)* }
            }

            fn records(self) -> Result<Vec<$record>, Torn> {
                let lengths = [$(self.$field.len()),*];
                if lengths.iter().any(|length| *length != lengths[0]) {
                    return Err(Torn($name));
                }
                $(let mut $field = self.$field.into_iter();)*
                let next = || Some($record { $($field: $field.next()?,)* });
                Ok(std::iter::from_fn(next).collect())
            }
        }
    };
}

columns!(Invocations of Invocation as "invocations" {
    function: u16,
    intended_us: u64,
    started_us: u64,
    ended_us: u64,
    attempts: u16,
    cold: bool,
    outcome: Outcome,
});

columns!(Connects of Connect as "connects" {
    at_us: u64,
    function: u16,
    again: bool,
    connect_us: Option<u32>,
    login_us: Option<u32>,
});

columns!(Backends of BackendSample as "backends" {
    at_us: u64,
    total: u32,
    active: u32,
    idle_in_transaction: u32,
});

columns!(Progress of ProgressSample as "progress" {
    at_us: u64,
    in_flight: u32,
    connections: u32,
    lag_us: u32,
});

columns!(Failures of FailureAt as "failures" {
    at_us: u64,
    function: u16,
    cause: u32,
});

#[derive(Clone, Copy)]
struct FailureAt {
    at_us: u64,
    function: u16,
    cause: u32,
}

/// What failures have in common: there are many with the same text.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct KnownCause {
    kind: FailureKind,
    sqlstate: Option<String>,
    reason: String,
    at_login: bool,
}

impl Columns {
    fn of(leg: &Leg) -> Self {
        let (causes, failures) = failures_in_columns(&leg.failures);
        Self {
            target: leg.target.clone(),
            round: leg.round,
            started_unix_ms: leg.started_unix_ms,
            wall_us: leg.wall_us,
            interrupted: leg.interrupted,
            functions: leg.functions.clone(),
            invocations: Invocations::of(&leg.invocations),
            causes,
            failures,
            connects: Connects::of(&leg.connects),
            backends: Backends::of(&leg.backends),
            sessions: leg.sessions,
            statements: leg.statements,
            progress: Progress::of(&leg.progress),
            generator: leg.generator,
            warnings: leg.warnings.clone(),
        }
    }

    fn leg(self) -> Result<Leg, Torn> {
        Ok(Leg {
            target: self.target,
            round: self.round,
            started_unix_ms: self.started_unix_ms,
            wall_us: self.wall_us,
            interrupted: self.interrupted,
            functions: self.functions,
            invocations: self.invocations.records()?,
            failures: failures(&self.causes, self.failures)?,
            connects: self.connects.records()?,
            backends: self.backends.records()?,
            sessions: self.sessions,
            statements: self.statements,
            progress: self.progress.records()?,
            generator: self.generator,
            warnings: self.warnings,
        })
    }
}

fn failures_in_columns(failures: &[AttemptFailure]) -> (Vec<KnownCause>, Failures) {
    let mut causes = Vec::new();
    let mut known: BTreeMap<KnownCause, u32> = BTreeMap::new();
    let mut records = Vec::with_capacity(failures.len());
    for AttemptFailure { at_us, function, kind, sqlstate, reason, at_login } in failures {
        let cause = KnownCause {
            kind: *kind,
            sqlstate: sqlstate.clone(),
            reason: reason.clone(),
            at_login: *at_login,
        };
        let next = u32::try_from(causes.len()).unwrap_or(u32::MAX);
        let index = *known.entry(cause.clone()).or_insert_with(|| {
            causes.push(cause);
            next
        });
        records.push(FailureAt { at_us: *at_us, function: *function, cause: index });
    }
    (causes, Failures::of(&records))
}

fn failures(causes: &[KnownCause], columns: Failures) -> Result<Vec<AttemptFailure>, Torn> {
    let failure = |FailureAt { at_us, function, cause }| {
        let KnownCause { kind, sqlstate, reason, at_login } =
            causes.get(usize::try_from(cause).ok()?)?.clone();
        Some(AttemptFailure { at_us, function, kind, sqlstate, reason, at_login })
    };
    columns.records()?.into_iter().map(|record| failure(record).ok_or(Torn("failures"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    fn written(run: &Run) -> String {
        let mut bytes = Vec::new();
        write(run, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut run = synthetic::run(&["direct", "fifo", "guard"], 2);
        run.legs[1].warnings.push("statements were not counted".to_owned());
        let text = written(&run);
        assert!(run.legs.iter().any(|leg| !leg.failures.is_empty()));
        assert_eq!(read(text.as_bytes()).unwrap(), run);
        let of_before = text.replace(",\"warnings\":[]", "");
        assert_ne!(of_before, text);
        assert_eq!(read(of_before.as_bytes()).unwrap(), run);
    }

    #[test]
    fn a_disk_that_is_full_at_the_last_byte_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut run = synthetic::run(&["guard"], 1);
        run.legs.clear();
        let all = io::BufWriter::with_capacity(1 << 20, Full);
        assert_eq!(write(&run, all).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_hundred_thousand_invocations_are_not_fifteen_megabytes() {
        let mut run = synthetic::run(&["guard"], 1);
        let leg = &mut run.legs[0];
        for record in (0..).take(100_000 - leg.invocations.len()) {
            leg.invocations.push(Invocation { intended_us: 59_000_000 + record, ..leg.invocations[0] });
            leg.connects.push(Connect { at_us: 59_000_000 + record, ..leg.connects[0] });
        }
        let size = written(&run).len();
        assert!(size < 10_000_000, "{size}");
    }

    #[test]
    fn scripts_find_verdicts_and_figures() {
        let mut run = synthetic::run(&["guard"], 1);
        run.plan.assertions = vec!["goodput >= 0.1".parse().unwrap()];
        let json: serde_json::Value = serde_json::from_str(&written(&run)).unwrap();
        assert_eq!(json["verdicts"][0]["assertion"], "goodput >= 0.1");
        assert_eq!(json["verdicts"][0]["holds"], true);
        assert_eq!(json["figures"][0]["target"], "guard");
        let offered = json["figures"][0]["offered"].as_f64().unwrap();
        assert_eq!(offered as usize, run.legs[0].invocations.len());
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let text = written(&synthetic::run(&["guard"], 1));
        let refused = |text: String| read(text.as_bytes()).unwrap_err().to_string();
        assert!(refused("{}".to_owned()).contains("not a report"));
        assert!(refused(text.replace("\"format\":1", "\"format\":7")).contains("format 7"));
        let torn = text.replacen("\"intended_us\":[", "\"intended_us\":[1,", 1);
        assert!(refused(torn).contains("the columns of `invocations` do not fit"));
        let unknown = text.replacen("\"cause\":[", "\"cause\":[4000000000,", 1);
        assert!(refused(unknown).contains("`failures`"));
    }
}
