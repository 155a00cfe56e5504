//! A target assignment that is being worked out for a group, some work at a time.
//!
//! Does: take down who is in the group and what there is; find out what each member wants; have the
//! assignor decide; say for whom something changes.
//! Does not: write it down, or decide when the work goes on; `pen` does.
//! Invariants: it speaks of the group as it was when the work began, whoever comes or goes meanwhile,
//! but for static members, whose places it hands over; a step does no more than its budget and one
//! piece of work.
//! Apart because it outlives the request that began it: a group of thousands must not hold up its
//! core.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assignor::{Assignor, Budget, Plan, PlanMember, PlanTopic, Work};
use super::fact::Resolved;
use super::member::Profile;
use super::partitions::Partitions;
use super::state::ConsumerGroup;
use crate::metadata::image::Image;

/// Units to take a member down.
const MEMBER_UNITS: usize = 8;
/// Units to look a topic up by its name.
const NAME_UNITS: usize = 16;
/// Units to write down what one member shall have: a record and two places in memory.
const WRITE_UNITS: usize = 40;

/// A target assignment in the making.
#[derive(Clone, Debug)]
pub(in crate::coordinator::group) struct Assigning {
    epoch: i32,
    assignor: Assignor,
    image: Arc<Image>,
    resolved: BTreeMap<String, Resolved>,
    plan: Plan,
    /// What the members say, in the plan's order, and whether they have no target yet.
    profiles: Vec<(Arc<Profile>, bool)>,
    /// Members whose wishes are in the plan.
    wished: usize,
    /// `None` before the wishes are known and after all is decided.
    work: Option<Work>,
    changed: Option<Vec<(String, Arc<Partitions>)>>,
}

impl Assigning {
    /// Takes the group down as it is now.
    pub(super) fn new(
        group: &ConsumerGroup,
        image: &Arc<Image>,
        assignor: Assignor,
        budget: &mut Budget,
    ) -> Self {
        let found = group.subscribers().keys().filter_map(|name| image.topic_named(name));
        let mut topics: Vec<PlanTopic> = found
            .map(|topic| PlanTopic { id: topic.id, partitions: topic.partitions.len() })
            .collect();
        topics.sort_unstable_by_key(|topic| topic.id);
        let is_homogeneous = group.is_homogeneous();
        let wants: Arc<[usize]> =
            if is_homogeneous { (0..topics.len()).collect() } else { Arc::default() };
        let mut profiles = Vec::with_capacity(group.members().len());
        // Both maps are in the order of the ids: one walk through both, not a look-up for each member.
        let mut targets = group.targets().iter().peekable();
        let members = group.members().iter().map(|(id, member)| {
            while targets.next_if(|(other, _)| *other < id).is_some() {}
            let before = targets.next_if(|(other, _)| *other == id).map(|(_, known)| known.clone());
            profiles.push((member.profile.clone(), before.is_none()));
            PlanMember {
                id: id.clone(),
                instance: member.profile.instance.clone(),
                wants: wants.clone(),
                before: before.unwrap_or_default(),
            }
        });
        let members: Vec<PlanMember> = members.collect();
        budget.spend(MEMBER_UNITS * members.len() + NAME_UNITS * topics.len());
        Self {
            epoch: group.epoch(),
            assignor,
            image: image.clone(),
            resolved: if is_homogeneous { BTreeMap::new() } else { group.resolved().clone() },
            wished: if is_homogeneous { members.len() } else { 0 },
            plan: Plan { topics, members, is_homogeneous },
            profiles,
            work: None,
            changed: None,
        }
    }

    /// The epoch it is for.
    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Goes on until everything is decided and so much of the budget is left that it can be written
    /// down; whether that is so.
    pub(super) fn step(&mut self, budget: &mut Budget) -> bool {
        while self.wished < self.plan.members.len() {
            if budget.is_spent() {
                return false;
            }
            self.find_wishes(budget);
        }
        if self.changed.is_none() {
            let work = self.work.get_or_insert_with(|| Work::new(self.assignor, &self.plan));
            if !work.step(&self.plan, budget) {
                return false;
            }
            self.decide();
        }
        let changed = self.changed.as_ref().map_or(0, Vec::len);
        budget.covers(WRITE_UNITS * changed)
    }

    /// For whom something changes, once everything is decided. Some may have gone meanwhile.
    pub(super) fn into_changed(self) -> Vec<(String, Arc<Partitions>)> {
        self.changed.expect("everything is decided")
    }

    /// A member's place has gone over to another id.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let planned = self.plan.members.iter_mut().map(|member| &mut member.id);
        let decided = self.changed.iter_mut().flatten().map(|(member, _)| member);
        if let Some(id) = planned.chain(decided).find(|id| *id == from) {
            to.clone_into(id);
        }
    }

    /// Finds out what the next member wants.
    fn find_wishes(&mut self, budget: &mut Budget) {
        let (profile, _) = &self.profiles[self.wished];
        let matched = self.resolved.get(&profile.pattern);
        let matched = matched.iter().flat_map(|resolved| resolved.topics.iter());
        let mut wants: Vec<usize> = Vec::with_capacity(profile.topics.len());
        for name in profile.topics.iter().chain(matched) {
            let topic = self.image.topic_named(name);
            wants.extend(topic.and_then(|topic| self.plan.place(topic.id)));
            budget.spend(NAME_UNITS);
        }
        wants.sort_unstable();
        wants.dedup();
        self.plan.members[self.wished].wants = wants.into();
        self.wished += 1;
        budget.spend(MEMBER_UNITS);
    }

    /// Keeps what differs from what is known. Who never had a target gets one, be it empty.
    fn decide(&mut self) {
        let work = self.work.take().expect("the work is done");
        let assigned = work.into_assignment(&self.plan);
        let members = std::mem::take(&mut self.plan.members).into_iter();
        let members = members.zip(&self.profiles).zip(assigned);
        let changed = members.filter_map(|((member, (_, is_new)), target)| {
            let is_changed = *is_new || !Arc::ptr_eq(&member.before, &target);
            is_changed.then_some((member.id, target))
        });
        self.changed = Some(changed.collect());
        // All members are decided upon: none is left to find wishes of.
        self.wished = 0;
    }
}

