//! The cores below the shard, driven alone: the store's logs, one Raft group, one answer.
//!
//! Does: hold prepared entries and feed them in.
//! Does not: know requests.
//! Invariants: entries are built before anything is counted.
//! Apart from `replay.rs`, which drives all of them together.

use bytes::Bytes;
use flumen_protocol::entry::{Entry, HardState, Payload, Records};
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::hot::produce::{
    ProducePartitionResponse, ProduceResponse, ProduceTopicResponse,
};
use flumen_protocol::ids::{LogId, LogIndex, NodeId, Offset, PartitionIndex, Term, TopicId};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_replication::outbox::{Effect, Outbox};
use flumen_replication::raft::group::{Group, GroupBoot};
use flumen_storage::answers::{LogSettings, StoreEvent};
use flumen_storage::op::DiskOp;
use flumen_storage::store::Store;

use crate::replay::{self, BEGIN_MS};
use crate::requests::{batch, text};

const NOW: Now = Now { monotonic: Monotonic(1), wall: Wall(BEGIN_MS) };

fn log(partition: usize) -> LogId {
    LogId { topic: TopicId([5; 16]), partition: PartitionIndex(partition as i32) }
}

fn records(bytes: &Bytes, offset: u64) -> Payload {
    let offset = Offset(offset as i64);
    Payload::Records(Records {
        base_offset: offset,
        last_offset: offset,
        max_timestamp: BEGIN_MS,
        bytes: Bytes::copy_from_slice(bytes),
    })
}

/// A store with some logs and entries that go to them in turn.
pub struct Logs {
    store: Store,
    count: usize,
    /// In reverse.
    entries: Vec<(LogId, Entry)>,
    ops: Vec<DiskOp>,
    events: Vec<StoreEvent>,
}

impl Logs {
    /// So many logs, and so many entries of 1 KiB in all.
    pub fn new(count: usize, entries: usize) -> Self {
        let (store, _) = replay::empty_store(NOW);
        let bytes = batch(1 << 10);
        let entry = |n: usize| {
            let place = (n / count) as u64;
            let payload = records(&bytes, place);
            (log(n % count), Entry { index: LogIndex(place + 1), term: Term(1), payload })
        };
        let entries = (0..entries).rev().map(entry).collect();
        let mut logs = Self { store, count, entries, ops: Vec::new(), events: Vec::new() };
        for partition in 0..count {
            logs.store.create(log(partition), LogSettings::KEEP_ALL);
        }
        // The journal's first files, and the logs' names.
        for _ in 0..10 {
            logs.commit();
        }
        logs
    }

    /// How many logs there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Queues the next entry.
    pub fn append(&mut self) {
        let (log, entry) = self.entries.pop().expect("an entry was prepared");
        self.store.append(log, entry);
    }

    /// Writes what is queued, and takes the disk's answers in.
    pub fn commit(&mut self) {
        self.store.next_ops(NOW, &mut self.ops);
        for op in self.ops.drain(..) {
            self.store
                .on_done(replay::accept(op), NOW, &mut self.events)
                .expect("the disk takes everything");
        }
        self.events.clear();
    }
}

/// A Raft group of one that leads, and what it will be asked to order.
pub struct Raft {
    group: Group,
    payloads: Vec<Payload>,
    outbox: Outbox,
}

impl Raft {
    /// With so many payloads of 1 KiB.
    pub fn new(payloads: usize) -> Self {
        let boot = GroupBoot {
            log: log(0),
            me: NodeId(1),
            voters: vec![NodeId(1)],
            hard_state: HardState::INITIAL,
            settled: (LogIndex::ZERO, Term::ZERO),
            entries: Vec::new(),
            loss_allowed: false,
        };
        let bytes = batch(1 << 10);
        let payloads = (0..payloads as u64).rev().map(|n| records(&bytes, n)).collect();
        let group = Group::open(boot, 1).expect("an empty log opens");
        let mut raft = Self { group, payloads, outbox: Outbox::new() };
        raft.group.campaign();
        raft.persist();
        raft
    }

    /// One entry: proposed, handed out, durable, committed, applied.
    pub fn propose_and_persist(&mut self) {
        let payload = self.payloads.pop().expect("a payload was prepared");
        self.group.propose(payload).expect("a group of one leads");
        self.persist();
    }

    fn persist(&mut self) {
        self.group.collect(&mut self.outbox);
        let index = |effect| {
            if let Effect::Persist { entry, .. } = effect { Some(entry.index) } else { None }
        };
        let indexes = self.outbox.drain(..).filter_map(index);
        let last = indexes.max().expect("something was handed out");
        self.group.persisted(last);
        self.group.collect(&mut self.outbox);
        self.outbox.clear();
        while self.group.pop_committed().is_some() {}
        assert_eq!(self.group.applied().0, last, "durable is committed in a group of one");
    }
}

/// What a client is told about an append to each of so many partitions.
pub fn produce_answer(topic: &str, partitions: i32) -> ProduceResponse {
    let partition = |index| ProducePartitionResponse {
        index: PartitionIndex(index),
        error: ErrorCode::None,
        base_offset: Offset(1000),
        log_append_time_ms: -1,
        log_start_offset: Offset::ZERO,
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    };
    let topic = ProduceTopicResponse {
        name: Some(text(topic)),
        id: TopicId::ZERO,
        partitions: (0..partitions).map(partition).collect(),
    };
    ProduceResponse { topics: vec![topic], ..ProduceResponse::default() }
}
