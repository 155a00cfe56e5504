//! The goals as data.
//!
//! Does: say of each goal what is measured where, against what, and where its bars lie.
//! Does not: compute.
//! Invariants: bars go from the easiest to the hardest; numbers are those of the project's
//! performance paper.
//! Apart so that a goal is changed by changing a line of a table.

use super::{Bar, Goal, Item, Measure, Pick, Push, Term};
use crate::outcome::Durability::{self, D0, D0m, D1};
use crate::outcome::comparison::Metric;
use crate::outcome::probes::Spread;
use crate::report::quantity::{Better, Quantity};
use crate::scenario::Restart;

/// The durable write as a broker with one client does it: paced, because a device behind a
/// hypervisor answers more slowly when it idles.
const DURABLE_WRITE: &[&str] = &["durable_write_paced", "durable_write"];
/// The durable write under the load of B2: what the device's own tail is when it is kept busy.
const LOADED_WRITE: &[&str] = &["durable_write_loaded"];
/// Between two CPUs, where broker and generator sit; where the scheduler chose, it may have put both
/// on one.
const ROUND_TRIP: &[&str] = &["loopback_round_trip_pinned", "loopback_round_trip"];

const fn p50(spread: &Spread) -> f64 {
    spread.p50_us
}

const fn p99(spread: &Spread) -> f64 {
    spread.p99_us
}

const WRITE_P50: Term = Term { names: DURABLE_WRITE, percentile: p50, times: 1.0 };
const WRITE_P99: Term = Term { names: DURABLE_WRITE, percentile: p99, times: 1.0 };
const LOADED_P99: Term = Term { names: LOADED_WRITE, percentile: p99, times: 1.0 };
const ONE_TRIP: Term = Term { names: ROUND_TRIP, percentile: p50, times: 1.0 };
const TWO_TRIPS: Term = Term { names: ROUND_TRIP, percentile: p50, times: 2.0 };

const fn pick(prefix: &'static str, push: Push) -> Pick {
    Pick {
        prefix,
        push,
        partitions: None,
        producers: None,
        record_bytes: None,
        rate: None,
        idle: 0,
        tail: 0,
        restart: None,
    }
}

/// 2,000 requests of 16 records of 1 KiB per second.
pub const B2_RATE: Pick =
    Pick { rate: Some((2_000.0, 16)), record_bytes: Some(1_024), ..pick("b2", Push::Rate) };
/// As much as it takes.
pub const B2_MOST: Pick = pick("b2", Push::Most);
const B3_SMALL: Pick = Pick { record_bytes: Some(100), ..pick("b3", Push::Most) };
const B4_MANY: Pick = Pick { partitions: Some(10_000), ..pick("b4", Push::Rate) };
const B16_TAIL: Pick = Pick { tail: 1, ..pick("b16", Push::Any) };

const fn kafka(pick: Pick, metric: Metric, flumen: Durability, kafka: Durability) -> Measure {
    Measure::Kafka { pick, quantity: Quantity::Of(metric), flumen, kafka }
}

const fn machine(pick: Pick, metric: Metric, terms: &'static [Term]) -> Measure {
    Measure::Machine { pick, quantity: Quantity::Of(metric), flumen: D1, terms }
}

const fn absolute(pick: Pick, metric: Metric) -> Measure {
    Measure::Absolute { pick, quantity: Quantity::Of(metric), flumen: D1 }
}

type Words = &'static str;

const fn most(id: Words, what: Words, against: Words, measure: Measure, bars: [f64; 3]) -> Goal {
    let bars = [Bar::At(bars[0]), Bar::At(bars[1]), Bar::At(bars[2])];
    Goal { id, what, against, measure, better: Better::More, bars }
}

const fn least(id: Words, what: Words, against: Words, measure: Measure, bars: [f64; 3]) -> Goal {
    let most = most(id, what, against, measure, bars);
    Goal { better: Better::Less, ..most }
}

