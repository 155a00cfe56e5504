//! One partition and the disk below it, as plain values.
//!
//! Does: carry effects out as a shard would, except that nothing is durable until a test says so;
//! crash and open again from what was durable.
//! Does not: judge. Effects are kept for the tests to look at.
//! Invariants: entries become durable in order; a crash keeps exactly what was durable.
//! Apart because scripts and random histories need the same world.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flumen_protocol::batch::builder::{BatchBuilder, NewRecord};
use flumen_protocol::batch::check::check_produced;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::entry::{AbortedTransaction, Entry, HardState, Payload};
use flumen_protocol::ids::{
    CoreId, LogId, LogIndex, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    Term, TopicId,
};
use flumen_protocol::time::{Monotonic, Now, Wall};
use flumen_replication::error::{Refusal, StateError};
use flumen_replication::outbox::{Effect, Outbox, Ticket};
use flumen_replication::partition::{
    Acks, Append, Claim, EndTransaction, Origin, Partition, PartitionBoot, PartitionSettings,
    SettledBatch, UnsavedAborted, covered_end,
};

/// The log all tests use.
pub const LOG: LogId = LogId { topic: TopicId([7; 16]), partition: PartitionIndex(0) };

/// An idempotent producer's word about a batch: id, epoch, first sequence.
pub type Producer = (i64, i16, i32);

/// What is on the disk, and what is on its way there.
#[derive(Clone, Debug)]
pub struct Disk {
    pub hard_state: HardState,
    pub settled: (LogIndex, Term),
    pub settled_end: Offset,
    pub settled_batches: Vec<SettledBatch>,
    pub start_offset: Offset,
    pub state: Bytes,
    pub aborted: Vec<AbortedTransaction>,
    pub durable: Vec<Entry>,
    /// Handed over, not yet durable; a hard state counts as durable with the next entry.
    pub pending: Vec<Entry>,
    pending_hard_state: Option<HardState>,
}

impl Disk {
    fn empty() -> Self {
        Self {
            hard_state: HardState::INITIAL,
            settled: (LogIndex::ZERO, Term::ZERO),
            settled_end: Offset::ZERO,
            settled_batches: Vec::new(),
            start_offset: Offset::ZERO,
            state: Bytes::new(),
            aborted: Vec::new(),
            durable: Vec::new(),
            pending: Vec::new(),
            pending_hard_state: None,
        }
    }
}

/// The partition, its disk and its clock.
pub struct World {
    pub partition: Option<Partition>,
    pub disk: Disk,
    pub now: Now,
    pub out: Outbox,
    pub settings: PartitionSettings,
    pub voters: Vec<NodeId>,
    pub acks: Acks,
    pub may_relax: bool,
    /// Whether clients have the broker add partitions to their transactions.
    pub adds: bool,
    pub deadline_ms: u64,
    next_request: u64,
}

impl World {
    pub fn new() -> Self {
        Self {
            partition: None,
            disk: Disk::empty(),
            now: Now { monotonic: Monotonic(0), wall: Wall(1_000) },
            out: Vec::new(),
            settings: PartitionSettings {
                max_producer_ids: 100,
                producer_expiry: Duration::from_secs(86_400),
                append_time: false,
                relaxed: false,
                replay: false,
            },
            voters: vec![NodeId(1)],
            acks: Acks::All,
            may_relax: true,
            adds: false,
            deadline_ms: 30_000,
            next_request: 0,
        }
    }

    pub fn partition(&mut self) -> &mut Partition {
        self.partition.as_mut().expect("opened")
    }

    pub fn ticket(&mut self) -> Ticket {
        self.next_request += 1;
        Ticket { core: CoreId(0), request: self.next_request, part: 0 }
    }

    pub fn deadline(&self) -> Monotonic {
        self.now.monotonic.after(Duration::from_millis(self.deadline_ms))
    }

    pub fn open(&mut self) -> Result<(), StateError> {
        let covered = match self.disk.state.is_empty() {
            true => Offset::ZERO,
            false => covered_end(&self.disk.state)?,
        };
        let settled = self.disk.settled_batches.iter();
        let boot = PartitionBoot {
            log: LOG,
            me: NodeId(1),
            voters: self.voters.clone(),
            hard_state: self.disk.hard_state,
            settled: self.disk.settled,
            settled_end: self.disk.settled_end,
            start_offset: self.disk.start_offset,
            state: self.disk.state.clone(),
            aborted: self.disk.aborted.clone(),
            rebuild: settled.filter(|it| it.header.base_offset >= covered).copied().collect(),
            entries: self.disk.durable.clone(),
            settings: self.settings,
            election_seed: 42,
        };
        self.partition = Some(Partition::open(boot, self.now, &mut self.out)?);
        self.carry_out();
        Ok(())
    }

    pub fn append(
        &mut self,
        count: i32,
        producer: Option<Producer>,
        transactional: bool,
    ) -> Ticket {
        let batch = batch(count, producer, transactional);
        let summary = check_produced(&batch).expect("a sound batch");
        let ticket = self.ticket();
        let (acks, deadline, now) = (self.acks, self.deadline(), self.now);
        let claim = Claim { transactional_id: "transactor".to_owned(), adds: self.adds };
        let append = Append {
            batch,
            summary,
            ticket,
            acks,
            deadline,
            may_relax: self.may_relax,
            may_begin: true,
            leader_epoch: None,
            origin: Origin::Client(transactional.then(|| Box::new(claim))),
        };
        let partition = self.partition.as_mut().expect("opened");
        let told = partition.append(now, append, &mut self.out);
        let released = self.out.iter().any(
            |effect| matches!(effect, Effect::Release { ticket: whose, outcome: Err(_) } if *whose == ticket),
        );
        assert_eq!(told.is_err() && acks != Acks::None, released, "refused and told alike");
        self.carry_out();
        ticket
    }

