//! In one generation of a group a partition belongs to one member.
//!
//! Does: compare what the members of each generation were given.
//! Does not: ask for all partitions: the leader decides, and members here let theirs be.
//! Invariants: a generation's number is used once, also over crashes, unless a disk lost what says so.
//! Apart because two members with one partition do each other's work.

use std::collections::BTreeMap;

use super::super::history::{Happening, History};

/// Places given to two members of one generation.
pub fn ask(history: &History) -> Vec<String> {
    let mut owners = BTreeMap::new();
    let mut wrong = Vec::new();
    for happening in &history.happenings {
        if let Happening::GroupDamaged(damaged) = happening {
            owners.retain(|(group, _, _), _| group != damaged);
        }
        let Happening::Assigned { group, generation, member, places } = happening else { continue };
        for place in places {
            let owner = owners.entry((*group, *generation, *place)).or_insert(member);
            if *owner != member {
                wrong.push(format!(
                    "{place:?} belongs to {owner} and {member} in generation {generation} of group {group}"
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
    fn a_partition_with_two_owners_is_noticed() {
        let assigned = |generation, member: &str| Happening::Assigned {
            group: 0,
            generation,
            member: member.to_owned(),
            places: vec![HERE],
        };
        assert_eq!(accusations(&[assigned(1, "a"), assigned(1, "a"), assigned(2, "b")]), [""; 0]);
        assert_eq!(accusations(&[assigned(1, "a"), assigned(1, "b")]).len(), 1);
    }
}
