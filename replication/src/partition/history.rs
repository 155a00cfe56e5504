//! One producer on one partition at one moment: what of its writing must be remembered.
//!
//! ```text
//!                records of a transaction                  marker
//!   no transaction ────────────────────► open since offset ──────► no transaction
//!         │  marker of a newer epoch: batches are forgotten, the next begins at zero  │
//!         └────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Does: judge a batch or a marker against it, as Kafka's ProducerAppendInfo does (KIP-98, KIP-890), and
//! take it in.
//! Does not: know other producers, or what is committed.
//! Invariants: nothing is remembered exactly while the epoch is none; batches ascend by offset; an open
//! transaction begins at or below everything written since.
//! Apart because the rules of one producer are subtle enough without the table of all.

use flumen_protocol::batch::check::BatchProducer;
use flumen_protocol::batch::control::EndMarker;
use flumen_protocol::ids::{Offset, ProducerEpoch, Sequence};
use flumen_protocol::time::Wall;

use super::producers::{ProducerWrite, Verdict, Wrote};
use crate::error::Refusal;
use crate::limits::{FORGOTTEN_RECORDS_MAX, PRODUCER_BATCHES_MAX};

/// The coordinator's epoch of a producer that no coordinator has ended a transaction of.
pub const NO_COORDINATOR: i32 = -1;

/// One batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Sequence of its first record.
    pub base_sequence: Sequence,
    /// How many records follow the first.
    pub last_offset_delta: i32,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The time the broker stamped, where it stamps.
    pub append_time: Option<Wall>,
}

impl ProducerBatch {
    /// Offset of its first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.last_offset.0 - i64::from(self.last_offset_delta))
    }

    /// Sequence of its last record.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        self.base_sequence.after(self.last_offset_delta)
    }
}

/// What is remembered of a producer's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transactions {
    /// Of the coordinator that wrote the last marker; [`NO_COORDINATOR`] without one.
    pub coordinator_epoch: i32,
    /// First record of the transaction under way; unknown without one.
    pub open_since: Offset,
    /// Where its last marker is; unknown without one.
    pub marker_offset: Offset,
}

impl Transactions {
    /// Those of a producer that had none.
    pub const NONE: Self = Self {
        coordinator_epoch: NO_COORDINATOR,
        open_since: Offset::UNKNOWN,
        marker_offset: Offset::UNKNOWN,
    };
}

/// One producer at one moment: its epoch, its last batches, oldest first, and its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    epoch: ProducerEpoch,
    /// Invariant: at most [`PRODUCER_BATCHES_MAX`]; zero while the epoch is none, and after a marker of
    /// a newer epoch.
    count: u8,
    batches: [ProducerBatch; PRODUCER_BATCHES_MAX],
    /// Of how many records before those batches it is known that they were written, one behind the
    /// other, in this epoch. Less may be known than was written.
    forgotten_records: u32,
    transactions: Transactions,
    /// The largest time of the last batch or marker, −1 if unknown. Told, never relied on.
    last_timestamp: i64,
}

impl History {
    const NO_BATCH: ProducerBatch = ProducerBatch {
        base_sequence: Sequence::NONE,
        last_offset_delta: 0,
        last_offset: Offset::UNKNOWN,
        append_time: None,
    };

    /// Nothing.
    pub(super) const EMPTY: Self = Self {
        epoch: ProducerEpoch::NONE,
        count: 0,
        batches: [Self::NO_BATCH; PRODUCER_BATCHES_MAX],
        forgotten_records: 0,
        transactions: Transactions::NONE,
        last_timestamp: -1,
    };

