//! The project's goals against what was measured.
//!
//! Does: find the scenario that shows a goal, divide what has to be divided, and say which bar was
//! reached.
//! Does not: hold the goals themselves: those are data, in [`table`].
//! Invariants: a goal that the files cannot show is "not measured", never failed and never met.
//! Apart because goals belong to this project while everything else of a report fits any broker.

pub mod share;
pub mod table;
pub mod verdict;

use crate::outcome::Durability;
use crate::outcome::comparison::Interval;
use crate::outcome::probes::{Limits, Spread};
use crate::report::estimate;
use crate::report::quantity::{Better, Quantity};
use crate::report::study::{Studies, Study, is_named, is_same_machine};
use crate::report::words;
use crate::scenario::{Pace, Restart};

pub use verdict::Verdict;

/// One line of the goals.
#[derive(Debug)]
pub struct Goal {
    /// Such as `P1`.
    pub id: &'static str,
    /// What is measured.
    pub what: &'static str,
    /// What it is divided by or held against.
    pub against: &'static str,
    /// How it is computed.
    pub measure: Measure,
    /// Which way is better.
    pub better: Better,
    /// Floor, target and moonshot.
    pub bars: [Bar; 3],
}

/// Where a bar lies.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// In what the goal computes: mostly a ratio.
    At(f64),
    /// Under conditions that the scenario does not have, in words: it is shown and never reached.
    Elsewhere(&'static str),
}

/// How a goal is computed.
#[derive(Debug)]
pub enum Measure {
    /// Flumen over Kafka.
    Kafka {
        /// Where.
        pick: Pick,
        /// What.
        quantity: Quantity,
        /// Class of Flumen.
        flumen: Durability,
        /// Class of Kafka.
        kafka: Durability,
    },
    /// Flumen over limits of the machine.
    Machine {
        /// Where.
        pick: Pick,
        /// What, in microseconds.
        quantity: Quantity,
        /// Class of Flumen.
        flumen: Durability,
        /// The limits that are added up.
        terms: &'static [Term],
    },
    /// Flumen in one scenario over Flumen in another.
    Itself {
        /// Numerator.
        harder: Pick,
        /// Denominator.
        easier: Pick,
        /// What.
        quantity: Quantity,
        /// Class of Flumen.
        flumen: Durability,
    },
    /// Flumen's number as it is.
    Absolute {
        /// Where.
        pick: Pick,
        /// What.
        quantity: Quantity,
        /// Class of Flumen.
        flumen: Durability,
    },
    /// What one more of something costs Flumen in memory, KiB, by two scenarios that differ only in
    /// its number.
    Growth {
        /// Prefix of both scenarios.
        prefix: &'static str,
        /// Of what.
        item: Item,
        /// Class of Flumen.
        flumen: Durability,
    },
}

/// What memory may grow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Partitions without traffic.
    Partition,
    /// Connections without traffic.
    Connection,
}

/// A limit of the machine and how often it counts.
#[derive(Debug)]
pub struct Term {
    /// Names of the probes that show it, best first.
    pub names: &'static [&'static str],
    /// Which percentile.
    pub percentile: fn(&Spread) -> f64,
    /// How often it counts.
    pub times: f64,
}

/// How hard producers push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Closed loop with one request.
    OneInFlight,
    /// As fast as it goes.
    Most,
    /// A fixed rate.
    Rate,
    /// Any, or nothing.
    Any,
}

/// Which scenario shows a goal.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    /// Beginning of its name, up to something that is no digit.
    pub prefix: &'static str,
    /// Pace of its producers.
    pub push: Push,
    /// Partitions, where they matter.
    pub partitions: Option<u32>,
    /// Connections that produce, where they matter.
    pub producers: Option<u32>,
    /// Bytes of a record, where they matter.
    pub record_bytes: Option<u32>,
    /// Requests per second and records in each, where they matter.
    pub rate: Option<(f64, u32)>,
    /// Least number of idle connections.
    pub idle: u32,
    /// Least number of tail consumers; of several scenarios the one with most is taken.
    pub tail: u32,
    /// How the broker goes down.
    pub restart: Option<Restart>,
}

