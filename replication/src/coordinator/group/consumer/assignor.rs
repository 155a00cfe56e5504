//! Who shall have which partition: the assignors of the server side (KIP-848).
//!
//! Does: name them, lay out what they are given, and let one of them decide, some work at a time.
//! Does not: know epochs, members' states, or what is handed out when.
//! Invariants: every partition of a topic that somebody wants has exactly one member, and one that
//! wants it; the same plan gives the same assignment, in however many steps; no step does more than
//! its budget and one piece, which is a member or a topic.
//! Apart because this is arithmetic: three rooms of it, and nothing of Kafka's protocol.

mod balance;
mod range;
mod uniform;

use std::sync::Arc;

use flumen_protocol::ids::TopicId;

use super::partitions::Partitions;

/// A way to hand out partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// As many for everybody, moving as few as possible.
    Uniform,
    /// Ranges of each topic, the same place for the same member.
    Range,
}

impl Assignor {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Kafka's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// A topic of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlanTopic {
    pub(super) id: TopicId,
    /// How many partitions it has.
    pub(super) partitions: usize,
}

/// A member of a plan.
#[derive(Clone, Debug)]
pub(super) struct PlanMember {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    /// Places of the topics it wants in the plan, ascending.
    pub(super) wants: Arc<[usize]>,
    /// What it should have up to now. A log that lost records may name partitions that do not exist,
    /// or that another member should have as well.
    pub(super) before: Arc<Partitions>,
}

/// What an assignor is given.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// In the order of their ids; only topics that exist.
    pub(super) topics: Vec<PlanTopic>,
    /// In the order of their ids.
    pub(super) members: Vec<PlanMember>,
    /// Everybody wants the same topics.
    pub(super) is_homogeneous: bool,
}

impl Plan {
    /// The place of a topic.
    pub(super) fn place(&self, topic: TopicId) -> Option<usize> {
        self.topics.binary_search_by_key(&topic, |topic| topic.id).ok()
    }
}

/// How much work may be done before others have their turn. A unit is what it takes to look at a
/// partition: some ten nanoseconds.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    spent: usize,
}

impl Budget {
    /// So many units; as many as can be counted for work that cannot be put off.
    pub(super) fn of(units: usize) -> Self {
        Self { left: units, spent: 0 }
    }

    pub(super) fn spend(&mut self, units: usize) {
        self.left = self.left.saturating_sub(units);
        self.spent += units;
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Whether so much can be done at once: there is enough left, or it would never be more.
    pub(super) fn covers(&self, units: usize) -> bool {
        units <= self.left || self.spent == 0
    }

    #[cfg(test)]
    pub(super) fn spent(&self) -> usize {
        self.spent
    }
}

/// An assignment that is being worked out. Every step must be given the same plan.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// There is nobody to have anything.
    Nobody,
    Range(range::Work),
    Uniform(uniform::Work),
    Balance(balance::Work),
}

impl Work {
    pub(super) fn new(assignor: Assignor, plan: &Plan) -> Self {
        match assignor {
            _ if plan.members.is_empty() => Self::Nobody,
            Assignor::Range => Self::Range(range::Work::new(plan)),
            Assignor::Uniform if plan.is_homogeneous => Self::Uniform(uniform::Work::new(plan)),
            Assignor::Uniform => Self::Balance(balance::Work::new(plan)),
        }
    }

    /// Goes on until the assignment is whole or the budget is spent; whether it is whole.
    pub(super) fn step(&mut self, plan: &Plan, budget: &mut Budget) -> bool {
        match self {
            Self::Nobody => true,
            Self::Range(work) => work.step(plan, budget),
            Self::Uniform(work) => work.step(plan, budget),
            Self::Balance(work) => work.step(plan, budget),
        }
    }

    /// What every member shall have, in the order of the plan's members, once it is whole. Who keeps
    /// what it should have up to now is given the very same.
    pub(super) fn into_assignment(self, plan: &Plan) -> Vec<Arc<Partitions>> {
        let all = match self {
            Self::Nobody => Vec::new(),
            Self::Range(work) => work.into_assignment(),
            Self::Uniform(work) => work.into_assignment(),
            Self::Balance(work) => work.into_assignment(),
        };
        assert_eq!(all.len(), plan.members.len(), "everybody is told what it shall have");
        all
    }
}

/// Partitions given out one by one.
#[derive(Clone, Debug, Default)]
struct Gathered(Vec<(usize, i32)>);

