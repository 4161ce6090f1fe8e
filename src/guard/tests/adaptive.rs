//! The adaptive limit against models of databases, window by window, over many seeds.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::guard::adaptive::{Adaptive, AdaptiveParams, Verdict};

const CORES: usize = 2;
const BUDGET: usize = 100;
const INTERVAL: Duration = Duration::from_secs(4);

/// What a database does with so many at once: requests in a second, and the seconds that one of each class takes.
type Model = fn(f64) -> (f64, [f64; 2]);

/// Two cores, 5 ms of work for each request; each one more at once costs all of them a little.
fn cpu(n: f64) -> (f64, [f64; 2]) {
    let rate = n.min(CORES as f64) / 0.005 / (1.0 + 0.004 * (n - CORES as f64).max(0.0));
    (rate, [n / rate; 2])
}

/// 10 ms of waiting for a disk that serves as many as may come, and half a millisecond of work.
fn disk(n: f64) -> (f64, [f64; 2]) {
    let rate = (n / 0.010_5).min(CORES as f64 / 0.000_5);
    (rate, [n / rate; 2])
}

/// A third of all requests take a lock for 20 ms, the others 5 ms of work.
fn convoy(n: f64) -> (f64, [f64; 2]) {
    let rate = (n / 0.010).min(150.0);
    (rate, [n / rate * 3.0 - 0.010, 0.005])
}

/// Everybody waits for somebody who is none of ours, and it does not matter how many wait.
fn stuck(_: f64) -> (f64, [f64; 2]) {
    (100.0, [0.5, 0.5])
}

struct Simulation {
    adaptive: Adaptive,
    now: Instant,
    random: SmallRng,
    lowest: usize,
    steps: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let adaptive = Adaptive::new(AdaptiveParams { min: CORES, max: BUDGET, interval: INTERVAL });
        let random = SmallRng::seed_from_u64(seed);
        let mut simulation = Simulation { adaptive, now: Instant::now(), random, lowest: BUDGET, steps: 0 };
        assert_eq!(simulation.adaptive.evaluate(simulation.now, 0, 0), None);
        simulation
    }

    /// So many windows with more demand than the limit. The mean throughput against what this database would do at best,
    /// over the second half.
    fn run(&mut self, windows: usize, model: Model) -> f64 {
        let best = (CORES..=BUDGET).map(|n| model(n as f64).0).fold(0.0, f64::max);
        let mut done = 0.0;
        for window in 0..windows {
            let limit = self.adaptive.limit();
            let (rate, takes) = model(limit as f64);
            let count = self.count(rate * INTERVAL.as_secs_f64());
            self.window(limit, count, takes);
            done += if window * 2 >= windows { rate } else { 0.0 };
        }
        done / (windows - windows.div_ceil(2)) as f64 / best
    }

    fn window(&mut self, in_flight: usize, count: u64, takes: [f64; 2]) {
        let limit = self.adaptive.limit();
        // A part of them is enough for a decile, and keeps the test short.
        for _ in 0..count.min(300) {
            let class = usize::from(self.random.random_bool(2.0 / 3.0));
            let spread = (self.normal() * 0.4).exp();
            self.adaptive.sample(class as u32, Duration::from_secs_f64(takes[class] * spread));
        }
        self.now += INTERVAL;
        let moved = self.adaptive.evaluate(self.now, in_flight, count);
        assert_eq!(moved.unwrap_or(limit), self.adaptive.limit());
        assert!((CORES..=BUDGET).contains(&self.adaptive.limit()));
        self.steps += usize::from(moved.is_some());
        self.lowest = self.lowest.min(self.adaptive.limit());
    }

    /// About a Poisson number.
    fn count(&mut self, mean: f64) -> u64 {
        (mean + self.normal() * mean.sqrt()).max(0.0).round() as u64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random.random_range(0.0..1.0)).sum::<f64>() - 6.0
    }
}

