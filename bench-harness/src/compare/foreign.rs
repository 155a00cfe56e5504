//! What others did on the machine during a run.
//!
//! Does: take from the CPU time of the whole machine what the system, the generator, the referee and
//! the kernel's own threads used; what is left is somebody else's.
//! Does not: judge or wait for silence.
//! Invariants: the kernel's threads are nobody else: they write back what a system left in the page
//! cache. Where they cannot be seen, nothing is said rather than something wrong.
//! Apart because a run is watched from both ends, while other guards look before it or after all.

use std::collections::BTreeMap;

/// Nanoseconds of a tick of `/proc`: fixed at 100 per second for user space on Linux.
const TICK_NS: f64 = 1e7;
/// The process whose children are the kernel's threads.
const KERNEL: i32 = 2;

/// Counters at one moment, in ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time that all CPUs had.
    all: u64,
    /// Spent in programs and in the kernel for them. Interrupts are left out: on loopback they work
    /// for whoever sends. Many kernels count them for the interrupted program as well, so company of
    /// their share (a few per cent under full load) may be missed; none is invented.
    worked: u64,
    /// What this process spent, with its children that have ended: the generator is one of them.
    own: u64,
    /// What each thread of the kernel spent.
    kernel: BTreeMap<i32, u64>,
}

impl Moment {
    /// Now; nothing where the kernel does not tell.
    #[must_use]
    pub fn now() -> Option<Self> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let (all, worked) = machine(&read("/proc/stat")?)?;
        let own = Process::parse(&read("/proc/self/stat")?)?;
        let entries = std::fs::read_dir("/proc").ok()?;
        let pids =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let kernel: BTreeMap<i32, u64> = pids
            .filter_map(|pid| {
                let process = Process::parse(&read(&format!("/proc/{pid}/stat"))?)?;
                (process.parent == KERNEL).then_some((pid, process.own))
            })
            .collect();
        let seen = !kernel.is_empty();
        seen.then_some(Self { all, worked, own: own.own + own.children, kernel })
    }

    /// Share of the machine's CPU time since `earlier` that went to others, 0 to 1. `system_ns`: what
    /// the system under test used meanwhile.
    #[must_use]
    pub fn foreign_share(&self, earlier: &Self, system_ns: f64) -> f64 {
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let kernel = self.kernel.iter().map(|(pid, ticks)| {
            // A thread that was not there before began at zero.
            since(*ticks, earlier.kernel.get(pid).copied().unwrap_or(0))
        });
        let known = since(self.own, earlier.own) + kernel.sum::<f64>() + system_ns / TICK_NS;
        let (all, worked) = (since(self.all, earlier.all), since(self.worked, earlier.worked));
        if all > 0.0 { ((worked - known) / all).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// All ticks, and those of user, nice and system, in the text of `/proc/stat`.
fn machine(stat: &str) -> Option<(u64, u64)> {
    let first = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = first.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are counted in user already.
    let all = ticks.get(..8)?.iter().sum();
    Some((all, ticks[..3].iter().sum()))
}

/// What the text of `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    own: u64,
    children: u64,
}

impl Process {
    fn parse(stat: &str) -> Option<Self> {
        // The name in brackets may hold anything; behind it come state, parent and, from the twelfth
        // on, user and system ticks, those of the process and those of its ended children.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            children: ticks(13)? + ticks(14)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(all: u64, worked: u64, own: u64, kernel: &[(i32, u64)]) -> Moment {
        Moment { all, worked, own, kernel: kernel.iter().copied().collect() }
    }

    #[test]
    fn what_is_left_is_somebody_elses() {
        let before = moment(1_000, 500, 10, &[(3, 5), (4, 0)]);
        let after = moment(3_000, 1_500, 110, &[(3, 25), (4, 0), (9, 80)]);
        // 1,000 worked: 100 our own, 100 the kernel's, 700 the system's.
        let share = after.foreign_share(&before, 700.0 * TICK_NS);
        assert!((share - 0.05).abs() < 1e-9, "{share}");
        assert_eq!(after.foreign_share(&before, 9_000.0 * TICK_NS), 0.0, "rounding is nobody");
        assert_eq!(after.foreign_share(&after, 0.0), 0.0);
    }

    #[test]
    fn the_kernels_texts_are_understood() {
        assert_eq!(machine("cpu  1 2 3 4 5 6 7 8 9 10\n"), Some((36, 6)));
        assert_eq!(machine("cpu  1 2 3\n"), None);
        let stat = "7 (a) b) S 2 7 7 0 -1 4194304 100 0 0 0 30 12 5 6 20 0 1 0 100";
        assert_eq!(Process::parse(stat), Some(Process { parent: 2, own: 42, children: 11 }));
        assert_eq!(Process::parse("7"), None);
    }

    #[test]
    fn an_ended_child_is_our_own() {
        let Some(before) = Moment::now() else { return };
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let status = std::process::Command::new("sh").args(["-c", spin]).status();
        assert!(status.expect("it runs").success());
        let after = Moment::now().expect("as before");
        assert!(after.own > before.own, "{} to {}", before.own, after.own);
    }
}
