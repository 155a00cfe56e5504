//! What was acknowledged is there in the end (A5, A7; contract C1).
//!
//! Does: look every acknowledged value up in what was read of the whole log; of a compacted one, the last of each
//! key.
//! Does not: ask for what was deleted on request or fell to retention: the log begins after it; nor for a deletion
//! that everybody had time to hear of; nor for what a disk spoilt, if that was said.
//! Invariants: only acknowledgements that bind are asked for: on a relaxed topic a crash may take the last.
//! Apart because it is the first promise of the house.

use super::super::history::{Happening, History};
use super::damages::Damages;
use super::superseded::Superseded;
use super::wholes::wholes;

/// Acknowledged values that are not where they must be.
pub fn ask(history: &History) -> Vec<String> {
    let (wholes, damages) = (wholes(history), Damages::of(history));
    let superseded = Superseded::by(history);
    let mut lost = Vec::new();
    for happening in &history.happenings {
        let Happening::Acked { place, value, offset: Some(offset), since } = happening else {
            continue;
        };
        let Some(whole) = wholes.get(place) else { continue };
        if !history.binds(*place) || *offset < whole.start {
            continue;
        }
        let found = whole.get(*offset);
        if found.is_none() && superseded.may_be_gone((*place, *offset), *value, whole.at) {
            continue;
        }
        if found != Some(*value) && !damages.excuse_loss(*place, *offset, *since) {
            let (start, end) = (whole.start, whole.end);
            lost.push(format!("{value} was acknowledged at {place:?}@{offset}; the log, from {start} to {end}, has {found:?}"));
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{
        HERE, RELAXED, accusations, acked, keyed, keyed_acked, keyed_sent, keyed_whole, value,
        whole,
    };

    #[test]
    fn a_lost_record_is_missed() {
        let sent = |number| Happening::Sent(HERE, value(number));
        let two = [sent(1), sent(2), acked(HERE, 1, 4), acked(HERE, 2, 5)];
        let with = |last| [two.to_vec(), vec![last]].concat();
        assert_eq!(accusations(&with(whole(4, &[(4, 1), (5, 2)], 6))), [""; 0]);
        assert_eq!(accusations(&with(whole(5, &[(5, 2)], 6))), [""; 0], "deleted, not lost");
        assert_eq!(accusations(&with(whole(4, &[(4, 1)], 5))).len(), 1);
        assert_eq!(accusations(&with(whole(4, &[(5, 2)], 6))).len(), 2, "and there is a hole");
    }

    #[test]
    fn of_a_compacted_topic_the_last_value_of_a_key_is_missed_and_only_that() {
        let ([first, last], other) = keyed();
        let mut order = [first, last, other];
        order.sort_unstable();
        let offset =
            |number| order.iter().position(|it| *it == number).expect("one of them") as i64;
        let acked = |number| keyed_acked(number, offset(number));
        let with = |there: &[u32]| {
            let there = order.iter().filter(|number| there.contains(number));
            let records: Vec<(i64, u32)> = there.map(|it| (offset(*it), *it)).collect();
            let whole = keyed_whole(&records, 3);
            accusations(&[&order.map(keyed_sent)[..], &order.map(acked)[..], &[whole]].concat())
        };
        assert_eq!(with(&[first, last, other]), [""; 0]);
        assert_eq!(with(&[last, other]), [""; 0], "a later one has its key");
        assert_eq!(with(&[first, last]).len(), 1, "nobody else has that key");
        assert_eq!(with(&[first, other]).len(), 1, "the last value is gone");
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
