//! The tables of a report.
//!
//! Does: put numbers and words into rows and columns, once for both forms of a report.
//! Does not: know HTML or Markdown.
//! Invariants: each number stands in a row that names its durability class; a column that no row
//! fills is left out.
//! Apart so that the page and the summary cannot disagree.

use crate::limits::SELF_TEST_CPU_SHARE;
use crate::outcome::comparison::{Metric, System};
use crate::outcome::environment::Environment;
use crate::outcome::load::{Latency, Load};
use crate::outcome::probes::Limits;
use crate::report::estimate;
use crate::report::figure::knee::knee;
use crate::report::goals::Verdict;
use crate::report::quantity::Quantity;
use crate::report::study::{Reservation, Run, Studies, Study, is_same_machine};
use crate::report::words::{self, NOTHING};

/// Rows and columns of words.
#[derive(Debug)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<Column>,
    /// Rows, as long as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Numbers stand to the right.
    pub is_number: bool,
}

/// A cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What stands in it.
    pub text: String,
    /// How loudly.
    pub tone: Tone,
}

/// How loudly a cell speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As everything.
    Plain,
    /// Good news.
    Good,
    /// Middling news.
    Fair,
    /// Bad news.
    Bad,
    /// Nothing to see.
    Faint,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        let tone = if text == NOTHING { Tone::Faint } else { Tone::Plain };
        Self { text, tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        Self::from(text.unwrap_or_else(|| NOTHING.to_owned()))
    }
}

impl Table {
    /// Words in the first columns, numbers in the others.
    fn new(title: &str, words: &[&str], numbers: &[&str], rows: Vec<Vec<Cell>>) -> Self {
        let column =
            |is_number: bool| move |name: &&str| Column { name: (*name).to_owned(), is_number };
        let columns: Vec<Column> =
            words.iter().map(column(false)).chain(numbers.iter().map(column(true))).collect();
        assert!(rows.iter().all(|row| row.len() == columns.len()), "a ragged table: {title}");
        Self { title: title.to_owned(), columns, rows }.without_empty_columns(words.len())
    }

    fn without_empty_columns(mut self, kept: usize) -> Self {
        for index in (kept..self.columns.len()).rev() {
            if self.rows.iter().all(|row| row[index].text == NOTHING) {
                self.columns.remove(index);
                for row in &mut self.rows {
                    row.remove(index);
                }
            }
        }
        self
    }

    /// Whether anything but names is in it.
    #[must_use]
    pub fn has_numbers(&self) -> bool {
        !self.rows.is_empty() && self.columns.iter().any(|column| column.is_number)
    }
}

/// What the systems did.
#[must_use]
pub fn speed(study: &Study) -> Table {
    let (requests, latency_of) = if study.scenario.is_transactional() {
        ("transactions/s", "latency of whole transactions")
    } else {
        ("requests/s", "produce latency")
    };
    let numbers = [
        "throughput",
        "delivered",
        requests,
        "knee requests/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "longest",
        "worst second p99",
    ];
    let row = |system: usize| {
        let runs = study.runs_of(system);
        let middle = |read: &dyn Fn(&Run) -> Option<f64>| {
            estimate::median(&runs.iter().filter_map(|run| read(run)).collect::<Vec<f64>>())
        };
        // A percentile that not one sample lies above is only another name for the longest.
        let latency = |one_in: u64, read: fn(&Latency) -> f64| {
            let value = middle(&|run| {
                run.load.produce.as_ref().filter(|seen| seen.samples >= one_in).map(read)
            });
            Cell::from(value.map(words::duration_us))
        };
        let of = |metric: Metric| shown(study, system, Quantity::Of(metric));
        let positive = |value: f64| (value > 0.0).then_some(value);
        let mut row = names(study, system);
        row.extend([
            of(Metric::Throughput),
            of(Metric::Delivery),
            Cell::from(middle(&|run| positive(run.load.requests_per_second)).map(words::number)),
            Cell::from(middle(&knee).map(words::number)),
            latency(2, |latency| latency.p50_us),
            latency(10, |latency| latency.p90_us),
            latency(100, |latency| latency.p99_us),
            latency(1_000, |latency| latency.p999_us),
            latency(10_000, |latency| latency.p9999_us),
            latency(1, |latency| latency.max_us),
            Cell::from(middle(&worst_second_p99).map(words::duration_us)),
        ]);
        row
    };
    let rows = (0..study.systems.len()).map(row).collect();
    Table::new(&format!("Speed (middle of the runs; {latency_of})"), &NAMES, &numbers, rows)
}

fn worst_second_p99(run: &Run) -> Option<f64> {
    run.load.slices.iter().map(|slice| slice.p99_us).reduce(f64::max).filter(|p99| *p99 > 0.0)
}

