//! Reads what other subcommands left behind.
//!
//! Does: open, unpack, tell load runs, comparisons and limits apart by their content, and refuse in
//! one line what is none of them.
//! Does not: interpret a number.
//! Invariants: an outcome that is handed on has only indexes that exist.
//! Apart because it is the only place that meets files of strangers.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::limits::OUTCOME_FILE_BYTES_MAX;
use crate::outcome::comparison::{Comparison, Ratio, Round};
use crate::outcome::load::Load;
use crate::outcome::probes::Limits;
use crate::outcome::{Durability, FORMAT};
use crate::report::study::is_named;

/// One file, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Name of the file without its folder: enough to find it, the same on every machine.
    pub name: String,
    /// The JSON as it was read, unpacked.
    pub json: String,
    /// What it says.
    pub outcome: Outcome,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of `flumen-bench load`.
    Load(Box<Load>),
    /// Of `flumen-bench load --self-test`: the generator against a responder that keeps nothing.
    SelfTest(Vec<Load>),
    /// Of `flumen-bench compare`.
    Comparison(Box<Comparison>),
    /// Of `flumen-bench limits`.
    Limits(Box<Limits>),
}

/// Why a file cannot be read; one line.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable {
    path: PathBuf,
    why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for Unreadable {}

/// Reads one outcome, plain or compressed with gzip.
///
/// # Errors
/// When the file cannot be read, is larger than [`OUTCOME_FILE_BYTES_MAX`], ends early, is no
/// outcome, or is of a format that this tool does not know.
pub fn read(path: &Path) -> Result<Source, Unreadable> {
    let json = text(path).map_err(|why| Unreadable { path: path.to_owned(), why })?;
    let outcome = parse(&json).map_err(|why| Unreadable { path: path.to_owned(), why })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Source { name, json, outcome })
}

fn text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    bounded(file, &mut bytes).map_err(|error| error.to_string())?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        bounded(flate2::read::MultiGzDecoder::new(bytes.as_slice()), &mut unpacked)
            .map_err(|error| format!("is not whole gzip: {error}"))?;
        bytes = unpacked;
    }
    if bytes.len() as u64 > OUTCOME_FILE_BYTES_MAX {
        return Err(format!("has more than {} MiB", OUTCOME_FILE_BYTES_MAX >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "is not text, so no outcome of flumen-bench".to_owned())
}

/// Reads at most one byte more than is allowed, so that the caller sees that there was more.
fn bounded(from: impl Read, into: &mut Vec<u8>) -> std::io::Result<usize> {
    from.take(OUTCOME_FILE_BYTES_MAX + 1).read_to_end(into)
}

/// Said of what may be anything.
const NOTHING_KNOWN: &str = "is no outcome of flumen-bench";

/// The oldest layout that is still read.
const FORMAT_OLDEST: u32 = 1;

/// Enough of a file to tell what it is.
#[derive(Deserialize)]
struct Outline {
    format: Option<u64>,
    rounds: Option<IgnoredAny>,
    slices: Option<IgnoredAny>,
    latencies: Option<IgnoredAny>,
}

fn parse(json: &str) -> Result<Outcome, String> {
    if json.trim_start().starts_with('[') {
        let outlines: Vec<Outline> = outlined(json)?;
        outlines.iter().try_for_each(check_format)?;
        let are_loads = outlines.iter().all(|outline| outline.slices.is_some());
        if outlines.is_empty() || !are_loads {
            return Err(NOTHING_KNOWN.to_owned());
        }
        return Ok(Outcome::SelfTest(typed(json, "self-test")?));
    }
    let outline: Outline = outlined(json)?;
    check_format(&outline)?;
    let is = (outline.rounds.is_some(), outline.slices.is_some(), outline.latencies.is_some());
    match is {
        (true, _, _) => {
            let mut comparison: Comparison = typed(json, "comparison")?;
            check_comparison(&comparison)?;
            correct_classes(&mut comparison);
            Ok(Outcome::Comparison(Box::new(comparison)))
        }
        (false, true, _) => {
            let mut load: Load = typed(json, "load run")?;
            load.durability = class_of(load.format, &load.system, load.durability);
            Ok(Outcome::Load(Box::new(load)))
        }
        (false, false, true) => Ok(Outcome::Limits(Box::new(typed(json, "set of limits")?))),
        (false, false, false) => Err(NOTHING_KNOWN.to_owned()),
    }
}

fn outlined<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof if !json.trim().is_empty() => {
            format!("ends early, at line {}: was its writer cut off?", error.line())
        }
        serde_json::error::Category::Eof
        | serde_json::error::Category::Data
        | serde_json::error::Category::Io => NOTHING_KNOWN.to_owned(),
        serde_json::error::Category::Syntax => format!("is not JSON: {error}"),
    })
}

fn check_format(outline: &Outline) -> Result<(), String> {
    match outline.format {
        Some(format) if format > u64::from(FORMAT) => Err(format!(
            "has format {format}, newer than {FORMAT}: a newer flumen-bench can read it"
        )),
        Some(format) if format >= u64::from(FORMAT_OLDEST) => Ok(()),
        Some(_) | None => Err(NOTHING_KNOWN.to_owned()),
    }
}

fn typed<T: DeserializeOwned>(json: &str, what: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| format!("is a damaged {what}: {error}"))
}

/// Format 1 knew no class below the page cache, so Flumen's relaxed topics were declared as one:
/// they never promised more than the memory of the process.
fn class_of(format: u32, system: &str, declared: Durability) -> Durability {
    match declared {
        Durability::D0 if format == 1 && is_named(system, "flumen") => Durability::D0m,
        class @ (Durability::D0m | Durability::D0 | Durability::D1) => class,
    }
}

fn correct_classes(comparison: &mut Comparison) {
    let Comparison { format, systems, rounds, control_rounds, ratios, .. } = comparison;
    for system in &mut *systems {
        system.durability = class_of(*format, &system.name, system.durability);
    }
    for round in rounds.iter_mut().chain(control_rounds) {
        round.load.durability = systems[round.system].durability;
    }
    for ratio in ratios {
        ratio.is_handicap = systems[ratio.of].durability != systems[ratio.to].durability;
    }
}

fn check_comparison(comparison: &Comparison) -> Result<(), String> {
    let known = comparison.systems.len();
    let strange = |what: &str, system: usize| {
        Err(format!("is a damaged comparison: {what} names system {system} of {known}"))
    };
    let rounds: [&[Round]; 2] = [&comparison.rounds, &comparison.control_rounds];
    for round in rounds.into_iter().flatten() {
        if round.system >= known {
            return strange(&format!("run {}", round.position), round.system);
        }
    }
    let ratios: [&[Ratio]; 2] = [&comparison.ratios, &comparison.guards.control];
    for ratio in ratios.into_iter().flatten() {
        if ratio.of.max(ratio.to) >= known {
            return strange("a ratio", ratio.of.max(ratio.to));
        }
    }
    Ok(())
}
