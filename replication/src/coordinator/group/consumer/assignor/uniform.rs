//! The assignor `uniform` where everybody wants the same topics.
//!
//! Does: what Kafka's uniform assignor does for such a group: everybody keeps what it had as far as
//! its share goes; what is left goes to those who have less than their share.
//! Does not: look at which topic a partition is of.
//! Invariants: nobody has more than one partition more than anybody else.
//! Apart because this is the ordinary case, and it is linear.

use std::sync::Arc;

use super::super::partitions::Partitions;
use super::{Budget, Gathered, Plan, index, partition_number};

/// Units to look at a member, whatever it has.
const MEMBER_UNITS: usize = 8;

/// Shares that are being worked out.
#[derive(Clone, Debug)]
pub(in crate::coordinator::group::consumer) struct Work {
    /// Which topics are wanted, by place.
    is_wanted: Vec<bool>,
    /// Who had a partition, by place and number: the first that says so.
    owners: Vec<Vec<Option<usize>>>,
    /// How many partitions there are to share.
    total: usize,
    /// Members whose partitions are marked in `owners`.
    marked: usize,
    /// Wanted topics whose free partitions are listed in `free`.
    listed: usize,
    free: Vec<(usize, i32)>,
    /// What each member shall have, as far as members have been looked at.
    all: Vec<Arc<Partitions>>,
    /// Members that have less than their share, and how much less.
    unfilled: Vec<(usize, usize)>,
    /// How many of these have been filled, and of `free` given out.
    filled: usize,
    given: usize,
}

impl Work {
    /// # Panics
    /// When there are no members.
    pub(super) fn new(plan: &Plan) -> Self {
        let mut is_wanted = vec![false; plan.topics.len()];
        let mut total = 0;
        for place in plan.members[0].wants.iter() {
            is_wanted[*place] = true;
            total += plan.topics[*place].partitions;
        }
        Self {
            is_wanted,
            owners: plan.topics.iter().map(|topic| vec![None; topic.partitions]).collect(),
            total,
            marked: 0,
            listed: 0,
            free: Vec::new(),
            all: Vec::with_capacity(plan.members.len()),
            unfilled: Vec::new(),
            filled: 0,
            given: 0,
        }
    }

    pub(super) fn step(&mut self, plan: &Plan, budget: &mut Budget) -> bool {
        let wanted = &plan.members[0].wants;
        while !budget.is_spent() {
            if self.marked < plan.members.len() {
                self.mark_next(plan, budget);
            } else if self.listed < wanted.len() {
                self.list_next(wanted[self.listed], budget);
            } else if self.all.len() < plan.members.len() {
                self.share_next(plan, budget);
            } else if self.filled < self.unfilled.len() {
                self.fill_next(plan, budget);
            } else {
                assert_eq!(self.given, self.free.len(), "all shares together are all partitions");
                return true;
            }
        }
        false
    }

    pub(super) fn into_assignment(self) -> Vec<Arc<Partitions>> {
        self.all
    }

    fn mark_next(&mut self, plan: &Plan, budget: &mut Budget) {
        let before = &plan.members[self.marked].before;
        for (topic, partitions) in before.iter() {
            let Some(place) = plan.place(topic) else { continue };
            for partition in partitions {
                if let Some(owner) = self.owners[place].get_mut(index(*partition)) {
                    owner.get_or_insert(self.marked);
                }
            }
            budget.spend(partitions.len());
        }
        budget.spend(MEMBER_UNITS);
        self.marked += 1;
    }

    /// Lists the partitions of a topic that nobody had.
    fn list_next(&mut self, place: usize, budget: &mut Budget) {
        let owners = self.owners[place].iter().enumerate();
        let free = owners.filter(|(_, owner)| owner.is_none());
        self.free.extend(free.map(|(partition, _)| (place, partition_number(partition))));
        budget.spend(self.owners[place].len());
        self.listed += 1;
    }

    /// The next member keeps what it had, as far as its share goes.
    fn share_next(&mut self, plan: &Plan, budget: &mut Budget) {
        let (at, count) = (self.all.len(), plan.members.len());
        let before = &plan.members[at].before;
        let mut quota = self.total / count + usize::from(at < self.total % count);
        let mut is_changed = false;
        let mut kept = Partitions::default();
        for (topic, partitions) in before.iter() {
            budget.spend(partitions.len());
            let place = plan.place(topic).filter(|place| self.is_wanted[*place]);
            let Some(place) = place else {
                is_changed = true;
                continue;
            };
            let owners = &self.owners[place];
            let is_its_own = |one: &&i32| owners.get(index(**one)) == Some(&Some(at));
            let own: Vec<i32> = partitions.iter().filter(is_its_own).copied().collect();
            let (keeps, drops) = own.split_at(own.len().min(quota));
            quota -= keeps.len();
            is_changed |= keeps.len() < partitions.len();
            self.free.extend(drops.iter().map(|partition| (place, *partition)));
            kept.insert(topic, keeps.to_vec());
        }
        if quota > 0 {
            self.unfilled.push((at, quota));
        }
        self.all.push(if is_changed { Arc::new(kept) } else { before.clone() });
        budget.spend(MEMBER_UNITS);
    }

    /// The next member that has less than its share gets what is missing.
    fn fill_next(&mut self, plan: &Plan, budget: &mut Budget) {
        let (at, quota) = self.unfilled[self.filled];
        let end = (self.given + quota).min(self.free.len());
        let given = Gathered(self.free[self.given..end].to_vec());
        if !given.0.is_empty() {
            let kept = Arc::unwrap_or_clone(std::mem::take(&mut self.all[at]));
            self.all[at] = Arc::new(kept.with(given.into_partitions(plan)));
        }
        budget.spend(MEMBER_UNITS + end - self.given);
        self.given = end;
        self.filled += 1;
    }
}
