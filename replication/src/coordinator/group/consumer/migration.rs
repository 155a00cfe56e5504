//! From a classic group to one of the new kind and back, while its members go on (KIP-848, G123).
//!
//! Does: say whether a group can be converted, and convert it.
//! Does not: rebalance what came out; its owner does.
//! Invariants: nobody loses its place or its partitions by the conversion itself.
//! Apart because it is the only room that knows both kinds.
//!
//! A classic group whose consumers speak the embedded protocol becomes one of the new kind when the
//! first new member joins it. It becomes classic again when the last member that is not classic goes,
//! or a classic process takes its place. `group.consumer.migration.policy` allows either.

use std::collections::BTreeSet;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;

use super::super::classic::Group;
use super::super::member::Member;
use super::super::stored::group_record;
use super::super::subscription::{assignment, subscription};
use super::classic_members::encoded_assignment;
use super::fact::Fact;
use super::losses::Fate;
use super::member::{Classic, ConsumerMember, Holding, Profile, Progress};
use super::partitions::Partitions;
use super::pen::{Denied, Pen};
use super::state::ConsumerGroup;
use crate::coordinator::timers::Alarm;
use crate::limits::GROUP_MEMBERS_MAX;
use crate::metadata::image::Image;

const CONSUMER: &str = "consumer";

/// Which conversions are allowed (`group.consumer.migration.policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Both.
    Bidirectional,
    /// From classic to the new kind.
    Upgrade,
    /// From the new kind to classic.
    Downgrade,
    /// None.
    Disabled,
}

impl MigrationPolicy {
    /// The policy of this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "bidirectional" => Some(Self::Bidirectional),
            "upgrade" => Some(Self::Upgrade),
            "downgrade" => Some(Self::Downgrade),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }

    fn upgrades(self) -> bool {
        match self {
            Self::Bidirectional | Self::Upgrade => true,
            Self::Downgrade | Self::Disabled => false,
        }
    }

    fn downgrades(self) -> bool {
        match self {
            Self::Bidirectional | Self::Downgrade => true,
            Self::Upgrade | Self::Disabled => false,
        }
    }
}

