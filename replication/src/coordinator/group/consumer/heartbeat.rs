//! ConsumerGroupHeartbeat: join, stay, and leave a group of the new kind (KIP-848, G115–G118).
//!
//! Does: check the request; let the member in or know it again; bring member and group up to date;
//! say what the member may use.
//! Does not: decide who shall have what, or how a member gets there.
//! Invariants: a request is checked whole before anything is written.
//! Apart because this one request is the whole protocol.

use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::TopicId;
use flumen_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use flumen_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::super::requests::{GroupRequest, text};
use super::ConsumerConfig;
use super::fact::Fact;
use super::losses::{self, Fate};
use super::member::{AWAY_EPOCH, Holding, Profile, in_order};
use super::partitions::Partitions;
use super::pen::{Denied, Pen};
use super::settings;
use super::state::ConsumerGroup;
use crate::coordinator::pattern::Pattern;
use crate::limits::{
    ASSIGNING_HEARTBEAT_MS, CONSUMER_PATTERNS_MAX, GROUP_MEMBER_METADATA_BYTES_MAX,
    GROUP_MEMBERS_MAX, GROUP_NAME_BYTES_MAX,
};

/// The epoch of a member that leaves.
const LEAVE_EPOCH: i32 = -1;
/// The first version whose members bring their own id.
const MEMBER_ID_SINCE: i16 = 1;
/// Milliseconds between two looks for what a group's patterns stand for. Kafka's number.
const PATTERNS_INTERVAL_MIN_MS: i64 = 10_000;

/// A request with who sent it.
#[derive(Clone, Copy, Debug)]
pub(in crate::coordinator::group) struct Asker<'a> {
    pub(in crate::coordinator::group) request: &'a ConsumerGroupHeartbeatRequest,
    pub(in crate::coordinator::group) version: i16,
    pub(in crate::coordinator::group) client_id: &'a str,
    pub(in crate::coordinator::group) client_host: &'a str,
}

impl Asker<'_> {
    /// Whether this is somebody who wants to become a member.
    pub(in crate::coordinator::group) fn joins(&self) -> bool {
        self.request.member_epoch == 0
    }

    pub(in crate::coordinator::group) fn leaves(&self) -> bool {
        matches!(self.request.member_epoch, LEAVE_EPOCH | AWAY_EPOCH)
    }

    /// The same, to be asked later.
    pub(super) fn asked_later(&self) -> GroupRequest {
        GroupRequest::ConsumerHeartbeat {
            request: self.request.clone(),
            version: self.version,
            client_id: self.client_id.to_owned(),
            client_host: self.client_host.to_owned(),
        }
    }

    /// What the member will weigh for what it says here.
    pub(in crate::coordinator::group) fn weight_bytes(&self) -> usize {
        profile(self, &Profile::default()).weight_bytes()
    }
}

