//! One scenario with everything that was measured of it.
//!
//! Does: bring a comparison, or several load runs of one scenario, into one form; find what a
//! reader must be warned of.
//! Does not: draw or word the result.
//! Invariants: [`Run::system`] is a place in [`Study::systems`]; a study always has a system.
//! Apart because a page shows both kinds of outcome in the same way.

use std::collections::BTreeSet;

use crate::outcome::comparison::{
    Comparison, Cost, Guards, Interval, Ratio, Restarted, Round, System,
};
use crate::outcome::environment::Environment;
use crate::outcome::load::Load;
use crate::outcome::probes::Limits;
use crate::report::estimate;
use crate::report::input::{Outcome, Source};
use crate::report::quantity::Quantity;
use crate::report::words;
use crate::scenario::{Pace, Scenario};

/// Everything that the given files say.
#[derive(Debug)]
pub struct Studies {
    /// One per scenario, in the order of their numbers.
    pub studies: Vec<Study>,
    /// Limits that were measured alone, with the name of their file.
    pub limits: Vec<(String, Limits)>,
    /// The generator alone, at the rates of its self-test.
    pub self_tests: Vec<Load>,
}

/// One scenario.
#[derive(Debug)]
pub struct Study {
    /// What was asked for.
    pub scenario: Scenario,
    /// The files it comes from.
    pub files: Vec<String>,
    /// Where and when, once per file.
    pub environments: Vec<Environment>,
    /// Who took part.
    pub systems: Vec<System>,
    /// Every run, in order.
    pub runs: Vec<Run>,
    /// Ratios as the referee computed them, the project's own system on top.
    pub ratios: Vec<Ratio>,
    /// Whether the referee believes them; nothing where there was no referee.
    pub guards: Option<Guards>,
    /// Pairs of the A/A control.
    pub control_pairs: usize,
    /// Limits of the machine before and after.
    pub limits: [Option<Limits>; 2],
    /// Why the whole ended early, where it did.
    pub broken_off: Option<String>,
    /// What the referee wants a reader to know.
    pub notes: Vec<String>,
}

/// What makes a scenario's numbers less sure than they look although no guard speaks against them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reservation {
    /// Something broke off.
    Partial,
    /// Nobody watched the machine.
    NoReferee,
    /// Nothing is known of the spread.
    OnePair,
    /// How far a system is from itself is unknown.
    NoControl,
    /// Whether the machine stayed the same is unknown.
    NoLimits,
    /// In some run the generator may have set the pace.
    OfGenerator,
}

impl Reservation {
    /// In a word or three.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::NoReferee => "no referee",
            Self::OnePair => "one pair",
            Self::NoControl => "no control",
            Self::NoLimits => "no limits beside it",
            Self::OfGenerator => "generator was a limit",
        }
    }
}

/// One run of one system.
#[derive(Debug)]
pub struct Run {
    /// Place in [`Study::systems`].
    pub system: usize,
    /// Which pair of runs it belongs to; 0 without pairs.
    pub pair: u32,
    /// What the generator saw.
    pub load: Load,
    /// What the broker consumed; nothing where no referee watched it.
    pub cost: Option<Cost>,
    /// How it came back, where it was taken down.
    pub restart: Option<Restarted>,
}

impl Studies {
    /// Groups what was read. Load runs of exactly the same scenario stand together.
    #[must_use]
    pub fn of(sources: &[Source]) -> Self {
        let mut studies: Vec<Study> = Vec::new();
        let (mut limits, mut self_tests) = (Vec::new(), Vec::new());
        for source in sources {
            match &source.outcome {
                Outcome::Limits(seen) => limits.push((source.name.clone(), seen.as_ref().clone())),
                Outcome::SelfTest(loads) => self_tests.extend(loads.iter().cloned()),
                Outcome::Comparison(comparison) => {
                    studies.push(Study::of_comparison(&source.name, comparison));
                }
                Outcome::Load(load) => {
                    let same = studies
                        .iter_mut()
                        .find(|study| study.guards.is_none() && study.scenario == load.scenario);
                    match same {
                        Some(study) => study.join(&source.name, load),
                        None => studies.push(Study::of_load(&source.name, load)),
                    }
                }
            }
        }
        studies.sort_by_key(|study| {
            (number_of(&study.scenario.name), study.scenario.name.clone(), study.files.clone())
        });
        Self { studies, limits, self_tests }
    }

