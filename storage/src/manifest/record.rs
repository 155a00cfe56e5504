//! What the manifest says, one fact at a time, and its bytes.
//!
//! Does: draw, write and read the records of the manifest.
//! Does not: say what they add up to; `image` replays them.
//! Invariants: reading what was written gives the same record; nothing panics on strange bytes.
//! Apart because these bytes outlive the process that wrote them.
//!
//! ```text
//!  record: tag u8 | length of body u32 | body          all integers little-endian
//!  log id: topic 16 bytes | partition i32
//!  segment: base i64 | generation u32 | end i64 | length u64
//!           | first timestamp i64 | max timestamp i64 | written i64
//!  files  : log id | base i64 | generation u32
//!  tag 1 log      : log id | hard state: term u64, vote i32 (−1 none), commit u64
//!                 | settled index u64, term u64 | applied u64 | start i64 | settled end i64
//!                 | has active u8 [ segment | index blocks u32
//!                                 | open chunk: first i64, position u64, max timestamp i64, crc u32
//!                                 | partial block: crc u32 ]
//!                 | state: the rest
//!  tag 2 sealed   : log id | segment
//!  tag 3 condemned: log id | base i64
//!  tag 4 gone     : files
//!  tag 5 deleted  : log id | journal sequence u64
//!  tag 6 forgotten: log id
//!  tag 7 leftover : files
//!  tag 8 held     : log id | first lost u64 | last lost u64 | end i64 | until i64
//!                 | files: each sequence u64, checksum u32, to the end
//!  tag 9 void     : log id | last entry kept u64 | journal sequence u64
//!  tag 10 accepted: first journal sequence u64 | last u64
//!  tag 11 clock   : in doubt u8 | wall i64
//!  tag 12 cleaned : log id | segment
//!  tag 13 clean   : log id | until i64
//!  tag 14 aborted : log id | since i64
//!                 | transactions: each marker i64, first i64, producer i64, stable i64, to the end
//! ```

use bytes::Bytes;
use flumen_protocol::entry::{AbortedTransaction, HardState};
use flumen_protocol::ids::{
    LogId, LogIndex, NodeId, Offset, PartitionIndex, ProducerId, Term, TopicId,
};
use flumen_protocol::time::Wall;

use super::hold::{Hold, Void};
use crate::op::{Generation, Quarantined};
use crate::segment::segment::{Active, OpenChunk, Segment, SegmentName};

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A log as it is now, but for its sealed segments.
    Log(LogRecord),
    /// A segment of the log that grows no more; comes before the `Log` record of its successor.
    Sealed {
        /// Whose.
        log: LogId,
        /// Which.
        segment: Segment,
    },
    /// The log's oldest segment leaves it; its files are still to be deleted.
    Condemned {
        /// Whose.
        log: LogId,
        /// Base offset of the segment.
        base: Offset,
    },
    /// The files of a condemned segment are deleted.
    Gone {
        /// Which.
        name: SegmentName,
    },
    /// The log is deleted: all its segments are condemned, and journal frames of it up to this
    /// sequence mean nothing any more.
    Deleted {
        /// Which log.
        log: LogId,
        /// The last journal sequence that may hold something of it.
        sequence: u64,
    },
    /// The journal holds nothing of a deleted log any more, so the deletion need not be known.
    Forgotten {
        /// Which log.
        log: LogId,
    },
    /// Files of no log's segment that are still to be deleted: also those of a cleaning under way,
    /// from before they are made until [`Record::Cleaned`].
    Leftover {
        /// Which.
        name: SegmentName,
    },
    /// What a cleaning made takes the place of the sealed segments whose offsets it answers for;
    /// their files are still to be deleted.
    Cleaned {
        /// Whose.
        log: LogId,
        /// What it made.
        segment: Segment,
    },
    /// Everything before this was cleaned against all records before it.
    Clean {
        /// Which log.
        log: LogId,
        /// The first offset of which that is not so.
        until: Offset,
    },
    /// The wall clock is in doubt, or no longer.
    Clock {
        /// What it was last trusted to show; `None`: it is trusted.
        doubted: Option<Wall>,
    },
    /// A log takes no records until an operator accepts what it lost.
    Held {
        /// Which log.
        log: LogId,
        /// Since what.
        hold: Hold,
    },
    /// Frames of a log's entries that mean nothing any more.
    Void {
        /// Whose.
        log: LogId,
        /// Which.
        void: Void,
    },
    /// Transactions of a log that were aborted: from an offset on exactly these.
    Aborted {
        /// Whose.
        log: LogId,
        /// What was known with a marker at or behind this offset is void.
        since: Offset,
        /// By marker.
        rows: Vec<AbortedTransaction>,
    },
    /// These sequences of the journal are lost, and no start asks whose they were: an earlier one
    /// could tell, or an operator accepted that it could not.
    Accepted {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
}

