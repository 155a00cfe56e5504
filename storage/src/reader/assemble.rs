//! Whole batches out of bytes, and as many of them as a reader may have.
//!
//! Does: split verified bytes into batches, apply the limits of a read.
//! Does not: read; find batches in bytes that nothing vouches for (`sieve`).
//! Invariants: a batch is given whole or not at all, and never with a wrong offset.
//! Apart because these rules hold for memory and disk alike.

use bytes::Bytes;
use flumen_protocol::batch::header::{BatchHeader, HEADER_BYTES, MAGIC};
use flumen_protocol::ids::Offset;

use crate::answers::ReadRequest;
use crate::segment::segment::Segment;

/// Whether offsets may be missing between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gaps {
    /// Every offset was appended, and nothing took one away.
    None,
    /// A cleaning may have taken whole batches out.
    Between,
}

impl Gaps {
    /// What holds for a segment.
    #[must_use]
    pub fn of(segment: &Segment) -> Self {
        if segment.has_gaps() { Self::Between } else { Self::None }
    }

    /// Whether a batch that begins at `base` may come where `expected` would be next.
    #[must_use]
    pub fn allow(self, expected: Offset, base: Offset) -> bool {
        match self {
            Self::None => base == expected,
            Self::Between => base >= expected,
        }
    }
}

/// One batch as it lies in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The first offset it answers for: the one after the batch before it. Where nothing was cleaned
    /// that is the offset of its first record.
    pub base: Offset,
    /// Offset of its last record.
    pub last: Offset,
    /// Its largest timestamp, −1 if none.
    pub max_timestamp: i64,
    /// Where it begins, counted from where the bytes began that it was found in.
    pub at: usize,
    /// All of it.
    pub bytes: Bytes,
}

/// What a read gives, growing batch by batch.
#[derive(Debug)]
pub struct Selection {
    request: ReadRequest,
    taken: Vec<Bytes>,
    bytes: usize,
}

impl Selection {
    /// Nothing yet.
    #[must_use]
    pub fn new(request: ReadRequest) -> Self {
        Self { request, taken: Vec::new(), bytes: 0 }
    }

    /// Takes the next batch if the limits allow; says whether a further one is worth offering.
    pub fn offer(&mut self, last: Offset, batch: &Bytes) -> bool {
        let fits = self.bytes + batch.len() <= self.request.max_bytes as usize;
        let first = self.taken.is_empty() && self.request.at_least_one;
        if last >= self.request.limit || !(fits || first) {
            return false;
        }
        self.bytes += batch.len();
        self.taken.push(batch.clone());
        self.bytes < self.request.max_bytes as usize
    }

    /// The batches taken, in order.
    #[must_use]
    pub fn into_batches(self) -> Vec<Bytes> {
        self.taken
    }
}

/// Splits bytes whose checksum was verified as a whole; `None` if they are not batches from
/// `first` up to `end` with no other gaps than there may be.
#[must_use]
pub fn split(bytes: &Bytes, first: Offset, end: Offset, gaps: Gaps) -> Option<Vec<Batch>> {
    let mut batches = Vec::new();
    let (mut at, mut expected) = (0, first);
    while at < bytes.len() {
        let batch = batch_at(bytes, at, (expected, end), gaps)?;
        at += batch.bytes.len();
        expected = batch.last.after(1);
        batches.push(batch);
    }
    (expected == end).then_some(batches)
}

/// A plausible batch at `at` that answers for offset `expected`, and for none from `end` on.
pub(super) fn batch_at(
    bytes: &Bytes,
    at: usize,
    (expected, end): (Offset, Offset),
    gaps: Gaps,
) -> Option<Batch> {
    let header = BatchHeader::parse(&bytes[at..])?;
    let total = header.total_bytes();
    let plausible = header.magic == MAGIC
        && gaps.allow(expected, header.base_offset)
        && header.last_offset() >= header.base_offset
        && header.last_offset() < end
        && total >= HEADER_BYTES
        && total <= bytes.len() - at;
    plausible.then(|| Batch {
        base: expected,
        last: header.last_offset(),
        max_timestamp: header.max_timestamp,
        at,
        bytes: bytes.slice(at..at + total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch;

    #[test]
    fn only_sound_bytes_are_split() {
        let bytes = [batch(0, 3, 10), batch(3, 2, 11), batch(5, 1, 12)].concat();
        let whole = Bytes::from(bytes);
        let split = |bytes: &Bytes, first, end| split(bytes, first, end, Gaps::None);
        let split_up = split(&whole, Offset(0), Offset(6)).expect("sound");
        assert_eq!(split_up.iter().map(|b| b.last.0).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(split(&whole, Offset(0), Offset(7)), None);
        assert_eq!(split(&whole.slice(..whole.len() - 1), Offset(0), Offset(6)), None);
    }

    #[test]
    fn behind_a_gap_a_batch_answers_for_what_is_missing() {
        let bytes = Bytes::from([batch(2, 3, 10), batch(9, 1, 12)].concat());
        assert_eq!(split(&bytes, Offset(0), Offset(10), Gaps::None), None);
        let found = split(&bytes, Offset(0), Offset(10), Gaps::Between).expect("gaps may be");
        let places: Vec<(i64, i64)> = found.iter().map(|b| (b.base.0, b.last.0)).collect();
        assert_eq!(places, [(0, 4), (5, 9)]);
        assert_eq!(split(&bytes, Offset(3), Offset(10), Gaps::Between), None, "none goes back");
        assert_eq!(split(&bytes, Offset(0), Offset(11), Gaps::Between), None, "the end is known");
    }

    #[test]
    fn limits_of_a_read() {
        let batches: Vec<Bytes> = (0..4).map(|_| Bytes::from(vec![0; 10])).collect();
        let take = |max_bytes, limit, at_least_one| {
            let (from, limit) = (Offset(0), Offset(limit));
            let request = ReadRequest { from, limit, max_bytes, at_least_one, token: 0 };
            let mut selection = Selection::new(request);
            let mut offered = batches.iter().enumerate();
            while let Some((n, batch)) = offered.next()
                && selection.offer(Offset(n as i64), batch)
            {}
            selection.into_batches().len()
        };
        assert_eq!(take(25, 100, true), 2);
        assert_eq!(take(5, 100, true), 1);
        assert_eq!(take(5, 100, false), 0);
        assert_eq!(take(100, 3, true), 3);
        assert_eq!(take(100, 0, true), 0);
    }
}