/// What it cost, and end-to-end latency.
#[must_use]
pub fn cost(study: &Study) -> Table {
    let quantities = [
        Quantity::Of(Metric::EndToEndP50),
        Quantity::Of(Metric::EndToEndP99),
        Quantity::Of(Metric::CpuPerGb),
        Quantity::CpuPerDeliveredGb,
        Quantity::Of(Metric::CpuPerRequest),
        Quantity::Of(Metric::CpuShare),
        Quantity::Of(Metric::ContextSwitches),
        Quantity::Of(Metric::WriteAmplification),
        Quantity::Of(Metric::Rss),
        Quantity::RssPeak,
        Quantity::Of(Metric::Start),
        Quantity::Stop,
        Quantity::Of(Metric::RestartFirstAck),
        Quantity::Of(Metric::RestartAllLeaders),
    ];
    of_quantities(study, "End to end, and what it cost the broker", &quantities)
}

/// What only some workloads have, and what the generator itself used.
#[must_use]
pub fn beside(study: &Study) -> Table {
    let quantities = [
        Quantity::Drain,
        Quantity::ColdRead,
        Quantity::IdleLost,
        Quantity::Churn,
        Quantity::ChurnFailed,
        Quantity::ChurnP99,
        Quantity::Fetches,
        Quantity::CpuPerFetch,
        Quantity::GeneratorShare,
    ];
    of_quantities(study, "Beside the load", &quantities)
}

fn of_quantities(study: &Study, title: &str, quantities: &[Quantity]) -> Table {
    let row = |system: usize| {
        let mut row = names(study, system);
        row.extend(quantities.iter().map(|quantity| shown(study, system, *quantity)));
        row
    };
    let rows = (0..study.systems.len()).map(row).collect();
    let numbers: Vec<&str> = quantities.iter().map(|quantity| quantity.name()).collect();
    Table::new(title, &NAMES, &numbers, rows)
}

/// What the generator used of its core against a responder that keeps nothing.
#[must_use]
pub fn self_test(loads: &[&Load]) -> Table {
    let row = |load: &&Load| {
        let generator = &load.generator;
        let p99 = load.produce.as_ref().map(|latency| words::duration_us(latency.p99_us));
        vec![
            Cell::from(load.scenario.name.as_str()),
            Cell::from(words::number(load.requests_per_second)),
            Cell::from(format!("{} MB/s", words::number(load.bytes_per_second / 1e6))),
            Cell::from(p99),
            Cell::from(words::duration_us(generator.worst_lateness_us)),
            Cell {
                text: Quantity::GeneratorShare.show(generator.cpu_share),
                tone: if is_cheap(load) { Tone::Good } else { Tone::Bad },
            },
        ]
    };
    let allowed = Quantity::GeneratorShare.show(SELF_TEST_CPU_SHARE);
    Table::new(
        &format!("The generator alone (allowed: {allowed} of a core)"),
        &["self-test"],
        &["requests/s", "throughput", "p99", "latest send", "generator's core"],
        loads.iter().map(row).collect(),
    )
}

/// Whether the generator was as cheap as it must be for its other numbers to mean anything.
#[must_use]
pub fn is_cheap(load: &Load) -> bool {
    load.broken_off.is_none() && load.generator.cpu_share <= SELF_TEST_CPU_SHARE
}

const NAMES: [&str; 3] = ["system", "class", "runs"];

fn names(study: &Study, system: usize) -> Vec<Cell> {
    let all = study.runs.iter().filter(|run| run.system == system).count();
    let partial = study
        .runs
        .iter()
        .filter(|run| run.system == system && run.load.broken_off.is_some())
        .count();
    let runs = if partial == 0 {
        Cell::from(all.to_string())
    } else {
        Cell { text: format!("{all}, {partial} partial"), tone: Tone::Bad }
    };
    let named = &study.systems[system];
    vec![Cell::from(named.name.as_str()), Cell::from(words::class(named.durability)), runs]
}

fn shown(study: &Study, system: usize, quantity: Quantity) -> Cell {
    Cell::from(study.median(system, quantity).map(|value| quantity.show(value)))
}

/// Ratios as the referee computed them.
#[must_use]
pub fn ratios(study: &Study) -> Table {
    let row = |ratio: &&crate::outcome::comparison::Ratio| {
        let quantity = Quantity::Of(ratio.metric);
        let [of, to] = [ratio.of, ratio.to].map(|system| study.systems[system].durability);
        let kind = words::match_of(of, to);
        vec![
            Cell::from(format!("{} {}", quantity.name(), quantity.better().arrow())),
            Cell::from(study.system_name(ratio.of)),
            Cell::from(study.system_name(ratio.to)),
            Cell::from(kind),
            shown(study, ratio.of, quantity),
            shown(study, ratio.to, quantity),
            Cell::from(words::interval(&ratio.interval)),
        ]
    };
    Table::new(
        &format!("Ratios (geometric mean of pairs; {})", words::brackets(study.pairs())),
        &["quantity", "of", "to", "note"],
        &["of it", "to it", "ratio"],
        study.telling_ratios().iter().map(row).collect(),
    )
}

