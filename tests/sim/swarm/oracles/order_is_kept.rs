//! The values of a writer are in the order in which he sent them (A11; contract C3).
//!
//! Does: follow each writer through each log.
//! Does not: ask for all of them: one may be missing.
//! Invariants: every writer here either waits for each answer or is idempotent.
//! Apart because order is what Kafka's users build on most.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place};

/// Values that come after later ones of the same writer.
pub fn ask(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for happening in &history.happenings {
        let Happening::ReadWhole { place, records, .. } = happening else { continue };
        let mut last: BTreeMap<(Place, u16), u32> = BTreeMap::new();
        for (offset, value) in records {
            let before = last.insert((*place, value.writer), value.number);
            if let Some(before) = before.filter(|before| *before > value.number) {
                wrong.push(format!("{place:?}@{offset} has {value} after number {before}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations, value, whole};

    #[test]
    fn what_overtook_is_noticed() {
        let sent = [1, 2, 3].map(|number| Happening::Sent(HERE, value(number)));
        let with = |last| accusations(&[&sent[..], &[last]].concat());
        assert_eq!(with(whole(0, &[(0, 1), (1, 3)], 2)), [""; 0]);
        assert_eq!(with(whole(0, &[(0, 1), (1, 3), (2, 2)], 3)).len(), 1);
    }
}
