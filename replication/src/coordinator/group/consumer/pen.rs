//! What every decision about a group of the new kind is written with.
//!
//! Does: write facts down and make them true in one step; bring a group up to what its members and
//! topics have become: epoch, target assignment, one member's holding.
//! Does not: judge requests.
//! Invariants: a fact is true exactly when its record is on its way.
//! Apart because heartbeats, losses and classic members all end here.

use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;

use super::super::turn::Turn;
use super::assigning::Assigning;
use super::assignor::Budget;
use super::fact::{Fact, Resolved};
use super::hash::topics_hash;
use super::member::{Holding, Progress};
use super::partitions::Partitions;
use super::patterns::Resolving;
use super::reconcile::{Aim, Lost, next_holding};
use super::state::ConsumerGroup;
use crate::coordinator::machine::StateRecord;
use crate::coordinator::timers::{Alarm, Wait};
use crate::limits::{ASSIGNING_UNITS_PER_STEP, CONSUMER_MEMBER_PARTITIONS_BYTES_MAX};
use crate::metadata::image::Image;

/// Why a request is refused, in words for the client's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::coordinator::group) struct Denied {
    pub(in crate::coordinator::group) code: ErrorCode,
    pub(in crate::coordinator::group) message: String,
}

impl Denied {
    pub(in crate::coordinator::group) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A group, what is written about it, and what surrounds the decision.
pub(in crate::coordinator::group) struct Pen<'a, 't> {
    pub(in crate::coordinator::group) group: &'a mut ConsumerGroup,
    pub(in crate::coordinator::group) turn: &'a mut Turn<'t>,
    /// The topics there are.
    pub(in crate::coordinator::group) image: &'a Arc<Image>,
    pub(in crate::coordinator::group) records: Vec<StateRecord>,
}

impl Pen<'_, '_> {
    /// Writes a fact down and makes it true.
    pub(super) fn write(&mut self, fact: Fact) {
        self.records.push(fact.record(&self.group.id));
        self.group.apply(fact);
    }

    /// Takes a member out. Whatever else goes with it is the caller's business.
    pub(super) fn write_gone(&mut self, member: &str) {
        self.write(Fact::CurrentGone { member: member.to_owned() });
        self.write(Fact::TargetGone { member: member.to_owned() });
        self.write(Fact::MemberGone { member: member.to_owned() });
    }

    /// Begins the next epoch if `bump` says so or the topics have changed since they were looked at.
    pub(super) fn update_epoch(&mut self, bump: bool) {
        // Of a thousand members that leave, each begins an epoch: the topics need not be hashed for each.
        let is_known = self.group.hashed_image == Some(self.image.version);
        if is_known && !bump {
            return;
        }
        let hash = || topics_hash(self.image, self.group.subscribers().keys());
        let topics_hash = if is_known { self.group.topics_hash() } else { hash() };
        debug_assert_eq!(topics_hash, hash(), "of the topics asked for and of this image");
        if bump || topics_hash != self.group.topics_hash() {
            let epoch = self.group.epoch() + 1;
            self.write(Fact::Epoch { epoch, topics_hash });
        }
        self.group.hashed_image = Some(self.image.version);
        if self.group.has_old_topics() {
            self.write(Fact::OldTopicsGone);
        }
    }

    /// Works out what everybody shall have, if that is not known for the group's epoch. In a large group
    /// that is begun here and goes on in later turns; until then what was known before holds.
    ///
    /// # Errors
    /// UNKNOWN_SERVER_ERROR when a member would get more partitions than a record holds.
    pub(super) fn update_target(&mut self) -> Result<(), Denied> {
        if self.is_target_due() && self.group.assigning.is_none() {
            // Without any target there is no epoch that a member could be told to wait in. There is one
            // member then, or as many as a group had when it was converted before it was ever balanced.
            let is_first = self.group.target_epoch() < 1;
            let units = if is_first { usize::MAX } else { ASSIGNING_UNITS_PER_STEP };
            self.begin_assigning(Budget::of(units));
        }
        let epoch = self.group.epoch();
        if self.group.unassignable != Some(epoch) {
            return Ok(());
        }
        let message = format!(
            "Failed to compute a new target assignment for epoch {epoch}: \
             a member would get more partitions than a record holds"
        );
        Err(Denied::new(ErrorCode::UnknownServerError, message))
    }

    /// Goes on with a target assignment that is being worked out, or begins the next one.
    pub(in crate::coordinator::group) fn go_on_assigning(&mut self) {
        let budget = Budget::of(ASSIGNING_UNITS_PER_STEP);
        match self.group.assigning.take() {
            Some(assigning) => self.step_assigning(assigning, budget),
            None if self.is_target_due() && !self.group.members().is_empty() => {
                self.begin_assigning(budget);
            }
            None => {}
        }
    }

    fn is_target_due(&self) -> bool {
        let epoch = self.group.epoch();
        epoch > self.group.target_epoch() && self.group.unassignable != Some(epoch)
    }

    fn begin_assigning(&mut self, mut budget: Budget) {
        let preferred = self.group.preferred_assignor();
        let assignor = self.turn.config.consumer.assignor_or_default(preferred);
        let assigning = Assigning::new(self.group, self.image, assignor, &mut budget);
        self.step_assigning(Box::new(assigning), budget);
    }

