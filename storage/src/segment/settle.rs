//! Moves durable, committed batches from the journal's care into segments.
//!
//! Does: plan which bytes go where (pure arithmetic), then walk through the plan one disk
//! operation at a time.
//! Does not: know the manifest or the journal; the store records the outcome there, after which
//! the journal may forget.
//! Invariants: whole blocks are written, and a sealed segment is cut to its length at last; a
//! partial last block is rewritten with an identical prefix: what was read of it is held against its
//! checksum; the bytes of a segment are flushed before the job reports itself written, those of its
//! index need not be, since it can be learnt again; nothing outside the job changes before that, so
//! a crash at any step leaves the old truth. A segment begun and not recorded is overwritten by the
//! next settle, which rolls at the same batch unless the topic's settings changed in between or the
//! end of the segment before could be read only once; such a file goes with its log. An index holds
//! nothing of entries that were never recorded: they may be lost, and others take their places.
//! Apart because it is the one long-running thing that happens to a log.
//!
//! ```text
//!  for every piece (one segment):
//!  ReadIndex? -> CutIndex? -> ReadTail? -> Write* -> Flush -> Index? -> Truncate? (sealed)
//!    -> next piece ... -> Written
//!  a piece that is only sealed has no steps between CutIndex and Index
//!  ReadTail fails or reads something else, twice -> planned again with a new segment
//!  any step: no room, no descriptors -> given up; the store tries anew later
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::entry::Records;
use flumen_protocol::ids::{LogId, LogIndex, Offset, Term};

use super::roll;
use super::segment::{Active, OpenChunk, Segment};
use super::set::Segments;
use crate::answers::LogSettings;
use crate::error::StorageError;
use crate::format::segment::{Chunk, ENTRIES_PER_BLOCK, ENTRY_BYTES, decode, encode_block};
use crate::limits::{BLOCK, BLOCK_BYTES, CHUNK_BYTES, SETTLE_WRITE_BYTES, SETTLE_WRITE_BYTES_CALM};
use crate::op::{Action, DiskDone, DiskOp, Generation, OpId, OpIds, Output};

/// How much of the disk a settle may take from appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Nothing waits for it: small writes, one job of any size at a time, or a group of small ones.
    #[default]
    Calm,
    /// The journal or memory fills up: as fast as the disk takes it.
    Hasty,
}

impl Pace {
    /// The largest write.
    fn write_bytes(self) -> usize {
        match self {
            Self::Calm => SETTLE_WRITE_BYTES_CALM as usize,
            Self::Hasty => SETTLE_WRITE_BYTES as usize,
        }
    }
}

/// What is kept in memory of a log's end, so that settling need not read it back. That there is any says that this
/// process has cut the segment's index back to what is recorded of it: one that ended may have left more there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warm {
    /// Base of the active segment.
    pub base: Offset,
    /// Its bytes after the last whole block.
    pub tail: Bytes,
    /// The entries in the last block of its index, if that has room.
    pub index_block: Vec<Chunk>,
}

impl Warm {
    /// Lets go of what it holds; it can be read.
    pub fn forget_bytes(&mut self) {
        (self.tail, self.index_block) = (Bytes::new(), Vec::new());
    }
}

/// What goes into one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The segment as it is afterwards.
    pub segment: Segment,
    /// Where the new bytes begin; need not be aligned.
    from: u64,
    /// CRC-32C over the bytes before that in its block, as the manifest has it.
    partial_crc: u32,
    /// The new bytes.
    parts: VecDeque<Bytes>,
    /// Chunks closed on the way.
    pub closed: Vec<Chunk>,
    /// Where their index blocks begin, counted in blocks, and what that first block holds already.
    index_at: u32,
    index_block: Vec<Chunk>,
    /// Up to which offset and byte the index was recorded before.
    indexed: (Offset, u64),
    /// What is known besides if the segment goes on growing; `None`: sealed.
    pub active: Option<Active>,
}

/// Where all bytes of one settle go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Segments in order; all but the last are sealed.
    pub pieces: VecDeque<Piece>,
}

