//! A group of the new kind: its members, what they have and shall have, and the counts over them.
//!
//! Does: apply facts, live and when loading; answer questions about what they come to.
//! Does not: decide, answer requests, arm timers or write records.
//! Invariants: `instances` names exactly the static members; `subscribers`, `patterns`, `assignors`
//! and the classic counts are what the members and resolved patterns come to; `owners` has the epoch
//! of every partition that a member has or must give up; `bytes` is the sum of what all weigh.
//! Apart because this is the truth, and everything that acts on it comes and goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use flumen_protocol::ids::TopicId;

use super::assigning::Assigning;
use super::fact::{Fact, Resolved};
use super::member::{ConsumerMember, Holding, Profile};
use super::partitions::Partitions;
use super::patterns::Resolving;

/// How a group fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumerState {
    /// No members.
    Empty,
    /// What the members shall have is not known for the newest epoch.
    Assigning,
    /// Some members do not have yet what they shall have.
    Reconciling,
    /// Everybody has what it shall have.
    Stable,
}

impl ConsumerState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Empty, Self::Assigning, Self::Reconciling, Self::Stable];

    /// Kafka's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// Who wants a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscribers {
    /// Members that name it.
    pub(super) members: usize,
    /// Resolved patterns that match it.
    pub(super) patterns: usize,
}

/// A group.
#[derive(Clone, Debug)]
pub(in crate::coordinator::group) struct ConsumerGroup {
    pub(in crate::coordinator::group) id: String,
    epoch: i32,
    topics_hash: i64,
    has_old_topics: bool,
    /// Boxed: a map's node has room for eleven, and most groups have one or two.
    members: BTreeMap<String, Box<ConsumerMember>>,
    /// Instance id → member id.
    instances: BTreeMap<String, String>,
    /// −1: there is no target assignment.
    target_epoch: i32,
    targets: BTreeMap<String, Arc<Partitions>>,
    owners: BTreeMap<(TopicId, i32), i32>,
    subscribers: BTreeMap<String, Subscribers>,
    /// Patterns and how many members want them.
    patterns: BTreeMap<String, usize>,
    resolved: BTreeMap<String, Resolved>,
    assignors: BTreeMap<String, usize>,
    classic_members: usize,
    classic_protocols: BTreeMap<String, usize>,
    bytes: usize,
    /// The image of which `topics_hash` is. Unknown after loading, and when other topics are asked for.
    pub(super) hashed_image: Option<u64>,
    /// Patterns that are being resolved.
    pub(super) resolving: Option<Box<Resolving>>,
    /// The next target assignment, while it is being worked out. Not in `bytes`: it weighs about what
    /// the targets do.
    pub(super) assigning: Option<Box<Assigning>>,
    /// The epoch whose target assignment cannot be stored.
    pub(super) unassignable: Option<i32>,
}

