//! A partition's part in transactions (KIP-98, KIP-890): whose records may begin one, and how it ends.
//!
//! ```text
//!   batch, no transaction open here ─► parked ──coordinator: it is in one──► appended, open
//!                                        │  └── it is not, or a marker came between ─► refused
//!                                        └── its time is up ─► refused, retriable
//!   EndTransaction ─► marker ordered ─► durable here and committed ─► answered, decided
//! ```
//!
//! Does: park the first batches of a transaction until the coordinator vouches for them; order markers,
//! once each; say what is decided, and describe producers.
//! Does not: talk to coordinators; the owner carries the question and the answer.
//! Invariants: nothing is appended on a word of the coordinator that is older than the last marker
//! here which may have ended what it vouches for: such a batch would be in a transaction that nobody
//! ever ends; batches of one producer and epoch leave in the order they came, and while some are parked
//! those behind them are not judged.
//! Apart because most batches belong to no transaction, and their way should not lead through here.

use std::collections::BTreeMap;

use flumen_protocol::batch::check::BatchProducer;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::entry::AbortedTransaction;
use flumen_protocol::ids::{
    LeaderEpoch, LogId, LogIndex, Offset, ProducerEpoch, ProducerId, Sequence,
};
use flumen_protocol::time::{Monotonic, Now};

use super::aborted::UnsavedAborted;
use super::append::{Append, Origin};
use super::partition::Partition;
use super::producers::{Ended, ProducerKey, ProducerWrite, Verdict, Wrote};
use super::waiting::{Level, Waiter};
use crate::error::Refusal;
use crate::limits::{
    ABORTED_TRANSACTIONS_MAX, OPEN_TRANSACTIONS_MAX, UNCOMMITTED_ENTRIES_MAX,
    UNVERIFIED_BATCHES_MAX,
};
use crate::outbox::{Effect, Outbox, Ticket};

/// What a client says of the transaction its batch belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The producer's transactional id.
    pub transactional_id: String,
    /// Whether the partition is added to the transaction if it is not in it (Produce since version 12).
    pub adds: bool,
}

/// Asks a coordinator whether a producer has a transaction under way that this partition is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The partition.
    pub log: LogId,
    /// Who has written.
    pub producer: ProducerKey,
    /// What it says of itself.
    pub claim: Claim,
}

/// A decision of a transaction coordinator, to be written down here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransaction {
    /// The producer as the marker is to name it; its epoch may be newer than that of its records.
    pub producer: ProducerKey,
    /// Committed or aborted, and by which coordinator.
    pub marker: EndMarker,
    /// Whether the marker must be of a newer epoch than the records (KIP-1228). Those of its own epoch
    /// are then of the next transaction.
    pub must_be_newer: bool,
    /// Who waits.
    pub ticket: Ticket,
    /// How long.
    pub deadline: Monotonic,
}

impl EndTransaction {
    /// Whether it may end a transaction of this producer's: what a coordinator has vouched for before
    /// counts for nothing then.
    #[must_use]
    pub fn may_end(&self, (id, epoch): ProducerKey) -> bool {
        let (own_id, last) = self.producer;
        id == own_id && (epoch < last || (epoch == last && !self.must_be_newer))
    }
}

/// A producer as it is described to an operator (DescribeProducers, KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The last sequence it has written, −1 if none is known.
    pub last_sequence: i32,
    /// The largest time of what it wrote last, milliseconds since 1970, −1 if unknown.
    pub last_timestamp: i64,
    /// The epoch of the coordinator that ended its last transaction, −1 without one.
    pub coordinator_epoch: i32,
    /// Where its transaction begins that is under way, unknown without one.
    pub open_since: Offset,
}

/// A transaction with records in this log has ended, for a coordinator whose records they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Whose.
    pub producer_id: ProducerId,
    /// Committed, or aborted.
    pub commit: bool,
    /// Where its marker is.
    pub offset: Offset,
}