/// Whether the request makes sense whatever the group is.
///
/// # Errors
/// What to answer, in Kafka's words where Kafka has some.
pub(in crate::coordinator::group) fn check(
    asker: &Asker<'_>,
    config: &ConsumerConfig,
) -> Result<(), Denied> {
    let request = asker.request;
    let invalid = |message: &str| Err(Denied::new(ErrorCode::InvalidRequest, message));
    let epoch = request.member_epoch;
    let needs_id = asker.version >= MEMBER_ID_SINCE || epoch > 0 || epoch == LEAVE_EPOCH;
    let is_empty = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());
    if needs_id && is_empty(Some(&request.member_id)) {
        return invalid("MemberId can't be empty.");
    }
    if is_empty(Some(&request.group_id)) {
        return invalid("GroupId can't be empty.");
    }
    if is_empty(request.instance_id.as_deref()) {
        return invalid("InstanceId can't be empty.");
    }
    if is_empty(request.rack_id.as_deref()) {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                 (re-)joining.",
            );
        }
    } else if epoch == AWAY_EPOCH {
        if request.instance_id.is_none() {
            return invalid("InstanceId can't be null.");
        }
    } else if epoch < AWAY_EPOCH {
        return invalid("MemberEpoch is invalid.");
    }
    check_size(asker)?;
    match request.server_assignor.as_deref() {
        Some(name) if config.assignor(name).is_none() => {
            let known: Vec<&str> = config.assignors.iter().map(|one| one.as_str()).collect();
            let known = known.join(", ");
            let message =
                format!("ServerAssignor {name} is not supported. Supported assignors: {known}.");
            Err(Denied::new(ErrorCode::UnsupportedAssignor, message))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_size(asker: &Asker<'_>) -> Result<(), Denied> {
    let request = asker.request;
    if request.group_id.len() > GROUP_NAME_BYTES_MAX {
        return Err(Denied::new(ErrorCode::InvalidGroupId, "GroupId is too long."));
    }
    let names = [Some(&*request.member_id), request.instance_id.as_deref()];
    let names = names.into_iter().chain([request.rack_id.as_deref(), Some(asker.client_id)]);
    let is_too_long = names.flatten().any(|name| name.len() > GROUP_NAME_BYTES_MAX);
    if is_too_long || asker.weight_bytes() > GROUP_MEMBER_METADATA_BYTES_MAX {
        let message = "What the member says of itself is too large to be stored.";
        return Err(Denied::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

/// Lets a member join or stay. `member_id` is its id, made for it if it brought none.
///
/// # Errors
/// What to answer. Records may have been written all the same.
pub(in crate::coordinator::group) fn heartbeat(
    pen: &mut Pen<'_, '_>,
    asker: &Asker<'_>,
    member_id: &str,
) -> Result<ConsumerGroupHeartbeatResponse, Denied> {
    let request = asker.request;
    let max = pen.turn.config.consumer.max_size.min(GROUP_MEMBERS_MAX);
    throw_if_full(pen.group, &request.member_id, max)?;
    let owned = owned(request);
    let place = find_place(pen.group, asker, member_id, owned.as_ref())?;
    check_pattern(pen.group, &place, asker)?;
    if let Place::Takes { from } = &place {
        replace(pen, from, member_id);
    }
    let before = pen.group.member(member_id).cloned().unwrap_or_default();
    let after = profile(asker, &before.profile);
    let bump = update_profile(pen, member_id, &before.profile, after);
    pen.update_epoch(bump || pen.group.epoch() == 0);
    pen.update_target()?;
    pen.reconcile(member_id, owned.as_ref())?;
    let session_timeout_ms =
        settings::session_timeout_ms(pen.image, pen.turn.config, &pen.group.id);
    pen.turn.renew_session(&pen.group.id, member_id, session_timeout_ms);

    let holding = pen.holding(member_id);
    let is_full = request.rebalance_timeout_ms != -1
        && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
        && request.topic_partitions.is_some();
    let tells = asker.joins() || is_full || holding.assigned != before.holding.assigned;
    let mut interval_ms =
        settings::heartbeat_interval_ms(pen.image, pen.turn.config, &pen.group.id);
    if pen.group.assigning.is_some() {
        interval_ms = interval_ms.min(ASSIGNING_HEARTBEAT_MS);
    }
    Ok(ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(text(member_id)))
        .with_member_epoch(holding.epoch)
        .with_heartbeat_interval_ms(interval_ms)
        .with_assignment(tells.then(|| assignment(&holding))))
}

/// Lets a member go, for good or, if it is static, for a while.
///
/// # Errors
/// What to answer; nothing has changed then.
pub(in crate::coordinator::group) fn leave(
    pen: &mut Pen<'_, '_>,
    asker: &Asker<'_>,
) -> Result<(ConsumerGroupHeartbeatResponse, Fate), Denied> {
    let request = asker.request;
    let epoch = request.member_epoch;
    let response = ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(text(&request.member_id)))
        .with_member_epoch(epoch);
    let member_id = match request.instance_id.as_deref() {
        None => check_known(pen.group, &request.member_id)?,
        Some(instance) => check_instance(pen.group, instance, &request.member_id)?,
    };
    let member_id = member_id.to_owned();
    if request.instance_id.is_some() && epoch == AWAY_EPOCH {
        let holding = Holding { epoch, revoking: Arc::default(), ..pen.holding(&member_id) };
        pen.write(Fact::Current { member: member_id, holding });
        return Ok((response, Fate::Stays));
    }
    let fate = losses::remove(pen, &[member_id]);
    Ok((response, fate))
}

/// How a heartbeat finds its member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is a member, or becomes one.
    Own,
    /// It takes the place of another member with the same instance id.
    Takes { from: String },
}

fn find_place(
    group: &ConsumerGroup,
    asker: &Asker<'_>,
    member_id: &str,
    owned: Option<&Partitions>,
) -> Result<Place, Denied> {
    let epoch = asker.request.member_epoch;
    let Some(instance) = asker.request.instance_id.as_deref() else {
        if !asker.joins() {
            check_known(group, member_id)?;
        }
        check_epoch(group, member_id, epoch, owned)?;
        return Ok(Place::Own);
    };
    if !asker.joins() {
        check_instance(group, instance, member_id)?;
        check_epoch(group, member_id, epoch, owned)?;
        return Ok(Place::Own);
    }
    let Some(holder) = group.instance_member(instance) else { return Ok(Place::Own) };
    // The same process: it was fenced and begins again. Kafka has it wait for its own session to end.
    if holder == member_id {
        return Ok(Place::Own);
    }
    let known = group.member(holder).expect("an instance has a member");
    if !known.is_classic() && known.holding.epoch != AWAY_EPOCH {
        let message = format!(
            "Static member {member_id} with instance id {instance} cannot join the group because \
             the instance id is owned by {holder} member."
        );
        return Err(Denied::new(ErrorCode::UnreleasedInstanceId, message));
    }
    Ok(Place::Takes { from: holder.to_owned() })
}

/// Gives a member's place to a new process: same partitions, other id, from the beginning.
pub(super) fn replace(pen: &mut Pen<'_, '_>, from: &str, to: &str) {
    let member = pen.group.member(from).cloned().expect("a member is replaced");
    let partitions = pen.group.target(from);
    pen.cancel_all(from);
    pen.write_gone(from);
    if let Some(assigning) = &mut pen.group.assigning {
        assigning.rename(from, to);
    }
    let to = to.to_owned();
    let holding = Holding { epoch: 0, previous_epoch: 0, ..member.holding };
    pen.write(Fact::Member { member: to.clone(), profile: member.profile });
    pen.write(Fact::Target { member: to.clone(), partitions });
    pen.write(Fact::Current { member: to, holding });
}

/// Writes what a member says now; whether the group's epoch must rise for it. Looks for what the
/// group's patterns stand for when that is due.
pub(super) fn update_profile(
    pen: &mut Pen<'_, '_>,
    member_id: &str,
    before: &Profile,
    after: Profile,
) -> bool {
    let topics_changed = before.topics != after.topics;
    let pattern_changed = before.pattern != after.pattern;
    let wished = |pattern: &str| pen.group.patterns().get(pattern).copied().unwrap_or(0);
    let was_last = !before.pattern.is_empty() && wished(&before.pattern) == 1;
    let is_new = !after.pattern.is_empty() && wished(&after.pattern) == 0;
    let is_resolved = pen.group.resolved().contains_key(&after.pattern);
    let pattern = after.pattern.clone();
    if *before != after || pen.group.member(member_id).is_none() {
        let member = member_id.to_owned();
        pen.write(Fact::Member { member, profile: Arc::new(after) });
    }
    let mut bump = topics_changed;
    if pattern_changed {
        if was_last {
            pen.write(Fact::PatternGone { pattern: before.pattern.clone() });
        }
        bump |= pattern.is_empty() || (!is_new && is_resolved);
    }
    refresh_patterns(pen, pattern_changed && is_new);
    bump
}

/// Looks for what the patterns stand for, unless that is under way or was done just now: if one is
/// not known yet, if topics may have come, or after a long time.
fn refresh_patterns(pen: &mut Pen<'_, '_>, is_required: bool) {
    let group = &*pen.group;
    if group.patterns().is_empty() || group.resolving.is_some() {
        return;
    }
    let last = group.resolved().values().map(|resolved| resolved.at.0).max();
    let since_ms = last.map_or(i64::MAX, |last| pen.turn.now.wall.0.saturating_sub(last));
    if since_ms <= PATTERNS_INTERVAL_MIN_MS {
        return;
    }
    let version = group.resolved().values().map(|resolved| resolved.version).min();
    let is_due = is_required
        || group.patterns().len() != group.resolved().len()
        || version.is_some_and(|version| version < pen.image.version)
        || since_ms > i64::from(pen.turn.config.consumer.regex_refresh_interval_ms);
    if is_due {
        pen.resolve_patterns();
    }
}

fn throw_if_full(group: &ConsumerGroup, member_id: &str, max: usize) -> Result<(), Denied> {
    if group.members().len() >= max && group.member(member_id).is_none() {
        let message =
            format!("The consumer group has reached its maximum capacity of {max} members.");
        return Err(Denied::new(ErrorCode::GroupMaxSizeReached, message));
    }
    Ok(())
}

/// A pattern nobody of the group has yet must be one.
fn check_pattern(group: &ConsumerGroup, place: &Place, asker: &Asker<'_>) -> Result<(), Denied> {
    let Some(pattern) = asker.request.subscribed_topic_regex.as_deref() else { return Ok(()) };
    if pattern.is_empty() || group.patterns().contains_key(pattern) {
        return Ok(());
    }
    let checked = if group.patterns().len() >= CONSUMER_PATTERNS_MAX && *place == Place::Own {
        Err(format!("the group has {CONSUMER_PATTERNS_MAX} others already"))
    } else {
        Pattern::new(pattern).map(drop)
    };
    checked.map_err(|why| {
        let message =
            format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {why}.");
        Denied::new(ErrorCode::InvalidRegularExpression, message)
    })
}

pub(super) fn check_known<'g>(
    group: &'g ConsumerGroup,
    member_id: &str,
) -> Result<&'g str, Denied> {
    match group.members().get_key_value(member_id) {
        Some((id, _)) => Ok(id),
        None => {
            let message = format!("Member {member_id} is not a member of group {}.", group.id);
            Err(Denied::new(ErrorCode::UnknownMemberId, message))
        }
    }
}

