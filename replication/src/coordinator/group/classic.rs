//! A group: its members, its state, and the arithmetic over both.
//!
//! Does: keep members, static instances, pending joins and protocol support consistent; choose
//! leader and protocol; check who may do what in which state.
//! Does not: answer, arm timers or write records; `rebalance` and the request rooms do.
//! Invariants: `leader` is a member; `instances` names exactly the static members; `support` counts
//! for each protocol the members that name it; `joining` counts the members that wait for a join;
//! `members_bytes` is the sum of the members' weights;
//! a state is entered only from one of its predecessors.
//! Apart because this is the truth, and everything that acts on it comes and goes.

mod parked;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::time::Wall;

use super::member::{Joiner, Member, Protocol, Waiting};
use super::subscription::subscribed_topics;

pub(super) use parked::{Answerable, Parked};

/// The protocol type of consumers, whose metadata the coordinator looks into, and of all groups of the
/// new kind.
pub(super) const CONSUMER: &str = "consumer";

/// A state without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateName {
    /// No members; offsets at most.
    Empty,
    /// Waiting for members to join the next generation.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
}

impl StateName {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Empty, Self::PreparingRebalance, Self::CompletingRebalance, Self::Stable];

    /// Kafka's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The first rebalance of an empty group, which waits for members nobody knows of yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    /// How long the present wait takes.
    pub(super) delay_ms: i32,
    /// How much longer it may be extended.
    pub(super) remaining_ms: i32,
    /// A member came during the present wait, which earns an extension.
    pub(super) grew: bool,
}

/// Where a group stands in its life, with what belongs to it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    Preparing {
        /// Set when the group was empty before.
        initial: Option<InitialDelay>,
    },
    Completing {
        /// Members that have not asked for their assignment.
        unsynced: BTreeSet<String>,
    },
    Stable {
        /// As in `Completing`: followers may come late.
        unsynced: BTreeSet<String>,
    },
}

/// A group of the classic protocol.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: String,
    state: State,
    /// When the state was entered; unknown for groups of old records and for simple groups.
    pub(super) since: Option<Wall>,
    pub(super) generation: i32,
    /// Stays when the group becomes empty; `None` for simple groups, which only hold offsets.
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    leader: Option<String>,
    /// Boxed: a map's node has room for eleven, and most groups have one or two.
    members: BTreeMap<String, Box<Member>>,
    /// Instance id → member id.
    instances: BTreeMap<String, String>,
    /// Member ids that were given out and not used yet (KIP-394).
    pending: BTreeSet<String>,
    support: BTreeMap<String, usize>,
    joining: usize,
    /// What the members weigh, by [`Member::weight_bytes`] without their assignments.
    members_bytes: usize,
    assignments_bytes: usize,
    pending_bytes: usize,
    next_order: u64,
    /// Topics the members subscribed to, as of the last rebalance; `None`: not known.
    topics: Option<BTreeSet<String>>,
}

