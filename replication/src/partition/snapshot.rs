//! A partition's own state as bytes: producers, open transactions and epochs; and its control entries.
//!
//! Does: write both as FlatBuffers and read them back, distrusting every byte.
//! Does not: store them. Records are not part of the state.
//! Invariants: what is read back equals what was written; bytes that do not verify, do not
//! ascend or contradict themselves are refused as a whole.
//! Apart because bytes that outlive the process need a format, and the tables should not know it.

use std::collections::BTreeSet;

use bytes::Bytes;
use flumen_protocol::ids::{
    LeaderEpoch, LogIndex, Offset, ProducerEpoch, ProducerId, Sequence, Term,
};
use flumen_protocol::time::{Monotonic, Wall};

use super::epochs::{EpochStart, Epochs};
use super::producers::{Ended, History, ProducerBatch, Producers, Transactions};
use crate::error::StateError;
use crate::limits::STATE_BYTES_MAX;
use crate::wire;

/// The state after all entries up to `index` were applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSnapshot {
    /// The last applied entry.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The state, for [`PartitionBoot::state`](super::PartitionBoot::state).
    pub bytes: Bytes,
}

/// The offset up to which a saved state knows the log: settled batches from there on must be
/// given to [`PartitionBoot::rebuild`](super::PartitionBoot::rebuild).
///
/// # Errors
/// [`StateError::StateRotten`].
pub fn covered_end(state: &[u8]) -> Result<Offset, StateError> {
    Ok(Offset(wire::partition_state(state).ok_or(StateError::StateRotten)?.end_offset()))
}

/// What a state's bytes hold.
pub(super) struct Restored {
    pub end: Offset,
    pub epochs: Epochs,
    pub producers: Producers,
}

impl Restored {
    /// The state of a log of which nothing was saved.
    pub fn nothing() -> Self {
        let (epochs, producers) = (Epochs::default(), Producers::default());
        Self { end: Offset::ZERO, epochs, producers }
    }

    /// Forgets what it says of records from `end` on.
    pub fn forget_from(&mut self, end: Offset) {
        if end < self.end {
            self.end = end;
            self.epochs.truncate_suffix(end);
            self.producers.forget_from(end);
        }
    }
}

/// Writes the committed state of a log that is applied up to `end`, and of which what lies below
/// `settled_end` will not be lost.
pub(super) fn write(
    (settled_end, end): (Offset, Offset),
    epochs: &Epochs,
    producers: &mut Producers,
) -> Bytes {
    let epochs = epochs.rows().iter().filter(|row| row.first_offset < end);
    let epochs = epochs.map(|row| wire::EpochStart::new(row.first_offset.0, row.epoch.0)).collect();
    let ended = producers.ended_from(settled_end).map(ended_to_wire).collect();
    let producers = producers.committed().map(|(id, history)| wire::ProducerParts {
        id: id.0,
        epoch: history.epoch().0,
        batches: history.batches().iter().map(batch_to_wire).collect(),
        coordinator_epoch: history.transactions().coordinator_epoch,
        open_since: history.transactions().open_since.0,
        marker_offset: history.transactions().marker_offset.0,
        last_timestamp: history.last_timestamp(),
        forgotten_records: history.forgotten_records(),
    });
    wire::write_partition_state(end.0, epochs, producers, ended)
}

/// Reads what [`write`] wrote; its producers are silent from `now` on.
pub(super) fn read(bytes: &[u8], now: Monotonic) -> Result<Restored, StateError> {
    if bytes.len() > STATE_BYTES_MAX {
        return Err(StateError::StateRotten);
    }
    let state = wire::partition_state(bytes).ok_or(StateError::StateRotten)?;
    read_checked(&state, now).ok_or(StateError::StateRotten)
}

fn read_checked(state: &wire::PartitionState<'_>, now: Monotonic) -> Option<Restored> {
    let end = Offset(state.end_offset());
    let rows = state.epochs().into_iter().flatten().map(|row| EpochStart {
        epoch: LeaderEpoch(row.epoch()),
        first_offset: Offset(row.first_offset()),
    });
    let epochs = Epochs::from_rows(rows.collect())?;
    let mut producers = Producers::default();
    let mut firsts = BTreeSet::new();
    for saved in state.producers().into_iter().flatten() {
        let batches: Option<Vec<ProducerBatch>> =
            saved.batches().into_iter().flatten().map(batch_from_wire).collect();
        let epoch = ProducerEpoch(saved.epoch());
        let (transactions, timestamp) = (transactions_from_wire(&saved)?, saved.last_timestamp());
        let history = History::from_saved(epoch, &batches?, transactions, timestamp)?;
        let history = history.knowing_of(saved.forgotten_records());
        let is_own = history.open_since().is_none_or(|first| firsts.insert(first));
        let below_end = is_own && history.last_offset() < end;
        let fresh = producers.restore(ProducerId(saved.id()), history, now);
        if !below_end || !fresh {
            return None;
        }
    }
    for saved in state.ended().into_iter().flatten() {
        let ended = ended_from_wire(saved);
        // Should its marker be lost, it is under way again, in this epoch and from this offset on.
        let is_sound = ended.epoch.0 >= 0 && ended.first_offset >= Offset::ZERO;
        let is_own = is_sound && firsts.insert(ended.first_offset);
        if ended.last_offset >= end || !is_own || !producers.restore_ended(ended) {
            return None;
        }
    }
    let sound = end >= Offset::ZERO
        && epochs
            .rows()
            .iter()
            .all(|row| Offset::ZERO <= row.first_offset && row.first_offset < end);
    sound.then_some(Restored { end, epochs, producers })
}

