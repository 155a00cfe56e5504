//! What a broker consumes, seen from outside.
//!
//! Does: look at all of its processes twice a second and cut the measured part out afterwards.
//! Does not: ask the broker.
//! Invariants: counters only grow: what a thread or process had used when it was last seen stays
//! counted after its end. The generator and the keeper are not counted.
//! Apart because costs must be taken the same way from every system.
//!
//! CPU time comes from a cgroup (version 2) of the broker's own where one can be made; it misses
//! nothing. Elsewhere it is the scheduler's nanoseconds of all threads, or, where that is more, the
//! kernel's ticks of all processes, which also count threads that ended. Written bytes are those
//! that the kernel charges to the processes (`write_bytes` of `/proc/PID/io`): direct writes when
//! they are issued, buffered ones when a page becomes dirty. See [`WRITTEN_MISSES`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::tree;
use crate::limits::WATCH_EVERY_MS;
use crate::outcome::comparison::Cost;

/// What the number of written bytes does not hold.
pub const WRITTEN_MISSES: &str = "written bytes are those the kernel charges to the broker's \
    processes: the file system's journal and metadata, discards and what the device writes for \
    itself are missing; a page that becomes dirty counts even if its file is deleted before it \
    reaches the device";

/// Ticks of `/proc/PID/stat`: fixed at 100 per second for user space on Linux.
const TICK_NS: u64 = 10_000_000;
/// Looks between two searches for new processes: they are rare, and the search is the dear part.
const SEARCH_EVERY: u32 = 4;

/// Everything consumed since the start, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When, milliseconds since 1970.
    pub at_ms: f64,
    /// CPU nanoseconds.
    pub cpu_ns: f64,
    /// Context switches.
    pub switches: f64,
    /// Bytes written.
    pub written: f64,
    /// Resident memory now, bytes.
    pub rss: f64,
}

/// A thread that looks.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
}

/// The nicest there is, for this thread alone.
const LEAST_PRIORITY: i32 = 19;

impl Watch {
    /// Begins to watch the descendants of a keeper.
    #[must_use]
    pub fn begin(keeper: i32, cgroup: Option<PathBuf>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // It shares a CPU with the generator, and the more threads a system has, the longer a
            // look takes: it must not become part of that system's latency. Not being allowed to
            // step back is no reason not to look.
            let _ = rustix::process::setpriority_process(None, LEAST_PRIORITY);
            let mut watcher = Watcher { keeper, cgroup, ..Watcher::default() };
            let mut samples = vec![watcher.look()];
            while !seen.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(WATCH_EVERY_MS));
                samples.push(watcher.look());
            }
            samples
        });
        Self { stop, thread }
    }

    /// Ends it and hands out what was seen.
    #[must_use]
    pub fn end(self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}

/// What was consumed between two moments; counters between two looks are taken as steady.
#[must_use]
pub fn cost(samples: &[Sample], from_ms: f64, to_ms: f64) -> Cost {
    let (Some(begin), Some(end)) = (at(samples, from_ms), at(samples, to_ms)) else {
        return Cost::default();
    };
    const MIB: f64 = 1024.0 * 1024.0;
    let used = |pick: fn(&Sample) -> f64| (pick(&end) - pick(&begin)).max(0.0);
    let within = samples.iter().filter(|sample| sample.at_ms <= to_ms);
    Cost {
        cpu_seconds: used(|sample| sample.cpu_ns) / 1e9,
        rss_mib: end.rss / MIB,
        rss_peak_mib: within.map(|sample| sample.rss).fold(end.rss, f64::max) / MIB,
        context_switches: used(|sample| sample.switches) as u64,
        device_written_bytes: used(|sample| sample.written) as u64,
        start_seconds: 0.0,
    }
}

