//! In a compacted log a deleted key ends with its deletion or with nothing, never with an older value (contract C5).
//!
//! Does: look, in what was read of whole compacted logs, for values that are the last of a key that is known to be
//! deleted behind them.
//! Does not: ask for the deletion: everybody may have had time to hear of it; nor for a last value that is no
//! deletion, which others miss.
//! Invariants: who reads a log while it is cleaned may meet a value and not its deletion any more, where the time for
//! that is short. Then the value is gone before the next reading begins: only what all of them met stands there.
//! Apart because whoever misses nothing does not notice what came back.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place, Value};
use super::damages::Damages;
use super::superseded::Superseded;

/// Values that are the last of their key and should not be there.
pub fn ask(history: &History) -> Vec<String> {
    let (superseded, damages) = (Superseded::by(history), Damages::of(history));
    let mut readings: BTreeMap<Place, u32> = BTreeMap::new();
    let mut met: BTreeMap<(Place, i64), (Value, u32)> = BTreeMap::new();
    for happening in &history.happenings {
        let Happening::ReadWhole { place, records, .. } = happening else { continue };
        if !history.is_compacted(*place) {
            continue;
        }
        *readings.entry(*place).or_default() += 1;
        let keyed =
            records.iter().filter_map(|(it, value)| Some((value.few_key()?, (*it, *value))));
        let last: BTreeMap<u32, (i64, Value)> = keyed.collect();
        for (offset, value) in last.into_values() {
            met.entry((*place, offset)).or_insert((value, 0)).1 += 1;
        }
    }
    let wrong = met.into_iter().filter_map(|((place, offset), (value, count))| {
        let last = superseded.last(place, value).filter(|last| last.offset > offset)?;
        let is_back = last.value.is_tombstone() && !value.is_tombstone();
        let is_wrong = is_back
            && count == readings[&place]
            && !damages.excuse_loss(place, last.offset, last.since);
        let last = last.offset;
        is_wrong.then(|| {
            format!(
                "{place:?}@{offset} has {value}, the last of its key, which is deleted at {last}"
            )
        })
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{deleted, history, keyed_acked, keyed_sent, keyed_whole};

    #[test]
    fn a_value_that_is_back_is_noticed_unless_another_reading_did_not_meet_it() {
        let (value, tombstone) = deleted();
        let sent = [value, tombstone].map(keyed_sent);
        let acked = [keyed_acked(value, 0), keyed_acked(tombstone, 1)];
        let whole = |records: &[(i64, u32)]| keyed_whole(records, 2);
        let accused = |wholes: &[Happening]| {
            let mut history = history(&[&sent[..], &acked, wholes].concat());
            history.tombstones_last = 0;
            super::super::ask_all(&history)
        };
        let back = whole(&[(0, value)]);
        assert_eq!(accused(&[whole(&[(0, value), (1, tombstone)])]), [""; 0]);
        assert_eq!(accused(&[whole(&[(1, tombstone)])]), [""; 0]);
        assert_eq!(accused(&[whole(&[])]), [""; 0], "everybody had time to hear of it");
        assert_eq!(accused(&[back.clone(), whole(&[])]), [""; 0], "cleaned meanwhile");
        let wrong = accused(&[back.clone(), back]);
        assert!(wrong.len() == 1 && wrong[0].starts_with("deleted stays deleted"), "{wrong:?}");
    }
}
