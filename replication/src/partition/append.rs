//! The leader's side of Produce: fence, recognise repetition, stamp, order.
//!
//! Does: take one checked batch from refusal or acceptance to a proposed entry and a waiter.
//! Does not: check the batch's bytes (`protocol::batch::check` has), nor write it.
//! Invariants: a refused batch changes nothing but what its producer may send next; an accepted one is stamped before anybody else
//! holds its bytes; the receipt of a repeated batch carries its first offset.
//! Apart because this is the hot path, and the order of its checks is a promise to clients.

use bytes::BytesMut;
use flumen_protocol::batch::check::ProducedBatch;
use flumen_protocol::batch::stamp::{stamp, stamp_append_time};
use flumen_protocol::entry::{Payload, Records};
use flumen_protocol::ids::{LeaderEpoch, LogIndex};
use flumen_protocol::time::{Monotonic, Now, Wall};

use super::partition::Partition;
use super::producers::{ProducerBatch, Verdict};
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
    /// The epoch the producer believes in, where it says so. Produce has no such field yet.
    pub leader_epoch: Option<LeaderEpoch>,
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
        let (ticket, acks, summary) = (append.ticket, append.acks, append.summary);
        let accepted = self.admit(&append).and_then(|verdict| match verdict {
            Verdict::Next => self.order(now, append, out),
            Verdict::Duplicate(known) => {
                self.await_known(&append, known, out);
                Ok(())
            }
        });
        if accepted == Err(Refusal::Busy) {
            self.note_refused(&summary, now.wall);
        }
        if let (Err(why), Acks::Leader | Acks::All) = (accepted, acks) {
            out.push(Effect::Release { ticket, outcome: Err(why) });
        }
        accepted
    }

    /// A batch was refused for now, here or before it came here: what its producer has sent after it
    /// must not be taken before it.
    pub fn note_refused(&mut self, summary: &ProducedBatch, now: Wall) {
        if let Some(producer) = &summary.producer {
            self.producers.note_refused(producer, now);
        }
    }

    /// All checks, in Kafka's order; changes nothing.
    fn admit(&self, append: &Append) -> Result<Verdict, Refusal> {
        self.fence(append.leader_epoch.unwrap_or(LeaderEpoch::UNKNOWN))?;
        if self.held.is_some() {
            return Err(Refusal::Storage);
        }
        if append.summary.transactional {
            return Err(Refusal::NoTransaction);
        }
        let full = self.group.unapplied_count() >= UNCOMMITTED_ENTRIES_MAX;
        if full || self.waiting.is_full() {
            return Err(Refusal::Busy);
        }
        // What is a repetition needs no new offset, but no log ever comes this far.
        let width = i64::from(append.summary.last_offset_delta);
        if self.offsets().end().0 >= LOG_END_MAX.0 - width {
            return Err(Refusal::OffsetsUsedUp);
        }
        match &append.summary.producer {
            Some(producer) => self.producers.judge(producer),
            None => Ok(Verdict::Next),
        }
    }

    fn order(&mut self, now: Now, mut append: Append, out: &mut Outbox) -> Result<(), Refusal> {
        let summary = append.summary;
        assert_eq!(append.batch.len(), summary.bytes, "the summary is of this batch");
        let append_time = self.settings().append_time.then_some(now.wall);
        let base_offset = self.offsets().end();
        let last_offset = base_offset.after(i64::from(summary.last_offset_delta));
        let epoch = self.leader_epoch();
        if let Some(time) = append_time {
            stamp_append_time(&mut append.batch, time.0);
        }
        stamp(&mut append.batch, base_offset, epoch);
        let records = Records {
            base_offset,
            last_offset,
            max_timestamp: append_time.map_or(summary.max_timestamp, |time| time.0),
            bytes: append.batch.freeze(),
        };
        let Some(index) = self.group.propose(Payload::Records(records)) else {
            // The fence saw a leader a moment ago; only a group that is closing says no now.
            return Err(Refusal::NotLeader { leader: None });
        };
        self.epochs.record(epoch, base_offset);
        self.offsets.extend(last_offset.after(1));
        if let Some(producer) = summary.producer {
            let batch = ProducerBatch {
                base_sequence: producer.base_sequence,
                last_offset_delta: summary.last_offset_delta,
                last_offset,
                append_time,
            };
            self.producers.speculate((producer.id, producer.epoch), batch, now.wall);
        }
        let (ticket, deadline) = (append.ticket, append.deadline);
        let waiter = Waiter { ticket, index, deadline, base_offset, append_time };
        self.await_level(append.acks, waiter);
        self.settle_order(now, index, append.may_relax, out);
        Ok(())
    }

    /// Answers a repeated batch, now or together with its first copy.
    fn await_known(&mut self, append: &Append, known: ProducerBatch, out: &mut Outbox) {
        let index = self.group.unapplied_index_of(known.last_offset).unwrap_or(LogIndex::ZERO);
        assert!(
            index > LogIndex::ZERO || known.last_offset < self.offsets().high_watermark(),
            "a known batch is committed or still in the log's open end"
        );
        let (ticket, deadline) = (append.ticket, append.deadline);
        let (base_offset, append_time) = (known.base_offset(), known.append_time);
        let waiter = Waiter { ticket, index, deadline, base_offset, append_time };
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
