//! `flumen-bench compare`: systems side by side on one machine.
//!
//! Does: run every system of every pair fresh, in an order that favours none, a control of the
//! first system against itself before them, and say how the systems relate and whether to believe
//! it.
//! Does not: load (the generator is a process of its own) or draw.
//! Invariants: a result never hides that it is partial, doubted or a match across durability
//! classes; nothing that was started or made outlives the run.
//! Apart because a referee must not be a player.
//!
//! | room | what |
//! |---|---|
//! | [`order`] | who runs when |
//! | [`round`] | one run, from the empty folder to the empty folder |
//! | [`keeper`], [`kept`], [`tree`] | processes that cannot be left behind |
//! | [`ready`] | whether a broker really serves |
//! | [`watch`] | what it consumes |
//! | [`foreign`] | what others did on the machine meanwhile |
//! | [`guards`] | whether the machine was quiet enough |
//! | [`metrics`], [`statistics`] | definitions, ratios, intervals |
//! | [`table`] | the result for people |
//! | [`system`], [`cpus`] | what the command line says |

pub mod cpus;
pub mod foreign;
pub mod guards;
pub mod keeper;
pub mod kept;
pub mod metrics;
pub mod order;
pub mod ready;
pub mod round;
pub mod statistics;
pub mod system;
pub mod table;
pub mod tree;
pub mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::cpus::CpuList;
use self::guards::Ticks;
use self::kept::{Kept, Start};
use self::round::{Arena, Broken, Place, Ran};
use self::system::SystemSpec;
use crate::limits::{
    PAIRS_FOR_AN_INTERVAL, QUIET_LOOK_SECONDS, VERSION_SECONDS_MAX, is_whole_spread,
};
use crate::outcome::FORMAT;
use crate::outcome::comparison::{Comparison, Metric, Round, System};
use crate::outcome::environment::Environment;
use crate::outcome::probes::Limits;
use crate::scenario::{Pace, Scenario};

/// Exit code of a measurement that went through but must not be believed.
const DOUBTED: u8 = 3;
/// Exit code of a measurement that did not go through.
const FAILED: u8 = 1;

/// Options of `flumen-bench compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each system is started fresh, in an empty folder below --data, through its command: a line for the
shell in which {port} and {data} are replaced. It must serve Kafka's protocol on 127.0.0.1:{port},
stay in the foreground and end on SIGTERM; `PROGRAM --version` is asked for its version. D0m, D0
or D1 is what you declare its acknowledgements to mean: memory of the process, page cache, or
stable media.

  flumen-bench compare --scenario b2-throughput-2core.toml --data /var/tmp --pairs 8 \\
    --system 'flumen=D1=flumen serve -o listeners=PLAINTEXT://127.0.0.1:{port} -o log.dirs={data}' \\
    --system 'kafka=D1=scripts/kafka.sh {port} {data} log.flush.interval.messages=1' \\
    --warm-up-of kafka=30 --json result.json

Exit codes: 0 measured; 1 broken off, what was measured until then is in the JSON; 2 wrong options;
3 measured, but a guard says not to believe it (see the violations).")]
pub struct CompareArgs {
    /// The workload
    #[arg(long, value_name = "FILE")]
    scenario: PathBuf,
    /// A system under test; ratios are of earlier ones to later ones, one alone is only measured
    #[arg(long = "system", value_name = "NAME=D0m|D0|D1=COMMAND", required = true)]
    systems: Vec<SystemSpec>,
    /// Folder on the disk to be measured
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// How often every system runs
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Which system runs first, counted from 0: of many comparisons not all should begin alike
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: usize,
    /// Pairs of the A/A control: the first system against itself
    #[arg(long, value_name = "PAIRS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    control_pairs: u32,
    /// Leave the A/A control out
    #[arg(long)]
    no_control: bool,
    /// CPUs of the systems, such as 0 or 0,2-3
    #[arg(long, value_name = "CPUS", default_value = "0")]
    broker_cpus: CpuList,
    /// CPUs of the load generator
    #[arg(long, value_name = "CPUS", default_value = "1")]
    load_cpus: CpuList,
    /// Seconds of the measured part, instead of the scenario's
    #[arg(long)]
    seconds: Option<u32>,
    /// Seconds of warm-up, instead of the scenario's
    #[arg(long, value_name = "SECONDS")]
    warm_up: Option<u32>,
    /// At least so many seconds of warm-up for one system: a JVM wants 30
    #[arg(long, value_name = "NAME=SECONDS", value_parser = warm_up_of)]
    warm_up_of: Vec<(String, u32)>,
    /// Seconds that a system may take to serve
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    start_within: u64,
    /// Where the search for free ports begins
    #[arg(long, default_value_t = 21_000)]
    port: u16,
    /// Where to write the result, also a partial one
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// One pair of three seconds, no probes: shows that everything works; exits 0 though it means nothing
    #[arg(long)]
    quick: bool,
}

