//! What the manifest's records add up to.
//!
//! Does: replay records, and give back the fewest records that replay to the same.
//! Does not: know how records reach the disk.
//! Invariants: replaying [`Image::records`] into an empty image gives an equal image; a segment is
//! in a log or condemned, never both.
//! Apart because recovery, the running store and `inspect` all need the same sum.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use flumen_protocol::entry::{AbortedTransaction, HardState};
use flumen_protocol::ids::{LogId, LogIndex, Offset, Term};
use flumen_protocol::time::Wall;

use super::hold::{Hold, Void};
use super::record::{LogRecord, Record};
use crate::segment::segment::{Segment, SegmentName};
use crate::segment::set::Segments;

/// Everything the manifest of one core says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The logs there are.
    pub logs: BTreeMap<LogId, LogImage>,
    /// Segments whose files are still to be deleted.
    pub condemned: BTreeSet<SegmentName>,
    /// Deleted logs the journal may still hold something of: up to which sequence.
    pub deleted: BTreeMap<LogId, u64>,
    /// The wall clock is in doubt, and this is what it was last trusted to show.
    pub doubted: Option<Wall>,
    /// Ranges of journal sequences, first and last, that are lost and that no start asks about
    /// again: it could be told whose they were, or an operator accepted that it could not.
    pub accepted: BTreeSet<(u64, u64)>,
    /// Invariant: how many aborted transactions all logs have together.
    aborted_count: usize,
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
    /// Everything before this was cleaned against all records before it; zero if never.
    pub clean_until: Offset,
    /// The replication core's own state.
    pub state: Bytes,
    /// Its aborted transactions, those with a marker below the start left out.
    ///
    /// Invariant: strictly ascending by marker.
    aborted: VecDeque<AbortedTransaction>,
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
            clean_until: Offset::ZERO,
            state: Bytes::new(),
            aborted: VecDeque::new(),
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

impl LogImage {
    fn clean_record(&self, log: LogId) -> Option<Record> {
        let until = self.clean_until;
        (until > Offset::ZERO).then_some(Record::Clean { log, until })
    }
}

/// The aborted transactions of a log.
impl LogImage {
    fn aborted_record(&self, log: LogId) -> Option<Record> {
        let since = self.aborted.front()?.last_offset;
        Some(Record::Aborted { log, since, rows: self.aborted.iter().copied().collect() })
    }

    /// By marker.
    pub fn aborted(&self) -> impl Iterator<Item = &AbortedTransaction> {
        self.aborted.iter()
    }

    /// Bytes of memory they take.
    #[must_use]
    pub fn aborted_bytes(&self) -> usize {
        self.aborted.capacity() * size_of::<AbortedTransaction>()
    }

    /// Takes the rows of a record; `false` if they do not ascend.
    fn replace_aborted(&mut self, since: Offset, rows: &[AbortedTransaction]) -> bool {
        let keep = self.aborted.partition_point(|row| row.last_offset < since);
        self.aborted.truncate(keep);
        let ascends = rows.windows(2).all(|two| two[0].last_offset < two[1].last_offset);
        let (start, first) = (self.start, rows.first());
        self.aborted.extend(rows.iter().filter(|row| row.last_offset >= start));
        ascends && first.is_none_or(|first| first.last_offset >= since)
    }

    /// Those whose records are all gone go, too.
    fn forget_aborted(&mut self) {
        let gone = self.aborted.partition_point(|row| row.last_offset < self.start);
        self.aborted.drain(..gone);
        if self.aborted.len() < self.aborted.capacity() / 4 {
            self.aborted.shrink_to(self.aborted.len() * 2);
        }
    }
}

