//! What is known of where things lie inside a segment.
//!
//! Does: find the chunk that holds an offset, or the stretch nobody has looked at yet; learn
//! chunks from such stretches; remember what was found damaged; keep few of these in memory.
//! Does not: read files; `reader` feeds it.
//! Invariants: chunks are in order and do not overlap; what is missing is a hole, never a guess.
//! Apart because the index file is only a cache of this.

use std::collections::BTreeMap;

use flumen_protocol::ids::{LogId, Offset};

use super::segment::{Active, Segment};
use crate::format::segment::Chunk;
use crate::limits::INDEX_ENTRIES_MAX;

/// A stretch of a segment about which the index says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where it begins, in bytes: the start of a batch.
    pub position: u64,
    /// The offset that batch has.
    pub first: Offset,
    /// Where it ends, in bytes.
    pub end_position: u64,
    /// One after its last offset.
    pub end: Offset,
}

/// What is known about one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It lies in this chunk.
    Covered(Chunk),
    /// It lies where nobody has looked yet.
    Unknown(Hole),
    /// It was found unreadable, like everything in this range.
    Damaged(Offset, Offset),
}

/// The index of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    chunks: Vec<Chunk>,
    damaged: Vec<(Offset, Offset)>,
}

impl SegmentIndex {
    /// An index of what a file said, as far as it fits the segment.
    #[must_use]
    pub fn new(chunks: Vec<Chunk>, segment: &Segment, active: Option<&Active>) -> Self {
        let (end, end_position) = match active {
            Some(active) => (active.open.first, active.open.position),
            None => (segment.end, segment.length),
        };
        let fits = |chunk: &Chunk| chunk.end <= end && chunk.end_position() <= end_position;
        Self { chunks: chunks.into_iter().filter(fits).collect(), damaged: Vec::new() }
    }

    /// Adds a chunk that was written or found, unless it overlaps one that is known.
    pub fn learn(&mut self, chunk: Chunk) {
        let place = self.chunks.partition_point(|known| known.position < chunk.position);
        let before = place.checked_sub(1).map(|before| self.chunks[before]);
        let after = self.chunks.get(place);
        let free = before
            .is_none_or(|b| b.end_position() <= chunk.position && b.end <= chunk.first)
            && after.is_none_or(|a| chunk.end_position() <= a.position && chunk.end <= a.first);
        if free {
            self.chunks.insert(place, chunk);
        }
    }

    /// A chunk is not what was written: what was found of it instead takes its place. A chunk that
    /// is still open is only known to the manifest, and stays.
    pub fn amend(&mut self, chunk: &Chunk, found: Vec<Chunk>) {
        if let Some(place) = self.chunks.iter().position(|known| known == chunk) {
            self.chunks.remove(place);
            found.into_iter().for_each(|chunk| self.learn(chunk));
        }
    }

    /// Remembers that a range of offsets cannot be read.
    pub fn learn_damage(&mut self, from: Offset, until: Offset) {
        if from < until && !self.damaged.contains(&(from, until)) {
            self.damaged.push((from, until));
        }
    }

    /// What is known about `offset`, which lies in `segment`.
    #[must_use]
    pub fn place(&self, offset: Offset, segment: &Segment, active: Option<&Active>) -> Place {
        if let Some((from, until)) = self.damage_at(offset) {
            return Place::Damaged(from, until);
        }
        let open = active.and_then(|active| active.open.closed(segment));
        let after = self.chunks.partition_point(|chunk| chunk.first <= offset);
        let before = after.checked_sub(1).map(|before| self.chunks[before]);
        let holds = |chunk: &Chunk| chunk.first <= offset && offset < chunk.end;
        if let Some(chunk) = before.filter(holds).or(open.filter(holds)) {
            return Place::Covered(chunk);
        }
        let (position, first) = before.map_or((0, segment.base), |b| (b.end_position(), b.end));
        let next = self.chunks.get(after).copied().or(open);
        let (end_position, end) =
            next.map_or((segment.length, segment.end), |next| (next.position, next.first));
        if position >= end_position || first >= end {
            // Offsets without bytes: the neighbours contradict each other.
            return Place::Damaged(offset, end.max(offset.after(1)));
        }
        Place::Unknown(Hole { position, first, end_position, end })
    }