/// The goals and what became of them.
#[must_use]
pub fn goals(verdicts: &[Verdict]) -> Table {
    let row = |verdict: &Verdict| {
        let goal = verdict.goal;
        let mut cells = vec![
            Cell::from(goal.id),
            Cell::from(goal.what),
            Cell::from(goal.against),
            Cell::from(format!("{} {}", verdict.classes, verdict.kind).trim_end().to_owned()),
            reached(verdict),
            Cell::from(verdict.limit.clone()),
            Cell::from(verdict.kafka.clone()),
            Cell::from(verdict.flumen.clone()),
            Cell::from(verdict.show_score()),
        ];
        cells.extend(goal.bars.map(|bar| Cell::from(goal.show_bar(bar))));
        cells
    };
    Table::new(
        "Goals",
        &["goal", "what", "against", "class", "reached"],
        &["limit", "Kafka", "Flumen", "ratio", "floor", "target", "moonshot"],
        verdicts.iter().map(row).collect(),
    )
}

fn reached(verdict: &Verdict) -> Cell {
    if verdict.reached.is_none() && !verdict.is_unresolved {
        return Cell { text: "not measured".to_owned(), tone: Tone::Faint };
    }
    if !verdict.is_believable {
        return Cell { text: "not to be believed".to_owned(), tone: Tone::Bad };
    }
    let Some(reached) = verdict.reached else {
        return Cell { text: "not resolved (within the noise)".to_owned(), tone: Tone::Faint };
    };
    // What nobody checked twice is no news to shout about.
    let good = if verdict.reservations.is_empty() { Tone::Good } else { Tone::Fair };
    let (text, tone) = match reached {
        0 => ("below floor", Tone::Bad),
        1 => ("floor", Tone::Fair),
        2 => ("target", good),
        _ => ("moonshot", good),
    };
    let mut text = text.to_owned();
    if !verdict.is_certain && !verdict.reservations.contains(&Reservation::OnePair) {
        text.push_str(" (interval crosses it)");
    }
    for reservation in &verdict.reservations {
        text = format!("{text}, {}", reservation.words());
    }
    Cell { text, tone }
}

/// Machines and moments, each only once.
#[must_use]
pub fn environments(studies: &Studies) -> Table {
    let mut machines: Vec<(Environment, usize)> = Vec::new();
    let of_studies = studies.studies.iter().flat_map(|study| &study.environments);
    let of_limits = studies.limits.iter().map(|(_, limits)| &limits.environment);
    for environment in of_limits.chain(of_studies) {
        match machines.iter_mut().find(|(known, _)| is_one_machine(known, environment)) {
            Some((known, files)) => {
                *files += 1;
                known.cpus = known.cpus.max(environment.cpus);
                fill(&mut known.file_system, &environment.file_system);
                fill(&mut known.device, &environment.device);
            }
            None => machines.push((environment.clone(), 1)),
        }
    }
    let row = |(environment, files): &(Environment, usize)| {
        vec![
            or_nothing(&environment.cpu_model),
            Cell::from(environment.cpus.to_string()),
            Cell::from(format!("{} GiB", words::number(environment.memory_mib as f64 / 1_024.0))),
            or_nothing(&environment.kernel),
            or_nothing(&environment.file_system),
            or_nothing(&environment.device),
            or_nothing(&environment.tool_version),
            Cell::from(files.to_string()),
        ]
    };
    Table::new(
        "Machines",
        &[
            "processor",
            "CPUs",
            "memory",
            "kernel",
            "file system",
            "device",
            "flumen-bench",
            "files",
        ],
        &[],
        machines.iter().map(row).collect(),
    )
}

/// Whether two measurements belong into one row: what one of them does not know does not part them.
fn is_one_machine(a: &Environment, b: &Environment) -> bool {
    let agree = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
    is_same_machine(a, b)
        && a.tool_version == b.tool_version
        && agree(&a.file_system, &b.file_system)
        && agree(&a.device, &b.device)
}

fn fill(known: &mut String, seen: &str) {
    if known.is_empty() {
        seen.clone_into(known);
    }
}

fn or_nothing(text: &str) -> Cell {
    Cell::from(if text.is_empty() { NOTHING } else { text })
}