/// What a classic group becomes: its members in the new words, with what they have.
///
/// # Errors
/// GROUP_ID_NOT_FOUND with the reason why it must stay classic.
pub(in crate::coordinator::group) fn upgraded(
    group: &Group,
    image: &Image,
    (policy, max_size): (MigrationPolicy, usize),
) -> Result<Vec<Fact>, Denied> {
    let denied = |why: &str| {
        let message =
            format!("Cannot upgrade classic group {} to consumer group because {why}.", group.id);
        Denied::new(ErrorCode::GroupIdNotFound, message)
    };
    if !policy.upgrades() {
        return Err(denied("online upgrade is disabled"));
    }
    if !group.is_consumer() {
        return Err(denied("the group does not use the consumer embedded protocol"));
    }
    if group.members().len() > max_size.min(GROUP_MEMBERS_MAX) {
        return Err(denied("the group size exceeds the consumer group maximum size"));
    }
    let malformed = || denied("the embedded consumer protocol is malformed");
    let mut members = Vec::new();
    let mut targets = Vec::new();
    let mut holdings = Vec::new();
    for (id, member) in group.members() {
        let protocol = group.protocol.as_deref().or_else(|| first_protocol(member));
        let metadata = member.metadata(protocol.unwrap_or_default());
        let wishes = subscription(&metadata).ok_or_else(malformed)?;
        let has = assignment(&member.assignment).ok_or_else(malformed)?;
        if has.has_user_data {
            return Err(denied("an unsupported custom assignor is in use"));
        }
        let named = has.partitions.into_iter().filter_map(|(name, partitions)| {
            image.topic_named(name).map(|topic| (topic.id, partitions))
        });
        let assigned = Arc::new(Partitions::from_list(named));
        let mut topics: Vec<String> = wishes.topics.iter().map(ToString::to_string).collect();
        topics.sort_unstable();
        topics.dedup();
        let profile = Profile {
            instance: member.instance.clone(),
            rack: wishes.rack.filter(|rack| !rack.is_empty()).map(str::to_owned),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics,
            pattern: String::new(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            assignor: None,
            classic: Some(Classic {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            }),
        };
        let holding = Holding {
            epoch: group.generation,
            previous_epoch: group.generation,
            progress: Progress::Stable,
            assigned: assigned.clone(),
            revoking: Arc::default(),
        };
        members.push(Fact::Member { member: id.clone(), profile: Arc::new(profile) });
        targets.push(Fact::Target { member: id.clone(), partitions: assigned });
        holdings.push(Fact::Current { member: id.clone(), holding });
    }
    let mut facts = members;
    facts.push(Fact::Epoch { epoch: group.generation, topics_hash: 0 });
    facts.extend(targets);
    facts.push(Fact::TargetEpoch(group.generation));
    facts.extend(holdings);
    Ok(facts)
}

fn first_protocol(member: &Member) -> Option<&str> {
    member.protocols.first().map(|protocol| protocol.name.as_str())
}

/// Whether the group can be classic once these members are gone.
pub(super) fn is_classic_without(pen: &Pen<'_, '_>, gone: &[String]) -> bool {
    let group = &pen.group;
    let is_classic = |id: &&String| group.member(id).is_some_and(|member| member.is_classic());
    let left = group.members().len() - gone.len();
    let classic_left = group.classic_members() - gone.iter().filter(is_classic).count();
    left > 0
        && classic_left == left
        && shares_a_protocol(group, gone)
        && pen.turn.config.consumer.migration_policy.downgrades()
        && left <= pen.turn.config.max_size.min(GROUP_MEMBERS_MAX)
}

/// Whether those who stay have a protocol in common: a log of somebody else's may say otherwise.
fn shares_a_protocol(group: &ConsumerGroup, gone: &[String]) -> bool {
    let stays = |id: &&String| !gone.contains(id);
    let mut staying = group.members().keys().filter(stays).filter_map(|id| group.member(id));
    let names = |member: &ConsumerMember| -> BTreeSet<String> {
        let classic = member.profile.classic.iter().flat_map(|classic| &classic.protocols);
        classic.map(|protocol| protocol.name.clone()).collect()
    };
    let Some(first) = staying.next() else { return false };
    let mut shared = names(first);
    for member in staying {
        let names = names(member);
        shared.retain(|name| names.contains(name));
    }
    !shared.is_empty()
}

/// Takes members out and makes the rest a classic group, which must join again.
pub(super) fn to_classic_without(pen: &mut Pen<'_, '_>, gone: &[String]) -> Fate {
    for member in gone {
        pen.cancel_all(member);
    }
    let group = downgraded(pen, |id| !gone.iter().any(|one| one == id));
    write_tombstones(pen);
    pen.records.push(group_record(&group));
    Fate::Classic { group: Box::new(group), rebalances: true }
}

/// Makes the group a classic one; `rebalances` if its members want other topics than before.
pub(super) fn to_classic(pen: &mut Pen<'_, '_>, joined: &str, rebalances: bool) -> Fate {
    assert!(pen.group.member(joined).is_some(), "who joined is a member");
    let group = downgraded(pen, |_| true);
    write_tombstones(pen);
    pen.records.push(group_record(&group));
    Fate::Classic { group: Box::new(group), rebalances }
}

fn downgraded(pen: &mut Pen<'_, '_>, stays: impl Fn(&str) -> bool) -> Group {
    let mut group = Group::new(&pen.group.id, Some(pen.turn.now.wall));
    group.generation = pen.group.epoch();
    group.protocol_type = Some(CONSUMER.to_owned());
    let ids: Vec<String> = pen.group.members().keys().filter(|id| stays(id)).cloned().collect();
    for id in &ids {
        pen.cancel_all(id);
        let member = pen.group.member(id).expect("a member of the list");
        let classic = member.profile.classic.as_ref().expect("only classic members stay");
        let session_timeout_ms = classic.session_timeout_ms;
        let target = pen.group.target(id);
        group.restore(Member {
            id: id.clone(),
            instance: member.profile.instance.clone(),
            client_id: member.profile.client_id.clone(),
            client_host: member.profile.client_host.clone(),
            session_timeout_ms,
            rebalance_timeout_ms: member.profile.rebalance_timeout_ms,
            protocols: classic.protocols.clone(),
            assignment: encoded_assignment(&member.profile, &target, pen.image),
            order: 0,
            is_new: false,
            joining: None,
            syncing: None,
        });
        pen.turn.renew_session(&pen.group.id, id, session_timeout_ms);
    }
    group.protocol = group.choose_protocol();
    group.restored(None);
    group
}

/// Takes everything about a group out of the log. The group itself is dropped by who holds it.
pub(in crate::coordinator::group) fn write_tombstones(pen: &mut Pen<'_, '_>) {
    let ids: Vec<String> = pen.group.members().keys().cloned().collect();
    let patterns: Vec<String> = pen.group.resolved().keys().cloned().collect();
    for member in &ids {
        pen.write(Fact::CurrentGone { member: member.clone() });
    }
    let targets: Vec<String> = pen.group.targets().keys().cloned().collect();
    for member in targets {
        pen.write(Fact::TargetGone { member });
    }
    pen.write(Fact::TargetEpochGone);
    for member in ids {
        pen.cancel_waits(&member);
        pen.write(Fact::MemberGone { member });
    }
    for pattern in patterns {
        pen.write(Fact::PatternGone { pattern });
    }
    if pen.group.has_old_topics() {
        pen.write(Fact::OldTopicsGone);
    }
    pen.records.push(Fact::Gone.record(&pen.group.id));
    pen.turn.timers.cancel(&Alarm::Patterns { group: pen.group.id.clone() });
    pen.turn.timers.cancel(&Alarm::Assignment { group: pen.group.id.clone() });
}
