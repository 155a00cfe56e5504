//! How many lines of the log clients may bring about.
//!
//! Does: say whether one more line for a reason may be written now, and how many were left out.
//! Does not: write lines, or read a clock.
//! Invariants: within each stretch of [`LINES_INTERVAL`] at most [`LINES_PER_INTERVAL`] lines for a
//! reason; every line left out is told of in a later one.
//! Apart because a client that comes again and again would otherwise fill the operator's disk, and
//! the counters, which count every case, are for machines.

use flumen_protocol::time::Monotonic;

use super::metrics::RefusedReason;
use crate::limits::{LINES_INTERVAL, LINES_PER_INTERVAL};

/// The lines of one core about what it refuses.
#[derive(Debug, Default)]
pub struct Lines {
    stretches: [Stretch; RefusedReason::ALL.len()],
}

/// The lines for one reason since some time.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    began: Option<Monotonic>,
    written: u32,
    left_out: u64,
}

impl Stretch {
    fn is_over(&self, now: Monotonic) -> bool {
        self.began.is_none_or(|began| now.since(began) >= LINES_INTERVAL)
    }
}

impl Lines {
    /// Whether a line for this reason may be written now; otherwise it is counted as left out.
    pub fn admit(&mut self, reason: RefusedReason, now: Monotonic) -> bool {
        let stretch = &mut self.stretches[reason as usize];
        if stretch.is_over(now) {
            (stretch.began, stretch.written) = (Some(now), 0);
        }
        let admitted = stretch.written < LINES_PER_INTERVAL;
        if admitted {
            stretch.written += 1;
        } else {
            stretch.left_out += 1;
        }
        admitted
    }

    /// How many lines were left out, by reason, where a stretch is over; each is told of once.
    pub fn take_left_out(&mut self, now: Monotonic) -> Vec<(RefusedReason, u64)> {
        let stretches = RefusedReason::ALL.into_iter().zip(&mut self.stretches);
        let over = stretches.filter(|(_, stretch)| stretch.left_out > 0 && stretch.is_over(now));
        over.map(|(reason, stretch)| (reason, std::mem::take(&mut stretch.left_out))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let flood = RefusedReason::NotKafka;
        let mut lines = Lines::default();
        let mut now = Monotonic(0);
        let admitted = (0..1_000).filter(|_| lines.admit(flood, now)).count();
        assert_eq!(admitted, LINES_PER_INTERVAL as usize);
        assert!(lines.admit(RefusedReason::Malformed, now), "another reason is another matter");
        assert_eq!(lines.take_left_out(now), [], "it is not over");

        now = now.after(LINES_INTERVAL);
        let left_out = 1_000 - u64::from(LINES_PER_INTERVAL);
        assert_eq!(lines.take_left_out(now), [(flood, left_out)]);
        assert_eq!(lines.take_left_out(now), [], "once");
        assert!(lines.admit(flood, now), "and from the beginning");
    }

    #[test]
    fn what_was_left_out_is_told_although_the_flood_goes_on() {
        let mut lines = Lines::default();
        let (mut told, mut admitted) = (0, 0);
        for second in 0..60_u32 {
            let now = Monotonic(0).after(std::time::Duration::from_secs(1) * second);
            admitted += (0..100).filter(|_| lines.admit(RefusedReason::Malformed, now)).count();
            told += lines.take_left_out(now).iter().map(|(_, count)| count).sum::<u64>();
        }
        let end = Monotonic(0).after(std::time::Duration::from_secs(60));
        told += lines.take_left_out(end).iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!((admitted, told), (60, 6_000 - 60));
    }
}
