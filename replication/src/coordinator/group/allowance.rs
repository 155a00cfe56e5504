//! How much more a coordinator of groups may hold.
//!
//! Does: say how many groups may still come, and what groups and offsets may weigh more than they do.
//! Does not: refuse anything, or weigh; rosters and tables keep their sums.
//! Invariants: what is left is below the coordinator's own limits and below its part of the core's memory;
//! where there is too much already, as a log may hold, nothing is left.
//! Apart because joins, assignments and commits ask the same.

use super::dispatch::GroupCoordinator;
use crate::coordinator::machine::Machine;
use crate::limits::{COORDINATOR_GROUPS_BYTES_MAX, COORDINATOR_OFFSETS_BYTES_MAX, GROUPS_MAX};

/// What a coordinator has room for.
pub(super) struct GroupsRoom {
    /// Further groups.
    pub(super) groups: usize,
    /// What groups of either kind may weigh more than they do, without their offsets.
    pub(super) bytes: usize,
}

impl GroupCoordinator {
    pub(super) fn groups_room(&self) -> GroupsRoom {
        let count = self.groups.count() + self.consumers.count();
        let bytes = self.groups.bytes() + self.consumers.bytes();
        GroupsRoom {
            groups: GROUPS_MAX.saturating_sub(count),
            bytes: COORDINATOR_GROUPS_BYTES_MAX.saturating_sub(bytes).min(self.memory_left()),
        }
    }

    /// What offsets may weigh more than they do.
    pub(super) fn offsets_room(&self) -> usize {
        let bytes = self.offsets.bytes() + self.pending.bytes();
        COORDINATOR_OFFSETS_BYTES_MAX.saturating_sub(bytes).min(self.memory_left())
    }

    fn memory_left(&self) -> usize {
        self.weight_max.saturating_sub(self.weight_bytes())
    }
}
