//! What a log remembers of damage to its journal entries.
//!
//! Does: say that a log is held, and which frames of the journal mean nothing any more.
//! Does not: find damage or let go of it; `recovery/losses` does both, before the store is there.
//! Invariants: a hold is recorded only after everything it names is durable in quarantine files.
//! Apart because manifest, recovery, `inspect` and the broker all speak of it.

use std::fmt;

use flumen_protocol::ids::{LogIndex, Offset};

use crate::op::Quarantined;

/// Why a log takes no records: acknowledged entries of it are lost, and nobody accepted that yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The first entry that is lost.
    pub first: LogIndex,
    /// The last entry that is lost or cannot be appended because one before it is.
    pub last: LogIndex,
    /// Where the log ends: nothing from here on is served.
    pub end: Offset,
    /// One after the last offset the log is known to have had; `end` if that is unknown.
    pub until: Offset,
    /// What was set aside of it, in order of the journal: damaged bytes as they were found, and the
    /// intact batches behind them.
    pub files: Vec<Quarantined>,
}

/// Frames of a log that mean nothing: those of entries after `after` (and promises about them), as
/// far as the journal had them when the damage before them was found.
///
/// Later frames of the same indices have a higher sequence, which no earlier one ever gets: that,
/// not the term, tells what came after from what was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Void {
    /// The last entry that was kept.
    pub after: LogIndex,
    /// The last journal sequence there was.
    pub sequence: u64,
}

impl Void {
    /// Whether a frame of this entry at this place is one of those.
    #[must_use]
    pub fn covers(&self, sequence: u64, index: LogIndex) -> bool {
        sequence <= self.sequence && index > self.after
    }
}

impl Hold {
    /// The same log lost more while it was held, or the loss before was never accepted.
    #[must_use]
    pub(crate) fn joined(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        let mut files = earlier.files;
        files.extend(self.files);
        files.sort_unstable();
        files.dedup();
        Self {
            first: self.first.min(earlier.first),
            last: self.last.max(earlier.last),
            end: self.end.min(earlier.end),
            until: self.until.max(earlier.until),
            files,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, end, until, files } = self;
        write!(f, "entries {first} to {last} are damaged or lie behind damage; ")?;
        if until > end {
            // The last entry lost may be one of which no header says where it ended.
            write!(f, "offsets {end} to {} are not served, nor any behind them", until.0 - 1)?;
        } else {
            write!(f, "nothing from offset {end} on is served")?;
        }
        for (at, file) in files.iter().enumerate() {
            write!(f, "{}{file}", if at == 0 { "; set aside in " } else { ", " })?;
        }
        Ok(())
    }
}
