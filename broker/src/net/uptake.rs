//! How fast a client takes its answers.
//!
//! Does: count what the socket took since some time ago, and compare that with the least it may.
//! Does not: close anything; `connections.rs` does, and only while others need the memory.
//! Invariants: what was taken long ago does not excuse who takes nothing now.
//! Apart because a connection only needs to know yes or no.

use std::time::Duration;

use flumen_protocol::time::Monotonic;

use crate::limits::{ANSWER_BYTES_PER_SECOND_WHEN_FULL, ANSWER_GRACE};

/// What a client took since answers began to wait for it, or since it was last found fast enough.
pub struct Uptake {
    since: Monotonic,
    bytes: usize,
}

impl Uptake {
    /// Answers begin to wait.
    pub fn begin(now: Monotonic) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// The socket took so many bytes.
    pub fn take(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether that is too slow while others wait. To be asked now and then.
    pub fn is_slow(&mut self, now: Monotonic) -> bool {
        let took: Duration = now.since(self.since);
        if took <= ANSWER_GRACE {
            return false;
        }
        let least = ANSWER_BYTES_PER_SECOND_WHEN_FULL.saturating_mul(took.as_secs());
        let is_slow = (self.bytes as u64) < least;
        if !is_slow {
            *self = Self::begin(now);
        }
        is_slow
    }
}
