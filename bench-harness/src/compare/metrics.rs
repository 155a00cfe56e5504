//! What is compared, as numbers of one run and ratios of pairs.
//!
//! Does: compute every metric of a run, and the ratios between systems.
//! Does not: decide whether to believe them.
//! Invariants: a ratio is only formed from the runs of one pair; a metric that a run does not have
//! takes no part; classes that differ are marked.
//! Apart because the definitions are what readers argue about.

use super::statistics::interval;
use crate::outcome::comparison::{Metric, Ratio, Round, System};
use crate::outcome::load::Latency;

/// Every metric, in the order of the tables.
pub const ALL: [Metric; 17] = [
    Metric::Throughput,
    Metric::Delivery,
    Metric::Transactions,
    Metric::ProduceP50,
    Metric::ProduceP99,
    Metric::ProduceP999,
    Metric::EndToEndP50,
    Metric::EndToEndP99,
    Metric::CpuPerGb,
    Metric::CpuPerRequest,
    Metric::CpuShare,
    Metric::ContextSwitches,
    Metric::WriteAmplification,
    Metric::Rss,
    Metric::Start,
    Metric::RestartFirstAck,
    Metric::RestartAllLeaders,
];

/// Name and unit for people.
#[must_use]
pub fn title(metric: Metric) -> &'static str {
    match metric {
        Metric::Throughput => "acknowledged MB/s",
        Metric::Delivery => "delivered MB/s",
        Metric::Transactions => "transactions per s",
        Metric::ProduceP50 => "produce p50 µs",
        Metric::ProduceP99 => "produce p99 µs",
        Metric::ProduceP999 => "produce p99.9 µs",
        Metric::EndToEndP50 => "end to end p50 µs",
        Metric::EndToEndP99 => "end to end p99 µs",
        Metric::CpuPerGb => "broker CPU s per GB",
        Metric::CpuPerRequest => "broker CPU µs per request",
        Metric::CpuShare => "broker CPU, CPUs busy",
        Metric::ContextSwitches => "context switches per s",
        Metric::WriteAmplification => "device bytes per record byte",
        Metric::Rss => "memory at the end MiB",
        Metric::Start => "start to first ack s",
        Metric::RestartFirstAck => "restart to first ack s",
        Metric::RestartAllLeaders => "restart to all leaders s",
    }
}

/// The metric of one run, in the unit of [`title`]; nothing where the run does not have it or did
/// not go through.
#[must_use]
pub fn value(metric: Metric, round: &Round) -> Option<f64> {
    let (load, cost) = (&round.load, &round.cost);
    if load.broken_off.is_some() {
        return None;
    }
    let seconds = load.measured_seconds;
    let moved_gb = if load.bytes_per_second > 0.0 {
        load.bytes_per_second * seconds / 1e9
    } else {
        load.delivered_bytes_per_second * seconds / 1e9
    };
    let requests = load.requests_per_second * seconds;
    let per = |amount: f64, of: f64| if of > 0.0 { amount / of } else { 0.0 };
    let of = |latency: &Option<Latency>, pick: fn(&Latency) -> f64| latency.as_ref().map(pick);
    let found = match metric {
        Metric::Throughput => Some(load.bytes_per_second / 1e6),
        Metric::Delivery => Some(load.delivered_bytes_per_second / 1e6),
        Metric::Transactions => {
            load.scenario.is_transactional().then_some(load.requests_per_second)
        }
        Metric::ProduceP50 => of(&load.produce, |latency| latency.p50_us),
        Metric::ProduceP99 => of(&load.produce, |latency| latency.p99_us),
        Metric::ProduceP999 => of(&load.produce, |latency| latency.p999_us),
        Metric::EndToEndP50 => of(&load.end_to_end, |latency| latency.p50_us),
        Metric::EndToEndP99 => of(&load.end_to_end, |latency| latency.p99_us),
        Metric::CpuPerGb => Some(per(cost.cpu_seconds, moved_gb)),
        Metric::CpuPerRequest => Some(per(cost.cpu_seconds * 1e6, requests)),
        Metric::CpuShare => Some(per(cost.cpu_seconds, seconds)),
        Metric::ContextSwitches => Some(per(cost.context_switches as f64, seconds)),
        Metric::WriteAmplification => {
            Some(per(cost.device_written_bytes as f64, load.bytes_per_second * seconds))
        }
        Metric::Rss => Some(cost.rss_mib),
        Metric::Start => Some(cost.start_seconds),
        Metric::RestartFirstAck => round.restart.map(|restart| restart.first_ack_seconds),
        Metric::RestartAllLeaders => round.restart.map(|restart| restart.all_leaders_seconds),
    };
    found.filter(|value| value.is_finite() && *value > 0.0)
}