impl Plan {
    /// Plans where `batches` go.
    ///
    /// `wall`: milliseconds, for batches without timestamps. `fresh`: leave the active segment
    /// alone (its end cannot be read) and begin a new one.
    ///
    /// # Panics
    /// When a batch does not follow the one before it or carries another offset than it should.
    #[must_use]
    pub fn new<'a>(
        segments: &Segments,
        settings: &LogSettings,
        batches: impl Iterator<Item = &'a Records>,
        warm: Option<&Warm>,
        wall: i64,
        fresh: bool,
    ) -> Self {
        let mut pieces = VecDeque::new();
        let growing = segments.active();
        let mut piece = growing.map(|(segment, active)| Piece::grow(segment, active, warm));
        for batch in batches {
            let header = BatchHeader::parse(&batch.bytes).expect("a batch has a header");
            assert_eq!(header.base_offset, batch.base_offset, "a batch is stamped");
            assert_eq!(header.total_bytes(), batch.bytes.len(), "a batch is whole");
            let rolled = piece.take_if(|piece| {
                (fresh && piece.parts.is_empty() && pieces.is_empty())
                    || roll::due(&piece.segment, batch, settings)
            });
            if let Some(mut rolled) = rolled {
                rolled.seal();
                pieces.push_back(rolled);
            }
            piece.get_or_insert_with(|| Piece::begin(batch)).add(batch, wall);
        }
        pieces.extend(piece);
        for piece in &mut pieces {
            let (blocks, _) = piece.index_after();
            let partial_crc = piece.partial_crc_after();
            if let Some(active) = &mut piece.active {
                (active.index_blocks, active.partial_crc) = (blocks, partial_crc);
            }
        }
        Self { pieces }
    }
}

impl Piece {
    fn begin(batch: &Records) -> Self {
        let open = OpenChunk::at(batch.base_offset, 0);
        let segment = Segment {
            base: batch.base_offset,
            end: batch.base_offset,
            generation: Generation::APPENDED,
            length: 0,
            first_timestamp: batch.max_timestamp,
            max_timestamp: -1,
            written: 0,
        };
        let active = Active { index_blocks: 0, open, partial_crc: 0 };
        Self::grow(segment, active, None)
    }

    fn grow(segment: Segment, active: Active, warm: Option<&Warm>) -> Self {
        let block = warm.filter(|warm| warm.base == segment.base && !warm.index_block.is_empty());
        let index_block = block.map(|warm| warm.index_block.clone()).unwrap_or_default();
        let index_at = active.index_blocks - u32::from(!index_block.is_empty());
        Self {
            segment,
            from: segment.length,
            partial_crc: active.partial_crc,
            parts: VecDeque::new(),
            closed: Vec::new(),
            index_at,
            index_block,
            indexed: (active.open.first, active.open.position),
            active: Some(active),
        }
    }

    fn add(&mut self, batch: &Records, wall: i64) {
        let active = self.active.as_mut().expect("a sealed piece takes nothing");
        assert_eq!(batch.base_offset, self.segment.end, "batches follow each other");
        self.segment.end = batch.last_offset.after(1);
        self.segment.length += batch.bytes.len() as u64;
        self.segment.max_timestamp = self.segment.max_timestamp.max(batch.max_timestamp);
        self.segment.written = wall;
        active.open.max_timestamp = active.open.max_timestamp.max(batch.max_timestamp);
        active.open.crc = crc32c::crc32c_append(active.open.crc, &batch.bytes);
        self.parts.push_back(batch.bytes.clone());
        if self.segment.length - active.open.position >= CHUNK_BYTES {
            self.close_chunk();
        }
    }

    fn close_chunk(&mut self) {
        let active = self.active.as_mut().expect("a sealed piece has no open chunk");
        self.closed.extend(active.open.closed(&self.segment));
        active.open = OpenChunk::at(self.segment.end, self.segment.length);
    }

    fn seal(&mut self) {
        self.close_chunk();
        self.active = None;
    }

    fn is_only_sealed(&self) -> bool {
        self.from == self.segment.length
    }

    /// The first step once its index is as it was recorded. `has_tail`: what its first new block begins with is
    /// in memory.
    fn first_step(&self, has_tail: bool) -> Step {
        let at = self.from / BLOCK * BLOCK;
        if self.is_only_sealed() {
            // Only sealed: nothing new, but it must not keep the padding of its last block.
            Step::Index
        } else if self.from > at && !has_tail {
            Step::ReadTail { again: false }
        } else {
            Step::Write { at }
        }
    }

