//! What is counted during the measured part of a run.
//!
//! Does: take answers and deliveries as they come, sorted into seconds; sum them up at the end.
//! Does not: look at a clock, or know sockets.
//! Invariants: latency belongs to requests that were due in the measured part, however late their
//! answer; throughput belongs to answers that came in the measured part, whenever they were due.
//! Nothing is computed while the run lasts: sorting out is for afterwards.
//! Apart because this is what the numbers mean.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::describe;
use crate::clock::SECOND_NS;
use crate::histogram::{self, Interval, Nanos};
use crate::outcome::load::{Generator, Slice};

/// Counters of one measured part.
#[derive(Debug)]
pub struct Measure {
    begin_ns: u64,
    end_ns: u64,
    seconds: Vec<Second>,
    /// From the actual write to the answer.
    pub service: Nanos,
    /// From the intended send time to a tail consumer.
    pub end_to_end: Nanos,
    /// From the intended send time to the write, where nobody held the request back.
    pub lateness: Nanos,
    /// Produce requests that got an answer.
    pub acknowledged: u64,
    /// Produce requests due.
    pub due: u64,
    /// Bytes of records delivered to tail consumers.
    pub tail_bytes: u64,
    /// Bytes of records delivered to cold readers.
    pub cold_bytes: u64,
    /// Requests of the measured part that were never answered.
    pub unanswered: u64,
    /// Answers to fetches, full or empty.
    pub fetches: u64,
}

/// Counters of one second.
#[derive(Debug)]
struct Second {
    produce: Nanos,
    due: u64,
    acknowledged: u64,
    delivered_bytes: u64,
}

impl Measure {
    /// A measured part from `begin_ns` to `end_ns`, monotonic.
    #[must_use]
    pub fn new(begin_ns: u64, end_ns: u64) -> Self {
        let seconds = (end_ns - begin_ns).div_ceil(SECOND_NS).max(1);
        let second =
            |_| Second { produce: histogram::empty(), due: 0, acknowledged: 0, delivered_bytes: 0 };
        Self {
            begin_ns,
            end_ns,
            seconds: (0..seconds).map(second).collect(),
            service: histogram::empty(),
            end_to_end: histogram::empty(),
            lateness: histogram::empty(),
            acknowledged: 0,
            due: 0,
            tail_bytes: 0,
            cold_bytes: 0,
            unanswered: 0,
            fetches: 0,
        }
    }

    /// When it begins.
    #[must_use]
    pub fn begin_ns(&self) -> u64 {
        self.begin_ns
    }

    /// When it ends.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// The run ends earlier than planned.
    pub fn cut(&mut self, now_ns: u64) {
        self.end_ns = self.end_ns.min(now_ns.max(self.begin_ns + 1));
        let seconds = (self.end_ns - self.begin_ns).div_ceil(SECOND_NS);
        self.seconds.truncate(seconds as usize);
    }

    /// Whether an instant lies in the measured part.
    #[must_use]
    pub fn covers(&self, instant_ns: u64) -> bool {
        (self.begin_ns..self.end_ns).contains(&instant_ns)
    }

    /// A request was due.
    pub fn on_due(&mut self, due_ns: u64) {
        if self.covers(due_ns) {
            self.due += 1;
            self.second(due_ns).due += 1;
        }
    }

    /// A request was written that nobody but ourselves held back.
    pub fn on_written(&mut self, due_ns: u64, written_ns: u64) {
        if self.covers(due_ns) {
            histogram::record(&mut self.lateness, written_ns.saturating_sub(due_ns));
        }
    }

    /// A request was acknowledged.
    pub fn on_acknowledged(&mut self, due_ns: u64, written_ns: u64, now_ns: u64) {
        if self.covers(now_ns) {
            self.acknowledged += 1;
            self.second(now_ns).acknowledged += 1;
        }
        if self.covers(due_ns) {
            let latency_ns = now_ns.saturating_sub(due_ns);
            histogram::record(&mut self.second(now_ns).produce, latency_ns);
            histogram::record(&mut self.service, now_ns.saturating_sub(written_ns));
        }
    }

