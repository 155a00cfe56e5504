//! The command line of `load`.
//!
//! Does: read flags, lay them over the scenario file, refuse what makes no sense.
//! Does not: run anything.
//! Invariants: a flag beats the file; what comes out passed [`Scenario::check`].
//! Apart because every field of a scenario has its flag and they are many.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::outcome::Durability;
use crate::scenario::{Codec, Consumers, Crowd, Pace, Producers, Scenario};

/// Loads a broker.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Address of one broker; the others are found through it.
    #[arg(
        long,
        value_name = "HOST:PORT",
        required_unless_present = "self_test",
        default_value = ""
    )]
    pub bootstrap: String,
    /// Load the built-in null responder at the published rates instead, and fail if this tool
    /// needs more than a quarter of a core for it.
    #[arg(long, conflicts_with_all = ["bootstrap", "scenario"])]
    pub self_test: bool,
    /// Workload file; each flag below overrides its field.
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
    /// Name of the system under test in the result; the address where none is given.
    #[arg(long, value_name = "NAME")]
    pub system: Option<String>,
    /// What an acknowledgement of this system means, as you set it up; this tool cannot see it.
    #[arg(long, value_enum, default_value = "d0")]
    pub durability: DurabilityName,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write each second's histogram in the interval log format of HdrHistogram.
    #[arg(long, value_name = "FILE")]
    pub histogram_log: Option<PathBuf>,
    /// Run on this CPU only. The broker belongs on others.
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// No table, no progress line.
    #[arg(long)]
    pub quiet: bool,
    /// The workload.
    #[command(flatten)]
    pub fields: Fields,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DurabilityName {
    /// In the memory of the process: its crash may lose it.
    D0m,
    /// In the page cache: a power cut may lose it.
    D0,
    /// On stable media.
    D1,
}

/// Compression, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CodecName {
    /// None.
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

/// A flag for each field of a scenario.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Workload")]
pub struct Fields {
    /// Partitions of the topic that is created for the run.
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// Seconds before the measured part.
    #[arg(long, value_name = "S")]
    pub warm_up_seconds: Option<u32>,
    /// Seconds of the measured part.
    #[arg(long, value_name = "S")]
    pub seconds: Option<u32>,
    /// Seed of everything that is drawn.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// No producers: only wait or read.
    #[arg(long)]
    pub no_producers: bool,
    /// Connections that produce.
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    /// Open loop: produce requests per second over all connections.
    #[arg(long, value_name = "N", group = "pace")]
    pub per_second: Option<f64>,
    /// Closed loop: as fast as the broker takes them, with this many in flight per connection.
    #[arg(long, value_name = "N", group = "pace")]
    pub as_fast_as_possible: Option<u32>,
    /// Closed loop: one request in flight on each connection.
    #[arg(long, group = "pace")]
    pub one_in_flight: bool,
    /// Raise the rate from here until the broker does not keep up.
    #[arg(long, value_name = "RATE", group = "pace")]
    pub search_from: Option<f64>,
    /// Factor between the steps of a search.
    #[arg(long, value_name = "F", default_value_t = 1.05)]
    pub search_factor: f64,
    /// Seconds per step of a search.
    #[arg(long, value_name = "S", default_value_t = 5)]
    pub search_step_seconds: u32,
    /// A step whose p99 is above this is not sustained, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    pub search_p99_limit_ms: f64,
    /// Size of a record's value, bytes.
    #[arg(long, value_name = "N")]
    pub record_bytes: Option<u32>,
    /// Records in a batch.
    #[arg(long, value_name = "N")]
    pub records_per_batch: Option<u32>,
    /// Partitions in one produce request, one batch each.
    #[arg(long, value_name = "N")]
    pub partitions_per_request: Option<u32>,
    /// Acknowledgements to wait for: -1, 0 or 1.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub acks: Option<i16>,
    /// With producer ids and sequence numbers.
    #[arg(long)]
    pub idempotent: bool,
    /// Each produce request is a transaction of its own; latency counts to the answer to its end.
    #[arg(long)]
    pub transactional: bool,
    /// Bytes of each record's key; 0 for none.
    #[arg(long, value_name = "N")]
    pub key_bytes: Option<u32>,
    /// Compression.
    #[arg(long, value_enum)]
    pub codec: Option<CodecName>,
    /// Share of requests that go to the first partition, 0 for an even spread.
    #[arg(long, value_name = "SHARE")]
    pub hot_share: Option<f64>,
    /// How many partitions are written to, from the first on; 0 for all.
    #[arg(long, value_name = "N")]
    pub written_partitions: Option<u32>,
    /// Connections that read the newest records of all partitions.
    #[arg(long, value_name = "N")]
    pub tail: Option<u32>,
    /// Connections that read everything from the start, again and again.
    #[arg(long, value_name = "N")]
    pub cold: Option<u32>,
    /// MiB of records written beforehand.
    #[arg(long, value_name = "MIB")]
    pub prefill_mib: Option<u32>,
    /// Tail consumers stop for this long at the start of the measured part, seconds.
    #[arg(long, value_name = "S")]
    pub pause_seconds: Option<u32>,
    /// `fetch.max.bytes` of consumers; 0 for 50 MiB.
    #[arg(long, value_name = "N")]
    pub fetch_bytes: Option<u32>,
    /// Consumers read what is committed, and nothing of open transactions.
    #[arg(long)]
    pub read_committed: bool,
    /// Consumers name all partitions in each request instead of keeping a fetch session.
    #[arg(long)]
    pub sessionless: bool,
    /// Connections that are opened and then only stay.
    #[arg(long, value_name = "N")]
    pub idle: Option<u32>,
    /// Connections opened and closed again per second.
    #[arg(long, value_name = "N")]
    pub churn_per_second: Option<u32>,
}

