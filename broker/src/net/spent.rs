//! How much of its core a connection used lately.
//!
//! Does: add up what is spent on it, and let that fade.
//! Does not: decide who goes first; `lanes.rs` does.
//! Invariants: what was spent counts half after every [`SPENT_HALF_LIFE`]; a connection that does
//! nothing comes to nothing.
//! Apart because it is pure.

use std::time::Duration;

use flumen_protocol::time::Monotonic;

use crate::limits::{MOVED_MUCH_BYTES, SPENT_HALF_LIFE, SPENT_MUCH_BYTES, SPENT_MUCH_TIME};

/// What was spent on a connection.
pub struct Spent {
    /// Bytes read and answered.
    bytes: u64,
    /// What its requests took, where that was not little.
    time: Duration,
    /// Up to when both have faded.
    faded: Monotonic,
}

impl Spent {
    /// Nothing so far.
    pub fn new(now: Monotonic) -> Self {
        Self { bytes: 0, time: Duration::ZERO, faded: now }
    }

    /// So many bytes were read or answered.
    pub fn add_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// A request took so long.
    pub fn add_time(&mut self, time: Duration) {
        self.time = self.time.saturating_add(time);
    }

    /// Whether it is more than clients use that ask for a little now and then.
    pub fn is_much(&mut self, now: Monotonic) -> bool {
        self.fade(now);
        self.bytes > SPENT_MUCH_BYTES || self.time > SPENT_MUCH_TIME
    }

    /// Whether it may be one of those that fetch much and do not read. Time says nothing about that.
    pub fn has_moved_much(&mut self, now: Monotonic) -> bool {
        self.fade(now);
        self.bytes > MOVED_MUCH_BYTES
    }

    fn fade(&mut self, now: Monotonic) {
        let halvings = now.since(self.faded).as_nanos() / SPENT_HALF_LIFE.as_nanos();
        if halvings > 0 {
            let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
            self.bytes = self.bytes.checked_shr(halvings).unwrap_or(0);
            self.time /= 1_u32.checked_shl(halvings).unwrap_or(u32::MAX);
            self.faded = self.faded.after(SPENT_HALF_LIFE.saturating_mul(halvings));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(halves: u32) -> Monotonic {
        Monotonic(0).after(SPENT_HALF_LIFE / 2 * halves)
    }

    #[test]
    fn what_was_spent_long_ago_does_not_count() {
        let mut spent = Spent::new(Monotonic(0));
        spent.add_bytes(2 * SPENT_MUCH_BYTES as usize + 2);
        assert!(spent.is_much(at(0)) && spent.is_much(at(3)));
        assert!(!spent.is_much(at(4)), "twice halved");
        spent.add_time(2 * SPENT_MUCH_TIME + Duration::from_nanos(2));
        assert!(spent.is_much(at(5)) && spent.is_much(at(7)));
        assert!(!spent.is_much(at(8)));
        assert!(!spent.is_much(at(1_000_000)));
    }

    #[test]
    fn a_small_client_never_used_much() {
        let mut spent = Spent::new(Monotonic(0));
        for number in 0..10_000 {
            let now = Monotonic(0).after(Duration::from_millis(5) * number);
            spent.add_bytes(1_000);
            spent.add_time(Duration::from_micros(60));
            assert!(!spent.is_much(now) && !spent.has_moved_much(now), "{number}");
        }
    }

    #[test]
    fn who_was_given_a_large_answer_moved_much_for_a_while() {
        let mut spent = Spent::new(Monotonic(0));
        spent.add_bytes(1_000_000);
        assert!(spent.has_moved_much(at(1)) && !spent.is_much(at(1)));
        assert!(!spent.has_moved_much(at(6)));
    }
}
