//! Outcomes that nobody measured, for tests.
//!
//! Does: build comparisons, a search and limits that look like a real evening's.
//! Does not: leave the tests.
//! Invariants: the same call gives the same outcome.
//! Apart because made-up numbers must never be mistaken for measured ones.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::outcome::comparison::{
    Comparison, Cost, Guards, Interval, Metric, Ratio, Restarted, Round, System,
};
use crate::outcome::environment::Environment;
use crate::outcome::load::{Generator, Latency, Load, Slice, Step};
use crate::outcome::probes::{LatencyLimit, Limits, RateLimit, Spread};
use crate::outcome::{Durability, FORMAT};
use crate::scenario::{Consumers, Crowd, Pace, Producers, Restart, Scenario};

/// What a made-up system is like.
#[derive(Clone, Copy)]
struct Nature {
    name: &'static str,
    durability: Durability,
    /// Median latency, microseconds.
    p50_us: f64,
    /// How many times longer one in a hundred takes.
    tail: f64,
    /// Most requests per second.
    capacity: f64,
    cpu_per_gb: f64,
    rss_mib: f64,
}

const NATURES: [Nature; 4] = [
    Nature {
        name: "flumen",
        durability: Durability::D1,
        p50_us: 96.0,
        tail: 2.1,
        capacity: 7_200.0,
        cpu_per_gb: 0.71,
        rss_mib: 19.0,
    },
    Nature {
        name: "flumen",
        durability: Durability::D0m,
        p50_us: 51.0,
        tail: 1.9,
        capacity: 16_500.0,
        cpu_per_gb: 0.52,
        rss_mib: 19.0,
    },
    Nature {
        name: "kafka",
        durability: Durability::D1,
        p50_us: 2_406.0,
        tail: 60.0,
        capacity: 3_600.0,
        cpu_per_gb: 3.5,
        rss_mib: 990.0,
    },
    Nature {
        name: "kafka",
        durability: Durability::D0,
        p50_us: 134.0,
        tail: 30.0,
        capacity: 8_800.0,
        cpu_per_gb: 1.64,
        rss_mib: 990.0,
    },
];

pub fn environment() -> Environment {
    Environment {
        started_unix_ms: 1_795_259_103_000,
        kernel: "6.18.5".to_owned(),
        cpu_model: "AMD EPYC-Milan Processor".to_owned(),
        cpus: 2,
        memory_mib: 23_552,
        file_system: "ext4".to_owned(),
        device: "vda".to_owned(),
        tool_version: "0.1.0".to_owned(),
    }
}

pub fn limits() -> Limits {
    let latency = |name: &str, what: &str, p50_us: f64| LatencyLimit {
        name: name.to_owned(),
        what: what.to_owned(),
        spread: Spread {
            samples: 100_000,
            p50_us,
            p99_us: p50_us * 1.6,
            p999_us: p50_us * 3.1,
            max_us: p50_us * 40.0,
        },
    };
    let rate = |name: &str, what: &str, per_second: f64| RateLimit {
        name: name.to_owned(),
        what: what.to_owned(),
        per_second,
        unit: "MB".to_owned(),
    };
    let latencies = [
        latency("durable_write", "4 KiB O_DSYNC overwrite, back to back", 41.0),
        latency("durable_write_paced", "4 KiB O_DSYNC overwrite, one every 200 µs", 72.0),
        latency("loopback_round_trip_pinned", "1 KiB ping-pong between two CPUs", 18.0),
    ];
    let rates = [
        rate("durable_bandwidth", "1 MiB O_DIRECT O_DSYNC, 4 at once", 1_240.0),
        rate("memcpy", "16 MiB copied by one core", 11_300.0),
    ];
    from_fields([
        ("format", json!(FORMAT)),
        ("environment", json!(environment())),
        ("latencies", json!(latencies)),
        ("rates", json!(rates)),
    ])
}