/// Life and state.
impl Group {
    /// A group without members. `since` is `None` for a simple group.
    pub(super) fn new(id: &str, since: Option<Wall>) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            since,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeSet::new(),
            support: BTreeMap::new(),
            joining: 0,
            members_bytes: 0,
            assignments_bytes: 0,
            pending_bytes: 0,
            next_order: 0,
            topics: None,
        }
    }

    /// Takes in a member of a stored group: with members a stored group is stable.
    pub(super) fn restore(&mut self, mut member: Member) {
        member.order = self.next_order;
        self.add(member);
        self.state = State::Stable { unsynced: BTreeSet::new() };
    }

    /// Ends the restoring of a stored group.
    pub(super) fn restored(&mut self, leader: Option<&str>) {
        // A leader that is no member cannot be, but is not ours to judge: the eldest leads then.
        if let Some(leader) = leader.filter(|leader| self.members.contains_key(*leader)) {
            self.leader = Some(leader.to_owned());
        }
        self.topics = self.subscribed_topics();
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn state_name(&self) -> StateName {
        match self.state {
            State::Empty => StateName::Empty,
            State::Preparing { .. } => StateName::PreparingRebalance,
            State::Completing { .. } => StateName::CompletingRebalance,
            State::Stable { .. } => StateName::Stable,
        }
    }

    /// Enters a state.
    ///
    /// # Panics
    /// When the present state is none of its predecessors.
    pub(super) fn enter(&mut self, next: State, at: Wall) {
        let allowed = match (&self.state, &next) {
            (State::Preparing { .. }, State::Empty | State::Completing { .. })
            | (State::Completing { .. }, State::Stable { .. })
            | (
                State::Empty | State::Completing { .. } | State::Stable { .. },
                State::Preparing { .. },
            ) => true,
            (State::Empty, State::Empty | State::Completing { .. } | State::Stable { .. })
            | (State::Preparing { .. }, State::Preparing { .. } | State::Stable { .. })
            | (State::Completing { .. }, State::Empty | State::Completing { .. })
            | (
                State::Stable { .. },
                State::Empty | State::Completing { .. } | State::Stable { .. },
            ) => false,
        };
        assert!(allowed, "group went from {:?} to {next:?}", self.state);
        self.state = next;
        self.since = Some(at);
    }

    /// The present wait of a first rebalance, to be extended or ended.
    pub(super) fn initial_delay(&mut self) -> Option<&mut InitialDelay> {
        match &mut self.state {
            State::Preparing { initial } => initial.as_mut(),
            State::Empty | State::Completing { .. } | State::Stable { .. } => None,
        }
    }

    /// Members that have not asked for their assignment in this generation.
    pub(super) fn unsynced(&mut self) -> Option<&mut BTreeSet<String>> {
        match &mut self.state {
            State::Completing { unsynced } | State::Stable { unsynced } => Some(unsynced),
            State::Empty | State::Preparing { .. } => None,
        }
    }

    /// Begins the next generation: with members it waits for the leader's assignment, without it
    /// is empty.
    pub(super) fn next_generation(&mut self, at: Wall) {
        // Kafka counts on from i32::MAX into negative numbers; zero is as good and stays positive.
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.protocol = self.choose_protocol();
        self.topics = self.subscribed_topics();
        let next = if self.members.is_empty() {
            State::Empty
        } else {
            State::Completing { unsynced: self.members.keys().cloned().collect() }
        };
        self.enter(next, at);
    }
}

/// Members.
impl Group {
    pub(super) fn members(&self) -> &BTreeMap<String, Box<Member>> {
        &self.members
    }

    /// Takes the first member out of a group that is no more; nothing else is kept right.
    pub(super) fn pop_member(&mut self) -> Option<Member> {
        self.members.pop_first().map(|(_, member)| *member)
    }

