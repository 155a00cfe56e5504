//! Members of a group of the new kind that speak the classic protocol (migration, G123).
//!
//! Does: JoinGroup, SyncGroup, Heartbeat and LeaveGroup for them: generations are member epochs, and
//! the assignment is the coordinator's, in the consumers' own encoding.
//! Does not: park anybody: every request is answered at once; who must move on is told to join again.
//! Invariants: a classic member that is told to join again has an alarm until it does.
//! Apart because it is one protocol spoken in the words of another.

use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::leave_group_request::MemberIdentity;
use flumen_protocol::messages::leave_group_response::MemberResponse;
use flumen_protocol::messages::{
    HeartbeatRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
    SyncGroupResponse,
};

use super::super::classic::CONSUMER;
use super::super::member::Joiner;
use super::super::requests::text;
use super::super::subscription::{Subscription, subscription, write_assignment};
use super::converting::is_large_consumer;
use super::heartbeat::{check_instance, check_known, replace, update_profile};
use super::losses::{self, Fate};
use super::member::{Classic, ConsumerMember, Profile, Progress, in_order};
use super::migration;
use super::partitions::Partitions;
use super::pen::{Denied, Pen};
use super::state::ConsumerGroup;
use crate::coordinator::timers::Wait;
use crate::limits::GROUP_MEMBERS_MAX;
use crate::metadata::image::Image;

/// The first version whose newcomers must join a second time with the id they were given (KIP-394).
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;

/// A classic member joins or joins again. `new_id` is for one that has no id yet.
///
/// # Errors
/// What to answer, with the member id to say: as in Kafka none, unless one is given out.
pub(in crate::coordinator::group) fn join(
    pen: &mut Pen<'_, '_>,
    joiner: &Joiner,
    new_id: String,
) -> Result<(JoinGroupResponse, Fate), (ErrorCode, String)> {
    let is_new = joiner.member_id.is_empty();
    let id = if is_new { new_id } else { joiner.member_id.clone() };
    let max = pen.turn.config.consumer.max_size.min(GROUP_MEMBERS_MAX);
    let denied = |code: ErrorCode| Err((code, String::new()));
    if pen.group.members().len() >= max && pen.group.member(&id).is_none() {
        return denied(ErrorCode::GroupMaxSizeReached);
    }
    let mut names = joiner.protocols.iter().map(|protocol| protocol.name.as_str());
    if joiner.protocol_type != CONSUMER || !pen.group.shares_protocol(&mut names) {
        return denied(ErrorCode::InconsistentGroupProtocol);
    }
    if is_new && joiner.instance.is_none() && joiner.waiting.version >= MEMBER_ID_REQUIRED_VERSION {
        return Err((ErrorCode::MemberIdRequired, id));
    }
    let Some(wishes) = subscription(&joiner.protocols[0].metadata) else {
        return denied(ErrorCode::UnknownServerError);
    };
    let was_modern = match find(pen.group, joiner, is_new, &id) {
        Ok(None) => false,
        Ok(Some(from)) => {
            let was_modern = pen.group.member(&from).is_some_and(|known| !known.is_classic());
            if from != id {
                replace(pen, &from, &id);
            }
            was_modern && joiner.instance.is_some()
        }
        Err(why) => return denied(why.code),
    };
    let before = pen.group.member(&id).cloned().unwrap_or_default();
    let bump = update_profile(pen, &id, &before.profile, profile(joiner, &wishes, &before.profile));
    pen.update_epoch(bump);
    pen.cancel(Wait::Rejoin, &id);
    let owned = owned_partitions(&wishes, pen.image);
    // The last member of the new protocol was replaced: the group can become classic. A large one goes
    // on as it is for some turns, and rebalances then.
    let becomes_classic = was_modern && migration::is_classic_without(pen, &[]);
    let is_downgrade = becomes_classic && !is_large_consumer(pen.group);
    let reconciled = if !is_downgrade {
        pen.update_target().and_then(|()| pen.reconcile(&id, Some(&owned)))
    } else if bump {
        Ok(())
    } else {
        pen.reconcile(&id, Some(&owned))
    };
    if let Err(why) = reconciled {
        return denied(why.code);
    }
    let response = JoinGroupResponse::default()
        .with_member_id(text(&id))
        .with_generation_id(pen.holding(&id).epoch)
        .with_protocol_type(Some(text(CONSUMER)))
        .with_protocol_name(Some(text(&joiner.protocols[0].name)));
    if is_downgrade {
        return Ok((response, migration::to_classic(pen, &id, bump)));
    }
    pen.turn.renew_session(&pen.group.id, &id, joiner.session_timeout_ms);
    pen.arm(Wait::Sync, &id, joiner.rebalance_timeout_ms);
    Ok((response, if becomes_classic { Fate::Converts } else { Fate::Stays }))
}