    /// Names of all systems, the project's own first, then the one it is measured against.
    #[must_use]
    pub fn system_names(&self) -> Vec<String> {
        let rank = |name: &str| match name {
            name if is_named(name, "flumen") => 0,
            name if is_named(name, "kafka") => 1,
            _ => 2,
        };
        let mut names: Vec<String> = self
            .studies
            .iter()
            .flat_map(|study| study.systems.iter().map(|system| system.name.clone()))
            .collect();
        names.sort_by_key(|name| (rank(name), name.clone()));
        names.dedup();
        names
    }
}

impl Study {
    fn of_comparison(file: &str, comparison: &Comparison) -> Self {
        let run = |round: &Round| Run {
            system: round.system,
            pair: round.pair,
            load: round.load.clone(),
            cost: Some(round.cost.clone()),
            restart: round.restart,
        };
        Self {
            scenario: comparison.scenario.clone(),
            files: vec![file.to_owned()],
            environments: vec![comparison.environment.clone()],
            systems: comparison.systems.clone(),
            runs: comparison.rounds.iter().map(run).collect(),
            ratios: comparison
                .ratios
                .iter()
                .map(|ratio| turned(ratio, &comparison.systems))
                .collect(),
            guards: Some(comparison.guards.clone()),
            control_pairs: comparison.control_rounds.len() / 2,
            limits: [comparison.limits_before.clone(), comparison.limits_after.clone()],
            broken_off: comparison.broken_off.clone(),
            notes: comparison.notes.clone(),
        }
    }

    fn of_load(file: &str, load: &Load) -> Self {
        let mut study = Self {
            scenario: load.scenario.clone(),
            files: Vec::new(),
            environments: Vec::new(),
            systems: Vec::new(),
            runs: Vec::new(),
            ratios: Vec::new(),
            guards: None,
            control_pairs: 0,
            limits: [None, None],
            broken_off: None,
            notes: Vec::new(),
        };
        study.join(file, load);
        study
    }

    fn join(&mut self, file: &str, load: &Load) {
        let known = self
            .systems
            .iter()
            .position(|system| system.name == load.system && system.durability == load.durability);
        let system = known.unwrap_or_else(|| {
            self.systems.push(System {
                name: load.system.clone(),
                durability: load.durability,
                version: String::new(),
                command: String::new(),
            });
            self.systems.len() - 1
        });
        self.files.push(file.to_owned());
        self.environments.push(load.environment.clone());
        let run = Run { system, pair: 0, load: load.clone(), cost: None, restart: None };
        self.runs.push(run);
    }

    /// Runs of one system that went through; all of its runs where none did.
    #[must_use]
    pub fn runs_of(&self, system: usize) -> Vec<&Run> {
        let all = || self.runs.iter().filter(move |run| run.system == system);
        let whole: Vec<&Run> = all().filter(|run| run.load.broken_off.is_none()).collect();
        if whole.is_empty() { all().collect() } else { whole }
    }

    /// The quantity of each run of a system that has it.
    #[must_use]
    pub fn values(&self, system: usize, quantity: Quantity) -> Vec<f64> {
        self.runs_of(system).into_iter().filter_map(|run| quantity.of(run)).collect()
    }

    /// The middle of all runs.
    #[must_use]
    pub fn median(&self, system: usize, quantity: Quantity) -> Option<f64> {
        estimate::median(&self.values(system, quantity))
    }

