//! Requests that are parked with the members of a group.
//!
//! Does: park them, and take those that can be answered as the group stands now.
//! Does not: answer; `rebalance` does.
//! Invariants: `joining` counts the members that wait for a join; a JoinGroup that is parked while the
//! group is not `Preparing` is one whose join phase is over and which has not been answered yet.
//! Apart because who waits for what is a question of its own beside who is a member.

use super::{Group, Member, State, Waiting};

/// A request that was parked with its member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::coordinator::group) enum Parked {
    Join(Waiting),
    Sync(Waiting),
}

impl Parked {
    pub(in crate::coordinator::group) fn waiting(self) -> Waiting {
        match self {
            Self::Join(waiting) | Self::Sync(waiting) => waiting,
        }
    }
}

/// A request that was parked and is to be answered now.
#[derive(Debug)]
pub(in crate::coordinator::group) struct Answerable {
    /// The member's id.
    pub(in crate::coordinator::group) id: String,
    pub(in crate::coordinator::group) parked: Parked,
    /// How long the member may be silent from now on.
    pub(in crate::coordinator::group) session_ms: i32,
}

impl Group {
    /// Takes a member's parked JoinGroup to answer it.
    pub(in crate::coordinator::group) fn take_join(&mut self, id: &str) -> Option<Waiting> {
        let waiting = self.members.get_mut(id)?.joining.take()?;
        self.joining -= 1;
        Some(waiting)
    }

    /// Parks a member's SyncGroup; the one it had parked before is handed back to be answered.
    pub(in crate::coordinator::group) fn park_sync(
        &mut self,
        id: &str,
        waiting: Waiting,
    ) -> Option<Waiting> {
        self.members.get_mut(id)?.syncing.replace(waiting)
    }

    /// How many parked requests can be answered as the group stands: JoinGroups once the join phase is
    /// over, SyncGroups once there is an assignment.
    pub(in crate::coordinator::group) fn answerable_count(&self) -> usize {
        match self.state {
            State::Empty | State::Preparing { .. } => 0,
            State::Completing { .. } => self.joining,
            State::Stable { .. } => {
                let syncing = self.members.values().filter(|member| member.syncing.is_some());
                self.joining + syncing.count()
            }
        }
    }

    /// Takes those of the eldest members, `count` at most. From its answer to a JoinGroup on a member
    /// is expected to send heartbeats.
    pub(in crate::coordinator::group) fn take_answerable(
        &mut self,
        count: usize,
    ) -> Vec<Answerable> {
        let with_syncs = match self.state {
            State::Empty | State::Preparing { .. } => return Vec::new(),
            State::Completing { .. } => false,
            State::Stable { .. } => true,
        };
        let taken = self.take_parked(count, |member| match member.joining.take() {
            Some(waiting) => {
                member.is_new = false;
                Some(Parked::Join(waiting))
            }
            None if with_syncs => member.syncing.take().map(Parked::Sync),
            None => None,
        });
        let joins = taken.iter().filter(|one| matches!(one.parked, Parked::Join(_)));
        self.joining -= joins.count();
        taken
    }

    /// Takes every parked SyncGroup, the eldest member's first.
    pub(in crate::coordinator::group) fn take_syncs(&mut self) -> Vec<Answerable> {
        self.take_parked(usize::MAX, |member| member.syncing.take().map(Parked::Sync))
    }

    fn take_parked(
        &mut self,
        count: usize,
        take: impl Fn(&mut Member) -> Option<Parked>,
    ) -> Vec<Answerable> {
        let waits = |member: &&mut Member| member.joining.is_some() || member.syncing.is_some();
        let mut eldest: Vec<&mut Member> =
            self.members.values_mut().map(Box::as_mut).filter(waits).collect();
        eldest.sort_unstable_by_key(|member| member.order);
        let taken = eldest.into_iter().filter_map(|member| {
            let parked = take(member)?;
            let (id, session_ms) = (member.id.clone(), member.session_timeout_ms);
            Some(Answerable { id, parked, session_ms })
        });
        taken.take(count).collect()
    }
}