/// As a reader of files meets it: fields that came later have their defaults.
fn from_fields<T: DeserializeOwned>(fields: impl IntoIterator<Item = (&'static str, Value)>) -> T {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    serde_json::from_value(Value::Object(fields)).expect("a whole outcome")
}

pub fn scenario(name: &str, pace: Pace) -> Scenario {
    Scenario {
        name: name.to_owned(),
        purpose: "Tails at a rate that the slower broker carries.".to_owned(),
        partitions: 16,
        warm_up_seconds: 5,
        seconds: 60,
        seed: 4,
        producers: Some(Producers {
            connections: 4,
            pace,
            record_bytes: 1_024,
            records_per_batch: 16,
            partitions_per_request: 1,
            acks: -1,
            idempotent: false,
            transactional: false,
            key_bytes: 0,
            codec: crate::scenario::Codec::None,
            hot_share: 0.0,
            written_partitions: 0,
        }),
        consumers: Consumers { tail: 1, ..Consumers::default() },
        crowd: Crowd::default(),
        restart: None,
    }
}

/// Two products in two classes, four pairs of runs at a fixed rate.
pub fn half_load() -> Comparison {
    comparison(scenario("b2-half-load-2core", Pace::PerSecond(2_000.0)), 4)
}

/// The same systems, as fast as they can.
pub fn throughput() -> Comparison {
    comparison(scenario("b2-throughput-2core", Pace::AsFastAsPossible { in_flight: 5 }), 4)
}

/// One run per system of a search.
pub fn search() -> Comparison {
    let pace = Pace::Search { from: 500.0, factor: 1.3, step_seconds: 5, p99_limit_ms: 100.0 };
    let mut comparison = comparison(scenario("b2-knee-2core", pace), 1);
    for round in &mut comparison.rounds {
        let nature = NATURES[round.system];
        round.load.steps = steps(nature);
    }
    comparison
}

/// A comparison whose machine was not quiet and whose last run broke off.
pub fn doubtful() -> Comparison {
    let mut comparison =
        comparison(scenario("b11-restart-killed-2core-div10", Pace::PerSecond(500.0)), 2);
    comparison.scenario.restart = Some(Restart::Killed);
    comparison.scenario.purpose = "Time to serve again after SIGKILL.".to_owned();
    for round in &mut comparison.rounds {
        let seconds = if NATURES[round.system].name == "kafka" { 20.0 } else { 0.31 };
        round.restart = Some(Restarted {
            stop_seconds: 0.01,
            first_ack_seconds: seconds,
            all_leaders_seconds: seconds * 1.2,
        });
    }
    comparison.guards.steal_share = 0.061;
    comparison.guards.violations = vec![
        "CPU time stolen: 6.1 % in run 3, at most 2 % <allowed>".to_owned(),
        "flumen over itself: p99 1.31× [1.22–1.4], must lie within ±10 %".to_owned(),
    ];
    comparison.broken_off = Some("the broker `kafka` died with signal 9 | in run 8".to_owned());
    if let Some(last) = comparison.rounds.last_mut() {
        last.load.broken_off = Some("connection reset by peer".to_owned());
        last.load.errors.insert("NOT_LEADER_OR_FOLLOWER".to_owned(), 1_204);
        last.load.slices.truncate(9);
    }
    comparison
}

/// A single load run without a referee.
pub fn load() -> Load {
    let pace = Pace::PerSecond(200.0);
    let mut load = run(&scenario("b1-end-to-end-2core", pace), NATURES[0], 1.0);
    load.generator = Generator {
        cpu_share: 0.97,
        worst_lateness_us: 5_300.0,
        was_the_limit: true,
        reason: "97 % of a core".to_owned(),
    };
    load
}

fn comparison(scenario: Scenario, pairs: u32) -> Comparison {
    let system = |nature: &Nature| System {
        name: nature.name.to_owned(),
        durability: nature.durability,
        version: if nature.name == "kafka" { "4.1.2" } else { "0.1.0" }.to_owned(),
        command: format!("{} serve -o log.dirs=DIR & \"more\"", nature.name),
    };
    let mut rounds = Vec::new();
    for pair in 0..pairs {
        for (system, nature) in NATURES.iter().enumerate() {
            let luck = 1.0 + 0.02 * f64::from(pair) * if system % 2 == 0 { 1.0 } else { -1.0 };
            let load = run(&scenario, *nature, luck);
            let gigabytes = load.bytes_per_second * load.measured_seconds / 1e9;
            let cost = Cost {
                cpu_seconds: nature.cpu_per_gb * gigabytes * luck,
                rss_mib: nature.rss_mib,
                rss_peak_mib: nature.rss_mib * 1.1,
                context_switches: 120_000,
                device_written_bytes: (gigabytes * 1.08e9) as u64,
                start_seconds: if nature.name == "kafka" { 8.2 } else { 0.027 },
            };
            let position = rounds.len() as u32;
            let (restart, foreign_share) = (None, Some(0.01));
            rounds.push(Round { position, system, pair, load, cost, restart, foreign_share });
        }
    }
    Comparison {
        format: FORMAT,
        scenario,
        environment: environment(),
        systems: NATURES.iter().map(system).collect(),
        limits_before: Some(limits()),
        limits_after: Some(limits()),
        guards: Guards {
            steal_share: 0.004,
            foreign_share: Some(0.01),
            load_before: 0.03,
            limits_drift: 0.06,
            control: vec![ratio(Metric::Throughput, 0, 0, 1.004, 1.02)],
            violations: Vec::new(),
        },
        broken_off: None,
        rounds,
        control_rounds: Vec::new(),
        notes: vec!["Device writes are those of the whole control group.".to_owned()],
        ratios: vec![
            ratio(Metric::Throughput, 0, 2, 1.98, 1.08),
            ratio(Metric::ProduceP50, 0, 2, 0.04, 1.05),
            ratio(Metric::ProduceP99, 0, 2, 0.0014, 1.5),
            ratio(Metric::ProduceP99, 0, 3, 0.0505, 1.3),
            ratio(Metric::ProduceP99, 1, 3, 0.024, 1.3),
            ratio(Metric::ProduceP999, 0, 2, 0.0018, 1.6),
            ratio(Metric::CpuPerGb, 0, 2, 0.203, 1.04),
            ratio(Metric::CpuPerGb, 1, 3, 0.317, 1.04),
        ],
    }
}

fn ratio(metric: Metric, of: usize, to: usize, mean: f64, width: f64) -> Ratio {
    Ratio {
        metric,
        of,
        to,
        is_handicap: NATURES[of].durability != NATURES[to].durability,
        interval: Interval { mean, low: mean / width, high: mean * width },
    }
}

fn run(scenario: &Scenario, nature: Nature, luck: f64) -> Load {
    let rate = match scenario.producers.as_ref().map(|producers| producers.pace) {
        Some(Pace::PerSecond(rate)) => rate,
        Some(Pace::OneInFlight) => 1e6 / nature.p50_us,
        Some(Pace::AsFastAsPossible { .. } | Pace::Search { .. }) => nature.capacity * luck,
        None => 0.0,
    };
    let bytes = scenario
        .producers
        .as_ref()
        .map_or(0.0, |p| f64::from(p.record_bytes * p.records_per_batch) * rate);
    let latency = latency(nature.p50_us * luck, nature.tail);
    let slice = |second: u32| {
        let swing = 1.0 + 0.3 * f64::from(second * 7919 % 17) / 17.0;
        Slice {
            second,
            due: rate as u64,
            acknowledged: (rate * luck) as u64,
            acknowledged_bytes: (bytes * (1.6 - swing * 0.5)) as u64,
            delivered_bytes: (bytes * (1.6 - swing * 0.5)) as u64,
            p50_us: nature.p50_us * swing,
            p99_us: latency.p99_us * swing * if second == 31 { 4.0 } else { 1.0 },
            max_us: latency.max_us,
        }
    };
    let end_to_end = Latency { p50_us: latency.p50_us * 1.4, ..latency.clone() };
    from_fields([
        ("format", json!(FORMAT)),
        ("scenario", json!(scenario)),
        ("system", json!(nature.name)),
        ("durability", json!(nature.durability)),
        ("environment", json!(environment())),
        ("broken_off", Value::Null),
        ("measured_from_unix_ms", json!(1_795_259_109_000_u64)),
        ("measured_seconds", json!(60.0)),
        ("offered_per_second", json!(rate)),
        ("requests_per_second", json!(rate)),
        ("records_per_second", json!(rate * 16.0)),
        ("bytes_per_second", json!(bytes)),
        ("delivered_bytes_per_second", json!(bytes)),
        ("produce", json!(latency)),
        ("service", json!(latency)),
        ("end_to_end", json!(end_to_end)),
        ("errors", json!({})),
        ("slices", json!((0..60).map(slice).collect::<Vec<Slice>>())),
        ("worst_second", json!(31)),
        ("steps", json!([])),
        ("generator", json!(Generator::default())),
    ])
}

/// A distribution with a body and a tail that grows by the decade.
fn latency(p50_us: f64, tail: f64) -> Latency {
    let mut histogram =
        Histogram::<u64>::new_with_bounds(1_000, 100_000_000_000, 3).expect("constant bounds");
    for step in 0..20_000_u32 {
        let rank = (f64::from(step) + 0.5) / 20_000.0;
        let decades = -(1.0 - rank).log10();
        let nanos = p50_us * 1e3 * (0.8 + 0.35 * rank) * tail.powf((decades - 0.3).max(0.0) / 1.7);
        histogram.record(nanos as u64).expect("within the bounds");
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).expect("a vector takes it");
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency {
        samples: histogram.len(),
        mean_us: histogram.mean() / 1e3,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        p9999_us: at(0.9999),
        max_us: histogram.max() as f64 / 1e3,
        histogram: base64::engine::general_purpose::STANDARD.encode(bytes),
    }
}

fn steps(nature: Nature) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut offered = 500.0;
    loop {
        let strain = offered / nature.capacity;
        let p99_us = nature.p50_us * nature.tail.sqrt() * (1.0 + strain.powi(6) * 40.0);
        let sustained = strain < 1.0 && p99_us < 100_000.0;
        let achieved = offered.min(nature.capacity);
        steps.push(Step {
            offered_per_second: offered,
            achieved_per_second: achieved,
            achieved_bytes_per_second: achieved * 65_536.0,
            p50_us: nature.p50_us,
            p99_us,
            sustained,
            limited_by_generator: String::new(),
        });
        if !sustained {
            return steps;
        }
        offered *= 1.3;
    }
}
