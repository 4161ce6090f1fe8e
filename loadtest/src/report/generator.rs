//! Whether the load generator itself was the bottleneck.

use super::summary::nearest_rank;
use super::units::of_micros;
use crate::leg::Leg;

/// Later than this (99th percentile, microseconds), and what the generator adds to every latency can be seen: it is
/// half of the 50 ms that a plan's statement typically takes.
const LATE_US: u64 = 25_000;

/// Busier than this (share of all its cores), and work waits for the generator about four times as long as it takes
/// (utilisation over idleness, 0.8 / 0.2), which would be told as the target's latency.
const BUSY: f64 = 0.8;

/// How close the generator was to its own limits in one leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saturation {
    /// CPU time over wall time and cores: 1 is everything that it could have.
    pub cpu_share: f64,
    /// 99th percentile of its timers' lag, in microseconds.
    pub lag_us: u64,
}

impl Saturation {
    /// In one leg.
    #[must_use]
    pub fn of(leg: &Leg) -> Self {
        let mut lags: Vec<u64> = leg.progress.iter().map(|sample| u64::from(sample.lag_us)).collect();
        lags.sort_unstable();
        let available = of_micros(leg.wall_us) * f64::from(leg.generator.cores);
        let cpu_share = if available > 0.0 { of_micros(leg.generator.cpu_us) / available } else { 0.0 };
        Self { cpu_share, lag_us: nearest_rank(&lags, 99).unwrap_or(0) }
    }

    /// The generator, not the target, was probably what limited this leg.
    #[must_use]
    pub fn is_likely(&self) -> bool {
        self.lag_us > LATE_US || self.cpu_share > BUSY
    }
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;
    use crate::leg::{GeneratorLoad, ProgressSample};

    fn leg(cpu_us: u64, lag_us: u32) -> Leg {
        let plan = synthetic::surge();
        let sample = ProgressSample { at_us: 0, in_flight: 0, connections: 0, lag_us };
        Leg {
            wall_us: 1_000_000,
            generator: GeneratorLoad { cpu_us, cores: 2 },
            progress: vec![sample; 10],
            ..synthetic::empty_leg(&plan)
        }
    }

    #[test]
    fn a_busy_or_late_generator_is_told() {
        assert!(!Saturation::of(&leg(1_500_000, 20_000)).is_likely());
        assert!(Saturation::of(&leg(1_700_000, 0)).is_likely());
        assert!(Saturation::of(&leg(0, 26_000)).is_likely());
        let told = Saturation::of(&leg(500_000, 3));
        assert!((told.cpu_share - 0.25).abs() < 1e-9 && told.lag_us == 3);
    }

    #[test]
    fn a_leg_that_never_began_saturates_nothing() {
        assert!(!Saturation::of(&synthetic::empty_leg(&synthetic::surge())).is_likely());
    }
}
