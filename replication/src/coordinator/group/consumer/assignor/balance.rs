//! The assignor `uniform` where members want different topics.
//!
//! Does: what Kafka's uniform assignor does for such a group: everybody keeps what it had and still
//! wants; free partitions go to the least loaded; then topic by topic partitions move from the most
//! to the least loaded wishers, until a round over all topics moves nothing.
//! Does not: look for the best of all assignments: there are a bounded number of rounds.
//! Invariants: `loads` counts what `owners` says.
//! Apart because it is the only one that searches.

use std::sync::Arc;

use flumen_protocol::ids::TopicId;

use super::super::partitions::Partitions;
use super::{Budget, Gathered, Plan, index};

/// Rounds of moving. Where all wishers of a topic want the same, one is enough and a second sees it;
/// else each roughly halves what is uneven. Kafka's number.
const ROUNDS_MAX: usize = 16;
/// Units to look at a member, whatever it has.
const MEMBER_UNITS: usize = 8;
/// Units for one of a topic's wishers when these are put in order.
const WISHER_UNITS: usize = 8;

/// What it takes to hand out a topic, or to even it out: a piece of work that is not cut.
pub(super) fn topic_units(wishers: usize, partitions: usize) -> usize {
    WISHER_UNITS * wishers + 2 * partitions
}

/// An assignment that is being evened out.
#[derive(Clone, Debug)]
pub(in crate::coordinator::group::consumer) struct Work {
    /// Who wants a topic, by place.
    wishers: Vec<Vec<usize>>,
    /// Who has a partition, by place and number.
    owners: Vec<Vec<Option<usize>>>,
    /// How many each member has.
    loads: Vec<usize>,
    stage: Stage,
    gathered: Vec<Gathered>,
    all: Vec<Arc<Partitions>>,
}

/// How far it is; the numbers say what comes next.
///
/// ```text
/// Keep -> HandOut -> EvenOut -> Gather -> Finish -> Whole
/// ```
#[derive(Clone, Debug)]
enum Stage {
    /// This member keeps what it had and still wants.
    Keep {
        member: usize,
    },
    /// Free partitions of this one of the topics go to its least loaded wishers.
    HandOut {
        topics: Vec<usize>,
        turn: usize,
    },
    /// Partitions of this one of the topics move.
    EvenOut {
        topics: Vec<usize>,
        round: usize,
        turn: usize,
        last_moved: Option<usize>,
    },
    /// The partitions of this topic go to their owners' lists.
    Gather {
        place: usize,
    },
    /// This member's list becomes what it shall have.
    Finish {
        member: usize,
    },
    Whole,
}