    /// Ratios that say something: those between different systems, and none in which only the
    /// lower one survives a power cut. All, where there are no others. Sorted by metric.
    #[must_use]
    pub fn telling_ratios(&self) -> Vec<&Ratio> {
        let is_telling = |ratio: &&Ratio| {
            let (of, to) = (&self.systems[ratio.of], &self.systems[ratio.to]);
            of.name != to.name
                && of.durability.survives_power_cut() >= to.durability.survives_power_cut()
        };
        let mut telling: Vec<&Ratio> = self.ratios.iter().filter(is_telling).collect();
        if telling.is_empty() {
            telling = self.ratios.iter().collect();
        }
        telling.sort_by_key(|ratio| (ratio.metric, ratio.of, ratio.to));
        telling
    }

    /// `flumen D1`.
    #[must_use]
    pub fn system_name(&self, system: usize) -> String {
        let system = &self.systems[system];
        format!("{} {}", system.name, words::class(system.durability))
    }

    /// Whether nothing speaks against the numbers.
    #[must_use]
    pub fn is_believable(&self) -> bool {
        self.violations().is_empty()
    }

    /// What speaks against the numbers as a whole.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        self.guards.as_ref().map_or(&[], |guards| guards.violations.as_slice())
    }

    /// Whether some of it is missing.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.broken_off.is_some() || self.runs.iter().any(|run| run.load.broken_off.is_some())
    }

    /// How many pairs of runs there are.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.runs.iter().map(|run| run.pair).collect::<BTreeSet<u32>>().len()
    }

    /// What makes the numbers less sure, in the order of [`Reservation`].
    #[must_use]
    pub fn reservations(&self) -> Vec<Reservation> {
        let guards = self.guards.as_ref();
        let is_guarded = guards.is_some();
        let has_control = guards.is_some_and(|guards| !guards.control.is_empty());
        let limited = |run: &Run| run.load.generator.was_the_limit;
        [
            (self.is_partial(), Reservation::Partial),
            (!is_guarded, Reservation::NoReferee),
            (is_guarded && self.pairs() < 2, Reservation::OnePair),
            (is_guarded && !has_control, Reservation::NoControl),
            (is_guarded && self.limits.contains(&None), Reservation::NoLimits),
            (self.runs.iter().any(limited), Reservation::OfGenerator),
        ]
        .into_iter()
        .filter_map(|(holds, reservation)| holds.then_some(reservation))
        .collect()
    }

    /// What a reader must know of single runs, one line each.
    #[must_use]
    pub fn run_remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (index, run) in self.runs.iter().enumerate() {
            let name = format!("run {} ({})", index + 1, self.system_name(run.system));
            if let Some(why) = &run.load.broken_off {
                remarks.push(format!("partial: {name} broke off: {why}"));
            }
            if run.load.generator.was_the_limit {
                let reason = &run.load.generator.reason;
                remarks.push(format!(
                    "{name}: the generator, not the broker, may have set the pace: {reason}"
                ));
            }
            if run.load.unanswered > 0 {
                let number = words::count(run.load.unanswered);
                remarks.push(format!("{name}: {number} requests were never answered"));
            }
            remarks.extend(run.load.undelivered_words().map(|words| format!("{name}: {words}")));
            if run.load.scenario.consumers.pause_seconds > 0 && run.load.drain_seconds.is_none() {
                remarks.push(format!("{name}: paused consumers never caught up"));
            }
            let crowd = run.load.crowd.clone().unwrap_or_default();
            for (lost, what) in [
                (crowd.idle_lost, "idle connections were lost"),
                (crowd.churn_failed, "passing connections got no answer"),
            ] {
                if lost > 0 {
                    remarks.push(format!("{name}: {} {what}", words::count(lost)));
                }
            }
            for (error, times) in &run.load.errors {
                remarks.push(format!("{name}: {} × {error}", words::count(*times)));
            }
        }
        remarks
    }

    /// The workload in one sentence.
    #[must_use]
    pub fn workload(&self) -> String {
        let scenario = &self.scenario;
        let mut parts = vec![plural(u64::from(scenario.partitions), "partition")];
        if let Some(producers) = &scenario.producers {
            let what = if producers.transactional { "transactional producer" } else { "producer" };
            parts.push(format!(
                "{} × {} × {} B, {}, acks={}",
                plural(u64::from(producers.connections), what),
                plural(u64::from(producers.records_per_batch), "record"),
                words::count(u64::from(producers.record_bytes)),
                pace(producers.pace),
                if producers.acks == -1 { "all".to_owned() } else { producers.acks.to_string() },
            ));
            if producers.written_partitions > 0 {
                let written = words::count(u64::from(producers.written_partitions));
                parts.push(format!("{written} of the partitions are written to"));
            }
        }
        let consumers = &scenario.consumers;
        let crowd = &scenario.crowd;
        let tail = match (consumers.read_committed, consumers.sessionless) {
            (false, false) => "tail consumer",
            (true, false) => "read-committed tail consumer",
            (false, true) => "sessionless tail consumer",
            (true, true) => "sessionless read-committed tail consumer",
        };
        for (number, what) in [
            (consumers.tail, tail),
            (consumers.cold, "cold reader"),
            (crowd.idle, "idle connection"),
        ] {
            if number > 0 {
                parts.push(plural(u64::from(number), what));
            }
        }
        parts.push(format!("{} s after {} s", scenario.seconds, scenario.warm_up_seconds));
        parts.join(" · ")
    }
}

