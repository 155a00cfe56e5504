//! A workload as data: what is sent, read and measured.
//!
//! Does: define the scenario file, its defaults and what is refused.
//! Does not: run it.
//! Invariants: a scenario that passed [`Scenario::check`] can be run; the file names every unit.
//! Apart because generator, referee and report all read it.

pub mod check;

use serde::{Deserialize, Serialize};

/// How fast produce requests are due.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Pace {
    /// One request in flight on one connection, the next as soon as it is answered. The only
    /// closed loop; results are labelled so.
    OneInFlight,
    /// As fast as the broker takes them, with this many requests in flight per connection.
    AsFastAsPossible {
        /// Requests in flight per connection.
        in_flight: u32,
    },
    /// Open loop: this many produce requests per second over all connections, evenly spaced.
    PerSecond(f64),
    /// Raises an open loop's rate step by step until the broker does not keep up.
    Search {
        /// Requests per second of the first step.
        from: f64,
        /// Factor between steps, such as 1.05.
        factor: f64,
        /// Seconds per step.
        step_seconds: u32,
        /// A step whose p99 is above this is not sustained, milliseconds.
        p99_limit_ms: f64,
    },
}

/// Compression done by the producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy in the framing of Java clients.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What producers do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Producers {
    /// Connections that produce.
    pub connections: u32,
    /// How fast.
    pub pace: Pace,
    /// Size of a record's value, bytes.
    pub record_bytes: u32,
    /// Records in a batch.
    pub records_per_batch: u32,
    /// Partitions in one produce request, one batch each.
    #[serde(default = "one")]
    pub partitions_per_request: u32,
    /// `acks`: -1, 0 or 1.
    #[serde(default = "all")]
    pub acks: i16,
    /// With producer ids and sequence numbers.
    #[serde(default)]
    pub idempotent: bool,
    /// Each produce request is a transaction of its own: begun, written and committed (B14). Implies
    /// what `idempotent` says; latency counts to the answer to its end.
    #[serde(default)]
    pub transactional: bool,
    /// Bytes of each record's key; 0 for none.
    #[serde(default)]
    pub key_bytes: u32,
    /// Compression.
    #[serde(default)]
    pub codec: Codec,
    /// Share of requests that go to the first partition, 0 for an even spread (B15).
    #[serde(default)]
    pub hot_share: f64,
    /// How many partitions are written to, from the first on; 0 for all (B21).
    #[serde(default)]
    pub written_partitions: u32,
}

/// What consumers do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consumers {
    /// Connections that read the newest records of all partitions, for end-to-end latency and
    /// fan-out.
    pub tail: u32,
    /// Connections that read from the start, as fast as they can.
    pub cold: u32,
    /// Bytes of records written before the measured part, for cold readers, MiB.
    pub prefill_mib: u32,
    /// Tail consumers stop for this long at the start of the measured part and then drain (B8),
    /// seconds.
    pub pause_seconds: u32,
    /// `fetch.max.bytes`, bytes; 0 for 50 MiB.
    pub fetch_bytes: u32,
    /// With `isolation.level=read_committed` (B14).
    pub read_committed: bool,
    /// Without fetch sessions (KIP-227): each request names every partition (B21).
    pub sessionless: bool,
}

/// Connections that do nothing, and those that come and go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crowd {
    /// Connections that were opened, asked once for ApiVersions, and stay.
    pub idle: u32,
    /// Connections opened and closed again per second.
    pub churn_per_second: u32,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name with the scale in it, such as `b2-throughput-2core`.
    pub name: String,
    /// What it shows, one sentence.
    pub purpose: String,
    /// Partitions of the one topic that is created for the run.
    pub partitions: u32,
    /// Seconds before the measured part.
    pub warm_up_seconds: u32,
    /// Seconds of the measured part.
    pub seconds: u32,
    /// Seed of everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// Producers; nothing for a scenario that only waits (B17) or reads.
    #[serde(default)]
    pub producers: Option<Producers>,
    /// Consumers.
    #[serde(default)]
    pub consumers: Consumers,
    /// Connections without traffic.
    #[serde(default)]
    pub crowd: Crowd,
    /// The broker is stopped and started during the run (B11).
    #[serde(default)]
    pub restart: Option<Restart>,
}

impl Scenario {
    /// Whether each produce request is a transaction of its own.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.producers.as_ref().is_some_and(|producers| producers.transactional)
    }
}

/// How a broker goes down in the middle of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// SIGTERM, waited for.
    Clean,
    /// SIGKILL.
    Killed,
}

fn one() -> u32 {
    1
}

fn all() -> i16 {
    -1
}
