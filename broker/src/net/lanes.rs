//! Which connection goes next.
//!
//! Does: keep those that can go on in order: first clients that are known and used little of the core
//! lately, then those that come or go, then those that used much, and beside them those that are over
//! and only have to be closed.
//! Does not: know what they do, or how long a turn is.
//! Invariants: a connection is in one lane at most (its member knows); within a lane first come,
//! first served; each lane has a share of every turn.
//! Apart because it is the one place that says who waits for whom.

use std::collections::VecDeque;

use crate::limits::{LANE_BYTES_PER_TURN, LANE_SHARE, LANE_VISIT_BYTES};
use crate::shard::input::ConnectionId;

/// Where a connection waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// It is known, stays, and used little of the core lately.
    Quick,
    /// It came lately, or its client says nothing more: it may be one of a crowd.
    Passing,
    /// It used much.
    Slow,
    /// It is over: nobody waits for it.
    Over,
}

/// The connections of a core that can go on.
#[derive(Default)]
pub struct Lanes {
    quick: VecDeque<ConnectionId>,
    passing: VecDeque<ConnectionId>,
    slow: VecDeque<ConnectionId>,
    over: VecDeque<ConnectionId>,
}

impl Lanes {
    /// Puts a connection at the end of a lane.
    pub fn enter(&mut self, lane: Lane, id: ConnectionId) {
        self.lane(lane).push_back(id);
    }

    /// Takes the one that has been longest in a lane.
    pub fn take(&mut self, lane: Lane) -> Option<ConnectionId> {
        self.lane(lane).pop_front()
    }

    /// How many wait in a lane.
    pub fn count(&self, lane: Lane) -> usize {
        self.of(lane).len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        [Lane::Quick, Lane::Passing, Lane::Slow, Lane::Over]
            .iter()
            .all(|lane| self.count(*lane) == 0)
    }

    fn of(&self, lane: Lane) -> &VecDeque<ConnectionId> {
        match lane {
            Lane::Quick => &self.quick,
            Lane::Passing => &self.passing,
            Lane::Slow => &self.slow,
            Lane::Over => &self.over,
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<ConnectionId> {
        match lane {
            Lane::Quick => &mut self.quick,
            Lane::Passing => &mut self.passing,
            Lane::Slow => &mut self.slow,
            Lane::Over => &mut self.over,
        }
    }
}

/// What one turn may still spend on connections: bytes moved, and each visit as so many.
pub struct Allowance {
    quick: usize,
    passing: usize,
    slow: usize,
}

impl Allowance {
    /// That of a whole turn. Those that are known and used little may have most of it; what they leave,
    /// and a share in any case, is for the others.
    pub fn of_a_turn() -> Self {
        let share = LANE_BYTES_PER_TURN / LANE_SHARE;
        Self { quick: LANE_BYTES_PER_TURN - 2 * share, passing: share, slow: share }
    }

    /// Whether anything is left for this lane.
    pub fn is_left(&self, lane: Lane) -> bool {
        match lane {
            Lane::Quick => self.quick > 0,
            Lane::Passing => self.quick + self.passing > 0,
            Lane::Slow => self.quick + self.slow > 0,
            Lane::Over => true,
        }
    }

    /// Somebody of this lane moved so many bytes.
    pub fn spend(&mut self, lane: Lane, bytes: usize) {
        let cost = LANE_VISIT_BYTES + bytes;
        let mut nothing = 0;
        let own = match lane {
            Lane::Quick => &mut nothing,
            Lane::Passing => &mut self.passing,
            Lane::Slow => &mut self.slow,
            Lane::Over => return,
        };
        let from_own = cost.min(*own);
        *own -= from_own;
        self.quick = self.quick.saturating_sub(cost - from_own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many visits of so many bytes a lane has left.
    fn visits(allowance: &mut Allowance, lane: Lane, bytes: usize) -> usize {
        let mut count = 0;
        while allowance.is_left(lane) {
            allowance.spend(lane, bytes);
            count += 1;
        }
        count
    }

    #[test]
    fn crowds_and_who_used_much_have_a_share_each_and_what_the_others_leave() {
        let whole = LANE_BYTES_PER_TURN / LANE_VISIT_BYTES;
        let share = whole / LANE_SHARE;
        let mut busy = Allowance::of_a_turn();
        assert_eq!(visits(&mut busy, Lane::Quick, 0), whole - 2 * share);
        assert_eq!(visits(&mut busy, Lane::Passing, 0), share);
        assert_eq!(visits(&mut busy, Lane::Slow, 0), share);
        let mut calm = Allowance::of_a_turn();
        assert_eq!(visits(&mut calm, Lane::Passing, 0), whole - share);
        assert_eq!(visits(&mut calm, Lane::Slow, 0), share);
        let mut large = Allowance::of_a_turn();
        assert_eq!(visits(&mut large, Lane::Slow, LANE_BYTES_PER_TURN), 1);
    }

    #[test]
    fn each_lane_is_first_come_first_served() {
        let mut lanes = Lanes::default();
        let [a, b, c, d] = [1, 2, 3, 4].map(ConnectionId);
        lanes.enter(Lane::Passing, d);
        lanes.enter(Lane::Slow, a);
        lanes.enter(Lane::Quick, b);
        lanes.enter(Lane::Quick, c);
        assert_eq!((lanes.take(Lane::Quick), lanes.take(Lane::Quick)), (Some(b), Some(c)));
        assert_eq!((lanes.count(Lane::Slow), lanes.is_empty()), (1, false));
        assert_eq!((lanes.take(Lane::Slow), lanes.take(Lane::Over)), (Some(a), None));
        assert!(!lanes.is_empty());
        assert_eq!(lanes.take(Lane::Passing), Some(d));
        assert!(lanes.is_empty());
    }
}