    /// Takes a history as it was saved; `None` if it is none.
    #[must_use]
    pub fn from_saved(
        epoch: ProducerEpoch,
        saved: &[ProducerBatch],
        transactions: Transactions,
        last_timestamp: i64,
    ) -> Option<Self> {
        let ascending = saved.windows(2).all(|two| two[0].last_offset < two[1].base_offset());
        let sound = saved.iter().all(|batch| {
            batch.base_sequence.0 >= 0 && batch.last_offset_delta >= 0 && batch.base_offset().0 >= 0
        });
        let has_something = !saved.is_empty() || transactions != Transactions::NONE;
        let fits = saved.len() <= PRODUCER_BATCHES_MAX && has_something;
        if epoch.0 < 0 || !ascending || !sound || !fits {
            return None;
        }
        let mut history = Self { epoch, transactions, last_timestamp, ..Self::EMPTY };
        saved.iter().for_each(|batch| history.push(*batch));
        Some(history)
    }

    /// The same, where it is also known that so many records were written before its batches.
    #[must_use]
    pub fn knowing_of(mut self, forgotten_records: u32) -> Self {
        // Without a batch nothing says where they end.
        let known = if self.count > 0 { forgotten_records } else { 0 };
        self.forgotten_records = known.min(FORGOTTEN_RECORDS_MAX);
        self
    }

    /// How many records are known to have been written before its batches, without gap, in its epoch.
    #[must_use]
    pub fn forgotten_records(&self) -> u32 {
        self.forgotten_records
    }

