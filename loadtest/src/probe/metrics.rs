//! The probe's metrics: a registry of its own, written by the shell and read by the page.

use super::canary::Tally;
use super::outcome::{Outcome, Reason};
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    exponential_buckets,
};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first bucket's bound; each is twice the one before it.
const SHORTEST_SECONDS: f64 = 0.0005;

/// Up to 16.4 s.
const BUCKETS: usize = 16;

/// Everything that is counted. All methods are quick and may be called from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    success: IntGauge,
    probes: IntCounterVec,
    failures: IntCounterVec,
    phases: HistogramVec,
    in_a_row: IntGauge,
    skipped: IntCounter,
    since_success: Gauge,
    standing: Mutex<Standing>,
}

#[derive(Debug)]
struct Standing {
    started: Instant,
    last_success: Option<Instant>,
    /// Before the first probe there is nothing to say about the last one: its gauge is not in the registry yet.
    has_last: bool,
}

impl Metrics {
    /// All at zero; the probe's uptime begins `now`.
    ///
    /// # Errors
    /// Two metrics have one name, or a name that Prometheus does not take: a fault of this file.
    pub fn new(now: Instant) -> prometheus::Result<Self> {
        let standing = Standing { started: now, last_success: None, has_last: false };
        let metrics = Self {
            registry: Registry::new(),
            success: IntGauge::new("pgcorral_probe_success", "Whether the last probe succeeded: 1 or 0.")?,
            probes: counters("pgcorral_probes_total", "Probes that are over.", "outcome")?,
            failures: counters(
                "pgcorral_probe_failures_total",
                "Probes that failed: the SQLSTATE if it is one of those below, else its class (its first two \
                 characters); `connection`, `timeout`, `protocol`, `other`.",
                "reason",
            )?,
            phases: phases()?,
            in_a_row: IntGauge::new(
                "pgcorral_probe_consecutive_failures",
                "Failures since the last success.",
            )?,
            skipped: IntCounter::new(
                "pgcorral_probe_skipped_total",
                "Probes left out because an earlier one was still under way when they were due.",
            )?,
            since_success: Gauge::new(
                "pgcorral_probe_seconds_since_success",
                "Since the end of the last probe that succeeded; since the start if there was none.",
            )?,
            standing: Mutex::new(standing),
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        let build = Opts::new("pgcorral_probe_build_info", "Which build this is; always 1.")
            .const_label("version", version);
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        for outcome in ["success", "failure"] {
            self.probes.with_label_values(&[outcome]);
        }
        for reason in Reason::expected() {
            self.failures.with_label_values(&[reason.label()]);
        }
        self.registry.register(Box::new(build))?;
        self.registry.register(Box::new(self.probes.clone()))?;
        self.registry.register(Box::new(self.failures.clone()))?;
        self.registry.register(Box::new(self.phases.clone()))?;
        self.registry.register(Box::new(self.in_a_row.clone()))?;
        self.registry.register(Box::new(self.skipped.clone()))?;
        self.registry.register(Box::new(self.since_success.clone()))
    }

    /// A probe is over, and `tally` has counted it.
    pub fn note(&self, outcome: &Outcome, tally: &Tally) {
        let succeeded = outcome.fault.is_none();
        self.probes.with_label_values(&[if succeeded { "success" } else { "failure" }]).inc();
        if let Some(fault) = &outcome.fault {
            self.failures.with_label_values(&[fault.reason.label()]).inc();
        }
        for (phase, took) in outcome.phases.ended() {
            self.phases.with_label_values(&[phase.name()]).observe(took.as_secs_f64());
        }
        if succeeded {
            self.phases.with_label_values(&["total"]).observe(outcome.total.as_secs_f64());
        }
        self.in_a_row.set(i64::from(tally.in_a_row));
        self.skipped.inc_by(tally.skipped.saturating_sub(self.skipped.get()));
        self.success.set(i64::from(succeeded));
        self.stand(tally.last_success);
    }

    fn stand(&self, last_success: Option<Instant>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.last_success = last_success;
        if !standing.has_last {
            standing.has_last = self.registry.register(Box::new(self.success.clone())).is_ok();
        }
    }

    fn since_success(&self, now: Instant) -> Duration {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(standing.last_success.unwrap_or(standing.started))
    }

    /// The text of a scrape.
    ///
    /// # Errors
    /// The encoder refuses a metric: a fault of this file.
    pub fn render(&self, now: Instant) -> prometheus::Result<String> {
        self.since_success.set(self.since_success(now).as_secs_f64());
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counters(name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), &[label])
}

fn phases() -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(
        "pgcorral_probe_phase_seconds",
        "What the phases took that came to their end; `total` only of probes that succeeded.",
    );
    let options = options.buckets(exponential_buckets(SHORTEST_SECONDS, 2.0, BUCKETS)?);
    let phases = HistogramVec::new(options, &["phase"])?;
    for phase in ["connect", "login", "transaction", "write", "total"] {
        phases.with_label_values(&[phase]);
    }
    Ok(phases)
}