    /// Blocks the index has after this piece, and what the last of them holds if it has room.
    fn index_after(&self) -> (u32, Vec<Chunk>) {
        let entries = self.index_block.len() + self.closed.len();
        let blocks = u32::try_from(entries.div_ceil(ENTRIES_PER_BLOCK)).expect("few blocks");
        let mut last: Vec<Chunk> = self.index_block.iter().chain(&self.closed).copied().collect();
        last.drain(..entries / ENTRIES_PER_BLOCK * ENTRIES_PER_BLOCK);
        (self.index_at + blocks, last)
    }

    /// CRC-32C over the bytes after the last whole block that the piece ends with.
    fn partial_crc_after(&self) -> u32 {
        let block = self.segment.length / BLOCK * BLOCK;
        let (before, mut skip) = match block.checked_sub(self.from) {
            Some(skip) => (0, skip as usize),
            None => (self.partial_crc, 0),
        };
        self.parts.iter().fold(before, |crc, part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            crc32c::crc32c_append(crc, &part[skipped..])
        })
    }

    /// What of `read`, the block with the piece's first new byte, comes before that byte; `None` if
    /// it is not what was written there.
    fn carried(&self, read: &[u8]) -> Option<Bytes> {
        let carried = read.get(..(self.from % BLOCK) as usize)?;
        (crc32c::crc32c(carried) == self.partial_crc).then(|| Bytes::copy_from_slice(carried))
    }

    /// How long the index is as far as it is recorded; `last`: its last block, where that can be read.
    /// A process that ended before it recorded what it settled may have written more.
    fn recorded_index(&self, last: Option<&[u8]>) -> u64 {
        let (blocks, (end, end_position)) = (u64::from(self.index_at), self.indexed);
        let chunks = last.map(|last| decode(self.segment.base, last)).unwrap_or_default();
        let is_recorded = |it: &Chunk| it.end <= end && it.end_position() <= end_position;
        match chunks.iter().position(|chunk| !is_recorded(chunk)) {
            Some(count) => (blocks - 1) * BLOCK + (count * ENTRY_BYTES) as u64,
            None => blocks * BLOCK,
        }
    }

    fn index_action(&self) -> Action {
        let entries: Vec<Chunk> = self.index_block.iter().chain(&self.closed).copied().collect();
        let blocks = entries.chunks(ENTRIES_PER_BLOCK);
        let parts: Vec<Bytes> = blocks.map(|some| encode_block(self.segment.base, some)).collect();
        let padded_len = u32::try_from(parts.len() * BLOCK_BYTES).expect("few blocks");
        Action::Write { at: u64::from(self.index_at) * BLOCK, parts, padded_len }
    }
}

/// How far a job is with the piece in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The last block of the index that is recorded may hold more than was recorded of it.
    ReadIndex,
    /// The index is cut to this length, behind which nothing is recorded. Durably: what is written there
    /// later need not be durable, and what was cut off must not come up in its place.
    CutIndex { len: u64 },
    /// The bytes after the last whole block must be read first; `again`: the first answer was an
    /// error or not what was written.
    ReadTail { again: bool },
    /// From this aligned position on is to be written.
    Write { at: u64 },
    /// All bytes are written.
    Flush,
    /// The index is to be written; without flush, since it can be learnt again.
    Index,
    /// A sealed segment is cut to its size.
    Truncate,
}

/// What became of a job after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More to do.
    Going,
    /// The active segment's end cannot be read, or is not what was written: plan again with a new
    /// segment. The old one keeps its checksums, so that readers notice as well.
    TailUnreadable,
    /// No room, or no descriptor left; nothing changed.
    NoSpace,
}

/// One settle of one log under way.
#[derive(Debug)]
pub struct Job {
    /// Whose.
    pub log: LogId,
    /// The last entry that will be settled, and its term.
    pub up_to: (LogIndex, Term),
    /// How many entries of the log's tail that are.
    pub entry_count: usize,
    /// The replication core's state to be recorded with it, and where that is applied to.
    pub state: (LogIndex, Bytes),
    /// Pieces completely written.
    pub written: Vec<Piece>,
    pieces: VecDeque<Piece>,
    step: Step,
    op: Option<OpId>,
    /// Bytes between the aligned position and the piece's first new byte.
    carry: Bytes,
    /// Bytes of the piece written last after its last whole block.
    tail: Bytes,
}