#[cfg(test)]
mod tests {
    use flumen_protocol::ids::{NodeId, TopicId};

    use super::*;
    use crate::coordinator::group::consumer::fact::Fact;
    use crate::coordinator::group::consumer::member::Holding;
    use crate::limits::ASSIGNING_UNITS_PER_STEP;
    use crate::metadata::controller::Controller;
    use crate::metadata::image::Placement;
    use crate::metadata::record::MetadataRecord;

    fn image(topics: &[(&str, usize)]) -> Arc<Image> {
        let mut controller = Controller::new();
        for (number, (name, partitions)) in (1..).zip(topics) {
            let record = MetadataRecord::Topic {
                id: TopicId([number; 16]),
                name: (*name).to_owned(),
                partitions: vec![Placement { replicas: vec![NodeId(1)] }; *partitions],
                configs: BTreeMap::new(),
            };
            controller.replay(&record).expect("a record that fits");
        }
        controller.image()
    }

    /// A group of so many members of which each wants some of the topics.
    fn group(members: usize, wishes: impl Fn(usize) -> Vec<&'static str>) -> ConsumerGroup {
        let mut group = ConsumerGroup::new("g");
        for number in 0..members {
            join(&mut group, number, wishes(number));
        }
        group
    }

    fn join(group: &mut ConsumerGroup, number: usize, topics: Vec<&str>) {
        let member = format!("member-{number:04}");
        let topics = topics.into_iter().map(str::to_owned).collect();
        let profile = Arc::new(Profile { topics, ..Profile::default() });
        group.apply(Fact::Member { member: member.clone(), profile });
        group.apply(Fact::Current { member, holding: Holding::default() });
    }

    /// What comes of it, and the units of the largest step.
    fn in_steps(
        group: &ConsumerGroup,
        image: &Arc<Image>,
        assignor: Assignor,
    ) -> (Vec<(String, Arc<Partitions>)>, usize) {
        let mut most_units = 0;
        let mut assigning = None;
        loop {
            let mut budget = Budget::of(ASSIGNING_UNITS_PER_STEP);
            let under_way = assigning
                .get_or_insert_with(|| Assigning::new(group, image, assignor, &mut budget));
            let is_whole = under_way.step(&mut budget);
            most_units = most_units.max(budget.spent());
            if let Some(whole) = assigning.take_if(|_| is_whole) {
                return (whole.into_changed(), most_units);
            }
        }
    }

    /// A group of a thousand, from the first assignment on: whoever comes, no step is larger than the
    /// budget and the largest piece; then what changed is written down, and that is bounded, too.
    #[test]
    fn a_group_of_a_thousand_never_takes_more_than_a_step() {
        let image = image(&[("t", 4000), ("u", 4000), ("v", 4000)]);
        let piece = 8 * 1001 + 2 * 4000;
        for assignor in Assignor::ALL {
            for kinds in [1, 2] {
                let wishes =
                    |number: usize| [vec!["t", "u"], vec!["u", "v"]][number % kinds].clone();
                let mut group = group(1000, wishes);
                for round in 0..3 {
                    let (changed, units) = in_steps(&group, &image, assignor);
                    assert!(units <= ASSIGNING_UNITS_PER_STEP + piece, "{units}");
                    assert!(changed.len() <= group.members().len());
                    for (member, partitions) in changed {
                        group.apply(Fact::Target { member, partitions });
                    }
                    let shared: usize = group.targets().values().map(|has| has.count()).sum();
                    assert_eq!(shared, 4000 * (kinds + 1), "all partitions have a member");
                    join(&mut group, 1000 + round, wishes(round));
                }
            }
        }
    }

    #[test]
    fn what_is_decided_is_of_the_group_as_it_was() {
        let image = image(&[("t", 4)]);
        let mut group = group(2, |_| vec!["t"]);
        let budget = &mut Budget::of(1);
        let mut assigning = Assigning::new(&group, &image, Assignor::Uniform, budget);
        assert!(!assigning.step(budget), "to take the group down was all that was to be done");
        // One member comes, and one hands its place over.
        join(&mut group, 2, vec!["t"]);
        assigning.rename("member-0001", "heir");
        while !assigning.step(&mut Budget::of(1)) {}
        assigning.rename("member-0000", "other");
        let changed = assigning.into_changed();
        let told: Vec<(&str, usize)> =
            changed.iter().map(|(member, has)| (member.as_str(), has.count())).collect();
        assert_eq!(told, [("other", 2), ("heir", 2)]);
    }
}
