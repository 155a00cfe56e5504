//! What a run says in the end.
//!
//! Does: turn counters into the outcome that others read.
//! Does not: count, or print.
//! Invariants: a rate is per second of the measured part as it really was; headline numbers of a
//! search are those of its knee.
//! Apart because a number's meaning should be readable in one place.

use super::measure::{Measure, judge_generator, worst_second};
use super::run::Order;
use crate::histogram;
use crate::outcome::FORMAT;
use crate::outcome::load::{CrowdOutcome, Load, Step};
use crate::scenario::Pace;

/// The outcome, and the counters it came from.
#[derive(Debug)]
pub struct Verdict {
    /// For everybody.
    pub load: Load,
    /// For the interval log.
    pub measure: Measure,
}

/// What a run leaves for the verdict.
#[derive(Debug)]
pub struct Findings {
    /// Counters of the measured part, or of a search's knee.
    pub measure: Measure,
    /// How long paused consumers took to catch up.
    pub drain_seconds: Option<f64>,
    /// Acknowledged records that did not reach each tail consumer.
    pub undelivered: Vec<u64>,
    /// What became of connections without traffic.
    pub crowd: Option<CrowdOutcome>,
    /// Codes the brokers answered.
    pub errors: super::measure::Errors,
    /// Steps of a search.
    pub steps: Vec<Step>,
    /// Processor time of the generator during the measured part, nanoseconds.
    pub cpu_ns: u64,
    /// When the measured part began, milliseconds since 1970; 0 where it never did.
    pub measured_from_unix_ms: u64,
    /// Why the run ended early.
    pub broken_off: Option<String>,
}

impl Findings {
    /// Sums up.
    #[must_use]
    pub fn verdict(self, order: &Order) -> Verdict {
        let measure = self.measure;
        let producers = order.scenario.producers.as_ref();
        let seconds = if self.measured_from_unix_ms == 0 { 0.0 } else { measure.seconds() };
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let request_bytes = producers.map_or(0, super::run::request_bytes);
        let records = producers.map_or(0, super::run::records_per_request);
        let produce = measure.produce();
        let slices = if seconds > 0.0 { measure.slices(request_bytes) } else { Vec::new() };
        let cpu_share = if seconds > 0.0 { self.cpu_ns as f64 / 1e9 / seconds } else { 0.0 };
        let open = producers.is_some_and(|producers| is_open(&producers.pace));
        let knee = self.steps.iter().filter(|step| step.sustained);
        let generator = judge_generator(cpu_share, &measure.lateness, &produce);
        let generator = super::search::with_failed_steps(generator, &self.steps);
        let load = Load {
            format: FORMAT,
            scenario: order.scenario.clone(),
            system: order.system.clone(),
            durability: order.durability,
            environment: order.environment.clone(),
            broken_off: self.broken_off,
            measured_from_unix_ms: self.measured_from_unix_ms,
            measured_seconds: seconds,
            offered_per_second: if open { per_second(measure.due) } else { 0.0 },
            requests_per_second: per_second(measure.acknowledged),
            records_per_second: per_second(measure.acknowledged * records),
            bytes_per_second: per_second(measure.acknowledged * request_bytes),
            delivered_bytes_per_second: per_second(measure.tail_bytes + measure.cold_bytes),
            cold_bytes_per_second: per_second(measure.cold_bytes),
            fetches_per_second: per_second(measure.fetches),
            unanswered: measure.unanswered,
            knee_per_second: knee.map(|step| step.offered_per_second).reduce(f64::max),
            produce: histogram::latency(&produce),
            service: histogram::latency(&measure.service),
            end_to_end: histogram::latency(&measure.end_to_end),
            drain_seconds: self.drain_seconds,
            undelivered: self.undelivered,
            crowd: self.crowd,
            errors: self.errors.0,
            worst_second: worst_second(&slices),
            slices,
            steps: self.steps,
            generator,
        };
        Verdict { load, measure }
    }
}

fn is_open(pace: &Pace) -> bool {
    match pace {
        Pace::PerSecond(_) | Pace::Search { .. } => true,
        Pace::OneInFlight | Pace::AsFastAsPossible { .. } => false,
    }
}