    /// A request has no answer and will not wait for it any longer: its age counts as its latency,
    /// so that the slowest do not vanish from the distribution.
    pub fn on_given_up(&mut self, due_ns: u64, now_ns: u64) {
        if self.covers(due_ns) {
            self.unanswered += 1;
            let latency_ns = now_ns.saturating_sub(due_ns);
            histogram::record(&mut self.second(now_ns).produce, latency_ns);
        }
    }

    /// A fetch was answered.
    pub fn on_fetched(&mut self, now_ns: u64) {
        self.fetches += u64::from(self.covers(now_ns));
    }

    /// Records arrived at a tail consumer; the stamp is nothing where they carry none.
    pub fn on_delivered(&mut self, stamp_ns: Option<u64>, bytes: u64, now_ns: u64) {
        if self.covers(now_ns) {
            self.tail_bytes += bytes;
            self.second(now_ns).delivered_bytes += bytes;
        }
        if let Some(stamp_ns) = stamp_ns.filter(|&stamp_ns| self.covers(stamp_ns)) {
            histogram::record(&mut self.end_to_end, now_ns.saturating_sub(stamp_ns));
        }
    }

    /// Records arrived at a cold reader.
    pub fn on_cold(&mut self, bytes: u64, now_ns: u64) {
        if self.covers(now_ns) {
            self.cold_bytes += bytes;
            self.second(now_ns).delivered_bytes += bytes;
        }
    }

    /// Length of the measured part, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.end_ns - self.begin_ns) as f64 / SECOND_NS as f64
    }

    /// Produce latency of the whole measured part.
    #[must_use]
    pub fn produce(&self) -> Nanos {
        let mut sum = histogram::empty();
        for second in &self.seconds {
            sum.add(&second.produce).expect("a growing histogram takes another of its kind");
        }
        sum
    }

    /// Second by second; `batch_bytes` are the record bytes of one request.
    #[must_use]
    pub fn slices(&self, request_bytes: u64) -> Vec<Slice> {
        let slice = |(place, second): (usize, &Second)| Slice {
            second: place as u32,
            due: second.due,
            acknowledged: second.acknowledged,
            acknowledged_bytes: second.acknowledged * request_bytes,
            delivered_bytes: second.delivered_bytes,
            p50_us: histogram::percentile_us(&second.produce, 50.0),
            p99_us: histogram::percentile_us(&second.produce, 99.0),
            max_us: histogram::max_us(&second.produce),
        };
        self.seconds.iter().enumerate().map(slice).collect()
    }

    /// The seconds as the interval log wants them.
    #[must_use]
    pub fn intervals(&self) -> Vec<Interval<'_>> {
        let interval = |(place, histogram)| Interval {
            tag: "produce",
            begin: Duration::from_secs(place as u64),
            length: Duration::from_secs(1),
            histogram,
        };
        self.seconds.iter().map(|second| &second.produce).enumerate().map(interval).collect()
    }

    /// Answers and their p99 in microseconds during the second before `now_ns`, for the eyes only.
    #[must_use]
    pub fn glance(&self, now_ns: u64) -> (u64, f64) {
        let place = (now_ns.saturating_sub(self.begin_ns) / SECOND_NS).saturating_sub(1);
        let second = &self.seconds[(place as usize).min(self.seconds.len() - 1)];
        (second.acknowledged, histogram::percentile_us(&second.produce, 99.0))
    }

    fn second(&mut self, instant_ns: u64) -> &mut Second {
        let place = instant_ns.saturating_sub(self.begin_ns) / SECOND_NS;
        let last = self.seconds.len() - 1;
        &mut self.seconds[(place as usize).min(last)]
    }
}

/// Codes that brokers answered, by name and number.
#[derive(Clone, Debug, Default)]
pub struct Errors(pub BTreeMap<String, u64>);

impl Errors {
    /// Counts one.
    pub fn count(&mut self, code: i16) {
        *self.0.entry(describe(code)).or_default() += 1;
    }
}

/// The second with the highest p99, of those that saw an answer.
#[must_use]
pub fn worst_second(slices: &[Slice]) -> Option<u32> {
    let seen = slices.iter().filter(|slice| slice.max_us > 0.0);
    seen.max_by(|a, b| a.p99_us.total_cmp(&b.p99_us)).map(|slice| slice.second)
}

