//! What the load generator itself needs.

use rustix::param::clock_ticks_per_second;
use std::time::Duration;

/// CPU that this process has used until now, user and system; with its children, those that it has waited for. Zero
/// where the system does not tell (`/proc`, Linux).
#[must_use]
pub fn cpu(with_children: bool) -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = ticks(&stat, with_children).unwrap_or(0);
    Duration::from_micros(ticks.saturating_mul(1_000_000) / clock_ticks_per_second().max(1))
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

/// `utime` and `stime`, and `cutime` and `cstime` (`man 5 proc`): fields 14 to 17. The second field, the program's name,
/// may have spaces and brackets in it; the fields are counted from its last bracket.
fn ticks(stat: &str, with_children: bool) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let fields = after_name.split(' ').skip(11).take(if with_children { 4 } else { 2 });
    fields.map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 100 20 3000 400 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat, false), Some(120));
        assert_eq!(ticks(stat, true), Some(3520));
        assert_eq!(ticks("", true), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_is_seen() {
        let before = cpu(false);
        let mut sum = 0_u64;
        while cpu(false) == before {
            sum = (0..1_000_000_u64).fold(sum, |sum, next| std::hint::black_box(sum ^ next));
        }
        assert!(cores() >= 1);
    }
}