/// The member whose place the joiner has, under its own or another id.
fn find(
    group: &ConsumerGroup,
    joiner: &Joiner,
    is_new: bool,
    id: &str,
) -> Result<Option<String>, Denied> {
    match joiner.instance.as_deref() {
        None => Ok(group.member(id).map(|_| id.to_owned())),
        Some(instance) if is_new => Ok(group.instance_member(instance).map(str::to_owned)),
        Some(instance) => check_instance(group, instance, id).map(|holder| Some(holder.to_owned())),
    }
}

fn profile(joiner: &Joiner, wishes: &Subscription<'_>, before: &Profile) -> Profile {
    let topics = in_order(wishes.topics.iter().copied());
    let rack = wishes.rack.filter(|rack| !rack.is_empty()).map(str::to_owned);
    let rebalance_timeout_ms = match joiner.rebalance_timeout_ms {
        -1 => before.rebalance_timeout_ms,
        given => given,
    };
    Profile {
        instance: joiner.instance.clone().or_else(|| before.instance.clone()),
        rack: rack.or_else(|| before.rack.clone()),
        client_id: joiner.client_id.clone(),
        client_host: joiner.client_host.clone(),
        topics,
        pattern: String::new(),
        rebalance_timeout_ms,
        assignor: before.assignor.clone(),
        classic: Some(Classic {
            session_timeout_ms: joiner.session_timeout_ms,
            protocols: joiner.protocols.clone(),
        }),
    }
}

fn owned_partitions(wishes: &Subscription<'_>, image: &Image) -> Partitions {
    let owned = wishes.owned.iter().filter_map(|(name, partitions)| {
        image.topic_named(name).map(|topic| (topic.id, partitions.clone()))
    });
    Partitions::from_list(owned)
}

/// A classic member asks for its assignment.
pub(in crate::coordinator::group) fn sync(
    pen: &mut Pen<'_, '_>,
    request: &SyncGroupRequest,
) -> Result<SyncGroupResponse, ErrorCode> {
    let instance = request.group_instance_id.as_deref();
    let id: &str = &request.member_id;
    let member = classic_member(pen.group, id, instance)?;
    let classic = member.profile.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
    if member.holding.epoch != request.generation_id {
        return Err(ErrorCode::IllegalGeneration);
    }
    let differs = |said: Option<&str>, known: &str| said.is_some_and(|said| said != known);
    if differs(request.protocol_type.as_deref(), CONSUMER)
        || differs(request.protocol_name.as_deref(), &classic.protocols[0].name)
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let session_timeout_ms = classic.session_timeout_ms;
    let rebalance_timeout_ms = member.profile.rebalance_timeout_ms;
    // Who is giving up partitions has joined again already, and joins once more when that is done.
    if pen.group.epoch() > member.holding.epoch && member.holding.progress != Progress::Unrevoked {
        pen.arm_if_absent(Wait::Rejoin, id, rebalance_timeout_ms);
        return Err(ErrorCode::RebalanceInProgress);
    }
    let assignment = encoded_assignment(&member.profile, &member.holding.assigned, pen.image);
    pen.cancel(Wait::Sync, id);
    pen.turn.renew_session(&pen.group.id, id, session_timeout_ms);
    Ok(SyncGroupResponse::default()
        .with_protocol_type(request.protocol_type.clone())
        .with_protocol_name(request.protocol_name.clone())
        .with_assignment(assignment))
}

