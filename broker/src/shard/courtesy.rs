//! When a core gives its processor up for a moment, so that others can carry its commit on.
//!
//! Does: say when it is time to, and pause after somebody else took the processor for long.
//! Does not: give it up, or read the clock; the pump does both.
//! Invariants: of a long time, whoever keeps it longer than [`GIVE_WAY_LOST`] at a time takes one part
//! in [`GIVE_WAY_PAUSE`] at most; who is quicker is not told from a helper.
//! Apart because it is pure.

use flumen_protocol::time::Monotonic;

use crate::limits::{GIVE_WAY_INTERVAL, GIVE_WAY_LOST, GIVE_WAY_PAUSE};

/// When the processor is next given up.
pub struct Courtesy {
    next: Monotonic,
}

impl Courtesy {
    /// Nothing was given up so far.
    pub fn new(now: Monotonic) -> Self {
        Self { next: now }
    }

    /// Whether it is time to, if somebody may be helped by it.
    pub fn is_due(&self, now: Monotonic) -> bool {
        now >= self.next
    }

    /// It was given up, and this core had it again after so long. A short time is what kernel threads
    /// take that carry a commit on; who takes long has work of its own, which is not to come first.
    pub fn gave(&mut self, before: Monotonic, after: Monotonic) {
        let took = after.since(before);
        let pause = if took > GIVE_WAY_LOST { took * GIVE_WAY_PAUSE } else { GIVE_WAY_INTERVAL };
        self.next = after.after(pause);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Monotonic = Monotonic(1_000_000_000);

    #[test]
    fn the_processor_is_given_up_once_in_an_interval() {
        let mut courtesy = Courtesy::new(START);
        assert!(courtesy.is_due(START));
        let back = START.after(GIVE_WAY_LOST);
        courtesy.gave(START, back);
        assert!(!courtesy.is_due(back));
        assert!(courtesy.is_due(back.after(GIVE_WAY_INTERVAL)));
    }

    #[test]
    fn who_takes_it_for_long_has_it_for_a_small_part_of_the_time() {
        let (mut courtesy, mut now, mut lost) = (Courtesy::new(START), START, Duration::ZERO);
        let until = START.after(Duration::from_secs(10));
        while now < until {
            if courtesy.is_due(now) {
                let took = Duration::from_millis(4);
                courtesy.gave(now, now.after(took));
                (now, lost) = (now.after(took), lost + took);
            }
            now = now.after(Duration::from_micros(50));
        }
        assert!(
            lost > Duration::ZERO
                && lost <= Duration::from_secs(10) / GIVE_WAY_PAUSE + Duration::from_millis(4)
        );
    }
}
