//! How long a client pauses before it tries again.

use crate::plan::Backoff;
use rand::Rng;
use std::time::Duration;

/// An instance whose last attempt failed pauses so long at least, whatever the plan says, before its next one: at a target
/// that refuses at once, it would spin.
pub const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// The pause before the `retry`th retry (the first is 1): `base · factor^(retry - 1)`, at most `max`, of which `jitter`
/// is the random part. If the plan honours it, `retry_after` is the pause instead, as it is.
pub fn pause(
    backoff: &Backoff,
    retry: u16,
    retry_after: Option<Duration>,
    random: &mut impl Rng,
) -> Duration {
    if let Some(told) = retry_after.filter(|_| backoff.honour_retry_after) {
        return told;
    }
    let max = backoff.max.seconds();
    let grown = backoff.base.seconds() * backoff.factor.powi(i32::from(retry.max(1)) - 1);
    // Beyond a float's range it is infinite (or, from a base of zero, no number): `min` takes the bound then.
    let longest = if backoff.base.duration().is_zero() { 0.0 } else { grown.min(max) };
    let unit: f64 = random.random();
    Duration::try_from_secs_f64(longest * (1.0 - backoff.jitter * unit)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Span;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn exact() -> Backoff {
        Backoff {
            base: Span::from(Duration::from_millis(100)),
            factor: 2.0,
            max: Span::from(Duration::from_millis(700)),
            jitter: 0.0,
            honour_retry_after: false,
        }
    }

    fn random() -> SmallRng {
        SmallRng::seed_from_u64(3)
    }

    #[test]
    fn it_doubles_up_to_its_bound() {
        let pauses: Vec<_> =
            (1..=5).map(|retry| pause(&exact(), retry, None, &mut random()).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 700, 700]);
        assert_eq!(pause(&exact(), u16::MAX, None, &mut random()).as_millis(), 700);
    }

    #[test]
    fn no_base_is_no_pause() {
        let backoff = Backoff { base: Span::default(), ..exact() };
        assert_eq!(pause(&backoff, u16::MAX, None, &mut random()), Duration::ZERO);
    }

    #[test]
    fn jitter_is_the_random_part_of_it() {
        let mut random = random();
        let mut drawn = |jitter: f64| {
            let backoff = Backoff { jitter, ..exact() };
            let mut pauses: Vec<_> = (0..2000).map(|_| pause(&backoff, 3, None, &mut random)).collect();
            pauses.sort_unstable();
            (pauses[0].as_millis(), pauses[pauses.len() - 1].as_millis())
        };
        let (shortest, longest) = drawn(1.0);
        assert!(shortest < 10 && (390..=400).contains(&longest), "{shortest} {longest}");
        let (shortest, longest) = drawn(0.25);
        assert!((300..305).contains(&shortest) && (395..=400).contains(&longest), "{shortest} {longest}");
    }

    #[test]
    fn what_the_server_says_counts_only_where_the_plan_honours_it() {
        let told = Some(Duration::from_secs(9));
        assert_eq!(pause(&exact(), 1, told, &mut random()).as_millis(), 100);
        let honouring = Backoff { honour_retry_after: true, ..exact() };
        assert_eq!(pause(&honouring, 1, told, &mut random()).as_secs(), 9);
        assert_eq!(pause(&honouring, 1, None, &mut random()).as_millis(), 100);
    }
}
