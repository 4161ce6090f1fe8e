//! What a pool has done lately: rates and means of the last seconds, from counters that only grow. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::pool::Totals;
use super::sources::PoolGauges;

/// How far back it is looked.
pub const WINDOW: Duration = Duration::from_secs(10);

/// A pool's counters at one time.
#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    busy: f64,
    totals: Totals,
    /// Connection-time by function.
    functions: HashMap<String, f64>,
}

/// The samples of one pool within the window.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Sample>);

/// What a pool has done in the last [`WINDOW`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recent {
    /// Share of the limit that was in use, on the mean.
    pub utilisation: f64,
    /// Server connections that were in use, on the mean.
    pub erlangs: f64,
    /// N·S/(c·(T+Z)); zero while nothing runs.
    pub collapse_ratio: f64,
    /// Further clients of this kind until that is 1. None while nothing runs.
    pub headroom: Option<f64>,
    /// Transactions finished, per second.
    pub transactions: f64,
    /// Statements completed, per second.
    pub queries: f64,
    /// Errors of PostgreSQL, per second.
    pub errors: f64,
    /// Requests refused per second, in the order of the label's values.
    pub sheds: Vec<f64>,
    /// Connection-time by function, in seconds.
    pub functions: HashMap<String, f64>,
}

impl Window {
    /// Takes a sample, and says what has happened since the one that is as old as the window, or the first.
    pub(super) fn add(&mut self, now: Instant, pool: &PoolGauges, totals: Totals) -> Recent {
        let functions = pool.functions.iter().map(|function| (function.name.clone(), function.held_seconds));
        let sample = Sample { at: now, busy: pool.busy_seconds, totals, functions: functions.collect() };
        let old = |sample: &Sample| now.saturating_duration_since(sample.at) > WINDOW;
        while self.0.len() > 1 && self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
        let recent = self.0.front().map(|before| recent(before, &sample, pool));
        self.0.push_back(sample);
        recent.unwrap_or_default()
    }
}

fn recent(before: &Sample, after: &Sample, pool: &PoolGauges) -> Recent {
    let passed = after.at.saturating_duration_since(before.at).as_secs_f64();
    if passed <= 0.0 {
        return Recent::default();
    }
    let per_second = |count: fn(&Totals) -> u64| {
        count(&after.totals).saturating_sub(count(&before.totals)) as f64 / passed
    };
    let erlangs = ((after.busy - before.busy) / passed).max(0.0);
    let load = Load::of(before, after, passed, pool);
    let since = |(name, held): (&String, &f64)| {
        // One that was among the others before has no past of its own.
        let from = before.functions.get(name).unwrap_or(held);
        (name.clone(), (held - from).max(0.0))
    };
    Recent {
        utilisation: (erlangs / pool.limit.max(1) as f64).min(1.0),
        erlangs,
        collapse_ratio: load.collapse_ratio(),
        headroom: load.headroom(),
        transactions: per_second(|totals| totals.transactions),
        queries: per_second(|totals| totals.queries),
        errors: per_second(|totals| totals.errors),
        sheds: (after.totals.sheds.iter().zip(&before.totals.sheds))
            .map(|(after, before)| after.saturating_sub(*before) as f64 / passed)
            .collect(),
        functions: after.functions.iter().map(since).collect(),
    }
}

/// The terms of the collapse ratio. A queue without deadlines collapses where serving everybody once takes longer than
/// anybody goes without: what it serves then has given up already.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// N, clients.
    clients: f64,
    /// S, seconds for which a transaction holds a server connection. Zero: none has yet.
    hold: f64,
    /// c, server connections.
    limit: f64,
    /// T + Z, seconds for which a client waits and does something else in between. None: nobody asks for anything.
    cycle: Option<f64>,
}

