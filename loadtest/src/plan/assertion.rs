//! What a plan says has to hold: `"goodput >= 0.95"`, `"p99{api}@surge <= 120ms"`, `"max_backends <= 20"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// `METRIC{FUNCTION}@PHASE COMPARISON LIMIT`; function and phase may be absent, then all count.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    /// What is looked at.
    pub metric: Metric,
    /// Of one function only.
    pub function: Option<String>,
    /// Invocations that were due in one phase only.
    pub phase: Option<String>,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what; seconds where the metric is a time.
    pub limit: f64,
}

/// `<=`, `>=`, `==`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
}

impl Comparison {
    /// Whether `value` is as it should be.
    #[must_use]
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtMost => value <= limit,
            Self::AtLeast => value >= limit,
            Self::Equal => (value - limit).abs() < 1e-9,
        }
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// What an assertion looks at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Metric {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Metric {
            /// Every metric.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As plans and reports write it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

metrics! {
    /// Invocations that were due, without those that the plan aborted, and without those that were cut off when somebody
    /// interrupted the leg.
    Offered = "offered",
    /// Invocations that were served before the client's timeout.
    Served = "served",
    /// `served / offered`.
    Goodput = "goodput",
    /// `served` per second of the phase (of the plan's duration).
    GoodputPerSecond = "goodput_per_second",
    /// `goodput_per_second` over the plan's `capacity`.
    OfCapacity = "of_capacity",
    /// Invocations whose last attempt was shed.
    Shed = "shed",
    /// Invocations whose last attempt timed out.
    Timeouts = "timeouts",
    /// Invocations that had no outcome when the leg's time and grace were over.
    Unfinished = "unfinished",
    /// Invocations whose last attempt failed in another way.
    Failed = "failed",
    /// Failed attempts that were neither shed nor timed out.
    ErrorsOutsideContract = "errors_outside_contract",
    /// Median latency of those served, from the intended start.
    P50 = "p50",
    /// 90th percentile.
    P90 = "p90",
    /// 99th percentile.
    P99 = "p99",
    /// The longest.
    Max = "max",
    /// Attempts to connect.
    Connects = "connects",
    /// Attempts to connect of instances that had been connected before.
    Reconnects = "reconnects",
    /// The most backends that two looks in a row at `pg_stat_activity` agree on.
    MaxBackends = "max_backends",
    /// Sessions that PostgreSQL opened in the observer's database during the leg.
    Sessions = "sessions",
    /// Statements that PostgreSQL ran for clients that never heard of it.
    Unheard = "unheard_statements",
}

impl Metric {
    /// Its unit is the second.
    #[must_use]
    pub fn is_time(self) -> bool {
        matches!(self, Self::P50 | Self::P90 | Self::P99 | Self::Max)
    }

    /// It can be told for one function or phase.
    #[must_use]
    pub fn is_scoped(self) -> bool {
        !matches!(self, Self::MaxBackends | Self::Sessions | Self::Unheard)
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.name())?;
        if let Some(function) = &self.function {
            write!(f, "{{{function}}}")?;
        }
        if let Some(phase) = &self.phase {
            write!(f, "@{phase}")?;
        }
        let comparison = match self.comparison {
            Comparison::AtMost => "<=",
            Comparison::AtLeast => ">=",
            Comparison::Equal => "==",
        };
        if self.metric.is_time() {
            let limit = std::time::Duration::try_from_secs_f64(self.limit).unwrap_or_default();
            return write!(f, " {comparison} {}", humantime::format_duration(limit));
        }
        write!(f, " {comparison} {}", self.limit)
    }
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (subject, comparison, limit) = split(text).ok_or_else(|| {
            format!("{text:?} has no comparison: METRIC <= LIMIT, METRIC >= LIMIT, METRIC == LIMIT")
        })?;
        let (subject, phase) = match subject.split_once('@') {
            Some((subject, phase)) => (subject, Some(phase.trim().to_owned())),
            None => (subject, None),
        };
        let (name, function) = match subject.trim().split_once('{') {
            Some((name, rest)) => {
                let function =
                    rest.strip_suffix('}').ok_or_else(|| format!("{text:?}: a brace is not closed"))?;
                (name, Some(function.to_owned()))
            }
            None => (subject.trim(), None),
        };
        let metric = metric_of(name)?;
        if !metric.is_scoped() && (function.is_some() || phase.is_some()) {
            return Err(format!("{text:?}: PostgreSQL counts {name} for the whole leg only"));
        }
        Ok(Self { metric, function, phase, comparison, limit: limit_of(metric, limit)? })
    }
}

fn split(text: &str) -> Option<(&str, Comparison, &str)> {
    [("<=", Comparison::AtMost), (">=", Comparison::AtLeast), ("==", Comparison::Equal)].into_iter().find_map(
        |(sign, comparison)| text.split_once(sign).map(|(left, right)| (left, comparison, right.trim())),
    )
}

fn metric_of(name: &str) -> Result<Metric, String> {
    Metric::ALL.iter().copied().find(|metric| metric.name() == name).ok_or_else(|| {
        let names: Vec<_> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        format!("there is no metric {name:?}; there are {}", names.join(", "))
    })
}

fn limit_of(metric: Metric, text: &str) -> Result<f64, String> {
    if metric.is_time() {
        return text.parse::<super::Span>().map(super::Span::seconds);
    }
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

impl<'de> Deserialize<'de> for Assertion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Assertion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in [
            "max_backends <= 20",
            "goodput >= 0.95",
            "errors_outside_contract == 0",
            "p99{api}@surge <= 120ms",
            "of_capacity@after >= 0.9",
            "served{web} == 1000",
            "unfinished{api}@surge == 0",
        ] {
            assert_eq!(text.parse::<Assertion>().unwrap().to_string(), text);
        }
        let assertion: Assertion = "p99{api}@surge <= 120ms".parse().unwrap();
        assert_eq!((assertion.function.as_deref(), assertion.phase.as_deref()), (Some("api"), Some("surge")));
        assert!((assertion.limit - 0.12).abs() < 1e-12);
    }

    #[test]
    fn a_mistake_is_told() {
        for (text, told) in [
            ("goodput", "no comparison"),
            ("godput >= 1", "there is no metric \"godput\""),
            ("p99 <= 3", "not a time"),
            ("goodput >= much", "not a number"),
            ("goodput{api >= 1", "not closed"),
            ("max_backends@surge <= 20", "whole leg"),
        ] {
            let error = text.parse::<Assertion>().unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn limits_belong_to_what_is_allowed() {
        assert!(Comparison::AtMost.holds(20.0, 20.0) && !Comparison::AtMost.holds(21.0, 20.0));
        assert!(Comparison::AtLeast.holds(0.95, 0.95) && !Comparison::AtLeast.holds(0.94, 0.95));
        assert!(Comparison::Equal.holds(0.0, 0.0) && !Comparison::Equal.holds(1.0, 0.0));
    }
}
