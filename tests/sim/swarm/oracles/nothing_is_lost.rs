//! What was acknowledged is there in the end (A5, A7; contract C1).
//!
//! Does: look every acknowledged value up in what was read of the whole log.
//! Does not: ask for what was deleted on request or fell to retention: the log begins after it.
//! Invariants: only acknowledgements that bind are asked for: on a relaxed topic a crash may take the last.
//! Apart because it is the first promise of the house.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place, Value};

/// Acknowledged values that are not where they must be.
pub fn ask(history: &History) -> Vec<String> {
    let mut wholes: BTreeMap<Place, (i64, i64, BTreeMap<i64, Value>)> = BTreeMap::new();
    for happening in &history.happenings {
        if let Happening::ReadWhole { place, start, end, records } = happening {
            wholes.insert(*place, (*start, *end, records.iter().copied().collect()));
        }
    }
    let has_crash = history.has_crash();
    let mut lost = Vec::new();
    for happening in &history.happenings {
        let Happening::Acked { place, value, offset: Some(offset), .. } = happening else {
            continue;
        };
        let Some((start, end, records)) = wholes.get(place) else { continue };
        let may_be_lost = has_crash && history.is_relaxed(*place);
        if may_be_lost || offset < start {
            continue;
        }
        let found = records.get(offset);
        if found != Some(value) {
            lost.push(format!("{value} was acknowledged at {place:?}@{offset}; the log, from {start} to {end}, has {found:?}"));
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, RELAXED, accusations, acked, value, whole};

    #[test]
    fn a_lost_record_is_missed() {
        let sent = |number| Happening::Sent(HERE, value(number));
        let two = [sent(1), sent(2), acked(HERE, 1, 4), acked(HERE, 2, 5)];
        let with = |last| [two.to_vec(), vec![last]].concat();
        assert_eq!(accusations(&with(whole(4, &[(4, 1), (5, 2)], 6))), [""; 0]);
        assert_eq!(accusations(&with(whole(5, &[(5, 2)], 6))), [""; 0], "deleted, not lost");
        assert_eq!(accusations(&with(whole(4, &[(4, 1)], 5))).len(), 1);
        assert_eq!(accusations(&with(whole(4, &[(5, 2)], 6))).len(), 1);
    }

    #[test]
    fn a_relaxed_topic_may_lose_its_end_in_a_crash_and_only_then() {
        let sent = Happening::Sent(RELAXED, value(1));
        let acked = acked(RELAXED, 1, 0);
        let nothing =
            Happening::ReadWhole { place: RELAXED, start: 0, end: 0, records: Vec::new() };
        let cut = Happening::Crash;
        assert_eq!(accusations(&[sent.clone(), acked.clone(), cut, nothing.clone()]), [""; 0]);
        assert_eq!(accusations(&[sent, acked, nothing]).len(), 1);
    }
}
