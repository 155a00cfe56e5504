//! One run: a fresh system, the load, the cost, the end.
//!
//! Does: start a system in a folder of its own, wait until it serves, have it loaded, watch what
//! that costs, take it down and up where the scenario says so, stop it and remove everything.
//! Does not: compare.
//! Invariants: when a run is over, however it went, no process and no folder of it is left; a run
//! that did not go through is an error with the system's own last words.
//! Apart because it is the only place where things happen in order.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::cpus::CpuList;
use super::foreign::Moment;
use super::guards::Ticks;
use super::kept::{Kept, LOOK_EVERY, Start};
use super::ready;
use super::system::SystemSpec;
use super::watch::{Cgroup, Watch, cost, used_ns};
use crate::limits::{LOAD_GRACE_SECONDS, LOG_TAIL_LINES, STOP_SECONDS_MAX};
use crate::outcome::comparison::{Restarted, Round};
use crate::outcome::load::Load;
use crate::scenario::{Restart, Scenario};

/// What all runs of a comparison share.
#[derive(Debug)]
pub struct Arena {
    /// Holds everything that is made; on the disk to be measured.
    pub scratch: PathBuf,
    /// CPUs of the systems.
    pub broker_cpus: Option<CpuList>,
    /// CPUs of the generator and the referee.
    pub load_cpus: Option<CpuList>,
    /// Where the search for free ports begins.
    pub port: u16,
    /// How long a system may take to serve.
    pub start_within: Duration,
    /// Set by a signal.
    pub interrupted: Arc<AtomicBool>,
}

/// One place in the order of runs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Of all runs.
    pub position: u32,
    /// The system's place.
    pub system: usize,
    /// Which pair.
    pub pair: u32,
}

/// A run that went through, and what the referee noticed.
#[derive(Debug)]
pub struct Ran {
    /// Its results.
    pub round: Round,
    /// Share of CPU time that the hypervisor took meanwhile.
    pub stolen_share: f64,
    /// Things a reader should know.
    pub notes: Vec<String>,
}

/// A run that did not go through.
#[derive(Debug)]
pub struct Broken {
    /// One line.
    pub reason: String,
    /// The last lines of the system's log.
    pub said: String,
    /// What was measured until then.
    pub load: Option<Box<Load>>,
}

/// A system that was started.
struct Broker<'a> {
    kept: Kept,
    system: &'a SystemSpec,
    port: u16,
    cgroup: Option<&'a Path>,
    scratch: PathBuf,
}

/// A folder that goes when its run is over.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        // What is still dirty would be written during the next run, at its expense.
        if let Some(parent) = self.0.parent()
            && let Ok(folder) = std::fs::File::open(parent)
        {
            let _ = rustix::fs::syncfs(folder);
        }
    }
}

impl Arena {
    /// Runs one system once.
    ///
    /// # Errors
    /// It did not start, died, would not be loaded, or somebody pressed Ctrl-C.
    pub fn run(&self, system: &SystemSpec, scenario: &Scenario, at: Place) -> Result<Ran, Broken> {
        let plain = |reason: String| Broken { reason, said: String::new(), load: None };
        let folder = self.scratch.join(format!("{:03}-{}", at.position, system.name));
        std::fs::create_dir(&folder)
            .map_err(|error| plain(format!("cannot make {}: {error}", folder.display())))?;
        let scratch = Scratch(folder);
        let cgroup = Cgroup::make(&format!("flumen-bench-{}-{}", std::process::id(), at.position));
        let port = free_ports(self.port).map_err(plain)?;
        let path = cgroup.as_ref().map(Cgroup::path);
        let began = Instant::now();
        let mut broker = self.start(system, port, path, &scratch.0).map_err(plain)?;
        self.serves(&mut broker, began).map_err(|reason| broker.broken(reason))?;
        let start_seconds = began.elapsed().as_secs_f64();

        let watch = Watch::begin(broker.kept.keeper_pid(), path.map(Path::to_owned));
        let (before, alone) = (Ticks::now(), Moment::now());
        let loaded = self.load(&mut broker, scenario);
        let stolen_share = Ticks::now().stolen_share(before);
        let together = Moment::now();
        let ended_ms = unix_ms();
        let samples = watch.end();
        let load = loaded?;
        if let Some(reason) = &load.broken_off {
            let reason = format!("the load broke off: {reason}");
            return Err(Broken { load: Some(Box::new(load)), ..broker.broken(reason) });
        }
        let (from_ms, to_ms) = measured_part(&load, ended_ms);
        let mut cost = cost(&samples, from_ms, to_ms);
        cost.start_seconds = start_seconds;
        let system_ns = used_ns(&samples);
        let foreign_share =
            together.zip(alone).map(|(after, before)| after.foreign_share(&before, system_ns));
        let mut notes = remarks(system, &load);
        if foreign_share.is_none() {
            notes.push("how much of the machine others used cannot be seen here".to_owned());
        }
        let restart = match scenario.restart {
            None => None,
            Some(how) => match self.restart(&mut broker, how) {
                Ok(restarted) => Some(restarted),
                Err(reason) => {
                    return Err(Broken { load: Some(Box::new(load)), ..broker.broken(reason) });
                }
            },
        };
        notes.extend(broker.stop());
        let Place { position, system, pair } = at;
        let round = Round { position, system, pair, load, cost, restart, foreign_share };
        Ok(Ran { round, stolen_share, notes })
    }

