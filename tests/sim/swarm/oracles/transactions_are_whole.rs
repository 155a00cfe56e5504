//! Of a transaction everything is committed or nothing (A6: a torn transaction; contract C5).
//!
//! Does: look for everything that was acknowledged in a transaction in what was read of whole logs as committed, if the
//! transaction was committed, or if anything of it was read.
//! Does not: ask for what was deleted, for what is not decided yet, or, on a relaxed topic, for what a crash may have
//! taken.
//! Invariants: a producer asks for a commit when all it wrote is acknowledged.
//! Apart because half of a transaction is worse than none of it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Happening, History, Place, Value};
use super::super::transacted::{Transacted, Transaction};
use super::fates::{Fate, Fates};

/// A log as it was read of committed records: from where to where, and what.
type Whole = (i64, i64, BTreeSet<i64>);

/// Records of committed transactions that are missing.
pub fn ask(history: &History) -> Vec<String> {
    let fates = Fates::of(history);
    let mut wholes: BTreeMap<Place, Whole> = BTreeMap::new();
    let mut shown: BTreeMap<Transaction, Value> = BTreeMap::new();
    for (_, what) in history.transacted() {
        if let Transacted::Believed { value, .. } = what {
            shown.extend(fates.transaction(*value).map(|of| (of, *value)));
        } else if let Transacted::ReadCommitted { place, start, end, records } = what {
            let there = records.iter().map(|(offset, _)| *offset).collect();
            wholes.insert(*place, (*start, *end, there));
            let of = |(_, value): &(i64, Value)| Some((fates.transaction(*value)?, *value));
            shown.extend(records.iter().filter_map(of));
        }
    }
    let why = |of: Transaction| match (fates.fate(of), shown.get(&of)) {
        (Fate::Committed, _) => Some("its commit was acknowledged".to_owned()),
        (Fate::Unknown, Some(value)) => Some(format!("{value} of it is there")),
        (Fate::Unknown, None) | (Fate::Dropped, _) => None,
    };
    let mut torn = Vec::new();
    for happening in &history.happenings {
        let Happening::Acked { place, value, offset: Some(offset), .. } = happening else {
            continue;
        };
        let (Some(of), Some(whole)) = (fates.transaction(*value), wholes.get(place)) else {
            continue;
        };
        let (start, end, there) = whole;
        let is_due = history.binds(*place) && (*start..*end).contains(offset);
        if is_due
            && !there.contains(offset)
            && let Some(why) = why(of)
        {
            torn.push(format!("{of} lacks {value} at {place:?}@{offset}, although {why}"));
        }
    }
    torn
}

#[cfg(test)]
mod tests {
    use super::super::planted::{
        HERE, accusations, acked, asked_to_commit, believed, ended, part, read_committed,
    };

    #[test]
    fn half_a_transaction_is_noticed() {
        let begun = [part(1, 1), part(1, 2)].concat();
        let begun = [&begun[..], &[acked(HERE, 1, 4), acked(HERE, 2, 5)]].concat();
        let with = |rest: &[_]| accusations(&[&begun[..], rest].concat());
        let asked = asked_to_commit(1);
        let (all, half) = ([(4, 1), (5, 2)], [(4, 1)]);
        assert_eq!(with(&[asked.clone(), read_committed(4, &all, 7)]), [""; 0]);
        assert_eq!(with(&[asked.clone(), read_committed(4, &[], 7)]), [""; 0], "not committed");
        assert_eq!(with(&[asked.clone(), read_committed(4, &half, 7)]).len(), 1);
        assert_eq!(with(&[asked.clone(), read_committed(5, &all[1..], 7)]), [""; 0], "deleted");
        assert_eq!(with(&[asked.clone(), read_committed(4, &half, 5)]), [""; 0], "not decided");
        let committed = [asked.clone(), ended(1, true), read_committed(4, &[], 7)];
        assert_eq!(with(&committed).len(), 2);
        assert_eq!(with(&[asked, believed(4, 1), read_committed(4, &[], 7)]).len(), 2);
    }
}
