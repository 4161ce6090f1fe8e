//! Cuts a failing run down to the steps without which it does not fail.

use std::time::{Duration, Instant};

use crate::support::requests::Request;

use super::player::Player;
use super::step::{Action, Step, print};
use super::world::World;

/// The steps of one sequence.
pub type Sequence = Vec<Step>;

/// What was played up to a difference.
pub struct Failure {
    /// The last sequence's.
    pub seed: u64,
    /// What was different.
    pub difference: String,
    /// The last sequences, the one that failed included.
    pub history: Vec<Sequence>,
}

/// Longest wait for an answer here: nothing takes long, and a hanging session is a failure, too.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most time that is spent on one failure.
const BUDGET: Duration = Duration::from_secs(180);

/// A way to look for smaller failures: each attempt has a new proxy.
struct Search<'a, 's> {
    world: &'a mut World<'s>,
    deadline: Instant,
    /// Everything that has been played: what has to be tidied up before the next attempt.
    played: Sequence,
}

/// The smallest failing run that was found, as text.
pub fn shrink(world: &mut World<'_>, failure: Failure) -> String {
    let played = failure.history.concat();
    let mut search = Search { world, deadline: Instant::now() + BUDGET, played };
    let Some((run, difference)) = search.shortest_tail(&failure.history) else {
        let last = failure.history.last().map(|steps| print(steps)).unwrap_or_default();
        return format!("{}\nnot seen again; the sequence was\n{last}", failure.difference);
    };
    let (run, difference) = search.without_sequences(run, difference);
    let (run, difference) = search.without_steps(run, difference);
    let (run, difference) = search.without_requests(run, difference);
    let run: Vec<Sequence> = run.into_iter().filter(|sequence| !sequence.is_empty()).collect();
    let steps: String = run.iter().map(|sequence| print(sequence)).collect::<Vec<_>>().join("# tidied\n");
    format!("{steps}{difference}\nat first it was\n{}", failure.difference)
}

impl Search<'_, '_> {
    /// Plays it on new sessions and server connections. None: it does not fail.
    fn fails(&mut self, run: &[Sequence]) -> Option<String> {
        if Instant::now() > self.deadline {
            return None;
        }
        self.world.restart();
        let mut player = Player::new(self.world, PATIENCE);
        // What earlier attempts left behind.
        if let Err(difference) = player.tidy(&self.played) {
            return Some(difference);
        }
        for sequence in run {
            for step in sequence {
                if let Err(difference) = player.play(step) {
                    return Some(difference);
                }
            }
            if let Err(difference) = player.tidy(sequence) {
                return Some(difference);
            }
        }
        None
    }

    /// The failing sequence alone, or with as many of those before it as are needed.
    fn shortest_tail(&mut self, history: &[Sequence]) -> Option<(Vec<Sequence>, String)> {
        let lengths = [1, 2, 4, 8, 16, history.len()];
        lengths.into_iter().filter(|length| *length <= history.len()).find_map(|length| {
            let tail = history[history.len() - length..].to_vec();
            // More than once: which server connection a client gets is not always the same.
            let difference = (0..3).find_map(|_| self.fails(&tail))?;
            Some((tail, difference))
        })
    }

    fn without_sequences(
        &mut self,
        mut run: Vec<Sequence>,
        mut difference: String,
    ) -> (Vec<Sequence>, String) {
        let mut at = 0;
        while run.len() > 1 && at < run.len() {
            let mut shorter = run.clone();
            shorter.remove(at);
            match self.fails(&shorter) {
                Some(other) => (run, difference) = (shorter, other),
                None => at += 1,
            }
        }
        (run, difference)
    }

    /// Leaves out steps, first many at once, then one by one.
    fn without_steps(&mut self, mut run: Vec<Sequence>, mut difference: String) -> (Vec<Sequence>, String) {
        let longest = run.iter().map(Vec::len).max().unwrap_or(0);
        let mut size = longest.div_ceil(2);
        while size > 0 {
            let mut cut = false;
            for sequence in (0..run.len()).rev() {
                let mut end = run[sequence].len();
                while end > 0 {
                    let start = end.saturating_sub(size);
                    let mut shorter = run.clone();
                    shorter[sequence].drain(start..end);
                    if let Some(other) = self.fails(&shorter) {
                        (run, difference, cut) = (shorter, other, true);
                    }
                    end = start;
                }
            }
            if !cut || size > 1 {
                size /= 2;
            }
        }
        (run, difference)
    }

    /// Leaves out single messages of writes, as long as the write still ends with what is answered.
    fn without_requests(
        &mut self,
        mut run: Vec<Sequence>,
        mut difference: String,
    ) -> (Vec<Sequence>, String) {
        for sequence in 0..run.len() {
            for step in 0..run[sequence].len() {
                let mut at = requests(&run[sequence][step]);
                while at > 0 {
                    at -= 1;
                    let mut shorter = run.clone();
                    let Action::Write(requests) = &mut shorter[sequence][step].action else { break };
                    requests.remove(at);
                    let sound = is_sound(requests);
                    if let Some(other) = Some(&shorter).filter(|_| sound).and_then(|run| self.fails(run)) {
                        (run, difference) = (shorter, other);
                    }
                }
            }
        }
        (run, difference)
    }
}

/// It has as many answers as one would expect: after an error everything up to the Sync goes unanswered.
fn is_sound(requests: &[Request]) -> bool {
    let open = |request: &Request| !request.ends_an_answer();
    let query_in_a_group =
        requests.windows(2).any(|two| open(&two[0]) && matches!(two[1], Request::Query(_)));
    requests.last().is_some_and(|last| !open(last)) && !query_in_a_group
}

fn requests(step: &Step) -> usize {
    match &step.action {
        Action::Write(requests) => requests.len(),
        Action::Leave(_) => 0,
    }
}
