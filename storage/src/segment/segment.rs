//! One segment of one log: whole Kafka v2 batches back to back in one file.
//!
//! Does: say what is known of a segment without opening it.
//! Does not: read or write.
//! Invariants: `base < end` and `length > 0` (an empty segment has no file); only the last segment
//! of a log may be active; an active segment's open chunk ends at the segment's length; its last
//! batch ends right before `end`, also if it was cleaned.
//! Apart because manifest, reader, retention and settle all speak of segments.

use flumen_protocol::ids::{LogId, Offset};

use crate::format::segment::Chunk;
use crate::op::{FileName, Generation};

/// What is known of every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first offset it answers for; names its file. Of what was never cleaned also the offset
    /// of its first record.
    pub base: Offset,
    /// How often what it holds was cleaned; names its file as well.
    pub generation: Generation,
    /// One after the offset of its last record.
    pub end: Offset,
    /// How many bytes of the file count; an active segment's file may be longer.
    pub length: u64,
    /// Largest timestamp of its first batch when that was appended, −1 if none: from it `segment.ms`
    /// and `max.compaction.lag.ms` count.
    pub first_timestamp: i64,
    /// Largest timestamp in it, −1 if none has one.
    pub max_timestamp: i64,
    /// Wall clock of the last write, milliseconds; stands in where no record has a timestamp.
    pub written: i64,
}

/// What names the files of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Whose records.
    pub log: LogId,
    /// The first offset it answers for.
    pub base: Offset,
    /// How often they were cleaned.
    pub generation: Generation,
}

impl SegmentName {
    /// The file of the records.
    #[must_use]
    pub fn data(self) -> FileName {
        let Self { log, base, generation } = self;
        FileName::Segment { log, base, generation }
    }

    /// The file of the index.
    #[must_use]
    pub fn index(self) -> FileName {
        let Self { log, base, generation } = self;
        FileName::Index { log, base, generation }
    }
}

/// What is known besides of the segment that still grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// How many blocks its index file has.
    pub index_blocks: u32,
    /// What was written after the last closed chunk.
    pub open: OpenChunk,
    /// CRC-32C over the bytes after the last whole block: what is read of it to be written again
    /// is held against this.
    pub partial_crc: u32,
}

/// Batches at the end of an active segment that do not fill a chunk yet; may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenChunk {
    /// Offset of its first record.
    pub first: Offset,
    /// Where it begins in the segment.
    pub position: u64,
    /// Largest timestamp in it, −1 if none.
    pub max_timestamp: i64,
    /// CRC-32C over its bytes so far.
    pub crc: u32,
}

impl OpenChunk {
    /// An empty chunk at the end of a segment.
    #[must_use]
    pub fn at(first: Offset, position: u64) -> Self {
        Self { first, position, max_timestamp: -1, crc: 0 }
    }

    /// The chunk as it would be if closed at the end of `segment`; `None` while it is empty.
    #[must_use]
    pub fn closed(&self, segment: &Segment) -> Option<Chunk> {
        assert!(self.position <= segment.length, "an open chunk ends with its segment");
        (self.position < segment.length).then_some(Chunk {
            first: self.first,
            end: segment.end,
            max_timestamp: self.max_timestamp,
            position: self.position,
            length: segment.length - self.position,
            crc: self.crc,
        })
    }
}

impl Segment {
    /// Whether a cleaning took records out of it: then offsets may be missing between batches, and
    /// whoever walks them takes the next batch for those.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.generation > Generation::APPENDED
    }

    /// What names its files.
    #[must_use]
    pub fn name(&self, log: LogId) -> SegmentName {
        SegmentName { log, base: self.base, generation: self.generation }
    }

    /// The time by which the segment ages, milliseconds.
    #[must_use]
    pub fn age_from(&self) -> i64 {
        if self.max_timestamp >= 0 { self.max_timestamp } else { self.written }
    }
}