/// What it comes to.
impl ConsumerGroup {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            epoch: 0,
            topics_hash: 0,
            has_old_topics: false,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            target_epoch: -1,
            targets: BTreeMap::new(),
            owners: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            patterns: BTreeMap::new(),
            resolved: BTreeMap::new(),
            assignors: BTreeMap::new(),
            classic_members: 0,
            classic_protocols: BTreeMap::new(),
            bytes: 0,
            hashed_image: None,
            resolving: None,
            assigning: None,
            unassignable: None,
        }
    }

    pub(in crate::coordinator::group) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn topics_hash(&self) -> i64 {
        self.topics_hash
    }

    pub(super) fn has_old_topics(&self) -> bool {
        self.has_old_topics
    }

    pub(super) fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    pub(in crate::coordinator::group) fn members(&self) -> &BTreeMap<String, Box<ConsumerMember>> {
        &self.members
    }

    pub(super) fn member(&self, id: &str) -> Option<&ConsumerMember> {
        self.members.get(id).map(Box::as_ref)
    }

    /// The member that has the place of this instance.
    pub(super) fn instance_member(&self, instance: &str) -> Option<&str> {
        self.instances.get(instance).map(String::as_str)
    }

    pub(super) fn targets(&self) -> &BTreeMap<String, Arc<Partitions>> {
        &self.targets
    }

    /// What the member shall have.
    pub(super) fn target(&self, member: &str) -> Arc<Partitions> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    /// Whether a member has the partition or has not given it up.
    pub(super) fn is_owned(&self, topic: TopicId, partition: i32) -> bool {
        self.owners.contains_key(&(topic, partition))
    }

    /// How many partitions are with members.
    pub(super) fn owned_count(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn subscribers(&self) -> &BTreeMap<String, Subscribers> {
        &self.subscribers
    }

    pub(super) fn patterns(&self) -> &BTreeMap<String, usize> {
        &self.patterns
    }

    pub(super) fn resolved(&self) -> &BTreeMap<String, Resolved> {
        &self.resolved
    }

    pub(in crate::coordinator::group) fn subscribes_to(&self, topic: &str) -> bool {
        self.subscribers.contains_key(topic)
    }

    /// The assignor most members ask for; among equals the last by name.
    pub(super) fn preferred_assignor(&self) -> Option<&str> {
        let most = self.assignors.iter().max_by_key(|(_, count)| **count);
        most.map(|(name, _)| name.as_str())
    }

    /// Whether everybody wants the same topics.
    pub(super) fn is_homogeneous(&self) -> bool {
        let all = self.members.len();
        let pattern_is_shared = match self.patterns.len() {
            0 => true,
            1 => self.patterns.values().all(|count| *count == all),
            _ => false,
        };
        pattern_is_shared
            && self.subscribers.values().all(|it| it.members == 0 || it.members == all)
    }

    pub(in crate::coordinator::group) fn state(&self) -> ConsumerState {
        if self.members.is_empty() {
            ConsumerState::Empty
        } else if self.epoch > self.target_epoch {
            ConsumerState::Assigning
        } else if self.members.values().all(|it| it.holding.is_reconciled_to(self.target_epoch)) {
            ConsumerState::Stable
        } else {
            ConsumerState::Reconciling
        }
    }

    pub(super) fn classic_members(&self) -> usize {
        self.classic_members
    }

    /// Whether a classic member with these protocols can take part (G104): one of them is spoken by
    /// every other classic member.
    pub(super) fn shares_protocol<'p>(&self, mut names: impl Iterator<Item = &'p str>) -> bool {
        let spoken = |name: &str| self.classic_protocols.get(name).copied().unwrap_or(0);
        names.any(|name| spoken(name) == self.classic_members)
    }

    /// Drops so many members, and a share of the rest, of a group that is no more; whether nothing is left
    /// worth a turn. To drop thousands at once takes milliseconds.
    pub(super) fn wither(&mut self, count: usize) -> bool {
        for _ in 0..count {
            self.members.pop_first();
            self.targets.pop_first();
            self.instances.pop_first();
        }
        for _ in 0..8 * count {
            self.owners.pop_first();
        }
        self.members.is_empty() && self.targets.is_empty() && self.owners.is_empty()
    }

    /// What it weighs in memory, roughly.
    pub(in crate::coordinator::group) fn weight_bytes(&self) -> usize {
        const FIXED_BYTES: usize = 1024;
        FIXED_BYTES + 2 * self.id.len() * (1 + self.members.len()) + self.bytes
    }
}

