//! Results of `flumen-bench load`.

use serde::{Deserialize, Serialize};

use super::Durability;
use super::environment::Environment;
use crate::scenario::Scenario;

/// Distribution of one kind of latency over the measured part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Requests (produce) or records (end to end) measured.
    pub samples: u64,
    /// Mean, microseconds.
    pub mean_us: f64,
    /// Median, microseconds.
    pub p50_us: f64,
    /// 90th percentile, microseconds.
    pub p90_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// 99.9th percentile, microseconds.
    pub p999_us: f64,
    /// 99.99th percentile, microseconds.
    pub p9999_us: f64,
    /// Longest, microseconds.
    pub max_us: f64,
    /// The whole histogram in nanoseconds: HdrHistogram V2 format, deflated, base64.
    pub histogram: String,
}

/// One second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Seconds since the measured part began.
    pub second: u32,
    /// Requests due in this second by the schedule.
    pub due: u64,
    /// Produce requests acknowledged in this second.
    pub acknowledged: u64,
    /// Record bytes acknowledged in this second.
    pub acknowledged_bytes: u64,
    /// Record bytes delivered to consumers in this second.
    pub delivered_bytes: u64,
    /// Median produce latency, microseconds; 0 without a sample.
    pub p50_us: f64,
    /// 99th percentile of produce latency, microseconds.
    pub p99_us: f64,
    /// Longest produce latency, microseconds.
    pub max_us: f64,
}

/// One step of a search for the highest sustainable rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Produce requests per second that were due.
    pub offered_per_second: f64,
    /// Produce requests per second that were acknowledged.
    pub achieved_per_second: f64,
    /// Record bytes per second that were acknowledged.
    pub achieved_bytes_per_second: f64,
    /// Median produce latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile of produce latency, microseconds.
    pub p99_us: f64,
    /// Whether the system kept up (99 % of offered, p99 below the limit of the search).
    pub sustained: bool,
    /// Why the generator, not the system, may have set the pace of this step; empty where it did not.
    #[serde(default)]
    pub limited_by_generator: String,
}

/// What the generator itself cost, and whether it was the limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// CPU seconds of the generator per second of the measured part.
    pub cpu_share: f64,
    /// Longest delay between the moment a request was due and the moment it was written although
    /// the broker did not hold it back, microseconds.
    pub worst_lateness_us: f64,
    /// The generator, not the broker, may have set the pace: read no limit of a broker from it.
    pub was_the_limit: bool,
    /// Why, where it was; empty otherwise.
    pub reason: String,
}

/// What connections without traffic went through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CrowdOutcome {
    /// Connections that were opened to stay.
    pub idle: u64,
    /// Of these, how many the broker closed.
    pub idle_lost: u64,
    /// Connections that came, were answered and went, during the measured part.
    pub churned: u64,
    /// Connections that came and got no answer, during the measured part.
    pub churn_failed: u64,
    /// From the intended start of a passing connection to its first answer.
    pub churn: Option<Latency>,
}

/// Everything about one load run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// [`super::FORMAT`].
    pub format: u32,
    /// What was asked for.
    pub scenario: Scenario,
    /// Name of the system under test, as the caller called it.
    pub system: String,
    /// What its acknowledgements mean, as the caller declared it.
    pub durability: Durability,
    /// Where and when.
    pub environment: Environment,
    /// Nothing when the run went through; otherwise why it ended early. What was measured until
    /// then is still here.
    pub broken_off: Option<String>,
    /// When the measured part began, milliseconds since 1970 UTC, so that others who watched at
    /// the same time can cut out the same seconds; 0 where it never began.
    #[serde(default)]
    pub measured_from_unix_ms: u64,
    /// Length of the measured part, seconds.
    pub measured_seconds: f64,
    /// Produce requests per second that were due; 0 where the run was as fast as it could.
    pub offered_per_second: f64,
    /// Produce requests acknowledged per second; in a transactional run each of them is a transaction,
    /// and counts when it is committed.
    pub requests_per_second: f64,
    /// Records acknowledged per second.
    pub records_per_second: f64,
    /// Record bytes (keys and values, before compression) acknowledged per second.
    pub bytes_per_second: f64,
    /// Record bytes delivered to consumers per second, before decompression.
    pub delivered_bytes_per_second: f64,
    /// The part of it that went to cold readers.
    #[serde(default)]
    pub cold_bytes_per_second: f64,
    /// Fetches answered per second, full or empty.
    #[serde(default)]
    pub fetches_per_second: f64,
    /// Produce requests of the measured part that were never answered. Their age at the end counts
    /// as their latency.
    #[serde(default)]
    pub unanswered: u64,
    /// The highest rate of a search that was sustained, produce requests per second; nothing for
    /// other paces, and where not even the first step was.
    #[serde(default)]
    pub knee_per_second: Option<f64>,
    /// Produce latency from the intended send time to the acknowledgement. One in flight has no
    /// schedule: there it counts from the write, as service time does. In a transactional run it is
    /// that of whole transactions, to the answer to their end.
    pub produce: Option<Latency>,
    /// Produce latency from the actual write to the acknowledgement: what other tools call latency.
    pub service: Option<Latency>,
    /// From the intended send time to the arrival at a tail consumer.
    pub end_to_end: Option<Latency>,
    /// Seconds from the end of the tail consumers' pause until the last of them stood at the end of
    /// all its partitions again (B8); nothing without a pause, or when one never did.
    #[serde(default)]
    pub drain_seconds: Option<f64>,
    /// Records that were acknowledged and did not reach a tail consumer by the end of the run, one
    /// number per tail consumer; empty without tail consumers, and where the run broke off.
    #[serde(default)]
    pub undelivered: Vec<u64>,
    /// Connections without traffic, where the scenario has some.
    #[serde(default)]
    pub crowd: Option<CrowdOutcome>,
    /// Error codes that the broker answered, by name, with their number.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// Second by second.
    pub slices: Vec<Slice>,
    /// The second with the highest p99.
    pub worst_second: Option<u32>,
    /// Steps of a search; empty for a fixed rate.
    pub steps: Vec<Step>,
    /// What the generator cost.
    pub generator: Generator,
}

impl Load {
    /// What a reader must know of acknowledged records that tail consumers did not get; nothing where
    /// they got all.
    #[must_use]
    pub fn undelivered_words(&self) -> Option<String> {
        let short = self.undelivered.iter().filter(|missing| **missing > 0);
        let most = short.clone().max()?;
        Some(format!(
            "{} of {} tail consumers did not get all acknowledged records by the end: up to {most} \
             are missing",
            short.count(),
            self.undelivered.len()
        ))
    }
}