/// Runs a comparison and prints it.
#[must_use]
pub fn run(args: &CompareArgs) -> ExitCode {
    let comparison = match prepared(args) {
        Ok(referee) => referee.compare(),
        Err(reason) => {
            eprintln!("flumen-bench compare: {reason}");
            return ExitCode::from(FAILED);
        }
    };
    print!("{}", table::text(&comparison));
    if let Some(path) = &args.json
        && let Err(reason) = write_json(path, &comparison)
    {
        eprintln!("flumen-bench compare: {reason}");
        return ExitCode::from(FAILED);
    }
    if let Some(reason) = &comparison.broken_off {
        eprintln!("flumen-bench compare: broken off: {reason}");
        return ExitCode::from(FAILED);
    }
    let doubted = !comparison.guards.violations.is_empty() && !args.quick;
    ExitCode::from(if doubted { DOUBTED } else { 0 })
}

/// Checks what was asked for and makes the place for it.
fn prepared(args: &CompareArgs) -> Result<Referee<'_>, String> {
    let mut scenario = Scenario::load(&args.scenario)?;
    scenario.seconds = args.seconds.unwrap_or(scenario.seconds);
    scenario.warm_up_seconds = args.warm_up.unwrap_or(scenario.warm_up_seconds);
    if args.quick {
        scenario = shortened(scenario);
    }
    scenario.check().map_err(|fault| format!("with these options {fault}"))?;
    for (index, system) in args.systems.iter().enumerate() {
        if args.systems[..index].iter().any(|other| other.label() == system.label()) {
            return Err(format!("two systems are called {}", system.label()));
        }
    }
    for (name, _) in &args.warm_up_of {
        if !args.systems.iter().any(|system| system.name == *name) {
            return Err(format!("--warm-up-of {name}: no system has this name"));
        }
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in
        [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
    {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| format!("cannot listen to signals: {error}"))?;
    }
    let data = args.data.canonicalize();
    let data = data.map_err(|error| format!("--data {}: {error}", args.data.display()))?;
    // The whole machine is described and probed; the referee itself keeps off the systems' CPUs.
    let whole = rustix::thread::sched_getaffinity(None)
        .map_err(|error| format!("cannot tell which CPUs there are: {error}"))?;
    let environment = Environment::of(Some(&data));
    args.load_cpus
        .pin()
        .map_err(|error| format!("cannot use --load-cpus {}: {error}", args.load_cpus))?;
    let scratch = data.join(format!("flumen-bench-{}", std::process::id()));
    std::fs::create_dir(&scratch)
        .map_err(|error| format!("cannot make {}: {error}", scratch.display()))?;
    let arena = Arena {
        scratch,
        broker_cpus: Some(args.broker_cpus.clone()),
        load_cpus: Some(args.load_cpus.clone()),
        port: args.port,
        start_within: Duration::from_secs(args.start_within),
        interrupted,
    };
    Ok(Referee { args, arena, scenario, environment, whole })
}

/// The same workload in a few seconds, for those who test the harness itself.
fn shortened(mut scenario: Scenario) -> Scenario {
    const SECONDS: u32 = 3;
    const PREFILL_MIB: u32 = 32;
    scenario.seconds = scenario.seconds.min(SECONDS);
    scenario.warm_up_seconds = scenario.warm_up_seconds.min(1);
    let consumers = &mut scenario.consumers;
    consumers.prefill_mib = consumers.prefill_mib.min(PREFILL_MIB);
    consumers.pause_seconds = consumers.pause_seconds.min(1);
    if let Some(producers) = &mut scenario.producers
        && let Pace::Search { step_seconds, .. } = &mut producers.pace
    {
        *step_seconds = 1;
    }
    scenario
}

/// One comparison on its way.
struct Referee<'a> {
    args: &'a CompareArgs,
    arena: Arena,
    scenario: Scenario,
    environment: Environment,
    /// CPUs that this process had at first.
    whole: rustix::thread::CpuSet,
}

impl Drop for Referee<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.arena.scratch);
    }
}