/// CPU nanoseconds from the first look to the last.
#[must_use]
pub fn used_ns(samples: &[Sample]) -> f64 {
    let ends = samples.first().zip(samples.last());
    ends.map_or(0.0, |(first, last)| (last.cpu_ns - first.cpu_ns).max(0.0))
}

fn at(samples: &[Sample], ms: f64) -> Option<Sample> {
    let after = samples.iter().position(|sample| sample.at_ms >= ms);
    let (old, new) = match after {
        None => return samples.last().copied(),
        Some(0) => return samples.first().copied(),
        Some(index) => (samples[index - 1], samples[index]),
    };
    let share = (ms - old.at_ms) / (new.at_ms - old.at_ms).max(f64::MIN_POSITIVE);
    let mix = |pick: fn(&Sample) -> f64| pick(&old) + (pick(&new) - pick(&old)) * share;
    Some(Sample {
        at_ms: ms,
        cpu_ns: mix(|sample| sample.cpu_ns),
        switches: mix(|sample| sample.switches),
        written: mix(|sample| sample.written),
        rss: mix(|sample| sample.rss),
    })
}

/// What was last seen of one process.
#[derive(Clone, Debug, Default)]
struct Process {
    ticks_ns: u64,
    written: u64,
    /// CPU nanoseconds and context switches by thread.
    threads: BTreeMap<i32, (u64, u64)>,
}

#[derive(Debug, Default)]
struct Watcher {
    keeper: i32,
    cgroup: Option<PathBuf>,
    looks: u32,
    alive: Vec<i32>,
    seen: BTreeMap<i32, Process>,
}

impl Watcher {
    fn look(&mut self) -> Sample {
        if self.looks.is_multiple_of(SEARCH_EVERY) || self.alive.is_empty() {
            self.alive = tree::descendants(self.keeper);
        }
        self.looks = self.looks.wrapping_add(1);
        let mut rss = 0;
        for pid in &self.alive {
            let process = self.seen.entry(*pid).or_default();
            rss += process.look(&Path::new("/proc").join(pid.to_string()));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sum = |pick: fn(&Process) -> u64| self.seen.values().map(pick).sum::<u64>() as f64;
        let cpu_ns = self.cgroup.as_deref().and_then(cgroup_cpu_ns);
        Sample {
            at_ms: since.as_secs_f64() * 1e3,
            cpu_ns: cpu_ns.map_or_else(|| sum(Process::cpu_ns), |ns| ns as f64),
            switches: sum(|process| process.threads.values().map(|thread| thread.1).sum()),
            written: sum(|process| process.written),
            rss: rss as f64,
        }
    }
}

impl Process {
    /// Takes what the kernel says; resident bytes are handed back, as they belong to the moment.
    fn look(&mut self, folder: &Path) -> u64 {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        if let Some(ticks) = stat_ticks(&read("stat")) {
            self.ticks_ns = self.ticks_ns.max(ticks * TICK_NS);
        }
        self.written = self.written.max(field(&read("io"), "write_bytes:"));
        let threads = std::fs::read_dir(folder.join("task")).into_iter().flatten();
        for thread in threads.filter_map(Result::ok) {
            let Some(tid) = thread.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let text = |name: &str| std::fs::read_to_string(thread.path().join(name)).ok();
            let (Some(schedstat), Some(status)) = (text("schedstat"), text("status")) else {
                continue;
            };
            let ns =
                schedstat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            let switches = field(&status, "voluntary_ctxt_switches:")
                + field(&status, "nonvoluntary_ctxt_switches:");
            self.threads.insert(tid, (ns, switches));
        }
        field(&read("status"), "VmRSS:") * 1024
    }

    /// Ticks are rounded, so they only go before the scheduler's count where threads have ended
    /// and taken their share of that count with them.
    fn cpu_ns(&self) -> u64 {
        let scheduled = self.threads.values().map(|thread| thread.0).sum::<u64>();
        scheduled.max(self.ticks_ns.saturating_sub(2 * TICK_NS))
    }
}

/// User and system ticks in the text of `/proc/PID/stat`: fields 14 and 15.
fn stat_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// The number behind a name at the beginning of a line; 0 where it is not there.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn cgroup_cpu_ns(cgroup: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(cgroup.join("cpu.stat")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec ")?.parse::<u64>().ok())
        .map(|us| us * 1000)
}

