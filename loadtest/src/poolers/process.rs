//! What Linux says about another process: CPU time and resident memory (`proc(5)`).

use std::time::Duration;
use std::{fs, io};

/// User and system time that all threads of a process have used so far, ended ones included; in steps of 10 ms.
///
/// # Errors
/// The process is gone.
pub fn cpu_time(process: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100))
}

/// Resident memory of a process in KiB.
///
/// # Errors
/// The process is gone.
pub fn resident_kib(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    resident(&status).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Fields 14 (utime) and 15 (stime); the second, the name in parentheses, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_an_odd_name() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0";
        assert_eq!(cpu_ticks(stat), Some(175));
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   2048 kB\nThreads: 1\n"), Some(2048));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