impl Gathered {
    fn add(&mut self, place: usize, partition: usize) {
        self.0.push((place, partition_number(partition)));
    }

    fn into_partitions(self, plan: &Plan) -> Partitions {
        let mut all = self.0;
        all.sort_unstable();
        let mut partitions = Partitions::default();
        for topic in all.chunk_by(|one, other| one.0 == other.0) {
            let numbers = topic.iter().map(|(_, partition)| *partition).collect();
            partitions.insert(plan.topics[topic[0].0].id, numbers);
        }
        partitions
    }
}

fn partition_number(partition: usize) -> i32 {
    i32::try_from(partition).expect("a topic has fewer partitions than 2^31")
}

/// The place of a partition in a list of all those of its topic, or one behind its end.
fn index(partition: i32) -> usize {
    usize::try_from(partition).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::limits::ASSIGNING_UNITS_PER_STEP;

    const A: TopicId = TopicId([1; 16]);
    const B: TopicId = TopicId([2; 16]);
    const C: TopicId = TopicId([3; 16]);

    /// Topics with their partitions; members with the places of what they want.
    fn plan(topics: &[(TopicId, usize)], members: &[(&str, &[usize])]) -> Plan {
        let member = |(id, wants): &(&str, &[usize])| PlanMember {
            id: (*id).to_owned(),
            instance: None,
            wants: wants.to_vec().into(),
            before: Arc::default(),
        };
        let members: Vec<_> = members.iter().map(member).collect();
        let is_homogeneous = members.windows(2).all(|pair| pair[0].wants == pair[1].wants);
        Plan {
            topics: topics.iter().map(|&(id, partitions)| PlanTopic { id, partitions }).collect(),
            members,
            is_homogeneous,
        }
    }

    /// The assignment, in one step and in the smallest ones.
    fn assign(assignor: Assignor, plan: &Plan) -> Vec<Arc<Partitions>> {
        let mut work = Work::new(assignor, plan);
        assert!(work.step(plan, &mut Budget::of(usize::MAX)), "nothing is put off");
        let all = work.into_assignment(plan);
        let mut slow = Work::new(assignor, plan);
        while !slow.step(plan, &mut Budget::of(1)) {}
        assert_eq!(slow.into_assignment(plan), all, "the same in many steps");
        all
    }

    fn of(all: &[Arc<Partitions>], member: usize, topic: TopicId) -> Vec<i32> {
        all[member].of(topic).to_vec()
    }

    /// Every partition that somebody wants has one member, which wants it.
    fn check(plan: &Plan, all: &[Arc<Partitions>]) {
        let mut seen = BTreeSet::new();
        for (member, has) in plan.members.iter().zip(all) {
            for (topic, partition) in has.each() {
                let place = plan.place(topic).expect("a topic of the plan");
                assert!(member.wants.contains(&place), "{} wants {topic:?}", member.id);
                assert!(seen.insert((place, partition)), "{partition} of {topic:?} twice");
            }
        }
        let wanted: BTreeSet<usize> =
            plan.members.iter().flat_map(|member| member.wants.iter().copied()).collect();
        let all: usize = wanted.iter().map(|place| plan.topics[*place].partitions).sum();
        assert_eq!(seen.len(), all, "no partition is left out");
    }

    fn again(plan: &Plan, all: &[Arc<Partitions>]) -> Plan {
        let mut next = plan.clone();
        for (member, has) in next.members.iter_mut().zip(all) {
            member.before = has.clone();
        }
        next
    }

    #[test]
    fn range_gives_the_first_members_one_more() {
        let plan = plan(&[(A, 3), (B, 2)], &[("a", &[0, 1]), ("b", &[0, 1])]);
        let all = assign(Assignor::Range, &plan);
        check(&plan, &all);
        assert_eq!(of(&all, 0, A), [0, 1]);
        assert_eq!(of(&all, 0, B), [0]);
        assert_eq!(of(&all, 1, A), [2]);
        assert_eq!(of(&all, 1, B), [1]);
    }

    #[test]
    fn range_puts_instances_first_and_counts_only_who_wants_a_topic() {
        let mut plan = plan(&[(A, 2), (B, 3)], &[("a", &[0, 1]), ("b", &[1]), ("c", &[1])]);
        plan.members[2].instance = Some("i".to_owned());
        let all = assign(Assignor::Range, &plan);
        check(&plan, &all);
        assert_eq!(of(&all, 2, B), [0]);
        assert_eq!(of(&all, 0, A), [0, 1]);
        assert_eq!(of(&all, 0, B), [1]);
    }

    #[test]
    fn uniform_evens_out_and_moves_as_few_as_it_must() {
        let alone = plan(&[(A, 4), (B, 3)], &[("a", &[0, 1])]);
        let all = assign(Assignor::Uniform, &alone);
        check(&alone, &all);
        let mut two = plan(&[(A, 4), (B, 3)], &[("a", &[0, 1]), ("b", &[0, 1])]);
        two.members[0].before = all[0].clone();
        let all = assign(Assignor::Uniform, &two);
        check(&two, &all);
        assert_eq!([all[0].count(), all[1].count()], [4, 3]);
        assert!(all[0].is_within(&two.members[0].before), "nothing new for the first");
        let same = assign(Assignor::Uniform, &again(&two, &all));
        assert!(same.iter().zip(&all).all(|(one, other)| Arc::ptr_eq(one, other)), "nothing moves");
    }

    #[test]
    fn uniform_takes_away_what_is_not_wanted_any_more() {
        let mut plan = plan(&[(B, 2)], &[("a", &[0]), ("b", &[0])]);
        plan.members[0].before = Arc::new(Partitions::from_list([(A, vec![0, 1]), (B, vec![1])]));
        let all = assign(Assignor::Uniform, &plan);
        check(&plan, &all);
        assert_eq!(of(&all, 0, B), [1]);
        assert_eq!(of(&all, 0, A), [0; 0]);
    }

    /// What a log that lost records may say: partitions with two members, and such as do not exist.
    #[test]
    fn what_cannot_have_been_before_is_mended() {
        for wants in [&[0][..], &[0, 1]] {
            let mut plan = plan(&[(A, 3), (B, 1)], &[("a", &[0]), ("b", wants), ("c", wants)]);
            let odd = Arc::new(Partitions::from_list([(A, vec![0, 1, 7])]));
            plan.members.iter_mut().for_each(|member| member.before = odd.clone());
            for assignor in Assignor::ALL {
                let all = assign(assignor, &plan);
                check(&plan, &all);
            }
        }
    }

    #[test]
    fn different_wishes_are_balanced_as_far_as_they_allow() {
        let members: &[(&str, &[usize])] = &[("a", &[0, 1]), ("b", &[1, 2]), ("c", &[2])];
        let plan = plan(&[(A, 3), (B, 3), (C, 3)], members);
        let all = assign(Assignor::Uniform, &plan);
        check(&plan, &all);
        assert_eq!(all.iter().map(|has| has.count()).collect::<Vec<_>>(), [3, 3, 3]);
        let same = assign(Assignor::Uniform, &again(&plan, &all));
        assert!(same.iter().zip(&all).all(|(one, other)| Arc::ptr_eq(one, other)), "nothing moves");
    }

    #[test]
    fn a_member_that_comes_takes_from_the_most_loaded() {
        let mut plan = plan(&[(A, 6), (B, 2)], &[("a", &[0]), ("b", &[0, 1]), ("c", &[0, 1])]);
        plan.members[0].before = Arc::new(Partitions::from_list([(A, (0..6).collect())]));
        plan.members[1].before = Arc::new(Partitions::from_list([(B, vec![0, 1])]));
        let all = assign(Assignor::Uniform, &plan);
        check(&plan, &all);
        assert_eq!(all.iter().map(|has| has.count()).collect::<Vec<_>>(), [3, 2, 3]);
    }

    #[test]
    fn whatever_is_wanted_the_assignment_is_whole_and_repeats() {
        let mut seed = 1_u64;
        let mut roll = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((seed >> 33) as usize) % below
        };
        let names: Vec<String> = (0..12).map(|number| format!("m{number:02}")).collect();
        for _ in 0..300 {
            let topics: Vec<(TopicId, usize)> =
                (0..1 + roll(5)).map(|it| (TopicId([it as u8 + 1; 16]), roll(9))).collect();
            let wishes: Vec<Vec<usize>> = (0..1 + roll(11))
                .map(|_| (0..topics.len()).filter(|_| roll(3) > 0).collect())
                .collect();
            let members: Vec<(&str, &[usize])> = names
                .iter()
                .zip(&wishes)
                .map(|(name, wish)| (name.as_str(), wish.as_slice()))
                .collect();
            let mut plan = plan(&topics, &members);
            for assignor in Assignor::ALL {
                let all = assign(assignor, &plan);
                check(&plan, &all);
                plan = again(&plan, &all);
                check(&plan, &assign(assignor, &plan));
            }
        }
    }

    fn partitions_of(text: &str) -> Partitions {
        let topics = text.split(';').filter(|topic| *topic != "-");
        Partitions::from_list(topics.map(|topic| {
            let (place, numbers) = topic.split_once(':').expect("place:numbers");
            let place: u8 = place.parse().expect("a place");
            (TopicId([place; 16]), numbers.split(',').map(|it| it.parse().unwrap()).collect())
        }))
    }

    /// Every partition goes where it goes in Kafka, whatever members had before.
    #[test]
    fn different_wishes_are_served_as_kafka_serves_them() {
        let cases = include_str!("../../../../testdata/assignors/uniform_different.txt");
        let names: Vec<String> = (0..12).map(|number| format!("m{number:02}")).collect();
        for case in cases.lines().filter(|line| !line.starts_with('#')) {
            let mut parts = case.split(" | ");
            let counts = parts.next().expect("partitions").split(',').enumerate();
            let topics: Vec<(TopicId, usize)> = counts
                .map(|(place, count)| (TopicId([place as u8; 16]), count.parse().unwrap()))
                .collect();
            let mut before: Vec<Arc<Partitions>> = vec![Arc::default(); names.len()];
            for round in parts {
                let (wishes, expected) = round.split_once(" => ").expect("wishes => result");
                let wishes: Vec<Vec<usize>> = wishes
                    .split(' ')
                    .map(|wish| {
                        wish.bytes().filter(|it| *it != b'-').map(|it| (it - b'0') as usize)
                    })
                    .map(Iterator::collect)
                    .collect();
                let members: Vec<(&str, &[usize])> = names
                    .iter()
                    .zip(&wishes)
                    .map(|(name, wish)| (name.as_str(), wish.as_slice()))
                    .collect();
                let mut plan = plan(&topics, &members);
                plan.is_homogeneous = false;
                for (member, had) in plan.members.iter_mut().zip(&before) {
                    member.before = had.clone();
                }
                let all = assign(Assignor::Uniform, &plan);
                check(&plan, &all);
                let expected: Vec<Partitions> = expected.split(' ').map(partitions_of).collect();
                let given: Vec<&Partitions> = all.iter().map(|has| &**has).collect();
                assert_eq!(given, expected.iter().collect::<Vec<_>>(), "{case}");
                before = all;
            }
        }
    }

    /// Steps until the assignment is whole, and the most units of one.
    fn in_steps(assignor: Assignor, plan: &Plan) -> (Vec<Arc<Partitions>>, usize) {
        let mut work = Work::new(assignor, plan);
        let mut most_units = 0;
        loop {
            let mut budget = Budget::of(ASSIGNING_UNITS_PER_STEP);
            let is_whole = work.step(plan, &mut budget);
            most_units = most_units.max(budget.spent());
            if is_whole {
                return (work.into_assignment(plan), most_units);
            }
        }
    }

    /// Whatever a thousand members want, and whoever comes or goes, a step of their assignment is no
    /// more than its budget and one member or topic.
    #[test]
    fn a_thousand_members_are_assigned_in_steps_of_bounded_work() {
        let names: Vec<String> = (0..1000).map(|number| format!("member-{number:04}")).collect();
        let wishes: [&[usize]; 2] = [&[0, 1], &[1, 2]];
        for kinds in [1, 2] {
            let members: Vec<(&str, &[usize])> =
                (0..).zip(&names).map(|(at, name)| (name.as_str(), wishes[at % kinds])).collect();
            let mut plan = plan(&[(A, 4000), (B, 4000), (C, 4000)], &members);
            // A topic's wishers are sorted and its partitions looked at in one piece.
            let piece = balance::topic_units(members.len(), 4000);
            for assignor in Assignor::ALL {
                for round in 0..3 {
                    let (all, most_units) = in_steps(assignor, &plan);
                    check(&plan, &all);
                    assert!(most_units <= ASSIGNING_UNITS_PER_STEP + piece, "{most_units}");
                    plan = again(&plan, &all);
                    if round == 1 {
                        plan.members.remove(500);
                    }
                }
            }
        }
    }
}