/// Holds every goal against what was measured.
#[must_use]
pub fn judge(studies: &Studies) -> Vec<Verdict> {
    table::GOALS.iter().map(|goal| judge_one(goal, studies)).collect()
}

impl Goal {
    /// A bar as people read it.
    #[must_use]
    pub fn show_bar(&self, bar: Bar) -> String {
        let sign = match self.better {
            Better::Less => "≤",
            Better::More => "≥",
        };
        let value = match bar {
            Bar::At(value) => value,
            Bar::Elsewhere(words) => return format!("{words} (not judged here)"),
        };
        let text = match &self.measure {
            Measure::Absolute { quantity, .. } => quantity.show(value),
            Measure::Growth { .. } => kib(value),
            Measure::Kafka { .. } | Measure::Machine { .. } | Measure::Itself { .. } => {
                fraction(value)
            }
        };
        format!("{sign} {text}")
    }
}

/// Small ratios read better as fractions: 1/30.
fn fraction(value: f64) -> String {
    let inverse = 1.0 / value;
    if value < 0.55 && (inverse - inverse.round()).abs() < 1e-6 {
        format!("1/{}", inverse.round())
    } else {
        words::times(value)
    }
}

fn kib(value: f64) -> String {
    format!("{} KiB", words::number(value))
}

fn judge_one(goal: &'static Goal, studies: &Studies) -> Verdict {
    let mut verdict = Verdict::new(goal);
    match &goal.measure {
        Measure::Kafka { pick, quantity, flumen, kafka } => {
            against_kafka(&mut verdict, studies, pick, *quantity, (*flumen, *kafka));
        }
        Measure::Machine { pick, quantity, flumen, terms } => {
            against_machine(&mut verdict, studies, pick, *quantity, *flumen, terms);
        }
        Measure::Itself { harder, easier, quantity, flumen } => {
            against_itself(&mut verdict, studies, [harder, easier], *quantity, *flumen);
        }
        Measure::Absolute { pick, quantity, flumen } => {
            absolute(&mut verdict, studies, pick, *quantity, *flumen);
        }
        Measure::Growth { prefix, item, flumen } => {
            growth(&mut verdict, studies, prefix, *item, *flumen);
        }
    }
    verdict
}

fn against_kafka(
    verdict: &mut Verdict,
    studies: &Studies,
    pick: &Pick,
    quantity: Quantity,
    (flumen, kafka): (Durability, Durability),
) {
    verdict.classes = format!("{} / {}", words::class(flumen), words::class(kafka));
    verdict.kind = words::match_of(flumen, kafka);
    let both = |study: &&Study| {
        system(study, "flumen", flumen).is_some() && system(study, "kafka", kafka).is_some()
    };
    let Some(study) = find(studies, pick, both) else { return };
    let (Some(of), Some(to)) = (system(study, "flumen", flumen), system(study, "kafka", kafka))
    else {
        return;
    };
    verdict.used(study);
    verdict.flumen = study.median(of, quantity).map(|value| quantity.show(value));
    verdict.kafka = study.median(to, quantity).map(|value| quantity.show(value));
    if let Some(score) = ratio(study, quantity, of, to) {
        verdict.scored(score);
    }
}

/// As the referee computed it, or from the runs where it did not.
fn ratio(study: &Study, quantity: Quantity, of: usize, to: usize) -> Option<Interval> {
    let given = study
        .ratios
        .iter()
        .find(|ratio| Quantity::Of(ratio.metric) == quantity && ratio.of == of && ratio.to == to);
    if let Some(given) = given {
        return Some(given.interval);
    }
    let value = |system: usize, pair: u32| {
        let values: Vec<f64> = study
            .runs_of(system)
            .into_iter()
            .filter(|run| run.pair == pair)
            .filter_map(|run| quantity.of(run))
            .collect();
        estimate::median(&values)
    };
    let mut pairs: Vec<u32> = study.runs.iter().map(|run| run.pair).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let paired: Vec<(f64, f64)> =
        pairs.iter().filter_map(|pair| Some((value(of, *pair)?, value(to, *pair)?))).collect();
    if paired.len() > 1 {
        return estimate::ratio_of_pairs(&paired);
    }
    estimate::ratio_of_groups(&study.values(of, quantity), &study.values(to, quantity))
}

