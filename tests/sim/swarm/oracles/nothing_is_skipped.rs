//! A reader is given the record it asks for, or a later one only if the log begins later (A8, A10).
//!
//! Does: accuse every jump that a client noticed and no start explains.
//! Does not: look for records nobody asked for.
//! Invariants: offsets have no holes but where a log is compacted: there a jump over a record that was acknowledged
//! is one only if no later record has its key, and over a deletion only for who keeps pace: before
//! `delete.retention.ms` are over. What the log had lost with its end before, and went on without, is none: what
//! took its place may be superseded although it was not, and nobody need have been told of it.
//! Apart because a consumer does not notice what it was not given.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place, Since, Value};
use super::damages::Damages;
use super::superseded::Superseded;

/// Jumps over records.
pub fn ask(history: &History) -> Vec<String> {
    let superseded = Superseded::by(history);
    let damages = Damages::of(history);
    let mut known: BTreeMap<(Place, i64), (Value, Since)> = BTreeMap::new();
    for happening in &history.happenings {
        if let Happening::Acked { place, value, offset: Some(offset), since } = happening
            && history.is_compacted(*place)
        {
            known.insert((*place, *offset), (*value, *since));
        }
    }
    let is_allowed = |when: Since, place: Place, from: i64, to: i64| {
        let mut passed = known.range((place, from)..(place, to.max(from)));
        let now = history.time(when);
        history.is_compacted(place)
            && passed.all(|(it, (value, since))| {
                superseded.may_be_gone(*it, *value, now)
                    || damages.has_gone(place, it.1, *since, when)
            })
    };
    let all = history.happenings.iter().enumerate();
    let skips = all.filter_map(|(at, happening)| match happening {
        Happening::Skipped { place, from, to } if is_allowed(at, *place, *from, *to) => None,
        Happening::Skipped { place, from, to } => {
            Some(format!("a fetch of {place:?} from {from} began with {to}"))
        }
        Happening::Sent(..)
        | Happening::Acked { .. }
        | Happening::Refused(..)
        | Happening::Asked
        | Happening::Seen { .. }
        | Happening::Garbled(..)
        | Happening::End { .. }
        | Happening::Start { .. }
        | Happening::DeleteAsked(..)
        | Happening::Deleted(..)
        | Happening::Found { .. }
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
        | Happening::Transacted(_) => None,
    });
    skips.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{
        HERE, TABLED, accusations, history, keyed, keyed_acked, keyed_sent,
    };

    #[test]
    fn a_jump_is_noticed() {
        assert_eq!(accusations(&[Happening::Skipped { place: HERE, from: 3, to: 5 }]).len(), 1);
    }

    #[test]
    fn what_a_compacted_log_lost_and_went_on_without_is_not_jumped_over() {
        let (_, other) = keyed();
        let before = [keyed_sent(0), keyed_acked(0, 3)];
        let damaged = |from, until, is_silent| {
            let place = TABLED;
            Happening::Damaged { place, from, until, is_silent }
        };
        let (lost, accepted) = (damaged(3, None, false), Happening::Accepted(TABLED));
        let skipped = Happening::Skipped { place: TABLED, from: 3, to: 5 };
        let is_accused =
            |rest: &[Happening]| !super::ask(&history(&[&before[..], rest].concat())).is_empty();
        assert!(is_accused(std::slice::from_ref(&skipped)), "nobody else has its key");
        assert!(!is_accused(&[lost.clone(), accepted.clone(), skipped.clone()]));
        assert!(!is_accused(&[damaged(3, None, true), skipped.clone()]), "nobody need be asked");
        assert!(is_accused(&[lost.clone(), skipped.clone(), accepted.clone()]), "it is held");
        assert!(is_accused(&[skipped.clone(), damaged(3, None, true)]), "it was not lost yet");
        assert!(is_accused(&[damaged(4, None, true), skipped.clone()]), "it is before the loss");
        let denied = Happening::Denied { place: TABLED, from: 3, to: 4 };
        let refused = [damaged(3, Some(4), false), denied, skipped.clone()];
        assert!(is_accused(&refused), "what a segment lost is refused");
        let Happening::Acked { place, value, offset, .. } = keyed_acked(other, 3) else {
            unreachable!("it is acknowledged")
        };
        let since = 3;
        let again = Happening::Acked { place, value, offset, since };
        let again = [damaged(3, None, true), keyed_sent(other), again, skipped];
        assert!(is_accused(&again), "what stands there since is not lost");
    }
}
