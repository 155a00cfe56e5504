//! Looks into the records of a batch that was produced, a piece at a time.
//!
//! Does: what [`check_records`](super::check::check_records) and
//! [`misdated_records`](super::check::misdated_records) do together, and stop after every piece, so that
//! a batch of many or large records keeps nobody waiting.
//! Does not: judge the header, or decide what a fault means.
//! Invariants: what is found does not depend on how large the pieces are; what is inflated is bounded as
//! there.
//! Apart because who checks at once needs no state, and who does not needs nothing else.
//!
//! ```text
//!  Inflating --all--> Walking --last record, or a fault--> Inspected
//!      \--fault------------------------------------------^
//! ```

use std::ops::RangeInclusive;

use bytes::buf::Reader;
use bytes::{Buf, Bytes};

use super::check::{RecordsSummary, is_misdated};
use super::codec::{Codec, CodecFault};
use super::header::{BatchHeader, HEADER_BYTES};
use super::inflation::{Inflated, Inflation};
use super::limits::{NAMED_RECORDS_MAX, inflated_bytes_max};
use super::payload::Payload;
use super::records::{RecordFault, RecordFaultReason, RecordIter};

/// How many bytes of work a record is at least: some are seven bytes and take as long to look at as
/// these.
const RECORD_WORK_BYTES: usize = 64;

/// A batch that is being looked into.
#[derive(Debug)]
pub struct Inspection {
    batch: Bytes,
    header: BatchHeader,
    allowed: RangeInclusive<i64>,
    limit_bytes: usize,
    state: State,
    inflated_bytes: usize,
    summary: RecordsSummary,
    misdated: Vec<i32>,
}

#[derive(Debug)]
enum State {
    Inflating(Inflation<Reader<Bytes>>),
    /// Invariant: `at` is at most the length of all.
    Walking {
        all: Payload,
        at: usize,
        next_index: i32,
    },
    /// What was inflated until then is still there.
    Failed(RecordFaultReason, Payload),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The records, or the first that is at fault.
    pub summary: Result<RecordsSummary, RecordFault>,
    /// Those whose timestamps are not allowed, up to that fault, by their place, at most
    /// [`NAMED_RECORDS_MAX`].
    pub misdated: Vec<i32>,
    /// What was inflated: no more than was allowed.
    pub inflated_bytes: usize,
}

impl Inspection {
    /// Begins with a batch that `check_produced` accepted. Timestamps should be among `allowed`; no more
    /// than `allowance_bytes` are inflated, nor than any batch may inflate to.
    #[must_use]
    pub fn begin(batch: Bytes, allowed: RangeInclusive<i64>, allowance_bytes: usize) -> Self {
        let header = BatchHeader::parse(&batch).expect("it was accepted");
        let payload = batch.slice(HEADER_BYTES..);
        let limit_bytes = inflated_bytes_max(batch.len()).min(allowance_bytes);
        let codec = header.codec().expect("it was accepted");
        let state = match codec {
            Codec::None => State::walking(Payload::Part(payload)),
            Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => {
                match Inflation::begin(codec, payload.reader(), Vec::new(), limit_bytes) {
                    Ok(inflation) => State::Inflating(inflation),
                    Err(fault) => State::failed(fault, Payload::none()),
                }
            }
        };
        let (summary, misdated) = (RecordsSummary::of_none(), Vec::new());
        Self { batch, header, allowed, limit_bytes, state, inflated_bytes: 0, summary, misdated }
    }

    /// Goes on for so many bytes of work, and takes off what it did. `None`: there is more.
    pub fn go_on(&mut self, work_bytes: &mut usize) -> Option<Inspected> {
        while *work_bytes > 0 {
            match &mut self.state {
                State::Inflating(inflation) => {
                    let before = inflation.output().len();
                    let outcome = inflation.go_on(*work_bytes);
                    let after = inflation.output().len();
                    *work_bytes = work_bytes.saturating_sub((after - before).max(1));
                    // The byte that is too much is not in the allowance.
                    self.inflated_bytes = after.min(self.limit_bytes);
                    match outcome {
                        // It was as much work as was asked for, also where less came out.
                        Ok(Inflated::Some) => *work_bytes = 0,
                        Ok(Inflated::All) => {
                            let all = self.take_payload();
                            self.state = State::walking(all);
                        }
                        Err(fault) => {
                            let rest = self.take_payload();
                            self.state = State::failed(fault, rest);
                        }
                    }
                }
                State::Walking { .. } => {
                    if let Some(summary) = self.walk(work_bytes) {
                        return Some(self.inspected(summary));
                    }
                }
                State::Failed(reason, _) => {
                    let fault = RecordFault { record_index: 0, reason: *reason };
                    return Some(self.inspected(Err(fault)));
                }
            }
        }
        None
    }

    /// Gives the batch back and its records, inflated; the first of them, perhaps, where they could not
    /// be.
    #[must_use]
    pub fn into_parts(mut self) -> (Bytes, Payload) {
        let records = self.take_payload();
        (self.batch, records)
    }