fn against_machine(
    verdict: &mut Verdict,
    studies: &Studies,
    pick: &Pick,
    quantity: Quantity,
    flumen: Durability,
    terms: &[Term],
) {
    verdict.classes = words::class(flumen).to_owned();
    let measured = |study: &&Study| system(study, "flumen", flumen).is_some();
    let Some(study) = find(studies, pick, measured) else { return };
    let Some(of) = system(study, "flumen", flumen) else { return };
    verdict.used(study);
    verdict.flumen = study.median(of, quantity).map(|value| quantity.show(value));
    let kafka = any_class(study, "kafka", flumen);
    verdict.kafka =
        kafka.and_then(|kafka| study.median(kafka, quantity)).map(|value| quantity.show(value));
    let own: Vec<&Limits> = study.limits.iter().flatten().collect();
    let limit = sum_of(terms, &own).or_else(|| sum_of(terms, &limits_beside(studies, study)));
    let Some(limit) = limit else { return };
    verdict.limit = Some(quantity.show(limit));
    if let Some(score) = estimate::ratio_of_groups(&study.values(of, quantity), &[limit]) {
        verdict.scored(score);
    }
}

/// Limits that were measured alone, but on the machine of this study.
fn limits_beside<'a>(studies: &'a Studies, study: &Study) -> Vec<&'a Limits> {
    let same = |limits: &&Limits| {
        study.environments.iter().all(|of| is_same_machine(of, &limits.environment))
    };
    studies.limits.iter().map(|(_, limits)| limits).filter(same).collect()
}

/// Each limit is the smallest of all measurements of it, before and after: a limit is what the
/// machine can do at best, and the 99th percentile of a single second may be an accident, which must
/// not become an excuse. Nothing if one is missing.
fn sum_of(terms: &[Term], limits: &[&Limits]) -> Option<f64> {
    let one = |term: &Term| {
        let seen = limits.iter().filter_map(|limits| {
            let spread = term
                .names
                .iter()
                .find_map(|name| limits.latencies.iter().find(|limit| limit.name == *name));
            Some((term.percentile)(&spread?.spread))
        });
        seen.reduce(f64::min).map(|least| term.times * least)
    };
    terms.iter().map(one).sum()
}

fn against_itself(
    verdict: &mut Verdict,
    studies: &Studies,
    [harder, easier]: [&Pick; 2],
    quantity: Quantity,
    flumen: Durability,
) {
    verdict.classes = words::class(flumen).to_owned();
    let measured = |study: &&Study| system(study, "flumen", flumen).is_some();
    let (Some(harder), Some(easier)) =
        (find(studies, harder, measured), find(studies, easier, measured))
    else {
        return;
    };
    let (Some(of), Some(to)) = (system(harder, "flumen", flumen), system(easier, "flumen", flumen))
    else {
        return;
    };
    verdict.used(harder);
    verdict.used(easier);
    verdict.flumen = harder.median(of, quantity).map(|value| quantity.show(value));
    verdict.limit = easier.median(to, quantity).map(|value| quantity.show(value));
    if let Some(score) =
        estimate::ratio_of_groups(&harder.values(of, quantity), &easier.values(to, quantity))
    {
        verdict.scored(score);
    }
    let kafka = |study: &Study| study.median(any_class(study, "kafka", flumen)?, quantity);
    verdict.kafka = kafka(harder).map(|value| quantity.show(value));
}

fn absolute(
    verdict: &mut Verdict,
    studies: &Studies,
    pick: &Pick,
    quantity: Quantity,
    flumen: Durability,
) {
    verdict.classes = words::class(flumen).to_owned();
    let measured = |study: &&Study| {
        system(study, "flumen", flumen).is_some_and(|of| study.median(of, quantity).is_some())
    };
    let Some(study) = find(studies, pick, measured) else { return };
    let Some(of) = system(study, "flumen", flumen) else { return };
    verdict.used(study);
    let values = study.values(of, quantity);
    let Some(middle) = estimate::median(&values) else { return };
    verdict.flumen = Some(quantity.show(middle));
    let kafka = any_class(study, "kafka", flumen);
    verdict.kafka =
        kafka.and_then(|kafka| study.median(kafka, quantity)).map(|value| quantity.show(value));
    if let Some(spread) = estimate::ratio_of_groups(&values, &[1.0]) {
        verdict.scored(Interval { mean: middle, ..spread });
    }
}

