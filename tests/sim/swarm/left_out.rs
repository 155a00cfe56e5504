//! What a reader of committed records leaves out of an answer: what it is told was aborted.
//!
//! Does: go through an answer batch by batch as Kafka's consumer does (KIP-98).
//! Does not: judge whether the answer was right.
//! Invariants: a producer's records are left out from the first offset told to the marker that aborts them.
//! Apart because half of the promise of committed reading is kept by clients.

use std::collections::BTreeSet;

use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::header::BatchHeader;
use flumen_protocol::ids::ProducerId;
use flumen_protocol::messages::fetch_response::PartitionData;

/// A reader on its way through one answer.
pub struct LeftOut {
    /// First offsets of aborted transactions and whose they are, the last one first.
    aborted: Vec<(i64, ProducerId)>,
    /// Whose records are left out now.
    now: BTreeSet<ProducerId>,
}

impl LeftOut {
    /// Before the first batch.
    pub fn told(told: &PartitionData) -> Self {
        let all = told.aborted_transactions.iter().flatten();
        let all = all.map(|it| (it.first_offset, ProducerId(it.producer_id.0)));
        let mut aborted: Vec<(i64, ProducerId)> = all.collect();
        aborted.sort_unstable();
        aborted.reverse();
        Self { aborted, now: BTreeSet::new() }
    }

    /// Whether the records of the next batch are left out.
    pub fn has(&mut self, header: &BatchHeader, bytes: &[u8]) -> bool {
        let last = header.last_offset().0;
        while let Some((_, whose)) = self.aborted.pop_if(|(first, _)| *first <= last) {
            self.now.insert(whose);
        }
        if header.is_control() {
            if EndMarker::read(bytes).is_some_and(|marker| !marker.commit) {
                self.now.remove(&header.producer_id);
            }
            return false;
        }
        header.is_transactional() && self.now.contains(&header.producer_id)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
    use flumen_protocol::batch::iter::batches;
    use flumen_protocol::batch::stamp::stamp;
    use flumen_protocol::ids::{LeaderEpoch, Offset, ProducerEpoch, Sequence};
    use flumen_protocol::messages::WireProducerId;
    use flumen_protocol::messages::fetch_response::AbortedTransaction;
    use flumen_protocol::time::Wall;

    use super::*;

    const EPOCH: ProducerEpoch = ProducerEpoch(0);

    fn written(producer: i64) -> Vec<u8> {
        let id = ProducerId(producer);
        let mut batch = BatchBuilder::new().with_producer(id, EPOCH, Sequence(0)).transactional();
        batch.push(&NewRecord { timestamp: 1, key: None, value: Some(b"v"), headers: &[] });
        batch.finish().to_vec()
    }

    fn ended(producer: i64, commit: bool) -> Vec<u8> {
        let marker = EndMarker { commit, coordinator_epoch: 0 };
        marker.batch(ProducerId(producer), EPOCH, Wall(1)).to_vec()
    }

    /// Two producers, one in the other; the second aborts, commits and aborts.
    #[test]
    fn only_what_lies_between_a_first_offset_and_its_marker_is_left_out() {
        let log = [
            written(1),
            written(2),
            ended(2, false),
            written(2),
            ended(2, true),
            written(2),
            ended(1, true),
            ended(2, false),
        ];
        let aborted = [(5, 2), (1, 2)].map(|(first, producer)| {
            AbortedTransaction::default()
                .with_first_offset(first)
                .with_producer_id(WireProducerId(producer))
        });
        let told = PartitionData::default().with_aborted_transactions(Some(aborted.to_vec()));
        let mut left_out = LeftOut::told(&told);
        let is_left_out = (0i64..).zip(log).map(|(offset, bytes)| {
            let mut bytes = BytesMut::from(&bytes[..]);
            stamp(&mut bytes, Offset(offset), LeaderEpoch(0));
            let batch = batches(&bytes).next().expect("one batch").expect("a sound one");
            left_out.has(&batch.header, batch.bytes)
        });
        let is_left_out: Vec<bool> = is_left_out.collect();
        assert_eq!(is_left_out, [false, true, false, false, false, true, false, false]);
    }
}
