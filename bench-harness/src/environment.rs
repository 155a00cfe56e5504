//! The machine and the moment, as a measurement finds them.
//!
//! Does: fill in an [`Environment`] from what the kernel tells about itself, the processor, the
//! memory and the file system below a folder.
//! Does not: measure; judge whether two machines may be compared.
//! Invariants: it never fails, since a kernel that hides a fact must not cost anybody a
//! measurement; what is unknown is left empty or 0.
//! Apart because `limits`, `load` and `compare` all sign their results with it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::outcome::environment::Environment;

impl Environment {
    /// This machine now. `folder` is where data lies; without one the file system stays empty.
    pub fn of(folder: Option<&Path>) -> Self {
        let mount = folder.and_then(below).unwrap_or_default();
        Self {
            started_unix_ms: unix_ms(),
            kernel: text_of(rustix::system::uname().release()),
            cpu_model: cpu_model(&contents("/proc/cpuinfo")),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory_mib(&contents("/proc/meminfo")),
            file_system: mount.file_system,
            device: mount.device,
            tool_version: tool_version(),
        }
    }
}

/// What is mounted where a folder lies.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mount {
    file_system: String,
    device: String,
}

fn below(folder: &Path) -> Option<Mount> {
    let path = folder.canonicalize().ok()?;
    mount_of(&contents("/proc/self/mountinfo"), &path)
}

/// Finds the innermost mount above `path`; of several on one point the last covers the others.
/// By name and not by device number, because some file systems answer `stat` with a number that
/// no mount has.
fn mount_of(mounts: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<(usize, Mount)> = None;
    for line in mounts.lines() {
        let Some((point, mount)) = parsed(line) else { continue };
        let depth = point.components().count();
        if path.starts_with(&point) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, mount));
        }
    }
    best.map(|(_, mount)| mount)
}

/// One line of `mountinfo`: the mount point is the fifth word; type and source follow a lone dash.
fn parsed(line: &str) -> Option<(PathBuf, Mount)> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let mount = Mount { file_system: plain(after.next()?), device: plain(after.next()?) };
    Some((PathBuf::from(plain(point)), mount))
}

/// Undoes the kernel's octal escapes of blank, tab, newline and backslash.
fn plain(word: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(word.to_owned(), |text, (escape, meant)| text.replace(escape, meant))
}

/// Processors that do not tell a model (most of ARM) are called by their architecture.
fn cpu_model(cpuinfo: &str) -> String {
    ["model name", "Model", "cpu model"]
        .iter()
        .find_map(|key| value_of(cpuinfo, key))
        .unwrap_or_else(|| text_of(rustix::system::uname().machine()))
}

fn memory_mib(meminfo: &str) -> u64 {
    let kib = value_of(meminfo, "MemTotal")
        .and_then(|value| value.split(' ').next().and_then(|number| number.parse::<u64>().ok()));
    kib.unwrap_or(0) / 1024
}

fn value_of(table: &str, key: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key && !value.trim().is_empty()).then(|| value.trim().to_owned())
    })
}

/// A build without optimisation says so: its processor numbers are worth nothing.
fn tool_version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    if cfg!(debug_assertions) { format!("{version} (debug build)") } else { version.to_owned() }
}

fn contents(path: &str) -> String {
    std::fs::read(path).map_or_else(|_| String::new(), |bytes| text_of_bytes(&bytes))
}

fn text_of(text: &std::ffi::CStr) -> String {
    text_of_bytes(text.to_bytes())
}

fn text_of_bytes(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /data rw - tmpfs tmpfs rw
31 22 254:16 / /data rw - xfs /dev/vdb rw
32 31 254:32 /sub /data/with\\040blank rw - btrfs /dev/vdc rw,subvol=/sub
";

    fn found(path: &str) -> (String, String) {
        let mount = mount_of(MOUNTS, Path::new(path)).expect("something is mounted on the root");
        (mount.file_system, mount.device)
    }

    #[test]
    fn the_innermost_and_last_mount_counts() {
        assert_eq!(found("/srv"), ("ext4".into(), "/dev/vda".into()));
        assert_eq!(found("/data/logs"), ("xfs".into(), "/dev/vdb".into()));
        assert_eq!(found("/database"), ("ext4".into(), "/dev/vda".into()));
        assert_eq!(found("/data/with blank/x"), ("btrfs".into(), "/dev/vdc".into()));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_no_reason_to_fail() {
        assert_eq!(mount_of("", Path::new("/srv")), None);
        assert_eq!(mount_of("no such format\n - \n", Path::new("/srv")), None);
    }

    #[test]
    fn processor_and_memory_are_read_from_the_kernels_tables() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Fast 9000\n"), "Fast 9000");
        assert_eq!(cpu_model("processor\t: 0\n"), text_of(rustix::system::uname().machine()));
        assert_eq!(memory_mib("MemFree: 1 kB\nMemTotal:       24123456 kB\n"), 23_558);
        assert_eq!(memory_mib("nothing"), 0);
    }

    #[test]
    fn this_machine_has_a_kernel_a_processor_and_memory() {
        let here = Environment::of(Some(&std::env::temp_dir()));
        assert!(!here.kernel.is_empty() && !here.cpu_model.is_empty());
        assert!(here.cpus > 0 && here.memory_mib > 0 && here.started_unix_ms > 0);
        assert!(!here.file_system.is_empty());
        assert_eq!(Environment::of(None).file_system, "");
    }
}