/// All ratios of every system to every later one. Pairs that broke off are left out.
#[must_use]
pub fn ratios(systems: &[System], rounds: &[Round], seed: u64) -> Vec<Ratio> {
    let mut found = Vec::new();
    for of in 0..systems.len() {
        for to in of + 1..systems.len() {
            let is_handicap = systems[of].durability != systems[to].durability;
            for metric in ALL {
                let interval = interval(&of_pairs(metric, of, to, rounds), seed);
                found.extend(interval.map(|interval| Ratio {
                    metric,
                    of,
                    to,
                    is_handicap,
                    interval,
                }));
            }
        }
    }
    found
}

/// The ratios of a system to itself: each pair of control runs, first to second.
#[must_use]
pub fn control_ratios(system: usize, rounds: &[Round], seed: u64) -> Vec<Ratio> {
    let ratio = |metric: Metric| {
        let mut of_pairs = Vec::new();
        for pair in pairs(rounds) {
            let mut values =
                rounds.iter().filter(|round| round.pair == pair).map(|round| value(metric, round));
            if let (Some(Some(first)), Some(Some(second))) = (values.next(), values.next()) {
                of_pairs.push(first / second);
            }
        }
        let interval = interval(&of_pairs, seed)?;
        Some(Ratio { metric, of: system, to: system, is_handicap: false, interval })
    };
    ALL.into_iter().filter_map(ratio).collect()
}

fn of_pairs(metric: Metric, of: usize, to: usize, rounds: &[Round]) -> Vec<f64> {
    let in_pair = |pair: u32, system: usize| {
        rounds
            .iter()
            .find(|round| round.pair == pair && round.system == system)
            .and_then(|round| value(metric, round))
    };
    pairs(rounds)
        .into_iter()
        .filter_map(|pair| Some(in_pair(pair, of)? / in_pair(pair, to)?))
        .collect()
}

fn pairs(rounds: &[Round]) -> std::collections::BTreeSet<u32> {
    rounds.iter().map(|round| round.pair).collect()
}

