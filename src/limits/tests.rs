//! The rules under a clock of their own.

use std::collections::HashMap;
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn limit(what: What, per: &[Per], rate: &str, burst: u32) -> RateLimit {
    RateLimit {
        name: "r".to_owned(),
        what,
        per: per.to_vec(),
        rate: rate.parse().unwrap(),
        burst: NonZeroU32::new(burst).unwrap(),
        mode: Mode::Enforce,
        prefixes: Prefixes { ipv4: 24, ipv6: 64 },
        max_keys: 100,
    }
}

fn transactions(per: &[Per], rate: &str, burst: u32) -> RateLimit {
    limit(What::Transactions, per, rate, burst)
}

const WHO: Who<'_> = Who { user: "u", database: "d", function: "f", address: None };

fn from(address: &str) -> Who<'static> {
    Who { address: Some(address.parse().unwrap()), ..WHO }
}

struct Bench {
    limits: Limits,
    start: Instant,
}

impl Bench {
    fn new(limits: &[RateLimit]) -> Self {
        let start = Instant::now();
        Self { limits: Limits::new(limits, start, 7), start }
    }

    /// Milliseconds to wait; zero: it is let through.
    fn begin(&self, who: &Who<'_>, at: u32) -> u128 {
        let keys = self.limits.keys(Stage::Transaction, who);
        let verdict = self.limits.check(Stage::Transaction, &keys, self.start + at * MS, |_| ());
        verdict.map_or_else(|over| over.wait.as_micros().div_ceil(1000), |()| 0)
    }
}

#[test]
fn a_burst_and_then_the_rate() {
    let bench = Bench::new(&[transactions(&[], "10/s", 3)]);
    let waits: Vec<_> = [0, 0, 0, 0, 50, 99, 100, 100, 1000, 1000, 1000, 1000]
        .iter()
        .map(|at| bench.begin(&WHO, *at))
        .collect();
    assert_eq!(waits, [0, 0, 0, 100, 50, 1, 0, 100, 0, 0, 0, 100]);
}

#[test]
fn a_rule_that_counts_the_same_goes_on_where_it_was() {
    let bench = Bench::new(&[transactions(&[], "1/min", 2)]);
    assert_eq!(bench.begin(&WHO, 0), 0);
    let observed = RateLimit { mode: Mode::Observe, ..transactions(&[], "1/min", 2) };
    let after = |limits: &[RateLimit]| {
        let limits = bench.limits.succeeded_by(limits, bench.start);
        Bench { limits, start: bench.start }
    };
    assert_eq!(after(&[observed]).begin(&WHO, 1), 0, "counted");
    assert_eq!(after(&[transactions(&[], "1/min", 2)]).begin(&WHO, 2), 59_998, "the burst is used up");
    assert_eq!(after(&[transactions(&[], "1/min", 3)]).begin(&WHO, 2), 0, "another rule");
    assert!(!after(&[]).limits.has(Stage::Transaction));
}

#[test]
fn keys_are_counted_apart() {
    let bench = Bench::new(&[transactions(&[Per::User, Per::Function], "1/min", 1)]);
    assert_eq!(bench.begin(&WHO, 0), 0);
    assert_eq!(bench.begin(&WHO, 0), 60_000);
    assert_eq!(bench.begin(&Who { database: "other", ..WHO }, 0), 60_000);
    assert_eq!(bench.begin(&Who { user: "other", ..WHO }, 0), 0);
    assert_eq!(bench.begin(&Who { function: "other", ..WHO }, 0), 0);
    // Names do not run together.
    assert_eq!(bench.begin(&Who { user: "uf", function: "", ..WHO }, 0), 0);
}