pub(super) fn check_instance<'g>(
    group: &'g ConsumerGroup,
    instance: &str,
    member_id: &str,
) -> Result<&'g str, Denied> {
    let Some(holder) = group.instance_member(instance) else {
        let message = format!("Instance id {instance} is unknown.");
        return Err(Denied::new(ErrorCode::UnknownMemberId, message));
    };
    if holder != member_id {
        let message = format!(
            "Static member {member_id} with instance id {instance} was fenced by member {holder}."
        );
        return Err(Denied::new(ErrorCode::FencedInstanceId, message));
    }
    Ok(holder)
}

/// Whether the member comes with its epoch, or anew, or with the one before and nothing more than it has
/// or is asked to give up: then the answer with the new one was lost. Kafka fences it if that answer asked
/// for more; but what it still has is nobody else's yet.
///
/// Who joins may be known: it was fenced, gave up what it had and begins again under its id, to be told
/// what it has. Kafka lets it in since 4.3; before, it had to wait until its own session ran out.
fn check_epoch(
    group: &ConsumerGroup,
    member_id: &str,
    epoch: i32,
    owned: Option<&Partitions>,
) -> Result<(), Denied> {
    let Some(known) = group.member(member_id).map(|known| &known.holding) else { return Ok(()) };
    let than = if epoch > known.epoch { "greater" } else { "smaller" };
    let has_no_more = || {
        let had = (*known.assigned).clone().with((*known.revoking).clone());
        owned.is_some_and(|owned| owned.is_within(&had))
    };
    if epoch == known.epoch
        || epoch == 0
        || (epoch < known.epoch && epoch == known.previous_epoch && has_no_more())
    {
        return Ok(());
    }
    let message = format!(
        "The consumer group member has a {than} member epoch ({epoch}) than the one known by the \
         group coordinator ({}). The member must abandon all its partitions and rejoin.",
        known.epoch
    );
    Err(Denied::new(ErrorCode::FencedMemberEpoch, message))
}