/// A referee divides in the order in which systems were named to it. The project's own system
/// belongs on top, whatever that order was.
fn turned(ratio: &Ratio, systems: &[System]) -> Ratio {
    let is_own = |system: usize| is_named(&systems[system].name, "flumen");
    if is_own(ratio.of) || !is_own(ratio.to) {
        return ratio.clone();
    }
    let Interval { mean, low, high } = ratio.interval;
    let interval = Interval { mean: mean.recip(), low: high.recip(), high: low.recip() };
    Ratio { of: ratio.to, to: ratio.of, interval, ..ratio.clone() }
}

/// Whether two measurements were made on the same machine, as far as they know it. How many CPUs a
/// process could use and which disk took part may differ between a broker's run and a probe's.
#[must_use]
pub fn is_same_machine(a: &Environment, b: &Environment) -> bool {
    let known = |environment: &Environment| {
        let Environment { kernel, cpu_model, memory_mib, .. } = environment;
        (kernel.clone(), cpu_model.clone(), *memory_mib)
    };
    known(a) == known(b)
}

/// Whether a system's name says that it is this product, such as `flumen` or `flumen-next`.
#[must_use]
pub fn is_named(name: &str, product: &str) -> bool {
    name.get(..product.len()).is_some_and(|start| start.eq_ignore_ascii_case(product))
}

/// The number in a scenario's name: 16 of `b16-fan-out`. Names without one come last.
fn number_of(name: &str) -> u64 {
    let digits: String = name.chars().skip(1).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(u64::MAX)
}

fn plural(number: u64, what: &str) -> String {
    format!("{} {what}{}", words::count(number), if number == 1 { "" } else { "s" })
}

fn pace(pace: Pace) -> String {
    match pace {
        Pace::OneInFlight => "one in flight (closed loop)".to_owned(),
        Pace::AsFastAsPossible { in_flight } => {
            format!("as fast as possible with {in_flight} in flight")
        }
        Pace::PerSecond(rate) => format!("{} requests/s (open loop)", words::number(rate)),
        Pace::Search { from, factor, step_seconds, .. } => format!(
            "search from {} requests/s, ×{factor} every {step_seconds} s",
            words::number(from)
        ),
    }
}