fn batch_to_wire(batch: &ProducerBatch) -> wire::ProducerBatch {
    let append_time = batch.append_time.map_or(-1, |time| time.0);
    let (sequence, delta) = (batch.base_sequence.0, batch.last_offset_delta);
    wire::ProducerBatch::new(batch.last_offset.0, append_time, sequence, delta)
}

/// `None` where subtracting the delta from the offset would make no sense.
fn batch_from_wire(batch: &wire::ProducerBatch) -> Option<ProducerBatch> {
    let (last_offset, delta) = (batch.last_offset(), batch.last_offset_delta());
    let sound = delta >= 0 && last_offset >= i64::from(delta);
    sound.then_some(ProducerBatch {
        base_sequence: Sequence(batch.base_sequence()),
        last_offset_delta: delta,
        last_offset: Offset(last_offset),
        append_time: (batch.append_time() >= 0).then_some(Wall(batch.append_time())),
    })
}

/// `None` where an offset is none, nor the mark of none.
fn transactions_from_wire(saved: &wire::Producer<'_>) -> Option<Transactions> {
    let transactions = Transactions {
        coordinator_epoch: saved.coordinator_epoch(),
        open_since: Offset(saved.open_since()),
        marker_offset: Offset(saved.marker_offset()),
    };
    let sound =
        transactions.open_since >= Offset::UNKNOWN && transactions.marker_offset >= Offset::UNKNOWN;
    sound.then_some(transactions)
}

fn ended_to_wire(ended: &Ended) -> wire::EndedTransaction {
    let (first, last) = (ended.first_offset.0, ended.last_offset.0);
    wire::EndedTransaction::new(first, last, ended.id.0, ended.epoch.0)
}

/// How it ended is of no interest any more: it is known only to be undone.
fn ended_from_wire(saved: &wire::EndedTransaction) -> Ended {
    Ended {
        id: ProducerId(saved.producer_id()),
        epoch: ProducerEpoch(saved.epoch()),
        first_offset: Offset(saved.first_offset()),
        last_offset: Offset(saved.last_offset()),
        commit: true,
    }
}

/// A command to the partition's own state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Records below this offset are deleted.
    DeleteRecords { before: Offset },
}

impl Control {
    pub fn write(self) -> Bytes {
        match self {
            Self::DeleteRecords { before } => wire::write_delete_records(before.0),
        }
    }

    /// `None` where the bytes are no command we know.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let before = wire::delete_records(bytes)?;
        (before >= 0).then_some(Self::DeleteRecords { before: Offset(before) })
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use flumen_protocol::batch::control::EndMarker;

    use super::super::producers::{ProducerWrite, Wrote};
    use super::*;
    use crate::error::Refusal;

    const NOW: Monotonic = Monotonic(1);

