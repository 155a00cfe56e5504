//! What the manifest's records add up to.
//!
//! Does: replay records, and give back the fewest records that replay to the same.
//! Does not: know how records reach the disk.
//! Invariants: replaying [`Image::records`] into an empty image gives an equal image; a segment is
//! in a log or condemned, never both.
//! Apart because recovery, the running store and `inspect` all need the same sum.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flumen_protocol::entry::HardState;
use flumen_protocol::ids::{LogId, LogIndex, Offset, Term};
use flumen_protocol::time::Wall;

use super::hold::{Hold, Void};
use super::record::{LogRecord, Record};
use crate::segment::set::Segments;

/// Everything the manifest of one core says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The logs there are.
    pub logs: BTreeMap<LogId, LogImage>,
    /// Segments whose files are still to be deleted.
    pub condemned: BTreeSet<(LogId, Offset)>,
    /// Deleted logs the journal may still hold something of: up to which sequence.
    pub deleted: BTreeMap<LogId, u64>,
    /// The wall clock is in doubt, and this is what it was last trusted to show.
    pub doubted: Option<Wall>,
    /// Ranges of journal sequences, first and last, whose loss an operator accepted although it
    /// could not be told whose all of them were.
    pub accepted: BTreeSet<(u64, u64)>,
}

/// One log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogImage {
    /// What its Raft member promised, as far as it was known at the last record.
    pub hard_state: HardState,
    /// The last settled entry and its term.
    pub settled: (LogIndex, Term),
    /// The entry up to which `state` is applied.
    pub applied: LogIndex,
    /// The first offset the log has.
    pub start: Offset,
    /// What lies in segments.
    pub segments: Segments,
    /// One after the last settled offset.
    ///
    /// Invariant: the end of `segments`, unless all of them were deleted.
    pub settled_end: Offset,
    /// The replication core's own state.
    pub state: Bytes,
    /// Why the log takes no records, if it does not. Only a start sets it or lets go of it.
    pub hold: Option<Hold>,
    /// Frames of the journal that mean nothing. Only a start sets it or forgets it.
    pub void: Option<Void>,
}

impl LogImage {
    /// A log that has nothing yet.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            hard_state: HardState::INITIAL,
            settled: (LogIndex::ZERO, Term::ZERO),
            applied: LogIndex::ZERO,
            start: Offset::ZERO,
            segments: Segments::default(),
            settled_end: Offset::ZERO,
            state: Bytes::new(),
            hold: None,
            void: None,
        }
    }

    /// The record that says all of this but the sealed segments and what damage left behind.
    #[must_use]
    pub fn record(&self, log: LogId) -> LogRecord {
        LogRecord {
            log,
            hard_state: self.hard_state,
            settled: self.settled,
            applied: self.applied,
            start: self.start,
            settled_end: self.settled_end,
            active: self.segments.active(),
            state: self.state.clone(),
        }
    }
}

impl Image {
    /// Takes in one record. Says `false` if it contradicts what is known.
    #[must_use]
    pub fn apply(&mut self, record: Record) -> bool {
        match record {
            Record::Log(record) => self.apply_log(record),
            Record::Sealed { log, segment } => {
                let image = self.logs.entry(log).or_insert_with(LogImage::empty);
                let known = image.segments.all();
                let follows = match known.last() {
                    Some(last) if last.base == segment.base => {
                        known.len() < 2 || known[known.len() - 2].end == segment.base
                    }
                    Some(last) => last.end == segment.base,
                    None => true,
                };
                if follows {
                    image.segments.put_last(segment, None);
                    image.settled_end = segment.end;
                }
                follows
            }
            Record::Condemned { log, base } => {
                self.condemned.insert((log, base));
                self.logs.get_mut(&log).is_some_and(|image| image.segments.drop_first(base))
            }
            Record::Gone { log, base } => {
                self.condemned.remove(&(log, base));
                true
            }
            Record::Deleted { log, sequence } => {
                if let Some(image) = self.logs.remove(&log) {
                    let bases = image.segments.all().iter().map(|segment| (log, segment.base));
                    self.condemned.extend(bases);
                }
                self.deleted.insert(log, sequence);
                true
            }
            Record::Forgotten { log } => {
                self.deleted.remove(&log);
                true
            }
            Record::Leftover { log, base } => {
                self.condemned.insert((log, base));
                true
            }
            Record::Clock { doubted } => {
                self.doubted = doubted;
                true
            }
            Record::Held { log, hold } => {
                self.logs.get_mut(&log).map(|image| image.hold = Some(hold)).is_some()
            }
            Record::Void { log, void } => {
                self.logs.get_mut(&log).map(|image| image.void = Some(void)).is_some()
            }
            Record::Accepted { first, last } => {
                self.accepted.insert((first, last));
                true
            }
        }
    }