/// Every goal that the harness's scenarios can show.
pub static GOALS: [Goal; 26] = [
    least(
        "P1",
        "produce p50, one in flight",
        "paced durable write + round trip",
        machine(pick("b1", Push::OneInFlight), Metric::ProduceP50, &[WRITE_P50, ONE_TRIP]),
        [2.0, 1.4, 1.15],
    ),
    least(
        "P2",
        "produce p99 at 2,000/s of 16 KiB (fixed rate)",
        "durable write p99 + round trip",
        machine(B2_RATE, Metric::ProduceP99, &[WRITE_P99, ONE_TRIP]),
        [4.0, 2.0, 1.5],
    ),
    // Not in the paper: whether the time is the device's, which is quicker at rest.
    least(
        "P2",
        "produce p99 at 2,000/s of 16 KiB (fixed rate)",
        "durable write p99 at that rate + round trip",
        machine(B2_RATE, Metric::ProduceP99, &[LOADED_P99, ONE_TRIP]),
        [4.0, 2.0, 1.5],
    ),
    least(
        "P3",
        "produce p99.9 at 2,000/s of 16 KiB (fixed rate)",
        "Kafka, flush each",
        kafka(B2_RATE, Metric::ProduceP999, D1, D1),
        [1.0 / 3.0, 0.1, 1.0 / 30.0],
    ),
    least(
        "P4",
        "produce p99 at 2,000/s of 16 KiB (fixed rate)",
        "Kafka, stock",
        kafka(B2_RATE, Metric::ProduceP99, D1, D0),
        [2.0, 1.0, 0.5],
    ),
    least(
        "P5",
        "produce p99 at 2,000/s of 16 KiB (fixed rate)",
        "Kafka, stock",
        kafka(B2_RATE, Metric::ProduceP99, D0m, D0),
        [0.7, 0.3, 0.1],
    ),
    most(
        "P6",
        "most throughput",
        "Kafka, stock",
        kafka(B2_MOST, Metric::Throughput, D0m, D0),
        [1.5, 3.0, 5.0],
    ),
    most(
        "P8",
        "most throughput",
        "Kafka, flush each",
        kafka(B2_MOST, Metric::Throughput, D1, D1),
        [3.0, 10.0, 30.0],
    ),
    least(
        "P9",
        "broker CPU per GB in",
        "Kafka, stock",
        kafka(B2_MOST, Metric::CpuPerGb, D0m, D0),
        [0.5, 0.25, 0.125],
    ),
    least(
        "P9",
        "broker CPU per GB in",
        "Kafka, flush each",
        kafka(B2_MOST, Metric::CpuPerGb, D1, D1),
        [0.5, 0.25, 0.125],
    ),
    least("P10", "broker CPU per GB delivered", "Kafka, stock", fan_out(D0m, D0), [1.0, 0.5, 0.25]),
    least(
        "P10",
        "broker CPU per GB delivered",
        "Kafka, flush each",
        fan_out(D1, D1),
        [1.0, 0.5, 0.25],
    ),
    most(
        "P11",
        "100-byte records one by one",
        "Kafka, flush each",
        kafka(B3_SMALL, Metric::Throughput, D1, D1),
        [5.0, 20.0, 50.0],
    ),
    most(
        "P11",
        "100-byte records one by one",
        "Kafka, stock",
        kafka(B3_SMALL, Metric::Throughput, D1, D0),
        [0.7, 1.5, 3.0],
    ),
    least(
        "P12",
        "produce p99 over 10,000 partitions",
        "itself over 1",
        Measure::Itself {
            harder: B4_MANY,
            easier: Pick { partitions: Some(1), ..pick("b4", Push::Rate) },
            quantity: Quantity::Of(Metric::ProduceP99),
            flumen: D1,
        },
        [4.0, 2.0, 1.3],
    ),
    most(
        "P13",
        "most throughput over 10,000 partitions",
        "Kafka, stock",
        kafka(
            Pick { partitions: Some(10_000), ..pick("b4", Push::Most) },
            Metric::Throughput,
            D1,
            D0,
        ),
        [1.0, 2.0, 4.0],
    ),
    least(
        "P14",
        "produce p99 of 400 producers",
        "itself with 4",
        Measure::Itself {
            harder: Pick { producers: Some(400), ..pick("b5", Push::Rate) },
            easier: Pick { producers: Some(4), ..pick("b5", Push::Rate) },
            quantity: Quantity::Of(Metric::ProduceP99),
            flumen: D1,
        },
        [3.0, 1.7, 1.3],
    ),
    least(
        "P19",
        "memory, idle, one partition",
        "Kafka ≈ 330 MiB",
        absolute(Pick { partitions: Some(1), ..pick("b17", Push::Any) }, Metric::Rss),
        [50.0, 20.0, 10.0],
    ),
    least("P20", "memory per idle partition", "–", grown(Item::Partition), [64.0, 16.0, 4.0]),
    least("P21", "memory per idle connection", "–", grown(Item::Connection), [16.0, 8.0, 2.0]),
    least(
        "P22",
        "CPU, 1,000 idle connections and partitions",
        "one core",
        absolute(
            Pick { partitions: Some(1_000), idle: 1_000, ..pick("b17", Push::Any) },
            Metric::CpuShare,
        ),
        [0.01, 0.003, 0.001],
    ),
    least(
        "P23",
        "start to first ack, empty",
        "–",
        absolute(pick("b1", Push::OneInFlight), Metric::Start),
        [0.3, 0.1, 0.03],
    ),
    Goal {
        id: "P24",
        what: "all leaders after SIGKILL, 1,000 partitions, 1 GiB",
        against: "Kafka, stock",
        measure: kafka(KILLED, Metric::RestartAllLeaders, D1, D0),
        better: Better::Less,
        bars: RESTART_BARS,
    },
    Goal {
        id: "P24",
        what: "all leaders after SIGKILL, 1,000 partitions, 1 GiB",
        against: "Kafka, flush each",
        measure: kafka(KILLED, Metric::RestartAllLeaders, D1, D1),
        better: Better::Less,
        bars: RESTART_BARS,
    },
    least(
        "P26",
        "end to end p50 at low load",
        "paced durable write + 2 round trips",
        machine(
            Pick { tail: 1, ..pick("b1", Push::Rate) },
            Metric::EndToEndP50,
            &[WRITE_P50, TWO_TRIPS],
        ),
        [3.0, 1.8, 1.3],
    ),
    most(
        "P29",
        "transactions of 10 records per second",
        "Kafka, stock",
        kafka(pick("b14-transactions-10", Push::Most), Metric::Transactions, D1, D0),
        [1.0, 3.0, 10.0],
    ),
];

/// The last one is absolute and meant for ten times the records that the scenario has.
const RESTART_BARS: [Bar; 3] = [Bar::At(0.2), Bar::At(0.05), Bar::Elsewhere("≤ 1 s with 10 GB")];

const KILLED: Pick = Pick { restart: Some(Restart::Killed), ..pick("b11", Push::Any) };

const fn fan_out(flumen: Durability, kafka: Durability) -> Measure {
    Measure::Kafka { pick: B16_TAIL, quantity: Quantity::CpuPerDeliveredGb, flumen, kafka }
}

const fn grown(item: Item) -> Measure {
    Measure::Growth { prefix: "b17", item, flumen: D1 }
}
