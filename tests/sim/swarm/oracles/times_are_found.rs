//! A look-up by time gives the first record that is as young as asked (KIP-79).
//!
//! Does: compare what was found with what the log holds in the end.
//! Does not: judge places of which a crash or a disk may have taken what was found.
//! Invariants: a log only grows at its end and shrinks at its front, so that a record before the one found would
//! still be there.
//! Apart because nobody reads by time but those who lost everything else.

use super::super::history::{Happening, History};
use super::damages::Damages;
use super::floors::Floors;
use super::wholes::wholes;

/// Look-ups that found a record too late, or none where there was one.
pub fn ask(history: &History) -> Vec<String> {
    let (wholes, damages) = (wholes(history), Damages::of(history));
    let mut ends = Floors::new();
    let mut wrong = Vec::new();
    for (at, happening) in history.happenings.iter().enumerate() {
        match happening {
            Happening::End { place, end, .. } => ends.raise(*place, at, *end),
            Happening::Found { place, time, offset, since } if history.binds(*place) => {
                let Some(whole) = wholes.get(place) else { continue };
                // Nothing was found: then nothing of what was known to be there was young enough.
                let before = offset.or(ends.before(place, *since)).unwrap_or(0);
                let before = before.min(damages.sure_before(*place));
                let mut earlier = whole.before(before).iter();
                let missed = earlier.find(|(_, value)| value.timestamp() >= *time);
                if let Some((missed, value)) = missed {
                    wrong.push(format!(
                        "{place:?}: {offset:?} is the first as young as {time}, although {value} is at {missed}"
                    ));
                }
            }
            Happening::Found { .. }
            | Happening::Sent(..)
            | Happening::Acked { .. }
            | Happening::Refused(..)
            | Happening::Asked
            | Happening::Seen { .. }
            | Happening::Garbled(..)
            | Happening::Skipped { .. }
            | Happening::Start { .. }
            | Happening::DeleteAsked(..)
            | Happening::Deleted(..)
            | Happening::Committed { .. }
            | Happening::CommitRead { .. }
            | Happening::Assigned { .. }
            | Happening::InHands { .. }
            | Happening::Crash
            | Happening::DiskSilent
            | Happening::SilenceOver
            | Happening::Damaged { .. }
            | Happening::StartForgotten(..)
            | Happening::GroupDamaged(_)
            | Happening::PassingDamaged
            | Happening::Accepted(_)
            | Happening::Denied { .. }
            | Happening::Held(_)
            | Happening::ReadWhole { .. }
            | Happening::Transacted(_) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations, value, whole};

    #[test]
    fn a_record_that_was_passed_over_is_noticed() {
        let sent = |number| Happening::Sent(HERE, value(number));
        let log = whole(0, &[(0, 1), (1, 2), (2, 3)], 3);
        let with = |found: Happening| {
            let end = Happening::End { place: HERE, end: 3, since: 0 };
            accusations(&[sent(1), sent(2), sent(3), end, Happening::Asked, found, log.clone()])
        };
        let time = value(2).timestamp();
        let found = |offset| Happening::Found { place: HERE, time, offset, since: 4 };
        assert_eq!(with(found(Some(1))), [""; 0]);
        assert_eq!(with(found(Some(2))).len(), 1);
        assert_eq!(with(found(None)).len(), 1);
    }
}