#[cfg(test)]
mod tests {
    use super::super::outcome::{Fault, Phase, Phases};
    use super::*;

    fn outcome(fault: Option<Fault>) -> Outcome {
        let phases = Phases { connect: Some(Duration::from_millis(1)), ..Phases::default() };
        Outcome { phases, total: Duration::from_millis(3), fault }
    }

    /// The value of a series, written as the page writes it.
    fn value(page: &str, series: &str) -> Option<f64> {
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn before_the_first_probe_nothing_is_said_about_the_last() {
        let start = Instant::now();
        let page = Metrics::new(start).unwrap().render(start + Duration::from_secs(7)).unwrap();
        assert_eq!(value(&page, "pgcorral_probe_success "), None);
        assert_eq!(value(&page, "pgcorral_probes_total{outcome=\"success\"}"), Some(0.0));
        assert_eq!(value(&page, "pgcorral_probe_failures_total{reason=\"53\"}"), Some(0.0));
        assert_eq!(value(&page, "pgcorral_probe_seconds_since_success "), Some(7.0));
    }

    #[test]
    fn a_success_and_a_failure_move_their_values() {
        let start = Instant::now();
        let metrics = Metrics::new(start).unwrap();
        let mut tally = Tally { succeeded: 1, last_success: Some(start), ..Tally::default() };
        metrics.note(&outcome(None), &tally);
        let page = metrics.render(start).unwrap();
        assert_eq!(value(&page, "pgcorral_probe_success "), Some(1.0));
        assert_eq!(value(&page, "pgcorral_probe_phase_seconds_count{phase=\"total\"}"), Some(1.0));
        assert_eq!(
            value(&page, "pgcorral_probe_phase_seconds_bucket{phase=\"connect\",le=\"0.0005\"}"),
            Some(0.0)
        );
        assert_eq!(
            value(&page, "pgcorral_probe_phase_seconds_bucket{phase=\"connect\",le=\"0.001\"}"),
            Some(1.0)
        );

        tally = Tally { failed: 2, in_a_row: 2, skipped: 4, ..tally };
        metrics.note(&outcome(Some(Fault::from_server(Phase::Login, "28P01", "no"))), &tally);
        let page = metrics.render(start + Duration::from_secs(90)).unwrap();
        assert_eq!(value(&page, "pgcorral_probe_success "), Some(0.0));
        assert_eq!(value(&page, "pgcorral_probe_consecutive_failures "), Some(2.0));
        assert_eq!(value(&page, "pgcorral_probe_failures_total{reason=\"28P01\"}"), Some(1.0));
        assert_eq!(value(&page, "pgcorral_probe_phase_seconds_count{phase=\"total\"}"), Some(1.0));
        assert_eq!(value(&page, "pgcorral_probe_skipped_total "), Some(4.0));
        assert_eq!(value(&page, "pgcorral_probe_seconds_since_success "), Some(90.0));
    }

    /// `docs/probe.md` has a row for each metric, word for word, and no other.
    #[test]
    fn the_documentation_has_the_same_metrics() {
        let metrics = Metrics::new(Instant::now()).unwrap();
        metrics.note(&outcome(None), &Tally::default());
        let page = metrics.render(Instant::now()).unwrap();
        let documentation = include_str!("../../../docs/probe.md");
        let documented: Vec<_> =
            documentation.lines().filter(|line| line.starts_with("| `pgcorral_probe")).collect();
        assert_eq!(documented, rows(&page), "{:#?}", rows(&page));
        for reason in Reason::expected() {
            assert!(documentation.contains(&format!("`{}`", reason.label())), "{reason:?}");
        }
    }

    /// Name, type, labels and help of a page's metrics, in its order.
    fn rows(page: &str) -> Vec<String> {
        let names = page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
        let row = |(name, help): (&str, &str)| {
            let kind = page.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")));
            let labels = labels(page, name).map(|label| format!("`{label}`")).unwrap_or_default();
            format!("| `{name}` | {} | {labels} | {help} |", kind.unwrap_or_default())
        };
        names.map(row).collect()
    }

    /// The label of a metric; none has several.
    fn labels<'a>(page: &'a str, name: &str) -> Option<&'a str> {
        let series = page.lines().find(|line| line.starts_with(name) && line.contains('{'))?;
        let rest = series.strip_prefix(name)?.trim_start_matches(|c: char| c != '{');
        Some(rest.strip_prefix('{')?.split_once('=')?.0)
    }

    #[test]
    fn every_name_begins_alike() {
        let page = Metrics::new(Instant::now()).unwrap().render(Instant::now()).unwrap();
        let types: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        assert!(types.len() >= 7, "{page}");
        assert!(types.iter().all(|line| line.starts_with("# TYPE pgcorral_probe")), "{types:?}");
    }
}
