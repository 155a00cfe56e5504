//! What is read, processed and written in transactions is processed exactly once (A22 for committed transactions).
//!
//! Does: find the committed copy of every committed record that a group says it has read.
//! Does not: ask for copies that were deleted: that of each transaction all is there, another file asks.
//! Invariants: a copier copies everything it is given; what was deleted it was not given.
//! Apart because this is what all promises about transactions are worth together.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{History, Place, Value};
use super::super::transacted::Transacted;
use super::fates::{Fate, Fates};

/// Records that were copied twice, and those that were passed over.
pub fn ask(history: &History) -> Vec<String> {
    let fates = Fates::of(history);
    let known = Known::of(history, &fates);
    let mut wrong = Vec::new();
    let mut made: BTreeMap<(Place, i64), Value> = BTreeMap::new();
    let committed = known.committed.values().flat_map(|records| records.iter());
    for value in committed.map(|(_, value)| value) {
        let Some(source) = known.sources.get(value) else { continue };
        if let Some(other) = made.insert(*source, *value) {
            let (place, offset) = source;
            wrong.push(format!("{place:?}@{offset} was copied as {other} and as {value}"));
        }
    }
    let is_copied = |place: Place, offset: i64| known.copied.contains(&(place, offset));
    for (place, read) in &known.read {
        let records = known.committed.get(place).into_iter().flat_map(|all| all.iter());
        let passed = records.filter(|(offset, _)| offset < read && !is_copied(*place, *offset));
        wrong.extend(passed.map(|(offset, value)| {
            format!(
                "{value} at {place:?}@{offset} was passed over; the group has read up to {read}"
            )
        }));
    }
    wrong
}

/// What an end is judged by.
#[derive(Default)]
struct Known<'a> {
    /// What is committed in the end.
    committed: BTreeMap<Place, &'a [(i64, Value)]>,
    /// Where copies come from.
    sources: BTreeMap<Value, (Place, i64)>,
    /// What was copied in transactions that may be committed.
    copied: BTreeSet<(Place, i64)>,
    /// How far groups have read in transactions that are committed.
    read: BTreeMap<Place, i64>,
}

impl<'a> Known<'a> {
    fn of(history: &'a History, fates: &Fates) -> Self {
        let mut known = Self::default();
        for (_, what) in history.transacted() {
            if let Transacted::ReadCommitted { place, records, .. } = what {
                known.committed.insert(*place, records);
            } else if let Transacted::Copied { value, place, offset } = what {
                known.sources.insert(*value, (*place, *offset));
                let fate = fates.transaction(*value).map(|of| fates.fate(of));
                if fate.is_some_and(|fate| fate != Fate::Dropped) {
                    known.copied.insert((*place, *offset));
                }
            } else if let Transacted::Carried { of, place, offset, .. } = what
                && fates.fate(*of) == Fate::Committed
            {
                let read = known.read.entry(*place).or_insert(*offset);
                *read = (*read).max(*offset);
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::history::{Happening, Place};
    use super::super::super::transacted::{COPYING_GROUP, Transacted};
    use super::super::planted::{
        accusations, asked_to_commit, ended, part, read_committed, transacted, transaction, value,
    };

    const SOURCE: Place = Place { topic: 0, partition: 1 };

    /// Numbers 1 and 2 are copied as 11 and 12; the group has read both.
    #[test]
    fn what_is_copied_twice_or_never_is_noticed() {
        let copied = |number, offset| {
            transacted(Transacted::Copied { value: value(number), place: SOURCE, offset })
        };
        let source = [1, 2].map(|number| Happening::Sent(SOURCE, value(number)));
        let records = vec![(0, value(1)), (1, value(2))];
        let read =
            transacted(Transacted::ReadCommitted { place: SOURCE, start: 0, end: 2, records });
        let (of, group) = (transaction(1), COPYING_GROUP);
        let carried = transacted(Transacted::Carried { of, group, place: SOURCE, offset: 2 });
        let with = |copies: &[Happening], there: &[(i64, u32)]| {
            let parts = [part(1, 11), part(1, 12), part(1, 13)].concat();
            let end = [
                carried.clone(),
                asked_to_commit(1),
                ended(1, true),
                read.clone(),
                read_committed(0, there, 3),
            ];
            accusations(&[&source[..], &parts, copies, &end].concat())
        };
        let two = [copied(11, 0), copied(12, 1)];
        assert_eq!(with(&two, &[(0, 11), (1, 12)]), [""; 0]);
        assert_eq!(with(&two[..1], &[(0, 11), (1, 12)]).len(), 1, "one was passed over");
        let three = [&two[..], &[copied(13, 1)]].concat();
        assert_eq!(with(&three, &[(0, 11), (1, 12), (2, 13)]).len(), 1, "one was copied twice");
    }
}
