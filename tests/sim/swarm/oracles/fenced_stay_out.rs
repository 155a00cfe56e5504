//! Who lost its transactional id writes and commits nothing any more (A25).
//!
//! Does: look for whatever succeeded that was asked after the id was given to somebody with a higher epoch.
//! Does not: mind what was asked before: it may have been done before.
//! Invariants: epochs of one producer grow; of different producers of one id nothing is said.
//! Apart because a zombie does its harm long after it was declared dead.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Since};
use super::super::transacted::{Reign, Transacted};
use super::fates::Fates;

/// An id as it was given: when, to which producer, with which epoch.
type Given = (Since, u8, i64, i16);

/// What fenced producers were let do.
pub fn ask(history: &History) -> Vec<String> {
    let fates = Fates::of(history);
    let mut reigns: BTreeMap<Reign, Given> = BTreeMap::new();
    for (at, what) in history.transacted() {
        if let Transacted::Renewed { id, producer, epoch, reign } = what {
            reigns.insert(*reign, (at, *id, *producer, *epoch));
        }
    }
    let over = |reign: Reign| {
        let (_, id, producer, epoch) = reigns.get(&reign)?;
        let later = reigns
            .values()
            .filter(|(_, other, same, newer)| (other, same) == (id, producer) && newer > epoch);
        later.map(|(at, ..)| *at).min()
    };
    let ends: BTreeMap<Reign, Since> =
        reigns.keys().filter_map(|reign| Some((*reign, over(*reign)?))).collect();
    let is_over = |reign: Reign, since: Since| ends.get(&reign).is_some_and(|end| since > *end);
    let wrong = history.happenings.iter().filter_map(|happening| {
        if let Happening::Acked { place, value, since, .. } = happening {
            let of = fates.transaction(*value)?;
            let is_wrong = is_over(of.reign, *since);
            is_wrong.then(|| format!("{value} is taken at {place:?} in {of}, which was fenced"))
        } else if let Happening::Transacted(Transacted::Ended { of, is_committed, since }) =
            happening
        {
            let is_wrong = *is_committed && is_over(of.reign, *since);
            is_wrong.then(|| format!("{of} is committed although it was fenced"))
        } else {
            None
        }
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::super::transacted::{Reign, Transacted};
    use super::super::planted::{
        HERE, accusations, asked_to_commit, part, transacted, transaction, value,
    };

    #[test]
    fn a_zombie_that_is_heard_is_noticed() {
        let given = |writer, epoch| {
            let reign = Reign { writer, count: 0 };
            transacted(Transacted::Renewed { id: 0, producer: 7, epoch, reign })
        };
        let mine = transaction(1).reign.writer;
        let acked =
            |since| Happening::Acked { place: HERE, value: value(1), offset: Some(0), since };
        let ended =
            |since| transacted(Transacted::Ended { of: transaction(1), is_committed: true, since });
        let (asked, commit) = (Happening::Asked, asked_to_commit(1));
        // Two for each part: 0, 1, then 2 mine, 3 asked, 4 the other's, 5 asked.
        let with = |other: Happening, rest: &[Happening]| {
            let all = [given(mine, 3), asked.clone(), other, asked.clone(), commit.clone()];
            accusations(&[&part(1, 1)[..], &all, rest].concat())
        };
        assert_eq!(with(given(9, 4), &[acked(3), ended(3)]), [""; 0], "asked before");
        assert_eq!(with(given(9, 2), &[acked(5), ended(5)]), [""; 0], "the other is older");
        assert_eq!(with(given(9, 4), &[acked(5)]).len(), 1);
        assert_eq!(with(given(9, 4), &[ended(5)]).len(), 1);
    }
}
