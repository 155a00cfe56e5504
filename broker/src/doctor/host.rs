//! Kernel, io_uring, limits, processors, memory and clocks.
//!
//! Does: judges each and says what to do. Does not: look at the data folder (`disk` does).
//! Invariants: cheap enough for every start.
//! Apart from `disk` because nothing here depends on a folder.
#![expect(clippy::disallowed_methods, reason = "looks at the machine before any core runs")]

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit};

use super::{Finding, machine};

/// All of them.
pub fn findings() -> Vec<Finding> {
    let cores = machine::core_count();
    let locked = getrlimit(Resource::Memlock);
    vec![
        kernel(machine::kernel()),
        memlock(locked, cores),
        io_uring(locked),
        open_files(getrlimit(Resource::Nofile)),
        processors(cores, machine::cpu_quota()),
        memory(machine::memory_bytes()),
        clock_source(machine::read_line(CLOCK_SOURCE).as_deref()),
        wall_clock(SystemTime::now()),
    ]
}

/// 5.13 brings polls that go on by themselves; 6.1 completions that are only looked at when asked for.
const KERNEL_NEEDED: (u32, u32) = (5, 13);
const KERNEL_GOOD: (u32, u32) = (6, 1);

/// Below this the executor refuses to start.
const MEMLOCK_NEEDED_BYTES: u64 = 512 << 10;

/// Registered I/O memory of one core (10 MiB) and the rings beside it.
const MEMLOCK_PER_CORE_BYTES: u64 = 12 << 20;

/// A connection and a segment are a file each; 1,024 are gone with the first busy hour.
const OPEN_FILES_NEEDED: u64 = 256;
const OPEN_FILES_GOOD: u64 = 16_384;

const MEMORY_GOOD_BYTES: u64 = 256 << 20;

/// 2025-01-01 UTC: this program is younger, so an earlier clock is a clock that was never set.
const WALL_CLOCK_FIRST_SECONDS: u64 = 1_735_689_600;

const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

fn kernel((major, minor, release): (u32, u32, String)) -> Finding {
    let found = format!("Linux {release}");
    if (major, minor) < KERNEL_NEEDED {
        Finding::fail("kernel", found, "install Linux 5.13 or newer; 6.1 or newer is recommended")
    } else if (major, minor) < KERNEL_GOOD {
        Finding::warn("kernel", found, "it works; Linux 6.1 or newer needs fewer system calls")
    } else {
        Finding::ok("kernel", found)
    }
}

/// Builds one executor as `serve` does, on a thread of its own so that nothing of it stays behind.
fn io_uring(locked: Rlimit) -> Finding {
    if locked.current.is_some_and(|bytes| bytes < MEMLOCK_NEEDED_BYTES) {
        // The executor would refuse for this reason alone and hide any other.
        return Finding::fail(
            "io_uring",
            "not tried: too little may be locked",
            "raise the memlock limit, then look again",
        );
    }
    let attempt = std::thread::spawn(|| {
        let builder = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound);
        builder.io_memory(64 << 10).make().map(drop).map_err(|error| error.to_string())
    });
    match attempt.join() {
        Ok(Ok(())) => Finding::ok("io_uring", "a ring can be set up"),
        Ok(Err(error)) => io_uring_refused(&error),
        Err(_) => io_uring_refused("the executor gave up"),
    }
}

fn io_uring_refused(error: &str) -> Finding {
    let disabled = machine::read_line("/proc/sys/kernel/io_uring_disabled");
    let advice = match disabled.as_deref() {
        Some("1" | "2") => "the kernel forbids it: sysctl kernel.io_uring_disabled=0",
        Some(_) => {
            "a container runtime or sandbox forbids it: allow io_uring_setup, io_uring_enter and \
             io_uring_register in its seccomp profile"
        }
        None => {
            "the kernel may lack io_uring, or a sandbox forbids it: allow io_uring_setup, \
             io_uring_enter and io_uring_register"
        }
    };
    Finding::fail("io_uring", format!("no ring can be set up: {error}"), advice)
}

fn memlock(limit: Rlimit, cores: usize) -> Finding {
    let wanted = MEMLOCK_PER_CORE_BYTES * cores as u64;
    let advice = "raise it: ulimit -l unlimited, LimitMEMLOCK=infinity in a systemd unit, or \
                  --ulimit memlock=-1 for a container";
    match limit.current {
        None => Finding::ok("memlock", "unlimited"),
        Some(bytes) => {
            let found = format!(
                "{} KiB may be locked; {cores} cores want {} KiB",
                bytes >> 10,
                wanted >> 10
            );
            let finding = if bytes < MEMLOCK_NEEDED_BYTES {
                Finding::fail("memlock", found, advice)
            } else if bytes < wanted {
                Finding::warn("memlock", found, advice)
            } else {
                Finding::ok("memlock", found)
            };
            finding.with("limit_bytes", bytes as f64)
        }
    }
}

