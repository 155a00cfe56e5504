//! The proof that the generator is cheap.
//!
//! Does: start the null responder as a process of its own, load it at the fixed rates that are
//! published (B2 and B3; where a run is as fast as it goes, its own result says what it cost), and
//! hold the generator's own cost against its limit.
//! Does not: judge a broker.
//! Invariants: the responder is gone when this ends, however it ends.
//! Apart because a generator that is the bottleneck measures itself.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::options::plain_producers;
use super::run::Order;
use super::table;
use crate::limits::{SELF_TEST_CPU_SHARE, SELF_TEST_SECONDS};
use crate::outcome::Durability;
use crate::outcome::environment::Environment;
use crate::outcome::load::Load;
use crate::scenario::{Consumers, Crowd, Pace, Producers, Scenario};

/// The responder's process; dropped, it is gone.
#[derive(Debug)]
pub struct NullProcess {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl NullProcess {
    /// Starts one on a free port, and on a CPU of its own where one is named.
    ///
    /// # Errors
    /// It did not start, in one line.
    pub fn start(cpu: Option<usize>) -> Result<Self, String> {
        let failed =
            |what: &dyn std::fmt::Display| format!("cannot start the null responder: {what}");
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        command.args(["null", "--listen", "127.0.0.1:0", "--until-input-ends"]);
        if let Some(cpu) = cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            // It ends with an error or says one line; either way this returns.
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let mut process = Self { child, address: String::new() };
        let address = line.trim().strip_prefix("listening on ");
        process.address = address.ok_or_else(|| failed(&"it did not say where"))?.to_owned();
        Ok(process)
    }
}

impl Drop for NullProcess {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Loads the responder at the published rates; whether the generator was cheap enough.
///
/// # Errors
/// Something could not be started, in one line.
pub fn run(
    cpu: Option<usize>,
    environment: &Environment,
    stop: &Arc<AtomicBool>,
) -> Result<(bool, Vec<Load>), String> {
    // The responder belongs on another processor than the generator.
    let other = cpu.map(|cpu| if cpu == 0 { environment.cpus.saturating_sub(1) } else { 0 });
    let null = NullProcess::start(other)?;
    let mut loads = Vec::new();
    let mut cheap = true;
    for scenario in scenarios() {
        let order = Order {
            bootstrap: null.address.clone(),
            scenario,
            system: "null responder".to_owned(),
            durability: Durability::D0m,
            environment: environment.clone(),
            quiet: false,
        };
        let load = order.run(stop).map_err(|fault| fault.to_string())?.load;
        let whole = load.broken_off.is_none();
        cheap &= whole && load.generator.cpu_share <= SELF_TEST_CPU_SHARE;
        println!("{}\n", table::of(&load));
        loads.push(load);
        if !whole {
            break;
        }
    }
    Ok((cheap, loads))
}

fn scenarios() -> [Scenario; 2] {
    let fixed = |name: &str, partitions, rate, shape: Producers| Scenario {
        name: name.to_owned(),
        purpose: "What the generator itself costs.".to_owned(),
        partitions,
        warm_up_seconds: 1,
        seconds: SELF_TEST_SECONDS,
        seed: 1,
        producers: Some(Producers { pace: Pace::PerSecond(rate), ..shape }),
        consumers: Consumers::default(),
        crowd: Crowd::default(),
        restart: None,
    };
    let batches = Producers { connections: 4, records_per_batch: 16, ..plain_producers() };
    let records = Producers { connections: 100, record_bytes: 100, ..plain_producers() };
    [
        fixed("self-test-2000-of-16-kib", 16, 2_000.0, batches),
        fixed("self-test-10000-of-100-bytes", 100, 10_000.0, records),
    ]
}
