//! Searching for the highest rate a broker sustains.
//!
//! Does: say which rate comes next, and whether a step was sustained.
//! Does not: send.
//! Invariants: a search ends: rates rise by a factor, steps are bounded, and one failure is looked
//! at once more before it counts.
//! Apart because where a search stops is a rule, not a loop.

use super::measure::Measure;
use super::run::request_bytes;
use crate::histogram;
use crate::limits::{RATE_MAX, SEARCH_STEPS_MAX};
use crate::outcome::load::Step;
use crate::scenario::Producers;

/// Below this share of what was offered a broker did not keep up.
const ACHIEVED_SHARE: f64 = 0.99;

/// A climb from rate to rate.
#[derive(Clone, Copy, Debug)]
pub struct Climb {
    rate: f64,
    factor: f64,
    steps: usize,
    failed_once: bool,
    over: bool,
}

impl Climb {
    /// A climb that begins at a rate.
    #[must_use]
    pub fn new(from: f64, factor: f64) -> Self {
        Self { rate: from, factor, steps: 0, failed_once: false, over: false }
    }

    /// The next rate to try; nothing when the top is found.
    #[must_use]
    pub fn next_rate(&self) -> Option<f64> {
        (!self.over && self.steps < SEARCH_STEPS_MAX && self.rate <= RATE_MAX).then_some(self.rate)
    }

    /// How the last rate went. One failure may be somebody else's hiccup, two in a row are not.
    pub fn on_step(&mut self, sustained: bool) {
        self.steps += 1;
        self.over = !sustained && self.failed_once;
        self.failed_once = !sustained;
        if sustained {
            self.rate *= self.factor;
        }
    }
}

/// Judges a step.
#[must_use]
pub fn step(rate: f64, measure: &Measure, producers: &Producers, p99_limit_ms: f64) -> Step {
    let latencies = measure.produce();
    let achieved_per_second = measure.acknowledged as f64 / measure.seconds();
    let p99_us = histogram::percentile_us(&latencies, 99.0);
    // What was due in the last instant of a step is answered after it, even by a broker that
    // keeps up: so much is owed.
    let owed = rate * p99_us / 1e6 / measure.seconds();
    let sustained = achieved_per_second + owed.min(rate / 10.0) >= rate * ACHIEVED_SHARE
        && p99_us <= p99_limit_ms * 1_000.0
        && measure.unanswered == 0;
    Step {
        offered_per_second: rate,
        achieved_per_second,
        achieved_bytes_per_second: achieved_per_second * request_bytes(producers) as f64,
        p50_us: histogram::percentile_us(&latencies, 50.0),
        p99_us,
        sustained,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND_NS;
    use crate::load::options::plain_producers;

    #[test]
    fn a_climb_ends_after_two_failures_in_a_row() {
        let mut climb = Climb::new(100.0, 2.0);
        let mut tried = Vec::new();
        for sustained in [true, false, true, false, false, true] {
            let Some(rate) = climb.next_rate() else { break };
            tried.push(rate);
            climb.on_step(sustained);
        }
        assert_eq!(tried, [100.0, 200.0, 200.0, 400.0, 400.0]);
        assert_eq!(climb.next_rate(), None);
    }

    #[test]
    fn a_climb_ends_in_any_case() {
        let mut climb = Climb::new(1.0, 1.01);
        let steps = std::iter::from_fn(|| {
            let rate = climb.next_rate();
            climb.on_step(true);
            rate
        });
        assert_eq!(steps.count(), SEARCH_STEPS_MAX);
    }

    #[test]
    fn a_step_is_sustained_when_nearly_all_came_back_in_time() {
        let with = |count: u64, latency_ns: u64| {
            let mut measure = Measure::new(0, SECOND_NS);
            for place in 0..count {
                let due_ns = place * 1_000_000;
                measure.on_acknowledged(due_ns, due_ns, due_ns + latency_ns);
            }
            step(1_000.0, &measure, &plain_producers(), 10.0)
        };
        assert!(with(1_000, 1_000_000).sustained);
        assert!(!with(980, 1_000_000).sustained);
        assert!(!with(1_000, 20_000_000).sustained);
    }
}