impl Referee<'_> {
    fn compare(&self) -> Comparison {
        let mut result = Comparison {
            format: FORMAT,
            scenario: self.scenario.clone(),
            environment: self.environment.clone(),
            systems: self.args.systems.iter().map(|system| self.introduced(system)).collect(),
            limits_before: None,
            limits_after: None,
            guards: Default::default(),
            broken_off: None,
            rounds: Vec::new(),
            control_rounds: Vec::new(),
            notes: Vec::new(),
            ratios: Vec::new(),
        };
        let before = Ticks::now();
        std::thread::sleep(Duration::from_secs(QUIET_LOOK_SECONDS));
        result.guards.load_before = Ticks::now().busy_cpus(before);
        result.limits_before = self.probed(&mut result.notes);
        if let Err(broken) = self.run_all(&mut result) {
            if !broken.said.is_empty() {
                eprintln!("its last lines:\n{}", broken.said);
            }
            result.broken_off = Some(broken.reason);
        } else {
            result.limits_after = self.probed(&mut result.notes);
        }
        self.judge(&mut result);
        result
    }

    /// Control first, then all pairs.
    fn run_all(&self, result: &mut Comparison) -> Result<(), Broken> {
        let mut position = 0;
        let control_pairs = if self.args.quick { 1 } else { self.args.control_pairs };
        let controls = if self.args.no_control { 0 } else { control_pairs };
        let pairs = if self.args.quick { 1 } else { self.args.pairs };
        let order = order::order(self.args.systems.len(), pairs, self.args.first);
        let runs = 2 * controls + pairs * self.args.systems.len() as u32;
        for pair in 0..controls {
            for _ in 0..2 {
                let place = Place { position, system: 0, pair };
                let ran = self.run_one(place, runs, "A/A control", result);
                kept_round(ran, place, &mut result.control_rounds)?;
                position += 1;
            }
        }
        for (pair, row) in (0..).zip(order) {
            for system in row {
                let place = Place { position, system, pair };
                let ran = self.run_one(place, runs, "pair", result);
                kept_round(ran, place, &mut result.rounds)?;
                position += 1;
            }
        }
        Ok(())
    }

    fn run_one(
        &self,
        place: Place,
        runs: u32,
        what: &str,
        result: &mut Comparison,
    ) -> Result<Ran, Broken> {
        let system = &self.args.systems[place.system];
        let mut scenario = self.scenario.clone();
        let least = self.args.warm_up_of.iter().filter(|(name, _)| *name == system.name);
        let least = least.map(|(_, seconds)| *seconds).max().unwrap_or(0);
        // Before a restart everybody must have written the same amount.
        if !self.args.quick && scenario.restart.is_none() {
            scenario.warm_up_seconds = scenario.warm_up_seconds.max(least);
        }
        let head = format!(
            "{} {}/{runs} {} ({what} {})",
            self.scenario.name,
            place.position + 1,
            system.label(),
            place.pair + 1
        );
        eprintln!("{head}: {} s", scenario.warm_up_seconds + scenario.seconds);
        let ran = self.arena.run(system, &scenario, place)?;
        eprintln!("{head}: {}", in_short(&ran));
        let steal = &mut result.guards.steal_share;
        *steal = steal.max(ran.stolen_share);
        let foreign = &mut result.guards.foreign_share;
        *foreign = foreign.iter().copied().chain(ran.round.foreign_share).reduce(f64::max);
        for note in &ran.notes {
            if !result.notes.contains(note) {
                result.notes.push(note.clone());
            }
        }
        Ok(ran)
    }

    /// Ratios, doubts and what a reader must know.
    fn judge(&self, result: &mut Comparison) {
        let seed = self.scenario.seed;
        result.ratios = metrics::ratios(&result.systems, &result.rounds, seed);
        result.guards.control = metrics::control_ratios(0, &result.control_rounds, seed);
        let drift = match (&result.limits_before, &result.limits_after) {
            (Some(before), Some(after)) => guards::drift(before, after),
            (None, _) | (_, None) => None,
        };
        result.guards.limits_drift = drift.as_ref().map_or(0.0, |drift| drift.moved);
        result.guards.violations = guards::violations(&result.guards, drift.as_ref());
        let mut notes = Vec::new();
        if self.args.quick {
            notes.push(
                "a quick run: it shows that everything works, its numbers mean nothing".to_owned(),
            );
        }
        if self.args.broker_cpus.overlaps(&self.args.load_cpus) {
            notes.push("systems and generator shared CPUs".to_owned());
        }
        let pairs = if self.args.quick { 1 } else { self.args.pairs };
        if pairs == 1 {
            notes.push(
                "one pair: the intervals are points and say nothing of the spread".to_owned(),
            );
        } else if is_whole_spread(pairs as usize) {
            notes.push(format!(
                "{pairs} pairs: the intervals go from the smallest to the largest ratio and are no \
                 intervals of 95 % (8 pairs are the rule)"
            ));
        } else if pairs < PAIRS_FOR_AN_INTERVAL {
            notes.push(format!(
                "{pairs} pairs: the true intervals are wider than these (8 pairs are the rule)"
            ));
        }
        if self.args.no_control {
            notes.push("no A/A control: how far a system is from itself is unknown".to_owned());
        }
        if self.scenario.restart.is_some() {
            let cache = "a restart finds its files in the page cache, as after the end of a \
                process; after a power cut it would not";
            notes.push(cache.to_owned());
        }
        notes.push(watch::WRITTEN_MISSES.to_owned());
        notes.append(&mut result.notes);
        result.notes = notes;
    }

    fn introduced(&self, system: &SystemSpec) -> System {
        System {
            name: system.name.clone(),
            durability: system.durability,
            version: self.version(system).unwrap_or_else(|| "unknown".to_owned()),
            command: system.without_folders(),
        }
    }

    /// The first line of `PROGRAM --version`, where the program says one and ends.
    fn version(&self, system: &SystemSpec) -> Option<String> {
        let program = [system.program()?.to_owned(), "--version".to_owned()];
        let log = self.arena.scratch.join(format!("version-{}", system.name));
        let start = Start {
            program: &program,
            cpus: None,
            cgroup: None,
            scratch: &self.arena.scratch,
            log: log.clone(),
        };
        let mut kept = Kept::start(&start).ok()?;
        let ended = kept.wait(Duration::from_secs(VERSION_SECONDS_MAX))?;
        kept.end();
        let text = std::fs::read_to_string(log).ok()?;
        ended.success().then(|| text.lines().next().map(str::to_owned)).flatten()
    }

    /// The machine's limits now.
    fn probed(&self, notes: &mut Vec<String>) -> Option<Limits> {
        if self.args.quick || self.arena.interrupted.load(Ordering::Relaxed) {
            return None;
        }
        let probing = || {
            let _ = rustix::thread::sched_setaffinity(None, &self.whole);
            crate::probe::quick(&self.arena.scratch).map_err(|error| error.to_string())
        };
        let probed = std::thread::scope(|scope| scope.spawn(probing).join());
        match probed.unwrap_or_else(|_| Err("the probe failed".to_owned())) {
            Ok(limits) => Some(limits),
            Err(reason) => {
                let note = format!("the machine's limits were not probed: {reason}");
                if !notes.contains(&note) {
                    notes.push(note);
                }
                None
            }
        }
    }
}

