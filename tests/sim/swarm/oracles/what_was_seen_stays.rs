//! What somebody was given is there in the end, whether it was acknowledged or not (A5; contract C4, C5).
//!
//! Does: look every seen value up in what was read of the whole log.
//! Does not: ask for what lies before the log's beginning, or on a relaxed topic once there was a crash; nor for
//! what a disk spoilt, if that was said.
//! Invariants: what a reader is given is committed, and what is committed stays.
//! Apart from what was acknowledged: here a reader knows more than the writer.

use super::super::history::{Happening, History};
use super::damages::Damages;
use super::superseded::Superseded;
use super::wholes::wholes;

/// Seen values that are not where they were.
pub fn ask(history: &History) -> Vec<String> {
    let (wholes, damages) = (wholes(history), Damages::of(history));
    let mut lost = Vec::new();
    let superseded = Superseded::by(history);
    for happening in &history.happenings {
        let Happening::Seen { place, offset, value, since } = happening else { continue };
        let Some(whole) = wholes.get(place) else { continue };
        let is_gone = *offset >= whole.start && whole.get(*offset).is_none();
        let is_gone = is_gone && !superseded.may_be_gone((*place, *offset), *value, whole.at);
        if is_gone && history.binds(*place) && !damages.excuse_loss(*place, *offset, *since) {
            lost.push(format!("{value} was seen at {place:?}@{offset}; nothing is there any more"));
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations, seen, value, whole};

    #[test]
    fn a_record_that_somebody_saw_is_missed() {
        let sent = [1, 2].map(|number| Happening::Sent(HERE, value(number)));
        let with = |last| accusations(&[&sent[..], &[seen(4, 1), seen(5, 2), last]].concat());
        assert_eq!(with(whole(4, &[(4, 1), (5, 2)], 6)), [""; 0]);
        assert_eq!(with(whole(6, &[], 6)), [""; 0], "deleted, not lost");
        assert_eq!(with(whole(4, &[(4, 1)], 5)).len(), 1);
    }
}
