//! Searching for the highest rate a broker sustains.
//!
//! Does: say which rate comes next, and whether a step was sustained.
//! Does not: send.
//! Invariants: a search ends: rates rise by a factor, steps are bounded, and one failure is looked
//! at once more before it counts.
//! Apart because where a search stops is a rule, not a loop.

use super::measure::{Measure, judge_generator};
use super::run::request_bytes;
use crate::histogram;
use crate::limits::{RATE_MAX, SEARCH_STEPS_MAX};
use crate::outcome::load::{Generator, Step};
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

/// Judges a step, and the generator in it, which used `cpu_ns` of its core meanwhile.
#[must_use]
pub fn step(
    rate: f64,
    measure: &Measure,
    cpu_ns: u64,
    producers: &Producers,
    p99_limit_ms: f64,
) -> Step {
    let latencies = measure.produce();
    let achieved_per_second = measure.acknowledged as f64 / measure.seconds();
    let p99_us = histogram::percentile_us(&latencies, 99.0);
    // What was due in the last instant of a step is answered after it, even by a broker that
    // keeps up: so much is owed.
    let owed = rate * p99_us / 1e6 / measure.seconds();
    let sustained = achieved_per_second + owed.min(rate / 10.0) >= rate * ACHIEVED_SHARE
        && p99_us <= p99_limit_ms * 1_000.0
        && measure.unanswered == 0;
    let cpu_share = cpu_ns as f64 / 1e9 / measure.seconds();
    Step {
        offered_per_second: rate,
        achieved_per_second,
        achieved_bytes_per_second: achieved_per_second * request_bytes(producers) as f64,
        p50_us: histogram::percentile_us(&latencies, 50.0),
        p99_us,
        sustained,
        limited_by_generator: judge_generator(cpu_share, &measure.lateness, &latencies).reason,
    }
}

/// What the steps of a search add to the judgement on its best one: a search that ended because the
/// generator could not go on has found the generator's knee, not the broker's.
#[must_use]
pub fn with_failed_steps(mut generator: Generator, steps: &[Step]) -> Generator {
    let sustained = steps.iter().filter(|step| step.sustained);
    let knee = sustained.map(|step| step.offered_per_second).fold(0.0, f64::max);
    let ended_it = |step: &&Step| !step.sustained && step.offered_per_second > knee;
    let limited = |step: &&Step| !step.limited_by_generator.is_empty();
    if let Some(step) = steps.iter().filter(ended_it).find(limited) {
        let Step { offered_per_second: rate, limited_by_generator: why, .. } = step;
        let said = format!("the search ended at {rate:.0}/s, where {why}");
        let reasons = [std::mem::take(&mut generator.reason), said];
        generator.was_the_limit = true;
        generator.reason = reasons
            .iter()
            .filter(|reason| !reason.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("; ");
    }
    generator
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
            step(1_000.0, &measure, 500_000_000, &plain_producers(), 10.0)
        };
        assert!(with(1_000, 1_000_000).sustained);
        assert!(!with(980, 1_000_000).sustained);
        assert!(!with(1_000, 20_000_000).sustained);
        assert_eq!(with(980, 1_000_000).limited_by_generator, "", "half a core is not a full one");
    }

    #[test]
    fn a_search_that_the_generator_ended_says_so() {
        let judged = |rate: f64, cpu_ns: u64, count: u64| {
            let mut measure = Measure::new(0, SECOND_NS);
            (0..count).for_each(|place| measure.on_acknowledged(place, place, place + 1_000_000));
            step(rate, &measure, cpu_ns, &plain_producers(), 10.0)
        };
        let (kept_up, busy) = (judged(1_000.0, SECOND_NS / 2, 1_000), SECOND_NS * 19 / 20);
        assert!(kept_up.sustained);
        let by_broker = [kept_up.clone(), judged(2_000.0, SECOND_NS / 2, 1_000)];
        assert!(!with_failed_steps(Generator::default(), &by_broker).was_the_limit);
        let by_us = [kept_up.clone(), judged(2_000.0, busy, 1_000)];
        let generator = with_failed_steps(Generator::default(), &by_us);
        assert!(generator.was_the_limit, "a failing step of a full generator");
        assert!(generator.reason.starts_with("the search ended at 2000/s"), "{}", generator.reason);
        // A hiccup of ours at a rate that was sustained afterwards ended nothing.
        let hiccup = [judged(1_000.0, busy, 500), kept_up];
        assert!(!with_failed_steps(Generator::default(), &hiccup).was_the_limit);
    }
}
