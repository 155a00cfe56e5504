//! The leader's side of Produce: fence, recognise repetition, stamp, order.
//!
//! Does: take one checked batch from refusal or acceptance to a proposed entry and a waiter.
//! Does not: check the batch's bytes (`protocol::batch::check` has), nor write it.
//! Invariants: a refused batch changes nothing but what its producer may send next; an accepted one is stamped before anybody else
//! holds its bytes; the receipt of a repeated batch carries its first offset.
//! Apart because this is the hot path, and the order of its checks is a promise to clients.

use bytes::BytesMut;
use flumen_protocol::batch::check::{BatchProducer, ProducedBatch};
use flumen_protocol::batch::stamp::{stamp, stamp_append_time};
use flumen_protocol::entry::{Payload, Records};
use flumen_protocol::ids::{LeaderEpoch, LogIndex, Offset, ProducerEpoch, Sequence};
use flumen_protocol::time::{Monotonic, Now, Wall};

use super::partition::Partition;
use super::producers::{ProducerBatch, ProducerWrite, Verdict, Wrote};
use super::transactions::Claim;
use super::waiting::{Level, Waiter};
use crate::error::Refusal;
use crate::limits::{LOG_END_MAX, UNCOMMITTED_ENTRIES_MAX};
use crate::outbox::{Effect, Outbox, Ticket};

/// When a producer wants its answer. Durable is on stable media, unless the topic is relaxed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// 0: none; nobody waits.
    None,
    /// 1: when it is durable on the leader.
    Leader,
    /// −1: when it is committed, that is durable on a quorum.
    All,
}

/// Who answers for a batch.
#[derive(Debug)]
pub enum Origin {
    /// A client, and what it says of the transaction that its batch belongs to, if it does: that is
    /// asked of the coordinator where it is not known here.
    Client(Option<Box<Claim>>),
    /// A coordinator of this core, which knows its transactions.
    Coordinator,
}

/// One batch for one partition.
#[derive(Debug)]
pub struct Append {
    /// The batch, accepted by [`check_produced`](flumen_protocol::batch::check::check_produced);
    /// its offset and epoch are stamped in place.
    pub batch: BytesMut,
    /// What the check found.
    pub summary: ProducedBatch,
    /// Who waits. Not used without acks.
    pub ticket: Ticket,
    /// What for.
    pub acks: Acks,
    /// How long.
    pub deadline: Monotonic,
    /// Whether a relaxed topic may answer before the disk has it. Not while more waits for the disk
    /// than the journal's queue is meant to hold: then the disk sets the pace, as it does for
    /// everybody else.
    pub may_relax: bool,
    /// Whether it may begin a transaction: not while the core keeps more aborted ones than it should.
    pub may_begin: bool,
    /// The epoch the producer believes in, where it says so. Produce has no such field yet.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Who answers for it.
    pub origin: Origin,
}

impl Append {
    /// Tells whoever waits for it, if anybody does.
    pub(super) fn refuse(&self, why: Refusal, out: &mut Outbox) {
        if let Acks::Leader | Acks::All = self.acks {
            out.push(Effect::Release { ticket: self.ticket, outcome: Err(why) });
        }
    }
}

/// The first copy of a repeated batch.
struct First {
    /// When the record here is durable, so is the copy.
    until: Offset,
    /// Of its first record; unknown if it was written too long ago.
    base_offset: Offset,
    append_time: Option<Wall>,
}

impl First {
    fn at(known: &ProducerBatch) -> Self {
        let (until, base_offset) = (known.last_offset, known.base_offset());
        Self { until, base_offset, append_time: known.append_time }
    }

    fn before(oldest: &ProducerBatch) -> Self {
        Self { until: oldest.last_offset, base_offset: Offset::UNKNOWN, append_time: None }
    }
}

/// What is to be done with a batch that is not refused.
enum Admission {
    /// To be appended.
    Next,
    /// It was appended before.
    Duplicate(First),
    /// The coordinator is to be asked.
    Unverified,
}

impl Partition {
    /// Appends a batch, or recognises it as one that was appended before.
    ///
    /// Every outcome is pushed as [`Effect::Release`] with the ticket: a refusal at once, a
    /// receipt when the wanted level is reached, a timeout at the deadline. With [`Acks::None`]
    /// nothing is released.
    ///
    /// # Errors
    /// The refusal, again, so that the caller may close the connection of a producer that waits
    /// for nothing, as Kafka does.
    pub fn append(&mut self, now: Now, append: Append, out: &mut Outbox) -> Result<(), Refusal> {
        let is_verified = matches!(append.origin, Origin::Coordinator);
        self.place(now, append, is_verified, out)
    }

