//! How many instances each function of a plan has.

use super::{Function, Plan, PlanError};
use std::cmp::Ordering;

/// No plan has more instances: a port range has 65536.
pub(super) const MOST_INSTANCES: u32 = 60_000;

impl Plan {
    /// In their order, which records refer to.
    #[must_use]
    pub fn function_names(&self) -> Vec<String> {
        self.functions.iter().map(|function| function.name.clone()).collect()
    }

    /// The most connections that it may open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.functions.iter().map(|function| u64::from(function.instances)).sum()
    }

    /// The same plan with exactly so many instances in all: each function keeps its share, and has at least one.
    ///
    /// # Errors
    /// There are fewer than functions, or more than 60000.
    pub fn with_instances(mut self, instances: u32) -> Result<Self, PlanError> {
        let functions = self.functions.len();
        if instances > MOST_INSTANCES {
            return Err(PlanError::Meaning(vec![format!("more than {MOST_INSTANCES} instances")]));
        }
        if (instances as usize) < functions {
            let fault = format!("{instances} instances are fewer than the plan's {functions} functions");
            return Err(PlanError::Meaning(vec![fault]));
        }
        let weights: Vec<f64> = self.functions.iter().map(|function| f64::from(function.instances)).collect();
        for (function, share) in self.functions.iter_mut().zip(shares(instances, &weights)) {
            function.instances = share;
        }
        Ok(self)
    }

    /// Functions without a number of their own get their weight's part of the plan's. Tells what is wrong with that.
    pub(super) fn share_instances(&mut self) -> Vec<String> {
        let is_weighted = |function: &&Function| (function.weight - 1.0).abs() > f64::EPSILON;
        let idle_weights =
            self.functions.iter().filter(|function| function.instances > 0).filter(is_weighted);
        let mut faults: Vec<_> = idle_weights
            .map(|function| format!("function {:?}: `weight` does nothing beside `instances`", function.name))
            .collect();
        let Some(instances) = self.instances else { return faults };
        let sharers: Vec<_> = self.functions.iter_mut().filter(|function| function.instances == 0).collect();
        if (instances as usize) < sharers.len() {
            faults.push(format!("`instances` is {instances}, and {} functions share them", sharers.len()));
        }
        let weights: Vec<f64> = sharers.iter().map(|function| function.weight).collect();
        for (function, share) in sharers.into_iter().zip(shares(instances, &weights)) {
            function.instances = share;
        }
        faults
    }
}

/// Parts of `whole` by weight, at least one each, whose sum is exactly that (or the number of weights, if that is
/// more): largest remainders first.
fn shares(whole: u32, weights: &[f64]) -> Vec<u32> {
    let Some(most) = weights.iter().copied().map(usable).max_by(f64::total_cmp) else { return Vec::new() };
    // Of the heaviest, so that no sum of them is infinite.
    let parts: Vec<f64> = weights.iter().map(|weight| usable(*weight) / most).collect();
    let all: f64 = parts.iter().sum();
    let exact: Vec<f64> = parts.iter().map(|part| f64::from(whole) * part / all).collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "neither below 0 nor above `whole`"
    )]
    let mut shares: Vec<u32> = exact.iter().map(|exact| (*exact as u32).max(1)).collect();
    let whole = u64::from(whole).max(shares.len() as u64);
    // A step per weight at most: rounding down lacks less than one of each, and raising to one adds less.
    loop {
        let sum: u64 = shares.iter().copied().map(u64::from).sum();
        let lacking = shares.iter_mut().zip(&exact);
        let next = match sum.cmp(&whole) {
            Ordering::Equal => return shares,
            // Of equals, the first.
            Ordering::Less => lacking.rev().max_by(|one, other| lack(one).total_cmp(&lack(other))),
            Ordering::Greater => lacking
                .filter(|(share, _)| **share > 1)
                .min_by(|one, other| lack(one).total_cmp(&lack(other))),
        };
        match next {
            Some((share, _)) if sum < whole => *share += 1,
            Some((share, _)) => *share -= 1,
            None => return shares,
        }
    }
}

/// A weight that is none is told as the plan's fault; here it must only do no harm.
fn usable(weight: f64) -> f64 {
    if weight.is_finite() && weight > 0.0 { weight } else { 1.0 }
}

fn lack((share, exact): &(&mut u32, &f64)) -> f64 {
    **exact - f64::from(**share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(head: &str, functions: &[&str]) -> Result<Plan, PlanError> {
        let functions = functions.iter().enumerate().map(|(number, function)| {
            format!(
                "[[function]]\nname = \"f{number}\"\narrival = {{ kind = \"at_once\" }}\nscript = [\"select 1\"]\n\
                 {function}\n"
            )
        });
        let text = format!("title = \"t\"\nduration = \"1s\"\n{head}\n{}", functions.collect::<String>());
        Plan::parse("t", &text, Path::new("."))
    }

    fn instances(plan: &Plan) -> Vec<u32> {
        plan.functions.iter().map(|function| function.instances).collect()
    }

    #[test]
    fn the_sum_of_the_shares_is_the_whole() {
        assert_eq!(shares(3, &[1.0, 1.0]), [2, 1]);
        assert_eq!(shares(10, &[1.0, 1.0, 1.0]), [4, 3, 3]);
        assert_eq!(shares(100, &[3.0, 1.0]), [75, 25]);
        assert_eq!(shares(10, &[1000.0, 1.0, 1.0]), [8, 1, 1]);
        assert_eq!(
            shares(u32::MAX, &[1e308, 1e308, 1e-308]).iter().map(|share| u64::from(*share)).sum::<u64>(),
            4_294_967_295
        );
        assert_eq!(shares(2, &[f64::NAN, -1.0]), [1, 1]);
        assert_eq!(shares(1, &[1.0, 1.0]), [1, 1]);
        assert!(shares(5, &[]).is_empty());
        for whole in 7..200 {
            let shares = shares(whole, &[9.0, 0.3, 2.5, 2.5, 1.0, 1e-9, 77.0]);
            assert_eq!(shares.iter().sum::<u32>(), whole);
            assert!(shares.iter().all(|share| *share > 0));
        }
    }

    #[test]
    fn functions_without_a_number_share_the_plans_by_weight() {
        let plan = plan("instances = 100", &["weight = 3", "", "instances = 7"]).unwrap();
        assert_eq!(instances(&plan), [75, 25, 7]);
        assert_eq!(plan.connections(), 107);
        let resized = plan.with_instances(8).unwrap();
        assert_eq!(instances(&resized), [5, 2, 1]);
    }

    #[test]
    fn there_are_neither_fewer_instances_than_functions_nor_too_many() {
        let fault = plan("instances = 1", &["", ""]).unwrap_err().to_string();
        assert!(fault.contains("`instances` is 1, and 2 functions"), "{fault}");
        let plan = plan("", &["instances = 1", "instances = 2"]).unwrap();
        assert!(plan.clone().with_instances(1).unwrap_err().to_string().contains("fewer"));
        assert!(plan.clone().with_instances(60_001).unwrap_err().to_string().contains("more than 60000"));
        assert_eq!(plan.with_instances(60_000).unwrap().connections(), 60_000);
    }

    #[test]
    fn a_weight_that_decides_nothing_is_a_fault() {
        let fault = plan("instances = 9", &["instances = 1\nweight = 2", ""]).unwrap_err().to_string();
        assert!(fault.contains("\"f0\": `weight`"), "{fault}");
    }
}
