//! `flumen-bench limits`: what this machine can do at best, whoever asks it.
//!
//! Does: choose probes, look whether the machine can do them, run them one after the other, write
//! JSON and a table.
//! Does not: start or ask any broker.
//! Invariants: a probe that is not possible here is told with its reason and ends nothing else; no
//! file outlives the run; what was measured before a signal is kept and marked as incomplete.
//! Apart because every other number of the project is read as a ratio to these.
//!
//! | room | what |
//! |---|---|
//! | [`catalogue`] | the probes by name |
//! | [`disk`], [`loopback`], [`processor`] | the probes themselves |
//! | [`site`] | what a probe is given |
//! | [`answer`] | what it says at its end |
//! | [`scratch`] | its files, and their removal |
//! | [`watch`], [`cpus`] | its time and its place |
//! | [`company`] | whether it was alone on the machine |
//! | [`table`] | the result for people |

pub mod answer;
pub mod catalogue;
pub mod company;
pub mod cpus;
pub mod disk;
pub mod loopback;
pub mod processor;
pub mod scratch;
pub mod site;
pub mod table;
pub mod watch;

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;

use crate::limits;
use crate::outcome::FORMAT;
use crate::outcome::environment::Environment;
use crate::outcome::probes::{LatencyLimit, Limits, RateLimit, Unmeasured};
use answer::{Answer, Measured, Refused};
use catalogue::{CATALOGUE, Needs, Probe, QUICK};
use company::Company;
use cpus::CpuPair;
use scratch::Scratch;
use site::Site;
use watch::{Interrupt, Watch};

/// What the user asks for.
#[derive(Debug, clap::Args)]
#[command(after_long_help = catalogue::listing())]
pub struct Arguments {
    /// Folder on the disk to be measured; it must exist. At most 320 MiB lie there at a time, in a
    /// folder of their own that is removed at the end.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seconds per probe (some take a half or a third of it).
    #[arg(long, default_value_t = limits::PROBE_SECONDS, value_parser = seconds)]
    seconds: f64,
    /// Only these probes, separated by commas; `--help` lists them.
    #[arg(
        long,
        value_delimiter = ',',
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(CATALOGUE.iter().map(|probe| probe.name)),
    )]
    only: Vec<String>,
    /// The two CPUs between which loopback and wake-up are measured [default: the first two].
    #[arg(long, value_name = "A,B")]
    cpus: Option<CpuPair>,
}

