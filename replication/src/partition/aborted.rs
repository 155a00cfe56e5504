//! The aborted transactions of a log: what consumers that read only what is committed must leave out.
//!
//! Does: keep a row for every aborted transaction of which the log may still have records, find the
//! rows of a range, and say which of them are not saved yet.
//! Does not: save them; the owner does, in order, before the state that covers them (decision 0008).
//! Invariants: rows ascend by marker, and so do their stable offsets; none lies wholly below the log's
//! start; what counts as saved is a prefix of the rows.
//! Apart because a row too few shows records that never happened, and that must be easy to test.

use std::collections::VecDeque;

use flumen_protocol::entry::AbortedTransaction;
use flumen_protocol::ids::Offset;

/// Rows to be saved: from `since` on the log has exactly these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsavedAborted {
    /// Whatever was saved with a marker at or behind this offset is void.
    pub since: Offset,
    /// By marker.
    pub rows: Vec<AbortedTransaction>,
}

/// The aborted transactions of one log.
#[derive(Debug)]
pub(super) struct Aborted {
    /// Invariant: strictly ascending by `last_offset`.
    rows: VecDeque<AbortedTransaction>,
    /// Rows below are saved.
    saved: Offset,
    /// Whether more is saved than there is.
    saved_too_much: bool,
}

impl Aborted {
    /// None yet.
    #[cfg(test)]
    fn nothing() -> Self {
        Self::from_saved(&[], Offset::ZERO).expect("no rows ascend")
    }

    /// Takes rows as they were saved; those with a marker at or behind `end` are void. `None` if they do
    /// not ascend.
    pub fn from_saved(saved: &[AbortedTransaction], end: Offset) -> Option<Self> {
        let ascends = |two: &[AbortedTransaction]| {
            two[0].last_offset < two[1].last_offset && two[0].stable_offset <= two[1].stable_offset
        };
        let is_sound = |row: &AbortedTransaction| {
            row.first_offset >= Offset::ZERO && row.first_offset < row.last_offset
        };
        if !saved.windows(2).all(ascends) || !saved.iter().all(is_sound) {
            return None;
        }
        let keep = saved.partition_point(|row| row.last_offset < end);
        let rows: VecDeque<AbortedTransaction> = saved[..keep].iter().copied().collect();
        let saved_end = rows.back().map_or(Offset::ZERO, |last| last.last_offset.after(1));
        Some(Self { rows, saved: saved_end, saved_too_much: keep < saved.len() })
    }

