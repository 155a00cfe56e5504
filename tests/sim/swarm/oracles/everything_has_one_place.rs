//! An offset has one content for ever, and a value one offset (A1, A2; contract C3, C4).
//!
//! Does: compare everything seen and acknowledged with everything else.
//! Does not: forgive a writer that sends twice: an idempotent one may, the others here never do.
//! Invariants: on a relaxed topic what a crash took may be replaced, so only what was seen between two crashes
//! is compared there; the same of what a disk may have lost.
//! Apart because consumers process what they are given, and cannot take it back.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place, Value};
use super::quick::QuickMap;

/// Offsets with two contents and values at two offsets.
pub fn ask(history: &History) -> Vec<String> {
    let mut known = Known::default();
    let mut crashed_at = 0;
    for (at, happening) in history.happenings.iter().enumerate() {
        // What was asked before a crash may be told after it.
        let counts = |place: Place, since| since >= crashed_at || !history.is_relaxed(place);
        if let Happening::Seen { place, offset, value, since } = happening {
            known.take(*place, *offset, *value, counts(*place, *since));
        } else if let Happening::Acked { place, value, offset: Some(offset), since } = happening {
            known.take(*place, *offset, *value, counts(*place, *since));
        } else if let Happening::ReadWhole { place, records, .. } = happening {
            records.iter().for_each(|(offset, value)| known.take(*place, *offset, *value, true));
        } else if *happening == Happening::Crash {
            crashed_at = at;
            known.logs.retain(|place, _| !history.is_relaxed(*place));
        } else if let Happening::Damaged { place, from, until: None, .. } = happening {
            known.forget(*place, *from);
        }
    }
    known.wrong
}

#[derive(Default)]
struct Known {
    logs: BTreeMap<Place, Log>,
    wrong: Vec<String>,
}

/// What is known of one log.
#[derive(Default)]
struct Log {
    values: QuickMap<i64, Value>,
    offsets: QuickMap<Value, i64>,
}

impl Known {
    fn take(&mut self, place: Place, offset: i64, value: Value, counts: bool) {
        if !counts {
            return;
        }
        let log = self.logs.entry(place).or_default();
        let before = *log.values.entry(offset).or_insert(value);
        if before != value {
            self.wrong.push(format!("{place:?}@{offset} was {before} and is {value}"));
        }
        let before = *log.offsets.entry(value).or_insert(offset);
        if before != offset {
            self.wrong.push(format!("{value} is at {place:?}@{before} and @{offset}"));
        }
    }

    /// What is there from this offset on may be replaced.
    fn forget(&mut self, place: Place, from: i64) {
        if let Some(log) = self.logs.get_mut(&place) {
            log.values.retain(|offset, _| *offset < from);
            log.offsets.retain(|_, offset| *offset < from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, RELAXED, accusations, acked, seen, value};

    #[test]
    fn two_contents_and_two_offsets_are_noticed() {
        let sent = [Happening::Sent(HERE, value(1)), Happening::Sent(HERE, value(2))];
        let with = |rest: &[Happening]| accusations(&[&sent[..], rest].concat());
        assert_eq!(with(&[seen(0, 1), seen(1, 2), seen(0, 1)]), [""; 0]);
        assert_eq!(with(&[seen(0, 1), seen(0, 2)]).len(), 1);
        assert_eq!(with(&[seen(0, 1), seen(1, 1)]).len(), 1);
        assert_eq!(
            with(&[acked(HERE, 1, 3), seen(0, 1)]).len(),
            1,
            "not where it was acknowledged"
        );
    }

    #[test]
    fn a_relaxed_topic_may_replace_what_a_crash_took() {
        let at =
            |number| Happening::Seen { place: RELAXED, offset: 0, value: value(number), since: 2 };
        let sent = [Happening::Sent(RELAXED, value(1)), Happening::Sent(RELAXED, value(2))];
        let with = |rest: &[Happening]| accusations(&[&sent[..], rest].concat());
        let again = |since| Happening::Seen { place: RELAXED, offset: 0, value: value(2), since };
        assert_eq!(with(&[at(1), Happening::Crash, again(4)]), [""; 0]);
        assert_eq!(with(&[Happening::Crash, at(1), again(1)]), [""; 0], "told before the crash");
        assert_eq!(with(&[at(1), at(2)]).len(), 1);
    }
}