/// Keeps what a run left behind, also one that broke off: marked, and without costs.
fn kept_round(
    ran: Result<Ran, Broken>,
    place: Place,
    rounds: &mut Vec<Round>,
) -> Result<(), Broken> {
    let mut broken = match ran {
        Ok(ran) => {
            rounds.push(ran.round);
            return Ok(());
        }
        Err(broken) => broken,
    };
    if let Some(mut load) = broken.load.take() {
        load.broken_off.get_or_insert_with(|| broken.reason.clone());
        let Place { position, system, pair } = place;
        let cost = Default::default();
        let (load, restart, foreign_share) = (*load, None, None);
        rounds.push(Round { position, system, pair, load, cost, restart, foreign_share });
    }
    Err(broken)
}

fn in_short(ran: &Ran) -> String {
    let shown = [
        Metric::Throughput,
        Metric::Delivery,
        Metric::Transactions,
        Metric::ProduceP99,
        Metric::CpuShare,
        Metric::Rss,
        Metric::Start,
        Metric::RestartAllLeaders,
    ];
    let words: Vec<String> = shown
        .into_iter()
        .filter_map(|metric| {
            let value = metrics::value(metric, &ran.round)?;
            Some(format!("{} {value:.2}", metrics::title(metric)))
        })
        .collect();
    words.join(", ")
}

fn write_json(path: &Path, comparison: &Comparison) -> Result<(), String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
    let text = serde_json::to_vec(comparison).map_err(|error| failed(&error))?;
    crate::file::write_whole(path, &text).map_err(|error| failed(&error))
}

fn warm_up_of(text: &str) -> Result<(String, u32), String> {
    let parsed =
        text.split_once('=').and_then(|(name, seconds)| Some((name, seconds.parse().ok()?)));
    let (name, seconds) = parsed.ok_or("expected NAME=SECONDS")?;
    Ok((name.to_owned(), seconds))
}
