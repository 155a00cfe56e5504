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

use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::time::Wall;

use super::super::classic::{CONSUMER, Group};
use super::super::member::Member;
use super::super::requests::{GroupResponse, join_refused, sync_refused};
use super::super::stored::group_record;
use super::super::subscription::{assignment, subscription};
use super::super::turn::Turn;
use super::classic_members::encoded_assignment;
use super::fact::Fact;
use super::losses::Fate;
use super::member::{Classic, ConsumerMember, Holding, Profile, Progress, in_order};
use super::partitions::Partitions;
use super::pen::{Denied, Pen};
use super::state::ConsumerGroup;
use crate::coordinator::machine::StateRecord;
use crate::coordinator::timers::{Alarm, Wait};
use crate::limits::GROUP_MEMBERS_MAX;
use crate::metadata::image::Image;

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

/// Whether a classic group may become one of the new kind, as far as that can be said without looking at
/// what each member says.
///
/// # Errors
/// GROUP_ID_NOT_FOUND with the reason why it must stay classic.
pub(super) fn check_upgrade(
    group: &Group,
    (policy, max_size): (MigrationPolicy, usize),
) -> Result<(), Denied> {
    if !policy.upgrades() {
        return Err(no_upgrade(group, "online upgrade is disabled"));
    }
    if !group.is_consumer() {
        return Err(no_upgrade(group, "the group does not use the consumer embedded protocol"));
    }
    if group.members().len() > max_size.min(GROUP_MEMBERS_MAX) {
        return Err(no_upgrade(group, "the group size exceeds the consumer group maximum size"));
    }
    Ok(())
}

fn no_upgrade(group: &Group, why: &str) -> Denied {
    let message =
        format!("Cannot upgrade classic group {} to consumer group because {why}.", group.id);
    Denied::new(ErrorCode::GroupIdNotFound, message)
}

/// A member of a classic group in the new words: what it says, shall have and has.
///
/// # Errors
/// GROUP_ID_NOT_FOUND with the reason why its group must stay classic.
pub(super) fn upgraded_member(
    group: &Group,
    member: &Member,
    image: &Image,
) -> Result<[Fact; 3], Denied> {
    let malformed = || no_upgrade(group, "the embedded consumer protocol is malformed");
    let protocol = group.protocol.as_deref().or_else(|| first_protocol(member));
    let metadata = member.metadata(protocol.unwrap_or_default());
    let wishes = subscription(&metadata).ok_or_else(malformed)?;
    let has = assignment(&member.assignment).ok_or_else(malformed)?;
    if has.has_user_data {
        return Err(no_upgrade(group, "an unsupported custom assignor is in use"));
    }
    let named = has.partitions.into_iter().filter_map(|(name, partitions)| {
        image.topic_named(name).map(|topic| (topic.id, partitions))
    });
    let assigned = Arc::new(Partitions::from_list(named));
    let topics = in_order(wishes.topics.iter().copied());
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
    let id = &member.id;
    Ok([
        Fact::Member { member: id.clone(), profile: Arc::new(profile) },
        Fact::Target { member: id.clone(), partitions: assigned },
        Fact::Current { member: id.clone(), holding },
    ])
}

/// What a classic group becomes: its members in the new words, with what they have.
///
/// # Errors
/// As [`upgraded_member`].
pub(super) fn upgraded(group: &Group, image: &Image) -> Result<Vec<Fact>, Denied> {
    let mut facts = Vec::new();
    let (mut targets, mut holdings) = (Vec::new(), Vec::new());
    for member in group.members().values() {
        let [says, target, holding] = upgraded_member(group, member, image)?;
        facts.push(says);
        targets.push(target);
        holdings.push(holding);
    }
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
    let mut staying =
        group.members().iter().filter(|(id, _)| stays(id)).map(|(_, member)| member.as_ref());
    let names = |member: &ConsumerMember, name: &str| {
        let mut protocols = member.profile.classic.iter().flat_map(|classic| &classic.protocols);
        protocols.any(|protocol| protocol.name == name)
    };
    let Some(first) = staying.next() else { return false };
    let staying: Vec<&ConsumerMember> = staying.collect();
    let mut offered = first.profile.classic.iter().flat_map(|classic| &classic.protocols);
    offered.any(|protocol| staying.iter().all(|member| names(member, &protocol.name)))
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
    let mut group = classic_shell(pen.group, pen.turn.now.wall);
    let ids: Vec<String> = pen.group.members().keys().filter(|id| stays(id)).cloned().collect();
    for id in &ids {
        pen.cancel_all(id);
        let member = downgraded_member(pen.group, id, pen.image);
        pen.turn.renew_session(&pen.group.id, id, member.session_timeout_ms);
        group.restore(member);
    }
    group.protocol = group.choose_protocol();
    group.restored(None);
    group
}

