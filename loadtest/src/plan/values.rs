//! Times in plans, as people write them: `"1500ms"`, `"3s"`, `"1m 30s"`.

use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::Duration;

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(Duration);

impl Span {
    /// As the standard library's type.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Whole microseconds.
    #[must_use]
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }

    /// Seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| format!("{text:?} is not a time such as \"500ms\", \"3s\" or \"2m\": {error}"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A pause, fixed or at random.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Delay {
    /// Always as long.
    Fixed(Span),
    /// Anything between, evenly.
    Between {
        /// Shortest.
        min: Span,
        /// Longest.
        max: Span,
    },
    /// Exponentially distributed, as the distances of independent events are; cut off at ten times the mean.
    Mean {
        /// The mean.
        mean: Span,
    },
}

impl Default for Delay {
    fn default() -> Self {
        Self::Fixed(Span::default())
    }
}

impl Delay {
    /// One pause.
    pub fn draw(&self, random: &mut impl Rng) -> Duration {
        match self {
            Self::Fixed(span) => span.duration(),
            Self::Between { min, max } if min < max => random.random_range(min.duration()..=max.duration()),
            Self::Between { min, .. } => min.duration(),
            Self::Mean { mean } => {
                let unit: f64 = random.random();
                let seconds = mean.seconds() * (-(1.0 - unit).ln()).min(10.0);
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
        }
    }

    /// No pause is longer.
    #[must_use]
    pub fn longest(&self) -> Duration {
        match self {
            Self::Fixed(span) => span.duration(),
            Self::Between { max, .. } => max.duration(),
            Self::Mean { mean } => mean.duration().saturating_mul(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn times_are_read_and_written_as_people_write_them() {
        for (text, millis) in [("500ms", 500), ("3s", 3000), ("1m 30s", 90_000)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.duration(), Duration::from_millis(millis));
            assert_eq!(span.to_string(), text);
        }
        assert!("3".parse::<Span>().unwrap_err().contains("not a time"));
    }

    #[test]
    fn pauses_stay_within_their_bounds_and_keep_their_mean() {
        let mut random = SmallRng::seed_from_u64(7);
        let (min, max) = (Span(Duration::from_millis(10)), Span(Duration::from_millis(20)));
        let between = Delay::Between { min, max };
        let exponential = Delay::Mean { mean: min };
        let mut sum = Duration::ZERO;
        for _ in 0..20_000 {
            let drawn = between.draw(&mut random);
            assert!((min.duration()..=max.duration()).contains(&drawn));
            let drawn = exponential.draw(&mut random);
            assert!(drawn <= exponential.longest());
            sum += drawn;
        }
        let mean = sum.as_secs_f64() / 20_000.0;
        assert!((0.0097..0.0103).contains(&mean), "{mean}");
    }

    #[test]
    fn what_no_clock_can_show_is_the_end_of_time() {
        let for_ever = Delay::Mean { mean: Span(Duration::MAX) };
        assert_eq!(for_ever.longest(), Duration::MAX);
        let mut random = SmallRng::seed_from_u64(7);
        assert!((0..100).any(|_| for_ever.draw(&mut random) == Duration::MAX));
    }
}