fn growth(verdict: &mut Verdict, studies: &Studies, prefix: &str, item: Item, flumen: Durability) {
    verdict.classes = words::class(flumen).to_owned();
    let rss = Quantity::Of(crate::outcome::comparison::Metric::Rss);
    let counts = |study: &Study| {
        let (partitions, idle) = (study.scenario.partitions, study.scenario.crowd.idle);
        match item {
            Item::Partition => (partitions, idle),
            Item::Connection => (idle, partitions),
        }
    };
    let of_kind: Vec<&Study> =
        studies.studies.iter().filter(|study| has_prefix(&study.scenario.name, prefix)).collect();
    let mut widest: Option<(u32, &Study, &Study)> = None;
    for many in &of_kind {
        for few in &of_kind {
            let ((more, others), (less, same)) = (counts(many), counts(few));
            let wider = widest.is_none_or(|(width, _, _)| more.saturating_sub(less) > width);
            if others == same && more > less && wider {
                widest = Some((more - less, many, few));
            }
        }
    }
    let Some((width, many, few)) = widest else { return };
    let kib_each = |product: &str| {
        let of = |study: &Study| study.median(any_class(study, product, flumen)?, rss);
        Some((of(many)? - of(few)?) * 1_024.0 / f64::from(width))
    };
    verdict.used(many);
    verdict.used(few);
    verdict.kafka = kib_each("kafka").map(kib);
    let Some(each) = kib_each("flumen") else { return };
    verdict.flumen = Some(kib(each));
    // Nothing needs less memory with more of it: then the noise of two runs is larger than the cost.
    if each > 0.0 {
        verdict.scored(Interval { mean: each, low: each, high: each });
    } else {
        verdict.is_unresolved = true;
    }
}

fn system(study: &Study, product: &str, class: Durability) -> Option<usize> {
    study
        .systems
        .iter()
        .position(|system| is_named(&system.name, product) && system.durability == class)
}

/// Where the class matters little: the same class if it took part, else the other.
fn any_class(study: &Study, product: &str, class: Durability) -> Option<usize> {
    system(study, product, class)
        .or_else(|| study.systems.iter().position(|system| is_named(&system.name, product)))
}

/// The scenario that shows a goal best: believed rather than not, whole rather than partial, with
/// the most tail consumers, then the first.
fn find<'a>(
    studies: &'a Studies,
    pick: &Pick,
    has_systems: impl Fn(&&Study) -> bool,
) -> Option<&'a Study> {
    studies.studies.iter().filter(|study| fits(study, pick)).filter(has_systems).min_by_key(
        |study| {
            let tail = u32::MAX - study.scenario.consumers.tail;
            (!study.is_believable(), study.is_partial(), tail)
        },
    )
}

fn fits(study: &Study, pick: &Pick) -> bool {
    let scenario = &study.scenario;
    let producers = scenario.producers.as_ref();
    let asked = |wanted: Option<u32>, has: Option<u32>| wanted.is_none() || wanted == has;
    let at_rate = |(rate, batch): (f64, u32)| {
        producers.is_some_and(|producers| {
            producers.pace == Pace::PerSecond(rate) && producers.records_per_batch == batch
        })
    };
    let pushes = match (pick.push, producers.map(|producers| producers.pace)) {
        (Push::Any, _)
        | (Push::OneInFlight, Some(Pace::OneInFlight))
        | (Push::Most, Some(Pace::AsFastAsPossible { .. }))
        | (Push::Rate, Some(Pace::PerSecond(_))) => true,
        (Push::OneInFlight | Push::Most | Push::Rate, _) => false,
    };
    pushes
        && pick.rate.is_none_or(at_rate)
        && has_prefix(&scenario.name, pick.prefix)
        && asked(pick.partitions, Some(scenario.partitions))
        && asked(pick.producers, producers.map(|producers| producers.connections))
        && asked(pick.record_bytes, producers.map(|producers| producers.record_bytes))
        && scenario.crowd.idle >= pick.idle
        && scenario.consumers.tail >= pick.tail
        && (pick.restart.is_none() || pick.restart == scenario.restart)
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}
