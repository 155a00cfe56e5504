//! What was read of whole logs in the end, to look things up in.
//!
//! Does: find the record of an offset.
//! Does not: judge what is missing.
//! Invariants: the records of a log are in the order of their offsets; of a log that was read twice the last
//! reading counts.
//! Apart because several promises are kept or broken by what is there in the end.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::heap::Nanos;
use super::super::history::{Happening, History, Place, Value};

/// One log.
pub struct Whole<'a> {
    /// When it was read to its end.
    pub at: Nanos,
    pub start: i64,
    pub end: i64,
    records: Cow<'a, [(i64, Value)]>,
}

/// Every log that was read whole.
pub fn wholes(history: &History) -> BTreeMap<Place, Whole<'_>> {
    let read = history.happenings.iter().enumerate().filter_map(|(at, happening)| {
        let Happening::ReadWhole { place, start, end, records } = happening else { return None };
        let mut records = Cow::Borrowed(&records[..]);
        if !records.is_sorted_by_key(|(offset, _)| *offset) {
            records.to_mut().sort_by_key(|(offset, _)| *offset);
        }
        Some((*place, Whole { at: history.time(at), start: *start, end: *end, records }))
    });
    read.collect()
}

impl Whole<'_> {
    /// What is at this offset.
    pub fn get(&self, offset: i64) -> Option<Value> {
        let first = self.records.first()?.0;
        // Mostly there is a record at every offset.
        let near = usize::try_from(offset - first).ok()?.min(self.records.len() - 1);
        let at = if self.records[near].0 == offset {
            near
        } else {
            self.records.binary_search_by_key(&offset, |(at, _)| *at).ok()?
        };
        Some(self.records[at].1)
    }

    /// The records before this offset.
    pub fn before(&self, offset: i64) -> &[(i64, Value)] {
        &self.records[..self.records.partition_point(|(at, _)| *at < offset)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::{HERE, history, value, whole};
    use super::*;

    #[test]
    fn records_are_found_by_offset_over_holes_and_in_any_order() {
        for order in [[(4, 1), (5, 2), (9, 3)], [(9, 3), (4, 1), (5, 2)]] {
            let history = history(&[whole(4, &order, 10)]);
            let wholes = wholes(&history);
            let found = [3, 4, 5, 6, 9, 10].map(|offset| wholes[&HERE].get(offset));
            let [one, two, three] = [1, 2, 3].map(|number| Some(value(number)));
            assert_eq!(found, [None, one, two, None, three, None]);
            assert_eq!(wholes[&HERE].before(9), [(4, value(1)), (5, value(2))]);
        }
        let history = history(&[whole(0, &[], 0)]);
        assert_eq!(wholes(&history)[&HERE].get(0), None);
    }
}
