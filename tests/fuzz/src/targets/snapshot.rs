//! The saved state of a partition: producers, their transactions and epochs.
//!
//! Oracle: any bytes are refused or give a partition; that partition's own snapshot gives the same one
//! again, and it takes records.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::check::check_produced;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::batch::stamp::stamp_as_producer;
use flumen_protocol::entry::HardState;
use flumen_protocol::ids::{
    CoreId, LogId, LogIndex, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    Term, TopicId,
};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_replication::outbox::{Outbox, Ticket};
use flumen_replication::partition::{
    Acks, Append, EndTransaction, Origin, Partition, PartitionBoot, PartitionSettings, covered_end,
};

use super::batch::sample;
use crate::draw::Draw;

const NOW: Now = Now { monotonic: Monotonic(1), wall: Wall(1_700_000_000_000) };

/// How far the log reaches behind the state, then the state.
pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let behind = i64::from(draw.byte() % 4);
    let state = Bytes::copy_from_slice(draw.rest());
    let Ok(covered) = covered_end(&state) else { return };
    let end = Offset(covered.0.clamp(0, 1 << 60) + behind);
    let mut out = Outbox::default();
    let Ok(mut opened) = Partition::open(boot(state, end), NOW, &mut out) else { return };
    let saved = opened.snapshot(end).bytes;
    let mut again = Partition::open(boot(saved.clone(), end), NOW, &mut out)
        .expect("what a partition saves is opened");
    assert_eq!(again.snapshot(end).bytes, saved);
    takes_records(&mut again, &mut out);
}

/// A log of settled records up to `end`, with nothing behind them.
fn boot(state: Bytes, end: Offset) -> PartitionBoot {
    let (index, term) = (LogIndex(5), Term(3));
    PartitionBoot {
        log: LogId { topic: TopicId([9; 16]), partition: PartitionIndex(0) },
        me: NodeId(1),
        voters: vec![NodeId(1)],
        hard_state: HardState { term, vote: None, commit: index },
        settled: (index, term),
        settled_end: end,
        start_offset: Offset::ZERO,
        state,
        aborted: Vec::new(),
        rebuild: Vec::new(),
        entries: Vec::new(),
        settings: PartitionSettings {
            max_producer_ids: 100,
            producer_expiry: Duration::from_secs(86_400),
            append_time: false,
            relaxed: false,
            replay: false,
        },
        election_seed: 1,
    }
}

fn takes_records(partition: &mut Partition, out: &mut Outbox) {
    let batch = sample(2, 10);
    let accepted = append(partition, &batch, out);
    assert!(accepted || partition.offsets().end() > Offset(1 << 40));
    out.clear();
}

/// A marker of a further producer; another one's transaction stays under way.
fn end_transaction(partition: &mut Partition, producer: i64, out: &mut Outbox) {
    for id in [producer, producer + 1] {
        let (id, epoch) = (ProducerId(id), ProducerEpoch(1));
        let mut builder = BatchBuilder::new().with_producer(id, epoch, Sequence(0)).transactional();
        builder.push(&NewRecord { timestamp: 5, key: None, value: None, headers: &[] });
        assert!(append(partition, &builder.finish(), out));
    }
    let ending = EndTransaction {
        producer: (ProducerId(producer), ProducerEpoch(2)),
        marker: EndMarker { commit: false, coordinator_epoch: 7 },
        must_be_newer: true,
        ticket: Ticket { core: CoreId(0), request: 1, part: 0 },
        deadline: Monotonic(1_000_000_000),
    };
    partition.end_transaction(NOW, ending, out).expect("a transaction is under way");
    let last = partition.last_index();
    partition.persisted(NOW, last, out);
}

fn append(partition: &mut Partition, batch: &[u8], out: &mut Outbox) -> bool {
    let summary = check_produced(batch).expect("a producer's batch");
    let append = Append {
        batch: BytesMut::from(batch),
        summary,
        ticket: Ticket { core: CoreId(0), request: 1, part: 0 },
        acks: Acks::All,
        deadline: Monotonic(1_000_000_000),
        may_relax: false,
        may_begin: true,
        leader_epoch: None,
        origin: Origin::Coordinator,
    };
    partition.append(NOW, append, out).is_ok()
}

/// States of partitions that no, one and three producers wrote to.
pub fn seeds() -> Vec<Vec<u8>> {
    [0, 1, 3].into_iter().map(|producers| [vec![1], state_after(producers)].concat()).collect()
}

fn state_after(producers: i64) -> Vec<u8> {
    let mut out = Outbox::default();
    let mut partition =
        Partition::open(boot(Bytes::new(), Offset::ZERO), NOW, &mut out).expect("an empty log");
    assert!(append(&mut partition, &sample(3, 10), &mut out));
    for sequence in [0, 2] {
        for producer in 0..producers {
            let mut batch = sample(2, 10);
            let whose = (ProducerId(producer), ProducerEpoch(1), Sequence(sequence));
            stamp_as_producer(&mut batch, 1_000, Some(whose));
            assert!(append(&mut partition, &batch, &mut out));
        }
    }
    let last = partition.last_index();
    partition.persisted(NOW, last, &mut out);
    if producers > 1 {
        end_transaction(&mut partition, producers, &mut out);
    }
    partition.snapshot(Offset::ZERO).bytes.to_vec()
}
