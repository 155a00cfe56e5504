//! Walks whole batches that lie back to back, as in a segment or a fetch answer.
//!
//! Does: find where each batch ends by its length, and say why the walk ended.
//! Does not: check CRCs or look at records.
//! Invariants: what is handed out is whole, of format 2 and at least a header long; the walk
//! always moves forward; the first fault ends it.
//! Apart because reading, recovery and compaction all walk, and must stop at the same places.

use super::header::{BatchHeader, HEADER_BYTES, MAGIC};

/// One whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Its header, read.
    pub header: BatchHeader,
    /// All its bytes, header included.
    pub bytes: &'a [u8],
}

/// Why a walk ended before the bytes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkStop {
    /// The rest is the beginning of a batch. More bytes may complete it.
    Partial,
    /// The rest says it is shorter than a header. More bytes do not help.
    LengthTooSmall,
    /// The rest is of another format than 2. More bytes do not help.
    Magic,
}

/// Walks the batches `bytes` consist of.
#[must_use]
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, position: 0, stopped: false }
}

/// Hands out one batch after the other; then, unless the bytes end there, the reason, once.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    stopped: bool,
}

impl Batches<'_> {
    /// Where the batch after the last one handed out begins, in bytes from the start.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, WalkStop>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if self.stopped || rest.is_empty() {
            return None;
        }
        let found = first_batch(rest);
        match found {
            Ok(batch) => self.position += batch.bytes.len(),
            Err(WalkStop::Partial | WalkStop::LengthTooSmall | WalkStop::Magic) => {
                self.stopped = true;
            }
        }
        Some(found)
    }
}

fn first_batch(rest: &[u8]) -> Result<Batch<'_>, WalkStop> {
    let header = BatchHeader::parse(rest).ok_or(WalkStop::Partial)?;
    if header.magic != MAGIC {
        return Err(WalkStop::Magic);
    }
    let total_bytes = header.total_bytes();
    if total_bytes < HEADER_BYTES {
        return Err(WalkStop::LengthTooSmall);
    }
    let bytes = rest.get(..total_bytes).ok_or(WalkStop::Partial)?;
    Ok(Batch { header, bytes })
}

#[cfg(test)]
mod tests {
    use super::super::goldens;
    use super::super::header::at;
    use super::*;

    fn three() -> Vec<u8> {
        [goldens::STAMPED, goldens::EMPTIED, goldens::MARKER].map(goldens::bytes).concat()
    }

    #[test]
    fn whole_batches_are_handed_out_in_order() {
        let bytes = three();
        let mut walk = batches(&bytes);
        let walked: Vec<Batch<'_>> = walk.by_ref().map(|batch| batch.expect("whole")).collect();
        let offsets: Vec<i64> = walked.iter().map(|batch| batch.header.base_offset.0).collect();
        assert_eq!(offsets, [1000, 1000, 42]);
        assert_eq!(walked[2].bytes, goldens::bytes(goldens::MARKER));
        assert_eq!(walk.position(), bytes.len());
        assert_eq!(batches(&[]).next(), None);
    }

    #[test]
    fn a_batch_that_is_not_all_there_is_partial_wherever_it_is_cut() {
        let bytes = three();
        let first = goldens::bytes(goldens::STAMPED).len();
        for length in 1..first {
            let mut walk = batches(&bytes[..length]);
            assert_eq!(walk.next(), Some(Err(WalkStop::Partial)), "{length}");
            assert_eq!((walk.next(), walk.position()), (None, 0));
        }
        let mut walk = batches(&bytes[..first + 1]);
        assert!(walk.next().is_some_and(|batch| batch.is_ok()));
        assert_eq!(walk.next(), Some(Err(WalkStop::Partial)));
        assert_eq!((walk.next(), walk.position()), (None, first));
    }

    #[test]
    fn nonsense_ends_the_walk_by_name() {
        let mut bytes = three();
        bytes[at::MAGIC] = 1;
        assert_eq!(batches(&bytes).last(), Some(Err(WalkStop::Magic)));
        let mut bytes = three();
        bytes[at::LENGTH] = 0x80;
        assert_eq!(batches(&bytes).last(), Some(Err(WalkStop::LengthTooSmall)));
        let zeros = [0; HEADER_BYTES];
        assert_eq!(batches(&zeros).last(), Some(Err(WalkStop::Magic)));
    }

    #[test]
    fn no_flipped_bit_panics_or_stalls_the_walk() {
        let bytes = three();
        for place in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[place / 8] ^= 1 << (place % 8);
            assert!(batches(&damaged).count() <= damaged.len() / HEADER_BYTES + 1);
        }
    }
}
