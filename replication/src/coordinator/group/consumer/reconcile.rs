//! How a member goes from what it has to what it shall have.
//!
//! Does: compute the next holding of one member.
//! Does not: write it down, arm timers, or know the group.
//! Invariants: a partition is taken in only while nobody owns it; what is given up stays owned until
//! the member says that it does not have it any more.
//! Apart because this is the heart of KIP-848, small enough to be read at once.
//!
//! ```text
//!             must give up partitions              has given them up
//!   Stable ---------------------------> Unrevoked -------------------+
//!     ^  ^                                                           |
//!     |  +-----------------------------------------------------------+  everything it shall have is free
//!     |                                                              v
//!     +------------------------------------------------------- Unreleased  some is still with others
//! ```

use std::sync::Arc;

use flumen_protocol::ids::TopicId;

use super::member::{Holding, Progress};
use super::partitions::Partitions;

/// What a member is reconciled towards.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    /// The epoch of the target assignment.
    pub(super) epoch: i32,
    /// What the member shall have in it.
    pub(super) target: Arc<Partitions>,
}

/// The member must give everything up and join anew: its state is none we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// The next holding, or the same if nothing can move. `owned` is what the member says that it has.
///
/// # Errors
/// [`Lost`] for a state of a newer Kafka, unless the member has nothing.
pub(super) fn next_holding(
    holding: &Holding,
    aim: &Aim,
    owned: Option<&Partitions>,
    is_owned: impl Fn(TopicId, i32) -> bool,
) -> Result<Holding, Lost> {
    match holding.progress {
        Progress::Stable if holding.epoch == aim.epoch => Ok(holding.clone()),
        Progress::Stable | Progress::Unreleased => {
            Ok(advance(holding, holding.epoch, aim, owned, is_owned))
        }
        Progress::Unrevoked if owns_any(owned, &holding.revoking) => Ok(holding.clone()),
        Progress::Unrevoked => Ok(advance(holding, holding.epoch + 1, aim, owned, is_owned)),
        Progress::Unknown if owned.is_none_or(|owned| !owned.is_empty()) => Err(Lost),
        Progress::Unknown => Ok(advance(holding, aim.epoch, aim, owned, is_owned)),
    }
}

fn advance(
    holding: &Holding,
    epoch: i32,
    aim: &Aim,
    owned: Option<&Partitions>,
    is_owned: impl Fn(TopicId, i32) -> bool,
) -> Holding {
    let keeps = |topic, partition| aim.target.contains(topic, partition);
    let (kept, revoking) = holding.assigned.split(keeps);
    let previous_epoch = holding.epoch;
    if !revoking.is_empty() && owns_any(owned, &revoking) {
        return Holding {
            epoch,
            previous_epoch,
            progress: Progress::Unrevoked,
            assigned: Arc::new(kept),
            revoking: Arc::new(revoking),
        };
    }
    let is_kept = |topic, partition| kept.contains(topic, partition);
    let (_, missing) = aim.target.split(is_kept);
    // What it has given up just now is its own again if it shall have it after all: nobody else can
    // have been given it yet.
    let is_with_others = |topic, partition| {
        is_owned(topic, partition) && !holding.revoking.contains(topic, partition)
    };
    let (unreleased, free) = missing.split(is_with_others);
    let progress = if unreleased.is_empty() { Progress::Stable } else { Progress::Unreleased };
    let assigned = if free.is_empty() && kept == *holding.assigned {
        holding.assigned.clone()
    } else {
        Arc::new(kept.with(free))
    };
    Holding { epoch: aim.epoch, previous_epoch, progress, assigned, revoking: Arc::default() }
}