    /// The producer's epoch.
    #[must_use]
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// The remembered batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> &[ProducerBatch] {
        &self.batches[..usize::from(self.count)]
    }

    /// Its transactions.
    #[must_use]
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// The largest time of its last batch or marker, milliseconds since 1970; −1 if unknown.
    #[must_use]
    pub fn last_timestamp(&self) -> i64 {
        self.last_timestamp
    }

    /// Where its transaction begins, if one is under way.
    #[must_use]
    pub fn open_since(&self) -> Option<Offset> {
        Some(self.transactions.open_since).filter(|first| *first != Offset::UNKNOWN)
    }

    /// The highest offset it is known to have written at.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        let batch = self.last().map_or(Offset::UNKNOWN, |batch| batch.last_offset);
        // Records without sequences are remembered by their transaction only.
        batch.max(self.transactions.marker_offset).max(self.transactions.open_since)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.epoch == ProducerEpoch::NONE
    }

    pub(super) fn last(&self) -> Option<&ProducerBatch> {
        self.batches().last()
    }

    /// Judges a batch. One without sequences, of a coordinator, is judged by its epoch alone, as in Kafka.
    pub(super) fn judge(&self, batch: &BatchProducer) -> Result<Verdict, Refusal> {
        let open = self.open_since().map(|_| self.epoch);
        let next = Verdict::Next { open, has_batches: self.count > 0 };
        if self.is_empty() {
            return Ok(next);
        }
        if batch.epoch < self.epoch {
            return Err(Refusal::StaleProducerEpoch { current: self.epoch });
        }
        if batch.base_sequence == Sequence::NONE {
            return Ok(next);
        }
        if batch.epoch > self.epoch {
            return in_order(Sequence(0), batch).map(|()| next);
        }
        let repeated = self.batches().iter().find(|known| {
            known.base_sequence == batch.base_sequence
                && known.last_sequence() == batch.last_sequence
        });
        if let Some(known) = repeated {
            return Ok(Verdict::Duplicate(*known));
        }
        if let Some(oldest) =
            self.batches().first().filter(|oldest| self.has_forgotten(oldest, batch))
        {
            return Ok(Verdict::Forgotten(*oldest));
        }
        let expected = self.last().map_or(Sequence(0), |last| last.last_sequence().after(1));
        in_order(expected, batch).map(|()| next)
    }

    /// Whether a batch was written before the oldest one that is remembered.
    fn has_forgotten(&self, oldest: &ProducerBatch, batch: &BatchProducer) -> bool {
        let back = batch.base_sequence.count_until(oldest.base_sequence);
        let behind_first = batch.base_sequence.count_until(batch.last_sequence);
        behind_first < back && back <= self.forgotten_records
    }

    /// Judges a marker: whether it ends anything that is not ended yet.
    ///
    /// # Errors
    /// Of an older epoch of the producer, or of the coordinator; `must_be_newer` (KIP-1228): not of a
    /// newer epoch than the records it ends.
    pub(super) fn judge_marker(
        &self,
        epoch: ProducerEpoch,
        marker: EndMarker,
        must_be_newer: bool,
    ) -> Result<bool, Refusal> {
        if self.is_empty() {
            return Ok(true);
        }
        let (current, is_open) = (self.epoch, self.open_since().is_some());
        if epoch < current || (must_be_newer && epoch == current && is_open) {
            return Err(Refusal::StaleProducerEpoch { current });
        }
        let known = self.transactions.coordinator_epoch;
        if marker.coordinator_epoch < known {
            return Err(Refusal::CoordinatorFenced { current: known });
        }
        let is_repeated = epoch == current
            && marker.coordinator_epoch == known
            && self.transactions.marker_offset != Offset::UNKNOWN;
        Ok(is_open || !is_repeated)
    }

    /// Takes in what was judged before; gives the first offset of a transaction that it ends.
    pub(super) fn take(&mut self, write: &ProducerWrite) -> Option<Offset> {
        if write.epoch != self.epoch {
            (self.epoch, self.count, self.forgotten_records) = (write.epoch, 0, 0);
        }
        self.last_timestamp = write.timestamp;
        match write.what {
            Wrote::Records(batch) => self.push(batch),
            Wrote::Transactional { base_offset, batch } => {
                if self.transactions.open_since == Offset::UNKNOWN {
                    self.transactions.open_since = base_offset;
                }
                batch.into_iter().for_each(|batch| self.push(batch));
            }
            Wrote::Marker { offset, coordinator_epoch, .. } => {
                let ended = self.open_since();
                let open_since = Offset::UNKNOWN;
                self.transactions =
                    Transactions { coordinator_epoch, open_since, marker_offset: offset };
                return ended;
            }
        }
        None
    }

    /// The same without what was written from `end` on. What that pushed out stays forgotten.
    pub(super) fn before(&self, end: Offset) -> Self {
        let mut history = Self { count: 0, ..*self };
        let kept = self.batches().iter().filter(|batch| batch.last_offset < end);
        kept.for_each(|batch| history.push(*batch));
        if history.count == 0 {
            // What was written before the lost ones may be lost as well.
            history.forgotten_records = 0;
        }
        let transactions = &mut history.transactions;
        for offset in [&mut transactions.open_since, &mut transactions.marker_offset] {
            if *offset >= end {
                *offset = Offset::UNKNOWN;
            }
        }
        // Of one whose batches are all lost any sequence is taken, unless it is in a transaction: that
        // must not be committed without them. One that was only known by a transaction stays known by what
        // is left of that.
        let was_known_otherwise = self.count == 0 && history.transactions != Transactions::NONE;
        let keeps = history.count > 0 || history.open_since().is_some() || was_known_otherwise;
        if keeps { history } else { Self::EMPTY }
    }

    /// The transaction that a lost marker had ended is under way again, in the epoch of its records: as if the
    /// marker, whose epoch may be higher, had never been there. It is written again with that epoch, and refused
    /// for ever by a history that knows it already.
    pub(super) fn reopen(&mut self, epoch: ProducerEpoch, first_offset: Offset) {
        self.epoch = epoch;
        self.transactions.open_since = first_offset;
    }

    fn push(&mut self, batch: ProducerBatch) {
        if usize::from(self.count) == PRODUCER_BATCHES_MAX {
            let records = self.batches[0].last_offset_delta.unsigned_abs().saturating_add(1);
            let forgotten = self.forgotten_records.saturating_add(records);
            self.forgotten_records = forgotten.min(FORGOTTEN_RECORDS_MAX);
            self.batches.copy_within(1.., 0);
            self.count -= 1;
        }
        self.batches[usize::from(self.count)] = batch;
        self.count += 1;
    }
}

/// Whether a batch begins with the sequence that comes next.
pub(super) fn in_order(expected: Sequence, batch: &BatchProducer) -> Result<(), Refusal> {
    if batch.base_sequence == expected {
        Ok(())
    } else {
        Err(Refusal::OutOfOrderSequence { expected })
    }
}