impl Work {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            wishers: vec![Vec::new(); plan.topics.len()],
            owners: plan.topics.iter().map(|topic| vec![None; topic.partitions]).collect(),
            loads: vec![0; plan.members.len()],
            stage: Stage::Keep { member: 0 },
            gathered: vec![Gathered::default(); plan.members.len()],
            all: Vec::with_capacity(plan.members.len()),
        }
    }

    pub(super) fn step(&mut self, plan: &Plan, budget: &mut Budget) -> bool {
        while !budget.is_spent() {
            let stage = std::mem::replace(&mut self.stage, Stage::Whole);
            self.stage = match stage {
                Stage::Keep { member } if member < plan.members.len() => {
                    self.keep(plan, member, budget);
                    Stage::Keep { member: member + 1 }
                }
                Stage::Keep { .. } => self.begin_handing_out(plan, budget),
                Stage::HandOut { topics, turn } if turn < topics.len() => {
                    self.hand_out(topics[turn], budget);
                    Stage::HandOut { topics, turn: turn + 1 }
                }
                Stage::HandOut { .. } => self.begin_evening_out(plan, budget),
                Stage::EvenOut { topics, round, turn, last_moved } => {
                    self.even_out((topics, round, turn, last_moved), budget)
                }
                Stage::Gather { place } if place < self.owners.len() => {
                    self.gather(place, budget);
                    Stage::Gather { place: place + 1 }
                }
                Stage::Gather { .. } => Stage::Finish { member: 0 },
                Stage::Finish { member } if member < plan.members.len() => {
                    self.finish(plan, member, budget);
                    Stage::Finish { member: member + 1 }
                }
                Stage::Finish { .. } | Stage::Whole => return true,
            };
        }
        false
    }

    pub(super) fn into_assignment(self) -> Vec<Arc<Partitions>> {
        self.all
    }

    fn keep(&mut self, plan: &Plan, at: usize, budget: &mut Budget) {
        let member = &plan.members[at];
        member.wants.iter().for_each(|place| self.wishers[*place].push(at));
        for (topic, partitions) in member.before.iter() {
            let place = plan.place(topic);
            let wanted = place.filter(|place| member.wants.binary_search(place).is_ok());
            let Some(place) = wanted else { continue };
            for partition in partitions {
                if let Some(owner @ None) = self.owners[place].get_mut(index(*partition)) {
                    *owner = Some(at);
                    self.loads[at] += 1;
                }
            }
            budget.spend(partitions.len());
        }
        budget.spend(MEMBER_UNITS + member.wants.len());
    }

    fn begin_handing_out(&self, plan: &Plan, budget: &mut Budget) -> Stage {
        let is_free = |owner: &Option<usize>| owner.is_none();
        let with_free = |place: &usize| self.owners[*place].iter().any(is_free);
        let mut topics: Vec<usize> = self.wanted_places().filter(with_free).collect();
        self.sort_topics(plan, &mut topics);
        budget.spend(WISHER_UNITS * self.wishers.len());
        Stage::HandOut { topics, turn: 0 }
    }

    /// Free partitions of a topic go to the least loaded of its wishers.
    fn hand_out(&mut self, place: usize, budget: &mut Budget) {
        let mut scale = Scale::new(&self.wishers[place], &self.loads);
        for partition in 0..self.owners[place].len() {
            if self.owners[place][partition].is_none() {
                let member = scale.next_least(&self.loads);
                self.give(place, partition, member);
            }
        }
        budget.spend(topic_units(self.wishers[place].len(), self.owners[place].len()));
    }

    fn begin_evening_out(&self, plan: &Plan, budget: &mut Budget) -> Stage {
        let movable = |place: &usize| self.wishers[*place].len() >= 2;
        let mut topics: Vec<usize> = self.wanted_places().filter(movable).collect();
        self.sort_topics(plan, &mut topics);
        budget.spend(WISHER_UNITS * self.wishers.len());
        Stage::EvenOut { topics, round: 0, turn: 0, last_moved: None }
    }

    /// Moves partitions of the next topic; done when a whole round of topics has moved nothing.
    fn even_out(
        &mut self,
        (topics, round, turn, last_moved): (Vec<usize>, usize, usize, Option<usize>),
        budget: &mut Budget,
    ) -> Stage {
        if turn == topics.len() {
            return match round + 1 {
                ROUNDS_MAX => Stage::Gather { place: 0 },
                _ if topics.is_empty() => Stage::Gather { place: 0 },
                round => Stage::EvenOut { topics, round, turn: 0, last_moved },
            };
        }
        if last_moved == Some(turn) {
            return Stage::Gather { place: 0 };
        }
        let has_moved = self.even_out_topic(topics[turn], budget);
        let moves = has_moved || last_moved.is_none();
        let last_moved = if moves { Some(turn) } else { last_moved };
        Stage::EvenOut { topics, round, turn: turn + 1, last_moved }
    }

    /// Moves partitions of one topic from its most to its least loaded wishers. Whether any moved.
    fn even_out_topic(&mut self, place: usize, budget: &mut Budget) -> bool {
        budget.spend(topic_units(self.wishers[place].len(), self.owners[place].len()));
        let mut scale = Scale::new(&self.wishers[place], &self.loads);
        if scale.spread(&self.loads) <= 1 {
            return false;
        }
        // What each wisher could give up, the last first.
        let mut stacks: Vec<Vec<usize>> = vec![Vec::new(); self.loads.len()];
        for (partition, owner) in self.owners[place].iter().enumerate() {
            if let Some(owner) = owner {
                stacks[*owner].push(partition);
            }
        }
        let mut has_moved = false;
        while !scale.is_even() {
            let Some(from) = scale.next_most(&self.loads, |member| !stacks[member].is_empty())
            else {
                break;
            };
            let partition = stacks[from].pop().expect("it has some to give up");
            let to = scale.next_least(&self.loads);
            if scale.is_even() {
                break;
            }
            self.give(place, partition, to);
            has_moved = true;
        }
        has_moved
    }

    fn give(&mut self, place: usize, partition: usize, member: usize) {
        if let Some(before) = self.owners[place][partition].replace(member) {
            self.loads[before] -= 1;
        }
        self.loads[member] += 1;
    }

    fn wanted_places(&self) -> impl Iterator<Item = usize> {
        (0..self.wishers.len()).filter(|place| !self.wishers[*place].is_empty())
    }

    /// Most partitions for each wisher first, then fewest wishers, then by id.
    fn sort_topics(&self, plan: &Plan, places: &mut [usize]) {
        places.sort_by(|one, other| {
            let parts = |place: usize| self.owners[place].len() as u64;
            let wishers = |place: usize| self.wishers[place].len() as u64;
            let id = |place: usize| kafka_order(plan.topics[place].id);
            // Two fractions compared without dividing.
            let (left, right) = (parts(*other) * wishers(*one), parts(*one) * wishers(*other));
            let by_wishers = || wishers(*one).cmp(&wishers(*other));
            left.cmp(&right).then_with(by_wishers).then_with(|| id(*one).cmp(&id(*other)))
        });
    }

    fn gather(&mut self, place: usize, budget: &mut Budget) {
        for (partition, owner) in self.owners[place].iter().enumerate() {
            if let Some(owner) = owner {
                self.gathered[*owner].add(place, partition);
            }
        }
        budget.spend(self.owners[place].len());
    }

    fn finish(&mut self, plan: &Plan, at: usize, budget: &mut Budget) {
        let before = &plan.members[at].before;
        let given = std::mem::take(&mut self.gathered[at]);
        budget.spend(MEMBER_UNITS + 2 * given.0.len());
        let has = given.into_partitions(plan);
        self.all.push(if has == **before { before.clone() } else { Arc::new(has) });
    }
}

