//! Members that leave, are lost, or are taken out.
//!
//! Does: take members out and begin the next epoch; act when a session or a wait is over; see when a
//! group has only classic members left and must become classic.
//! Does not: answer, or convert; `migration` does.
//! Invariants: whoever is taken out has no alarm left.
//! Apart because every way out of a group ends here.

use super::super::classic::Group;
use super::converting::is_large_consumer;
use super::fact::Fact;
use super::member::Progress;
use super::migration;
use super::pen::Pen;
use crate::coordinator::timers::Wait;

/// What has become of the group.
#[derive(Debug)]
pub(in crate::coordinator::group) enum Fate {
    /// It goes on.
    Stays,
    /// It is classic now, as written down; `rebalances`: its members must join again.
    Classic { group: Box<Group>, rebalances: bool },
    /// It is to become classic, in steps.
    Converts,
}

/// Takes members out. Their order counts for nothing.
pub(super) fn remove(pen: &mut Pen<'_, '_>, gone: &[String]) -> Fate {
    if gone.is_empty() {
        return Fate::Stays;
    }
    let becomes_classic = migration::is_classic_without(pen, gone);
    if becomes_classic && !is_large_consumer(pen.group) {
        return migration::to_classic_without(pen, gone);
    }
    for member in gone {
        pen.cancel_all(member);
        let pattern = pen.group.member(member).map(|known| known.profile.pattern.clone());
        pen.write_gone(member);
        if let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty())
            && !pen.group.patterns().contains_key(&pattern)
        {
            pen.write(Fact::PatternGone { pattern });
        }
    }
    pen.update_epoch(true);
    if becomes_classic { Fate::Converts } else { Fate::Stays }
}

/// A member has not been heard of for its session timeout.
pub(in crate::coordinator::group) fn session_is_over(pen: &mut Pen<'_, '_>, member: &str) -> Fate {
    match pen.group.member(member) {
        Some(_) => remove(pen, &[member.to_owned()]),
        None => Fate::Stays,
    }
}

/// A member has had long enough for what it must do.
pub(in crate::coordinator::group) fn wait_is_over(
    pen: &mut Pen<'_, '_>,
    member: &str,
    wait: Wait,
) -> Fate {
    let Some(known) = pen.group.member(member) else { return Fate::Stays };
    let is_late = match wait {
        // A static member that is away gives nothing up; its session ends one day.
        Wait::Revocation => {
            known.holding.progress == Progress::Unrevoked && known.holding.epoch >= 0
        }
        Wait::Rejoin | Wait::Sync => true,
    };
    if is_late { remove(pen, &[member.to_owned()]) } else { Fate::Stays }
}
