//! Results of `flumen-bench compare`.

use serde::{Deserialize, Serialize};

use super::Durability;
use super::environment::Environment;
use super::load::Load;
use super::probes::Limits;
use crate::scenario::Scenario;

/// One system under test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Short name in tables, such as `flumen` or `kafka`.
    pub name: String,
    /// What its acknowledgements mean.
    pub durability: Durability,
    /// Version, as the system says it.
    pub version: String,
    /// The command that started it, as a stranger could repeat it: programs without their folders.
    pub command: String,
}

/// What a broker consumed during the measured part of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU seconds, user and system, of all its processes.
    pub cpu_seconds: f64,
    /// Resident memory at the end, MiB.
    pub rss_mib: f64,
    /// Highest resident memory seen, MiB.
    pub rss_peak_mib: f64,
    /// Context switches, voluntary and not.
    pub context_switches: u64,
    /// Bytes it caused to be written to the device.
    pub device_written_bytes: u64,
    /// Seconds from its start to the first acknowledged record of this run.
    pub start_seconds: f64,
}

/// One run of one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Place in the order of all runs.
    pub position: u32,
    /// Which system: its place in [`Comparison::systems`].
    pub system: usize,
    /// Which pair of runs it belongs to.
    pub pair: u32,
    /// What the generator saw.
    pub load: Load,
    /// What the broker consumed.
    pub cost: Cost,
    /// How it came back, where the scenario takes it down.
    #[serde(default)]
    pub restart: Option<Restarted>,
    /// Share of the machine's CPU time from the first connection to the last that neither the system
    /// nor the generator, the referee or the kernel's threads used, 0 to 1; nothing where it cannot
    /// be seen.
    #[serde(default)]
    pub foreign_share: Option<f64>,
}

/// How a broker came back after a stop or a kill, with the records of the run on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Restarted {
    /// Seconds from the signal until all of its processes were gone.
    pub stop_seconds: f64,
    /// Seconds from the new start to the first acknowledged record.
    pub first_ack_seconds: f64,
    /// Seconds from the new start until the leaders of all partitions answered.
    pub all_leaders_seconds: f64,
}

/// Where a ratio lies with 95 % confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Geometric mean of the ratios of the pairs.
    pub mean: f64,
    /// Lower end of the bootstrap interval.
    pub low: f64,
    /// Upper end of the bootstrap interval.
    pub high: f64,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Metric {
    /// Record bytes acknowledged per second.
    Throughput,
    /// Record bytes delivered per second.
    Delivery,
    /// Transactions committed per second (B14).
    Transactions,
    /// Median produce latency.
    ProduceP50,
    /// 99th percentile of produce latency.
    ProduceP99,
    /// 99.9th percentile of produce latency.
    ProduceP999,
    /// Median end-to-end latency.
    EndToEndP50,
    /// 99th percentile of end-to-end latency.
    EndToEndP99,
    /// CPU seconds per 10^9 record bytes acknowledged or, without produce, delivered.
    CpuPerGb,
    /// CPU microseconds per produce request.
    CpuPerRequest,
    /// Device bytes written per record byte acknowledged.
    WriteAmplification,
    /// Resident memory at the end.
    Rss,
    /// Seconds from start to first acknowledged record.
    Start,
    /// CPU seconds per second of the measured part: the price of standing by (B17).
    CpuShare,
    /// Context switches per second.
    ContextSwitches,
    /// Seconds from a restart to the first acknowledged record (B11).
    RestartFirstAck,
    /// Seconds from a restart until the leaders of all partitions answered (B11).
    RestartAllLeaders,
}

/// One metric of one system, divided by that of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// What.
    pub metric: Metric,
    /// Numerator: place in [`Comparison::systems`].
    pub of: usize,
    /// Denominator: place in [`Comparison::systems`].
    pub to: usize,
    /// The classes differ: no match of equals, to be marked wherever it is shown.
    pub is_handicap: bool,
    /// The ratio.
    pub interval: Interval,
}

/// Whether the machine was quiet enough for the numbers to mean anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Guards {
    /// Highest share of CPU time stolen by the hypervisor during a run, 0 to 1.
    pub steal_share: f64,
    /// Highest share of CPU time that others used during a run; see [`Round::foreign_share`].
    #[serde(default)]
    pub foreign_share: Option<f64>,
    /// CPUs that were busy during the second before the first run. The load average would still
    /// remember the comparison before this one.
    pub load_before: f64,
    /// Relative change of a limit probe between start and end: of the one nearest to its bound.
    pub limits_drift: f64,
    /// Ratios of a system against itself (A/A), where a control ran.
    pub control: Vec<Ratio>,
    /// What was outside its bounds; empty when the measurement may be believed.
    pub violations: Vec<String>,
}

/// Everything about one scenario run on several systems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`super::FORMAT`].
    pub format: u32,
    /// What was asked for.
    pub scenario: Scenario,
    /// Where and when.
    pub environment: Environment,
    /// Who took part.
    pub systems: Vec<System>,
    /// Limits before the first run.
    pub limits_before: Option<Limits>,
    /// Limits after the last run.
    pub limits_after: Option<Limits>,
    /// Whether to believe it.
    pub guards: Guards,
    /// Nothing when every run went through; otherwise why it ended early.
    pub broken_off: Option<String>,
    /// Every run, in order.
    pub rounds: Vec<Round>,
    /// The runs of the A/A control, in order.
    #[serde(default)]
    pub control_rounds: Vec<Round>,
    /// What a reader must know about how this was measured: what a number misses, how wide an
    /// interval is.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Ratios between systems.
    pub ratios: Vec<Ratio>,
}