/// A log as it is now, but for its sealed segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Which log.
    pub log: LogId,
    /// What its Raft member promised; the journal may know a later promise.
    pub hard_state: HardState,
    /// The last entry whose records are in segments, and its term.
    pub settled: (LogIndex, Term),
    /// The entry up to which `state` is applied; not before the settled one.
    pub applied: LogIndex,
    /// The first offset the log has.
    pub start: Offset,
    /// One after the last settled offset.
    pub settled_end: Offset,
    /// The segment that grows.
    pub active: Option<(Segment, Active)>,
    /// The replication core's own state, not looked into.
    pub state: Bytes,
}

impl Record {
    /// Appends the record's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let tag = match self {
            Self::Log(_) => 1,
            Self::Sealed { .. } => 2,
            Self::Condemned { .. } => 3,
            Self::Gone { .. } => 4,
            Self::Deleted { .. } => 5,
            Self::Forgotten { .. } => 6,
            Self::Leftover { .. } => 7,
            Self::Held { .. } => 8,
            Self::Void { .. } => 9,
            Self::Accepted { .. } => 10,
            Self::Clock { .. } => 11,
            Self::Cleaned { .. } => 12,
            Self::Clean { .. } => 13,
            Self::Aborted { .. } => 14,
        };
        out.push(tag);
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Log(record) => encode_log(record, out),
            Self::Sealed { log, segment } | Self::Cleaned { log, segment } => {
                put_log_id(*log, out);
                put_segment(segment, out);
            }
            Self::Condemned { log, base: offset } | Self::Clean { log, until: offset } => {
                put_log_id(*log, out);
                out.extend_from_slice(&offset.0.to_le_bytes());
            }
            Self::Gone { name } | Self::Leftover { name } => {
                put_log_id(name.log, out);
                out.extend_from_slice(&name.base.0.to_le_bytes());
                out.extend_from_slice(&name.generation.0.to_le_bytes());
            }
            Self::Deleted { log, sequence } => {
                put_log_id(*log, out);
                out.extend_from_slice(&sequence.to_le_bytes());
            }
            Self::Forgotten { log } => put_log_id(*log, out),
            Self::Clock { doubted } => {
                out.push(u8::from(doubted.is_some()));
                out.extend_from_slice(&doubted.unwrap_or(Wall(0)).0.to_le_bytes());
            }
            Self::Held { log, hold } => {
                put_log_id(*log, out);
                put_hold(hold, out);
            }
            Self::Void { log, void } => {
                put_log_id(*log, out);
                out.extend_from_slice(&void.after.0.to_le_bytes());
                out.extend_from_slice(&void.sequence.to_le_bytes());
            }
            Self::Aborted { log, since, rows } => {
                put_log_id(*log, out);
                out.extend_from_slice(&since.0.to_le_bytes());
                rows.iter().for_each(|row| put_aborted(row, out));
            }
            Self::Accepted { first, last } => {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.to_le_bytes());
            }
        }
        let length = u32::try_from(out.len() - length_at - 4).expect("a record is below 4 GiB");
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Reads all records of a body; `None` if any is not one of ours.
    #[must_use]
    pub fn decode_all(body: &[u8]) -> Option<Vec<Self>> {
        let mut cursor = Cursor { rest: body };
        let mut records = Vec::new();
        while !cursor.rest.is_empty() {
            let tag = cursor.take(1)?[0];
            let length = cursor.u32()? as usize;
            let mut body = Cursor { rest: cursor.take(length)? };
            records.push(decode_one(tag, &mut body)?);
            if !body.rest.is_empty() {
                return None;
            }
        }
        Some(records)
    }
}

fn encode_log(record: &LogRecord, out: &mut Vec<u8>) {
    put_log_id(record.log, out);
    let hard = &record.hard_state;
    out.extend_from_slice(&hard.term.0.to_le_bytes());
    out.extend_from_slice(&hard.vote.unwrap_or(NodeId::NONE).0.to_le_bytes());
    out.extend_from_slice(&hard.commit.0.to_le_bytes());
    out.extend_from_slice(&record.settled.0.0.to_le_bytes());
    out.extend_from_slice(&record.settled.1.0.to_le_bytes());
    out.extend_from_slice(&record.applied.0.to_le_bytes());
    out.extend_from_slice(&record.start.0.to_le_bytes());
    out.extend_from_slice(&record.settled_end.0.to_le_bytes());
    out.push(u8::from(record.active.is_some()));
    if let Some((segment, active)) = &record.active {
        put_segment(segment, out);
        out.extend_from_slice(&active.index_blocks.to_le_bytes());
        out.extend_from_slice(&active.open.first.0.to_le_bytes());
        out.extend_from_slice(&active.open.position.to_le_bytes());
        out.extend_from_slice(&active.open.max_timestamp.to_le_bytes());
        out.extend_from_slice(&active.open.crc.to_le_bytes());
        out.extend_from_slice(&active.partial_crc.to_le_bytes());
    }
    out.extend_from_slice(&record.state);
}

