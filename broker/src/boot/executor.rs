//! The executor of a core, and the ring it works on.
//!
//! Does: make a glommio executor on the calling thread; find the descriptor of its ring for files, so
//! that the core can sleep elsewhere and still hear of it.
//! Does not: run it.
//! Invariants: rings are made one core after the other, so that a new one belongs to the newest.
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
use std::sync::{Arc, Mutex, PoisonError};

use flumen_storage::io::ring::Ring;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use crate::limits::{IO_MEMORY_BYTES, PREEMPT_TIMER, RING_DEPTH};

/// The ring on which an executor reads and writes files, by descriptor. It is open as long as the
/// executor lives, and readable while a completion waits there.
#[derive(Clone, Copy)]
pub struct ExecutorRing(pub RawFd);

/// Held by the core that makes its rings; one for all cores of the process.
pub type OneAtATime = Arc<Mutex<()>>;

/// Makes the executor of a core, and the core's own ring, for the calling thread.
///
/// # Errors
/// The operating system's reason, in words.
pub fn make(
    one_at_a_time: &OneAtATime,
    placement: Placement,
    name: &str,
) -> Result<(LocalExecutor, ExecutorRing, Ring), String> {
    let _guard = one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
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