    fn commit(producers: &mut Producers, (id, epoch): (i64, i16), what: Wrote) {
        let (id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
        let write = ProducerWrite { id, epoch, timestamp: 123, what };
        producers.commit(&write, NOW, 1_000);
    }

    fn state() -> (Epochs, Producers) {
        let mut epochs = Epochs::default();
        epochs.record(LeaderEpoch(2), Offset(0));
        epochs.record(LeaderEpoch(5), Offset(40));
        let mut producers = Producers::default();
        for n in 0..20_i64 {
            let batch = ProducerBatch {
                base_sequence: Sequence(n as i32),
                last_offset_delta: 2,
                last_offset: Offset(3 * n + 2),
                append_time: (n % 2 == 0).then_some(Wall(n)),
            };
            commit(&mut producers, (n / 2, 1), Wrote::Records(batch));
        }
        let transactional = |base| Wrote::Transactional { base_offset: Offset(base), batch: None };
        let marker = Wrote::Marker { offset: Offset(52), coordinator_epoch: 8, commit: false };
        commit(&mut producers, (70, 4), transactional(30));
        commit(&mut producers, (71, 0), transactional(45));
        commit(&mut producers, (71, 1), marker);
        (epochs, producers)
    }

    fn written(end: i64, epochs: &Epochs, producers: &mut Producers) -> Bytes {
        write((Offset(50), Offset(end)), epochs, producers)
    }

    #[test]
    fn a_state_comes_back_as_it_was_written() {
        let (epochs, mut producers) = state();
        let bytes = written(60, &epochs, &mut producers);
        let restored = read(&bytes, NOW).expect("just written");
        assert_eq!((restored.end, &restored.epochs), (Offset(60), &epochs));
        let all = |producers: &Producers| {
            producers.committed().map(|(id, known)| (id, *known)).collect::<Vec<_>>()
        };
        assert_eq!(all(&restored.producers), all(&producers));
        assert_eq!(covered_end(&bytes), Ok(Offset(60)));
        let mut restored = restored.producers;
        assert_eq!((restored.first_open(), restored.open_count()), (Some(Offset(30)), 1));
        let ended: Vec<Offset> = restored.ended_from(Offset(0)).map(|it| it.last_offset).collect();
        assert_eq!(ended, [Offset(52)]);
        restored.forget_from(Offset(52));
        assert_eq!(restored.open_count(), 2, "without its marker it is under way again");
    }

    #[test]
    fn a_transaction_whose_marker_was_lost_is_ended_by_the_same_marker_again() {
        let (epochs, mut producers) = state();
        let restored = read(&written(60, &epochs, &mut producers), NOW);
        let mut restored = restored.expect("just written").producers;
        restored.forget_from(Offset(52));
        let id = ProducerId(71);
        assert_eq!(restored.open_since(id), Some((ProducerEpoch(0), Offset(45))));
        // The records have epoch 0. Whoever fenced their producer writes a higher one, or hangs for ever.
        let marker = EndMarker { commit: false, coordinator_epoch: 8 };
        assert_eq!(restored.judge_marker((id, ProducerEpoch(1)), marker, true), Ok(true));
        let same = restored.judge_marker((id, ProducerEpoch(0)), marker, true);
        assert!(matches!(same, Err(Refusal::StaleProducerEpoch { .. })));
    }

    /// A coordinator's records have no sequences: of such a producer its transaction is all that is known.
    #[test]
    fn of_a_producer_whose_only_transaction_was_lost_nothing_is_saved() {
        let (mut producers, id) = (Producers::default(), (70, 4));
        commit(&mut producers, id, Wrote::Transactional { base_offset: Offset(30), batch: None });
        producers.forget_from(Offset(20));
        let saved = written(20, &Epochs::default(), &mut producers);
        assert_eq!(read(&saved, NOW).map(|read| read.producers.count()), Ok(0));
    }

    #[test]
    fn an_ended_transaction_that_began_nowhere_is_refused() {
        let ended = |first| vec![wire::EndedTransaction::new(first, 52, 71, 0)];
        let state = |first| wire::write_partition_state(60, vec![], iter::empty(), ended(first));
        assert!(read(&state(45), NOW).is_ok());
        assert!(
            read(&state(-2), NOW).is_err(),
            "should its marker be lost, it would not be saved again"
        );
    }

    #[test]
    fn epochs_of_records_that_are_not_committed_are_left_out() {
        let (epochs, _) = state();
        let restored = read(&written(40, &epochs, &mut Producers::default()), NOW);
        assert_eq!(restored.expect("just written").epochs.rows(), &epochs.rows()[..1]);
    }

    #[test]
    fn a_state_that_ends_before_its_own_batches_is_refused() {
        let (epochs, mut producers) = state();
        assert!(read(&written(60, &epochs, &mut producers), NOW).is_ok());
        assert!(read(&written(59, &epochs, &mut producers), NOW).is_err());
    }

    #[test]
    fn shortened_and_flipped_bytes_never_panic_and_are_mostly_refused() {
        let (epochs, mut producers) = state();
        let bytes = written(60, &epochs, &mut producers);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], NOW).is_err(), "cut to {length}");
        }
        // A flip in a number is a different sound state; storage's checksum finds those.
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[place] ^= 1 << bit;
                let _ = (read(&flipped, NOW), covered_end(&flipped));
            }
        }
    }

    #[test]
    fn control_entries_come_back_and_nonsense_is_none() {
        let deletion = Control::DeleteRecords { before: Offset(77) };
        let bytes = deletion.write();
        assert_eq!(Control::read(&bytes), Some(deletion));
        assert_eq!(Control::read(&Control::DeleteRecords { before: Offset(-1) }.write()), None);
        assert_eq!(Control::read(b""), None);
        for length in 0..bytes.len() {
            assert_eq!(Control::read(&bytes[..length]), None, "cut to {length}");
        }
    }
}