impl Load {
    /// What a client does between its transactions is not seen; by Little's law N clients who ask λ times a second are
    /// away for N/λ less what they wait and hold.
    fn of(before: &Sample, after: &Sample, passed: f64, pool: &PoolGauges) -> Self {
        let (waits, waited) = (
            after.totals.wait.count().saturating_sub(before.totals.wait.count()) as f64,
            after.totals.wait.sum - before.totals.wait.sum,
        );
        let shed = after.totals.shed_sum().saturating_sub(before.totals.shed_sum()) as f64;
        let (asked, clients) = ((waits + shed) / passed, pool.clients as f64);
        let wait = if waits > 0.0 { waited / waits } else { 0.0 };
        let away = |asked: f64| (clients / asked - wait - pool.mean_hold_seconds).max(0.0);
        Self {
            clients,
            hold: pool.mean_hold_seconds,
            limit: pool.limit.max(1) as f64,
            cycle: (asked > 0.0).then(|| pool.patience_seconds + away(asked)),
        }
    }

    fn collapse_ratio(self) -> f64 {
        self.cycle.map_or(0.0, |cycle| self.clients * self.hold / (self.limit * cycle.max(0.001)))
    }

    fn headroom(self) -> Option<f64> {
        let cycle = self.cycle.filter(|_| self.hold > 0.0)?;
        Some((self.limit * cycle / self.hold - self.clients).max(0.0).floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::obs::pool::Distribution;

    fn pool(clients: usize, busy: f64) -> PoolGauges {
        PoolGauges {
            clients,
            busy_seconds: busy,
            limit: 20,
            mean_hold_seconds: 0.05,
            patience_seconds: 3.0,
            ..PoolGauges::default()
        }
    }

    fn totals(granted: u64, waited: f64, shed: u64) -> Totals {
        let wait = Distribution { buckets: vec![granted], sum: waited };
        Totals { transactions: granted, sheds: vec![shed, 0], wait, ..Totals::default() }
    }

    #[test]
    fn means_are_of_the_window() {
        let (mut window, start) = (Window::default(), Instant::now());
        assert_eq!(window.add(start, &pool(10, 100.0), totals(0, 0.0, 0)), Recent::default());
        for second in 1..=30_u32 {
            let busy = 100.0 + f64::from(second) * if second > 15 { 10.0 } else { 1.0 };
            let seen = u64::from(second) * 40;
            let recent =
                window.add(start + Duration::from_secs(second.into()), &pool(10, busy), totals(seen, 0.0, 0));
            assert!((recent.transactions - 40.0).abs() < 0.01, "{recent:?}");
            if second == 30 {
                assert!((recent.erlangs - 10.0).abs() < 0.01 && (recent.utilisation - 0.5).abs() < 0.01);
            }
        }
        assert!(window.0.len() <= 12);
    }

    #[test]
    fn two_thousand_callers_on_twenty_connections_are_beyond_collapse_and_a_thousand_are_not() {
        // Callers who wait 3 s for 50 ms of work, and pause for a second: 400 transactions a second, the others are refused.
        for (clients, beyond) in [(2000, true), (1000, false)] {
            let (mut window, start) = (Window::default(), Instant::now());
            window.add(start, &pool(clients, 0.0), totals(0, 0.0, 0));
            let asked = clients as u64 * 10;
            let after = totals(4000, 400.0, asked - 4000);
            let recent = window.add(start + Duration::from_secs(10), &pool(clients, 200.0), after);
            assert_eq!(recent.collapse_ratio > 1.0, beyond, "{recent:?}");
            assert_eq!(recent.headroom == Some(0.0), beyond, "{recent:?}");
            assert!((recent.utilisation - 1.0).abs() < 0.01, "{recent:?}");
        }
    }

    #[test]
    fn without_a_transaction_there_is_no_ratio_and_no_headroom() {
        let (mut window, start) = (Window::default(), Instant::now());
        window.add(start, &pool(500, 0.0), totals(0, 0.0, 0));
        let recent = window.add(start + Duration::from_secs(1), &pool(500, 0.0), totals(0, 0.0, 0));
        assert_eq!((recent.collapse_ratio, recent.headroom), (0.0, None));
        let same = window.add(start + Duration::from_secs(1), &pool(500, 0.0), totals(9, 0.0, 0));
        assert!(same.transactions.is_finite());
    }
}