impl Image {
    /// How many aborted transactions are known of all logs.
    #[must_use]
    pub fn aborted_count(&self) -> usize {
        self.aborted_count
    }

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
                let first = self.logs.get_mut(&log).and_then(|it| it.segments.drop_first(base));
                self.condemned.extend(first.map(|segment| segment.name(log)));
                first.is_some()
            }
            Record::Gone { name } => {
                self.condemned.remove(&name);
                true
            }
            Record::Deleted { log, sequence } => {
                self.apply_deleted(log);
                self.deleted.insert(log, sequence);
                true
            }
            Record::Forgotten { log } => {
                self.deleted.remove(&log);
                true
            }
            Record::Leftover { name } => {
                self.condemned.insert(name);
                true
            }
            Record::Cleaned { log, segment } => self.apply_cleaned(log, segment),
            Record::Clean { log, until } => {
                self.logs.get_mut(&log).map(|image| image.clean_until = until).is_some()
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
            Record::Aborted { log, since, rows } => {
                // It may come before the log has settled anything.
                let image = self.logs.entry(log).or_insert_with(LogImage::empty);
                self.aborted_count -= image.aborted.len();
                let is_sound = image.replace_aborted(since, &rows);
                self.aborted_count += image.aborted.len();
                is_sound
            }
            Record::Accepted { first, last } => {
                self.accepted.insert((first, last));
                true
            }
        }
    }

    fn apply_deleted(&mut self, log: LogId) {
        if let Some(image) = self.logs.remove(&log) {
            self.aborted_count -= image.aborted.len();
            let names = image.segments.all().iter().map(|segment| segment.name(log));
            self.condemned.extend(names);
        }
    }

    fn apply_cleaned(&mut self, log: LogId, segment: Segment) -> bool {
        let image = self.logs.get_mut(&log);
        let Some(old) = image.and_then(|it| it.segments.replace(segment)) else { return false };
        self.condemned.remove(&segment.name(log));
        self.condemned.extend(old.iter().map(|segment| segment.name(log)));
        true
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
        self.aborted_count -= image.aborted.len();
        image.forget_aborted();
        self.aborted_count += image.aborted.len();
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
                .chain(image.clean_record(*log))
                .chain(image.aborted_record(*log))
                .chain(image.hold.iter().map(|hold| Record::Held { log: *log, hold: hold.clone() }))
                .chain(image.void.iter().map(|void| Record::Void { log: *log, void: *void }))
        });
        let condemned = self.condemned.iter().map(|name| Record::Leftover { name: *name });
        let doubted = self.doubted.map(|wall| Record::Clock { doubted: Some(wall) });
        let accepted = self.accepted.iter();
        let accepted =
            accepted.map(|(first, last)| Record::Accepted { first: *first, last: *last });
        deleted.chain(logs).chain(condemned).chain(accepted).chain(doubted)
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{PartitionIndex, ProducerId, TopicId};

    use super::*;
    use crate::op::Generation;
    use crate::op::Quarantined;
    use crate::segment::segment::{Active, OpenChunk};
    use crate::testing::segment_of;

    fn log(partition: i32) -> LogId {
        LogId { topic: TopicId([1; 16]), partition: PartitionIndex(partition) }
    }

    fn segment(base: i64, end: i64) -> Segment {
        Segment { length: 9, written: 2, ..segment_of(base, end, 1) }
    }

    fn grown(image: &LogImage, log: LogId, base: i64, end: i64) -> Record {
        let open = OpenChunk::at(Offset(base), 0);
        let active = Active { index_blocks: 0, open, partial_crc: 0 };
        let mut record = image.record(log);
        record.active = Some((segment(base, end), active));
        record.settled_end = Offset(end);
        Record::Log(record)
    }

    fn aborted(marker: i64) -> AbortedTransaction {
        AbortedTransaction {
            last_offset: Offset(marker),
            first_offset: Offset(marker - 1),
            producer_id: ProducerId(1),
            stable_offset: Offset(marker + 1),
        }
    }

    #[test]
    fn aborted_transactions_are_replaced_from_an_offset_on_and_go_with_the_start() {
        let mut image = Image::default();
        let markers = |image: &Image| -> Vec<i64> {
            image.logs[&log(0)].aborted().map(|row| row.last_offset.0).collect()
        };
        let rows = |markers: &[i64]| markers.iter().map(|marker| aborted(*marker)).collect();
        let take = |image: &mut Image, since: i64, markers: &[i64]| {
            let since = Offset(since);
            image.apply(Record::Aborted { log: log(0), since, rows: rows(markers) })
        };
        assert!(image.apply(grown(&LogImage::empty(), log(0), 0, 9)));
        assert!(take(&mut image, 0, &[3, 5, 8]));
        assert!(take(&mut image, 5, &[6]));
        assert_eq!((markers(&image), image.aborted_count()), (vec![3, 6], 2));
        let mut record = image.logs[&log(0)].record(log(0));
        record.start = Offset(4);
        assert!(image.apply(Record::Log(record)));
        assert!(take(&mut image, 7, &[7]));
        assert_eq!((markers(&image), image.aborted_count()), (vec![6, 7], 2));
        assert!(!take(&mut image, 8, &[9, 9]), "they ascend");
        assert!(image.apply(Record::Deleted { log: log(0), sequence: 1 }));
        assert_eq!(image.aborted_count(), 0);
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
        let (since, rows) = (Offset(0), vec![aborted(1), aborted(8)]);
        assert!(image.apply(Record::Aborted { log: log(0), since, rows }));
        let mut again = Image::default();
        assert!(image.records().all(|record| again.apply(record)));
        assert_eq!(again, image);
        assert_eq!(image.condemned.len(), 2);
        assert!(image.apply(Record::Deleted { log: log(1), sequence: 120 }));
        assert!(image.logs[&log(0)].hold.is_some() && !image.logs.contains_key(&log(1)));
    }

    #[test]
    fn what_a_cleaning_made_takes_the_place_of_whole_sealed_segments_only() {
        let mut image = Image::default();
        for (base, end) in [(0, 5), (5, 9), (9, 12)] {
            assert!(image.apply(Record::Sealed { log: log(0), segment: segment(base, end) }));
        }
        assert!(image.apply(grown(&image.logs[&log(0)].clone(), log(0), 12, 14)));
        let cleaned = |base, end| Segment { generation: Generation(1), ..segment(base, end) };
        for (base, end) in [(0, 6), (1, 5), (9, 14), (12, 14), (14, 20)] {
            let segment = cleaned(base, end);
            assert!(!image.apply(Record::Cleaned { log: log(0), segment }), "{base} to {end}");
        }
        assert!(image.apply(Record::Leftover { name: cleaned(0, 9).name(log(0)) }));
        assert!(image.apply(Record::Cleaned { log: log(0), segment: cleaned(0, 9) }));
        assert!(image.apply(Record::Clean { log: log(0), until: Offset(9) }));
        let old = [segment(0, 5), segment(5, 9)].map(|segment| segment.name(log(0)));
        assert_eq!(image.condemned, old.into(), "what was made is none");
        assert_eq!(image.logs[&log(0)].segments.bytes(), 27);
        let mut again = Image::default();
        assert!(image.records().all(|record| again.apply(record)));
        assert_eq!(again, image);
    }

    #[test]
    fn a_segment_that_does_not_follow_is_a_contradiction() {
        let mut image = Image::default();
        assert!(image.apply(grown(&LogImage::empty(), log(0), 0, 5)));
        assert!(!image.apply(grown(&LogImage::empty(), log(0), 6, 9)));
        assert!(!image.apply(Record::Condemned { log: log(0), base: Offset(3) }));
    }
}
