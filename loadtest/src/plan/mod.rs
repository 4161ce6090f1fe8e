//! Plans: what is fired, as TOML that people write and keep. A plan says nothing about where it is fired at.

mod assertion;
mod check;
mod faults;
mod share;
mod values;

pub use assertion::{Assertion, Comparison, Metric};
pub use check::PlanError;
pub use values::{Delay, Span};

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A plan. `Plan::parse` is the way to one: it is checked then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it is called: the file's name without `.toml`.
    #[serde(default)]
    pub name: String,
    /// One line for headings.
    pub title: String,
    /// What it shows, for people.
    #[serde(default)]
    pub about: String,
    /// How long invocations are begun.
    pub duration: Span,
    /// How long those under way may take after that; what is not over then is cut off.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// Where all of the plan's randomness comes from.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Instances of all functions that name no number of their own.
    #[serde(default)]
    pub instances: Option<u32>,
    /// What an ideal target serves per second, if that is known: what `of_capacity` is a share of.
    #[serde(default)]
    pub capacity: Option<f64>,
    /// SQL that is run once before every leg, over the observer's connection, or else the target's.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Parts of the time that assertions and reports refer to.
    #[serde(default, rename = "phase")]
    pub phases: Vec<Phase>,
    /// What is fired.
    #[serde(rename = "function")]
    pub functions: Vec<Function>,
    /// What happens to the target meanwhile.
    #[serde(default, rename = "event")]
    pub events: Vec<Event>,
    /// What has to hold; a run fails if one does not.
    #[serde(default, rename = "assert")]
    pub assertions: Vec<Assertion>,
}

/// A part of the leg's time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// How it is referred to.
    pub name: String,
    /// Its start, after the leg's.
    pub from: Span,
    /// Its end, after the leg's start.
    pub to: Span,
}

/// Something that happens to the target: a command given with `--hook NAME=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, after the leg's start.
    pub at: Span,
    /// Which hook.
    pub hook: String,
}

/// A function: many instances that run the same script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// `application_name` of its connections.
    pub name: String,
    /// Its role, where it is not the target's; `--user NAME=PASSWORD` gives the password.
    #[serde(default)]
    pub user: Option<String>,
    /// The most instances at once, which is the most connections. Absent (0): its `weight`'s share of the plan's.
    #[serde(default)]
    pub instances: u32,
    /// Which part of the plan's `instances` are its own, relative to the weights of the others that name no number.
    #[serde(default = "default_weight")]
    pub weight: f64,
    /// When invocations are due.
    pub arrival: Arrival,
    /// Its first invocation is due then.
    #[serde(default)]
    pub start: Span,
    /// No invocation is due from then on; the plan's duration if absent.
    #[serde(default)]
    pub stop: Option<Span>,
    /// What an invocation runs, statement by statement. `{instance}`, `{invocation}` and `{random}` (0 to 999999) are
    /// replaced.
    pub script: Vec<String>,
    /// How statements are sent.
    #[serde(default)]
    pub protocol: Protocol,
    /// How many invocations an instance lives for; it ends, and the next one is cold. For ever if absent.
    #[serde(default)]
    pub invocations: Option<u32>,
    /// Pause between an instance's invocations, in a closed loop; the connection is watched meanwhile. At least 10 ms
    /// after an invocation whose last attempt failed: a target that refuses at once would make a spin of it.
    #[serde(default)]
    pub think: Delay,
    /// The process is suspended: it reads nothing and its timers stand still.
    #[serde(default)]
    pub freeze: Option<Freeze>,
    /// The instance is killed in the middle of an invocation.
    #[serde(default)]
    pub abort: Option<Abort>,
    /// How long an attempt may take, connecting included, before the client gives up.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// What the client does with its connection then.
    #[serde(default)]
    pub on_timeout: OnTimeout,
    /// Attempts after the first.
    #[serde(default)]
    pub retries: u16,
    /// The pause before them; at least 10 ms, whatever it says.
    #[serde(default)]
    pub backoff: Backoff,
    /// How an instance that ends leaves its connection.
    #[serde(default)]
    pub end: End,
    /// Startup options (`-c name=value`), for instance a deadline.
    #[serde(default)]
    pub options: Option<String>,
    /// Real processes instead of tasks of the generator.
    #[serde(default)]
    pub runtime: Runtime,
}

