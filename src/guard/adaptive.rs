//! How many transactions at once are good for the database: a limit between the number of cores and the operator's
//! budget, found by trying.
//!
//! Every few seconds the limit is moved by a step, and what followed from the step decides whether it stays:
//!
//! - it went down because requests took long: it stays down if they are faster now and as many are done as before. If
//!   fewer are done, or they are not faster, it goes back up and rests there;
//! - it went up because requests were fast: it stays up if clearly more are done. If not, it goes back down.
//!
//! So congestion of processors or disks brings it down: there, fewer at once are faster. Waits for a lock do not: with fewer
//! at once either less is done, or nobody is faster. "Long" is measured against what the same class of statements took
//! when it was fast, so that a change in what clients ask for is not taken for congestion.
//!
//! Pure: who calls it counts requests and applies the limit.

use std::time::{Duration, Instant};

/// Fewer say nothing about a ninth decile.
const LEAST_SAMPLES: u64 = 50;
/// Classes that are told apart; more share their baselines.
const CLASSES: usize = 256;
/// Part of the limit by which it moves; from 100 to 10 in a dozen steps.
const STEP: f64 = 0.2;
/// A step up has to bring this part of what it could, a step down may cost it: of 20 % more, 6 % more done.
const WORTH: f64 = 0.3;
/// Requests that take this many times what they once did: the database is busy with too many.
const CONGESTED: f64 = 1.5;
/// Below this there is room for more.
const AT_EASE: f64 = 1.2;
/// Windows of rest after a step that was taken back; twice as many after each further one.
const REST: u32 = 4;
const LONGEST_REST: u32 = 32;
/// How fast a baseline follows requests that have become slower, for each window: by a half in five minutes.
const DRIFT: f64 = 0.01;

/// Parameters of the limit.
#[derive(Debug, Clone, Copy)]
pub struct AdaptiveParams {
    /// Never below: the cores of the database's machine. At least one.
    pub min: usize,
    /// Never above, and where it begins: the operator's budget.
    pub max: usize,
    /// Least time between two steps. 3 to 5 s.
    pub interval: Duration,
}

/// Why the limit is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known yet.
    Started,
    /// Held: too few requests to judge.
    FewSamples,
    /// Held: fewer were under way than might have been.
    NotBinding,
    /// Held: requests are neither fast nor slow, or a step was taken back not long ago.
    Steady,
    /// Down: requests take long.
    Congested,
    /// Down: to see whether fewer at once would be faster.
    Probing,
    /// Down further: the last step made requests faster and cost nothing.
    Relieved,
    /// Back up: fewer were done.
    LostThroughput,
    /// Back up: nobody was faster, so it is not the number at once. Locks, mostly.
    NoRelief,
    /// Up: requests are fast.
    Headroom,
    /// Up further: more were done.
    Gained,
    /// Back down: not clearly more were done.
    NoGain,
}

impl Verdict {
    /// The metric's and the log's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::FewSamples => "few_samples",
            Self::NotBinding => "not_binding",
            Self::Steady => "steady",
            Self::Congested => "congested",
            Self::Probing => "probing",
            Self::Relieved => "relieved",
            Self::LostThroughput => "lost_throughput",
            Self::NoRelief => "no_relief",
            Self::Headroom => "headroom",
            Self::Gained => "gained",
            Self::NoGain => "no_gain",
        }
    }
}

/// The limit now, for metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveSnapshot {
    /// Most transactions at once.
    pub limit: usize,
    /// What the last evaluation said.
    pub verdict: Verdict,
    /// Ninth decile of what requests took against their baseline, in the last window that was judged. Zero: none was.
    pub slowness: f64,
}

/// What requests of one class take.
#[derive(Debug, Clone, Copy, Default)]
struct Class {
    /// When all went well: natural logarithm of seconds.
    baseline: Option<f64>,
    /// Sum of the logarithms in this window.
    sum: f64,
    count: u32,
}

/// One window with its limit.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    limit: usize,
    slowness: f64,
    throughput: f64,
}

/// Of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// The limit and what it was learnt from.
#[derive(Debug)]
pub struct Adaptive {
    params: AdaptiveParams,
    limit: usize,
    classes: Box<[Class]>,
    ratios: Ratios,
    window_start: Option<Instant>,
    /// The window before the step whose outcome is awaited.
    before: Option<Outcome>,
    last: Option<Outcome>,
    /// The last step that was taken back.
    in_vain: Option<Direction>,
    resting: u32,
    rest: u32,
    verdict: Verdict,
}