    /// As [`Partition::append`], for a batch whose transaction a coordinator has vouched for or not.
    pub(super) fn place(
        &mut self,
        now: Now,
        append: Append,
        is_verified: bool,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let (ticket, acks, summary) = (append.ticket, append.acks, append.summary);
        let accepted = self.admit(&append, is_verified).and_then(|admission| match admission {
            Admission::Next => self.order(now, append, out),
            Admission::Duplicate(first) => {
                self.await_first(&append, &first, out);
                Ok(())
            }
            Admission::Unverified => self.park(append, out),
        });
        if accepted == Err(Refusal::Busy) {
            self.note_refused(&summary.producer, now.monotonic);
        }
        if let (Err(why), Acks::Leader | Acks::All) = (accepted, acks) {
            out.push(Effect::Release { ticket, outcome: Err(why) });
        }
        accepted
    }

    /// Batches of these producers were refused for now, here or before they came here, in this order:
    /// what a producer has sent after its first one must not be taken before it.
    pub fn note_refused<'a>(
        &mut self,
        batches: impl IntoIterator<Item = &'a BatchProducer>,
        now: Monotonic,
    ) {
        batches.into_iter().for_each(|batch| self.producers.note_refused(batch, now));
    }

    /// All checks, in Kafka's order; changes nothing.
    fn admit(&self, append: &Append, is_verified: bool) -> Result<Admission, Refusal> {
        self.fence(append.leader_epoch.unwrap_or(LeaderEpoch::UNKNOWN))?;
        if self.held.is_some() {
            return Err(Refusal::Storage);
        }
        let full = self.group.unapplied_count() >= UNCOMMITTED_ENTRIES_MAX;
        if full || self.waiting.is_full() {
            return Err(Refusal::Busy);
        }
        // What is a repetition needs no new offset, but no log ever comes this far.
        self.has_offsets_for(append.summary.last_offset_delta)?;
        let Some(producer) = &append.summary.producer else { return Ok(Admission::Next) };
        match self.producers.judge(producer) {
            Ok(Verdict::Duplicate(known)) => Ok(Admission::Duplicate(First::at(&known))),
            Ok(Verdict::Forgotten(oldest)) => Ok(Admission::Duplicate(First::before(&oldest))),
            // It is judged when those are appended that it was sent behind.
            Ok(Verdict::Next { .. }) | Err(Refusal::OutOfOrderSequence { .. })
                if !is_verified && self.is_behind_parked(append, producer) =>
            {
                Ok(Admission::Unverified)
            }
            Ok(Verdict::Next { open: None, .. }) if !append.summary.transactional => {
                Ok(Admission::Next)
            }
            Ok(Verdict::Next { open, has_batches }) => {
                let is_new = !has_batches && producer.base_sequence > Sequence(0);
                self.admit_to_transaction(append, producer, open, is_new)?;
                let is_open = open == Some(producer.epoch);
                let is_known = is_open || is_verified;
                Ok(if is_known { Admission::Next } else { Admission::Unverified })
            }
            Err(why) => Err(why),
        }
    }

    /// Whether batches before it of the same transaction wait for the coordinator's word.
    fn is_behind_parked(&self, append: &Append, producer: &BatchProducer) -> bool {
        append.summary.transactional && self.unverified.holds((producer.id, producer.epoch))
    }

    /// Whether a batch may be part of a transaction, one that is `open` here or a new one. `is_new`: its
    /// producer is not known, and it is not its first.
    fn admit_to_transaction(
        &self,
        append: &Append,
        producer: &BatchProducer,
        open: Option<ProducerEpoch>,
        is_new: bool,
    ) -> Result<(), Refusal> {
        if !append.summary.transactional {
            return Err(Refusal::NoTransaction);
        }
        // Each transaction of such a client has an epoch of its own, in which it begins at zero (G83).
        let begins_at_zero = matches!(&append.origin, Origin::Client(Some(claim)) if claim.adds);
        if begins_at_zero && is_new {
            return Err(Refusal::OutOfOrderSequence { expected: Sequence(0) });
        }
        if open != Some(producer.epoch) && !(append.may_begin && self.has_room_for_transaction()) {
            return Err(Refusal::TooManyTransactions);
        }
        Ok(())
    }

    /// Whether the log has offsets left for as many records behind a first one.
    pub(super) fn has_offsets_for(&self, last_offset_delta: i32) -> Result<(), Refusal> {
        let width = i64::from(last_offset_delta);
        let is_used_up = self.offsets().end().0 >= LOG_END_MAX.0 - width;
        if is_used_up { Err(Refusal::OffsetsUsedUp) } else { Ok(()) }
    }

    fn order(&mut self, now: Now, append: Append, out: &mut Outbox) -> Result<(), Refusal> {
        let summary = append.summary;
        assert_eq!(append.batch.len(), summary.bytes, "the summary is of this batch");
        let append_time = self.settings().append_time.then_some(now.wall);
        let timestamp = append_time.map_or(summary.max_timestamp, |time| time.0);
        let delta = summary.last_offset_delta;
        let (index, base_offset) = self.order_batch(append.batch, delta, timestamp, append_time)?;
        if let Some(producer) = summary.producer {
            let batch = (producer.base_sequence != Sequence::NONE).then_some(ProducerBatch {
                base_sequence: producer.base_sequence,
                last_offset_delta: delta,
                last_offset: base_offset.after(i64::from(delta)),
                append_time,
            });
            if let Some(what) = Wrote::records(base_offset, summary.transactional, batch) {
                let (id, epoch) = (producer.id, producer.epoch);
                let write = ProducerWrite { id, epoch, timestamp, what };
                self.producers.speculate(&write, now.monotonic);
            }
        }
        let (ticket, deadline) = (append.ticket, append.deadline);
        let before = Offset::UNKNOWN;
        let waiter = Waiter { ticket, index, deadline, base_offset, append_time, before };
        self.await_level(append.acks, waiter);
        self.settle_order(now, index, append.may_relax, out);
        Ok(())
    }

    /// Stamps a batch and puts it at the log's end; gives its index and first offset.
    pub(super) fn order_batch(
        &mut self,
        mut batch: BytesMut,
        last_offset_delta: i32,
        max_timestamp: i64,
        append_time: Option<Wall>,
    ) -> Result<(LogIndex, Offset), Refusal> {
        let base_offset = self.offsets().end();
        let last_offset = base_offset.after(i64::from(last_offset_delta));
        let epoch = self.leader_epoch();
        if let Some(time) = append_time {
            stamp_append_time(&mut batch, time.0);
        }
        stamp(&mut batch, base_offset, epoch);
        let bytes = batch.freeze();
        let records = Records { base_offset, last_offset, max_timestamp, bytes };
        let Some(index) = self.group.propose(Payload::Records(records)) else {
            // The fence saw a leader a moment ago; only a group that is closing says no now.
            return Err(Refusal::NotLeader { leader: None });
        };
        self.epochs.record(epoch, base_offset);
        self.offsets.extend(last_offset.after(1));
        Ok((index, base_offset))
    }

    /// Answers a repeated batch, now or together with its first copy.
    fn await_first(&mut self, append: &Append, first: &First, out: &mut Outbox) {
        let index = self.group.unapplied_index_of(first.until).unwrap_or(LogIndex::ZERO);
        assert!(
            index > LogIndex::ZERO || first.until < self.offsets().high_watermark(),
            "a known batch is committed or still in the log's open end"
        );
        let (ticket, deadline) = (append.ticket, append.deadline);
        let First { base_offset, append_time, .. } = *first;
        let before = Offset::UNKNOWN;
        let waiter = Waiter { ticket, index, deadline, base_offset, append_time, before };
        self.await_level(append.acks, waiter);
        self.release(out);
    }

    fn await_level(&mut self, acks: Acks, waiter: Waiter) {
        match acks {
            Acks::None => {}
            Acks::Leader => self.waiting.add(Level::Durable, waiter),
            Acks::All => self.waiting.add(Level::Committed, waiter),
        }
    }

    /// An entry was proposed: hand it to the journal, and on a relaxed topic wait for nothing.
    pub(super) fn settle_order(
        &mut self,
        now: Now,
        index: LogIndex,
        may_relax: bool,
        out: &mut Outbox,
    ) {
        self.settle(now, out);
        if may_relax && self.settings().relaxed {
            self.count_persisted(now, index, out);
        }
    }
}

/// The append time as [`AppendReceipt`](crate::outbox::AppendReceipt) tells it, from a header.
pub(super) fn append_time_of(header: &flumen_protocol::batch::header::BatchHeader) -> Option<Wall> {
    use flumen_protocol::batch::header::TimestampType;
    match header.timestamp_type() {
        TimestampType::Append => Some(Wall(header.max_timestamp)),
        TimestampType::Create => None,
    }
}