impl Job {
    /// A job that has done nothing yet.
    #[must_use]
    pub fn new(
        log: LogId,
        up_to: (LogIndex, Term),
        entry_count: usize,
        state: (LogIndex, Bytes),
        plan: Plan,
        warm: Option<&Warm>,
    ) -> Self {
        let mut job = Self {
            log,
            up_to,
            entry_count,
            state,
            written: Vec::new(),
            pieces: VecDeque::new(),
            step: Step::Flush,
            op: None,
            carry: Bytes::new(),
            tail: Bytes::new(),
        };
        job.plan_anew(plan, warm);
        job
    }

    /// Begins again with another plan.
    ///
    /// # Panics
    /// When something was written already.
    pub fn plan_anew(&mut self, plan: Plan, warm: Option<&Warm>) {
        assert!(self.written.is_empty() && self.op.is_none(), "a plan holds once it is begun");
        self.pieces = plan.pieces;
        self.begin_piece(warm);
        self.skip_steps();
    }

    /// New bytes that are not written yet.
    #[must_use]
    pub fn bytes_left(&self) -> usize {
        self.pieces.iter().flat_map(|piece| &piece.parts).map(Bytes::len).sum()
    }

    /// Whether all pieces are on stable media.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether an operation is under way.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.op.is_some()
    }

    /// Whether the answer is this job's.
    #[must_use]
    pub fn owns(&self, op: OpId) -> bool {
        self.op == Some(op)
    }

    fn begin_piece(&mut self, warm: Option<&Warm>) {
        let Some(piece) = self.pieces.front() else { return };
        let at = piece.from / BLOCK * BLOCK;
        let kept =
            warm.filter(|w| w.base == piece.segment.base && at + w.tail.len() as u64 == piece.from);
        self.carry = kept.map(|warm| warm.tail.clone()).unwrap_or_default();
        let is_known = warm.is_some_and(|warm| warm.base == piece.segment.base);
        self.step = match piece.index_at {
            _ if is_known => piece.first_step(kept.is_some()),
            0 => Step::CutIndex { len: 0 },
            _ => Step::ReadIndex,
        };
    }

    /// The next operation; at most one is under way.
    pub fn next_op(&mut self, pace: Pace, ids: &mut OpIds, out: &mut Vec<DiskOp>) {
        if self.op.is_some() {
            return;
        }
        self.skip_steps();
        let Some(piece) = self.pieces.front_mut() else { return };
        let mut file = piece.segment.name(self.log).data();
        let action = match &mut self.step {
            Step::ReadIndex => {
                file = piece.segment.name(self.log).index();
                Action::Read { at: u64::from(piece.index_at - 1) * BLOCK, len: BLOCK as u32 }
            }
            Step::CutIndex { len } => {
                file = piece.segment.name(self.log).index();
                Action::Truncate { len: *len }
            }
            Step::ReadTail { .. } => {
                Action::Read { at: piece.from / BLOCK * BLOCK, len: BLOCK as u32 }
            }
            Step::Write { at } => {
                let (parts, padded_len) =
                    gather(&mut self.carry, &mut piece.parts, pace.write_bytes());
                self.tail = partial_block(&parts);
                let action = Action::Write { at: *at, parts, padded_len };
                *at += u64::from(padded_len);
                action
            }
            Step::Flush => Action::Flush,
            Step::Index => {
                file = piece.segment.name(self.log).index();
                piece.index_action()
            }
            Step::Truncate => Action::Truncate { len: piece.segment.length },
        };
        let id = ids.next_id();
        self.op = Some(id);
        out.push(DiskOp { id, file, action });
    }

    /// Passes over steps that this piece does not need.
    fn skip_steps(&mut self) {
        while let Some(piece) = self.pieces.front() {
            match self.step {
                Step::Index if piece.closed.is_empty() => self.step = Step::Truncate,
                Step::Truncate if piece.active.is_some() => self.end_piece(),
                Step::ReadIndex
                | Step::CutIndex { .. }
                | Step::ReadTail { .. }
                | Step::Write { .. }
                | Step::Flush
                | Step::Index
                | Step::Truncate => return,
            }
        }
    }

    fn end_piece(&mut self) {
        let piece = self.pieces.pop_front().expect("a piece is under way");
        self.written.push(piece);
        self.begin_piece(None);
    }

    /// What to keep in memory for the next settle; `None` if nothing grows.
    ///
    /// # Panics
    /// Before the job is written.
    #[must_use]
    pub fn warm(&self) -> Option<Warm> {
        assert!(self.is_written(), "the end of a segment is known once it is written");
        let piece = self.written.last()?;
        piece.active?;
        let (_, index_block) = piece.index_after();
        Some(Warm { base: piece.segment.base, tail: self.tail.clone(), index_block })
    }

    /// Takes the answer to this job's operation.
    ///
    /// # Errors
    /// [`StorageError::DeviceFailed`]: stop the shard.
    pub fn on_done(&mut self, done: DiskDone) -> Result<Progress, StorageError> {
        assert!(self.owns(done.id), "another job's answer");
        self.op = None;
        let piece = self.pieces.front().expect("a piece is under way");
        let output = match (done.result, self.step) {
            (Ok(output), _) => Some(output),
            (Err(error), _) if error.kind.is_want_of_room() => {
                return Ok(Progress::NoSpace);
            }
            (Err(_), Step::ReadIndex | Step::ReadTail { .. }) => None,
            (Err(error), Step::CutIndex { .. }) if error.is_missing() => None,
            // A segment that is lost is sealed all the same: readers say so, and the log goes on.
            (Err(error), Step::Truncate) if piece.is_only_sealed() && error.is_missing() => None,
            (Err(error), _) => return Err(StorageError::DeviceFailed(error)),
        };
        match self.step {
            Step::ReadIndex => {
                let last = output.as_ref().and_then(Output::bytes);
                let len = piece.recorded_index(last.map(|last| &last[..]));
                self.step = Step::CutIndex { len };
            }
            Step::CutIndex { .. } => self.step = piece.first_step(false),
            Step::ReadTail { again } => {
                let read = output.as_ref().and_then(Output::bytes);
                match read.and_then(|read| piece.carried(read)) {
                    Some(carried) => {
                        self.carry = carried;
                        self.step = Step::Write { at: piece.from / BLOCK * BLOCK };
                    }
                    // The device may give the right bytes the next time.
                    None if !again => self.step = Step::ReadTail { again: true },
                    None => return Ok(Progress::TailUnreadable),
                }
            }
            Step::Write { .. } if piece.parts.is_empty() => self.step = Step::Flush,
            Step::Write { .. } => {}
            Step::Flush => self.step = Step::Index,
            Step::Index => self.step = Step::Truncate,
            Step::Truncate => self.end_piece(),
        }
        self.skip_steps();
        Ok(Progress::Going)
    }
}

