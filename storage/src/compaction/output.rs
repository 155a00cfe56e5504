//! The segment a cleaning writes.
//!
//! Does: take batches in order, ask for writes of whole blocks, then for everything that makes the new files
//! durable, one operation at a time.
//! Does not: choose batches, or tell the manifest.
//! Invariants: nothing of a file that counts is touched; the files have exactly their length, whatever one of the
//! same name left that a lost record of the manifest knew of, and are flushed, the index too, before the output
//! says it is done: where offsets are missing, the checksums in the index are what vouches for the offsets that
//! are there.
//! Apart because writing is the same whatever was chosen.
//!
//! ```text
//!  Taking (write when there is enough) --finish--> Writing* -> Flush -> Index -> CutIndex -> FlushIndex
//!    -> Truncate -> Done
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::ids::{LogId, Offset};

use crate::format::segment::{Chunk, ENTRIES_PER_BLOCK, encode_block};
use crate::limits::{BLOCK, BLOCK_BYTES, CHUNK_BYTES, CLEANING_WRITE_BYTES};
use crate::op::{Action, FileName, Generation};
use crate::segment::segment::{OpenChunk, Segment, SegmentName};
use crate::segment::settle::gather;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Batches come.
    Taking,
    /// None come any more; what is left is written.
    Writing,
    /// All of it is written.
    Flush,
    /// The index is to be written.
    Index,
    /// The index is written; what is behind it is to be cut off.
    CutIndex,
    /// The index is as long as it is to be.
    FlushIndex,
    /// The padding of the last block is to be cut off.
    Truncate,
    /// Everything is durable.
    Done,
}

/// A new segment being written.
#[derive(Debug)]
pub struct Output {
    log: LogId,
    segment: Segment,
    step: Step,
    /// Bytes not written yet.
    parts: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Where the next write goes; a multiple of the block size.
    at: u64,
    open: OpenChunk,
    chunks: Vec<Chunk>,
}

impl Output {
    /// An empty one in the place of `old`, which are neighbours.
    ///
    /// # Panics
    /// Without any.
    #[must_use]
    pub fn new(log: LogId, old: &[Segment], generation: Generation) -> Self {
        let (first, last) = (old[0], old[old.len() - 1]);
        let segment = Segment {
            base: first.base,
            generation,
            end: first.base,
            length: 0,
            first_timestamp: first.first_timestamp,
            max_timestamp: -1,
            written: last.written,
        };
        let open = OpenChunk::at(first.base, 0);
        let (parts, chunks) = (VecDeque::new(), Vec::new());
        let step = Step::Taking;
        Self { log, segment, step, parts, waiting_bytes: 0, at: 0, open, chunks }
    }

    /// What names its files.
    #[must_use]
    pub fn name(&self) -> SegmentName {
        self.segment.name(self.log)
    }

    /// Takes the next batch.
    ///
    /// # Panics
    /// When it does not come after the one before it, or after the end.
    pub fn add(&mut self, batch: Bytes) {
        let header = BatchHeader::parse(&batch).expect("a batch has a header");
        assert!(self.step == Step::Taking, "batches come before the end");
        assert!(header.base_offset >= self.segment.end, "batches come in order");
        self.segment.end = header.last_offset().after(1);
        self.segment.length += batch.len() as u64;
        if header.record_count > 0 {
            let time = header.max_timestamp;
            self.segment.max_timestamp = self.segment.max_timestamp.max(time);
            self.open.max_timestamp = self.open.max_timestamp.max(time);
        }
        self.open.crc = crc32c::crc32c_append(self.open.crc, &batch);
        self.waiting_bytes += batch.len();
        self.parts.push_back(batch);
        if self.segment.length - self.open.position >= CHUNK_BYTES {
            self.close_chunk();
        }
    }

    fn close_chunk(&mut self) {
        self.chunks.extend(self.open.closed(&self.segment));
        self.open = OpenChunk::at(self.segment.end, self.segment.length);
    }

    /// No batch comes any more. Says `false`, and stays as it is, if the last one does not end before `end`.
    #[must_use]
    pub fn finish(&mut self, end: Offset) -> bool {
        if self.segment.end != end {
            return false;
        }
        self.close_chunk();
        self.step = Step::Writing;
        true
    }

    /// Whether batches may still come.
    #[must_use]
    pub fn is_taking(&self) -> bool {
        self.step == Step::Taking
    }

