//! In a group of the new kind (KIP-848) a partition is in the hands of one member at a time.
//!
//! Does: compare what members were told that they have, from the time they were told until they gave it up,
//! or could be given up by the broker.
//! Does not: ask for all partitions: some may be on their way from one member to another.
//! Invariants: who is not heard of for a session has nothing, whatever he believes.
//! Apart because the broker, not a leader among the members, is to blame.

use std::collections::BTreeMap;

use super::super::history::{Happening, History};

/// Places in the hands of two members.
pub fn ask(history: &History) -> Vec<String> {
    let mut hands = BTreeMap::new();
    let mut wrong = Vec::new();
    for happening in &history.happenings {
        if let Happening::GroupDamaged(damaged) = happening {
            hands.retain(|(group, _), _| group != damaged);
        }
        let Happening::InHands { group, member, places, at, until } = happening else { continue };
        hands.retain(|(its, _), (holder, _)| (its, &*holder) != (group, member));
        if until <= at {
            // The answer came so late that its session is over: it may have lost all that it still believes in.
            continue;
        }
        for place in places {
            let before = hands.insert((*group, *place), (*member, *until));
            if let Some((other, its_until)) = before.filter(|(_, its_until)| its_until > at) {
                wrong.push(format!(
                    "{place:?} of group {group} is given to {member} at {at}; {other} has it until {its_until}"
                ));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::super::history::Happening;
    use super::super::planted::{HERE, accusations};

    #[test]
    fn a_partition_in_two_hands_is_noticed() {
        let has = |member, at, count: usize| {
            let places = vec![HERE; count];
            Happening::InHands { group: 0, member, places, at, until: at + 10 }
        };
        assert_eq!(accusations(&[has(1, 0, 1), has(1, 5, 1), has(1, 6, 0), has(2, 7, 1)]), [""; 0]);
        assert_eq!(accusations(&[has(1, 0, 1), has(2, 10, 1)]), [""; 0], "it fell silent");
        assert_eq!(accusations(&[has(1, 0, 1), has(2, 9, 1)]).len(), 1);
        let late = Happening::InHands { group: 0, member: 2, places: vec![HERE], at: 9, until: 9 };
        assert_eq!(accusations(&[has(1, 0, 1), late]), [""; 0], "it was told too late");
        let damaged = Happening::GroupDamaged(0);
        assert_eq!(accusations(&[has(1, 0, 1), damaged, has(2, 9, 1)]), [""; 0]);
    }
}