/// What the member says of itself: what it leaves out is as it was.
fn profile(asker: &Asker<'_>, before: &Profile) -> Profile {
    let request = asker.request;
    let said = |text: &Option<_>, before: &Option<String>| {
        text.as_ref().map(ToString::to_string).or_else(|| before.clone())
    };
    let mut topics = before.topics.clone();
    if let Some(names) = &request.subscribed_topic_names {
        topics = in_order(names.iter().map(|name| &***name));
    }
    let rebalance_timeout_ms = match request.rebalance_timeout_ms {
        -1 => before.rebalance_timeout_ms,
        given => given,
    };
    Profile {
        instance: said(&request.instance_id, &before.instance),
        rack: said(&request.rack_id, &before.rack),
        client_id: asker.client_id.to_owned(),
        client_host: asker.client_host.to_owned(),
        topics,
        pattern: match &request.subscribed_topic_regex {
            Some(pattern) => pattern.to_string(),
            None => before.pattern.clone(),
        },
        rebalance_timeout_ms,
        assignor: said(&request.server_assignor, &before.assignor),
        classic: None,
    }
}

/// What the member says that it has.
fn owned(request: &ConsumerGroupHeartbeatRequest) -> Option<Partitions> {
    let owned = request.topic_partitions.as_ref()?;
    let owned =
        owned.iter().map(|topic| (TopicId(*topic.topic_id.as_bytes()), topic.partitions.clone()));
    Some(Partitions::from_list(owned))
}

fn assignment(holding: &Holding) -> Assignment {
    let topics = holding.assigned.iter().map(|(topic, partitions)| {
        TopicPartitions::default().with_topic_id(topic.into()).with_partitions(partitions.to_vec())
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