#[test]
fn a_network_is_its_prefix() {
    let bench = Bench::new(&[transactions(&[Per::Network], "1/h", 1)]);
    for (address, wait) in [
        ("10.0.0.1", 0),
        ("10.0.0.200", 3_600_000),
        ("10.0.1.1", 0),
        ("2001:db8::1", 0),
        ("2001:db8::ffff:1", 3_600_000),
        ("2001:db8:0:1::1", 0),
    ] {
        assert_eq!(bench.begin(&from(address), 0), wait, "{address}");
    }
    let all = Prefixes { ipv4: 0, ipv6: 0 };
    assert_eq!(all.network("10.0.0.1".parse().unwrap()), IpAddr::from([0; 4]));
    let one = Prefixes { ipv4: 32, ipv6: 128 };
    assert_eq!(one.network("::1".parse().unwrap()), "::1".parse::<IpAddr>().unwrap());
}

#[test]
fn what_is_observed_is_let_through() {
    let observed = RateLimit { mode: Mode::Observe, ..transactions(&[], "1/h", 1) };
    let bench = Bench::new(&[observed]);
    let keys = bench.limits.keys(Stage::Transaction, &WHO);
    let mut count = 0;
    for _ in 0..3 {
        let verdict = bench.limits.check(Stage::Transaction, &keys, bench.start, |_| count += 1);
        assert!(verdict.is_ok());
    }
    assert_eq!(count, 2);
}

#[test]
fn logins_are_counted_once_they_are_proved_unless_by_where_they_come_from() {
    let stage = |per: &[Per]| limit(What::Logins, per, "1/s", 1).stage();
    assert_eq!(stage(&[]), Stage::Claim);
    assert_eq!(stage(&[Per::Address]), Stage::Claim);
    assert_eq!(stage(&[Per::Network]), Stage::Claim);
    assert_eq!(stage(&[Per::Address, Per::User]), Stage::Login);
    let limits = Limits::new(&[limit(What::Logins, &[], "1/s", 1)], Instant::now(), 7);
    assert!(limits.has(Stage::Claim) && !limits.has(Stage::Login) && !limits.has(Stage::Transaction));
}

#[test]
fn rates_are_read_as_they_are_printed() {
    for text in ["100/s", "30/min", "5/h", "1000000/s"] {
        assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
    }
    for text in ["", "100", "/s", "0/s", "-1/s", "1.5/s", "100/d", "1000001/s", "99999999999999999999/s"] {
        assert!(text.parse::<Rate>().is_err(), "{text:?}");
    }
}

proptest! {
    /// In no time, however it is chosen, are there more than the burst and the rate allow.
    #[test]
    fn never_more_than_burst_and_rate(
        count in 1..50_u32,
        burst in 1..20_u32,
        steps in prop::collection::vec((0..200_u32, 0..3_u8), 1..200),
    ) {
        let bench = Bench::new(&[transactions(&[Per::User], &format!("{count}/s"), burst)]);
        let mut at = 0;
        let mut passed: HashMap<u8, Vec<u32>> = HashMap::new();
        for (pause, user) in steps {
            at += pause;
            let name = user.to_string();
            let who = Who { user: &name, ..WHO };
            let wait = bench.begin(&who, at);
            if wait == 0 {
                passed.entry(user).or_default().push(at);
            }
            prop_assert!(wait <= u128::from(1000 / count + 1));
        }
        for times in passed.values() {
            for (first, start) in times.iter().enumerate() {
                for (last, end) in times.iter().enumerate().skip(first) {
                    let most = f64::from(burst) + f64::from(end - start) * f64::from(count) / 1000.0;
                    prop_assert!((last - first + 1) as f64 <= most + 1e-6);
                }
            }
        }
    }

    /// Any number of keys, any times: nothing panics.
    #[test]
    fn more_keys_than_are_kept(users in prop::collection::vec((0..500_u32, 0..100_000_u32), 1..500)) {
        let rule = RateLimit { max_keys: 7, ..transactions(&[Per::User], "1/h", 1_000_000) };
        let bench = Bench::new(&[rule]);
        for (user, at) in users {
            let name = user.to_string();
            bench.begin(&Who { user: &name, ..WHO }, at);
        }
    }
}