/// A cgroup (version 2) of one's own, removed when dropped.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one below that of this process; nothing where that is not allowed.
    #[must_use]
    pub fn make(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split_whitespace().nth(4))?
        })?;
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let cgroup = Self(Path::new(mount).join(own).join(name));
        std::fs::create_dir(&cgroup.0).ok()?;
        // Made is not yet allowed to be used: try with a process that ends at once.
        let joined = std::process::Command::new("sh")
            .args(["-c", "echo 0 > \"$0\"", &cgroup.0.join("cgroup.procs").to_string_lossy()])
            .stderr(std::process::Stdio::null())
            .status();
        (joined.is_ok_and(|status| status.success()) && cgroup_cpu_ns(&cgroup.0).is_some())
            .then_some(cgroup)
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        super::keeper::removed(&self.0, |path| std::fs::remove_dir(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: f64, cpu_ns: f64, rss: f64) -> Sample {
        Sample { at_ms, cpu_ns, switches: cpu_ns / 1e6, written: cpu_ns, rss }
    }

    #[test]
    fn the_measured_part_is_cut_out() {
        const MIB: f64 = 1024.0 * 1024.0;
        let samples = [
            sample(0.0, 0.0, MIB),
            sample(1000.0, 1e9, 9.0 * MIB),
            sample(2000.0, 3e9, 5.0 * MIB),
            sample(3000.0, 9e9, 99.0 * MIB),
        ];
        let found = cost(&samples, 500.0, 2000.0);
        assert!((found.cpu_seconds - 2.5).abs() < 1e-9, "{found:?}");
        assert_eq!((found.rss_mib, found.rss_peak_mib), (5.0, 9.0));
        assert_eq!(found.context_switches, 2500);
        assert_eq!(found.device_written_bytes, 2_500_000_000);
    }

    #[test]
    fn outside_of_what_was_seen_the_ends_count() {
        let samples = [sample(1000.0, 1e9, 1.0), sample(2000.0, 2e9, 1.0)];
        assert!((cost(&samples, 0.0, 9000.0).cpu_seconds - 1.0).abs() < 1e-9);
        assert_eq!(cost(&[], 0.0, 1.0), Cost::default());
        assert!((used_ns(&samples) - 1e9).abs() < 1.0 && used_ns(&[]) == 0.0);
    }

    #[test]
    fn the_kernels_texts_are_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 30 12 5 5 20 0 1 0 100";
        assert_eq!(stat_ticks(stat), Some(42));
        assert_eq!(stat_ticks("7"), None);
        let io = "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 9\n";
        assert_eq!(field(io, "write_bytes:"), 4096);
        assert_eq!(field(io, "nothing:"), 0);
        assert_eq!(field("VmHWM:\t9 kB\nVmRSS:\t  1234 kB\n", "VmRSS:"), 1234);
    }

    #[test]
    fn what_ended_threads_used_stays_counted() {
        let threads = BTreeMap::from([(1, (1_000_000_000, 5))]);
        let mut process = Process { ticks_ns: 1_010_000_000, written: 0, threads };
        assert_eq!(process.cpu_ns(), 1_000_000_000, "a tick of rounding is no thread");
        process.ticks_ns = 3_000_000_000;
        assert_eq!(process.cpu_ns(), 2_980_000_000);
    }

    #[test]
    fn this_very_process_can_be_watched() {
        let mut process = Process::default();
        assert!(process.look(Path::new("/proc/self")) > 0);
        assert!(process.cpu_ns() > 0 && !process.threads.is_empty());
    }
}
