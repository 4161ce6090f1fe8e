//! Everything recorded of a leg, put together as it comes: what the leg will be, and what is told meanwhile.

use super::Progress;
use super::stage::Record;
use crate::leg::{AttemptFailure, Connect, Invocation, Outcome, ProgressSample};
use std::collections::BTreeMap;
use std::time::Duration;

/// The p99 that is told live is that of what was served within this time.
const RECENT_US: u64 = 5_000_000;

/// And of so many at most: it is computed ten times a second.
const MOST_RECENT: usize = 5_000;

/// What was recorded until now.
#[derive(Debug)]
pub struct Gathered {
    /// It is full with so many invocations, failures and connects.
    most: usize,
    invocations: Vec<Invocation>,
    failures: Vec<AttemptFailure>,
    connects: Vec<Connect>,
    /// By their time; several processes' samples of one time are added up.
    samples: BTreeMap<u64, ProgressSample>,
    /// The newest of each process.
    newest: BTreeMap<u32, ProgressSample>,
    served: u64,
    shed: u64,
    timeouts: u64,
    failed: u64,
}

/// What is left when all records are there, each in the order of its times.
#[derive(Debug)]
pub struct Sorted {
    /// By their ends.
    pub invocations: Vec<Invocation>,
    /// By their times.
    pub failures: Vec<AttemptFailure>,
    /// By their beginnings.
    pub connects: Vec<Connect>,
    /// By their times.
    pub progress: Vec<ProgressSample>,
}

