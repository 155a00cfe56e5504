//! Records on their way into batches.
//!
//! Does: put a record into a batch and say when one is full; pack a great many records over several
//! turns.
//! Does not: hand batches out; the runtime does.
//! Invariants: no batch is larger than [`COORDINATOR_BATCH_BYTES_MAX`]; records keep their order.
//! Apart because what a turn has gathered and what took many turns must come to the same batches.

use std::vec;

use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::time::Now;

use super::machine::StateRecord;
use crate::limits::COORDINATOR_BATCH_BYTES_MAX;

/// Records that must be written together and are too many to be packed in one turn.
#[derive(Clone, Debug)]
pub(super) struct Packing {
    left: vec::IntoIter<StateRecord>,
    /// Invariant: each has a record.
    batches: Vec<BatchBuilder>,
}

impl Packing {
    pub(super) fn new(records: Vec<StateRecord>) -> Self {
        Self { left: records.into_iter(), batches: Vec::new() }
    }

    /// Packs so many records more; whether none is left.
    pub(super) fn go_on(&mut self, now: Now, count: usize) -> bool {
        for record in self.left.by_ref().take(count) {
            if self.batches.last().is_none_or(|last| is_full_for(last, now, &record)) {
                self.batches.push(BatchBuilder::default());
            }
            let last = self.batches.last_mut().expect("there is one");
            push(last, now, &record);
        }
        self.left.len() == 0
    }

    /// The batches.
    ///
    /// # Panics
    /// When not all records are packed.
    pub(super) fn finish(self) -> Vec<BatchBuilder> {
        assert_eq!(self.left.len(), 0, "records are written together");
        self.batches
    }
}

/// Whether a batch that holds records has no room for this one.
pub(super) fn is_full_for(batch: &BatchBuilder, now: Now, record: &StateRecord) -> bool {
    batch.record_count() > 0
        && batch.size_bytes_with(&as_new(now, record)) > COORDINATOR_BATCH_BYTES_MAX
}

/// Puts a record into a batch.
pub(super) fn push(batch: &mut BatchBuilder, now: Now, record: &StateRecord) {
    batch.push(&as_new(now, record));
    assert!(batch.size_bytes() <= COORDINATOR_BATCH_BYTES_MAX, "a record fits");
}

fn as_new(now: Now, record: &StateRecord) -> NewRecord<'_> {
    let (key, value) = (Some(&*record.key), record.value.as_deref());
    NewRecord { timestamp: now.wall.0, key, value, headers: &[] }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flumen_protocol::batch::records::records;
    use flumen_protocol::time::{Monotonic, Wall};

    use super::*;

    const NOW: Now = Now { monotonic: Monotonic(0), wall: Wall(1) };

    #[test]
    fn records_are_packed_some_a_turn_and_keep_their_order() {
        let value = Bytes::from(vec![0; COORDINATOR_BATCH_BYTES_MAX / 3]);
        let keys: Vec<Bytes> = (0..10_u8).map(|key| Bytes::from(vec![key])).collect();
        let given =
            keys.iter().map(|key| StateRecord { key: key.clone(), value: Some(value.clone()) });
        let mut packing = Packing::new(given.collect());
        let turns: Vec<bool> = (0..4).map(|_| packing.go_on(NOW, 3)).collect();
        assert_eq!(turns, [false, false, false, true]);
        let mut packed = Vec::new();
        for batch in packing.finish() {
            let batch = batch.finish();
            assert!(batch.len() <= COORDINATOR_BATCH_BYTES_MAX);
            let records = records(&batch, usize::MAX).expect("a batch");
            packed.extend(records.iter().map(|record| {
                Bytes::copy_from_slice(record.expect("a record").key.expect("its key"))
            }));
        }
        assert_eq!(packed, keys);
    }
}