    /// Takes what there is of the records.
    fn take_payload(&mut self) -> Payload {
        match std::mem::replace(&mut self.state, State::walking(Payload::none())) {
            State::Inflating(inflation) => Payload::Inflated(inflation.into_output()),
            State::Walking { all, .. } => all,
            State::Failed(_, rest) => rest,
        }
    }

    /// Takes records in; how it ended, if it did.
    fn walk(&mut self, work_bytes: &mut usize) -> Option<Result<RecordsSummary, RecordFault>> {
        let State::Walking { all, at, next_index } = &mut self.state else { return None };
        let mut walk = RecordIter::at(self.header, &all.as_ref()[*at..], *next_index);
        let ended = loop {
            if *work_bytes == 0 {
                break None;
            }
            let record = match walk.next() {
                Some(Ok(record)) => record,
                Some(Err(fault)) => break Some(Err(fault)),
                None => {
                    break Some(Ok(std::mem::replace(
                        &mut self.summary,
                        RecordsSummary::of_none(),
                    )));
                }
            };
            if let Err(fault) = self.summary.add(self.header.base_offset, *next_index, &record) {
                break Some(Err(fault));
            }
            if is_misdated(&record, &self.allowed) && self.misdated.len() < NAMED_RECORDS_MAX {
                self.misdated.push(*next_index);
            }
            *next_index += 1;
            *work_bytes = work_bytes.saturating_sub(RECORD_WORK_BYTES);
        };
        *at = all.as_ref().len() - walk.bytes_left();
        ended
    }

    fn inspected(&mut self, summary: Result<RecordsSummary, RecordFault>) -> Inspected {
        let (misdated, inflated_bytes) = (std::mem::take(&mut self.misdated), self.inflated_bytes);
        Inspected { summary, misdated, inflated_bytes }
    }
}

impl State {
    fn walking(all: Payload) -> Self {
        Self::Walking { all, at: 0, next_index: 0 }
    }

    fn failed(fault: CodecFault, rest: Payload) -> Self {
        Self::Failed(RecordFaultReason::Codec(fault), rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::{BatchBuilder, NewRecord};
    use super::super::check::{check_produced, check_records, misdated_records};
    use super::super::goldens;
    use super::super::stamp::stamp_crc;
    use super::*;

    const ALLOWANCE: usize = 1 << 20;

    /// In pieces of so much work; how many there were.
    fn inspect(batch: &[u8], piece: usize) -> (Inspected, usize) {
        let allowed = 1_700_000_000_100..=i64::MAX;
        let batch = Bytes::copy_from_slice(batch);
        let mut inspection = Inspection::begin(batch.clone(), allowed, ALLOWANCE);
        let mut pieces = 1;
        loop {
            if let Some(inspected) = inspection.go_on(&mut { piece }) {
                assert_eq!(inspection.into_parts().0, batch);
                return (inspected, pieces);
            }
            pieces += 1;
        }
    }

    /// What is found at once, compared with what is found in pieces.
    fn compare(batch: &[u8], piece: usize) -> usize {
        let allowed = 1_700_000_000_100..=i64::MAX;
        let mut allowance = ALLOWANCE;
        let summary = check_records(batch, &mut allowance);
        let (found, pieces) = inspect(batch, piece);
        assert_eq!(found.summary, summary);
        assert!(found.inflated_bytes <= ALLOWANCE);
        // What is damaged may be noticed before or after what is before it was handed out.
        if summary.is_ok() {
            assert_eq!(found.inflated_bytes, ALLOWANCE - allowance);
            assert_eq!(found.misdated, misdated_records(batch, &allowed, &mut { ALLOWANCE }));
        }
        pieces
    }

    #[test]
    fn pieces_find_what_is_found_at_once() {
        let all = [goldens::PLAIN, goldens::GZIP, goldens::SNAPPY, goldens::LZ4, goldens::ZSTD];
        for golden in all {
            let batch = goldens::bytes(golden);
            for piece in [1, 7, 100, 1 << 20] {
                compare(&batch, piece);
            }
            for place in HEADER_BYTES..batch.len() {
                let mut damaged = batch.clone();
                damaged[place] ^= 0x11;
                stamp_crc(&mut damaged);
                if check_produced(&damaged).is_ok() {
                    compare(&damaged, 50);
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_many_pieces() {
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
            for value in [vec![0; 600_000], vec![0; 2 * ALLOWANCE]] {
                let value = Some(&value[..]);
                let mut batch = BatchBuilder::new();
                batch.push(&NewRecord { timestamp: 5, key: None, value, headers: &[] });
                let pieces = compare(&batch.finish_compressed(codec), 10_000);
                assert!(pieces >= 60, "{codec:?}: {pieces}");
            }
        }
        let mut many = BatchBuilder::new();
        for _ in 0..1_000 {
            many.push(&NewRecord { timestamp: 5, key: None, value: None, headers: &[] });
        }
        let pieces = compare(&many.finish(), 100 * RECORD_WORK_BYTES);
        assert!((10..=11).contains(&pieces), "{pieces}");
    }
}
