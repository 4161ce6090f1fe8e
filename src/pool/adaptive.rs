//! The adaptive limit of a pool: counts for [`guard::Adaptive`](crate::guard::Adaptive), and does what it says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::PoolParams;
use crate::guard::{self, AdaptiveParams, AdaptiveSnapshot};
use crate::lock::lock;

/// Least time between two steps: long enough for 50 requests of a pool that is worth limiting, and for what a step has
/// changed to show.
const INTERVAL: Duration = Duration::from_secs(4);

/// Whether the pool looks for a limit of its own below its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdaptiveLimit {
    /// It does not.
    #[default]
    Off,
    /// It says what it would try, and does nothing.
    Observe,
    /// No more transactions run at once.
    Enforce,
}

impl AdaptiveLimit {
    /// The word of the configuration and of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// A pool's adaptive limit, on or off.
#[derive(Debug)]
pub struct Adaptive {
    on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mode: AdaptiveLimit,
    /// None: off.
    machine: Option<guard::Adaptive>,
    /// Most transactions at once in this window.
    peak: usize,
    /// Requests done in this window.
    completed: u64,
}

impl Adaptive {
    pub(super) fn new(params: &PoolParams) -> Self {
        let this = Self::off();
        this.set(params);
        this
    }

    fn off() -> Self {
        let state = State { mode: AdaptiveLimit::Off, machine: None, peak: 0, completed: 0 };
        Self { on: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// New parameters. What was learnt stays while it is on; what was learnt by watching alone goes.
    pub(super) fn set(&self, params: &PoolParams) {
        self.configure(params.adaptive_limit, params.adaptive_min, params.size);
    }

    fn configure(&self, mode: AdaptiveLimit, min: usize, max: usize) {
        let mut state = lock(&self.state);
        let stays = state.mode == mode;
        match &mut state.machine {
            Some(machine) if stays => machine.resize(min, max),
            _ => {
                let params = AdaptiveParams { min, max, interval: INTERVAL };
                let machine = (mode != AdaptiveLimit::Off).then(|| guard::Adaptive::new(params));
                *state = State { mode, machine, peak: 0, completed: 0 };
            }
        }
        self.on.store(mode != AdaptiveLimit::Off, Ordering::Relaxed);
    }

    /// Requests are looked at.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// PostgreSQL was ready for the next request `exec` after it got this one, of this class of statements (a hash).
    pub fn executed(&self, class: u32, exec: Duration) {
        let mut state = lock(&self.state);
        if let Some(machine) = &mut state.machine {
            machine.sample(class, exec);
            state.completed += 1;
        }
    }

    /// To be called about once a second, with the most transactions at once since the last call. The limit if it has moved.
    pub(super) fn evaluate(&self, now: Instant, peak: usize) -> Option<AdaptiveSnapshot> {
        let mut state = lock(&self.state);
        let State { machine: Some(machine), peak: highest, completed, .. } = &mut *state else { return None };
        *highest = peak.max(*highest);
        let window = machine.window_start();
        let moved = machine.evaluate(now, *highest, *completed);
        if machine.window_start() != window {
            (*highest, *completed) = (0, 0);
        }
        moved.map(|_| machine.snapshot())
    }

    /// What the gate is to enforce.
    pub(super) fn enforced(&self) -> Option<usize> {
        let state = lock(&self.state);
        let machine = state.machine.as_ref().filter(|_| state.mode == AdaptiveLimit::Enforce);
        machine.map(guard::Adaptive::limit)
    }

    /// The limit now, if it is on.
    pub fn limit(&self) -> Option<(AdaptiveLimit, usize)> {
        let state = lock(&self.state);
        state.machine.as_ref().map(|machine| (state.mode, machine.limit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four transactions at once that take as long as they take, for `windows` of a bit more than the least length.
    fn run(adaptive: &Adaptive, now: &mut Instant, windows: u32) -> Vec<usize> {
        let mut moves = vec![];
        for _ in 0..windows {
            for _ in 0..100 {
                adaptive.executed(1, Duration::from_millis(5));
            }
            *now += INTERVAL;
            moves.extend(adaptive.evaluate(*now, 20).map(|found| found.limit));
        }
        moves
    }

    fn switched(mode: AdaptiveLimit) -> Adaptive {
        let this = Adaptive::off();
        this.configure(mode, 2, 10);
        this
    }

    #[test]
    fn off_counts_nothing() {
        let (adaptive, mut now) = (switched(AdaptiveLimit::Off), Instant::now());
        assert!(!adaptive.is_on());
        assert_eq!(run(&adaptive, &mut now, 20), [0; 0]);
        assert_eq!((adaptive.limit(), adaptive.enforced(), lock(&adaptive.state).completed), (None, None, 0));
    }

    #[test]
    fn only_what_is_enforced_is_told_to_the_gate() {
        let (watched, enforced) = (switched(AdaptiveLimit::Observe), switched(AdaptiveLimit::Enforce));
        assert_eq!((watched.limit(), watched.enforced()), (Some((AdaptiveLimit::Observe, 10)), None));
        assert_eq!((enforced.limit(), enforced.enforced()), (Some((AdaptiveLimit::Enforce, 10)), Some(10)));
    }

    #[test]
    fn it_moves_and_is_within_its_bounds() {
        let (adaptive, mut now) = (switched(AdaptiveLimit::Enforce), Instant::now());
        let moves = run(&adaptive, &mut now, 30);
        assert!(!moves.is_empty() && moves.iter().all(|limit| (2..=10).contains(limit)), "{moves:?}");
    }

    #[test]
    fn other_bounds_are_kept_and_another_mode_begins_anew() {
        let adaptive = switched(AdaptiveLimit::Enforce);
        adaptive.configure(AdaptiveLimit::Enforce, 2, 5);
        assert_eq!(adaptive.enforced(), Some(5));
        adaptive.configure(AdaptiveLimit::Enforce, 2, 9);
        assert_eq!(adaptive.enforced(), Some(5), "it climbs by itself");
        adaptive.configure(AdaptiveLimit::Observe, 2, 9);
        assert_eq!(adaptive.limit(), Some((AdaptiveLimit::Observe, 9)));
        adaptive.configure(AdaptiveLimit::Off, 2, 9);
        assert_eq!(adaptive.limit(), None);
    }
}
