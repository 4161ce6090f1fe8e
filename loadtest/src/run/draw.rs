//! What chance decides about an invocation: by the plan's seed and the invocation's number alone, whichever instance
//! runs it and whenever, so that every target of a run meets the same freezes and aborts.

use crate::plan::{Abort, Freeze, FreezeAt, Plan};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

/// `{random}` is below.
const RANDOMS: u32 = 1_000_000;

/// What was drawn for one invocation.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// For `{random}`.
    pub random: u32,
    /// It is suspended: when, and how long.
    pub freeze: Option<(FreezeAt, Duration)>,
    /// It is killed so long after an attempt's script began.
    pub abort: Option<Duration>,
    /// How long its instance thinks after it, in a closed loop.
    pub think: Duration,
    /// For the pauses before its retries.
    pub more: SmallRng,
}

impl Drawn {
    /// For the function's invocation with this number.
    #[must_use]
    pub fn of(plan: &Plan, function: usize, invocation: u64) -> Self {
        let mut more = SmallRng::seed_from_u64(seed(plan.seed, function as u64, invocation));
        let random = more.random_range(0..RANDOMS);
        let function = plan.functions.get(function);
        let freeze = function.and_then(|function| draw_freeze(function.freeze.as_ref()?, &mut more));
        let abort = function.and_then(|function| draw_abort(function.abort.as_ref()?, &mut more));
        let think = function.map(|function| function.think.draw(&mut more)).unwrap_or_default();
        Self { random, freeze, abort, think, more }
    }

    /// How long it is suspended at this point.
    #[must_use]
    pub fn freeze_at(&self, point: FreezeAt) -> Option<Duration> {
        self.freeze.filter(|(at, _)| *at == point).map(|(_, lasting)| lasting)
    }
}

fn draw_freeze(freeze: &Freeze, random: &mut SmallRng) -> Option<(FreezeAt, Duration)> {
    happens(freeze.share, random).then(|| (freeze.when, freeze.lasting.draw(random)))
}

fn draw_abort(abort: &Abort, random: &mut SmallRng) -> Option<Duration> {
    happens(abort.share, random).then(|| abort.after.draw(random))
}

fn happens(share: f64, random: &mut SmallRng) -> bool {
    random.random::<f64>() < share
}

/// Odd constants spread the three over all bits (splitmix64's, and two primes of xxhash), the generator mixes them.
pub(super) fn seed(plan: u64, function: u64, invocation: u64) -> u64 {
    plan.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(function.wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add(invocation.wrapping_mul(0x1656_67b1_9e37_79f9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(more: &str) -> Plan {
        let text = format!(
            "title = \"t\"\nduration = \"1s\"\n[[function]]\nname = \"f\"\ninstances = 1\nscript = [\"select 1\"]\n\
             arrival = {{ kind = \"at_once\" }}\n{more}"
        );
        Plan::parse("t", &text, Path::new(".")).unwrap()
    }

    #[test]
    fn the_same_invocation_draws_the_same() {
        let plan = plan("");
        let randoms =
            |function| (0..100).map(|number| Drawn::of(&plan, function, number).random).collect::<Vec<_>>();
        assert_eq!(randoms(0), randoms(0));
        assert_ne!(randoms(0), randoms(1));
        let mut distinct = randoms(0);
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 95, "{distinct:?}");
    }

    #[test]
    fn freezes_and_aborts_happen_to_their_share() {
        let plan = plan(
            "freeze = { when = \"reading\", lasting = \"2s\", share = 0.25 }\n\
             abort = { after = { min = \"1ms\", max = \"9ms\" }, how = \"rst\", share = 0.5 }",
        );
        let drawn: Vec<_> = (0..4000).map(|number| Drawn::of(&plan, 0, number)).collect();
        let frozen = drawn.iter().filter(|drawn| drawn.freeze.is_some()).count();
        let aborted: Vec<_> = drawn.iter().filter_map(|drawn| drawn.abort).collect();
        assert!((880..1120).contains(&frozen), "{frozen}");
        assert!((1860..2140).contains(&aborted.len()), "{}", aborted.len());
        assert!(aborted.iter().all(|after| (1..=9).contains(&after.as_millis())));
        let one = drawn.iter().find(|drawn| drawn.freeze.is_some()).unwrap();
        assert_eq!(one.freeze_at(FreezeAt::Reading), Some(Duration::from_secs(2)));
        assert_eq!(one.freeze_at(FreezeAt::Between), None);
    }

    #[test]
    fn a_share_of_one_is_everybody_and_of_none_nobody() {
        let all = plan("freeze = { when = \"between\", lasting = \"1s\" }");
        assert!((0..500).all(|number| Drawn::of(&all, 0, number).freeze.is_some()));
        let none = plan("freeze = { when = \"between\", lasting = \"1s\", share = 0.0 }");
        assert!((0..500).all(|number| Drawn::of(&none, 0, number).freeze.is_none()));
    }
}