    /// Goes on for a step. What comes of it is written down as a whole, so that no log says that a
    /// partition shall be with two members.
    fn step_assigning(&mut self, mut assigning: Box<Assigning>, mut budget: Budget) {
        if !assigning.step(&mut budget) {
            self.group.assigning = Some(assigning);
            return self.arm_assigning();
        }
        let epoch = assigning.epoch();
        let changed = assigning.into_changed();
        let too_many = |(_, target): &(String, Arc<Partitions>)| {
            target.weight_bytes() > CONSUMER_MEMBER_PARTITIONS_BYTES_MAX
        };
        if changed.iter().any(too_many) {
            self.group.unassignable = Some(epoch);
        } else {
            for (member, partitions) in changed {
                // Who has gone meanwhile needs nothing.
                if self.group.member(&member).is_some() {
                    self.write(Fact::Target { member, partitions });
                }
            }
            self.write(Fact::TargetEpoch(epoch));
        }
        if self.group.epoch() > epoch {
            self.arm_assigning();
        }
    }

    fn arm_assigning(&mut self) {
        let alarm = Alarm::Assignment { group: self.group.id.clone() };
        self.turn.arm(alarm, 0);
    }

    /// Moves a member towards what it shall have; whether what it may use has changed.
    ///
    /// # Errors
    /// FENCED_MEMBER_EPOCH for a member whose state is none we know.
    pub(super) fn reconcile(
        &mut self,
        member: &str,
        owned: Option<&Partitions>,
    ) -> Result<(), Denied> {
        let known = self.group.member(member).expect("a member is reconciled");
        let epoch = self.group.target_epoch();
        if known.holding.is_reconciled_to(epoch) {
            return Ok(());
        }
        let aim = Aim { epoch, target: self.group.target(member) };
        let is_owned = |topic, partition| self.group.is_owned(topic, partition);
        let next = next_holding(&known.holding, &aim, owned, is_owned);
        let next = next.map_err(|Lost| {
            let message = "The consumer group member is in a unknown state. \
                           The member must abandon all its partitions and rejoin.";
            Denied::new(ErrorCode::FencedMemberEpoch, message)
        })?;
        if next == known.holding {
            return Ok(());
        }
        let timeout = (!known.is_classic()).then_some(known.profile.rebalance_timeout_ms);
        let must_revoke = next.progress == Progress::Unrevoked;
        self.write(Fact::Current { member: member.to_owned(), holding: next });
        // Who speaks the classic protocol is waited for with other alarms.
        match timeout {
            Some(timeout_ms) if must_revoke => self.arm(Wait::Revocation, member, timeout_ms),
            Some(_) => self.cancel(Wait::Revocation, member),
            None => {}
        }
        Ok(())
    }

    /// A member's holding.
    pub(super) fn holding(&self, member: &str) -> Holding {
        self.group.member(member).map(|known| known.holding.clone()).unwrap_or_default()
    }

    /// Begins to look for what the group's patterns stand for.
    pub(super) fn resolve_patterns(&mut self) {
        let resolving = Resolving::new(self.group.patterns().keys(), self.image.clone());
        self.group.resolving = Some(Box::new(resolving));
        let alarm = Alarm::Patterns { group: self.group.id.clone() };
        self.turn.arm(alarm, 0);
    }

    /// Goes on with that, and writes down what came out of it.
    pub(in crate::coordinator::group) fn go_on_resolving(&mut self) {
        let Some(mut resolving) = self.group.resolving.take() else { return };
        if !resolving.step() {
            self.group.resolving = Some(resolving);
            let alarm = Alarm::Patterns { group: self.group.id.clone() };
            self.turn.arm(alarm, 0);
            return;
        }
        let version = resolving.version();
        let mut bump = false;
        for (pattern, topics) in resolving.into_found() {
            if !self.group.patterns().contains_key(&pattern) {
                continue;
            }
            let known = self.group.resolved().get(&pattern);
            bump |= known.map_or(!topics.is_empty(), |known| *known.topics != topics);
            let resolved = Resolved { topics: Arc::new(topics), version, at: self.turn.now.wall };
            let fact = Fact::Pattern { pattern, resolved };
            let record = fact.record(&self.group.id);
            // Too many topics for a record are looked for again after a load; they can be had.
            if super::super::stored::fits_a_batch(&record) {
                self.records.push(record);
            }
            self.group.apply(fact);
        }
        self.update_epoch(bump);
    }

    /// Arms one of a member's alarms.
    pub(super) fn arm(&mut self, wait: Wait, member: &str, after_ms: i32) {
        let alarm = self.alarm(wait, member);
        self.turn.arm(alarm, after_ms);
    }

    /// Arms it unless it is armed.
    pub(super) fn arm_if_absent(&mut self, wait: Wait, member: &str, after_ms: i32) {
        let alarm = self.alarm(wait, member);
        if !self.turn.timers.is_armed(&alarm) {
            self.turn.arm(alarm, after_ms);
        }
    }

    pub(super) fn cancel(&mut self, wait: Wait, member: &str) {
        let alarm = self.alarm(wait, member);
        self.turn.timers.cancel(&alarm);
    }

    /// Nobody waits for this member any more.
    pub(super) fn cancel_all(&mut self, member: &str) {
        self.turn.end_session(&self.group.id, member);
        self.cancel_waits(member);
    }

    /// Nobody waits for this member to do anything, but to be heard of.
    pub(super) fn cancel_waits(&mut self, member: &str) {
        Wait::ALL.into_iter().for_each(|wait| self.cancel(wait, member));
    }

    fn alarm(&self, wait: Wait, member: &str) -> Alarm {
        Alarm::Member { group: self.group.id.clone(), member: member.to_owned(), wait }
    }
}
