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
    Groups::own().memory_limits().into_iter().fold(machine, u64::min)
}

/// Cores' worth of time the cgroup grants; `None` if it grants all.
pub fn cpu_quota() -> Option<f64> {
    let files = Groups::own().files("", "cpu.max");
    let quotas = files.iter().filter_map(|text| parse_quota(text));
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

/// The control groups of this process. Version 1 has a tree for each controller, version 2 one for all;
/// a machine may have both, and then either may limit memory.
struct Groups {
    /// Where the trees are mounted.
    root: PathBuf,
    /// `/proc/self/cgroup`: a line `number:controllers:path` for each tree, version 2 without a name.
    own: String,
}

impl Groups {
    fn own() -> Self {
        let own = read_line("/proc/self/cgroup").unwrap_or_default();
        Self { root: PathBuf::from("/sys/fs/cgroup"), own }
    }

    /// The limits of memory, in bytes. Version 2 says "max" and version 1 a number beyond any machine
    /// where there is none.
    fn memory_limits(&self) -> Vec<u64> {
        let files = [("", "memory.max"), ("memory", "memory.limit_in_bytes")];
        let texts = files.into_iter().flat_map(|(controller, file)| self.files(controller, file));
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    /// One file of the process's group in the tree of this controller (none is version 2) and of every
    /// group above it: the tightest counts. In a container the path may be the host's, and only the
    /// top of what is mounted there exists: that is the container's own group.
    fn files(&self, controller: &str, file: &str) -> Vec<String> {
        let path = self.own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        });
        let Some(path) = path else { return Vec::new() };
        let top = self.root.join(controller);
        let group = top.join(path.trim_start_matches('/'));
        let up_to_top = group.ancestors().take_while(|folder| folder.starts_with(&top));
        let texts = up_to_top.filter_map(|folder| fs::read_to_string(folder.join(file)).ok());
        texts.map(|text| text.trim().to_owned()).collect()
    }
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
    fn the_tightest_group_of_either_version_limits_memory() {
        let root = std::env::temp_dir().join(format!("flumen-groups-{}", std::process::id()));
        let write = |file: &str, text: &str| {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let limits = |own: &str| {
            let mut limits = Groups { root: root.clone(), own: own.to_owned() }.memory_limits();
            limits.sort_unstable();
            limits
        };
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/a/memory.limit_in_bytes", "2000\n");
        write("memory/a/b/memory.limit_in_bytes", "3000\n");
        write("slice/memory.max", "1000\n");
        write("slice/unit/memory.max", "max\n");
        let first = "5:cpu,memory:/a/b\n4:pids:/a";
        assert_eq!(limits(first), [2000, 3000, 9_223_372_036_854_771_712]);
        assert_eq!(limits("0::/slice/unit"), [1000]);
        assert_eq!(limits("5:memory:/a\n0::/slice")[..2], [1000, 2000], "both are mounted");
        assert_eq!(limits("5:memory:/not/mounted/here").len(), 1, "a container's own is the top");
        assert!(limits("4:pids:/a").is_empty(), "nothing limits memory");
        fs::remove_dir_all(&root).unwrap();
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
