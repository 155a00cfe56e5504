//! The clocks of the harness.
//!
//! Does: read monotonic, wall and processor time in the units the other rooms count in.
//! Does not: sleep.
//! Invariants: monotonic times of two processes of one machine can be compared.
//! Apart so that every measured instant comes from one place.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds since an arbitrary moment that all processes of this machine share.
#[must_use]
pub fn now_ns() -> u64 {
    nanos(ClockId::Monotonic)
}

/// Milliseconds since 1970 UTC.
#[must_use]
pub fn wall_ms() -> u64 {
    nanos(ClockId::Realtime) / 1_000_000
}

/// Processor time that this process has used, nanoseconds.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    nanos(ClockId::ProcessCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither field is negative for these clocks.
    time.tv_sec as u64 * SECOND_NS + time.tv_nsec as u64
}