/// Facts.
impl ConsumerGroup {
    /// Makes a fact true.
    ///
    /// # Panics
    /// On [`Fact::Gone`], which concerns who holds the group.
    pub(in crate::coordinator::group) fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Epoch { epoch, topics_hash } => {
                self.epoch = epoch;
                self.topics_hash = topics_hash;
                self.hashed_image = None;
            }
            Fact::Gone => unreachable!("a group does not remove itself"),
            Fact::OldTopics => self.has_old_topics = true,
            Fact::OldTopicsGone => self.has_old_topics = false,
            Fact::Member { member, profile } => {
                let holding = self.members.get(&member).map(|known| known.holding.clone());
                let holding = holding.unwrap_or_default();
                self.put_member(member, ConsumerMember { profile, holding });
            }
            Fact::MemberGone { member } => {
                self.take_member(&member);
            }
            Fact::TargetEpoch(epoch) => self.target_epoch = epoch,
            Fact::TargetEpochGone => self.target_epoch = -1,
            Fact::Target { member, partitions } => {
                self.bytes += target_bytes(&member, &partitions);
                if let Some(before) = self.targets.insert(member.clone(), partitions) {
                    self.bytes -= target_bytes(&member, &before);
                }
            }
            Fact::TargetGone { member } => {
                if let Some(before) = self.targets.remove(&member) {
                    self.bytes -= target_bytes(&member, &before);
                }
            }
            Fact::Current { member, holding } => self.hold(member, holding),
            Fact::CurrentGone { member } => {
                if self.members.contains_key(&member) {
                    let gone = Holding { epoch: -1, previous_epoch: -1, ..Holding::default() };
                    self.hold(member, gone);
                }
            }
            Fact::Pattern { pattern, resolved } => self.resolve(pattern, resolved),
            Fact::PatternGone { pattern } => self.unresolve(&pattern),
        }
    }

    fn hold(&mut self, member: String, holding: Holding) {
        let profile = self.members.get(&member).map(|known| known.profile.clone());
        let profile = profile.unwrap_or_default();
        self.put_member(member, ConsumerMember { profile, holding });
    }

    fn put_member(&mut self, id: String, member: ConsumerMember) {
        // The counts over what it says stay if it says the same: heartbeats only move holdings.
        let before = self.members.get(&id).map(|known| known.profile.clone());
        let says_the_same = before.as_ref().is_some_and(|it| Arc::ptr_eq(it, &member.profile));
        if let Some(known) = self.members.get(&id) {
            self.bytes -= known.weight_bytes() + 2 * id.len();
            release(&mut self.owners, &known.holding);
        }
        self.bytes += member.weight_bytes() + 2 * id.len();
        own(&mut self.owners, &member.holding);
        let profile = member.profile.clone();
        self.members.insert(id.clone(), Box::new(member));
        if !says_the_same {
            if let Some(before) = before {
                self.count(&before, false);
            }
            self.count(&profile, true);
            if let Some(instance) = &profile.instance {
                self.instances.insert(instance.clone(), id);
            }
        }
    }

    fn take_member(&mut self, id: &str) -> Option<ConsumerMember> {
        let member = self.members.remove(id)?;
        self.bytes -= member.weight_bytes() + 2 * id.len();
        release(&mut self.owners, &member.holding);
        self.count(&member.profile, false);
        // The instance may have gone over to another member before.
        if let Some(instance) = &member.profile.instance
            && self.instance_member(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
        Some(*member)
    }

    /// Counts what a member says, or counts it no longer.
    fn count(&mut self, profile: &Profile, more: bool) {
        for topic in &profile.topics {
            self.count_subscribers(topic, |them| step(&mut them.members, more));
        }
        if !profile.pattern.is_empty() {
            step_named(&mut self.patterns, &profile.pattern, more);
        }
        if let Some(assignor) = &profile.assignor {
            step_named(&mut self.assignors, assignor, more);
        }
        if let Some(classic) = &profile.classic {
            step(&mut self.classic_members, more);
            for protocol in &classic.protocols {
                step_named(&mut self.classic_protocols, &protocol.name, more);
            }
        }
    }

    fn resolve(&mut self, pattern: String, resolved: Resolved) {
        let before = self.resolved.get(&pattern);
        if before.is_some_and(|before| before.topics == resolved.topics) {
            self.resolved.insert(pattern, resolved);
            return;
        }
        self.unresolve(&pattern);
        self.bytes += pattern_bytes(&pattern, &resolved);
        for topic in resolved.topics.iter() {
            self.count_subscribers(topic, |them| step(&mut them.patterns, true));
        }
        self.resolved.insert(pattern, resolved);
    }

    fn unresolve(&mut self, pattern: &str) {
        let Some(before) = self.resolved.remove(pattern) else { return };
        self.bytes -= pattern_bytes(pattern, &before);
        for topic in before.topics.iter() {
            self.count_subscribers(topic, |them| step(&mut them.patterns, false));
        }
    }

    /// Counts who asks for a topic.
    fn count_subscribers(&mut self, topic: &str, count: impl FnOnce(&mut Subscribers)) {
        let Some(known) = self.subscribers.get_mut(topic) else {
            let mut first = Subscribers::default();
            count(&mut first);
            self.subscribers.insert(topic.to_owned(), first);
            self.hashed_image = None;
            return;
        };
        count(known);
        if *known == Subscribers::default() {
            self.subscribers.remove(topic);
            self.hashed_image = None;
        }
    }
}

fn target_bytes(member: &str, partitions: &Partitions) -> usize {
    64 + member.len() + partitions.weight_bytes()
}

/// A topic that a pattern matches is in two places: what the pattern stands for, and the subscribers.
fn pattern_bytes(pattern: &str, resolved: &Resolved) -> usize {
    let topics: usize = resolved.topics.iter().map(|topic| 2 * (topic.len() + 48)).sum();
    128 + pattern.len() + topics
}

fn step(count: &mut usize, more: bool) {
    *count = if more { *count + 1 } else { *count - 1 };
}

fn step_named(counts: &mut BTreeMap<String, usize>, name: &str, more: bool) {
    let count = counts.entry(name.to_owned()).or_insert(0);
    step(count, more);
    if *count == 0 {
        counts.remove(name);
    }
}

fn own(owners: &mut BTreeMap<(TopicId, i32), i32>, holding: &Holding) {
    for place in holding.assigned.each().chain(holding.revoking.each()) {
        owners.insert(place, holding.epoch);
    }
}

/// A log that lost records to compaction half-way may show a partition with two members for a while:
/// the one that came later keeps it.
fn release(owners: &mut BTreeMap<(TopicId, i32), i32>, holding: &Holding) {
    for place in holding.assigned.each().chain(holding.revoking.each()) {
        if owners.get(&place) == Some(&holding.epoch) {
            owners.remove(&place);
        }
    }
}
