//! `[rate_limits.NAME]`: one section for each rule.

use std::num::NonZeroU32;

use super::build::Context;
use super::defaults;
use super::error::Origin;
use super::reader::{Entry, Read, Section};
use crate::limits::{HIGHEST, Mode, Per, Prefixes, Rate, RateLimit, What};

/// Longest name: it is the label of a metric.
const LONGEST_NAME: usize = 64;

/// The keys of one rule.
#[derive(Debug)]
pub(super) struct Keys {
    name: String,
    at: Origin,
    what: Read<What>,
    per: Read<Vec<Entry<Per>>>,
    rate: Read<Rate>,
    burst: Read<usize>,
    mode: Read<Mode>,
    ipv4_prefix: Read<usize>,
    ipv6_prefix: Read<usize>,
    max_keys: Read<usize>,
}

pub(super) fn read(name: &str, section: &mut Section<'_, '_>) -> Keys {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.len() > LONGEST_NAME || !name.bytes().all(is_plain) {
        let message =
            "a rule's name is up to 64 letters, digits, '_', '.' and '-': errors and metrics show it";
        section.fault(section.at(), message);
    }
    Keys {
        name: name.to_owned(),
        at: section.at().clone(),
        what: section.choice("what", &[("logins", What::Logins), ("transactions", What::Transactions)]),
        per: section.list("per", str::parse),
        rate: section.parsed("rate", str::parse),
        burst: section.count("burst", 1..=HIGHEST as usize),
        mode: section.choice("mode", &[("enforce", Mode::Enforce), ("observe", Mode::Observe)]),
        ipv4_prefix: section.count("ipv4_prefix", 1..=32),
        ipv6_prefix: section.count("ipv6_prefix", 1..=128),
        max_keys: section.count("max_keys", defaults::LIMIT_KEYS),
    }
}

/// The rules, in the order of their names.
pub(super) fn build(context: &Context<'_>) -> Vec<RateLimit> {
    context.file.rate_limits.iter().filter_map(|keys| rule(context, keys)).collect()
}

fn rule(context: &Context<'_>, keys: &Keys) -> Option<RateLimit> {
    if matches!(keys.what, Read::Absent) {
        context.faults.add(&keys.at, "needs a what: \"logins\" or \"transactions\"");
    }
    if matches!(keys.rate, Read::Absent) {
        context.faults.add(&keys.at, "needs a rate, as \"100/s\"");
    }
    let rate = keys.rate.value()?;
    let burst = keys.burst.value().and_then(|burst| u32::try_from(burst).ok()).and_then(NonZeroU32::new);
    let bits =
        |key: &Read<usize>, default| key.value().and_then(|bits| u8::try_from(bits).ok()).unwrap_or(default);
    Some(RateLimit {
        name: keys.name.clone(),
        what: keys.what.value()?,
        per: per(context, keys),
        rate,
        burst: burst.unwrap_or(rate.count),
        mode: keys.mode.or(defaults::LIMIT_MODE),
        prefixes: Prefixes {
            ipv4: bits(&keys.ipv4_prefix, defaults::NETWORK.ipv4),
            ipv6: bits(&keys.ipv6_prefix, defaults::NETWORK.ipv6),
        },
        max_keys: keys.max_keys.or(defaults::MAX_LIMIT_KEYS),
    })
}

fn per(context: &Context<'_>, keys: &Keys) -> Vec<Per> {
    let Some(list) = keys.per.good() else { return vec![] };
    for (n, entry) in list.value.iter().enumerate() {
        if list.value.iter().take(n).any(|earlier| earlier.value == entry.value) {
            context.faults.add(&entry.at, format!("{:?} is there twice", entry.value.as_str()));
        }
    }
    list.value.iter().map(|entry| entry.value).collect()
}