fn put_log_id(log: LogId, out: &mut Vec<u8>) {
    out.extend_from_slice(&log.topic.0);
    out.extend_from_slice(&log.partition.0.to_le_bytes());
}

fn put_segment(segment: &Segment, out: &mut Vec<u8>) {
    out.extend_from_slice(&segment.base.0.to_le_bytes());
    out.extend_from_slice(&segment.generation.0.to_le_bytes());
    out.extend_from_slice(&segment.end.0.to_le_bytes());
    out.extend_from_slice(&segment.length.to_le_bytes());
    out.extend_from_slice(&segment.first_timestamp.to_le_bytes());
    out.extend_from_slice(&segment.max_timestamp.to_le_bytes());
    out.extend_from_slice(&segment.written.to_le_bytes());
}

fn put_hold(hold: &Hold, out: &mut Vec<u8>) {
    out.extend_from_slice(&hold.first.0.to_le_bytes());
    out.extend_from_slice(&hold.last.0.to_le_bytes());
    out.extend_from_slice(&hold.end.0.to_le_bytes());
    out.extend_from_slice(&hold.until.0.to_le_bytes());
    for file in &hold.files {
        out.extend_from_slice(&file.sequence.to_le_bytes());
        out.extend_from_slice(&file.checksum.to_le_bytes());
    }
}

