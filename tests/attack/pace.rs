//! When an attack ends, and how often it may do something until then.
//!
//! Does: keep a rate without making up for lost time; hold a crowd that comes at one.
//! Does not: measure anything.
//! Invariants: a pace never gets ahead of its rate by more than [`BURST`].
//! Apart because attackers without a rate would starve the client they are to be measured by.

use std::thread;
use std::time::{Duration, Instant};

/// How much may be made up for at once: a moment without the processor is no reason for a storm after it.
const BURST: Duration = Duration::from_millis(10);

/// When it is over.
#[derive(Clone, Copy)]
pub struct Until(Instant);

impl Until {
    /// So long from now on.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Whether it is.
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// Sleeps, but not beyond it.
    pub fn sleep(self, time: Duration) {
        thread::sleep(time.min(self.0.saturating_duration_since(Instant::now())));
    }
}

/// So many turns a second.
pub struct Pace {
    interval: Duration,
    /// How much is made up for.
    burst: Duration,
    next: Instant,
    until: Until,
}

impl Pace {
    /// Begins at once.
    pub fn new(per_second: u32, until: Until) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second,
            burst: BURST,
            next: Instant::now(),
            until,
        }
    }

    /// Begins at once, and makes up for nothing.
    pub fn without_bursts(per_second: u32, until: Until) -> Self {
        Self { burst: Duration::ZERO, ..Self::new(per_second, until) }
    }

    /// Waits for the next turn; how much too late it wakes up, and `None` when it is over.
    pub fn turn(&mut self) -> Option<Duration> {
        let due = self.next;
        let wait = due.saturating_duration_since(Instant::now());
        self.until.sleep(wait);
        let now = Instant::now();
        let earliest = now.checked_sub(self.burst).unwrap_or(now);
        self.next = (due + self.interval).max(earliest);
        // A turn that comes late because its last one took long is not the machine's fault.
        let late = if wait.is_zero() { wait } else { now.saturating_duration_since(due) };
        (!self.until.is_over()).then_some(late)
    }
}

/// Holds as many as `size` of what is made, so many more a second; the oldest gives way. How many were
/// made; one that was not (`None`) does not count.
pub fn crowd<T>(until: Until, size: usize, per_second: u32, make: impl Fn() -> Option<T>) -> u64 {
    let mut pace = Pace::new(per_second, until);
    let (mut held, mut count) = (Vec::new(), 0);
    while pace.turn().is_some() {
        let Some(one) = make() else { continue };
        if held.len() < size {
            held.push(one);
        } else {
            held[count as usize % size] = one;
        }
        count += 1;
    }
    count
}