#[test]
fn too_many_for_the_cores_come_down_to_what_does_most() {
    for seed in 0..6 {
        let mut simulation = Simulation::new(seed);
        let part = simulation.run(150, cpu);
        assert!(part >= 0.95, "seed {seed}: {part:.3} of the best, limit {}", simulation.adaptive.limit());
        assert!(simulation.adaptive.limit() <= 20, "seed {seed}: {}", simulation.adaptive.limit());
    }
}

#[test]
fn where_many_at_once_do_more_they_are_let_be() {
    for seed in 0..6 {
        let mut simulation = Simulation::new(seed);
        let part = simulation.run(150, disk);
        assert!(part >= 0.95, "seed {seed}: {part:.3} of the best, limit {}", simulation.adaptive.limit());
    }
}

#[test]
fn a_lock_convoy_costs_no_throughput_and_leaves_no_trace() {
    for seed in 0..6 {
        let mut simulation = Simulation::new(seed);
        simulation.run(100, disk);
        let part = simulation.run(100, convoy);
        assert!(part >= 0.93, "seed {seed}: {part:.3} of the best, limit {}", simulation.adaptive.limit());
        let part = simulation.run(200, disk);
        assert!(part >= 0.93, "seed {seed}: {part:.3} afterwards, limit {}", simulation.adaptive.limit());
    }
}

#[test]
fn waiting_for_somebody_else_does_not_bring_it_down() {
    for seed in 0..6 {
        let mut simulation = Simulation::new(seed);
        simulation.run(50, disk);
        let before = simulation.adaptive.limit();
        simulation.lowest = before;
        simulation.run(75, stuck);
        assert!(simulation.lowest * 2 >= before, "seed {seed}: from {before} to {}", simulation.lowest);
    }
}

#[test]
fn from_the_cores_it_comes_back_up_when_the_load_is_of_another_kind() {
    for seed in 0..6 {
        let mut simulation = Simulation::new(seed);
        simulation.run(150, cpu);
        let part = simulation.run(300, disk);
        assert!(part >= 0.9, "seed {seed}: {part:.3} of the best, limit {}", simulation.adaptive.limit());
    }
}

#[test]
fn few_samples_and_a_limit_that_does_not_bind_move_nothing() {
    let mut simulation = Simulation::new(1);
    for _ in 0..50 {
        simulation.window(BUDGET - 1, 400, [0.005; 2]);
    }
    assert_eq!((simulation.steps, simulation.adaptive.snapshot().verdict), (0, Verdict::NotBinding));
    for _ in 0..50 {
        simulation.window(BUDGET - 1, 400, [5.0; 2]);
    }
    assert_eq!(simulation.steps, 0, "however slow they are");
    simulation.window(BUDGET, 49, [5.0; 2]);
    assert_eq!((simulation.steps, simulation.adaptive.snapshot().verdict), (0, Verdict::FewSamples));
}

#[test]
fn other_statements_are_not_congestion() {
    let mut simulation = Simulation::new(3);
    simulation.run(60, disk);
    let before = simulation.adaptive.limit();
    for _ in 0..3 {
        // A class that was never seen before takes a second each.
        for _ in 0..400 {
            simulation.adaptive.sample(77, Duration::from_secs(1));
        }
        simulation.now += INTERVAL;
        assert_ne!(simulation.adaptive.evaluate(simulation.now, BUDGET, 400), Some(0));
        assert_ne!(simulation.adaptive.snapshot().verdict, Verdict::Congested);
    }
    assert!(simulation.adaptive.limit() * 2 > before);
}

#[test]
fn bounds_that_move_are_kept() {
    let mut adaptive = Adaptive::new(AdaptiveParams { min: 8, max: 4, interval: INTERVAL });
    assert_eq!(adaptive.limit(), 4, "the budget counts more than the cores");
    adaptive.resize(2, 3);
    assert_eq!(adaptive.limit(), 3);
    adaptive.resize(5, 50);
    assert_eq!(adaptive.limit(), 5);
}
