//! Results of `flumen-bench limits`.

use serde::{Deserialize, Serialize};

use super::environment::Environment;

/// Percentiles of one repeated operation, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Operations measured.
    pub samples: u64,
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Longest.
    pub max_us: f64,
}

/// One named limit that is a latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyLimit {
    /// Stable short name, such as `durable_write_paced`.
    pub name: String,
    /// What was done, for people.
    pub what: String,
    /// What was seen.
    pub spread: Spread,
}

/// One named limit that is an amount per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Stable short name, such as `durable_bandwidth`.
    pub name: String,
    /// What was done, for people.
    pub what: String,
    /// Amount per second.
    pub per_second: f64,
    /// Of what: `MB` (10^6 bytes) or `operations`.
    pub unit: String,
}

/// A limit that was asked for and not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmeasured {
    /// Stable short name, as in [`LatencyLimit::name`].
    pub name: String,
    /// Why, for people: not possible on this file system or machine, or what failed.
    pub reason: String,
}

/// The physical limits of a machine, as far as a broker meets them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// [`super::FORMAT`].
    pub format: u32,
    /// Where and when.
    pub environment: Environment,
    /// Latencies: disk, loopback, wake-up.
    pub latencies: Vec<LatencyLimit>,
    /// Rates: bandwidths, checksum and copy speed.
    pub rates: Vec<RateLimit>,
    /// What could not be measured here.
    #[serde(default)]
    pub unmeasured: Vec<Unmeasured>,
    /// Share of the machine's CPU time that other programs or the hypervisor took meanwhile, 0 to 1.
    /// Limits of a busy machine are none.
    #[serde(default)]
    pub disturbed_share: f64,
    /// Nothing when every probe had its turn; otherwise why it ended early.
    #[serde(default)]
    pub broken_off: Option<String>,
}

impl Limits {
    /// The latency of this name, where it was measured.
    pub fn latency(&self, name: &str) -> Option<&Spread> {
        self.latencies.iter().find(|limit| limit.name == name).map(|limit| &limit.spread)
    }

    /// The amount per second of this name, where it was measured.
    pub fn rate(&self, name: &str) -> Option<f64> {
        self.rates.iter().find(|limit| limit.name == name).map(|limit| limit.per_second)
    }
}