impl LoadArgs {
    /// The workload that is asked for.
    ///
    /// # Errors
    /// What is wrong with file or flags, in one line.
    pub fn scenario(&self) -> Result<Scenario, String> {
        let mut scenario = match &self.scenario {
            Some(path) => Scenario::load(path)?,
            None => by_hand(),
        };
        self.fields.lay_over(&mut scenario);
        scenario.check().map_err(|fault| fault.to_string())?;
        Ok(scenario)
    }

    /// What the caller says an acknowledgement means.
    #[must_use]
    pub fn durability(&self) -> Durability {
        match self.durability {
            DurabilityName::D0m => Durability::D0m,
            DurabilityName::D0 => Durability::D0,
            DurabilityName::D1 => Durability::D1,
        }
    }
}

/// What runs where no file says otherwise.
fn by_hand() -> Scenario {
    Scenario {
        name: "by-hand".to_owned(),
        purpose: "What the command line asks for.".to_owned(),
        partitions: 1,
        warm_up_seconds: 5,
        seconds: 10,
        seed: 0,
        producers: None,
        consumers: Consumers::default(),
        crowd: Crowd::default(),
        restart: None,
    }
}

/// One connection that sends one record of 1 KiB at a time.
#[must_use]
pub fn plain_producers() -> Producers {
    Producers {
        connections: 1,
        pace: Pace::OneInFlight,
        record_bytes: 1024,
        records_per_batch: 1,
        partitions_per_request: 1,
        acks: -1,
        idempotent: false,
        transactional: false,
        key_bytes: 0,
        codec: Codec::None,
        hot_share: 0.0,
        written_partitions: 0,
    }
}

