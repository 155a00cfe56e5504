//! A reader is given the record it asks for, or a later one only if the log begins later (A8, A10).
//!
//! Does: accuse every jump that a client noticed and no start explains.
//! Does not: look for records nobody asked for.
//! Invariants: offsets have no holes but where a log is compacted: there a jump over a record that was acknowledged
//! is one only if no later record has its key, and over a deletion only for who keeps pace: before
//! `delete.retention.ms` are over.
//! Apart because a consumer does not notice what it was not given.

use std::collections::BTreeMap;

use super::super::history::{Happening, History, Place, Since, Value};
use super::superseded::Superseded;

/// Jumps over records.
pub fn ask(history: &History) -> Vec<String> {
    let superseded = Superseded::by(history);
    let mut known: BTreeMap<(Place, i64), Value> = BTreeMap::new();
    for happening in &history.happenings {
        if let Happening::Acked { place, value, offset: Some(offset), .. } = happening
            && history.is_compacted(*place)
        {
            known.insert((*place, *offset), *value);
        }
    }
    let is_allowed = |when: Since, place: Place, from: i64, to: i64| {
        let mut passed = known.range((place, from)..(place, to.max(from)));
        let now = history.time(when);
        history.is_compacted(place)
            && passed.all(|(it, value)| superseded.may_be_gone(*it, *value, now))
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
    use super::super::planted::{HERE, accusations};

    #[test]
    fn a_jump_is_noticed() {
        assert_eq!(accusations(&[Happening::Skipped { place: HERE, from: 3, to: 5 }]).len(), 1);
    }
}
