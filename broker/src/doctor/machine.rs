//! Facts about the machine and the share of it this process has.
//!
//! Does: reads names, limits and cgroup files. Does not: judge them.
//! Invariants: a fact that cannot be read is `None` or the machine's whole, never a guess.
//! Apart because `serve` needs some of them too (host name, memory, cores).
#![expect(
    clippy::disallowed_methods,
    reason = "reads what the system says of itself, before any core runs"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// The machine's own name, as `uname -n`.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Major and minor version of the kernel, and its whole name.
pub fn kernel() -> (u32, u32, String) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let (major, minor) = parse_kernel(&release);
    (major, minor, release)
}

/// Cores the process may run on.
pub fn core_count() -> usize {
    let allowed = rustix::thread::sched_getaffinity(None).map(|set| set.count() as usize);
    allowed.unwrap_or(1).max(1)
}

/// Bytes of memory the process may use: the machine's, or less where a cgroup says so.
pub fn memory_bytes() -> u64 {
    let system = rustix::system::sysinfo();
    let machine = (system.totalram as u64).saturating_mul(u64::from(system.mem_unit));
    cgroup_numbers("memory.max").into_iter().fold(machine, u64::min)
}

/// Cores' worth of time the cgroup grants; `None` if it grants all.
pub fn cpu_quota() -> Option<f64> {
    let quotas = cgroup_files("cpu.max").into_iter().filter_map(|text| parse_quota(&text));
    quotas.reduce(f64::min)
}

/// The trimmed text of a small file of the kernel.
pub fn read_line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The nearest folder above `dir` that exists, `dir` included.
pub fn existing_ancestor(dir: &Path) -> PathBuf {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    absolute.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn parse_kernel(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// `quota period` in microseconds; `max` means no quota.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

fn cgroup_numbers(file: &str) -> Vec<u64> {
    cgroup_files(file).iter().filter_map(|text| text.parse().ok()).collect()
}

/// One file of the process's cgroup and of every cgroup above it: the tightest counts.
fn cgroup_files(file: &str) -> Vec<String> {
    let own = read_line("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Vec::new();
    };
    let root = Path::new("/sys/fs/cgroup");
    let group = root.join(path.trim_start_matches('/'));
    let above = group.ancestors().take_while(|folder| folder.starts_with(root));
    above
        .filter_map(|folder| fs::read_to_string(folder.join(file)).ok())
        .map(|t| t.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_names_of_distributions_are_read() {
        assert_eq!(parse_kernel("6.18.0-12-generic"), (6, 18));
        assert_eq!(parse_kernel("5.15.167.4-microsoft-standard-WSL2"), (5, 15));
        assert_eq!(parse_kernel("strange"), (0, 0));
    }

    #[test]
    fn a_quota_is_in_cores() {
        assert_eq!(parse_quota("150000 100000"), Some(1.5));
        assert_eq!(parse_quota("max 100000"), None);
        assert_eq!(parse_quota("1 0"), None);
    }

    #[test]
    fn this_machine_has_a_name_memory_and_a_core() {
        assert!(!hostname().is_empty());
        assert!(memory_bytes() > 1 << 20);
        assert!(core_count() >= 1);
    }

    #[test]
    fn the_nearest_folder_that_exists() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(existing_ancestor(&here.join("no/such")), here);
        assert_eq!(existing_ancestor(here), here);
    }
}
