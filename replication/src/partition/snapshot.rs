//! A partition's own state as bytes: producers and epochs; and its control entries.
//!
//! Does: write both as FlatBuffers and read them back, distrusting every byte.
//! Does not: store them. Records are not part of the state.
//! Invariants: what is read back equals what was written; bytes that do not verify, do not
//! ascend or contradict themselves are refused as a whole.
//! Apart because bytes that outlive the process need a format, and the tables should not know it.

use bytes::Bytes;
use flumen_protocol::ids::{
    LeaderEpoch, LogIndex, Offset, ProducerEpoch, ProducerId, Sequence, Term,
};
use flumen_protocol::time::Wall;

use super::epochs::{EpochStart, Epochs};
use super::producers::{History, ProducerBatch, Producers};
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
}

/// Writes the committed state of a log that is applied up to `end`.
pub(super) fn write(end: Offset, epochs: &Epochs, producers: &Producers) -> Bytes {
    let epochs = epochs.rows().iter().filter(|row| row.first_offset < end);
    let epochs = epochs.map(|row| wire::EpochStart::new(row.first_offset.0, row.epoch.0)).collect();
    let producers = producers.committed().map(|(id, history, touched)| wire::ProducerParts {
        id: id.0,
        epoch: history.epoch().0,
        touched: touched.0,
        batches: history.batches().iter().map(batch_to_wire).collect(),
    });
    wire::write_partition_state(end.0, epochs, producers)
}

/// Reads what [`write`] wrote.
pub(super) fn read(bytes: &[u8]) -> Result<Restored, StateError> {
    if bytes.len() > STATE_BYTES_MAX {
        return Err(StateError::StateRotten);
    }
    let state = wire::partition_state(bytes).ok_or(StateError::StateRotten)?;
    read_checked(&state).ok_or(StateError::StateRotten)
}

fn read_checked(state: &wire::PartitionState<'_>) -> Option<Restored> {
    let end = Offset(state.end_offset());
    let rows = state.epochs().into_iter().flatten().map(|row| EpochStart {
        epoch: LeaderEpoch(row.epoch()),
        first_offset: Offset(row.first_offset()),
    });
    let epochs = Epochs::from_rows(rows.collect())?;
    let mut producers = Producers::default();
    for saved in state.producers().into_iter().flatten() {
        let batches: Option<Vec<ProducerBatch>> =
            saved.batches().into_iter().flatten().map(batch_from_wire).collect();
        let history = History::from_batches(ProducerEpoch(saved.epoch()), &batches?)?;
        let below_end = history.batches().last().is_some_and(|batch| batch.last_offset < end);
        let fresh = producers.restore(ProducerId(saved.id()), history, Wall(saved.touched()));
        if !below_end || !fresh {
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
    use super::*;

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
            let key = (ProducerId(n / 2), ProducerEpoch(1));
            producers.commit(key, batch, Wall(100 + n), 1_000);
        }
        (epochs, producers)
    }

    #[test]
    fn a_state_comes_back_as_it_was_written() {
        let (epochs, producers) = state();
        let bytes = write(Offset(60), &epochs, &producers);
        let restored = read(&bytes).expect("just written");
        assert_eq!((restored.end, &restored.epochs), (Offset(60), &epochs));
        let all = |producers: &Producers| {
            producers.committed().map(|(id, known, at)| (id, *known, at)).collect::<Vec<_>>()
        };
        assert_eq!(all(&restored.producers), all(&producers));
        assert_eq!(covered_end(&bytes), Ok(Offset(60)));
    }

    #[test]
    fn epochs_of_records_that_are_not_committed_are_left_out() {
        let (epochs, _) = state();
        let restored = read(&write(Offset(40), &epochs, &Producers::default()));
        assert_eq!(restored.expect("just written").epochs.rows(), &epochs.rows()[..1]);
    }

    #[test]
    fn a_state_that_ends_before_its_own_batches_is_refused() {
        let (epochs, producers) = state();
        assert!(read(&write(Offset(59), &epochs, &producers)).is_err());
    }

    #[test]
    fn shortened_and_flipped_bytes_never_panic_and_are_mostly_refused() {
        let (epochs, producers) = state();
        let bytes = write(Offset(60), &epochs, &producers);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut to {length}");
        }
        // A flip in a number is a different sound state; storage's checksum finds those.
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[place] ^= 1 << bit;
                let _ = (read(&flipped), covered_end(&flipped));
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