/// Why there is no result at all.
#[derive(Debug)]
pub enum Error {
    /// The folder is not there or is none.
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The folder's disk is too full.
    Space {
        /// Which.
        folder: PathBuf,
        /// What is free, bytes.
        free: u64,
        /// What must be, bytes.
        needed: u64,
    },
    /// This process may not run on a CPU that was asked for.
    Cpu(usize),
    /// The system refuses something that every probe needs.
    System(io::Error),
    /// The JSON could not be written; the table was.
    Json {
        /// Where.
        file: PathBuf,
        /// Why.
        why: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        match self {
            Self::Folder { folder, why } => {
                write!(f, "cannot measure in {}: {why}", folder.display())
            }
            Self::Space { folder, free, needed } => write!(
                f,
                "{} has {} MiB free and {} are needed; choose another folder, or --only probes \
                 without files",
                folder.display(),
                mib(*free),
                mib(*needed),
            ),
            Self::Cpu(cpu) => write!(f, "this process may not run on CPU {cpu}"),
            Self::System(why) => write!(f, "the system refuses to be measured: {why}"),
            Self::Json { file, why } => write!(f, "cannot write {}: {why}", file.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Runs the subcommand: table on standard output, JSON where asked. Not successful when a probe
/// failed or the run was interrupted; a probe that is not possible here is no failure.
pub fn command(arguments: &Arguments) -> Result<ExitCode, Error> {
    let wish = Wish {
        folder: &arguments.folder,
        probes: catalogue::chosen(&arguments.only),
        length: Duration::from_secs_f64(arguments.seconds),
        cpus: arguments.cpus,
        file_bytes: limits::PROBE_FILE_BYTES,
        file_length: Duration::from_secs_f64(limits::PROBE_FILE_SECONDS),
        is_told: true,
    };
    let round = measure(&wish, &Interrupt::listening().map_err(Error::System)?)?;
    // A reader that went away (`| head`) is no reason to lose the JSON.
    let _ = io::stdout().write_all(table::drawn(&round.limits).as_bytes());
    if let Some(file) = &arguments.json {
        save(file, &round.limits).map_err(|why| Error::Json { file: file.clone(), why })?;
    }
    let is_whole = round.limits.broken_off.is_none() && round.failed == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The few limits that tell whether a machine stayed the same, in less than eight seconds: durable
/// writes back to back and paced, sequential writes, round trip between two CPUs.
///
/// An interrupted round comes back with [`Limits::broken_off`] set.
pub fn quick(folder: &Path) -> Result<Limits, Error> {
    let wish = Wish {
        folder,
        probes: catalogue::chosen(QUICK),
        length: Duration::from_secs_f64(limits::QUICK_PROBE_SECONDS),
        cpus: None,
        file_bytes: limits::QUICK_FILE_BYTES,
        file_length: Duration::from_secs_f64(limits::QUICK_FILE_SECONDS),
        is_told: false,
    };
    let interrupt = Interrupt::listening().map_err(Error::System)?;
    measure(&wish, &interrupt).map(|round| round.limits)
}

/// What is to be measured.
struct Wish<'a> {
    folder: &'a Path,
    probes: Vec<&'static Probe>,
    length: Duration,
    cpus: Option<CpuPair>,
    /// Length of the pre-written file.
    file_bytes: u64,
    /// How long pre-writing may take.
    file_length: Duration,
    /// Whether somebody at a terminal wants to see how far it is.
    is_told: bool,
}

/// A result, and how much of it went wrong.
struct Round {
    limits: Limits,
    failed: u32,
}

fn measure(wish: &Wish, interrupt: &Interrupt) -> Result<Round, Error> {
    let folder_error = |why| Error::Folder { folder: wish.folder.to_owned(), why };
    let listed = fs::read_dir(wish.folder);
    drop(listed.map_err(folder_error)?);
    let cpus = pair(wish.cpus)?;
    let limits = Limits {
        format: FORMAT,
        environment: Environment::of(Some(wish.folder)),
        ..Limits::default()
    };
    let mut round = Round { limits, failed: 0 };
    let file_system = round.limits.environment.file_system.clone();
    let misses = |probe: &Probe| missing(probe.needs, &file_system, cpus);
    let needs_files = |probe: &&Probe| {
        matches!(probe.needs, Needs::Files | Needs::Disk) && misses(probe).is_none()
    };
    let scratch = match wish.probes.iter().copied().any(|probe| needs_files(&probe)) {
        true => Some(prepared(wish, interrupt)?),
        false => None,
    };
    let before = Company::now();
    for (index, probe) in wish.probes.iter().enumerate() {
        if interrupt.is_raised() {
            let why = || format!("interrupted before {}", probe.name);
            round.limits.broken_off.get_or_insert_with(why);
            break;
        }
        wish.tell(index, probe.name);
        let answer = match misses(probe) {
            Some(why) => Err(Refused::Impossible(why)),
            None => {
                let length = wish.length.mul_f64(probe.share.factor());
                (probe.run)(&Site { scratch: scratch.as_ref(), cpus, length, interrupt })
            }
        };
        round.take(probe, answer, interrupt);
    }
    wish.tell(wish.probes.len(), "");
    round.limits.disturbed_share =
        Company::now().zip(before).map_or(0.0, |(now, before)| now.share_since(before));
    Ok(round)
}

impl Wish<'_> {
    /// One line that overwrites itself, and only where somebody sees it.
    fn tell(&self, done: usize, next: &str) {
        if self.is_told && io::stderr().is_terminal() {
            told(&format!("\r{done:>3} of {} {next:<40}", self.probes.len()));
            if next.is_empty() {
                told(&format!("\r{:<60}\r", ""));
            }
        }
    }
}

/// A listener that went away must not end the run: what it leaves behind is still to be removed.
fn told(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

impl Round {
    /// Files what a probe said. One that was cut short by a signal says nothing comparable.
    fn take(&mut self, probe: &Probe, answer: Answer, interrupt: &Interrupt) {
        let (name, what) = (probe.name.to_owned(), probe.what.to_owned());
        if interrupt.is_raised() {
            self.limits.broken_off = Some(format!("interrupted during {name}"));
            return;
        }
        let mut unmeasured =
            |name, reason| self.limits.unmeasured.push(Unmeasured { name, reason });
        match answer {
            Ok(Measured::Latency(spread)) => {
                self.limits.latencies.push(LatencyLimit { name, what, spread });
            }
            Ok(Measured::Rate { per_second, unit }) => {
                let unit = unit.name().to_owned();
                self.limits.rates.push(RateLimit { name, what, per_second, unit });
            }
            Err(Refused::Impossible(why)) => unmeasured(name, format!("not possible here: {why}")),
            Err(Refused::Failed(why)) => {
                unmeasured(name, format!("failed: {why}"));
                self.failed += 1;
            }
        }
    }
}

/// Why a probe with these needs cannot run here, if so.
fn missing(needs: Needs, file_system: &str, cpus: Option<CpuPair>) -> Option<String> {
    match needs {
        Needs::Nothing | Needs::Files => None,
        Needs::Disk => matches!(file_system, "tmpfs" | "ramfs" | "rootfs" | "devtmpfs")
            .then(|| format!("{file_system} keeps files in memory, so that nothing is durable")),
        Needs::TwoCpus => cpus.is_none().then(|| "this process may use one CPU only".to_owned()),
    }
}

fn pair(asked: Option<CpuPair>) -> Result<Option<CpuPair>, Error> {
    match asked {
        None => CpuPair::first_allowed().map_err(Error::System),
        Some(pair) => match pair.forbidden().map_err(Error::System)? {
            Some(cpu) => Err(Error::Cpu(cpu)),
            None => Ok(Some(pair)),
        },
    }
}

/// A folder with the pre-written file in it, if there is space.
fn prepared(wish: &Wish, interrupt: &Interrupt) -> Result<Scratch, Error> {
    let folder_error = |why| Error::Folder { folder: wish.folder.to_owned(), why };
    let held = wish.file_bytes + limits::PROBE_GROWING_BYTES;
    let needed = held + limits::PROBE_SPARE_BYTES;
    let space = rustix::fs::statvfs(wish.folder).map_err(|error| folder_error(error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < needed {
        return Err(Error::Space { folder: wish.folder.to_owned(), free, needed });
    }
    if wish.is_told {
        told(&announced(wish.folder, held, written_bytes_max(&wish.probes)));
    }
    let mut scratch = Scratch::make(wish.folder).map_err(folder_error)?;
    let watch = Watch::start(wish.file_length, interrupt);
    scratch.pre_write(wish.file_bytes, &watch).map_err(folder_error)?;
    Ok(scratch)
}

/// What the user should know before a disk is written to.
fn announced(folder: &Path, held: u64, streamed: u64) -> String {
    let folder = folder.display();
    let streams = match streamed >> 30 {
        0 => String::new(),
        gib => format!("; probes of bandwidth write at most {gib} GiB"),
    };
    format!("Uses at most {} MiB in {folder} at a time{streams}.\n", held >> 20)
}

/// What the probes that write as fast as they can may write together, bytes.
fn written_bytes_max(probes: &[&Probe]) -> u64 {
    let streams =
        probes.iter().filter(|probe| matches!(probe.name, "durable_bandwidth" | "plain_bandwidth"));
    streams.count() as u64 * limits::PROBE_WRITTEN_BYTES_MAX
}

fn save(file: &Path, limits: &Limits) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(limits)?;
    text.push(b'\n');
    crate::file::write_whole(file, &text)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|_| "a number of seconds is needed".to_owned())?;
    if seconds > 0.0 && seconds <= limits::PROBE_SECONDS_MAX {
        Ok(seconds)
    } else {
        Err(format!("more than 0 and at most {} seconds", limits::PROBE_SECONDS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::probes::Spread;

    /// A wish for a hasty run.
    fn wish<'a>(folder: &'a Path, names: &[&str]) -> Wish<'a> {
        Wish {
            folder,
            probes: catalogue::chosen(names),
            length: Duration::from_millis(1),
            cpus: None,
            file_bytes: limits::PROBE_FILE_BYTES_MIN,
            file_length: Duration::ZERO,
            is_told: false,
        }
    }

    fn round() -> Round {
        Round { limits: Limits::default(), failed: 0 }
    }

    #[test]
    fn a_result_survives_its_way_through_json() {
        let names = ["system_call", "crc32c", "wake_up"];
        let interrupt = Interrupt::default();
        let round = measure(&wish(&std::env::temp_dir(), &names), &interrupt).expect("a result");
        let limits = round.limits;
        assert_eq!(limits.format, FORMAT);
        assert!(limits.latency("system_call").is_some_and(|spread| spread.samples > 0));
        assert!(limits.rate("crc32c").is_some_and(|per_second| per_second > 0.0));
        assert_eq!(limits.latency("crc32c"), None);
        let text = serde_json::to_string(&limits).expect("it can be written");
        assert_eq!(serde_json::from_str::<Limits>(&text).expect("it can be read"), limits);
    }

    #[test]
    fn every_answer_is_filed_and_only_failures_count() {
        let interrupt = Interrupt::default();
        let probe = &CATALOGUE[0];
        let mut round = round();
        round.take(probe, Ok(Measured::Latency(Spread::default())), &interrupt);
        round.take(probe, Err(Refused::Impossible("no disk".to_owned())), &interrupt);
        assert_eq!(round.failed, 0);
        round.take(probe, Err(Refused::Failed("torn cable".to_owned())), &interrupt);
        assert_eq!((round.failed, round.limits.latencies.len()), (1, 1));
        let reasons: Vec<&str> =
            round.limits.unmeasured.iter().map(|missing| missing.reason.as_str()).collect();
        assert_eq!(reasons, ["not possible here: no disk", "failed: torn cable"]);
    }

    #[test]
    fn a_signal_keeps_what_was_measured_and_drops_what_was_cut_short() {
        let interrupt = Interrupt::default();
        let mut round = round();
        round.take(&CATALOGUE[0], Ok(Measured::Latency(Spread::default())), &interrupt);
        interrupt.raise();
        round.take(&CATALOGUE[1], Ok(Measured::Latency(Spread::default())), &interrupt);
        assert_eq!(round.limits.latencies.len(), 1);
        let why = round.limits.broken_off.expect("it is marked");
        assert!(why.contains(CATALOGUE[1].name), "{why}");
    }

    #[test]
    fn a_signal_before_the_first_probe_is_no_success() {
        let interrupt = Interrupt::default();
        interrupt.raise();
        let round = measure(&wish(&std::env::temp_dir(), &["memcpy"]), &interrupt);
        let limits = round.expect("an incomplete result").limits;
        assert_eq!(limits.broken_off.as_deref(), Some("interrupted before memcpy"));
        assert_eq!(limits.rates, []);
    }

    #[test]
    fn what_the_machine_lacks_is_told_by_name() {
        let why = missing(Needs::Disk, "tmpfs", None).expect("memory is no disk");
        assert!(why.contains("tmpfs"));
        assert_eq!(missing(Needs::Files, "tmpfs", None), None);
        assert_eq!(missing(Needs::Disk, "ext4", None), None);
        assert!(missing(Needs::TwoCpus, "ext4", None).is_some());
        assert_eq!(missing(Needs::TwoCpus, "ext4", "0,1".parse().ok()), None);
    }

    #[test]
    fn a_folder_that_is_none_is_refused_in_one_line() {
        let nowhere = std::env::temp_dir().join("flumen-no-such-folder");
        let interrupt = Interrupt::default();
        let result = measure(&wish(&nowhere, &["durable_write"]), &interrupt);
        let text = result.err().expect("it is refused").to_string();
        assert!(text.contains("flumen-no-such-folder") && text.lines().count() == 1, "{text}");
        let full = Error::Space { folder: nowhere, free: 1 << 20, needed: 5 << 20 }.to_string();
        assert!(full.contains("1 MiB free and 5 are needed") && full.lines().count() == 1);
    }

    #[test]
    fn seconds_are_a_positive_number_with_a_bound() {
        assert_eq!(seconds("0.2"), Ok(0.2));
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_written_streams_count_into_the_announced_bytes() {
        let bytes = |names: &[&str]| written_bytes_max(&catalogue::chosen(names));
        assert_eq!(bytes(&["cold_read_bandwidth", "loopback_bandwidth"]), 0);
        assert_eq!(bytes(&["plain_bandwidth"]), limits::PROBE_WRITTEN_BYTES_MAX);
        assert_eq!(bytes(&[]), 2 * limits::PROBE_WRITTEN_BYTES_MAX);
        let text = announced(Path::new("here"), 320 << 20, bytes(&[]));
        assert!(text.contains("320 MiB in here") && text.contains("16 GiB"), "{text}");
        assert!(!announced(Path::new("here"), 1 << 20, 0).contains("GiB"));
    }
}