    /// The members in the order they joined: the same list for the same members every time, which
    /// keeps assignments of the leader stable (G114).
    pub(super) fn members_by_age(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.members.values().map(Box::as_ref).collect();
        members.sort_by_key(|member| member.order);
        members
    }

    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id).map(Box::as_ref)
    }

    /// A joiner becomes a member.
    ///
    /// # Panics
    /// When its instance is taken or it was not checked with [`Group::supports`].
    pub(super) fn admit(&mut self, joiner: Joiner, id: String) {
        assert!(self.supports(&joiner), "a member shares a protocol with all others");
        if self.members.is_empty() {
            self.protocol_type = Some(joiner.protocol_type.clone());
        }
        let order = self.next_order;
        if let Some(initial) = self.initial_delay() {
            initial.grew = true;
        }
        self.add(joiner.into_member(id, order));
    }

    fn add(&mut self, member: Member) {
        assert!(!self.members.contains_key(&member.id), "a member joins once");
        assert_eq!(member.order, self.next_order, "members are numbered as they come");
        self.next_order += 1;
        if let Some(instance) = &member.instance {
            let before = self.instances.insert(instance.clone(), member.id.clone());
            assert!(before.is_none(), "an instance has one member");
        }
        self.forget_joiner(&member.id);
        self.leader.get_or_insert_with(|| member.id.clone());
        self.count(&member.protocols, true);
        self.members_bytes += member.weight_bytes();
        self.assignments_bytes += member.assignment.len();
        self.joining += usize::from(member.joining.is_some());
        self.members.insert(member.id.clone(), Box::new(member));
    }

    /// Takes out a member or a pending id. Whoever it waited for must be answered by the caller.
    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        self.forget_joiner(id);
        if let Some(unsynced) = self.unsynced() {
            unsynced.remove(id);
        }
        let member = self.members.remove(id)?;
        self.count(&member.protocols, false);
        self.members_bytes -= member.weight_bytes();
        self.assignments_bytes -= member.assignment.len();
        self.joining -= usize::from(member.joining.is_some());
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.eldest(|_| true);
        }
        Some(*member)
    }

    /// Gives a static member's place to a new process (KIP-345): same member, other id.
    /// The old process's parked requests are handed back to be answered.
    pub(super) fn replace(&mut self, old_id: &str, new_id: &str) -> Vec<Parked> {
        let mut member = self.members.remove(old_id).expect("a static member exists");
        let mut waits = Vec::new();
        self.joining -= usize::from(member.joining.is_some());
        waits.extend(member.joining.take().map(Parked::Join));
        waits.extend(member.syncing.take().map(Parked::Sync));
        if let Some(unsynced) = self.unsynced() {
            // The new process has its assignment or asks for it; nobody waits for the old one.
            unsynced.remove(old_id);
        }
        if self.leader.as_deref() == Some(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        let instance = member.instance.clone().expect("only static members are replaced");
        self.instances.insert(instance, new_id.to_owned());
        self.members_bytes -= member.weight_bytes();
        member.id = new_id.to_owned();
        self.members_bytes += member.weight_bytes();
        member.is_new = false;
        self.members.insert(member.id.clone(), member);
        waits
    }

    /// A member joins again: takes over what it says now and parks its request. The request it had
    /// parked before, if any, is handed back to be answered.
    pub(super) fn rejoin(&mut self, id: &str, joiner: &Joiner) -> Option<Waiting> {
        let mut member = self.members.remove(id).expect("a known member joins again");
        self.count(&member.protocols, false);
        self.members_bytes -= member.weight_bytes();
        member.protocols.clone_from(&joiner.protocols);
        self.members_bytes += member.weight_bytes();
        self.count(&member.protocols, true);
        member.rebalance_timeout_ms = joiner.rebalance_timeout_ms;
        member.session_timeout_ms = joiner.session_timeout_ms;
        let before = member.joining.replace(joiner.waiting);
        self.joining += usize::from(before.is_none());
        self.members.insert(member.id.clone(), member);
        before
    }

    /// Sets every member's assignment; who is not named gets an empty one, and of two for the same
    /// member the last counts. Copied: a slice would keep the leader's whole request alive.
    pub(super) fn assign<'r>(&mut self, given: impl Iterator<Item = (&'r str, &'r Bytes)>) {
        self.members.values_mut().for_each(|member| member.assignment = Bytes::new());
        for (id, assignment) in given {
            if let Some(member) = self.members.get_mut(id) {
                member.assignment = Bytes::copy_from_slice(assignment);
            }
        }
        self.assignments_bytes = self.members.values().map(|member| member.assignment.len()).sum();
    }

    /// Gives out a member id to be used in a second JoinGroup.
    pub(super) fn expect_joiner(&mut self, id: String) {
        self.pending_bytes += id.len();
        assert!(self.pending.insert(id), "an id is given out once");
    }

    fn forget_joiner(&mut self, id: &str) {
        if self.pending.remove(id) {
            self.pending_bytes -= id.len();
        }
    }

    pub(super) fn is_pending(&self, id: &str) -> bool {
        self.pending.contains(id)
    }

    pub(super) fn pending(&self) -> &BTreeSet<String> {
        &self.pending
    }

    pub(super) fn instance_member(&self, instance: &str) -> Option<&str> {
        self.instances.get(instance).map(String::as_str)
    }

    /// What the member weighs that this joiner is or replaces.
    pub(super) fn joiner_bytes(&self, joiner: &Joiner) -> Option<usize> {
        let held_by =
            joiner.instance.as_deref().and_then(|instance| self.instance_member(instance));
        self.member(held_by.unwrap_or(&joiner.member_id)).map(Member::weight_bytes)
    }

    /// What the group weighs in memory, roughly: its fixed size, what its members say, and that each
    /// of them, joined or pending, has an alarm with the ids of both in two places. The first member
    /// costs as much as a group: nodes of maps have room for eleven.
    pub(super) fn weight_bytes(&self) -> usize {
        const FIXED_BYTES: usize = 1280;
        let ids = 1 + self.members.len() + self.pending.len();
        let variable = self.members_bytes + 3 * self.pending_bytes;
        ids * (FIXED_BYTES + 2 * self.id.len()) + variable + self.assignments_bytes
    }

    /// What the group's members were assigned weighs.
    pub(super) fn assignments_bytes(&self) -> usize {
        self.assignments_bytes
    }

    /// What the group's members weigh in memory, assignments left out.
    pub(super) fn members_bytes(&self) -> usize {
        self.members_bytes
    }

    pub(super) fn joining_count(&self) -> usize {
        self.joining
    }

    /// Everybody known, given ids included, has a JoinGroup parked.
    pub(super) fn all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending.is_empty()
    }

    /// The group waits at most as long as its slowest member may take.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0).max(0)
    }
}