/// When invocations are due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrival {
    /// All instances at the function's start, one invocation each.
    AtOnce {},
    /// Closed loop: every instance invokes, thinks, invokes; the instances start spread over `within`.
    Closed {
        /// Zero: all at once.
        #[serde(default)]
        within: Span,
    },
    /// Instances are added at this rate, as a platform scales out, and each is then in a closed loop.
    Ramp {
        /// Instances per second.
        per_second: f64,
    },
    /// Open: independent arrivals at random.
    Poisson {
        /// Mean rate of all instances together.
        per_second: f64,
    },
    /// Open: one after the other at equal distances.
    Steady {
        /// Rate of all instances together.
        per_second: f64,
    },
    /// Open: as recorded. One arrival per line: seconds since the start, as a decimal number; `#` begins a comment.
    Trace {
        /// The recording, relative to the plan's file.
        file: String,
        /// 2 replays it twice as fast.
        #[serde(default = "default_speed")]
        speed: f64,
        /// Filled in when the plan is read.
        #[serde(default)]
        due: Vec<Span>,
    },
}

/// How statements are sent (PostgreSQL's manual, chapter 55.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Query.
    #[default]
    Simple,
    /// Parse, Bind, Describe, Execute, Sync with the unnamed statement.
    Extended,
    /// Parse once per connection and statement, then Bind, Execute, Sync.
    Prepared,
}

/// The process is suspended: nothing is read and the client's timers stand still.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// When.
    pub when: FreezeAt,
    /// How long.
    pub lasting: Delay,
    /// Which share of the invocations it happens to.
    #[serde(default = "default_share")]
    pub share: f64,
}

/// When an instance is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreezeAt {
    /// After an invocation, connected.
    Between,
    /// In an open transaction: after the script's first statement.
    InTransaction,
    /// In the middle of a reply: its first bytes have been read.
    Reading,
}

/// The instance is killed in the middle of an invocation, at a random moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abort {
    /// After the attempt has begun to run its script (logged in).
    pub after: Delay,
    /// How.
    pub how: End,
    /// Which share of the invocations it happens to.
    #[serde(default = "default_share")]
    pub share: f64,
}

/// How a connection is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Terminate, then close. In the middle of a query: Terminate behind it.
    #[default]
    Terminate,
    /// Close without a word: FIN.
    Fin,
    /// Reset: RST.
    Rst,
    /// Nothing: the socket stays open and is never used again, as after a power cut. It still counts as a connection.
    Silence,
}

/// What a client does with its connection when its timeout is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// Closes it without a word: FIN.
    #[default]
    Fin,
    /// Resets it.
    Rst,
    /// Sends a CancelRequest over a connection of its own, and keeps the session if it answers within a second.
    Cancel,
}

/// The pause before a retry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// Before the first retry.
    pub base: Span,
    /// 2 doubles it with each retry, 1 keeps it.
    pub factor: f64,
    /// Never longer.
    pub max: Span,
    /// 0: exactly so long; 1: anything from nothing to so long ("full jitter").
    pub jitter: f64,
    /// Where the error has `retry_after_ms` in its DETAIL, wait that long instead.
    pub honour_retry_after: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Span::from(Duration::from_millis(100)),
            factor: 2.0,
            max: Span::from(Duration::from_secs(5)),
            jitter: 1.0,
            honour_retry_after: false,
        }
    }
}

/// What an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// A task of the generator: thousands per process.
    #[default]
    Task,
    /// A Python process with psycopg.
    Python,
    /// A Node.js process with pg.
    Node,
    /// A Go process with lib/pq.
    Go,
}

/// As long as a function's default timeout.
fn default_grace() -> Span {
    default_timeout()
}

fn default_seed() -> u64 {
    1
}

fn default_weight() -> f64 {
    1.0
}

fn default_timeout() -> Span {
    Span::from(Duration::from_secs(30))
}

fn default_speed() -> f64 {
    1.0
}

fn default_share() -> f64 {
    1.0
}
