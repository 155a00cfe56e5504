//! The anomalies of deletions in compacted logs, planted.
//!
//! Does: plant each by hand, and into histories that are clean.
//! Does not: ask for a verdict; the self test does.
//! Invariants: what is planted is the only thing that is wrong.
//! Apart from the others because only a compacted log has a place for them.

use std::collections::BTreeSet;

use flumen_storage::sim_disk::Dice;

use super::super::super::heap::Nanos;
use super::super::super::history::{Happening, History, Place, Value};
use super::super::planted::{TABLED, deleted, keyed_acked, keyed_sent, keyed_whole};
use super::super::superseded::Superseded;
use super::any;

/// One history for each anomaly of deletions, made by hand.
pub(super) fn by_hand() -> Vec<(&'static str, &'static str, Vec<Happening>)> {
    let (value, tombstone) = deleted();
    let sent = [value, tombstone].map(keyed_sent);
    let acked = [keyed_acked(value, 0), keyed_acked(tombstone, 1)];
    let and = |last: Happening| [&sent[..], &acked, &[last]].concat();
    vec![
        ("a deleted key is back", "deleted stays deleted", and(keyed_whole(&[(0, value)], 2))),
        ("a deletion goes too soon", "nothing is lost", and(keyed_whole(&[], 2))),
        (
            "a fetch passes over a deletion",
            "nothing is skipped",
            and(Happening::Skipped { place: TABLED, from: 1, to: 2 }),
        ),
    ]
}

/// Deletions that were acknowledged and are in no reading of the whole log, nor anything behind them of their key.
pub(super) fn forgotten(history: &History) -> u64 {
    let mut there = BTreeSet::new();
    for happening in &history.happenings {
        if let Happening::ReadWhole { records, .. } = happening {
            there.extend(records.iter().map(|(_, value)| *value));
        }
    }
    let superseded = Superseded::by(history);
    let gone = history.happenings.iter().filter(|happening| {
        last_deletion(happening, &superseded).is_some_and(|(_, _, value)| !there.contains(&value))
    });
    gone.count() as u64
}

/// A deletion that was acknowledged, if nothing behind it is known of its key.
fn last_deletion(
    happening: &Happening,
    superseded: &Superseded<'_>,
) -> Option<(Place, i64, Value)> {
    let Happening::Acked { place, value, offset: Some(offset), .. } = happening else {
        return None;
    };
    let is_last = superseded.last(*place, *value).is_some_and(|last| last.offset == *offset);
    (is_last && value.is_tombstone()).then_some((*place, *offset, *value))
}

/// Any such deletion, where none may be forgotten.
fn any_last(history: &History, dice: &mut Dice) -> Option<(Place, i64, Value)> {
    if history.tombstones_last != Nanos::MAX {
        return None;
    }
    let superseded = Superseded::by(history);
    let at = any(history, dice, |it| last_deletion(it, &superseded).is_some())?;
    last_deletion(&history.happenings[at], &superseded)
}

/// An older value is the last of its key in every reading.
pub(super) fn bring_back(history: &mut History, dice: &mut Dice) -> bool {
    let superseded = Superseded::by(history);
    let fits = |happening: &Happening| {
        let Happening::Acked { place, value, offset: Some(offset), .. } = happening else {
            return false;
        };
        let last = superseded.last(*place, *value).filter(|last| last.offset > *offset);
        !value.is_tombstone() && last.is_some_and(|last| last.value.is_tombstone())
    };
    let Some(at) = any(history, dice, fits) else { return false };
    let Happening::Acked { place, value, offset: Some(offset), .. } = history.happenings[at] else {
        return false;
    };
    for (place_read, records) in wholes_mut(history) {
        if place_read == place {
            records.retain(|(it, other)| other.few_key() != value.few_key() || *it < offset);
            let nth = records.partition_point(|(it, _)| *it < offset);
            records.insert(nth, (offset, value));
        }
    }
    true
}

/// A deletion is gone from every reading although not everybody had time to hear of it.
pub(super) fn forget(history: &mut History, dice: &mut Dice) -> bool {
    let Some((place, offset, _)) = any_last(history, dice) else { return false };
    for (place_read, records) in wholes_mut(history) {
        if place_read == place {
            records.retain(|(it, _)| *it != offset);
        }
    }
    true
}

/// Somebody who keeps pace is not given one.
pub(super) fn pass_over(history: &mut History, dice: &mut Dice) -> bool {
    let Some((place, from, _)) = any_last(history, dice) else { return false };
    history.note(Happening::Skipped { place, from, to: from + 1 });
    true
}

fn wholes_mut(history: &mut History) -> impl Iterator<Item = (Place, &mut Vec<(i64, Value)>)> {
    history.happenings.iter_mut().filter_map(|happening| {
        let Happening::ReadWhole { place, records, .. } = happening else { return None };
        Some((*place, records))
    })
}