/// Leader, protocol, subscription.
impl Group {
    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub(super) fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// Keeps a leader that has joined, else lets the eldest member that has joined lead. Whether
    /// there is such a member.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Member| member.joining.is_some();
        let keeps = self.leader.as_ref().and_then(|id| self.member(id)).is_some_and(joined);
        if !keeps && let Some(eldest) = self.eldest(joined) {
            self.leader = Some(eldest);
            return true;
        }
        keeps
    }

    fn eldest(&self, wanted: impl Fn(&Member) -> bool) -> Option<String> {
        let candidates = self.members.values().filter(|member| wanted(member));
        candidates.min_by_key(|member| member.order).map(|member| member.id.clone())
    }

    /// Whether the joiner speaks a protocol that everybody in the group speaks.
    pub(super) fn supports(&self, joiner: &Joiner) -> bool {
        if self.state == State::Empty {
            return !joiner.protocol_type.is_empty() && !joiner.protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&joiner.protocol_type)
            && joiner.protocols.iter().any(|protocol| self.is_candidate(&protocol.name))
    }

    /// The protocol with the most votes; among equals the one an elder member voted for.
    pub(super) fn choose_protocol(&self) -> Option<String> {
        let names = self.support.keys().map(String::as_str);
        let candidates: Vec<&str> = names.filter(|name| self.is_candidate(name)).collect();
        let is_candidate = |name: &str| candidates.contains(&name);
        // Each with its votes, and when the eldest that voted for it joined.
        let mut votes: Vec<(&str, usize, u64)> = Vec::new();
        for member in self.members.values() {
            let vote = member.vote(is_candidate).expect("a shared protocol");
            match votes.iter_mut().find(|(name, ..)| *name == vote) {
                Some((_, count, eldest)) => {
                    *count += 1;
                    *eldest = member.order.min(*eldest);
                }
                None => votes.push((vote, 1, member.order)),
            }
        }
        let most = votes.into_iter().max_by_key(|(_, count, eldest)| (*count, Reverse(*eldest)))?;
        Some(most.0.to_owned())
    }

    fn is_candidate(&self, protocol: &str) -> bool {
        self.support.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    fn count(&mut self, protocols: &[Protocol], more: bool) {
        for Protocol { name, .. } in protocols {
            let count = self.support.entry(name.clone()).or_insert(0);
            *count = if more { *count + 1 } else { *count - 1 };
            if *count == 0 {
                self.support.remove(name);
            }
        }
    }

    pub(super) fn is_consumer(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether the subscription of the group's consumers is known.
    pub(super) fn knows_topics(&self) -> bool {
        self.topics.is_some()
    }

    /// Whether the group consumes `topic`. Consumers whose subscription cannot be read are taken to
    /// consume everything: their offsets must not be lost.
    pub(super) fn subscribes_to(&self, topic: &str) -> bool {
        self.topics.as_ref().map_or(self.is_consumer(), |topics| topics.contains(topic))
    }

    fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_consumer() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_deref()?);
            for topic in subscribed_topics(&metadata)? {
                if !topics.contains(topic) {
                    topics.insert(topic.to_owned());
                }
            }
        }
        Some(topics)
    }
}

/// Who may do what.
impl Group {
    /// Whether the group has the member, and the static instance is that member.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID for a process that was replaced.
    pub(super) fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            let current = self.instance_member(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if current != id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// As [`Group::check_member`], and the member is of this generation.
    ///
    /// # Errors
    /// The same, or ILLEGAL_GENERATION.
    pub(super) fn check_generation(
        &self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        self.check_member(id, instance)?;
        if generation == self.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// Whether offsets may be committed (G110), `within` a transaction or outside any. Producers
    /// name no member before KIP-447, and may end what they began while the group rebalances.
    ///
    /// # Errors
    /// As [`Group::check_generation`]; REBALANCE_IN_PROGRESS while the assignment is being made.
    pub(super) fn check_commit(
        &self,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        within: bool,
    ) -> Result<(), ErrorCode> {
        let is_empty = self.state == State::Empty;
        if generation < 0 && is_empty {
            // An administrator, or a consumer that assigns partitions to itself.
            return Ok(());
        }
        if generation >= 0 || !id.is_empty() || instance.is_some() {
            self.check_generation(id, instance, generation)?;
        } else if !is_empty && !within {
            return Err(ErrorCode::UnknownMemberId);
        }
        match self.state {
            State::Completing { .. } if !within => Err(ErrorCode::RebalanceInProgress),
            State::Empty
            | State::Preparing { .. }
            | State::Completing { .. }
            | State::Stable { .. } => Ok(()),
        }
    }
}
