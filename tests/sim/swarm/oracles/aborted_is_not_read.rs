//! A reader of committed records is never given one of a transaction that was not committed (A3; contract C5).
//!
//! Does: look up what became of the transaction of everything such readers took.
//! Does not: mind one whose commit was asked for and never answered: it may be committed.
//! Invariants: what such a reader was told to leave out it did not take.
//! Apart because it is what transactions are for.

use super::super::history::{History, Place, Value};
use super::super::transacted::Transacted;
use super::fates::{Fate, Fates};

/// Records that were taken for committed and are not.
pub fn ask(history: &History) -> Vec<String> {
    let fates = Fates::of(history);
    let judge = |place: &Place, offset: i64, value: &Value| {
        let of = fates.transaction(*value)?;
        let is_wrong = fates.fate(of) == Fate::Dropped;
        is_wrong.then(|| {
            format!("{place:?}@{offset} is given as committed: {value}, of {of}, which is not")
        })
    };
    let mut wrong = Vec::new();
    for (_, what) in history.transacted() {
        if let Transacted::Believed { place, offset, value } = what {
            wrong.extend(judge(place, *offset, value));
        } else if let Transacted::ReadCommitted { place, records, .. } = what {
            wrong.extend(records.iter().filter_map(|(offset, value)| judge(place, *offset, value)));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::planted::{accusations, asked_to_commit, believed, ended, part};

    #[test]
    fn what_was_not_committed_and_is_read_is_noticed() {
        let begun = [part(1, 1), part(2, 2)].concat();
        let with = |rest: &[_]| accusations(&[&begun[..], rest].concat());
        assert_eq!(with(&[believed(0, 1)]).len(), 1, "nobody asked for its commit");
        let asked = asked_to_commit(1);
        assert_eq!(with(&[asked.clone(), believed(0, 1)]), [""; 0], "it may be committed");
        let refused = ended(1, false);
        assert_eq!(with(&[asked.clone(), refused, believed(0, 1)]).len(), 1);
        assert_eq!(with(&[asked, ended(1, true), believed(0, 1), believed(1, 2)]).len(), 1);
    }
}