/// A batch that waits for the coordinator's word.
#[derive(Debug)]
struct ParkedBatch {
    append: Append,
    /// A marker was ordered since it came that may have ended its transaction.
    is_outdated: bool,
}

/// Batches of one producer and epoch that wait for the coordinator's word.
#[derive(Debug, Default)]
struct Parked {
    /// In the order they came.
    batches: Vec<ParkedBatch>,
    /// Such a marker was ordered since the coordinator was asked.
    is_word_outdated: bool,
}

/// Batches that wait for a coordinator's word.
#[derive(Debug, Default)]
pub(super) struct Unverified {
    /// One question at a time for each.
    by_producer: BTreeMap<ProducerKey, Parked>,
    /// Invariant: the batches of `by_producer`.
    count: usize,
    /// Invariant: no batch's deadline lies before it.
    earliest: Option<Monotonic>,
}

impl Unverified {
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.earliest
    }

    /// Whether batches of this producer are parked, which those that come now were sent behind.
    pub fn holds(&self, producer: ProducerKey) -> bool {
        // Nothing is parked, most of the time.
        self.count > 0
            && self.by_producer.get(&producer).is_some_and(|parked| !parked.batches.is_empty())
    }

    fn is_full(&self) -> bool {
        // A question may outlive its batches.
        self.count.max(self.by_producer.len()) >= UNVERIFIED_BATCHES_MAX
    }

    /// Whether the coordinator is still to be asked.
    fn park(&mut self, producer: ProducerKey, append: Append) -> bool {
        let deadline = append.deadline;
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        self.count += 1;
        let is_new = !self.by_producer.contains_key(&producer);
        let parked = self.by_producer.entry(producer).or_default();
        parked.batches.push(ParkedBatch { append, is_outdated: false });
        is_new
    }

    fn take(&mut self, producer: ProducerKey) -> Option<Parked> {
        let parked = self.by_producer.remove(&producer)?;
        self.count -= parked.batches.len();
        if self.count == 0 {
            self.earliest = None;
        }
        Some(parked)
    }

    /// A marker was ordered, or it was seen that it had been before.
    fn outdate(&mut self, ending: &EndTransaction) {
        let (id, _) = ending.producer;
        let all = (id, ProducerEpoch(i16::MIN))..=(id, ProducerEpoch(i16::MAX));
        let ended = self.by_producer.range_mut(all).filter(|(whose, _)| ending.may_end(**whose));
        for (_, parked) in ended {
            parked.is_word_outdated = true;
            parked.batches.iter_mut().for_each(|batch| batch.is_outdated = true);
        }
    }

    /// Takes out the batches whose time is up.
    fn expire(&mut self, now: Monotonic) -> Vec<Append> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let mut late = Vec::new();
        for parked in self.by_producer.values_mut() {
            let over = parked.batches.extract_if(.., |batch| batch.append.deadline <= now);
            late.extend(over.map(|batch| batch.append));
        }
        self.count -= late.len();
        let left = self.by_producer.values().flat_map(|parked| &parked.batches);
        self.earliest = left.map(|batch| batch.append.deadline).min();
        late
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Vec<Append> {
        (self.count, self.earliest) = (0, None);
        let all = std::mem::take(&mut self.by_producer);
        let batches = all.into_values().flat_map(|parked| parked.batches);
        batches.map(|batch| batch.append).collect()
    }
}

impl Partition {
    /// Writes a coordinator's decision down. The answer comes as [`Effect::Release`], once the marker is
    /// committed and on this node's disk, also where the topic waits for neither. A decision that is
    /// written already is answered alike, without a second marker.
    ///
    /// # Errors
    /// The refusal, also released: not leader, too much waiting, records of the log are lost, or an older
    /// epoch of the producer or the coordinator than is known here.
    pub fn end_transaction(
        &mut self,
        now: Now,
        ending: EndTransaction,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let accepted = self.order_ending(now, ending, out);
        if let Err(why) = accepted {
            out.push(Effect::Release { ticket: ending.ticket, outcome: Err(why) });
        }
        accepted
    }

