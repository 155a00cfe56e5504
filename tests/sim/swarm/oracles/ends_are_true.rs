//! Where a log ends is never told too low, and never goes back (A18, A19; contract C5).
//!
//! Does: compare every end with what was acknowledged and told before it was asked for.
//! Does not: ask for the end of records that were only sent.
//! Invariants: on a relaxed topic a crash begins everything anew.
//! Apart because a client that trusts an end that is too low skips records.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place};

/// Ends below what was known when they were asked for.
pub fn ask(history: &History) -> Vec<String> {
    // For each place: from when on the end was known to be at least what.
    let mut known: BTreeMap<Place, Vec<(usize, i64)>> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut crashed_at = 0;
    for (at, happening) in history.happenings.iter().enumerate() {
        // What was asked before a crash may be told after it.
        let counts = |place: Place, since| since >= crashed_at || !history.is_relaxed(place);
        match happening {
            Happening::Acked { place, offset: Some(offset), since, .. }
            | Happening::Seen { place, offset, since, .. } => {
                if counts(*place, *since) {
                    raise(&mut known, *place, at, offset + 1);
                }
            }
            Happening::End { place, since, .. } if !counts(*place, *since) => {}
            Happening::End { place, end, since } => {
                let least = known.get(place).map_or(0, |known| {
                    let before = known.partition_point(|(at, _)| at < since);
                    before.checked_sub(1).map_or(0, |last| known[last].1)
                });
                if *end < least {
                    wrong.push(format!("{place:?} was told to end at {end}, not at {least}"));
                }
                raise(&mut known, *place, at, *end);
            }
            Happening::Crash => {
                crashed_at = at;
                known.retain(|place, _| !history.is_relaxed(*place));
            }
            Happening::Acked { .. }
            | Happening::Sent(..)
            | Happening::Refused(..)
            | Happening::Asked
            | Happening::Garbled(..)
            | Happening::Skipped { .. }
            | Happening::Start { .. }
            | Happening::Deleted(..)
            | Happening::Committed { .. }
            | Happening::CommitRead { .. }
            | Happening::Assigned { .. }
            | Happening::ReadWhole { .. } => {}
        }
    }
    wrong
}

fn raise(known: &mut BTreeMap<Place, Vec<(usize, i64)>>, place: Place, at: usize, end: i64) {
    let known = known.entry(place).or_default();
    if known.last().is_none_or(|(_, before)| *before < end) {
        known.push((at, end));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations, acked, value};

    fn end(end: i64, since: usize) -> Happening {
        Happening::End { place: HERE, end, since }
    }

    #[test]
    fn an_end_that_is_too_low_is_noticed() {
        let sent = Happening::Sent(HERE, value(1));
        let acked = acked(HERE, 1, 6);
        let asked = Happening::Asked;
        assert_eq!(accusations(&[sent.clone(), acked.clone(), asked.clone(), end(7, 2)]), [""; 0]);
        assert_eq!(accusations(&[sent.clone(), acked.clone(), asked.clone(), end(6, 2)]).len(), 1);
        let before = [sent, asked.clone(), acked, end(6, 1)];
        assert_eq!(accusations(&before), [""; 0], "it was asked before");
        let back = [asked.clone(), end(9, 0), asked, end(8, 2)];
        assert_eq!(accusations(&back).len(), 1, "an end goes back");
    }
}
