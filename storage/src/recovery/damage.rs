//! What recovery found damaged or cut, and how it is set aside.
//!
//! Does: describe ranges exactly, find out whose entries a lost range held, lay out and name
//! quarantine files.
//! Does not: decide that something is damaged; the verdict table does.
//! Invariants: a range is called identified only if every sequence in it is accounted for; a
//! quarantine file is never written over with other bytes, because its name says what is in it.
//! Apart because reporting truthfully what is gone is a promise of its own (rules (a) and (c) of
//! the recovery decisions).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flumen_protocol::ids::{LogId, LogIndex, Offset};

use crate::op::{Action, DiskOp, FileName, OpIds, Quarantined};
pub use crate::recovery::verdict::Reason;

/// Which entries of a log a damaged range took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Whose entries.
    pub log: LogId,
    /// The first one.
    pub first: LogIndex,
    /// The last one.
    pub last: LogIndex,
    /// One after the last offset they held, if a header still says so.
    pub until: Option<Offset>,
}

/// A range that was durable and is not readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// Which journal file, if it is known.
    pub slot: Option<u64>,
    /// Where in the file it begins.
    pub at: u64,
    /// Its first sequence.
    pub first_sequence: u64,
    /// Its last sequence.
    pub last_sequence: u64,
    /// The bytes found there.
    pub bytes: Bytes,
    /// What is wrong.
    pub reason: Reason,
    /// Whose entries it took, as far as that is known.
    pub victims: Vec<Victim>,
    /// Whether `victims` is all of it.
    pub identified: bool,
    /// How many sequences of it are known to have held nothing of any log.
    pub(crate) harmless: u64,
}

impl DamagedRange {
    fn unaccounted(&self) -> u64 {
        let named: u64 = self.victims.iter().map(|victim| victim.last.0 - victim.first.0 + 1).sum();
        (self.last_sequence - self.first_sequence + 1).saturating_sub(named + self.harmless)
    }

    /// One line for the operator and the log.
    #[must_use]
    pub fn describe(&self) -> String {
        let slot = self.slot.map_or("an unknown file".to_owned(), |slot| {
            format!("journal file {slot} at {}", self.at)
        });
        let mut text = format!(
            "sequences {} to {} damaged ({:?}) in {slot}, {} bytes set aside",
            self.first_sequence,
            self.last_sequence,
            self.reason,
            self.bytes.len()
        );
        for Victim { log, first, last, until: _ } in &self.victims {
            text.push_str(&format!("; {log} lost entries {first} to {last}"));
        }
        if !self.identified {
            text.push_str("; it cannot be told whose all of them were");
        }
        text
    }

    /// Whether an operator accepted before that all of it is lost.
    pub(crate) fn is_accepted(&self, accepted: &BTreeSet<(u64, u64)>) -> bool {
        covers(accepted, (self.first_sequence, self.last_sequence))
    }

    /// The file its bytes are set aside in.
    #[must_use]
    pub fn set_aside(&self) -> SetAside {
        SetAside::new(self.first_sequence, &self.describe(), vec![self.bytes.clone()])
    }
}

/// Whether every sequence of a range, both ends included, is in some of these. A later start may find as
/// one what an earlier one told apart.
pub(super) fn covers(ranges: &BTreeSet<(u64, u64)>, (first, last): (u64, u64)) -> bool {
    let behind = ranges.iter().fold(first, |next, (from, to)| {
        if (*from..=*to).contains(&next) { to.saturating_add(1) } else { next }
    });
    behind > last
}

/// Follows the indices of every log through the journal, so that a jump tells whose entries a
/// damaged range took.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    /// Last index seen of each log, and the sequence it was seen at.
    seen: BTreeMap<LogId, (LogIndex, u64)>,
}

impl Tracker {
    /// An entry was found (good or with a damaged payload).
    pub(crate) fn entry(
        &mut self,
        log: LogId,
        index: LogIndex,
        sequence: u64,
        damaged: &mut [DamagedRange],
    ) {
        let before = self.seen.insert(log, (index, sequence));
        let Some((last, seen_at)) = before else { return };
        let mut missing = last.next();
        for range in damaged.iter_mut().filter(|range| range.first_sequence > seen_at) {
            if missing >= index {
                return;
            }
            let count = range.unaccounted().min(index.0 - missing.0);
            if count > 0 {
                let last = LogIndex(missing.0 + count - 1);
                range.victims.push(Victim { log, first: missing, last, until: None });
                missing = last.next();
            }
        }
    }

    /// The log was cut before this index.
    pub(crate) fn cut(&mut self, log: LogId, from: LogIndex, sequence: u64) {
        self.seen.insert(log, (LogIndex(from.0.saturating_sub(1)), sequence));
    }

    /// All frames were seen.
    pub(crate) fn finish(self, damaged: &mut [DamagedRange]) {
        for range in damaged {
            range.identified = range.unaccounted() == 0;
        }
    }
}

/// A quarantine file that is to be written: a line of text, an empty line, the bytes.
#[derive(Clone, Debug)]
pub struct SetAside {
    /// Its name.
    pub name: Quarantined,
    parts: Vec<Bytes>,
}

impl SetAside {
    /// Sets these bytes aside under the first sequence they concern.
    pub(crate) fn new(sequence: u64, description: &str, bytes: Vec<Bytes>) -> Self {
        let head = format!("Flumen set these bytes aside: {description}.\n\n");
        let mut parts = vec![Bytes::from(head)];
        parts.extend(bytes);
        let checksum = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        Self { name: Quarantined { sequence, checksum }, parts }
    }

    /// The operation that writes it, durably; repeating it changes nothing.
    pub(crate) fn into_op(self, ids: &mut OpIds) -> DiskOp {
        let action = Action::Replace { parts: self.parts };
        DiskOp { id: ids.next_id(), file: FileName::Quarantine(self.name), action }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_what_each_sequence_of_which_is_in_some() {
        let ranges = BTreeSet::from([(2, 3), (4, 9), (5, 6), (8, 12), (14, 20)]);
        for range in [(2, 3), (3, 4), (2, 12), (9, 10), (14, 20), (16, 16)] {
            assert!(covers(&ranges, range), "{range:?}");
        }
        for range in [(1, 3), (12, 13), (12, 14), (13, 13), (15, 21), (21, 21)] {
            assert!(!covers(&ranges, range), "{range:?}");
        }
    }
}