/// Partitions in the consumers' own encoding; topics that are gone are left out.
pub(super) fn encoded_assignment(
    profile: &Profile,
    partitions: &Arc<Partitions>,
    image: &Image,
) -> bytes::Bytes {
    let named = partitions.iter().filter_map(|(topic, partitions)| {
        image.topic(topic).map(|topic| (topic.name.as_str(), partitions))
    });
    let named: Vec<(&str, &[i32])> = named.collect();
    let metadata = profile.subscription().map(AsRef::as_ref).unwrap_or_default();
    write_assignment(metadata, named.into_iter())
}

/// A classic member is alive; whether it must join again.
pub(in crate::coordinator::group) fn heartbeat(
    pen: &mut Pen<'_, '_>,
    request: &HeartbeatRequest,
) -> ErrorCode {
    let instance = request.group_instance_id.as_deref();
    let id: &str = &request.member_id;
    let member = match classic_member(pen.group, id, instance) {
        Ok(member) => member,
        Err(code) => return code,
    };
    let Some(classic) = &member.profile.classic else { return ErrorCode::UnknownMemberId };
    if member.holding.epoch != request.generation_id {
        return ErrorCode::IllegalGeneration;
    }
    let session_timeout_ms = classic.session_timeout_ms;
    let rebalance_timeout_ms = member.profile.rebalance_timeout_ms;
    let must_join = member.holding.epoch < pen.group.epoch()
        || match member.holding.progress {
            Progress::Unrevoked => true,
            Progress::Unreleased => !waits_for_others(pen.group, id, member),
            Progress::Stable | Progress::Unknown => false,
        };
    pen.turn.renew_session(&pen.group.id, id, session_timeout_ms);
    if must_join {
        pen.arm_if_absent(Wait::Rejoin, id, rebalance_timeout_ms);
        return ErrorCode::RebalanceInProgress;
    }
    ErrorCode::None
}

/// Whether something the member shall have is still with others.
fn waits_for_others(group: &ConsumerGroup, id: &str, member: &ConsumerMember) -> bool {
    group.target(id).each().any(|(topic, partition)| {
        !member.holding.assigned.contains(topic, partition) && group.is_owned(topic, partition)
    })
}

fn classic_member<'g>(
    group: &'g ConsumerGroup,
    id: &str,
    instance: Option<&str>,
) -> Result<&'g ConsumerMember, ErrorCode> {
    let found = match instance {
        None => check_known(group, id),
        Some(instance) => check_instance(group, instance, id),
    };
    let found = found.map_err(|denied| denied.code)?;
    group.member(found).filter(|member| member.is_classic()).ok_or(ErrorCode::UnknownMemberId)
}

/// Classic members leave, or an administrator takes members out.
pub(in crate::coordinator::group) fn leave(
    pen: &mut Pen<'_, '_>,
    request: &LeaveGroupRequest,
    version: i16,
) -> (LeaveGroupResponse, Fate) {
    let one = [MemberIdentity::default().with_member_id(request.member_id.clone())];
    let asked: &[MemberIdentity] = if version < 3 { &one } else { &request.members };
    let mut gone: Vec<String> = Vec::new();
    let mut members = Vec::with_capacity(asked.len());
    for member in asked {
        let error = match leaver(pen.group, member) {
            Ok(id) => {
                if !gone.contains(&id) {
                    gone.push(id);
                }
                ErrorCode::None
            }
            Err(code) => code,
        };
        members.push(
            MemberResponse::default()
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
                .with_error_code(error.code()),
        );
    }
    let fate = losses::remove(pen, &gone);
    let response = if version < 3 {
        LeaveGroupResponse::default().with_error_code(members[0].error_code)
    } else {
        LeaveGroupResponse::default().with_members(members)
    };
    (response, fate)
}

fn leaver(group: &ConsumerGroup, member: &MemberIdentity) -> Result<String, ErrorCode> {
    let id: &str = &member.member_id;
    let found = match member.group_instance_id.as_deref() {
        None => check_known(group, id),
        Some(instance) if id.is_empty() => {
            group.instance_member(instance).ok_or(Denied::new(ErrorCode::UnknownMemberId, ""))
        }
        Some(instance) => check_instance(group, instance, id),
    };
    found.map(str::to_owned).map_err(|denied| denied.code)
}