    /// The coordinator's word on a [`Verification`]: what was parked is appended, or refused with this. If
    /// a marker was ordered meanwhile, what came before it is refused, and for the rest is asked anew.
    pub fn verified(
        &mut self,
        now: Now,
        producer: ProducerKey,
        word: Result<(), Refusal>,
        out: &mut Outbox,
    ) {
        let Some(parked) = self.unverified.take(producer) else { return };
        for ParkedBatch { append, is_outdated } in parked.batches {
            if is_outdated {
                let why = word.err().unwrap_or(Refusal::NoTransaction);
                self.refuse_parked(&append, why, now.monotonic, out);
            } else if let Err(why) = word
                && !parked.is_word_outdated
            {
                self.refuse_parked(&append, why, now.monotonic, out);
            } else {
                // A refusal comes back as a release, like every other outcome.
                let _released = self.place(now, append, !parked.is_word_outdated, out);
            }
        }
    }

    /// Aborted transactions with records from `from` on and below `until`, by marker: what a reader of
    /// committed records must be told with these.
    pub fn aborted(
        &self,
        from: Offset,
        until: Offset,
    ) -> impl Iterator<Item = &AbortedTransaction> {
        self.aborted.between(from, until)
    }

    /// Aborted transactions that are to be saved, before any state that is asked for from now on.
    pub fn take_unsaved_aborted(&mut self) -> Option<UnsavedAborted> {
        self.aborted.take_unsaved()
    }

    /// A cleaning has met the markers at these offsets, which ascend, and nothing of the transactions that
    /// they ended: readers need not be told of them any more, and to be saved is that there are less.
    pub fn forget_aborted(&mut self, markers: impl IntoIterator<Item = Offset>) {
        self.aborted.forget(markers);
    }

    /// Whether a coordinator's records within this producer's transaction would be taken, as far as it
    /// is up to the producer and to how many transactions there are.
    ///
    /// # Errors
    /// Of an older epoch than is known here, or one transaction too many.
    pub fn may_write_within(&self, (id, epoch): ProducerKey) -> Result<(), Refusal> {
        let (base_sequence, last_sequence) = (Sequence::NONE, Sequence::NONE);
        match self.producers.judge(&BatchProducer { id, epoch, base_sequence, last_sequence })? {
            Verdict::Next { open, .. }
                if open != Some(epoch) && !self.has_room_for_transaction() =>
            {
                Err(Refusal::TooManyTransactions)
            }
            Verdict::Next { .. } | Verdict::Duplicate(_) | Verdict::Forgotten(_) => Ok(()),
        }
    }

    /// Every producer that is remembered, as the records ordered so far leave it, ascending by id.
    ///
    /// # Errors
    /// Not leader.
    pub fn active_producers(&self) -> Result<Vec<ActiveProducer>, Refusal> {
        self.fence(LeaderEpoch::UNKNOWN)?;
        let described = self.producers.ahead().map(|(id, history)| ActiveProducer {
            id,
            epoch: history.epoch(),
            last_sequence: history.batches().last().map_or(-1, |last| last.last_sequence().0),
            last_timestamp: history.last_timestamp(),
            coordinator_epoch: history.transactions().coordinator_epoch,
            open_since: history.transactions().open_since,
        });
        Ok(described.collect())
    }

    /// Transactions under way as far as the log is committed, for metrics.
    #[must_use]
    pub fn open_transaction_count(&self) -> usize {
        self.producers.open_count()
    }

    /// Whether one more transaction may begin: each may have to be kept as aborted.
    pub(super) fn has_room_for_transaction(&self) -> bool {
        let open = self.producers.open_count();
        open < OPEN_TRANSACTIONS_MAX && open + self.aborted.len() < ABORTED_TRANSACTIONS_MAX
    }

