//! A broker with little memory and one processor, and what it takes of both.
//!
//! Does: make a memory group (version 1 or 2) below the one this process is in, start a broker in it, read its memory.
//! Does not: need one: without rights the broker runs outside, and whoever asks is told so.
//! Invariants: the group is removed when the cage is dropped; the broker is in it before its program begins.
//! Apart because only this knows how the kernel spells it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// A memory group, unless there is none to be had.
pub struct Cage {
    group: Option<Group>,
    /// Why there is none.
    pub why_not: Option<String>,
}

struct Group {
    folder: PathBuf,
    is_v2: bool,
}

impl Cage {
    /// A group that may take so many bytes.
    pub fn build(limit: u64) -> Self {
        match Group::make(limit) {
            Ok(group) => Self { group: Some(group), why_not: None },
            Err(why) => Self { group: None, why_not: Some(why) },
        }
    }

    /// What to start a broker with, its program being the last argument: inside, and on these processors.
    pub fn wrapper(&self, processors: &str) -> Command {
        let mut command = Command::new("sh");
        let enter = match self.group {
            Some(_) => "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"",
            None => "exec \"$@\"",
        };
        let folder = self.group.as_ref().map_or(Path::new("."), |group| &group.folder);
        command.args(["-c", enter]).arg(folder).args(["taskset", "-c", processors]);
        command
    }

    /// How many processes the kernel has killed in it for want of memory; `None` without a group.
    pub fn kills(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        let file = if group.is_v2 { "memory.events" } else { "memory.oom_control" };
        group.number_after(file, "oom_kill ")
    }

    /// The most bytes it ever had, files in the page cache among them; `None` without a group.
    pub fn highest(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        let file = if group.is_v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        group.number_after(file, "")
    }
}

impl Group {
    fn make(limit: u64) -> Result<Self, String> {
        let (above, is_v2) = own_group()?;
        let folder = above.join(format!("flumen-attack-{}", std::process::id()));
        if is_v2 {
            // Refused where the group above has processes of its own, unless it was allowed before.
            let _ = fs::write(above.join("cgroup.subtree_control"), "+memory");
        }
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        fs::create_dir(&folder).map_err(failed)?;
        let group = Self { folder: folder.clone(), is_v2 };
        let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(folder.join(file), limit.to_string()).map_err(failed)?;
        if is_v2 {
            // Where there is swap space, memory would be bounded by that.
            let _ = fs::write(folder.join("memory.swap.max"), "0");
        }
        Ok(group)
    }

    fn number_after(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that was just killed is still in it for a moment.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("left behind: {}", self.folder.display());
    }
}

/// The memory group this process is in, and whether it is of version 2.
fn own_group() -> Result<(PathBuf, bool), String> {
    let told = |file: &str| fs::read_to_string(file).map_err(|error| format!("{file}: {error}"));
    let (mounts, groups) = (told("/proc/self/mounts")?, told("/proc/self/cgroup")?);
    let mounted = |kind: &str, option: &str| {
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.find_map(|words| match words[..] {
            [_, place, of, options, ..] if of == kind && has(options, option) => {
                Some(PathBuf::from(place))
            }
            _ => None,
        })
    };
    let path = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    // Where both are mounted, memory belongs to version 1 if it is named there.
    if let (Some(root), Some(own)) = (mounted("cgroup", "memory"), path(&|of| has(of, "memory"))) {
        return Ok((root.join(own), false));
    }
    match (mounted("cgroup2", ""), path(&str::is_empty)) {
        (Some(root), Some(own)) => Ok((root.join(own), true)),
        _ => Err("no memory groups are mounted here".to_owned()),
    }
}

/// Whether a list with commas names it; every list has the empty name.
fn has(list: &str, name: &str) -> bool {
    name.is_empty() || list.split(',').any(|word| word == name)
}

/// How many files and connections this process may have open; the broker it starts may have as many.
pub fn descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}

/// Bytes a process has resident, and the most it ever had; `None` when it is gone.
pub fn resident(process: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    Some((kib("VmRSS:")? << 10, kib("VmHWM:")? << 10))
}
