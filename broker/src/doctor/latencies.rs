//! Durations of one measurement and their quantiles.
//!
//! Does: records, summarises. Does not: decide what is good.
//! Invariants: never empty when summarised (`summary` says so in words instead).
//! Apart because disk and loopback share it.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest duration told apart; a disk that needs longer has other problems.
const LONGEST_NS: u64 = 60_000_000_000;

/// Durations with three significant digits.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> Option<Self> {
        Histogram::new_with_bounds(1, LONGEST_NS, 3).ok().map(Self)
    }

    /// Takes one.
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(LONGEST_NS);
        self.0.saturating_record(nanoseconds.clamp(1, LONGEST_NS));
    }

    /// The duration that this share of all did not exceed, in microseconds.
    pub fn quantile_us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    /// `p50 … p99 … p99.9 …, n writes`.
    pub fn summary(&self) -> String {
        let shown = |share| readable(self.quantile_us(share));
        format!(
            "p50 {}, p99 {}, p99.9 {} of {}",
            shown(0.5),
            shown(0.99),
            shown(0.999),
            self.0.len()
        )
    }
}

/// Microseconds below one millisecond, milliseconds above.
pub fn readable(microseconds: f64) -> String {
    if microseconds < 1000.0 {
        format!("{microseconds:.0} µs")
    } else {
        format!("{:.1} ms", microseconds / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new().unwrap();
        (1..=1000).for_each(|n| latencies.record(Duration::from_micros(n)));
        assert!((latencies.quantile_us(0.5) - 500.0).abs() < 2.0);
        assert_eq!(latencies.summary(), "p50 500 µs, p99 990 µs, p99.9 999 µs of 1000");
        assert_eq!(readable(2500.0), "2.5 ms");
    }
}
