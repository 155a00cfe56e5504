//! A latency histogram with fixed bounds.
//!
//! Does: counts durations into doubling buckets, adds two of them up. Does not: read a clock.
//! Invariants: the bucket counts add up to `count`.
//! Apart because every timed thing uses it. Fixed bounds and not a high-resolution histogram: 23 words
//! are copied per scrape and per core, and bounds that never move can be added up across brokers.

/// Upper bounds in microseconds, each twice the one before: 16 µs (a warm request) to 33 s (beyond any
/// request's time). Longer durations only count towards the total.
pub const BOUNDS_US: [u64; 22] = doubling_from_16();

const fn doubling_from_16() -> [u64; 22] {
    let mut bounds = [16; 22];
    let mut index = 1;
    while index < bounds.len() {
        bounds[index] = bounds[index - 1] * 2;
        index += 1;
    }
    bounds
}

/// How long something took, over many times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    buckets: [u64; BOUNDS_US.len()],
    count: u64,
    sum_us: u64,
}

impl Latency {
    /// Counts one duration.
    pub fn record(&mut self, duration_us: u64) {
        let index = BOUNDS_US.partition_point(|bound| *bound < duration_us);
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(duration_us);
    }

    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.buckets.iter_mut().zip(other.buckets) {
            *own += more;
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All durations together, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// Upper bound in seconds and count of each bucket, not cumulative; the last one is open.
    pub fn buckets_in_seconds(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        let beyond = self.count - self.buckets.iter().sum::<u64>();
        bounds.zip(self.buckets.iter().copied().chain([beyond])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_that_reaches_it() {
        let mut latency = Latency::default();
        for duration in [0, 16, 17, 40_000_000] {
            latency.record(duration);
        }
        let buckets = latency.buckets_in_seconds();
        assert_eq!(buckets[0], (0.000_016, 2));
        assert_eq!(buckets[1], (0.000_032, 1));
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 1)));
        assert_eq!((latency.count(), latency.sum_us()), (4, 40_000_033));
    }

    #[test]
    fn cores_add_up() {
        let (mut one, mut two) = (Latency::default(), Latency::default());
        one.record(100);
        two.record(100);
        two.record(5_000);
        one.merge(&two);
        assert_eq!(one.count(), 3);
        assert_eq!(one.buckets_in_seconds().iter().map(|(_, count)| count).sum::<u64>(), 3);
    }
}
