//! What the tests of this crate share: batches, and a disk in memory.

use bytes::Bytes;
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::stamp::stamp;
use flumen_protocol::ids::{LeaderEpoch, Offset};

use crate::op::Generation;
use crate::segment::segment::Segment;

/// A segment of one byte that was never cleaned.
pub fn segment_of(base: i64, end: i64, max_timestamp: i64) -> Segment {
    Segment {
        base: Offset(base),
        generation: Generation::APPENDED,
        end: Offset(end),
        length: 1,
        first_timestamp: -1,
        max_timestamp,
        written: 0,
    }
}

/// A batch of `count` records from offset `base` on, all with one timestamp, in epoch 1.
pub fn batch(base: i64, count: i64, timestamp: i64) -> Vec<u8> {
    sized_batch(base, count, timestamp, 20)
}

/// As [`batch`], each record with `value_bytes` of value.
pub fn sized_batch(base: i64, count: i64, timestamp: i64, value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for n in 0..count {
        let value = vec![(base + n) as u8; value_bytes];
        builder.push(&NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
    }
    let mut bytes = builder.finish();
    stamp(&mut bytes, Offset(base), LeaderEpoch(1));
    Bytes::from(bytes).to_vec()
}