    fn start<'a>(
        &self,
        system: &'a SystemSpec,
        port: u16,
        cgroup: Option<&'a Path>,
        scratch: &Path,
    ) -> Result<Broker<'a>, String> {
        let data = scratch.join("data");
        std::fs::create_dir_all(&data)
            .map_err(|error| format!("cannot make {}: {error}", data.display()))?;
        let program = ["sh", "-c", &system.command_for(port, &data)].map(str::to_owned);
        let kept = Kept::start(&Start {
            program: &program,
            cpus: self.broker_cpus.as_ref(),
            cgroup,
            scratch: &self.scratch,
            log: scratch.join("log"),
        })?;
        Ok(Broker { kept, system, port, cgroup, scratch: scratch.to_owned() })
    }

    /// Waits for the first acknowledged record.
    fn serves(&self, broker: &mut Broker<'_>, began: Instant) -> Result<(), String> {
        let port = broker.port;
        let give_up = || self.lost(broker);
        ready::until(began + self.start_within, give_up, || ready::first_record(port))
            .map_err(|reason| format!("{}: {reason}", broker.system.label()))
    }

    /// Why waiting has become pointless.
    fn lost(&self, broker: &mut Broker<'_>) -> Option<String> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Some("interrupted".to_owned());
        }
        broker.kept.ended().map(|status| format!("it ended by itself ({status})"))
    }

    /// Runs the generator beside the broker.
    fn load(&self, broker: &mut Broker<'_>, scenario: &Scenario) -> Result<Load, Broken> {
        let folder = broker.scratch.clone();
        let (input, output) = (folder.join("scenario.toml"), folder.join("load.json"));
        let written = toml::to_string(scenario).map_err(|error| error.to_string());
        written
            .and_then(|text| std::fs::write(&input, text).map_err(|error| error.to_string()))
            .map_err(|error| broker.broken(format!("cannot write {}: {error}", input.display())))?;
        let program = self.generator(broker, &input, &output).map_err(|e| broker.broken(e))?;
        let mut generator = Kept::start(&Start {
            program: &program,
            cpus: self.load_cpus.as_ref(),
            cgroup: None,
            scratch: &self.scratch,
            log: folder.join("load.log"),
        })
        .map_err(|reason| broker.broken(reason))?;
        let planned = u64::from(scenario.warm_up_seconds) + 2 * u64::from(scenario.seconds);
        let within = Duration::from_secs(planned + LOAD_GRACE_SECONDS);
        let outcome = self.attend(broker, &mut generator, within);
        let load = std::fs::read(&output)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_slice::<Load>(&text).map_err(|e| e.to_string()));
        match (outcome, load) {
            (Ok(status), Ok(load)) if status.success() || load.broken_off.is_some() => Ok(load),
            (Ok(status), load) => {
                let reason = format!("the load generator failed ({status}): {}", generator.said(1));
                Err(Broken { load: load.ok().map(Box::new), ..broker.broken(reason) })
            }
            (Err(reason), load) => {
                Err(Broken { load: load.ok().map(Box::new), ..broker.broken(reason) })
            }
        }
    }

    /// The generator's command line.
    fn generator(
        &self,
        broker: &Broker<'_>,
        input: &Path,
        output: &Path,
    ) -> Result<Vec<String>, String> {
        let own = std::env::current_exe().map_err(|error| format!("who am I: {error}"))?;
        let words = [
            own.to_string_lossy().as_ref(),
            "load",
            "--bootstrap",
            &format!("127.0.0.1:{}", broker.port),
            "--scenario",
            &input.to_string_lossy(),
            "--system",
            &broker.system.name,
            "--durability",
            &format!("{:?}", broker.system.durability).to_lowercase(),
            "--json",
            &output.to_string_lossy(),
            "--quiet",
        ]
        .map(str::to_owned);
        Ok(words.to_vec())
    }

    /// Waits for the generator. Where there is no sense in waiting any longer it is asked to end
    /// and may still write down what it measured.
    fn attend(
        &self,
        broker: &mut Broker<'_>,
        generator: &mut Kept,
        within: Duration,
    ) -> Result<ExitStatus, String> {
        const LAST_WORDS_WITHIN: Duration = Duration::from_secs(15);
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = generator.ended() {
                return match broker.kept.ended() {
                    Some(died) => {
                        Err(format!("{} died under load ({died})", broker.system.label()))
                    }
                    None => Ok(status),
                };
            }
            let late = Instant::now() >= deadline;
            let reason = self
                .lost(broker)
                .or_else(|| late.then(|| "the load generator did not end".to_owned()));
            if let Some(reason) = reason {
                generator.signal(Signal::INT);
                let _ = generator.wait(LAST_WORDS_WITHIN);
                return Err(format!("{}: {reason}", broker.system.label()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Takes the broker down and up again on the same folder.
    fn restart(&self, broker: &mut Broker<'_>, how: Restart) -> Result<Restarted, String> {
        let label = broker.system.label();
        let partitions = ready::partitions(broker.port).map_err(|e| format!("{label}: {e}"))?;
        let stopping = Instant::now();
        match how {
            Restart::Clean => {
                if let Some(complaint) = broker.stop() {
                    return Err(complaint);
                }
            }
            Restart::Killed => {
                broker.kept.signal(Signal::KILL);
                broker.kept.end();
            }
        }
        let stop_seconds = stopping.elapsed().as_secs_f64();
        let began = Instant::now();
        let scratch = broker.scratch.clone();
        let next = self.start(broker.system, broker.port, broker.cgroup, &scratch)?;
        *broker = next;
        self.serves(broker, began).map_err(|reason| format!("after the restart, {reason}"))?;
        let first_ack_seconds = began.elapsed().as_secs_f64();
        let port = broker.port;
        let give_up = || self.lost(broker);
        let all =
            ready::until(began + self.start_within, give_up, || ready::leaders(port, &partitions));
        all.map_err(|reason| format!("after the restart, {label}: {reason}"))?;
        let all_leaders_seconds = began.elapsed().as_secs_f64();
        Ok(Restarted { stop_seconds, first_ack_seconds, all_leaders_seconds })
    }
}

impl Broker<'_> {
    fn broken(&self, reason: String) -> Broken {
        Broken { reason, said: self.kept.said(LOG_TAIL_LINES), load: None }
    }

    /// Asks it to stop and waits; what does not end by itself is killed, and that is worth a word.
    fn stop(&mut self) -> Option<String> {
        self.kept.signal(Signal::TERM);
        let ended = self.kept.wait(Duration::from_secs(STOP_SECONDS_MAX));
        self.kept.end();
        match ended {
            Some(_) => None,
            None => Some(format!(
                "{} did not end within {STOP_SECONDS_MAX} s of SIGTERM and was killed",
                self.system.label()
            )),
        }
    }
}

/// What the generator's result says between the lines.
fn remarks(system: &SystemSpec, load: &Load) -> Vec<String> {
    let mut found = Vec::new();
    for (code, count) in &load.errors {
        found.push(format!("{} answered {count} times with {code}", system.label()));
    }
    found.extend(load.undelivered_words().map(|words| format!("{}: {words}", system.label())));
    if load.generator.was_the_limit {
        found.push(format!(
            "the generator, not {}, may have set the pace of a run (`generator` in the JSON says \
             why): read its throughput as a lower bound",
            system.label()
        ));
    }
    found
}

/// Begin and end of the measured part, milliseconds since 1970.
fn measured_part(load: &Load, ended_ms: f64) -> (f64, f64) {
    let length_ms = load.measured_seconds * 1e3;
    match load.measured_from_unix_ms {
        0 => (ended_ms - length_ms, ended_ms),
        from => (from as f64, from as f64 + length_ms),
    }
}

fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

/// The first of two neighbouring free ports: some systems want a second one beside the first.
fn free_ports(from: u16) -> Result<u16, String> {
    const TRIES: u16 = 50;
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..TRIES)
        .map(|step| from.saturating_add(2 * step))
        .find(|port| *port < u16::MAX && free(*port) && free(port + 1))
        .ok_or_else(|| format!("no two free ports in {from}..{}", from.saturating_add(2 * TRIES)))
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::round;
    use super::*;

    #[test]
    fn the_measured_part_is_where_the_generator_says_or_at_the_end() {
        let mut load = round(0, 0, 1.0, 1.0).load;
        assert_eq!(measured_part(&load, 99_000.0), (1_000.0, 11_000.0));
        load.measured_from_unix_ms = 0;
        assert_eq!(measured_part(&load, 99_000.0), (89_000.0, 99_000.0));
    }

    #[test]
    fn ports_come_in_free_pairs() {
        let port = free_ports(22_250).expect("two free ports");
        let taken = std::net::TcpListener::bind(("127.0.0.1", port + 1)).expect("it was free");
        let next = free_ports(port).expect("two free ports");
        assert!(next > port, "{next}");
        drop(taken);
    }

    #[test]
    fn errors_and_a_slow_generator_are_worth_a_word() {
        let system: SystemSpec = "a=D1=x {port} {data}".parse().expect("well formed");
        let mut load = round(0, 0, 1.0, 1.0).load;
        assert!(remarks(&system, &load).is_empty());
        load.errors.insert("NOT_LEADER_OR_FOLLOWER".to_owned(), 3);
        load.generator.was_the_limit = true;
        let found = remarks(&system, &load);
        assert_eq!(found[0], "a D1 answered 3 times with NOT_LEADER_OR_FOLLOWER");
        assert!(found[1].contains("lower bound"));
        load.undelivered = vec![0, 7, 2];
        let found = remarks(&system, &load);
        assert!(
            found[1].starts_with("a D1: 2 of 3 tail consumers") && found[1].contains("up to 7")
        );
    }
}
