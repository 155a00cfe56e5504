//! Whole batches out of bytes, and as many of them as a reader may have.
//!
//! Does: split verified bytes into batches, sift damaged bytes for what is still good, apply the
//! limits of a read.
//! Does not: read.
//! Invariants: a batch is given whole or not at all; nothing is given whose checksum or offset is
//! wrong.
//! Apart because these rules hold for memory and disk alike.

use bytes::Bytes;
use flumen_protocol::batch::check::verify_crc;
use flumen_protocol::batch::header::{BatchHeader, HEADER_BYTES, MAGIC};
use flumen_protocol::ids::Offset;

use crate::answers::ReadRequest;
use crate::limits::BATCH_BYTES_MAX;

/// One batch as it lies in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Offset of its first record.
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

/// What was found in bytes that nothing vouches for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sifted {
    /// Good batches, in order.
    pub batches: Vec<Batch>,
    /// Ranges of offsets that are lost.
    pub damaged: Vec<(Offset, Offset)>,
    /// How many bytes were judged; what follows is the beginning of a batch.
    pub used: usize,
    /// How many bytes from there that batch needs.
    pub wanted: usize,
}

/// Splits bytes whose checksum was verified as a whole; `None` if they are not batches from
/// `first` up to `end` without a gap.
#[must_use]
pub fn split(bytes: &Bytes, first: Offset, end: Offset) -> Option<Vec<Batch>> {
    let mut batches = Vec::new();
    let (mut at, mut expected) = (0, first);
    while at < bytes.len() {
        let batch = batch_at(bytes, at, expected, end)?;
        at += batch.bytes.len();
        expected = batch.last.after(1);
        batches.push(batch);
    }
    (expected == end).then_some(batches)
}

/// Finds the good batches between offsets `first` and `end`, by their own checksums and offsets.
///
/// `complete`: the bytes end where `end` is; otherwise a batch cut off by their end is left for
/// later.
#[must_use]
pub fn sift(bytes: &Bytes, first: Offset, end: Offset, complete: bool) -> Sifted {
    let mut found = Sifted::default();
    let mut expected = first;
    while found.used < bytes.len() && expected < end {
        if let Some(batch) = sound_batch_at(bytes, found.used, expected, end) {
            found.used += batch.bytes.len();
            expected = batch.last.after(1);
            found.batches.push(batch);
            continue;
        }
        if !complete && let Some(wanted) = cut_off(&bytes[found.used..], expected) {
            found.wanted = wanted;
            return found;
        }
        let next = (found.used + 1..bytes.len()).find_map(|at| resume_at(bytes, at, expected, end));
        let (at, offset) = next.unwrap_or((bytes.len(), end));
        found.damaged.push((expected, offset));
        found.used = at;
        expected = offset;
    }
    if complete && expected < end {
        found.damaged.push((expected, end));
    }
    found
}

/// A plausible batch at `at` that begins with offset `expected`.
fn batch_at(bytes: &Bytes, at: usize, expected: Offset, end: Offset) -> Option<Batch> {
    let header = BatchHeader::parse(&bytes[at..])?;
    let total = header.total_bytes();
    let plausible = header.magic == MAGIC
        && header.base_offset == expected
        && header.last_offset() >= expected
        && header.last_offset() < end
        && total >= HEADER_BYTES
        && total <= bytes.len() - at;
    plausible.then(|| Batch {
        base: header.base_offset,
        last: header.last_offset(),
        max_timestamp: header.max_timestamp,
        at,
        bytes: bytes.slice(at..at + total),
    })
}

fn sound_batch_at(bytes: &Bytes, at: usize, expected: Offset, end: Offset) -> Option<Batch> {
    batch_at(bytes, at, expected, end).filter(|batch| verify_crc(&batch.bytes))
}

/// Where a later sound batch begins and with which offset, if it does at `at`.
fn resume_at(bytes: &Bytes, at: usize, after: Offset, end: Offset) -> Option<(usize, Offset)> {
    // The format byte first: it rules out nearly every place before anything is computed.
    if *bytes.get(at + 16)? != MAGIC as u8 {
        return None;
    }
    let offset = BatchHeader::parse(&bytes[at..])?.base_offset;
    let later = offset > after && offset < end;
    (later && sound_batch_at(bytes, at, offset, end).is_some()).then_some((at, offset))
}

/// If `rest` is the beginning of a plausible batch that goes on after it: how long that is.
fn cut_off(rest: &[u8], expected: Offset) -> Option<usize> {
    let Some(header) = BatchHeader::parse(rest) else { return Some(HEADER_BYTES) };
    let total = header.total_bytes();
    let plausible = header.magic == MAGIC
        && header.base_offset == expected
        && total as u64 <= BATCH_BYTES_MAX
        && total > rest.len();
    plausible.then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch;

    fn three() -> (Vec<u8>, usize) {
        let bytes: Vec<u8> = [batch(0, 3, 10), batch(3, 2, 11), batch(5, 1, 12)].concat();
        let second = batch(0, 3, 10).len();
        (bytes, second)
    }

    #[test]
    fn sound_bytes_are_split_and_a_cut_batch_is_left_for_later() {
        let (bytes, _) = three();
        let whole = Bytes::from(bytes);
        let split_up = split(&whole, Offset(0), Offset(6)).expect("sound");
        assert_eq!(split_up.iter().map(|b| b.last.0).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(split(&whole, Offset(0), Offset(7)), None);
        let cut = whole.slice(..whole.len() - 1);
        let found = sift(&cut, Offset(0), Offset(6), false);
        assert_eq!((found.batches.len(), found.damaged.len()), (2, 0));
        assert_eq!(found.wanted, whole.len() - found.used);
        let found = sift(&cut, Offset(0), Offset(6), true);
        assert_eq!(found.damaged, [(Offset(5), Offset(6))]);
    }

    #[test]
    fn any_flipped_bit_costs_only_its_own_batch() {
        let (bytes, second) = three();
        let length = batch(3, 2, 11).len();
        for place in second..second + length {
            let mut rotten = bytes.clone();
            rotten[place] ^= 0x10;
            let found = sift(&Bytes::from(rotten), Offset(0), Offset(6), true);
            let bases: Vec<i64> = found.batches.iter().map(|b| b.base.0).collect();
            if (12..16).contains(&(place - second)) {
                // The leader epoch is under no checksum of Kafka's; the chunk's covers it.
                assert_eq!(bases, [0, 3, 5]);
            } else {
                assert_eq!(bases, [0, 5], "byte {place}");
                assert_eq!(found.damaged, [(Offset(3), Offset(5))]);
            }
        }
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