/// Takes what one write carries, in order: the carried bytes, then as much of `parts` as fits.
/// Also the length on disk: whole blocks.
pub(crate) fn gather(
    carry: &mut Bytes,
    parts: &mut VecDeque<Bytes>,
    most: usize,
) -> (Vec<Bytes>, u32) {
    let mut taken = Vec::new();
    let mut room = most - carry.len();
    if !carry.is_empty() {
        taken.push(std::mem::take(carry));
    }
    while room > 0
        && let Some(front) = parts.front_mut()
    {
        let part = front.split_to(room.min(front.len()));
        room -= part.len();
        if front.is_empty() {
            parts.pop_front();
        }
        taken.push(part);
    }
    let filled = most - room;
    (taken, u32::try_from(filled.next_multiple_of(BLOCK_BYTES)).expect("a write is bounded"))
}

/// The bytes of `parts` after their last whole block.
fn partial_block(parts: &[Bytes]) -> Bytes {
    let total: usize = parts.iter().map(Bytes::len).sum();
    let mut skip = total / BLOCK_BYTES * BLOCK_BYTES;
    let mut tail = Vec::with_capacity(total - skip);
    for part in parts {
        let skipped = skip.min(part.len());
        tail.extend_from_slice(&part[skipped..]);
        skip -= skipped;
    }
    Bytes::from(tail)
}