/// The classic group that a group of the new kind becomes, without its members.
pub(super) fn classic_shell(from: &ConsumerGroup, since: Wall) -> Group {
    let mut group = Group::new(&from.id, Some(since));
    group.generation = from.epoch();
    group.protocol_type = Some(CONSUMER.to_owned());
    group
}

/// A classic member of a group of the new kind in the old words; it has what it shall have.
pub(super) fn downgraded_member(from: &ConsumerGroup, id: &str, image: &Image) -> Member {
    let member = from.member(id).expect("a member of the list");
    let classic = member.profile.classic.as_ref().expect("only classic members stay");
    Member {
        id: id.to_owned(),
        instance: member.profile.instance.clone(),
        client_id: member.profile.client_id.clone(),
        client_host: member.profile.client_host.clone(),
        session_timeout_ms: classic.session_timeout_ms,
        rebalance_timeout_ms: member.profile.rebalance_timeout_ms,
        protocols: classic.protocols.clone(),
        assignment: encoded_assignment(&member.profile, &from.target(id), image),
        order: 0,
        is_new: false,
        joining: None,
        syncing: None,
    }
}

/// Takes everything about a group out of the log. The group itself is dropped by who holds it.
pub(in crate::coordinator::group) fn write_tombstones(pen: &mut Pen<'_, '_>) {
    let mut records: [Vec<StateRecord>; 3] = Default::default();
    let ids: Vec<String> = pen.group.members().keys().cloned().collect();
    for id in &ids {
        pen.cancel_waits(id);
        for (records, fact) in records.iter_mut().zip(gone(id)) {
            records.push(fact.record(&pen.group.id));
        }
    }
    let records = tombstones(pen.group, records);
    pen.records.extend(records);
    pen.turn.timers.cancel(&Alarm::Patterns { group: pen.group.id.clone() });
    pen.turn.timers.cancel(&Alarm::Assignment { group: pen.group.id.clone() });
}

/// What takes a member out of the log: what it had, should have and said.
pub(super) fn gone(member: &str) -> [Fact; 3] {
    [
        Fact::CurrentGone { member: member.to_owned() },
        Fact::TargetGone { member: member.to_owned() },
        Fact::MemberGone { member: member.to_owned() },
    ]
}

/// What takes a group out of the log, with the records of its members as [`gone`] names them.
pub(super) fn tombstones(
    group: &ConsumerGroup,
    [currents, targets, members]: [Vec<StateRecord>; 3],
) -> Vec<StateRecord> {
    let mut records = currents;
    records.reserve(targets.len() + members.len());
    let write = |fact: Fact| fact.record(&group.id);
    records.extend(targets);
    // Both maps are in the order of the ids: one walk through both, not a look-up for each target.
    let mut ids = group.members().keys().peekable();
    let strays = group.targets().keys().filter(|id| {
        while ids.next_if(|member| member < id).is_some() {}
        ids.next_if(|member| member == id).is_none()
    });
    records.extend(strays.map(|id| write(Fact::TargetGone { member: id.clone() })));
    records.push(write(Fact::TargetEpochGone));
    records.extend(members);
    let patterns = group.resolved().keys();
    records.extend(patterns.map(|it| write(Fact::PatternGone { pattern: it.clone() })));
    if group.has_old_topics() {
        records.push(write(Fact::OldTopicsGone));
    }
    records.push(write(Fact::Gone));
    records
}

/// A member of a classic group that is one of the new kind now: it is to join again and see, and is heard
/// of from now on, unless somebody has taken its place. Ids that were given out and not used have alarms
/// that will find nobody.
pub(super) fn part_with(group: &ConsumerGroup, member: &Member, turn: &mut Turn<'_>) {
    if let Some(waiting) = member.joining {
        let refusal = join_refused(ErrorCode::RebalanceInProgress, &member.id, waiting.version);
        turn.reply_join(waiting, refusal);
    }
    if let Some(waiting) = member.syncing {
        let refusal = sync_refused(ErrorCode::RebalanceInProgress);
        turn.reply(waiting.ticket, GroupResponse::Sync(refusal));
    }
    if group.member(&member.id).is_some() {
        turn.renew_session(&group.id, &member.id, member.session_timeout_ms);
    }
}

/// Nobody waits any more for a member to do anything but to be heard of.
pub(super) fn cancel_waits(group: &str, member: &str, turn: &mut Turn<'_>) {
    for wait in Wait::ALL {
        let (group, member) = (group.to_owned(), member.to_owned());
        turn.timers.cancel(&Alarm::Member { group, member, wait });
    }
}
