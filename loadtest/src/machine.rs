//! What figures were measured on: they mean little without it.

use std::fs;
use std::process::Command;

/// CPU model, cores, memory and kernel.
#[must_use]
pub fn describe() -> String {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The rest names the build of one host.
    let kernel: String =
        kernel.trim().chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
    let memory = memory_gib().map_or(String::new(), |gib| format!(", {gib} GiB"));
    format!("{}, {cores} cores{memory}, Linux {kernel}", model.unwrap_or("unknown CPU"))
}

fn memory_gib() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib + (1 << 19)) >> 20)
}

/// How busy the machine is: the load average of the last minute.
#[must_use]
pub fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}

/// The date (UTC), as `2026-11-23`.
#[must_use]
pub fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_cores_and_a_day_a_date() {
        assert!(describe().contains("cores"), "{}", describe());
        assert_eq!(today().len(), 10, "{}", today());
    }
}