/// The geometric mean of a metric over all runs of a system.
#[must_use]
pub fn mean(metric: Metric, system: usize, rounds: &[Round]) -> Option<f64> {
    let values: Vec<f64> = rounds
        .iter()
        .filter(|round| round.system == system)
        .filter_map(|round| value(metric, round))
        .collect();
    super::statistics::geometric_mean(&values)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::options::plain_producers;
    use crate::outcome::comparison::Cost;
    use crate::outcome::environment::Environment;
    use crate::outcome::load::{Generator, Load};
    use crate::outcome::{Durability, FORMAT};
    use crate::scenario::{Producers, Scenario};

    /// A run of `mb` MB/s for ten seconds that cost `cpu` seconds.
    pub(in super::super) fn round(pair: u32, system: usize, mb: f64, cpu: f64) -> Round {
        let scenario = Scenario::parse(
            "name='b0'\npurpose=''\npartitions=1\nwarm_up_seconds=0\nseconds=10\n[crowd]\nidle=1",
        )
        .expect("a scenario");
        // As a file would say it: fields that came later have their defaults.
        let load: Load = serde_json::from_value(serde_json::json!({
            "format": FORMAT, "scenario": scenario, "system": "", "durability": "D1",
            "environment": Environment::default(), "broken_off": null,
            "measured_from_unix_ms": 1_000, "measured_seconds": 10.0,
            "offered_per_second": 0.0, "requests_per_second": mb * 10.0,
            "records_per_second": mb * 10.0, "bytes_per_second": mb * 1e6,
            "delivered_bytes_per_second": 0.0, "produce": null, "service": null,
            "end_to_end": null, "errors": {}, "slices": [], "worst_second": null, "steps": [],
            "generator": Generator::default(),
        }))
        .expect("a load run");
        let cost =
            Cost { cpu_seconds: cpu, device_written_bytes: (mb * 1.5e7) as u64, ..Cost::default() };
        Round { position: 0, system, pair, load, cost, restart: None, foreign_share: None }
    }

    pub(in super::super) fn system(name: &str, durability: Durability) -> System {
        let (version, command) = (String::new(), String::new());
        System { name: name.to_owned(), durability, version, command }
    }

    #[test]
    fn costs_are_per_gigabyte_and_request() {
        let round = round(0, 0, 100.0, 2.0);
        assert_eq!(value(Metric::Throughput, &round), Some(100.0));
        assert_eq!(value(Metric::CpuPerGb, &round), Some(2.0));
        assert_eq!(value(Metric::CpuPerRequest, &round), Some(200.0));
        assert_eq!(value(Metric::CpuShare, &round), Some(0.2));
        assert_eq!(value(Metric::WriteAmplification, &round), Some(1.5));
        assert_eq!(value(Metric::ProduceP99, &round), None, "nothing measured, nothing said");
        assert_eq!(value(Metric::Rss, &round), None);
    }

    #[test]
    fn requests_are_transactions_where_they_are_transactional() {
        let mut round = round(0, 0, 100.0, 2.0);
        assert_eq!(value(Metric::Transactions, &round), None);
        let producers = Producers { transactional: true, ..plain_producers() };
        round.load.scenario.producers = Some(producers);
        assert_eq!(value(Metric::Transactions, &round), Some(1_000.0));
    }

    #[test]
    fn readers_pay_per_gigabyte_delivered() {
        let mut round = round(0, 0, 0.0, 3.0);
        round.load.delivered_bytes_per_second = 1e8;
        assert_eq!(value(Metric::CpuPerGb, &round), Some(3.0));
        assert_eq!(value(Metric::CpuPerRequest, &round), None);
    }

    #[test]
    fn ratios_are_formed_within_pairs_and_handicaps_are_marked() {
        let systems = [system("a", Durability::D1), system("b", Durability::D0)];
        let rounds = [
            round(0, 0, 200.0, 1.0),
            round(0, 1, 100.0, 1.0),
            round(1, 1, 50.0, 1.0),
            round(1, 0, 100.0, 1.0),
        ];
        let found = ratios(&systems, &rounds, 4);
        let throughput = found.iter().find(|r| r.metric == Metric::Throughput).expect("one");
        assert!((throughput.interval.mean - 2.0).abs() < 1e-9);
        assert!(throughput.is_handicap && throughput.of == 0 && throughput.to == 1);
        assert!(found.iter().all(|ratio| ratio.metric != Metric::EndToEndP50));
    }

    #[test]
    fn half_a_pair_takes_no_part() {
        let systems = [system("a", Durability::D1), system("b", Durability::D1)];
        let rounds = [round(0, 0, 200.0, 1.0), round(0, 1, 100.0, 1.0), round(1, 1, 1.0, 1.0)];
        let found = ratios(&systems, &rounds, 4);
        let throughput = found.iter().find(|r| r.metric == Metric::Throughput).expect("one");
        assert!((throughput.interval.mean - 2.0).abs() < 1e-9 && !throughput.is_handicap);
    }

    #[test]
    fn a_run_that_broke_off_is_kept_and_takes_no_part() {
        let mut round = round(0, 0, 100.0, 2.0);
        round.load.broken_off = Some("it died".to_owned());
        assert!(ALL.into_iter().all(|metric| value(metric, &round).is_none()));
    }

    #[test]
    fn a_control_compares_the_two_runs_of_each_pair() {
        let rounds = [round(0, 0, 102.0, 1.0), round(0, 0, 100.0, 1.0)];
        let found = control_ratios(0, &rounds, 4);
        let throughput = found.iter().find(|r| r.metric == Metric::Throughput).expect("one");
        assert!((throughput.interval.mean - 1.02).abs() < 1e-9);
    }
}