    /// A transaction was aborted. One that is known already is left as it is.
    pub fn push(&mut self, row: AbortedTransaction) {
        match self.rows.back() {
            Some(last) if last.last_offset >= row.last_offset => {}
            Some(last) => {
                assert!(last.stable_offset <= row.stable_offset, "what is stable never falls");
                self.rows.push_back(row);
            }
            None => self.rows.push_back(row),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Those that may have records from `from` on and below `until`, by marker.
    pub fn between(
        &self,
        from: Offset,
        until: Offset,
    ) -> impl Iterator<Item = &AbortedTransaction> {
        let skip = self.rows.partition_point(|row| row.last_offset < from);
        let mut is_over = false;
        let reaching = self.rows.range(skip..).take_while(move |row| {
            // Behind a row whose stable offset lies at the end none begins in the range.
            let goes_on = !is_over;
            is_over = row.stable_offset >= until;
            goes_on
        });
        reaching.filter(move |row| row.first_offset < until)
    }

    /// Records below `start` are gone.
    pub fn truncate_prefix(&mut self, start: Offset) {
        let gone = self.rows.partition_point(|row| row.last_offset < start);
        self.rows.drain(..gone);
        self.give_memory_back();
    }

    /// Of those with a marker at these offsets, which ascend, the log has no records any more.
    pub fn forget(&mut self, markers: impl IntoIterator<Item = Offset>) {
        let mut markers = markers.into_iter().peekable();
        let mut first = None;
        self.rows.retain(|row| {
            while markers.next_if(|marker| *marker < row.last_offset).is_some() {}
            let is_gone = markers.peek() == Some(&row.last_offset);
            first = first.or(is_gone.then_some(row.last_offset));
            !is_gone
        });
        if let Some(first) = first.filter(|first| *first < self.saved) {
            (self.saved, self.saved_too_much) = (first, true);
        }
        self.give_memory_back();
    }

    fn give_memory_back(&mut self) {
        if self.rows.len() < self.rows.capacity() / 4 {
            self.rows.shrink_to(self.rows.len() * 2);
        }
    }

    /// What is to be saved; counts as saved from now on. `None`: nothing.
    pub fn take_unsaved(&mut self) -> Option<UnsavedAborted> {
        let since = self.saved;
        let first = self.rows.partition_point(|row| row.last_offset < since);
        let rows: Vec<AbortedTransaction> = self.rows.range(first..).copied().collect();
        let is_due = self.saved_too_much || !rows.is_empty();
        self.saved_too_much = false;
        self.saved = rows.last().map_or(since, |last| last.last_offset.after(1));
        is_due.then_some(UnsavedAborted { since, rows })
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::ProducerId;

    use super::*;

    fn row(producer: i64, first: i64, last: i64, stable: i64) -> AbortedTransaction {
        AbortedTransaction {
            last_offset: Offset(last),
            first_offset: Offset(first),
            producer_id: ProducerId(producer),
            stable_offset: Offset(stable),
        }
    }

    /// 1 spans 2 and 3; 4 is alone.
    fn aborted() -> Aborted {
        let mut aborted = Aborted::nothing();
        aborted.push(row(2, 12, 14, 10));
        aborted.push(row(3, 15, 18, 10));
        aborted.push(row(1, 10, 20, 21));
        aborted.push(row(4, 30, 35, 36));
        aborted
    }

    fn of(aborted: &Aborted, from: i64, until: i64) -> Vec<i64> {
        let rows = aborted.between(Offset(from), Offset(until));
        rows.map(|row| row.producer_id.0).collect()
    }

    #[test]
    fn every_transaction_that_reaches_into_a_range_is_found() {
        let aborted = aborted();
        let naive = |from: i64, until: i64| -> Vec<i64> {
            let reaches = |row: &&AbortedTransaction| {
                row.last_offset >= Offset(from) && row.first_offset < Offset(until)
            };
            aborted.rows.iter().filter(reaches).map(|row| row.producer_id.0).collect()
        };
        for from in 0..40 {
            for until in from..45 {
                assert_eq!(of(&aborted, from, until), naive(from, until), "{from}..{until}");
            }
        }
        assert_eq!(of(&aborted, 0, 13), [2, 1]);
        assert_eq!(of(&aborted, 21, 30), [0; 0]);
    }

    #[test]
    fn rows_go_with_the_records_before_the_start() {
        let mut aborted = aborted();
        aborted.truncate_prefix(Offset(20));
        assert_eq!(of(&aborted, 0, 100), [1, 4], "the marker at the start is still read");
        aborted.truncate_prefix(Offset(36));
        assert_eq!((aborted.len(), aborted.take_unsaved()), (0, None));
    }

    #[test]
    fn each_row_is_saved_once() {
        let mut aborted = aborted();
        let unsaved = aborted.take_unsaved().expect("nothing is saved");
        assert_eq!((unsaved.since, unsaved.rows.len()), (Offset(0), 4));
        assert_eq!(aborted.take_unsaved(), None);
        aborted.push(row(5, 40, 41, 42));
        let unsaved = aborted.take_unsaved().expect("one more");
        assert_eq!(unsaved, UnsavedAborted { since: Offset(36), rows: vec![row(5, 40, 41, 42)] });
    }

    #[test]
    fn what_cleanings_have_emptied_is_forgotten_and_saved_as_such() {
        let mut aborted = aborted();
        assert_eq!(aborted.take_unsaved().map(|it| it.rows.len()), Some(4));
        // Of some nothing is known any more, or not yet.
        aborted.forget([3, 14, 16, 20, 99].map(Offset));
        assert_eq!(of(&aborted, 0, 100), [3, 4]);
        let rows = vec![row(3, 15, 18, 10), row(4, 30, 35, 36)];
        let unsaved = aborted.take_unsaved();
        assert_eq!(unsaved, Some(UnsavedAborted { since: Offset(14), rows }));
        assert_eq!(aborted.take_unsaved(), None);
        aborted.push(row(5, 40, 41, 42));
        aborted.forget([Offset(41)]);
        assert_eq!(aborted.take_unsaved(), None, "it was never saved");
        aborted.forget([18, 35].map(Offset));
        let unsaved = aborted.take_unsaved().expect("those are saved");
        assert_eq!(unsaved, UnsavedAborted { since: Offset(18), rows: Vec::new() });
    }

    #[test]
    fn what_was_saved_and_is_void_is_taken_back_before_anything_else_is_saved() {
        let saved: Vec<AbortedTransaction> = aborted().rows.into();
        let mut aborted = Aborted::from_saved(&saved, Offset(20)).expect("they ascend");
        assert_eq!(of(&aborted, 0, 100), [2, 3]);
        let unsaved = aborted.take_unsaved().expect("two rows are void");
        assert_eq!(unsaved, UnsavedAborted { since: Offset(19), rows: Vec::new() });
        assert_eq!(aborted.take_unsaved(), None);
    }

    #[test]
    fn rows_that_contradict_themselves_are_refused() {
        let bad = [
            [row(1, 0, 5, 6), row(2, 2, 5, 6)],
            [row(1, 0, 5, 6), row(2, 2, 8, 5)],
            [row(1, 0, 5, 6), row(2, 9, 9, 10)],
            [row(1, -1, 5, 6), row(2, 7, 9, 10)],
        ];
        for rows in bad {
            assert!(Aborted::from_saved(&rows, Offset(100)).is_none(), "{rows:?}");
        }
    }

    #[test]
    fn a_row_that_is_taken_in_again_is_not_doubled() {
        let mut aborted = aborted();
        aborted.push(row(4, 30, 35, 36));
        assert_eq!(aborted.len(), 4);
    }
}