    /// The chunks from `first` on that lie back to back, have no damage in them and have about
    /// `bytes_max` together; `first` in any case.
    #[must_use]
    pub fn run(&self, first: Chunk, open: Option<Chunk>, bytes_max: u64) -> Vec<Chunk> {
        let mut run = vec![first];
        let mut bytes = first.length;
        let after = self.chunks.partition_point(|chunk| chunk.position <= first.position);
        for next in self.chunks[after..].iter().copied().chain(open) {
            let last = run[run.len() - 1];
            let follows = last.end_position() == next.position && last.end == next.first;
            bytes += next.length;
            if !follows || bytes > bytes_max || self.is_damaged(&next) {
                break;
            }
            run.push(next);
        }
        run
    }

    fn is_damaged(&self, chunk: &Chunk) -> bool {
        self.damaged.iter().any(|(from, until)| *from < chunk.end && chunk.first < *until)
    }

    fn damage_at(&self, offset: Offset) -> Option<(Offset, Offset)> {
        self.damaged.iter().copied().find(|(from, until)| *from <= offset && offset < *until)
    }
}

/// The indexes in memory, the least recently used of which go first.
#[derive(Debug, Default)]
pub struct Indexes {
    loaded: BTreeMap<(LogId, Offset), (u64, SegmentIndex)>,
    uses: u64,
}

impl Indexes {
    /// The index of a segment if it is loaded.
    pub fn get(&mut self, log: LogId, base: Offset) -> Option<&mut SegmentIndex> {
        self.uses += 1;
        let uses = self.uses;
        self.loaded.get_mut(&(log, base)).map(|(used, index)| {
            *used = uses;
            index
        })
    }

    /// Keeps an index from now on.
    pub fn put(&mut self, log: LogId, base: Offset, index: SegmentIndex) {
        self.uses += 1;
        self.loaded.insert((log, base), (self.uses, index));
    }

    /// Forgets a segment's index.
    pub fn forget(&mut self, log: LogId, base: Offset) {
        self.loaded.remove(&(log, base));
    }

    /// Forgets all indexes of a log.
    pub fn forget_log(&mut self, log: LogId) {
        self.loaded.retain(|(of, _), _| *of != log);
    }

    /// Forgets the least recently used until the limit holds.
    pub fn trim(&mut self) {
        while self.loaded.len() > 1 && self.entries() > INDEX_ENTRIES_MAX {
            let oldest = self.loaded.iter().min_by_key(|(_, (used, _))| *used);
            let Some(key) = oldest.map(|(key, _)| *key) else { return };
            self.loaded.remove(&key);
        }
    }

    /// Bytes of memory, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.entries() * size_of::<Chunk>()
    }

    /// An index counts one besides its entries, so that empty ones are bounded too; a damaged range
    /// counts like a chunk.
    fn entries(&self) -> usize {
        self.loaded.values().map(|(_, index)| index.chunks.len() + index.damaged.len() + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::OpenChunk;
    use super::*;
    use crate::testing::segment_of;

    fn chunk(first: i64, end: i64, position: u64, length: u64) -> Chunk {
        let (first, end) = (Offset(first), Offset(end));
        Chunk { first, end, max_timestamp: -1, position, length, crc: 0 }
    }

    #[test]
    fn what_lies_between_known_chunks_is_a_hole_until_it_is_learnt() {
        let segment = Segment { length: 400, ..segment_of(0, 40, -1) };
        let open = OpenChunk::at(Offset(30), 300);
        let active = Active { index_blocks: 1, open, partial_crc: 0 };
        let known = vec![chunk(0, 10, 0, 100), chunk(20, 30, 200, 100), chunk(30, 45, 300, 150)];
        let mut index = SegmentIndex::new(known, &segment, Some(&active));
        let place =
            |index: &SegmentIndex, offset| index.place(Offset(offset), &segment, Some(&active));
        assert_eq!(place(&index, 9), Place::Covered(chunk(0, 10, 0, 100)));
        let hole = Hole { position: 100, first: Offset(10), end_position: 200, end: Offset(20) };
        assert_eq!(place(&index, 10), Place::Unknown(hole));
        assert_eq!(place(&index, 39), Place::Covered(chunk(30, 40, 300, 100)));
        index.learn(chunk(5, 12, 100, 20));
        assert_eq!(place(&index, 10), Place::Unknown(hole), "an overlap is not believed");
        index.learn(chunk(10, 20, 100, 100));
        assert_eq!(place(&index, 10), Place::Covered(chunk(10, 20, 100, 100)));
        let run = index.run(chunk(0, 10, 0, 100), open.closed(&segment), 350);
        assert_eq!(run.len(), 3);
        index.learn_damage(Offset(20), Offset(25));
        assert_eq!(place(&index, 24), Place::Damaged(Offset(20), Offset(25)));
        assert_eq!(index.run(chunk(0, 10, 0, 100), None, 1000).len(), 2);
    }
}
