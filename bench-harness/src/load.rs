//! `flumen-bench load`: loads any Kafka-protocol broker, honestly.
//!
//! Does: join the rooms below into one run and hand out its outcome.
//! Does not: start brokers, compare, or draw.
//! Invariants: latency counts from the instant a request was due, whatever held it back; a run
//! that ends early leaves what was measured, marked, and an exit code that is not 0.
//! Apart because it is the tool that every number of the project comes from.
//!
//! | room | what |
//! |---|---|
//! | [`options`] | command line and scenario file |
//! | [`run`] | sets a run up, goes through its parts, takes it down |
//! | [`engine`], [`poller`], [`wire`] | the loop, the waiting, the bytes: all that touches sockets |
//! | [`broken`] | why a run ended before its time |
//! | [`search`] | the climb to the highest sustained rate |
//! | [`schedule`], [`routes`], [`payload`], [`template`] | what is due when, where it goes, how it looks |
//! | [`member`] | a connection and what it is for |
//! | [`lane`], [`transactor`], [`reader`] | a producing, a transacting and a consuming connection without its socket |
//! | [`request`], [`answers`] | how questions begin, what answers say |
//! | [`crowd`] | connections without traffic, and those that come and go |
//! | [`self_test`] | the proof that the generator is cheap |
//! | [`measure`], [`verdict`] | what is counted, and what it says |
//! | [`progress`], [`table`] | what a user sees |

pub mod answers;
pub mod broken;
pub mod crowd;
pub mod engine;
pub mod lane;
pub mod measure;
pub mod member;
pub mod options;
pub mod payload;
pub mod poller;
pub mod progress;
pub mod reader;
pub mod request;
pub mod routes;
pub mod run;
pub mod schedule;
pub mod search;
pub mod self_test;
pub mod table;
pub mod template;
#[cfg(test)]
mod tests;
pub mod transactor;
pub mod verdict;
pub mod wire;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

pub use options::LoadArgs;

use crate::limits::SELF_TEST_CPU_SHARE;
use crate::outcome::environment::Environment;
use run::{Order, RunFault};
use verdict::Verdict;

/// Exit code of a generator that was measured and is too dear.
const DOUBTED: u8 = 3;

/// Runs the subcommand.
#[must_use]
pub fn main(args: &LoadArgs) -> ExitCode {
    match if args.self_test { prove(args) } else { attempt(args) } {
        Ok(true) => ExitCode::SUCCESS,
        // Too dear is measured, and not to be believed: no failure to measure.
        Ok(false) if args.self_test => ExitCode::from(DOUBTED),
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("flumen-bench load: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The self-test; whether the generator is cheap enough.
fn prove(args: &LoadArgs) -> Result<bool, String> {
    let environment = Environment::of(None);
    let stop = stop_on_signal()?;
    if let Some(cpu) = args.cpu {
        pin(cpu).map_err(|error| format!("cannot run on CPU {cpu}: {error}"))?;
    }
    let (cheap, loads) = self_test::run(args.cpu, &environment, &stop)?;
    let broken = loads.iter().find_map(|load| load.broken_off.clone());
    if let Some(path) = &args.json {
        write_json(path, &loads)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(reason) = broken {
        return Err(reason);
    }
    if !cheap {
        let allowed = SELF_TEST_CPU_SHARE * 100.0;
        eprintln!("flumen-bench load: the generator may use {allowed:.0} % of a core here");
    }
    Ok(cheap)
}

/// One run; whether it went through.
fn attempt(args: &LoadArgs) -> Result<bool, String> {
    let scenario = args.scenario()?;
    // The folder of the data is the broker's secret.
    let environment = Environment::of(None);
    if let Some(cpu) = args.cpu {
        pin(cpu).map_err(|error| format!("cannot run on CPU {cpu}: {error}"))?;
    }
    let stop = stop_on_signal()?;
    let order = Order {
        bootstrap: args.bootstrap.clone(),
        scenario,
        system: args.system.clone().unwrap_or_else(|| args.bootstrap.clone()),
        durability: args.durability(),
        environment,
        quiet: args.quiet,
    };
    let verdict = order.run(&stop).map_err(|fault: RunFault| fault.to_string())?;
    hand_out(args, &verdict)?;
    Ok(verdict.load.broken_off.is_none())
}

fn hand_out(args: &LoadArgs, verdict: &Verdict) -> Result<(), String> {
    if let Some(path) = &args.json {
        write_json(path, &verdict.load)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(path) = &args.histogram_log {
        write_log(path, verdict)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if !args.quiet {
        // A reader that went away is no reason to fail.
        let _ = writeln!(io::stdout(), "{}", table::of(&verdict.load));
    }
    if let Some(reason) = &verdict.load.broken_off {
        eprintln!("flumen-bench load: {reason}; what was measured until then is kept");
    }
    Ok(())
}

fn write_json(path: &Path, load: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(load)?;
    text.push(b'\n');
    crate::file::write_whole(path, &text)
}

fn write_log(path: &Path, verdict: &Verdict) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let began = verdict.load.measured_from_unix_ms;
    crate::histogram::write_log(&mut file, began, &verdict.measure.intervals())?;
    file.flush()
}

/// A flag that an interrupting signal sets.
///
/// # Errors
/// The system does not let us listen, in one line.
pub fn stop_on_signal() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| format!("cannot listen for signals: {error}"))?;
    }
    Ok(stop)
}

/// Keeps this thread on one processor.
///
/// # Errors
/// There is no such processor, or we may not.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::Error::other("there is no such CPU"));
    }
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}
