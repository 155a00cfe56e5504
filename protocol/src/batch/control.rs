//! The markers that end a transaction on a partition (KIP-98): control batches of one record.
//!
//! Does: build a marker as Kafka's `EndTransactionMarker` does, and read one back.
//! Does not: know which transaction it ends; the batch's header says whose it is.
//! Invariants: what is built is read back the same; what is no marker is `None`, never a panic.
//! Apart because these bytes are Kafka's own: consumers and coordinators of other brokers read them.
//!
//! ```text
//!  key:   version i16 = 0 | type i16: 0 abort, 1 commit
//!  value: version i16 = 0 | coordinator epoch i32
//! ```

use bytes::BytesMut;

use super::builder::{BatchBuilder, NewRecord};
use super::limits::INFLATED_BYTES_FLOOR;
use super::records;
use crate::ids::{ProducerEpoch, ProducerId, Sequence};
use crate::time::Wall;

/// The version Kafka writes, of key and value. Later ones only add at the end.
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// What a marker says of the transaction it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    /// Committed, or aborted.
    pub commit: bool,
    /// The epoch of the transaction coordinator that wrote it.
    pub coordinator_epoch: i32,
}

impl EndMarker {
    /// A batch that ends the transaction of this producer; its offset is still to be stamped.
    #[must_use]
    pub fn batch(self, id: ProducerId, epoch: ProducerEpoch, now: Wall) -> BytesMut {
        let kind = if self.commit { COMMIT } else { ABORT };
        let mut key = [0; 4];
        key[..2].copy_from_slice(&VERSION.to_be_bytes());
        key[2..].copy_from_slice(&kind.to_be_bytes());
        let mut value = [0; 6];
        value[..2].copy_from_slice(&VERSION.to_be_bytes());
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        let builder = BatchBuilder::new().with_producer(id, epoch, Sequence::NONE);
        let mut builder = builder.transactional().control();
        let (key, value) = (Some(&key[..]), Some(&value[..]));
        builder.push(&NewRecord { timestamp: now.0, key, value, headers: &[] });
        builder.finish()
    }

    /// What a control batch says; `None` if it is no marker, or one of which compaction left only the
    /// header.
    #[must_use]
    pub fn read(batch: &[u8]) -> Option<Self> {
        // A marker is never compressed; whatever inflates beyond this is none.
        let records = records::records(batch, INFLATED_BYTES_FLOOR).ok()?;
        if !records.header().is_control() {
            return None;
        }
        let record = records.iter().next()?.ok()?;
        let (key, value) = (record.key?, record.value?);
        let commit = match i16_at(key, 2)? {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        let is_known = i16_at(key, 0)? >= VERSION && i16_at(value, 0)? >= VERSION;
        let epoch = value.get(2..6)?.try_into().ok()?;
        is_known.then_some(Self { commit, coordinator_epoch: i32::from_be_bytes(epoch) })
    }
}

fn i16_at(bytes: &[u8], place: usize) -> Option<i16> {
    Some(i16::from_be_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::goldens;
    use crate::batch::stamp::stamp;
    use crate::ids::{LeaderEpoch, Offset};

    #[test]
    fn a_marker_is_byte_for_byte_that_of_kafka() {
        let marker = EndMarker { commit: true, coordinator_epoch: 9 };
        let now = Wall(1_700_000_000_000);
        let mut batch = marker.batch(ProducerId(4711), ProducerEpoch(3), now);
        stamp(&mut batch, Offset(42), LeaderEpoch(5));
        assert_eq!(batch, goldens::bytes(goldens::MARKER));
        assert_eq!(EndMarker::read(&batch), Some(marker));
    }

    #[test]
    fn what_is_no_marker_is_none() {
        for golden in [goldens::PLAIN, goldens::TRANSACTIONAL, goldens::EMPTIED] {
            assert_eq!(EndMarker::read(&goldens::bytes(golden)), None);
        }
        let abort = EndMarker { commit: false, coordinator_epoch: -1 };
        let batch = abort.batch(ProducerId(1), ProducerEpoch(0), Wall(5));
        assert_eq!(EndMarker::read(&batch), Some(abort));
        for length in 0..batch.len() {
            assert_eq!(EndMarker::read(&batch[..length]), None, "cut to {length}");
        }
    }
}
