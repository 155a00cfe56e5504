//! The referee's end of a keeper.
//!
//! Does: start a program through a keeper, signal it, wait for it, end it.
//! Does not: know what the program is.
//! Invariants: dropping it ends the program and everything that descends from it.
//! Apart because brokers and generators are started and ended alike.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::cpus::CpuList;
use super::keeper::{FAREWELL, signal_group};

/// How often a waiting referee looks up.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Program and arguments.
    pub program: &'a [String],
    /// CPUs it may use.
    pub cpus: Option<&'a CpuList>,
    /// A cgroup of its own.
    pub cgroup: Option<&'a Path>,
    /// Removed by the keeper when the referee vanishes.
    pub scratch: &'a Path,
    /// Where it writes.
    pub log: PathBuf,
}

/// A running program.
#[derive(Debug)]
pub struct Kept {
    keeper: Child,
    hand: Option<ChildStdin>,
    first: Pid,
    log: PathBuf,
}

impl Kept {
    /// Starts it.
    ///
    /// # Errors
    /// A line: the keeper or the program cannot be started.
    pub fn start(start: &Start<'_>) -> Result<Self, String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        let own = std::env::current_exe().map_err(|e| failed("cannot find this program", &e))?;
        let log = File::options().create(true).append(true).open(&start.log);
        let log = log.map_err(|e| failed(&format!("cannot write {}", start.log.display()), &e))?;
        let mut command = Command::new(own);
        command.arg("keep").arg("--scratch").arg(start.scratch);
        if let Some(cpus) = start.cpus {
            command.arg("--cpus").arg(cpus.to_string());
        }
        if let Some(cgroup) = start.cgroup {
            command.arg("--cgroup").arg(cgroup);
        }
        command.arg("--").args(start.program);
        // A group of its own: Ctrl-C reaches the referee only, which then ends things in order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = command.spawn().map_err(|e| failed("cannot start the keeper", &e))?;
        let hand = keeper.stdin.take();
        let mut line = String::new();
        if let Some(out) = keeper.stdout.take() {
            let _ = BufReader::new(out).read_line(&mut line);
        }
        match line.trim().parse().ok().and_then(Pid::from_raw) {
            Some(first) => Ok(Self { keeper, hand, first, log: start.log.clone() }),
            None => {
                drop(hand);
                let _ = keeper.wait();
                Err(format!("cannot start {:?}: {}", start.program.join(" "), tail(&start.log, 1)))
            }
        }
    }

    /// The keeper's process, whose descendants the program is.
    #[must_use]
    pub fn keeper_pid(&self) -> i32 {
        i32::try_from(self.keeper.id()).unwrap_or(i32::MAX)
    }

    /// Signals the program's process group.
    pub fn signal(&self, signal: Signal) {
        signal_group(self.first, signal);
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.keeper.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() >= deadline {
                return ended;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Lets go: whatever still runs is killed, and nobody is left when this returns.
    pub fn end(&mut self) {
        if let Some(mut hand) = self.hand.take() {
            let _ = hand.write_all(&[FAREWELL]);
        }
        let _ = self.keeper.wait();
    }

    /// The last lines it wrote.
    #[must_use]
    pub fn said(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of a file; empty where there is none.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
