//! How fast the bytes of a connection move that others wait for.
//!
//! Does: count what moved since some time ago, and compare that with the least it may be.
//! Does not: close anything; `connections.rs` does.
//! Invariants: what moved long ago does not excuse who moves nothing now.
//! Apart because a connection only needs to know yes or no, for what it sends and for what it is sent.

use std::time::Duration;

use flumen_protocol::time::Monotonic;

/// What moved since there was something to move, or since that was last found to be enough.
pub struct Flow {
    since: Monotonic,
    bytes: usize,
}

impl Flow {
    /// There is something to move from now on.
    pub fn begin(now: Monotonic) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// So many bytes moved.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether less than so many bytes a second moved, after so long at the earliest. To be asked now and
    /// then.
    pub fn is_slow(&mut self, now: Monotonic, grace: Duration, bytes_per_second: u64) -> bool {
        let took: Duration = now.since(self.since);
        if took <= grace {
            return false;
        }
        let is_slow = (self.bytes as u64) < bytes_per_second.saturating_mul(took.as_secs());
        if !is_slow {
            *self = Self::begin(now);
        }
        is_slow
    }
}
