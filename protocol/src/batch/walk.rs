//! Walks the records of one batch with rests in between.
//!
//! Does: open a batch once, then hand out record after record, as long as the caller likes at a time.
//! Does not: read a record otherwise than `records` does.
//! Invariants: as of `records`; what is walked is the batch itself, or what it was inflated to, never a copy.
//! Apart because a batch of a MiB may have ten thousand records, and who works on it must not keep others
//! waiting for all of them.

use bytes::Bytes;

use super::header::BatchHeader;
use super::records::{Record, RecordFault, RecordIter, records};

/// A batch, and how far it was walked.
#[derive(Debug)]
pub struct Walk {
    header: BatchHeader,
    payload: Bytes,
    /// Invariant: at most the payload's length.
    at: usize,
    next_index: i32,
    is_broken: bool,
}

impl Walk {
    /// Opens the batch `batch` begins with, inflating at most `limit_bytes`, and stands before its first record.
    ///
    /// # Errors
    /// As [`records`].
    pub fn open(batch: &Bytes, limit_bytes: usize) -> Result<Self, RecordFault> {
        let opened = records(batch, limit_bytes)?;
        let header = *opened.header();
        let payload = opened.into_payload(batch);
        Ok(Self { header, payload, at: 0, next_index: 0, is_broken: false })
    }

    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of all records, inflated.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    /// Stands before the first record again.
    pub fn rewind(&mut self) {
        (self.at, self.next_index, self.is_broken) = (0, 0, false);
    }

    /// The next record and its bytes; `None` behind the last one, and behind a fault.
    pub fn next_record(&mut self) -> Option<Result<(Record<'_>, usize), RecordFault>> {
        if self.is_broken {
            return None;
        }
        let rest = &self.payload[self.at..];
        let mut walk = RecordIter::at(self.header, rest, self.next_index);
        let outcome = walk.next()?;
        let bytes = rest.len() - walk.bytes_left();
        self.at += bytes;
        self.next_index = self.next_index.saturating_add(1);
        self.is_broken = outcome.is_err();
        Some(outcome.map(|record| (record, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::{BatchBuilder, NewRecord};
    use super::super::records::RecordFaultReason;
    use super::*;

    fn batch(count: u8) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for n in 0..count {
            let (key, value) = (Some(&[n][..]), Some(&[7_u8; 40][..]));
            builder.push(&NewRecord { timestamp: 5, key, value, headers: &[] });
        }
        builder.finish().to_vec()
    }

    #[test]
    fn it_hands_out_what_the_other_walk_does_and_again_after_a_rewind() {
        let bytes = Bytes::from(batch(9));
        let opened = records(&bytes, 0).expect("not compressed");
        let all: Vec<_> = opened.iter().map(|it| it.expect("sound")).collect();
        let mut walk = Walk::open(&bytes, 0).expect("not compressed");
        for _ in 0..2 {
            let mut total = 0;
            for expected in &all {
                let (record, bytes) = walk.next_record().expect("one more").expect("sound");
                assert_eq!(record, *expected);
                total += bytes;
            }
            assert_eq!(total, walk.payload_bytes());
            assert!(walk.next_record().is_none() && walk.next_record().is_none());
            walk.rewind();
        }
    }

    #[test]
    fn a_fault_ends_it() {
        let mut bytes = batch(3);
        *bytes.last_mut().expect("not empty") = 9;
        let mut walk = Walk::open(&Bytes::from(bytes), 0).expect("opened");
        assert!(walk.next_record().is_some_and(|it| it.is_ok()));
        assert!(walk.next_record().is_some_and(|it| it.is_ok()));
        let fault = walk.next_record().expect("a fault").expect_err("no third header");
        assert_eq!(fault.record_index, 2);
        assert_eq!(fault.reason, RecordFaultReason::Header);
        assert!(walk.next_record().is_none());
    }
}
