//! The keeper: a small process between the referee and what it starts.
//!
//! Does: start one program on its CPUs, adopt everything that descends from it, and end all of
//! that when the referee is gone, however it went.
//! Does not: decide when; measure.
//! Invariants: while the keeper lives its standard input is the referee's hand: when that lets go
//! without a farewell, every descendant is killed and the scratch folder removed. The keeper ends
//! when no descendant is left, with the exit code of its first child.
//! Apart because a referee that crashed or was killed can clean up nothing itself.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use super::cpus::CpuList;
use super::tree;

/// What the referee writes before it lets go on purpose.
pub const FAREWELL: u8 = b'.';

/// Options of the hidden subcommand that every start goes through.
#[derive(Debug, clap::Args)]
pub struct KeepArgs {
    /// CPUs that the program may use
    #[arg(long)]
    cpus: Option<CpuList>,
    /// A cgroup (v2) folder to start the program in
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Removed when the referee vanishes
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// Runs the keeper.
#[must_use]
pub fn keep(args: KeepArgs) -> ExitCode {
    match started(&args) {
        Ok(first) => {
            let abandoned = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&abandoned);
            let hand = std::thread::spawn(move || hold_hands(&args, &told));
            let code = outlive(first);
            if abandoned.load(Ordering::Acquire) {
                // The last descendant is gone, what they left behind may not be yet.
                let _ = hand.join();
            }
            ExitCode::from(code)
        }
        Err(reason) => {
            // It may have failed behind the start: then somebody runs whom nobody knows of.
            tree::kill_descendants(rustix::process::getpid());
            eprintln!("{reason}");
            ExitCode::from(127)
        }
    }
}

fn started(args: &KeepArgs) -> Result<Pid, String> {
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own))
        .map_err(|error| format!("cannot adopt orphans: {error}"))?;
    if let Some(cpus) = &args.cpus {
        cpus.pin().map_err(|error| format!("cannot use CPUs {cpus}: {error}"))?;
    }
    // In before the start and out after it: no descendant is ever outside, and the keeper's own
    // time is not the program's.
    let home = args.cgroup.as_deref().and_then(Path::parent);
    if let Some(cgroup) = &args.cgroup {
        join(cgroup).map_err(|error| format!("cannot join {}: {error}", cgroup.display()))?;
    }
    let (program, words) = args.program.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    // The keeper's standard output belongs to the referee; the program writes to the log.
    let log = std::os::fd::AsFd::as_fd(&std::io::stderr())
        .try_clone_to_owned()
        .map_err(|error| format!("cannot hand over the log: {error}"))?;
    command.stdout(log);
    command.process_group(0);
    let child = command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
    if let Some(home) = home {
        join(home).map_err(|error| format!("cannot leave {}: {error}", home.display()))?;
    }
    // A referee that is gone cannot be told; its hand is empty then, and the child is ended at once.
    let mut referee = std::io::stdout();
    let _ = writeln!(referee, "{}", child.id()).and_then(|()| referee.flush());
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| "no pid".to_owned())
}

fn join(cgroup: &Path) -> std::io::Result<()> {
    std::fs::write(cgroup.join("cgroup.procs"), "0")
}

/// Waits until the referee lets go; without a farewell nothing may be left behind.
fn hold_hands(args: &KeepArgs, abandoned: &AtomicBool) {
    let mut said = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut said);
    let farewell = said.contains(&FAREWELL);
    abandoned.store(!farewell, Ordering::Release);
    tree::kill_descendants(rustix::process::getpid());
    if farewell {
        return;
    }
    if let Some(cgroup) = &args.cgroup {
        removed(cgroup, |path| std::fs::remove_dir(path));
    }
    if let Some(scratch) = &args.scratch {
        removed(scratch, |path| std::fs::remove_dir_all(path));
    }
}

/// Tries until `path` is gone: another keeper may be at it as well and take entries from under this
/// one's hands, and the kernel empties a cgroup in its own time.
pub fn removed(path: &Path, remove: fn(&Path) -> std::io::Result<()>) {
    for _ in 0..50 {
        if remove(path).is_ok() || !path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for every descendant; the first child's exit code is the answer.
fn outlive(first: Pid) -> u8 {
    let mut code = 1;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == first => {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                code =
                    status.exit_status().or(signal).and_then(|c| u8::try_from(c).ok()).unwrap_or(1);
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return code,
        }
    }
}

/// Sends a signal to a process group; one that is gone already needs none.
pub fn signal_group(leader: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(leader, signal);
}