    /// The coordinator's word on a producer's transaction.
    pub fn verified(&mut self, (id, epoch): (i64, i16), word: Result<(), Refusal>) {
        let (producer, now) = ((ProducerId(id), ProducerEpoch(epoch)), self.now);
        self.partition.as_mut().expect("opened").verified(now, producer, word, &mut self.out);
        self.carry_out();
    }

    /// A coordinator's decision on a producer's transaction.
    pub fn end(
        &mut self,
        (id, epoch): (i64, i16),
        marker: EndMarker,
        must_be_newer: bool,
    ) -> Ticket {
        let (producer, ticket) = ((ProducerId(id), ProducerEpoch(epoch)), self.ticket());
        let (deadline, now) = (self.deadline(), self.now);
        let ending = EndTransaction { producer, marker, must_be_newer, ticket, deadline };
        let partition = self.partition.as_mut().expect("opened");
        // What it answers is among the effects.
        let _told = partition.end_transaction(now, ending, &mut self.out);
        self.carry_out();
        ticket
    }

    /// Everything up to `index` has become durable.
    pub fn durable(&mut self, index: LogIndex) {
        self.disk.hard_state = self.disk.pending_hard_state.take().unwrap_or(self.disk.hard_state);
        let reached = self.disk.pending.iter().take_while(|entry| entry.index <= index).count();
        self.disk.durable.extend(self.disk.pending.drain(..reached));
        let now = self.now;
        self.partition.as_mut().expect("opened").persisted(now, index, &mut self.out);
        self.carry_out();
    }

    /// Moves what is applied, up to `index`, out of the journal into segments.
    pub fn settle(&mut self, index: LogIndex) {
        let index = index.min(self.partition().applied_index());
        let count = self.disk.durable.iter().take_while(|entry| entry.index <= index).count();
        for entry in self.disk.durable.drain(..count) {
            self.disk.settled = (entry.index, entry.term);
            if let Payload::Records(records) = &entry.payload {
                self.disk.settled_end = records.last_offset.after(1);
                let batch = SettledBatch::of(&records.bytes).expect("a batch");
                self.disk.settled_batches.push(batch);
            }
        }
    }

    /// With what the member has promised, as storage records both.
    pub fn save_state(&mut self) {
        self.disk.hard_state = self.disk.pending_hard_state.unwrap_or(self.disk.hard_state);
        if let Some(UnsavedAborted { since, rows }) = self.partition().take_unsaved_aborted() {
            self.disk.aborted.retain(|row| row.last_offset < since);
            self.disk.aborted.extend(rows);
        }
        self.disk.state = self.state();
    }

    /// What would be saved now.
    pub fn state(&mut self) -> Bytes {
        let settled_end = self.disk.settled_end;
        self.partition().snapshot(settled_end).bytes
    }

    pub fn crash(&mut self) {
        self.partition = None;
        self.disk.pending.clear();
        self.disk.pending_hard_state = None;
        self.out.clear();
    }

    pub fn advance(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.after(Duration::from_millis(ms));
        self.now.wall.0 += i64::try_from(ms).expect("a test's time is short");
        let now = self.now;
        self.partition.as_mut().expect("opened").on_time(now, &mut self.out);
        self.carry_out();
    }

    /// Storage has for good that records below are gone, as it was told or decided.
    pub fn keep_start(&mut self, start: Offset) {
        self.disk.start_offset = self.disk.start_offset.max(start);
        self.disk.aborted.retain(|row| row.last_offset >= start);
        self.partition.as_mut().expect("opened").advance_start(start, &mut self.out);
        self.carry_out();
    }

    /// Hands what should become durable to the disk; the effects stay to be looked at.
    pub fn carry_out(&mut self) {
        let known = self.disk.pending.last().or(self.disk.durable.last());
        let known = known.map_or(self.disk.settled.0, |entry| entry.index);
        for effect in &self.out {
            match effect {
                Effect::Persist { log, entry } => {
                    assert_eq!(*log, LOG);
                    if entry.index > known {
                        self.disk.pending.push(entry.clone());
                    }
                }
                Effect::PersistHardState { state, .. } => {
                    self.disk.pending_hard_state = Some(*state);
                }
                // See `keep_start`.
                Effect::StartOffset { .. }
                | Effect::Release { .. }
                | Effect::Verify(_)
                | Effect::TransactionEnded { .. }
                | Effect::Push { .. }
                | Effect::Moved { .. }
                | Effect::Leadership { .. }
                | Effect::Committed { .. } => {}
            }
        }
    }
}

/// A batch as a client sends it, with `count` records.
pub fn batch(count: i32, producer: Option<Producer>, transactional: bool) -> BytesMut {
    let mut builder = BatchBuilder::new();
    if let Some((id, epoch, sequence)) = producer {
        let (id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
        builder = builder.with_producer(id, epoch, Sequence(sequence));
    }
    if transactional {
        builder = builder.transactional();
    }
    for n in 0..count {
        let timestamp = 500 + i64::from(n);
        builder.push(&NewRecord { timestamp, key: None, value: Some(b"v"), headers: &[] });
    }
    builder.finish()
}
