//! Time as an argument.
//!
//! Does: name the two clocks, so that a deadline is never compared with a record's timestamp.
//! Does not: read any clock; the broker's pump reads both once per turn and hands them down.
//! Invariants: [`Monotonic`] never goes back within a process; [`Wall`] may jump either way and
//! therefore decides nothing but what users see (record timestamps, retention, expiry).
//! Apart because deterministic code must not be able to ask what time it is.

use std::time::Duration;

/// A point on the machine's monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The point `later` from here; saturates at the end of time (584 years).
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A point on the wall clock, in milliseconds since 1970 UTC, as record timestamps count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// Whether the wall clock shows what it should, as far as anybody can tell: what was written long ago
/// is let go only by a clock that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallTrust {
    /// Nothing speaks against it.
    Trusted,
    /// It jumped, and nobody has said that it is right now.
    Doubted,
}

/// Both clocks as one turn of a core sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and timers.
    pub monotonic: Monotonic,
    /// For timestamps and retention.
    pub wall: Wall,
}