    /// Lets a batch wait for the coordinator's word.
    pub(super) fn park(&mut self, append: Append, out: &mut Outbox) -> Result<(), Refusal> {
        let Origin::Client(Some(claim)) = &append.origin else {
            return Err(Refusal::NoTransaction);
        };
        if self.unverified.is_full() {
            return Err(Refusal::Busy);
        }
        let claim = Claim::clone(claim);
        let producer = append.summary.producer.expect("a transactional batch has a producer");
        let producer = (producer.id, producer.epoch);
        if self.unverified.park(producer, append) {
            let asked = Verification { log: self.log(), producer, claim };
            out.push(Effect::Verify(Box::new(asked)));
        }
        Ok(())
    }

    /// Refuses what has been parked too long. It may be sent again.
    pub(super) fn expire_parked(&mut self, now: Monotonic, out: &mut Outbox) {
        for append in self.unverified.expire(now) {
            self.refuse_parked(&append, Refusal::Busy, now, out);
        }
    }

    /// Refuses everything that is parked: nobody is left to append it.
    pub(super) fn fail_parked(&mut self, why: Refusal, out: &mut Outbox) {
        for append in self.unverified.drain() {
            append.refuse(why, out);
        }
    }

    /// What a committed marker means: the transaction it ends is decided.
    pub(super) fn decide(&mut self, end: TransactionEnd, ended: Option<Ended>, out: &mut Outbox) {
        if let Some(Ended { id, first_offset, last_offset, commit: false, .. }) = ended {
            let stable_offset = self.producers.first_open().unwrap_or(last_offset.after(1));
            let producer_id = id;
            let row = AbortedTransaction { last_offset, first_offset, producer_id, stable_offset };
            self.aborted.push(row);
        }
        out.push(Effect::TransactionEnded { log: self.log(), end });
    }

    fn order_ending(
        &mut self,
        now: Now,
        ending: EndTransaction,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.fence(LeaderEpoch::UNKNOWN)?;
        if self.held.is_some() {
            return Err(Refusal::Storage);
        }
        if self.group.unapplied_count() >= UNCOMMITTED_ENTRIES_MAX || self.waiting.is_full() {
            return Err(Refusal::Busy);
        }
        let EndTransaction { producer, marker, must_be_newer, ticket, deadline } = ending;
        let is_news = self.producers.judge_marker(producer, marker, must_be_newer)?;
        // Also if there is nothing to end: what is parked would begin what nobody ends.
        self.unverified.outdate(&ending);
        let index = match is_news {
            true => self.order_marker(now, producer, marker)?,
            // Written already, but perhaps by an entry that is not on the disk yet.
            false => self.group.last_index(),
        };
        let (base_offset, append_time, before) = (Offset::UNKNOWN, None, Offset::UNKNOWN);
        let waiter = Waiter { ticket, index, deadline, base_offset, append_time, before };
        self.waiting.add(Level::Kept, waiter);
        self.settle_order(now, index, true, out);
        Ok(())
    }

    fn order_marker(
        &mut self,
        now: Now,
        (id, epoch): ProducerKey,
        marker: EndMarker,
    ) -> Result<LogIndex, Refusal> {
        self.has_offsets_for(0)?;
        let append_time = self.settings().append_time.then_some(now.wall);
        let batch = marker.batch(id, epoch, now.wall);
        let (index, offset) = self.order_batch(batch, 0, now.wall.0, append_time)?;
        let EndMarker { commit, coordinator_epoch } = marker;
        let what = Wrote::Marker { offset, coordinator_epoch, commit };
        let write = ProducerWrite { id, epoch, timestamp: now.wall.0, what };
        self.producers.speculate(&write, now.monotonic);
        Ok(index)
    }

    fn refuse_parked(&mut self, append: &Append, why: Refusal, now: Monotonic, out: &mut Outbox) {
        if why.is_for_now() {
            self.note_refused(&append.summary.producer, now);
        }
        append.refuse(why, out);
    }
}
