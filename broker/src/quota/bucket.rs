//! A token bucket.
//!
//! Does: fill with time up to a brim, give, go into debt, say how long until the debt is paid.
//! Does not: know what its tokens are, nor the time.
//! Invariants: never above the brim of the last bound it was asked with; time that goes back fills
//! nothing.
//! Apart because it is the whole of the arithmetic, and it is pure.
//!
//! Kafka measures the rate over a window of samples and has a client wait until the rate of the
//! window is back at the bound. A bucket whose brim is what the window lets through at once gives the
//! same waits: debt divided by the rate.

use std::time::Duration;

use flumen_protocol::time::Monotonic;

/// How fast a bucket fills, and how far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Tokens per second; above zero.
    pub per_second: f64,
    /// The brim: seconds of filling.
    pub seconds: f64,
}

impl Bound {
    /// The most tokens there can be.
    pub fn brim(self) -> f64 {
        self.per_second * self.seconds
    }
}

/// The longest wait a client can be told.
const WAIT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// Tokens, or a debt of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    level: f64,
    /// When it was last filled.
    filled: Monotonic,
}

impl Bucket {
    /// A full one.
    pub fn full(bound: Bound, now: Monotonic) -> Self {
        Self { level: bound.brim(), filled: now }
    }

    /// What there is now; below zero a debt.
    pub fn level(&mut self, bound: Bound, now: Monotonic) -> f64 {
        let passed = now.since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.level = (self.level + passed * bound.per_second).min(bound.brim());
        self.level
    }

    /// Takes tokens, whether they are there or not; a negative number gives some back.
    pub fn take(&mut self, amount: f64, bound: Bound, now: Monotonic) {
        self.level = self.level(bound, now) - amount;
    }

    /// How long until `amount` tokens can be taken without a debt.
    pub fn wait(&mut self, amount: f64, bound: Bound, now: Monotonic) -> Duration {
        let missing = amount - self.level(bound, now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let seconds = missing / bound.per_second;
        Duration::try_from_secs_f64(seconds).map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { per_second: 100.0, seconds: 10.0 };

    fn at(millis: u64) -> Monotonic {
        Monotonic(0).after(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_is_free_and_what_is_beyond_it_is_waited_for() {
        let mut bucket = Bucket::full(BOUND, at(0));
        bucket.take(1000.0, BOUND, at(0));
        assert_eq!(bucket.wait(0.0, BOUND, at(0)), Duration::ZERO);
        bucket.take(50.0, BOUND, at(0));
        assert_eq!(bucket.wait(0.0, BOUND, at(0)), Duration::from_millis(500));
        assert_eq!(bucket.wait(0.0, BOUND, at(200)), Duration::from_millis(300));
        assert_eq!(bucket.wait(20.0, BOUND, at(500)), Duration::from_millis(200));
        assert_eq!(bucket.level(BOUND, at(1_000_000)), 1000.0, "not above the brim");
    }

    #[test]
    fn whoever_waits_as_long_as_told_gets_the_rate() {
        let mut bucket = Bucket::full(BOUND, at(0));
        let (mut now, mut spent) = (at(0), 0.0);
        while now < at(1_000_000) {
            bucket.take(170.0, BOUND, now);
            spent += 170.0;
            now = now.after(bucket.wait(0.0, BOUND, now)).after(Duration::from_millis(1));
        }
        let rate = (spent - BOUND.brim()) / 1000.0;
        assert!((99.0..=101.0).contains(&rate), "{rate} per second");
    }

    #[test]
    fn a_smaller_bound_lowers_the_brim_and_a_clock_that_goes_back_fills_nothing() {
        let mut bucket = Bucket::full(BOUND, at(1000));
        let small = Bound { per_second: 1.0, ..BOUND };
        assert_eq!(bucket.level(small, at(1000)), 10.0);
        bucket.take(20.0, small, at(1000));
        assert_eq!(bucket.level(small, at(0)), -10.0);
        assert_eq!(bucket.level(small, at(2000)), -9.0);
    }

    #[test]
    fn no_wait_is_longer_than_can_be_told() {
        let bound = Bound { per_second: 1e-9, seconds: 10.0 };
        let mut bucket = Bucket::full(bound, at(0));
        bucket.take(1e18, bound, at(0));
        assert_eq!(bucket.wait(0.0, bound, at(0)), WAIT_MAX);
    }
}
