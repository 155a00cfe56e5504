//! Who descends from whom.
//!
//! Does: list the descendants of a process and end them.
//! Does not: measure them.
//! Invariants: a process that was adopted by a subreaper still counts as its descendant.
//! Apart because keeper and watcher must mean the same processes.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// Looks before giving up on processes that the kernel cannot end.
const KILL_ROUNDS_MAX: u32 = 500;

/// All living descendants of `root`, without itself.
#[must_use]
pub fn descendants(root: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let parents: BTreeMap<i32, i32> = pids
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parent(&stat)?))
        })
        .collect();
    below(root, &parents)
}

/// The parent in the text of `/proc/PID/stat`; nothing for a process that has ended and only waits
/// to be collected. The name before it may hold blanks and brackets.
fn parent(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.next()?.parse().ok()
}

fn below(root: i32, parents: &BTreeMap<i32, i32>) -> Vec<i32> {
    let mut found: Vec<i32> = Vec::new();
    let mut wanted = vec![root];
    while let Some(parent) = wanted.pop() {
        for (pid, of) in parents {
            if *of == parent && !found.contains(pid) && *pid != root {
                found.push(*pid);
                wanted.push(*pid);
            }
        }
    }
    found
}

/// Kills every descendant of `root`, also those that are born meanwhile.
pub fn kill_descendants(root: Pid) {
    for _ in 0..KILL_ROUNDS_MAX {
        let alive = descendants(root.as_raw_nonzero().get());
        if alive.is_empty() {
            return;
        }
        for pid in alive.into_iter().filter_map(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_found_behind_any_name() {
        assert_eq!(parent("42 (a b) c) S 7 42 42 0 -1"), Some(7));
        assert_eq!(parent("42 (java) Z 7 42 42 0 -1"), None);
        assert_eq!(parent("42"), None);
    }

    #[test]
    fn grandchildren_descend_and_strangers_do_not() {
        let parents = BTreeMap::from([(10, 1), (11, 10), (12, 11), (13, 10), (20, 1), (21, 20)]);
        let mut found = below(10, &parents);
        found.sort_unstable();
        assert_eq!(found, [11, 12, 13]);
        assert!(below(99, &parents).is_empty());
    }
}
