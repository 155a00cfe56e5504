//! A log that is read from its beginning to its end has a record at every offset (A10).
//!
//! Does: count through what was read of whole logs, over what was refused because a disk spoilt it, and over the
//! ends of transactions.
//! Does not: know which record belongs where.
//! Invariants: offsets have no holes but where a log is compacted: what is missing there the others ask for.
//! Apart from what fetches skip: there a client notices, here nobody asked for what is missing.

use std::collections::BTreeSet;

use super::super::history::{Happening, History, Place};
use super::super::transacted::Transacted;
use super::damages::Damages;

/// Offsets of whole logs that have no record.
pub fn ask(history: &History) -> Vec<String> {
    let (damages, marked) = (Damages::of(history), marked(history));
    let mut holes = Vec::new();
    for happening in &history.happenings {
        let Happening::ReadWhole { place, start, end, records } = happening else { continue };
        if history.is_compacted(*place) {
            continue;
        }
        let mut next = *start;
        for offset in records.iter().map(|(offset, _)| *offset).chain([*end]) {
            let is_known =
                |it: i64| marked.contains(&(*place, it)) || damages.is_denied(*place, it);
            if offset != next && !(next < offset && (next..offset).all(is_known)) {
                holes.push(format!("{place:?} goes on with {offset} where {next} should be"));
            }
            next = offset + 1;
        }
    }
    holes
}

/// Where transactions end.
fn marked(history: &History) -> BTreeSet<(Place, i64)> {
    let met = history.transacted().filter_map(|(_, what)| {
        let Transacted::Marked(place, offset) = what else { return None };
        Some((*place, *offset))
    });
    met.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations, value, whole};

    #[test]
    fn a_hole_is_noticed() {
        let sent = [1, 2].map(|number| Happening::Sent(HERE, value(number)));
        let with = |last| accusations(&[&sent[..], &[last]].concat());
        assert_eq!(with(whole(4, &[(4, 1), (5, 2)], 6)), [""; 0]);
        assert_eq!(with(whole(4, &[], 4)), [""; 0]);
        for holed in [
            whole(3, &[(4, 1), (5, 2)], 6),
            whole(4, &[(4, 1), (6, 2)], 7),
            whole(4, &[(4, 1), (5, 2)], 7),
        ] {
            assert_eq!(with(holed).len(), 1);
        }
        let damaged = Happening::Damaged { place: HERE, from: 4, until: Some(5), is_silent: false };
        let denied = Happening::Denied { place: HERE, from: 4, to: 5 };
        let with = |last| accusations(&[&sent[..], &[damaged, denied, last]].concat());
        assert_eq!(with.clone()(whole(4, &[(5, 2)], 6)), [""; 0]);
        assert_eq!(with(whole(3, &[(5, 2)], 6)).len(), 1, "not all of it was refused");
    }
}