/// Judges whether the generator may have set the pace.
///
/// It has when its core was full, or when requests that nobody held back were late by more than a
/// tenth of what was measured: then the latency is ours, not the broker's.
#[must_use]
pub fn judge_generator(cpu_share: f64, lateness: &Nanos, produce: &Nanos) -> Generator {
    let late_p99_us = histogram::percentile_us(lateness, 99.0);
    let produce_p99_us = histogram::percentile_us(produce, 99.0);
    let mut reasons = Vec::new();
    if cpu_share > CPU_SHARE_FULL {
        reasons.push(format!("the generator used {:.0} % of its core", cpu_share * 100.0));
    }
    let bound_us = (produce_p99_us * LATE_SHARE).max(LATE_US);
    if late_p99_us > bound_us {
        reasons.push(format!(
            "1 % of the requests left {late_p99_us:.0} µs late or later though the broker did not \
             hold them back (p99 of all {produce_p99_us:.0} µs)"
        ));
    }
    Generator {
        cpu_share,
        worst_lateness_us: histogram::max_us(lateness),
        was_the_limit: !reasons.is_empty(),
        reason: reasons.join("; "),
    }
}

/// Above this share of a core the generator may have waited for its own processor.
const CPU_SHARE_FULL: f64 = 0.9;
/// Lateness up to this share of the measured p99 does not change what the p99 says.
const LATE_SHARE: f64 = 0.1;
/// Lateness below this is the wake-up of a sleeping processor, which every client has.
const LATE_US: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_late_answer_belongs_to_the_request_that_was_due() {
        let mut measure = Measure::new(SECOND_NS, 3 * SECOND_NS);
        // Due before, answered inside: throughput, no latency.
        measure.on_acknowledged(SECOND_NS - MS, SECOND_NS - MS, SECOND_NS + MS);
        // Due inside, answered after the end: latency, no throughput.
        measure.on_acknowledged(3 * SECOND_NS - MS, 3 * SECOND_NS, 4 * SECOND_NS);
        assert_eq!((measure.acknowledged, measure.produce().len()), (1, 1));
        let slices = measure.slices(100);
        assert_eq!((slices[0].acknowledged_bytes, slices[1].acknowledged), (100, 0));
        assert!(slices[1].max_us > 1_000_000.0);
        assert_eq!(worst_second(&slices), Some(1));
    }

    #[test]
    fn latency_counts_from_the_intended_time_and_service_from_the_write() {
        let mut measure = Measure::new(0, SECOND_NS);
        measure.on_due(10 * MS);
        measure.on_acknowledged(10 * MS, 200 * MS, 201 * MS);
        assert!((histogram::max_us(&measure.produce()) - 191_000.0).abs() < 200.0);
        assert!((histogram::max_us(&measure.service) - 1_000.0).abs() < 2.0);
    }

    #[test]
    fn the_unanswered_count_with_their_age() {
        let mut measure = Measure::new(0, SECOND_NS);
        measure.on_given_up(0, 5 * SECOND_NS);
        assert_eq!(measure.unanswered, 1);
        assert!(histogram::max_us(&measure.produce()) > 4_900_000.0);
    }

    #[test]
    fn a_cut_run_is_shorter() {
        let mut measure = Measure::new(0, 10 * SECOND_NS);
        measure.on_acknowledged(MS, MS, 2 * MS);
        measure.cut(2 * SECOND_NS + 1);
        assert_eq!(measure.slices(1).len(), 3);
        assert!((measure.seconds() - 2.0).abs() < 0.1);
    }

    #[test]
    fn errors_are_counted_by_name() {
        let mut errors = Errors::default();
        errors.count(6);
        errors.count(6);
        assert_eq!(errors.0["NOT_LEADER_OR_FOLLOWER (6)"], 2);
    }

    #[test]
    fn a_full_core_or_late_requests_make_the_generator_the_limit() {
        let with = |nanos| {
            let mut histogram = histogram::empty();
            histogram::record(&mut histogram, nanos);
            histogram
        };
        assert!(!judge_generator(0.5, &with(MS / 20), &with(MS)).was_the_limit);
        assert!(judge_generator(0.95, &with(0), &with(MS)).was_the_limit);
        let late = judge_generator(0.1, &with(5 * MS), &with(6 * MS));
        assert!(late.was_the_limit && late.reason.contains("late"), "{}", late.reason);
    }
}
