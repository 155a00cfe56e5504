//! The assignor `range`: each topic is cut into ranges, one for each member that wants it.
//!
//! Does: what Kafka's RangeAssignor does: static members in the order of their instance ids come
//! first, then the others by member id; the first members of a topic get one partition more.
//! Does not: look at what members had; the order alone keeps it stable.
//! Invariants: the same member has the same place in the range of every topic of the same wishers.
//! Apart because it shares nothing with the balancing ones.

use std::sync::Arc;

use super::super::partitions::Partitions;
use super::{Budget, Plan, PlanMember, partition_number};

/// Units to find a member's place among the others.
const SORT_UNITS: usize = 8;
/// Units to begin a range: it is a list of its own in a map.
const RANGE_UNITS: usize = 8;

/// How far a topic has been handed out.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    wishers: usize,
    /// The first partition nobody has yet.
    next: usize,
    /// Members that have had their range.
    served: usize,
}

/// Ranges that are being cut.
#[derive(Clone, Debug)]
pub(in crate::coordinator::group::consumer) struct Work {
    cuts: Vec<Cut>,
    /// Members whose wishes have been counted.
    counted: usize,
    /// Members in the order in which they are served; empty until all are counted.
    order: Vec<usize>,
    served: usize,
    all: Vec<Arc<Partitions>>,
}

impl Work {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            cuts: vec![Cut::default(); plan.topics.len()],
            counted: 0,
            order: Vec::new(),
            served: 0,
            all: vec![Arc::default(); plan.members.len()],
        }
    }

    pub(super) fn step(&mut self, plan: &Plan, budget: &mut Budget) -> bool {
        while self.counted < plan.members.len() {
            if budget.is_spent() {
                return false;
            }
            self.count_next(plan, budget);
        }
        if self.order.is_empty() {
            self.order = (0..plan.members.len()).collect();
            self.order.sort_by_key(|at| sort_key(&plan.members[*at]));
            budget.spend(SORT_UNITS * self.order.len());
        }
        while self.served < self.order.len() {
            if budget.is_spent() {
                return false;
            }
            self.serve_next(plan, budget);
        }
        true
    }

    pub(super) fn into_assignment(self) -> Vec<Arc<Partitions>> {
        self.all
    }

    /// Counts what one member wants, or all at once if they want the same.
    fn count_next(&mut self, plan: &Plan, budget: &mut Budget) {
        let wants = &plan.members[self.counted].wants;
        let like_it = if plan.is_homogeneous { plan.members.len() } else { 1 };
        for place in wants.iter() {
            self.cuts[*place].wishers += like_it;
        }
        self.counted += like_it;
        budget.spend(1 + wants.len());
    }

    fn serve_next(&mut self, plan: &Plan, budget: &mut Budget) {
        let at = self.order[self.served];
        let member = &plan.members[at];
        let mut has = Partitions::default();
        for place in member.wants.iter() {
            let range = self.cuts[*place].take(plan.topics[*place].partitions);
            budget.spend(RANGE_UNITS + range.len());
            has.insert(plan.topics[*place].id, range.map(partition_number).collect());
        }
        self.all[at] = if has == *member.before { member.before.clone() } else { Arc::new(has) };
        self.served += 1;
        budget.spend(RANGE_UNITS);
    }
}

/// Static members come first, by instance.
fn sort_key(member: &PlanMember) -> (bool, &str) {
    match &member.instance {
        Some(instance) => (false, instance),
        None => (true, &member.id),
    }
}

impl Cut {
    /// The range of the next member.
    fn take(&mut self, partitions: usize) -> std::ops::Range<usize> {
        let quota = partitions / self.wishers;
        let extra = usize::from(self.served < partitions % self.wishers);
        let begin = self.next;
        self.next = (begin + quota + extra).min(partitions);
        self.served += 1;
        begin..self.next
    }
}