/// Kafka compares ids as pairs of signed numbers.
fn kafka_order(TopicId(id): TopicId) -> (i64, i64) {
    let half = |bytes: Option<&[u8; 8]>| i64::from_be_bytes(*bytes.expect("an id is 16 bytes"));
    (half(id.first_chunk()), half(id.last_chunk()))
}

/// The wishers of one topic, the least loaded first, with the two ends that give and take.
///
/// ```text
/// load |                  ####      giving end: widens to the left as its level sinks
///      |        ##############
///      | ####                       taking end: widens to the right as its level rises
///      +---------------------- members
/// ```
/// Loads change while partitions move, but within each end all stand at its level or one step past
/// it, so the order stays good enough to go on with.
#[derive(Debug)]
struct Scale {
    members: Vec<usize>,
    /// Members in front of this one stand at `least_level` or one above.
    least_end: usize,
    least_level: isize,
    least_next: usize,
    /// Members between these stand at `most_level` or one below; those behind can give nothing.
    most_begin: usize,
    most_end: usize,
    most_level: isize,
    /// One behind the next to give: it counts down.
    most_next: usize,
}

impl Scale {
    fn new(wishers: &[usize], loads: &[usize]) -> Self {
        let mut members = wishers.to_vec();
        members.sort_by_key(|member| (loads[*member], *member));
        let level = |member: Option<&usize>| member.map_or(0, |member| signed(loads[*member]));
        Self {
            least_end: 0,
            least_level: level(members.first()) - 1,
            least_next: 0,
            most_begin: members.len(),
            most_end: members.len(),
            most_level: level(members.last()) + 1,
            most_next: members.len(),
            members,
        }
    }

    /// How far apart the ends are. To be asked before anything moves.
    fn spread(&self, loads: &[usize]) -> usize {
        let load = |member: Option<&usize>| member.map_or(0, |member| loads[*member]);
        load(self.members.last()) - load(self.members.first())
    }

    /// Whether moving would make nothing more even.
    fn is_even(&self) -> bool {
        self.most_level - self.least_level <= 1
    }

    /// Who takes next.
    fn next_least(&mut self, loads: &[usize]) -> usize {
        if self.least_next >= self.least_end {
            self.least_level += 1;
            while self.least_end < self.members.len()
                && signed(loads[self.members[self.least_end]]) == self.least_level
            {
                self.least_end += 1;
            }
            self.least_next = 0;
        }
        let member = self.members[self.least_next];
        self.least_next += 1;
        member
    }

    /// Who gives next, among those that `can_give`; the others leave the giving end for good.
    fn next_most(&mut self, loads: &[usize], can_give: impl Fn(usize) -> bool) -> Option<usize> {
        loop {
            if self.most_next <= self.most_begin {
                self.widen_most(loads);
            }
            if self.most_next == 0 {
                return None;
            }
            self.most_next -= 1;
            let member = self.members[self.most_next];
            if can_give(member) {
                return Some(member);
            }
            self.most_end -= 1;
            self.members.swap(self.most_next, self.most_end);
        }
    }

    /// Lowers the level of the giving end and takes in who stands there.
    fn widen_most(&mut self, loads: &[usize]) {
        if self.most_end <= self.most_begin && self.most_begin > 0 {
            // Nobody is left in it: go to the level where somebody stands.
            self.most_level = signed(loads[self.members[self.most_begin - 1]]);
        } else {
            self.most_level -= 1;
        }
        while self.most_begin > 0
            && signed(loads[self.members[self.most_begin - 1]]) == self.most_level
        {
            self.most_begin -= 1;
        }
        self.most_next = self.most_end;
    }
}

fn signed(load: usize) -> isize {
    isize::try_from(load).expect("loads are partitions")
}
