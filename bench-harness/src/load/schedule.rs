//! When requests are due.
//!
//! Does: turn a rate into a row of instants.
//! Does not: look at a clock, or wait.
//! Invariants: an instant depends on the rate and its place in the row alone, never on how the
//! broker behaves: that is what makes the loop open. Over any whole number of grains exactly as
//! many requests are due as the rate says.
//! Apart because latency counts from these instants, so they must be beyond doubt.

use crate::clock::SECOND_NS;
use crate::limits::PACING_GRAIN_NANOS;

/// A row of instants at one rate.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    begin_ns: u64,
    interval_ns: f64,
    taken: u64,
}

impl Schedule {
    /// Evenly spaced from `begin_ns` on. Requests closer to each other than a grain are due
    /// together at the grain's beginning.
    #[must_use]
    pub fn new(begin_ns: u64, per_second: f64) -> Self {
        assert!(per_second > 0.0, "a checked scenario has a rate");
        Self { begin_ns, interval_ns: SECOND_NS as f64 / per_second, taken: 0 }
    }

    /// When the next request is due.
    #[must_use]
    pub fn next_due_ns(&self) -> u64 {
        self.due_ns(self.taken)
    }

    /// Takes the next request if it is due by now.
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_due_ns();
        if due_ns > now_ns {
            return None;
        }
        self.taken += 1;
        Some(due_ns)
    }

    fn due_ns(&self, place: u64) -> u64 {
        let offset_ns = (place as f64 * self.interval_ns) as u64;
        if self.interval_ns >= PACING_GRAIN_NANOS as f64 {
            return self.begin_ns + offset_ns;
        }
        self.begin_ns + offset_ns / PACING_GRAIN_NANOS * PACING_GRAIN_NANOS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(per_second: f64, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(1_000, per_second);
        (0..count).map(|_| schedule.take_due(u64::MAX).expect("due")).collect()
    }

    #[test]
    fn slow_rates_are_evenly_spaced() {
        assert_eq!(row(2_000.0, 3), [1_000, 501_000, 1_001_000]);
    }

    #[test]
    fn fast_rates_are_due_in_groups_and_add_up() {
        let second = row(30_000.0, 30_001);
        assert_eq!(second[..7], [1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 201_000]);
        assert!(second[..30_000].iter().all(|&due| due < 1_000 + SECOND_NS));
        assert_eq!(second[30_000], 1_000 + SECOND_NS);
        assert!(second.is_sorted());
    }

    #[test]
    fn nothing_is_due_early() {
        let mut schedule = Schedule::new(500, 1_000.0);
        assert_eq!(schedule.take_due(499), None);
        assert_eq!(schedule.take_due(500), Some(500));
        assert_eq!(schedule.take_due(500), None);
        assert_eq!(schedule.next_due_ns(), 1_000_500);
    }
}