impl Adaptive {
    /// Begins at the operator's budget: without evidence nothing is held back.
    pub fn new(params: AdaptiveParams) -> Self {
        let params =
            AdaptiveParams { min: params.min.clamp(1, params.max.max(1)), max: params.max.max(1), ..params };
        Adaptive {
            params,
            limit: params.max,
            classes: vec![Class::default(); CLASSES].into_boxed_slice(),
            ratios: Ratios::default(),
            window_start: None,
            before: None,
            last: None,
            in_vain: None,
            resting: REST,
            rest: REST,
            verdict: Verdict::Started,
        }
    }

    /// A request of this class of statements (a hash; equal for equal work) took so long at the database.
    pub fn sample(&mut self, class: u32, exec: Duration) {
        let class = &mut self.classes[class as usize % CLASSES];
        let log = exec.as_secs_f64().max(1e-6).ln();
        class.sum += log;
        class.count = class.count.saturating_add(1);
        if let Some(baseline) = class.baseline {
            self.ratios.add(log - baseline);
        }
    }

    /// To be called about once a second. `in_flight_max`: most transactions at once, and `completed`: requests done, both since
    /// the last evaluation that judged or gave up a window ([`Adaptive::window_start`] tells). The new limit if it moves.
    pub fn evaluate(&mut self, now: Instant, in_flight_max: usize, completed: u64) -> Option<usize> {
        let start = *self.window_start.get_or_insert(now);
        let elapsed = now.saturating_duration_since(start);
        if elapsed < self.params.interval {
            return None;
        }
        if completed < LEAST_SAMPLES || self.samples() < LEAST_SAMPLES {
            // The window goes on until there are enough.
            self.verdict = Verdict::FewSamples;
            return None;
        }
        let slowness = self.ratios.ninth_decile();
        let outcome =
            Outcome { limit: self.limit, slowness, throughput: completed as f64 / elapsed.as_secs_f64() };
        let judged = self.ratios.count >= LEAST_SAMPLES;
        self.end_window(now);
        let from = self.limit;
        let (verdict, limit) = match () {
            () if in_flight_max < self.limit => self.hold(Verdict::NotBinding),
            () if !judged => self.hold(Verdict::Started),
            () => self.judge(outcome),
        };
        self.verdict = verdict;
        self.limit = limit.clamp(self.params.min, self.params.max);
        self.last = Some(outcome);
        (self.limit != from).then_some(self.limit)
    }

    /// Since when the callers' two numbers count. None: from the first evaluation on.
    pub fn window_start(&self) -> Option<Instant> {
        self.window_start
    }

    /// Most transactions at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A new budget or number of cores.
    pub fn resize(&mut self, min: usize, max: usize) {
        let max = max.max(1);
        self.params = AdaptiveParams { min: min.clamp(1, max), max, ..self.params };
        self.limit = self.limit.clamp(self.params.min, max);
        self.before = None;
    }

    /// The limit now.
    pub fn snapshot(&self) -> AdaptiveSnapshot {
        let slowness = self.last.map_or(0.0, |last| last.slowness);
        AdaptiveSnapshot { limit: self.limit, verdict: self.verdict, slowness }
    }

    fn hold(&mut self, verdict: Verdict) -> (Verdict, usize) {
        // What a step has brought can no longer be told.
        self.before = None;
        (verdict, self.limit)
    }

    fn judge(&mut self, now: Outcome) -> (Verdict, usize) {
        match self.before.take() {
            Some(before) if before.limit > now.limit => self.judge_fewer(before, now),
            Some(before) => self.judge_more(before, now),
            None if self.resting > 0 => {
                self.resting -= 1;
                (Verdict::Steady, self.limit)
            }
            None => self.step_from(now),
        }
    }

    /// Where to, without a step whose outcome is awaited. What was in vain is not tried again before the other direction was;
    /// a limit that has no reason to move is tried downwards, for its baselines may have been learnt when it was too
    /// high already.
    fn step_from(&mut self, now: Outcome) -> (Verdict, usize) {
        let (lowest, highest) = (self.limit == self.params.min, self.limit == self.params.max);
        match self.in_vain.take() {
            _ if lowest => self.up(Verdict::Headroom, now),
            Some(Direction::Down) if !highest => self.up(Verdict::Headroom, now),
            None if now.slowness < AT_EASE && !highest => self.up(Verdict::Headroom, now),
            _ if now.slowness > CONGESTED => self.down(Verdict::Congested, now),
            _ => self.down(Verdict::Probing, now),
        }
    }