/// Whether the member has any of these, as far as it says; one that says nothing may have them all.
fn owns_any(owned: Option<&Partitions>, some: &Partitions) -> bool {
    owned.is_none_or(|owned| some.each().any(|(topic, one)| owned.contains(topic, one)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TopicId = TopicId([1; 16]);

    fn some(partitions: &[i32]) -> Arc<Partitions> {
        Arc::new(Partitions::from_list([(A, partitions.to_vec())]))
    }

    fn stable(epoch: i32, assigned: &[i32]) -> Holding {
        Holding { epoch, previous_epoch: epoch, assigned: some(assigned), ..Holding::default() }
    }

    fn aim(epoch: i32, target: &[i32]) -> Aim {
        Aim { epoch, target: some(target) }
    }

    fn next(
        holding: &Holding,
        aim: &Aim,
        owned: Option<&[i32]>,
        others: &[i32],
    ) -> Result<Holding, Lost> {
        let owned = owned.map(some);
        next_holding(holding, aim, owned.as_deref(), |_, partition| others.contains(&partition))
    }

    #[test]
    fn free_partitions_are_had_at_once() {
        let has = next(&stable(0, &[]), &aim(1, &[0, 1]), Some(&[]), &[]);
        assert_eq!(has, Ok(Holding { previous_epoch: 0, ..stable(1, &[0, 1]) }));
    }

    #[test]
    fn what_must_go_is_given_up_before_anything_else_happens() {
        let has = next(&stable(1, &[0, 1]), &aim(2, &[1, 2]), Some(&[0, 1]), &[]).expect("known");
        assert_eq!((has.epoch, has.progress), (1, Progress::Unrevoked));
        assert_eq!((&*has.assigned, &*has.revoking), (&*some(&[1]), &*some(&[0])));
        // It still has it, or says nothing.
        assert_eq!(next(&has, &aim(2, &[1, 2]), Some(&[0, 1]), &[]), Ok(has.clone()));
        assert_eq!(next(&has, &aim(3, &[2]), None, &[]), Ok(has.clone()));
        let done = next(&has, &aim(2, &[1, 2]), Some(&[1]), &[]).expect("known");
        assert_eq!(done, Holding { previous_epoch: 1, ..stable(2, &[1, 2]) });
    }

    #[test]
    fn what_others_have_is_waited_for() {
        let has = next(&stable(1, &[0]), &aim(2, &[0, 1]), None, &[1]).expect("known");
        assert_eq!((has.epoch, has.progress), (2, Progress::Unreleased));
        assert_eq!(*has.assigned, *some(&[0]));
        let still = next(&has, &aim(2, &[0, 1]), None, &[1]).expect("known");
        assert_eq!(still, Holding { previous_epoch: 2, ..has.clone() });
        let done = next(&has, &aim(2, &[0, 1]), None, &[]).expect("known");
        assert_eq!((done.epoch, done.progress), (2, Progress::Stable));
        assert_eq!(*done.assigned, *some(&[0, 1]));
    }

    #[test]
    fn who_had_given_it_up_before_being_asked_goes_on_at_once() {
        let has = next(&stable(1, &[0, 1]), &aim(2, &[1]), Some(&[1]), &[]);
        assert_eq!(has, Ok(Holding { previous_epoch: 1, ..stable(2, &[1]) }));
    }

    #[test]
    fn what_was_given_up_and_shall_be_had_again_is_had_at_once() {
        let has = next(&stable(1, &[0, 1]), &aim(2, &[1]), Some(&[0, 1]), &[0, 1]).expect("known");
        assert_eq!(has.progress, Progress::Unrevoked);
        let done = next(&has, &aim(3, &[0, 1]), Some(&[1]), &[0, 1]).expect("known");
        assert_eq!(done, Holding { previous_epoch: 1, ..stable(3, &[0, 1]) });
        let shared = next(&has, &aim(3, &[0, 1, 2]), Some(&[1]), &[0, 1, 2]).expect("known");
        assert_eq!((shared.progress, &*shared.assigned), (Progress::Unreleased, &*some(&[0, 1])));
    }

    #[test]
    fn a_state_of_tomorrow_means_to_begin_anew() {
        let odd = Holding { progress: Progress::Unknown, ..stable(1, &[0]) };
        assert_eq!(next(&odd, &aim(2, &[0]), Some(&[0]), &[]), Err(Lost));
        assert_eq!(next(&odd, &aim(2, &[0]), None, &[]), Err(Lost));
        let has = next(&odd, &aim(2, &[0]), Some(&[]), &[]);
        assert_eq!(has, Ok(Holding { previous_epoch: 1, ..stable(2, &[0]) }));
    }
}
