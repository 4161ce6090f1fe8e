//! What the configuration says about rate limits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::Stage;

/// Highest count of a rate or a burst: above, a limit limits nothing, and its times no longer fit 64 bits of nanoseconds.
pub const HIGHEST: u32 = 1_000_000;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// As it stands in errors, metrics and the log.
    pub name: String,
    /// What is counted.
    pub what: What,
    /// What is counted apart. Empty: all together.
    pub per: Vec<Per>,
    /// How many in which time, on the average.
    pub rate: Rate,
    /// How many at once, after a quiet time.
    pub burst: NonZeroU32,
    /// What happens above it.
    pub mode: Mode,
    /// What a network is.
    pub prefixes: Prefixes,
    /// Most keys that are counted apart. Of more, those are forgotten that came longest ago.
    pub max_keys: usize,
}

impl RateLimit {
    /// Where the rule is asked.
    pub fn stage(&self) -> Stage {
        let proved = |per: &Per| !matches!(per, Per::Address | Per::Network);
        match self.what {
            What::Logins if self.per.iter().any(proved) => Stage::Login,
            What::Logins => Stage::Claim,
            What::Transactions => Stage::Transaction,
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Logins.
    Logins,
    /// Transactions that ask for a server connection; a statement outside a transaction is one.
    Transactions,
}

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Each user.
    User,
    /// Each database, as clients name it.
    Database,
    /// Each function.
    Function,
    /// Each address.
    Address,
    /// Each network of addresses.
    Network,
}

impl Per {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Database => "database",
            Self::Function => "function",
            Self::Address => "address",
            Self::Network => "network",
        }
    }
}

impl FromStr for Per {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::User, Self::Database, Self::Function, Self::Address, Self::Network]
            .into_iter()
            .find(|per| per.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not one of user, database, function, address, network"))
    }
}

/// What happens to what is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    Enforce,
    /// It is counted, and let through.
    Observe,
}

impl Mode {
    /// As in the configuration, and as the metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// How many bits of an address are its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefixes {
    /// Of an IPv4 address, up to 32.
    pub ipv4: u8,
    /// Of an IPv6 address, up to 128.
    pub ipv6: u8,
}

impl Prefixes {
    /// The network of an address.
    pub fn network(self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.ipv4.min(32))).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.ipv6.min(128))).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        }
    }
}

/// How many in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In this time.
    pub period: Duration,
}

impl Rate {
    /// The time for one.
    pub fn interval(self) -> Duration {
        self.period / self.count.get()
    }
}

impl FromStr for Rate {
    type Err = String;

    /// Reads `100/s`, `30/min` or `5/h`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate like \"100/s\", \"30/min\" or \"5/h\"");
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = count.trim().parse().map_err(|_| wrong())?;
        let count = u32::try_from(count).ok().filter(|count| *count <= HIGHEST).and_then(NonZeroU32::new);
        let count = count.ok_or_else(|| format!("{text:?}: must be from 1 to {HIGHEST}"))?;
        Ok(Self { count, period: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "min",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}