    fn judge_fewer(&mut self, before: Outcome, now: Outcome) -> (Verdict, usize) {
        let step = 1.0 - now.limit as f64 / before.limit as f64;
        let lost = 1.0 - now.throughput / before.throughput;
        let relief = 1.0 - now.slowness / before.slowness;
        match () {
            () if lost > WORTH * step => self.take_back(Verdict::LostThroughput, before),
            () if relief < WORTH * step => self.take_back(Verdict::NoRelief, before),
            () => {
                self.rest = REST;
                self.down(Verdict::Relieved, now)
            }
        }
    }

    fn judge_more(&mut self, before: Outcome, now: Outcome) -> (Verdict, usize) {
        let step = now.limit as f64 / before.limit as f64 - 1.0;
        let gain = now.throughput / before.throughput - 1.0;
        if gain < WORTH * step {
            return self.take_back(Verdict::NoGain, before);
        }
        self.rest = REST;
        self.up(Verdict::Gained, now)
    }

    fn take_back(&mut self, verdict: Verdict, before: Outcome) -> (Verdict, usize) {
        self.in_vain = Some(if before.limit > self.limit { Direction::Down } else { Direction::Up });
        self.resting = self.rest;
        self.rest = (self.rest * 2).min(LONGEST_REST);
        (verdict, before.limit)
    }

    fn down(&mut self, verdict: Verdict, now: Outcome) -> (Verdict, usize) {
        self.step(verdict, now, self.limit.saturating_sub(self.size_of_step()).max(self.params.min))
    }

    fn up(&mut self, verdict: Verdict, now: Outcome) -> (Verdict, usize) {
        self.step(verdict, now, (self.limit + self.size_of_step()).min(self.params.max))
    }

    fn step(&mut self, verdict: Verdict, now: Outcome, limit: usize) -> (Verdict, usize) {
        if limit == self.limit {
            return (Verdict::Steady, limit);
        }
        self.before = Some(now);
        (verdict, limit)
    }

    fn size_of_step(&self) -> usize {
        ((self.limit as f64 * STEP).round() as usize).max(1)
    }

    fn samples(&self) -> u64 {
        self.classes.iter().map(|class| u64::from(class.count)).sum()
    }

    fn end_window(&mut self, now: Instant) {
        self.window_start = Some(now);
        self.ratios = Ratios::default();
        for class in &mut self.classes {
            class.end_window();
        }
    }
}

impl Class {
    /// Faster is believed by half at once, slower by little: it is more likely to be congestion than the statement.
    fn end_window(&mut self) {
        if self.count == 0 {
            return;
        }
        let mean = self.sum / f64::from(self.count);
        self.baseline = Some(match self.baseline {
            None => mean,
            Some(baseline) if mean < baseline => (baseline + mean) / 2.0,
            Some(baseline) => mean.min(baseline + DRIFT),
        });
        (self.sum, self.count) = (0.0, 0);
    }
}

/// A histogram of how much longer requests took than their baseline: four buckets for each doubling, from a sixteenth
/// to 2^12 times.
#[derive(Debug, Clone)]
struct Ratios {
    buckets: [u32; 64],
    count: u64,
}

impl Default for Ratios {
    fn default() -> Self {
        Ratios { buckets: [0; 64], count: 0 }
    }
}

impl Ratios {
    /// By its natural logarithm.
    fn add(&mut self, log: f64) {
        let bucket = (log / std::f64::consts::LN_2 + 4.0) * 4.0;
        let bucket = &mut self.buckets[bucket.clamp(0.0, 63.0) as usize];
        *bucket = bucket.saturating_add(1);
        self.count += 1;
    }

    /// Within a bucket, as if its values were spread evenly.
    fn ninth_decile(&self) -> f64 {
        let wanted = self.count as f64 * 0.9;
        let mut below = 0.0;
        for (number, count) in self.buckets.iter().enumerate() {
            let count = f64::from(*count);
            if below + count >= wanted && count > 0.0 {
                let at = number as f64 + (wanted - below) / count;
                return (at / 4.0 - 4.0).exp2();
            }
            below += count;
        }
        0.0
    }
}