impl Gathered {
    /// Nothing yet. With `most` invocations, failures and connects it is full; it takes more nevertheless.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            invocations: Vec::new(),
            failures: Vec::new(),
            connects: Vec::new(),
            samples: BTreeMap::new(),
            newest: BTreeMap::new(),
            served: 0,
            shed: 0,
            timeouts: 0,
            failed: 0,
        }
    }

    /// It has as many records as it should, with those that invocations under way will be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let coming: usize = self.newest.values().map(|sample| sample.in_flight as usize).sum();
        self.invocations.len() + self.failures.len() + self.connects.len() + coming >= self.most
    }

    /// A record of the process with this number. Returns what is to be told, ten times a second.
    pub fn take(&mut self, process: u32, record: Record) -> Option<Progress> {
        match record {
            Record::Invocation(invocation) => self.take_invocation(invocation),
            Record::Failure(failure) => self.failures.push(failure),
            Record::Connect(connect) => self.connects.push(connect),
            Record::Progress(sample) => return self.take_sample(process, sample),
        }
        None
    }

    /// How far the leg is at this time.
    #[must_use]
    pub fn progress(&self, at_us: u64) -> Progress {
        let sum =
            |of: fn(&ProgressSample) -> u32| self.newest.values().map(|sample| u64::from(of(sample))).sum();
        Progress {
            elapsed: Duration::from_micros(at_us),
            in_flight: sum(|sample| sample.in_flight),
            connections: sum(|sample| sample.connections),
            served: self.served,
            shed: self.shed,
            failed: self.failed,
            timeouts: self.timeouts,
            p99: self.recent_p99(at_us),
            lag: Duration::from_micros(
                self.newest.values().map(|sample| u64::from(sample.lag_us)).max().unwrap_or(0),
            ),
        }
    }

    /// When the last outcome was known.
    #[must_use]
    pub fn last_us(&self) -> u64 {
        self.invocations.iter().map(|invocation| invocation.ended_us).max().unwrap_or(0)
    }

    /// Everything, sorted: records of different tasks and processes come nearly, but not quite in order.
    #[must_use]
    pub fn sorted(mut self) -> Sorted {
        self.invocations.sort_by_key(|invocation| invocation.ended_us);
        self.failures.sort_by_key(|failure| failure.at_us);
        self.connects.sort_by_key(|connect| connect.at_us);
        Sorted {
            invocations: self.invocations,
            failures: self.failures,
            connects: self.connects,
            progress: self.samples.into_values().collect(),
        }
    }

    fn take_invocation(&mut self, invocation: Invocation) {
        match invocation.outcome {
            Outcome::Served => self.served += 1,
            Outcome::Shed => self.shed += 1,
            Outcome::Timeout => self.timeouts += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Aborted | Outcome::Unfinished => {}
        }
        self.invocations.push(invocation);
    }

    fn take_sample(&mut self, process: u32, sample: ProgressSample) -> Option<Progress> {
        let is_first = !self.samples.contains_key(&sample.at_us);
        let all = self
            .samples
            .entry(sample.at_us)
            .or_insert(ProgressSample { at_us: sample.at_us, ..Default::default() });
        all.in_flight += sample.in_flight;
        all.connections += sample.connections;
        all.lag_us = all.lag_us.max(sample.lag_us);
        self.newest.insert(process, sample);
        is_first.then(|| self.progress(sample.at_us))
    }

    fn recent_p99(&self, now_us: u64) -> Option<Duration> {
        let recent = self.invocations.iter().rev().take(MOST_RECENT);
        let recent = recent.take_while(|invocation| invocation.ended_us.saturating_add(RECENT_US) >= now_us);
        let served = recent.filter(|invocation| invocation.outcome == Outcome::Served);
        let mut latencies: Vec<_> = served.map(|one| one.ended_us.saturating_sub(one.intended_us)).collect();
        let rank = (latencies.len() * 99).div_ceil(100).checked_sub(1)?;
        let (_, p99, _) = latencies.select_nth_unstable(rank);
        Some(Duration::from_micros(*p99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(ended_us: u64, latency_us: u64, outcome: Outcome) -> Record {
        let intended_us = ended_us - latency_us;
        let (function, attempts, cold) = (0, 1, false);
        Record::Invocation(Invocation {
            function,
            intended_us,
            started_us: intended_us,
            ended_us,
            attempts,
            cold,
            outcome,
        })
    }

    fn sample(at_us: u64, in_flight: u32, lag_us: u32) -> Record {
        Record::Progress(ProgressSample { at_us, in_flight, connections: in_flight, lag_us })
    }

    #[test]
    fn outcomes_are_counted_and_sorted_by_their_ends() {
        let mut gathered = Gathered::new(1000);
        for (ended, outcome) in [
            (30, Outcome::Shed),
            (20, Outcome::Served),
            (40, Outcome::Timeout),
            (50, Outcome::Failed),
            (10, Outcome::Aborted),
            (60, Outcome::Unfinished),
        ] {
            assert_eq!(gathered.take(0, invocation(ended, 5, outcome)), None);
        }
        let Progress { served, shed, timeouts, failed, .. } = gathered.progress(100);
        assert_eq!((served, shed, timeouts, failed), (1, 1, 1, 1));
        assert_eq!(gathered.last_us(), 60);
        let ends: Vec<_> = gathered.sorted().invocations.iter().map(|one| one.ended_us).collect();
        assert_eq!(ends, [10, 20, 30, 40, 50, 60]);
    }

    #[test]
    fn everything_that_is_kept_for_each_invocation_fills_it() {
        let mut gathered = Gathered::new(4);
        gathered.take(0, sample(100, 3, 20));
        gathered.take(0, sample(200, 1, 20));
        gathered.take(1, sample(200, 1, 20));
        gathered.take(0, invocation(30, 5, Outcome::Shed));
        assert!(!gathered.is_full());
        let (at_us, function, again) = (10, 0, false);
        gathered
            .take(0, Record::Connect(Connect { at_us, function, again, connect_us: None, login_us: None }));
        assert!(gathered.is_full());
    }

    #[test]
    fn the_samples_of_several_processes_are_added_up() {
        let mut gathered = Gathered::new(1000);
        assert_eq!(gathered.take(0, sample(100, 3, 20)).unwrap().in_flight, 3);
        assert_eq!(gathered.take(1, sample(100, 4, 10)), None, "told once");
        let told = gathered.take(1, sample(200, 5, 7)).unwrap();
        assert_eq!((told.in_flight, told.lag.as_micros()), (8, 20));
        let [first, second] = gathered.sorted().progress.try_into().unwrap();
        assert_eq!((first.in_flight, first.connections, first.lag_us), (7, 7, 20));
        assert_eq!((second.in_flight, second.lag_us), (5, 7));
    }

    #[test]
    fn the_live_p99_is_that_of_what_was_served_recently() {
        let mut gathered = Gathered::new(1000);
        assert_eq!(gathered.progress(0).p99, None);
        gathered.take(0, invocation(1_000_000, 900_000, Outcome::Served));
        assert_eq!(gathered.progress(1_000_000).p99, Some(Duration::from_millis(900)));
        for number in 0..100 {
            gathered.take(0, invocation(7_000_000 + number, 1000 + number, Outcome::Served));
            gathered.take(0, invocation(7_000_000 + number, 500_000, Outcome::Timeout));
        }
        assert_eq!(gathered.progress(7_000_100).p99, Some(Duration::from_micros(1098)));
    }
}
