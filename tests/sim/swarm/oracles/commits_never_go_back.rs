//! A committed offset is kept, and what a group is told never lies below it (A17).
//!
//! Does: compare every committed offset that was read with those committed before it was asked for.
//! Does not: mind one that is higher: a commit nobody answered may count; or one of a log whose end a disk spoilt.
//! Invariants: members here never commit less than they found.
//! Apart because a group that goes back does its work twice.

use std::collections::BTreeSet;

use super::super::history::{Happening, History};
use super::floors::Floors;

/// Committed offsets that were read too low.
pub fn ask(history: &History) -> Vec<String> {
    let (mut known, mut unbound) = (Floors::new(), BTreeSet::new());
    let mut wrong = Vec::new();
    for (at, happening) in history.happenings.iter().enumerate() {
        if let Happening::Committed { group, place, offset } = happening {
            known.raise((*group, *place), at, *offset);
        } else if let Happening::GroupDamaged(damaged) = happening {
            known.retain(|(group, _)| group != damaged);
        } else if let Happening::Damaged { place, until: None, .. } = happening {
            // Who finds himself beyond the end begins elsewhere, and commits that.
            unbound.insert(*place);
        } else if let Happening::CommitRead { group, place, offset, since } = happening
            && let Some(least) = known.before(&(*group, *place), *since)
            && *offset < least
            && !unbound.contains(place)
        {
            wrong.push(format!("group {group} reads {offset} for {place:?}; it committed {least}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations};

    #[test]
    fn a_commit_that_is_gone_is_noticed() {
        let commit = |offset| Happening::Committed { group: 0, place: HERE, offset };
        let read = |offset, since| Happening::CommitRead { group: 0, place: HERE, offset, since };
        let asked = Happening::Asked;
        assert_eq!(accusations(&[commit(5), asked.clone(), read(5, 1)]), [""; 0]);
        assert_eq!(accusations(&[commit(5), asked.clone(), read(7, 1)]), [""; 0]);
        assert_eq!(accusations(&[asked.clone(), commit(5), read(-1, 0)]), [""; 0]);
        for gone in [-1, 0, 4] {
            assert_eq!(accusations(&[commit(5), asked.clone(), read(gone, 1)]).len(), 1);
        }
    }
}