    fn apply_log(&mut self, record: LogRecord) -> bool {
        let image = self.logs.entry(record.log).or_insert_with(LogImage::empty);
        if let Some((segment, active)) = record.active {
            let last = image.segments.all().last();
            if last.is_some_and(|last| last.base != segment.base && last.end != segment.base) {
                return false;
            }
            image.segments.put_last(segment, Some(active));
        }
        if image.segments.end().is_some_and(|end| end != record.settled_end) {
            return false;
        }
        image.hard_state = record.hard_state;
        image.settled = record.settled;
        image.applied = record.applied;
        image.start = record.start;
        image.settled_end = record.settled_end;
        image.state = record.state;
        true
    }

    /// The fewest records that say the same.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        // Deletions come first: a log that was made anew must not be deleted by its past.
        let deleted = self
            .deleted
            .iter()
            .map(|(log, sequence)| Record::Deleted { log: *log, sequence: *sequence });
        let logs = self.logs.iter().flat_map(|(log, image)| {
            let sealed = image.segments.sealed().iter();
            sealed
                .map(|segment| Record::Sealed { log: *log, segment: *segment })
                .chain(std::iter::once(Record::Log(image.record(*log))))
                .chain(image.hold.iter().map(|hold| Record::Held { log: *log, hold: hold.clone() }))
                .chain(image.void.iter().map(|void| Record::Void { log: *log, void: *void }))
        });
        let condemned =
            self.condemned.iter().map(|(log, base)| Record::Leftover { log: *log, base: *base });
        let doubted = self.doubted.map(|wall| Record::Clock { doubted: Some(wall) });
        let accepted = self.accepted.iter();
        let accepted =
            accepted.map(|(first, last)| Record::Accepted { first: *first, last: *last });
        deleted.chain(logs).chain(condemned).chain(accepted).chain(doubted)
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{PartitionIndex, TopicId};

    use super::*;
    use crate::op::Quarantined;
    use crate::segment::segment::{Active, OpenChunk, Segment};

    fn log(partition: i32) -> LogId {
        LogId { topic: TopicId([1; 16]), partition: PartitionIndex(partition) }
    }

    fn segment(base: i64, end: i64) -> Segment {
        Segment { base: Offset(base), end: Offset(end), length: 9, max_timestamp: 1, written: 2 }
    }

    fn grown(image: &LogImage, log: LogId, base: i64, end: i64) -> Record {
        let open = OpenChunk::at(Offset(base), 0);
        let active = Active { first_timestamp: 1, index_blocks: 0, open, partial_crc: 0 };
        let mut record = image.record(log);
        record.active = Some((segment(base, end), active));
        record.settled_end = Offset(end);
        Record::Log(record)
    }

    #[test]
    fn the_fewest_records_replay_to_the_same() {
        let mut image = Image::default();
        let empty = LogImage::empty();
        assert!(image.apply(grown(&empty, log(0), 0, 5)));
        assert!(image.apply(Record::Sealed { log: log(0), segment: segment(0, 7) }));
        assert!(image.apply(grown(&empty, log(0), 7, 9)));
        assert!(image.apply(Record::Condemned { log: log(0), base: Offset(0) }));
        assert!(image.apply(grown(&empty, log(1), 0, 3)));
        assert!(image.apply(Record::Deleted { log: log(1), sequence: 44 }));
        assert!(image.apply(grown(&empty, log(1), 0, 2)));
        assert!(image.apply(Record::Clock { doubted: Some(Wall(7)) }));
        let (end, until) = (Offset(2), Offset(9));
        let files = vec![Quarantined { sequence: 3, checksum: 4 }];
        let hold = Hold { first: LogIndex(4), last: LogIndex(5), end, until, files };
        assert!(image.apply(Record::Held { log: log(1), hold: hold.clone() }));
        assert!(image.apply(Record::Held { log: log(0), hold }));
        let void = Void { after: LogIndex(3), sequence: 99 };
        assert!(image.apply(Record::Void { log: log(1), void }));
        assert!(image.apply(Record::Accepted { first: 5, last: 6 }));
        let mut again = Image::default();
        assert!(image.records().all(|record| again.apply(record)));
        assert_eq!(again, image);
        assert_eq!(image.condemned.len(), 2);
        assert!(image.apply(Record::Deleted { log: log(1), sequence: 120 }));
        assert!(image.logs[&log(0)].hold.is_some() && !image.logs.contains_key(&log(1)));
    }

    #[test]
    fn a_segment_that_does_not_follow_is_a_contradiction() {
        let mut image = Image::default();
        assert!(image.apply(grown(&LogImage::empty(), log(0), 0, 5)));
        assert!(!image.apply(grown(&LogImage::empty(), log(0), 6, 9)));
        assert!(!image.apply(Record::Condemned { log: log(0), base: Offset(3) }));
    }
}