fn put_aborted(row: &AbortedTransaction, out: &mut Vec<u8>) {
    let AbortedTransaction { last_offset, first_offset, producer_id, stable_offset } = row;
    for number in [last_offset.0, first_offset.0, producer_id.0, stable_offset.0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn decode_one(tag: u8, body: &mut Cursor<'_>) -> Option<Record> {
    if tag == 11 {
        let is_doubted = body.take(1)?[0] != 0;
        return Some(Record::Clock { doubted: Some(Wall(body.i64()?)).filter(|_| is_doubted) });
    }
    if tag == 10 {
        return Some(Record::Accepted { first: body.u64()?, last: body.u64()? });
    }
    let log = body.log_id()?;
    match tag {
        1 => decode_log(log, body).map(Record::Log),
        2 => Some(Record::Sealed { log, segment: body.segment()? }),
        3 => Some(Record::Condemned { log, base: Offset(body.i64()?) }),
        4 => Some(Record::Gone { name: body.segment_name(log)? }),
        5 => Some(Record::Deleted { log, sequence: body.u64()? }),
        6 => Some(Record::Forgotten { log }),
        7 => Some(Record::Leftover { name: body.segment_name(log)? }),
        8 => Some(Record::Held { log, hold: body.hold()? }),
        12 => Some(Record::Cleaned { log, segment: body.segment()? }),
        13 => Some(Record::Clean { log, until: Offset(body.i64()?) }),
        9 => {
            let void = Void { after: LogIndex(body.u64()?), sequence: body.u64()? };
            Some(Record::Void { log, void })
        }
        14 => Some(Record::Aborted { log, since: Offset(body.i64()?), rows: body.aborted()? }),
        _ => None,
    }
}

fn decode_log(log: LogId, body: &mut Cursor<'_>) -> Option<LogRecord> {
    let term = Term(body.u64()?);
    let vote = Some(NodeId(body.i32()?)).filter(|vote| *vote != NodeId::NONE);
    let hard_state = HardState { term, vote, commit: LogIndex(body.u64()?) };
    let settled = (LogIndex(body.u64()?), Term(body.u64()?));
    let applied = LogIndex(body.u64()?);
    let start = Offset(body.i64()?);
    let settled_end = Offset(body.i64()?);
    let active = match body.take(1)?[0] {
        0 => None,
        _ => Some((body.segment()?, body.active()?)),
    };
    // Copied, so that a few bytes of state do not keep the whole manifest file in memory.
    let state = Bytes::copy_from_slice(std::mem::take(&mut body.rest));
    Some(LogRecord { log, hard_state, settled, applied, start, settled_end, active, state })
}

/// The bytes of one aborted transaction.
const ABORTED_BYTES: usize = 32;

/// Reads integers off the front of a slice; `None` when it is too short.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn log_id(&mut self) -> Option<LogId> {
        let topic = TopicId(self.array()?);
        Some(LogId { topic, partition: PartitionIndex(self.i32()?) })
    }

    fn aborted(&mut self) -> Option<Vec<AbortedTransaction>> {
        let mut rows = Vec::with_capacity(self.rest.len() / ABORTED_BYTES);
        while !self.rest.is_empty() {
            rows.push(AbortedTransaction {
                last_offset: Offset(self.i64()?),
                first_offset: Offset(self.i64()?),
                producer_id: ProducerId(self.i64()?),
                stable_offset: Offset(self.i64()?),
            });
        }
        Some(rows)
    }

    fn segment(&mut self) -> Option<Segment> {
        let segment = Segment {
            base: Offset(self.i64()?),
            generation: Generation(self.u32()?),
            end: Offset(self.i64()?),
            length: self.u64()?,
            first_timestamp: self.i64()?,
            max_timestamp: self.i64()?,
            written: self.i64()?,
        };
        (segment.base < segment.end && segment.length > 0).then_some(segment)
    }

    fn segment_name(&mut self, log: LogId) -> Option<SegmentName> {
        let base = Offset(self.i64()?);
        Some(SegmentName { log, base, generation: Generation(self.u32()?) })
    }

    fn hold(&mut self) -> Option<Hold> {
        let (first, last) = (LogIndex(self.u64()?), LogIndex(self.u64()?));
        let (end, until) = (Offset(self.i64()?), Offset(self.i64()?));
        let mut files = Vec::new();
        while !self.rest.is_empty() {
            files.push(Quarantined { sequence: self.u64()?, checksum: self.u32()? });
        }
        Some(Hold { first, last, end, until, files })
    }

    fn active(&mut self) -> Option<Active> {
        Some(Active {
            index_blocks: self.u32()?,
            open: OpenChunk {
                first: Offset(self.i64()?),
                position: self.u64()?,
                max_timestamp: self.i64()?,
                crc: self.u32()?,
            },
            partial_crc: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(marker: i64) -> AbortedTransaction {
        AbortedTransaction {
            last_offset: Offset(marker),
            first_offset: Offset(marker - 2),
            producer_id: ProducerId(77),
            stable_offset: Offset(marker - 1),
        }
    }

    #[test]
    fn every_record_comes_back_and_no_cut_of_it_panics() {
        let log = LogId { topic: TopicId([7; 16]), partition: PartitionIndex(3) };
        let segment = Segment {
            base: Offset(10),
            generation: Generation(3),
            end: Offset(20),
            length: 99,
            first_timestamp: 4,
            max_timestamp: -1,
            written: 5,
        };
        let open = OpenChunk { first: Offset(15), position: 50, max_timestamp: 8, crc: 77 };
        let active = Active { index_blocks: 2, open, partial_crc: 78 };
        let hard_state = HardState { term: Term(4), vote: Some(NodeId(2)), commit: LogIndex(9) };
        let records = vec![
            Record::Sealed { log, segment },
            Record::Log(LogRecord {
                log,
                hard_state,
                settled: (LogIndex(8), Term(3)),
                applied: LogIndex(9),
                start: Offset(10),
                settled_end: Offset(20),
                active: Some((segment, active)),
                state: Bytes::from_static(b"state"),
            }),
            Record::Condemned { log, base: Offset(1) },
            Record::Gone { name: segment.name(log) },
            Record::Deleted { log, sequence: 12 },
            Record::Forgotten { log },
            Record::Leftover { name: segment.name(log) },
            Record::Cleaned { log, segment },
            Record::Clean { log, until: Offset(20) },
            Record::Clock { doubted: Some(Wall(77)) },
            Record::Clock { doubted: None },
            Record::Held {
                log,
                hold: Hold {
                    first: LogIndex(4),
                    last: LogIndex(9),
                    end: Offset(20),
                    until: Offset(31),
                    files: vec![Quarantined { sequence: 7, checksum: 5 }],
                },
            },
            Record::Void { log, void: Void { after: LogIndex(3), sequence: 77 } },
            Record::Accepted { first: 8, last: 12 },
            Record::Aborted { log, since: Offset(3), rows: vec![aborted(4), aborted(9)] },
            Record::Aborted { log, since: Offset(3), rows: Vec::new() },
        ];
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.encode(&mut bytes));
        assert_eq!(Record::decode_all(&bytes), Some(records));
        let whole = (0..bytes.len()).filter(|cut| Record::decode_all(&bytes[..*cut]).is_some());
        assert_eq!(whole.count(), 16, "only cuts between records are whole");
    }
}