fn open_files(limit: Rlimit) -> Finding {
    let Some(soft) = limit.current else { return Finding::ok("open_files", "unlimited") };
    let found = format!("{soft} files and connections may be open");
    let hard = limit.maximum.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string());
    let advice =
        format!("raise it: ulimit -n (up to {hard} here), or LimitNOFILE= in a systemd unit");
    let finding = if soft < OPEN_FILES_NEEDED {
        Finding::fail("open_files", found, advice)
    } else if soft < OPEN_FILES_GOOD {
        Finding::warn("open_files", found, advice)
    } else {
        Finding::ok("open_files", found)
    };
    finding.with("limit", soft as f64)
}

fn processors(cores: usize, quota: Option<f64>) -> Finding {
    let finding = match quota {
        Some(quota) if quota < cores as f64 => Finding::warn(
            "processors",
            format!("{cores} cores, but a cgroup grants {quota:.1} cores' worth of time"),
            format!(
                "a thread per core that is throttled stalls its clients: set flumen.cores={} or lift the quota",
                (quota.floor() as usize).max(1)
            ),
        ),
        Some(_) | None => Finding::ok("processors", format!("{cores} cores, no quota below that")),
    };
    finding.with("cores", cores as f64)
}

fn memory(bytes: u64) -> Finding {
    let found = format!("{} MiB may be used", bytes >> 20);
    let finding = if bytes < MEMORY_GOOD_BYTES {
        Finding::warn("memory", found, "give it 256 MiB or more, or keep flumen.cores=1")
    } else {
        Finding::ok("memory", found)
    };
    finding.with("available_bytes", bytes as f64)
}

fn clock_source(source: Option<&str>) -> Finding {
    match source {
        Some(slow @ ("hpet" | "acpi_pm" | "jiffies")) => Finding::warn(
            "clock_source",
            format!("{slow}: reading the time costs microseconds"),
            "boot with clocksource=tsc if the processor's counter is steady, or fix the hypervisor's clock",
        ),
        Some(fast) => Finding::ok("clock_source", fast),
        None => Finding::ok("clock_source", "not told by this system"),
    }
}

fn wall_clock(now: SystemTime) -> Finding {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds < WALL_CLOCK_FIRST_SECONDS {
        Finding::fail(
            "wall_clock",
            format!("{seconds} s after 1970, which is before 2025"),
            "set the clock (chronyd, systemd-timesyncd): retention by time would keep or delete wrongly",
        )
    } else {
        Finding::ok("wall_clock", format!("{seconds} s after 1970"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Verdict;
    use super::*;

    fn limit(current: Option<u64>) -> Rlimit {
        Rlimit { current, maximum: None }
    }

    #[test]
    fn old_kernels_are_refused_and_middling_ones_noted() {
        let verdict = |major, minor| kernel((major, minor, String::new())).verdict;
        assert_eq!(verdict(5, 12), Verdict::Fail);
        assert_eq!(verdict(5, 15), Verdict::Warn);
        assert_eq!(verdict(6, 1), Verdict::Ok);
        assert_eq!(verdict(10, 0), Verdict::Ok);
    }

    #[test]
    fn memlock_is_judged_by_the_number_of_cores() {
        assert_eq!(memlock(limit(Some(64 << 10)), 1).verdict, Verdict::Fail);
        assert_eq!(memlock(limit(Some(8 << 20)), 2).verdict, Verdict::Warn);
        assert_eq!(memlock(limit(Some(24 << 20)), 2).verdict, Verdict::Ok);
        assert_eq!(memlock(limit(None), 64).verdict, Verdict::Ok);
    }

    #[test]
    fn a_memlock_limit_that_is_too_low_is_named_as_the_reason() {
        let finding = io_uring(limit(Some(64 << 10)));
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.advice.contains("memlock"));
    }

    #[test]
    fn the_usual_limit_of_open_files_is_too_low() {
        assert_eq!(open_files(limit(Some(1024))).verdict, Verdict::Warn);
        assert_eq!(open_files(limit(Some(65_536))).verdict, Verdict::Ok);
        assert_eq!(open_files(limit(Some(64))).verdict, Verdict::Fail);
    }

    #[test]
    fn a_quota_below_the_cores_is_advice_with_a_number() {
        let finding = processors(8, Some(2.5));
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.advice.contains("flumen.cores=2"), "{}", finding.advice);
        assert!(processors(8, Some(0.5)).advice.contains("flumen.cores=1"));
        assert_eq!(processors(2, Some(2.0)).verdict, Verdict::Ok);
    }

    #[test]
    fn a_clock_that_was_never_set_is_refused() {
        assert_eq!(wall_clock(UNIX_EPOCH + Duration::from_secs(60)).verdict, Verdict::Fail);
        assert_eq!(wall_clock(UNIX_EPOCH - Duration::from_secs(60)).verdict, Verdict::Fail);
        assert_eq!(
            wall_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000)).verdict,
            Verdict::Ok
        );
        assert_eq!(clock_source(Some("hpet")).verdict, Verdict::Warn);
        assert_eq!(clock_source(Some("tsc")).verdict, Verdict::Ok);
    }
}