impl Fields {
    fn lay_over(&self, scenario: &mut Scenario) {
        set(&mut scenario.partitions, self.partitions);
        set(&mut scenario.warm_up_seconds, self.warm_up_seconds);
        set(&mut scenario.seconds, self.seconds);
        set(&mut scenario.seed, self.seed);
        let consumers = &mut scenario.consumers;
        set(&mut consumers.tail, self.tail);
        set(&mut consumers.cold, self.cold);
        set(&mut consumers.prefill_mib, self.prefill_mib);
        set(&mut consumers.pause_seconds, self.pause_seconds);
        set(&mut consumers.fetch_bytes, self.fetch_bytes);
        consumers.read_committed |= self.read_committed;
        consumers.sessionless |= self.sessionless;
        set(&mut scenario.crowd.idle, self.idle);
        set(&mut scenario.crowd.churn_per_second, self.churn_per_second);
        if self.no_producers {
            scenario.producers = None;
        } else if scenario.name == by_hand().name || scenario.producers.is_some() {
            let mut producers = scenario.producers.take().unwrap_or_else(plain_producers);
            self.lay_over_producers(&mut producers);
            scenario.producers = Some(producers);
        }
    }

    fn lay_over_producers(&self, producers: &mut Producers) {
        set(&mut producers.connections, self.connections);
        set(&mut producers.pace, self.pace());
        set(&mut producers.record_bytes, self.record_bytes);
        set(&mut producers.records_per_batch, self.records_per_batch);
        set(&mut producers.partitions_per_request, self.partitions_per_request);
        set(&mut producers.acks, self.acks);
        producers.idempotent |= self.idempotent;
        producers.transactional |= self.transactional;
        set(&mut producers.key_bytes, self.key_bytes);
        set(&mut producers.codec, self.codec.map(Codec::from));
        set(&mut producers.hot_share, self.hot_share);
        set(&mut producers.written_partitions, self.written_partitions);
    }

    fn pace(&self) -> Option<Pace> {
        if self.one_in_flight {
            return Some(Pace::OneInFlight);
        }
        let search = self.search_from.map(|from| Pace::Search {
            from,
            factor: self.search_factor,
            step_seconds: self.search_step_seconds,
            p99_limit_ms: self.search_p99_limit_ms,
        });
        let closed = self.as_fast_as_possible.map(|in_flight| Pace::AsFastAsPossible { in_flight });
        search.or(closed).or(self.per_second.map(Pace::PerSecond))
    }
}

impl From<CodecName> for Codec {
    fn from(name: CodecName) -> Self {
        match name {
            CodecName::None => Self::None,
            CodecName::Gzip => Self::Gzip,
            CodecName::Snappy => Self::Snappy,
            CodecName::Lz4 => Self::Lz4,
            CodecName::Zstd => Self::Zstd,
        }
    }
}

fn set<T>(field: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn scenario(line: &str) -> Result<Scenario, String> {
        let words = format!("load --bootstrap h:1 {line}");
        Cli::try_parse_from(words.split_whitespace()).expect("well-formed").load.scenario()
    }

    #[test]
    fn flags_alone_make_a_scenario() {
        let scenario =
            scenario("--per-second 500 --acks -1 --codec lz4 --tail 2 --seed 9").expect("sound");
        let producers = scenario.producers.expect("producers");
        assert_eq!((producers.pace, producers.codec), (Pace::PerSecond(500.0), Codec::Lz4));
        assert_eq!((producers.acks, scenario.consumers.tail, scenario.seed), (-1, 2, 9));
    }

    #[test]
    fn what_is_only_switched_on_has_its_flag() {
        let line = "--transactional --tail 1 --read-committed --sessionless";
        let scenario = scenario(line).expect("sound");
        assert!(scenario.is_transactional());
        assert!(scenario.consumers.read_committed && scenario.consumers.sessionless);
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_started() {
        let said = scenario("--partitions 0").expect_err("refused");
        assert!(said.contains("partitions") && !said.contains('\n'), "{said}");
        let said = scenario("--scenario /no/such/file.toml").expect_err("refused");
        assert!(said.contains("/no/such/file.toml"), "{said}");
        assert!(scenario("--no-producers --idle 1").expect("sound").producers.is_none());
    }

    #[test]
    fn there_is_one_pace() {
        let words = ["load", "--bootstrap", "h:1", "--per-second", "5", "--one-in-flight"];
        assert!(Cli::try_parse_from(words).is_err());
    }
}
