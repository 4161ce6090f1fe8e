//! A session through the proxy is a session, whatever the other clients of its server connections do: random sequences
//! of statements that change session state, from five clients on a pool of two, each statement also sent on a direct
//! connection of its own. The answers have to be the same, message by message.
//!
//! `PGCORRAL_SEQUENCES`: how many (300). `PGCORRAL_SEED`: the first seed (1); each sequence has the next one. With both, and
//! the same `PGCORRAL_THREADS` (3), a run is the same again. `PGCORRAL_WITHOUT`: topics to leave out, with commas between.
//! `PGCORRAL_FAILURES`: how many end the run (1). A sequence that fails is cut down to what is needed for it to fail, and
//! printed as a conformance file has it.

pub mod answer;
mod batches;
mod generator;
mod player;
mod shrink;
mod statements;
mod step;
mod world;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::Test;
use crate::support::ground::Ground;

use generator::{Generator, Topic};
use player::Player;
use shrink::{Failure, Sequence};
use world::{Servers, Subject, Variant, World};

/// All trials of this file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    crate::trials("session_state", ground, TESTS)
}

const TESTS: &[Test] = &[
    ("the_oracle_agrees_with_itself", |_| some_of(Subject::Nothing)),
    ("transaction_mode_is_a_session", |_| transaction_mode()),
];

/// Longest wait for an answer: longer than one in the queue, which is then the answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sequences of before a failure that are kept, in case it needs what they left behind.
const HISTORY: usize = 40;

/// Each thread has a proxy of its own, configured in its own way.
const VARIANTS: [Variant; 3] = [
    Variant { name: "state_a", subject: Subject::TransactionMode, lines: &[] },
    Variant { name: "state_b", subject: Subject::TransactionMode, lines: &["max_prepared_statements = 3"] },
    Variant {
        name: "state_c",
        subject: Subject::TransactionMode,
        lines: &["promote_unnamed = false", "trace_comments = \"keep\"", "max_prepared_statements = 8"],
    },
];

/// Which sequences are played.
#[derive(Debug, Clone)]
struct Range {
    first: u64,
    count: u64,
    topics: Vec<Topic>,
}

impl Range {
    /// So many, if the environment does not say.
    fn from_environment(count: u64) -> Self {
        let first = number("PGCORRAL_SEED").unwrap_or(1);
        Self { first, count: number("PGCORRAL_SEQUENCES").unwrap_or(count), topics: topics() }
    }
}

/// What has come of the sequences so far.
#[derive(Debug)]
struct Tally {
    played: AtomicU64,
    failed: AtomicU64,
    /// So many failures end the run.
    most_failures: u64,
}

impl Tally {
    fn new() -> Self {
        let most_failures = number("PGCORRAL_FAILURES").unwrap_or(1);
        Self { played: AtomicU64::new(0), failed: AtomicU64::new(0), most_failures }
    }

    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) >= self.most_failures
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn topics() -> Vec<Topic> {
    let without = std::env::var("PGCORRAL_WITHOUT").unwrap_or_default();
    let without: Vec<&str> = without.split(',').filter(|name| !name.is_empty()).collect();
    for name in &without {
        assert!(Topic::ALL.iter().any(|(known, _)| known == name), "PGCORRAL_WITHOUT: no topic {name:?}");
    }
    Topic::ALL.iter().filter(|(name, _)| !without.contains(name)).map(|(_, topic)| *topic).collect()
}

/// The harness and its oracle: the same sequences without a pool between.
fn some_of(subject: Subject) {
    run(&[Variant { name: "state_e", subject, lines: &[] }], &Range::from_environment(200));
}

fn transaction_mode() {
    let threads = number("PGCORRAL_THREADS").map_or(VARIANTS.len(), |n| usize::try_from(n).expect("few"));
    run(&VARIANTS[..threads.clamp(1, VARIANTS.len())], &Range::from_environment(300));
}

/// Plays the sequences, each to one of the worlds, all worlds at once.
fn run(variants: &[Variant], range: &Range) {
    let servers = Servers::start();
    let tally = Tally::new();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..variants.len())
            .map(|at| {
                let (servers, tally) = (&servers, &tally);
                let seeds = (range.first + at as u64..range.first + range.count).step_by(variants.len());
                scope.spawn(move || thread(servers, variants[at], seeds, &range.topics, tally))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    let Tally { played, failed, .. } = tally;
    eprintln!("{} sequences, {} failed", played.into_inner(), failed.into_inner());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn thread(
    servers: &Servers,
    variant: Variant,
    mut seeds: impl Iterator<Item = u64>,
    topics: &[Topic],
    tally: &Tally,
) -> Vec<String> {
    let mut world = World::new(servers, variant);
    let mut failures = Vec::new();
    while let Some(failure) = next_failure(&world, &mut seeds, topics, tally) {
        tally.failed.fetch_add(1, Ordering::Relaxed);
        let (seed, steps) = (failure.seed, failure.history.concat());
        let log = world.log_tail();
        let cut = shrink::shrink(&mut world, failure);
        let text = format!("seed {seed}, {variant:?}\n{cut}the end of the proxy's log:\n{log}");
        eprintln!("{text}");
        failures.push(text);
        // For what comes next.
        world.restart();
        if !tally.is_over()
            && let Err(difference) = Player::new(&world, PATIENCE).tidy(&steps)
        {
            failures.push(format!("cannot tidy up after it: {difference}"));
            break;
        }
    }
    failures
}

fn next_failure(
    world: &World<'_>,
    seeds: &mut impl Iterator<Item = u64>,
    topics: &[Topic],
    tally: &Tally,
) -> Option<Failure> {
    let mut player = Player::new(world, PATIENCE);
    let mut history: VecDeque<Sequence> = VecDeque::new();
    while !tally.is_over() {
        let seed = seeds.next()?;
        let mut sequence = Sequence::new();
        let played = play(&mut player, seed, &world.tenant().name, topics, &mut sequence);
        tally.played.fetch_add(1, Ordering::Relaxed);
        history.push_back(sequence);
        if let Err(difference) = played {
            return Some(Failure { seed, difference, history: history.into() });
        }
        if history.len() > HISTORY {
            history.pop_front();
        }
    }
    None
}

/// Makes and plays the sequence of a seed, and keeps what was played.
fn play(
    player: &mut Player<'_>,
    seed: u64,
    role: &str,
    topics: &[Topic],
    sequence: &mut Sequence,
) -> Result<(), String> {
    let mut generator = Generator::new(seed, role, topics);
    while let Some(step) = generator.next(player) {
        sequence.push(step.clone());
        player.play(&step)?;
    }
    player.tidy(sequence)
}
