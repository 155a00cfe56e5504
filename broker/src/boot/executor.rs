//! The executor of a core, and the ring it works on.
//!
//! Does: make a glommio executor on the calling thread; find the descriptor of its ring for files, so
//! that the core can sleep elsewhere and still hear of it.
//! Does not: run it.
//! Invariants: rings are made one core after the other, and before any core opens a file, so that
//! the lowest new number is the first ring that was made.
//! Apart because glommio does not name its rings: this is the only place that goes by the names
//! the system gives descriptors.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "before the core runs: cores are made one after the other, from what the system shows"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::RawFd;
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use flumen_storage::io::ring::Ring;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use crate::limits::{IO_MEMORY_BYTES, PREEMPT_TIMER, RING_DEPTH};

/// The ring on which an executor reads and writes files, by descriptor. It is open as long as the
/// executor lives, and readable while a completion waits there.
#[derive(Clone, Copy)]
pub struct ExecutorRing(pub RawFd);

/// Where the cores of a process meet while they make their rings: one makes at a time, and none goes
/// on before all have. Who recovers opens and closes files, and a ring made meanwhile could get a
/// lower number than the one before it.
pub struct Meeting {
    one_at_a_time: Mutex<()>,
    all: Barrier,
}

impl Meeting {
    /// Of so many cores, each of which must come.
    #[must_use]
    pub fn of(cores: u16) -> Arc<Self> {
        let all = Barrier::new(usize::from(cores));
        Arc::new(Self { one_at_a_time: Mutex::new(()), all })
    }
}

/// Makes the executor of a core, and the core's own ring, for the calling thread; comes back when
/// every core of the meeting has its own.
///
/// # Errors
/// The operating system's reason, in words. The other cores then wait for good: end the process.
pub fn make(
    meeting: &Meeting,
    placement: Placement,
    name: &str,
) -> Result<(LocalExecutor, ExecutorRing, Ring), String> {
    let made = make_alone(meeting, placement, name)?;
    meeting.all.wait();
    Ok(made)
}

fn make_alone(
    meeting: &Meeting,
    placement: Placement,
    name: &str,
) -> Result<(LocalExecutor, ExecutorRing, Ring), String> {
    let _guard = meeting.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = |error: String| format!("cannot start a core: {error}; see `flumen doctor`");
    let own = Ring::new().map_err(|error| refused(error.to_string()))?;
    let before = rings()?;
    let executor = LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|error| refused(error.to_string()))?;
    // Of the three it makes, the first is for files; the others hold timers and sockets.
    let first = rings()?.difference(&before).next().copied();
    let ring = first.ok_or_else(|| refused("its executor has no ring".to_owned()))?;
    Ok((executor, ExecutorRing(ring), own))
}

/// The descriptors of all rings of this process.
fn rings() -> Result<BTreeSet<RawFd>, String> {
    let unreadable = |error| format!("cannot see this process's descriptors in /proc: {error}");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fd").map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let is_ring = fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == RING_NAME);
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        found.extend(number.filter(|_| is_ring));
    }
    Ok(found)
}

const RING_NAME: &str = "anon_inode:[io_uring]";
