//! Which records were written in which leader epoch.
//!
//! Does: map each leader epoch to the offset of its first record, and answer where an epoch ended
//! (OffsetForLeaderEpoch, KIP-101, KIP-320).
//! Does not: know who leads. Covers the whole log, committed or not.
//! Invariants: both columns strictly ascend, so at most the last row, at the log's end, belongs to an
//! epoch all of whose records were deleted; at most [`EPOCHS_MAX`] rows.
//! Apart because a wrong answer makes clients believe that records were lost.

use flumen_protocol::ids::{LeaderEpoch, Offset};

use crate::limits::EPOCHS_MAX;

/// One row: from here on, records belong to this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first record.
    pub first_offset: Offset,
}

/// The epochs of a log's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    /// Invariant: strictly ascending in both fields.
    rows: Vec<EpochStart>,
}

impl Epochs {
    /// Takes rows as they were saved; `None` if they do not ascend.
    #[must_use]
    pub fn from_rows(rows: Vec<EpochStart>) -> Option<Self> {
        let ascending = rows
            .windows(2)
            .all(|two| two[0].epoch < two[1].epoch && two[0].first_offset < two[1].first_offset);
        (ascending && rows.len() <= EPOCHS_MAX).then_some(Self { rows })
    }

    /// All rows, oldest first.
    #[must_use]
    pub fn rows(&self) -> &[EpochStart] {
        &self.rows
    }

    /// A batch of `epoch` starting at `offset` was added at the log's end. Rows of older epochs that
    /// begin there have lost all their records to a moved start, and go.
    ///
    /// # Panics
    /// When the epoch is older than the last.
    pub fn record(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if let Some(last) = self.rows.last() {
            if last.epoch == epoch {
                return;
            }
            assert!(last.epoch < epoch, "a log's epochs never fall");
        }
        self.truncate_suffix(offset);
        if self.rows.len() == EPOCHS_MAX {
            self.rows.remove(0);
        }
        self.rows.push(EpochStart { epoch, first_offset: offset });
    }

    /// The largest known epoch ≤ `epoch` and where it ended: at the next one's first record, or
    /// at `log_end`. `None` when nothing that old is known.
    ///
    /// An epoch older than all rows answers as Kafka does: itself, ending where the rows begin.
    #[must_use]
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if epoch == LeaderEpoch::UNKNOWN {
            return None;
        }
        let after = self.rows.partition_point(|row| row.epoch <= epoch);
        let end = self.rows.get(after).map(|row| row.first_offset);
        match after.checked_sub(1) {
            Some(floor) => Some((self.rows[floor].epoch, end.unwrap_or(log_end))),
            None => end.map(|end| (epoch, end)),
        }
    }

    /// The epoch in which the record at `offset` was written, if known.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.rows.partition_point(|row| row.first_offset <= offset);
        after.checked_sub(1).map(|floor| self.rows[floor].epoch)
    }

    /// Records from `end` on are gone.
    pub fn truncate_suffix(&mut self, end: Offset) {
        let keep = self.rows.partition_point(|row| row.first_offset < end);
        self.rows.truncate(keep);
        debug_assert!(self.rows.last().is_none_or(|row| row.first_offset < end));
    }

    /// Records below `start` are gone. The epoch that reaches across begins at `start` now.
    pub fn truncate_prefix(&mut self, start: Offset) {
        let after = self.rows.partition_point(|row| row.first_offset <= start);
        let Some(floor) = after.checked_sub(1) else { return };
        self.rows.drain(..floor);
        self.rows[0].first_offset = start;
        assert!(self.rows.get(1).is_none_or(|row| row.first_offset > start), "rows ascend");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epochs 1, 3 and 7 starting at 0, 10 and 25; terms 2, 4, 5 and 6 brought no records.
    fn epochs() -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, offset) in [(1, 0), (1, 5), (3, 10), (3, 12), (7, 25)] {
            epochs.record(LeaderEpoch(epoch), Offset(offset));
        }
        epochs
    }

    #[test]
    fn the_end_of_an_epoch_is_where_the_next_one_with_records_begins() {
        let table = [
            (-1, None),
            (0, Some((0, 0))),
            (1, Some((1, 10))),
            (2, Some((1, 10))),
            (3, Some((3, 25))),
            (6, Some((3, 25))),
            (7, Some((7, 40))),
            (9, Some((7, 40))),
        ];
        for (asked, wanted) in table {
            let wanted = wanted.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
            assert_eq!(epochs().end_of(LeaderEpoch(asked), Offset(40)), wanted, "epoch {asked}");
        }
        assert_eq!(Epochs::default().end_of(LeaderEpoch(3), Offset(0)), None);
    }

    #[test]
    fn an_epoch_whose_records_were_all_deleted_makes_room_for_the_next() {
        let mut deleted = epochs();
        deleted.truncate_prefix(Offset(40));
        assert_eq!(deleted.epoch_at(Offset(40)), Some(LeaderEpoch(7)), "what is left of it");
        deleted.record(LeaderEpoch(9), Offset(40));
        let only = EpochStart { epoch: LeaderEpoch(9), first_offset: Offset(40) };
        assert_eq!(deleted.rows(), [only]);
    }

    #[test]
    fn the_epoch_of_a_record_is_that_of_the_row_before_it() {
        let at = |offset| epochs().epoch_at(Offset(offset)).map(|epoch| epoch.0);
        assert_eq!(
            [at(0), at(9), at(10), at(24), at(25)],
            [Some(1), Some(1), Some(3), Some(3), Some(7)]
        );
    }

    #[test]
    fn cutting_the_end_drops_epochs_without_records() {
        let mut cut = epochs();
        cut.truncate_suffix(Offset(10));
        assert_eq!(cut.rows(), &epochs().rows()[..1]);
        cut.truncate_suffix(Offset(0));
        assert_eq!(cut.rows(), &[]);
    }

    #[test]
    fn cutting_the_start_shortens_the_epoch_it_falls_into() {
        let mut cut = epochs();
        cut.truncate_prefix(Offset(12));
        let first = EpochStart { epoch: LeaderEpoch(3), first_offset: Offset(12) };
        assert_eq!(cut.rows(), &[first, epochs().rows()[2]]);
        assert_eq!(cut.end_of(LeaderEpoch(1), Offset(40)), Some((LeaderEpoch(1), Offset(12))));
    }

    #[test]
    fn saved_rows_that_do_not_ascend_are_refused() {
        let mut rows = epochs().rows().to_vec();
        rows.swap(0, 1);
        assert_eq!(Epochs::from_rows(rows), None);
        assert_eq!(Epochs::from_rows(epochs().rows().to_vec()), Some(epochs()));
    }

    #[test]
    fn the_oldest_epochs_are_forgotten_at_the_limit() {
        let mut many = Epochs::default();
        for n in 0..=EPOCHS_MAX as i32 {
            many.record(LeaderEpoch(n), Offset(i64::from(n)));
        }
        assert_eq!(many.rows().len(), EPOCHS_MAX);
        assert_eq!(many.rows()[0].epoch, LeaderEpoch(1));
    }
}
