//! What is read off a run: one number by one name.
//!
//! Does: take each metric from a run, and say its unit, its name and which way is better.
//! Does not: combine runs.
//! Invariants: a number that was not measured is nothing, never zero.
//! Apart because tables, ratios and goals name the same numbers.

use crate::outcome::comparison::Metric;
use crate::outcome::load::{CrowdOutcome, Latency};
use crate::report::study::Run;
use crate::report::words;

/// A number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// As the referee names it.
    Of(Metric),
    /// CPU seconds per 10^9 record bytes that reached consumers.
    CpuPerDeliveredGb,
    /// Highest resident memory that was seen.
    RssPeak,
    /// Seconds from the signal to the end of the broker's processes (B11).
    Stop,
    /// Seconds until paused consumers stood at the end again (B8).
    Drain,
    /// Record bytes per second that went to cold readers (B7).
    ColdRead,
    /// Idle connections that the broker closed (B10).
    IdleLost,
    /// Connections that came, were answered and went, per second (B10).
    Churn,
    /// Connections that came and got no answer (B10).
    ChurnFailed,
    /// 99th percentile from a passing connection's start to its first answer (B10).
    ChurnP99,
    /// Answers to fetches per second, full or empty (B21).
    Fetches,
    /// CPU microseconds per answer to a fetch, all that the broker did meanwhile included (B21).
    CpuPerFetch,
    /// What the generator used of its core.
    GeneratorShare,
}

/// Which way a quantity is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More of it.
    More,
    /// Less of it.
    Less,
}

impl Better {
    /// An arrow that points where better is.
    #[must_use]
    pub fn arrow(self) -> &'static str {
        match self {
            Self::More => "↑",
            Self::Less => "↓",
        }
    }
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Micros,
    Seconds,
    MegabytesPerSecond,
    Plain(&'static str),
    Percent,
}

impl Quantity {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Of(metric) => metric_name(metric),
            Self::CpuPerDeliveredGb => "CPU per GB delivered",
            Self::RssPeak => "Memory, highest",
            Self::Stop => "Stop",
            Self::Drain => "Backlog drained in",
            Self::ColdRead => "Cold read",
            Self::IdleLost => "Idle connections lost",
            Self::Churn => "Passing connections",
            Self::ChurnFailed => "Passing, unanswered",
            Self::ChurnP99 => "Passing, first answer p99",
            Self::Fetches => "Fetches",
            Self::CpuPerFetch => "CPU per fetch",
            Self::GeneratorShare => "Generator's core",
        }
    }

    /// Which way is better.
    #[must_use]
    pub fn better(self) -> Better {
        match self {
            Self::Of(Metric::Throughput | Metric::Delivery | Metric::Transactions)
            | Self::ColdRead
            | Self::Churn
            | Self::Fetches => Better::More,
            Self::Of(_)
            | Self::CpuPerDeliveredGb
            | Self::RssPeak
            | Self::Stop
            | Self::Drain
            | Self::IdleLost
            | Self::ChurnFailed
            | Self::ChurnP99
            | Self::CpuPerFetch
            | Self::GeneratorShare => Better::Less,
        }
    }

    /// The number of one run; nothing where it was not measured.
    #[must_use]
    pub fn of(self, run: &Run) -> Option<f64> {
        match self {
            Self::Of(metric) => metric_of(metric, run),
            Self::CpuPerDeliveredGb => {
                per_gb(run, run.load.delivered_bytes_per_second * run.load.measured_seconds)
            }
            Self::RssPeak => positive(run.cost.as_ref()?.rss_peak_mib),
            Self::Stop => positive(run.restart?.stop_seconds),
            Self::Drain => positive(run.load.drain_seconds?),
            Self::ColdRead => positive(run.load.cold_bytes_per_second),
            Self::Fetches => fetches_per_second(run),
            Self::CpuPerFetch => {
                let fetches = fetches_per_second(run)? * positive(run.load.measured_seconds)?;
                positive(run.cost.as_ref()?.cpu_seconds * 1e6 / fetches)
            }
            Self::GeneratorShare => positive(run.load.generator.cpu_share),
            Self::IdleLost | Self::Churn | Self::ChurnFailed | Self::ChurnP99 => {
                of_crowd(self, run.load.crowd.as_ref()?, run.load.measured_seconds)
            }
        }
    }

    /// A value with its unit.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self.unit() {
            Unit::Micros => words::duration_us(value),
            Unit::Seconds => words::duration_us(value * 1e6),
            Unit::MegabytesPerSecond => format!("{} MB/s", words::number(value / 1e6)),
            Unit::Plain(unit) => format!("{} {unit}", words::number(value)).trim_end().to_owned(),
            Unit::Percent => format!("{} %", words::number(value * 100.0)),
        }
    }

    fn unit(self) -> Unit {
        let metric = match self {
            Self::CpuPerDeliveredGb => return Unit::Plain("s/GB"),
            Self::RssPeak => return Unit::Plain("MiB"),
            Self::Stop | Self::Drain => return Unit::Seconds,
            Self::ColdRead => return Unit::MegabytesPerSecond,
            Self::IdleLost | Self::ChurnFailed => return Unit::Plain(""),
            Self::Churn | Self::Fetches => return Unit::Plain("/s"),
            Self::ChurnP99 => return Unit::Micros,
            Self::CpuPerFetch => return Unit::Plain("µs"),
            Self::GeneratorShare => return Unit::Percent,
            Self::Of(metric) => metric,
        };
        match metric {
            Metric::Throughput | Metric::Delivery => Unit::MegabytesPerSecond,
            Metric::Transactions => Unit::Plain("/s"),
            Metric::ProduceP50
            | Metric::ProduceP99
            | Metric::ProduceP999
            | Metric::EndToEndP50
            | Metric::EndToEndP99 => Unit::Micros,
            Metric::CpuPerGb => Unit::Plain("s/GB"),
            Metric::CpuPerRequest => Unit::Plain("µs"),
            Metric::WriteAmplification => Unit::Plain(""),
            Metric::Rss => Unit::Plain("MiB"),
            Metric::Start | Metric::RestartFirstAck | Metric::RestartAllLeaders => Unit::Seconds,
            Metric::CpuShare => Unit::Percent,
            Metric::ContextSwitches => Unit::Plain("/s"),
        }
    }
}

fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput => "Throughput",
        Metric::Delivery => "Delivered",
        Metric::Transactions => "Transactions",
        Metric::ProduceP50 => "Produce p50",
        Metric::ProduceP99 => "Produce p99",
        Metric::ProduceP999 => "Produce p99.9",
        Metric::EndToEndP50 => "End to end p50",
        Metric::EndToEndP99 => "End to end p99",
        Metric::CpuPerGb => "CPU per GB",
        Metric::CpuPerRequest => "CPU per request",
        Metric::WriteAmplification => "Write amplification",
        Metric::Rss => "Memory (RSS)",
        Metric::Start => "Start to first ack",
        Metric::CpuShare => "CPU share",
        Metric::ContextSwitches => "Context switches",
        Metric::RestartFirstAck => "Restart to first ack",
        Metric::RestartAllLeaders => "Restart to all leaders",
    }
}

fn metric_of(metric: Metric, run: &Run) -> Option<f64> {
    let load = &run.load;
    let produce = |read: fn(&Latency) -> f64| load.produce.as_ref().map(read).and_then(positive);
    let end_to_end =
        |read: fn(&Latency) -> f64| load.end_to_end.as_ref().map(read).and_then(positive);
    let cost = run.cost.as_ref();
    match metric {
        Metric::Throughput => positive(load.bytes_per_second),
        Metric::Delivery => positive(load.delivered_bytes_per_second),
        Metric::Transactions => {
            let committed = load.scenario.is_transactional().then_some(load.requests_per_second);
            committed.and_then(positive)
        }
        Metric::ProduceP50 => produce(|latency| latency.p50_us),
        Metric::ProduceP99 => produce(|latency| latency.p99_us),
        Metric::ProduceP999 => produce(|latency| latency.p999_us),
        Metric::EndToEndP50 => end_to_end(|latency| latency.p50_us),
        Metric::EndToEndP99 => end_to_end(|latency| latency.p99_us),
        Metric::CpuPerGb => positive(load.bytes_per_second)
            .or_else(|| positive(load.delivered_bytes_per_second))
            .and_then(|rate| per_gb(run, rate * load.measured_seconds)),
        Metric::CpuPerRequest => {
            let requests = positive(load.requests_per_second * load.measured_seconds)?;
            positive(cost?.cpu_seconds * 1e6 / requests)
        }
        Metric::WriteAmplification => {
            let acknowledged = positive(load.bytes_per_second * load.measured_seconds)?;
            positive(cost?.device_written_bytes as f64 / acknowledged)
        }
        Metric::Rss => positive(cost?.rss_mib),
        Metric::Start => positive(cost?.start_seconds),
        Metric::CpuShare => positive(cost?.cpu_seconds / positive(load.measured_seconds)?),
        Metric::ContextSwitches => {
            positive(cost?.context_switches as f64 / positive(load.measured_seconds)?)
        }
        Metric::RestartFirstAck => positive(run.restart?.first_ack_seconds),
        Metric::RestartAllLeaders => positive(run.restart?.all_leaders_seconds),
    }
}

/// Where partitions stand still that somebody reads, and fetches are what is measured; elsewhere
/// they are only how records travel.
fn fetches_per_second(run: &Run) -> Option<f64> {
    let producers = run.load.scenario.producers.as_ref()?;
    let some_stand_still = producers.written_partitions > 0;
    some_stand_still.then_some(run.load.fetches_per_second).and_then(positive)
}

fn per_gb(run: &Run, bytes: f64) -> Option<f64> {
    positive(run.cost.as_ref()?.cpu_seconds / (positive(bytes)? / 1e9))
}

/// Here zero is a number: nobody was lost of those that were there.
fn of_crowd(quantity: Quantity, crowd: &CrowdOutcome, seconds: f64) -> Option<f64> {
    let passed = crowd.churned + crowd.churn_failed > 0;
    match quantity {
        Quantity::IdleLost => (crowd.idle > 0).then_some(crowd.idle_lost as f64),
        Quantity::Churn => passed.then(|| crowd.churned as f64 / seconds.max(f64::MIN_POSITIVE)),
        Quantity::ChurnFailed => passed.then_some(crowd.churn_failed as f64),
        Quantity::ChurnP99 => crowd.churn.as_ref().map(|churn| churn.p99_us),
        Quantity::Of(_)
        | Quantity::CpuPerDeliveredGb
        | Quantity::RssPeak
        | Quantity::Stop
        | Quantity::Drain
        | Quantity::ColdRead
        | Quantity::Fetches
        | Quantity::CpuPerFetch
        | Quantity::GeneratorShare => None,
    }
}

/// Zero means "was not measured" wherever a quantity cannot be zero.
fn positive(value: f64) -> Option<f64> {
    (value.is_finite() && value > 0.0).then_some(value)
}