    /// Whether it should be written before more is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting_bytes >= CLEANING_WRITE_BYTES
    }

    /// Bytes that wait for being written.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// The next operation, if one is due. The one before must be answered.
    pub fn next_op(&mut self) -> Option<(FileName, Action)> {
        if self.step == Step::Writing && self.parts.is_empty() {
            self.step = Step::Flush;
        }
        let name = self.name();
        Some(match self.step {
            Step::Taking if !self.is_full() => return None,
            Step::Taking | Step::Writing => (name.data(), self.write()),
            Step::Flush => (name.data(), Action::Flush),
            Step::Index => (name.index(), self.index()),
            Step::CutIndex => {
                let blocks = self.chunks.len().div_ceil(ENTRIES_PER_BLOCK);
                (name.index(), Action::Truncate { len: blocks as u64 * BLOCK })
            }
            Step::FlushIndex => (name.index(), Action::Flush),
            Step::Truncate => (name.data(), Action::Truncate { len: self.segment.length }),
            Step::Done => return None,
        })
    }

    fn write(&mut self) -> Action {
        let (parts, padded_len) = gather(&mut Bytes::new(), &mut self.parts, CLEANING_WRITE_BYTES);
        self.waiting_bytes -= parts.iter().map(Bytes::len).sum::<usize>();
        let action = Action::Write { at: self.at, parts, padded_len };
        self.at += u64::from(padded_len);
        action
    }

    fn index(&self) -> Action {
        let blocks = self.chunks.chunks(ENTRIES_PER_BLOCK);
        let parts: Vec<Bytes> = blocks.map(|some| encode_block(self.segment.base, some)).collect();
        let padded_len = u32::try_from(parts.len() * BLOCK_BYTES).expect("few blocks");
        Action::Write { at: 0, parts, padded_len }
    }

    /// The operation asked for last is done.
    pub fn on_done(&mut self) {
        self.step = match self.step {
            Step::Taking | Step::Writing => self.step,
            Step::Flush => Step::Index,
            Step::Index => Step::CutIndex,
            Step::CutIndex => Step::FlushIndex,
            Step::FlushIndex => Step::Truncate,
            Step::Truncate | Step::Done => Step::Done,
        };
    }

    /// The segment, once everything of it is durable.
    #[must_use]
    pub fn done(&self) -> Option<Segment> {
        (self.step == Step::Done).then_some(self.segment)
    }
}

const _: () = assert!((CLEANING_WRITE_BYTES as u64).is_multiple_of(BLOCK));

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{PartitionIndex, TopicId};

    use super::*;
    use crate::format::segment::decode;
    use crate::op::{DiskOp, OpId};
    use crate::sim_disk::SimDisk;
    use crate::testing::{batch, segment_of};

    #[test]
    fn nothing_is_left_of_longer_files_of_the_same_name() {
        let log = LogId { topic: TopicId([9; 16]), partition: PartitionIndex(0) };
        let old = Segment { length: 1, ..segment_of(0, 6, 1) };
        let mut output = Output::new(log, &[old], Generation(1));
        let mut disk = SimDisk::new(1);
        let mut carry_out = |file, action| {
            disk.carry_out(DiskOp { id: OpId(1), file, action }).result.expect("the disk works");
        };
        let name = output.name();
        for file in [name.data(), name.index()] {
            let parts = vec![Bytes::from(vec![0x5a; 5 * BLOCK_BYTES])];
            let padded_len = 5 * BLOCK_BYTES as u32;
            carry_out(file, Action::Write { at: 0, parts, padded_len });
        }
        let batches = [batch(0, 3, 10), batch(3, 3, 11)].map(Bytes::from);
        batches.iter().for_each(|batch| output.add(batch.clone()));
        assert!(output.finish(Offset(6)));
        while let Some((file, action)) = output.next_op() {
            carry_out(file, action);
            output.on_done();
        }
        disk.crash();
        assert_eq!(disk.contents(name.data()), Some(batches.concat().into()));
        let index = disk.contents(name.index()).expect("it is there");
        assert_eq!(index.len(), BLOCK_BYTES);
        assert_eq!(decode(Offset(0), &index), output.chunks);
        assert_eq!(output.done().map(|made| made.end), Some(Offset(6)));
    }
}
