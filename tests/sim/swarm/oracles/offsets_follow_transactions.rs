//! An offset that a transaction holds counts if the transaction is committed, and only then (KIP-98, KIP-447).
//!
//! Does: look up whose offset a copier was told.
//! Does not: ask whether a later one should have been told: commits never go back, other files say.
//! Invariants: copiers commit offsets in transactions alone.
//! Apart because records and offsets of a transaction are kept by different parts of a broker.

use std::collections::BTreeSet;

use super::super::history::{Happening, History};
use super::super::transacted::{COPYING_GROUP, Transacted};
use super::fates::{Fate, Fates};

/// Offsets that no committed transaction holds.
pub fn ask(history: &History) -> Vec<String> {
    let fates = Fates::of(history);
    let mut may_count = BTreeSet::new();
    for (_, what) in history.transacted() {
        if let Transacted::Carried { of, group, place, offset } = what
            && fates.fate(*of) != Fate::Dropped
        {
            may_count.insert((*group, *place, *offset));
        }
    }
    let wrong = history.happenings.iter().filter_map(|happening| {
        let Happening::CommitRead { group, place, offset, .. } = happening else { return None };
        let is_judged = *group >= COPYING_GROUP && *offset >= 0;
        let is_wrong = is_judged && !may_count.contains(&(*group, *place, *offset));
        is_wrong.then(|| {
            format!("group {group} reads {offset} for {place:?}, which no transaction committed")
        })
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::super::transacted::{COPYING_GROUP, Transacted};
    use super::super::planted::{
        HERE, accusations, asked_to_commit, ended, transacted, transaction,
    };

    #[test]
    fn an_offset_of_a_transaction_that_was_not_committed_is_noticed() {
        let group = COPYING_GROUP;
        let carried = |number, offset| {
            let of = transaction(number);
            transacted(Transacted::Carried { of, group, place: HERE, offset })
        };
        let told = |offset| Happening::CommitRead { group, place: HERE, offset, since: 0 };
        let begun = [carried(1, 4), carried(2, 9), asked_to_commit(1)];
        let with = |rest: &[_]| accusations(&[&begun[..], rest].concat());
        assert_eq!(with(&[told(-1), told(4)]), [""; 0]);
        assert_eq!(with(&[told(9)]).len(), 1);
        assert_eq!(with(&[ended(1, false), told(4)]).len(), 1);
    }
}
