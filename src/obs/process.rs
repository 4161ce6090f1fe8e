//! How the process stands, from `/proc` (see proc(5)). What cannot be read is `None`.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// The clock ticks of `/proc/self/stat` per second. USER_HZ is part of Linux' interface to programs and 100 on every
/// architecture that Rust has a standard library for.
const USER_HZ: f64 = 100.0;

/// File descriptors in use.
pub(super) fn open_files() -> Option<u64> {
    // Since Linux 6.2 the directory's size is the number of its entries; reading ten thousand of them takes
    // milliseconds. Before, the size is 0.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        files => Some(files),
    }
}

/// Most file descriptors; `None` if unlimited.
pub(super) fn max_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Physical memory in use, in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    parse_resident(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Processor time used by all threads, user and system.
pub(super) fn cpu_seconds() -> Option<f64> {
    parse_cpu(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn parse_cpu(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses and may contain anything, also `)`.
    let (_, fields) = stat.rsplit_once(')')?;
    // utime and stime are the fields 14 and 15, counted from 1; the first one after the name is field 3.
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user as f64 + system as f64) / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_in_bytes() {
        let status = "Name:\tpgcorral\nVmHWM:\t    9000 kB\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(parse_resident(status), Some(2 * 1024 * 1024));
        assert_eq!(parse_resident("Name:\tkthreadd\n"), None);
        assert_eq!(parse_resident("VmRSS: 18446744073709551615 kB\n"), None);
    }

    #[test]
    fn processor_time_is_user_and_system_whatever_the_name() {
        let stat = "42 (a ) 1 2 (b) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 3 0 9000";
        assert_eq!(parse_cpu(stat), Some(3.0));
        assert_eq!(parse_cpu("42 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_files_memory_and_limits() {
        assert!(open_files().is_some_and(|files| files >= 3));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100 * 1024));
        assert!(cpu_seconds().is_some());
    }
}