/// The systems as they were started.
#[must_use]
pub fn systems(studies: &Studies) -> Table {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let all = || studies.studies.iter().flat_map(|study| &study.systems);
    for system in all() {
        // A load run does not know how its system was started; a comparison does.
        let is_same =
            |other: &&System| other.name == system.name && other.durability == system.durability;
        if system.command.is_empty() && all().filter(is_same).any(|s| !s.command.is_empty()) {
            continue;
        }
        let row: Vec<Cell> = vec![
            Cell::from(system.name.as_str()),
            Cell::from(system.durability.to_string()),
            or_nothing(&system.version),
            or_nothing(&system.command),
        ];
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    Table::new("Systems", &["system", "class", "version", "started with"], &[], rows)
}

/// Limits of the machine: latencies first, then rates. Several measurements give their middle.
#[must_use]
pub fn limits(studies: &Studies) -> [Table; 2] {
    let own = studies.limits.iter().map(|(_, limits)| limits);
    let seen: Vec<&Limits> =
        own.chain(studies.studies.iter().flat_map(|study| study.limits.iter().flatten())).collect();
    [latency_limits(&seen), rate_limits(&seen)]
}

fn latency_limits(seen: &[&Limits]) -> Table {
    let mut named: Vec<(&str, &str)> = Vec::new();
    for limit in seen.iter().flat_map(|limits| &limits.latencies) {
        if !named.iter().any(|(name, _)| *name == limit.name) {
            named.push((&limit.name, &limit.what));
        }
    }
    let row = |(name, what): &(&str, &str)| {
        let spreads: Vec<_> = seen
            .iter()
            .flat_map(|limits| &limits.latencies)
            .filter(|limit| limit.name == *name)
            .map(|limit| limit.spread)
            .collect();
        let middle = |read: fn(&crate::outcome::probes::Spread) -> f64| {
            let value = estimate::median(&spreads.iter().map(read).collect::<Vec<f64>>());
            Cell::from(value.map(words::duration_us))
        };
        vec![
            Cell::from(*what),
            Cell::from(spreads.len().to_string()),
            middle(|spread| spread.p50_us),
            middle(|spread| spread.p99_us),
            middle(|spread| spread.p999_us),
            middle(|spread| spread.max_us),
        ]
    };
    Table::new(
        "Limits of the machine: latencies",
        &["what", "measured"],
        &["p50", "p99", "p99.9", "longest"],
        named.iter().map(row).collect(),
    )
}

fn rate_limits(seen: &[&Limits]) -> Table {
    let mut named: Vec<(&str, &str, &str)> = Vec::new();
    for limit in seen.iter().flat_map(|limits| &limits.rates) {
        if !named.iter().any(|(name, _, _)| *name == limit.name) {
            named.push((&limit.name, &limit.what, &limit.unit));
        }
    }
    let row = |(name, what, unit): &(&str, &str, &str)| {
        let values: Vec<f64> = seen
            .iter()
            .flat_map(|limits| &limits.rates)
            .filter(|limit| limit.name == *name)
            .map(|limit| limit.per_second)
            .collect();
        let middle = estimate::median(&values);
        vec![
            Cell::from(*what),
            Cell::from(values.len().to_string()),
            Cell::from(middle.map(|value| format!("{} {unit}/s", words::number(value)))),
        ]
    };
    Table::new(
        "Limits of the machine: rates",
        &["what", "measured"],
        &["per second"],
        named.iter().map(row).collect(),
    )
}

/// Guards of one scenario: how quiet the machine was, and the control.
#[must_use]
pub fn guards(study: &Study) -> Option<Table> {
    let guards = study.guards.as_ref()?;
    let mut rows = vec![
        vec![
            "CPU time stolen, worst run".into(),
            Quantity::Of(Metric::CpuShare).show(guards.steal_share).into(),
        ],
        vec![
            "CPU time used by others, worst run".into(),
            guards.foreign_share.map_or("not measured".into(), |share| {
                Cell::from(Quantity::Of(Metric::CpuShare).show(share))
            }),
        ],
        vec!["load before the first run".into(), words::number(guards.load_before).into()],
        vec![
            "change of the machine's limits".into(),
            if study.limits.contains(&None) {
                "not measured".into()
            } else {
                format!("{} %", words::number(guards.limits_drift * 100.0)).into()
            },
        ],
    ];
    if guards.control.is_empty() {
        rows.push(vec!["A/A control".into(), "not measured".into()]);
    }
    for control in &guards.control {
        let quantity = Quantity::Of(control.metric);
        let what = format!("{} of {} over itself", quantity.name(), study.system_name(control.of));
        let seen = words::ratio(&control.interval, study.control_pairs);
        rows.push(vec![what.into(), seen.into()]);
    }
    Some(Table::new("Guards", &["guard"], &["seen"], rows))
}
