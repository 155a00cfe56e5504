//! JoinGroup: who may become a member, and what a member's return means (G101–G105, G109).
//!
//! Does: check the request, tell newcomers, returning members and static members apart.
//! Does not: move the group between states; `rebalance` does.
//! Invariants: every request is answered, parked with its member, or refused.
//! Apart because this is the protocol's most ramified request.
//!
//! ```text
//! a known member returns   Preparing             parked
//! while the group is       Completing            same metadata: current generation; else rebalance
//!                          Stable, leader        rebalance
//!                          Stable, follower      same metadata: current generation; else rebalance
//!                          Empty                 UNKNOWN_MEMBER_ID
//! ```

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::JoinGroupRequest;

use super::GroupConfig;
use super::classic::{Group, Parked, State, StateName};
use super::member::Joiner;
use super::rebalance::{
    admit, complete_if_all_joined, joined, joined_without_members, prepare, readmit, rebalance,
    remove_member,
};
use super::requests::{GroupResponse, join_for_version, join_refused, sync_refused};
use super::stored::{fits_a_batch, group_record};
use super::turn::Turn;
use crate::dice::Dice;
use crate::limits::{
    GROUP_MEMBER_METADATA_BYTES_MAX, GROUP_MEMBER_PROTOCOLS_MAX, GROUP_MEMBERS_BYTES_MAX,
    GROUP_MEMBERS_MAX, GROUP_NAME_BYTES_MAX,
};

/// The first version whose newcomers must join a second time with the id they were given (KIP-394).
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;
/// The first version whose static leader can be told to skip the assignment (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

/// Whether the request makes sense whatever the group is.
///
/// # Errors
/// What to answer.
pub(super) fn check_join(
    request: &JoinGroupRequest,
    joiner: &Joiner,
    config: &GroupConfig,
) -> Result<(), ErrorCode> {
    let group_id: &str = &request.group_id;
    let timeouts = config.min_session_timeout_ms..=config.max_session_timeout_ms;
    if group_id.is_empty() || group_id.len() > GROUP_NAME_BYTES_MAX {
        return Err(ErrorCode::InvalidGroupId);
    }
    if !timeouts.contains(&joiner.session_timeout_ms) {
        return Err(ErrorCode::InvalidSessionTimeout);
    }
    let metadata_bytes: usize =
        joiner.protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum();
    let mut names = [&joiner.client_id, &joiner.client_host, &joiner.protocol_type]
        .into_iter()
        .chain(&joiner.instance)
        .chain(joiner.protocols.iter().map(|protocol| &protocol.name));
    let is_too_large = metadata_bytes > GROUP_MEMBER_METADATA_BYTES_MAX
        || request.protocols.len() > GROUP_MEMBER_PROTOCOLS_MAX
        || names.any(|name| name.len() > GROUP_NAME_BYTES_MAX);
    if is_too_large { Err(ErrorCode::InvalidRequest) } else { Ok(()) }
}

/// Lets `joiner` join, or says why not.
pub(super) fn join(group: &mut Group, turn: &mut Turn<'_>, dice: &mut Dice, joiner: Joiner) {
    if !has_room(group, &joiner.member_id, turn.config) || !has_bytes_left(group, &joiner) {
        let is_member = group.member(&joiner.member_id).is_some();
        remove_member(group, turn, &joiner.member_id);
        refuse(turn, &joiner, ErrorCode::GroupMaxSizeReached, "");
        move_on_without(group, turn, is_member);
    } else if !group.supports(&joiner) {
        let member_id = joiner.member_id.clone();
        refuse(turn, &joiner, ErrorCode::InconsistentGroupProtocol, &member_id);
    } else if joiner.member_id.is_empty() {
        join_newcomer(group, turn, dice, joiner);
    } else {
        join_known(group, turn, joiner);
    }
}

/// Lets the others go on after somebody was refused, who may have been one of them.
fn move_on_without(group: &mut Group, turn: &mut Turn<'_>, was_member: bool) {
    match group.state_name() {
        // Kafka lets the others wait for the rebalance timeout, though nobody is missing now.
        StateName::PreparingRebalance => complete_if_all_joined(group, turn),
        StateName::CompletingRebalance | StateName::Stable if was_member => prepare(group, turn),
        StateName::CompletingRebalance | StateName::Stable | StateName::Empty => {}
    }
}

/// Whether `group.max.size` allows this join. While members gather those who are here count, so
/// that a group that is too large loses the last to come; afterwards the members count.
fn has_room(group: &Group, member_id: &str, config: &GroupConfig) -> bool {
    let max = config.max_size.min(GROUP_MEMBERS_MAX);
    if member_id.is_empty() && group.pending().len() >= GROUP_MEMBERS_MAX {
        return false;
    }
    let member = group.member(member_id);
    match group.state_name() {
        StateName::Empty => true,
        StateName::PreparingRebalance => {
            member.is_some_and(|member| member.joining.is_some()) || group.joining_count() < max
        }
        StateName::CompletingRebalance | StateName::Stable => {
            member.is_some() || group.members().len() < max
        }
    }
}

/// Whether the group's members may weigh what they would with this one. Who weighs no more than
/// before may always come back.
fn has_bytes_left(group: &Group, joiner: &Joiner) -> bool {
    let before_bytes = group.joiner_bytes(joiner).unwrap_or(0);
    let after_bytes = group.members_bytes() - before_bytes + joiner.weight_bytes();
    after_bytes <= GROUP_MEMBERS_BYTES_MAX || joiner.weight_bytes() <= before_bytes
}

fn join_newcomer(group: &mut Group, turn: &mut Turn<'_>, dice: &mut Dice, joiner: Joiner) {
    let prefix = joiner.instance.as_ref().unwrap_or(&joiner.client_id);
    let id = format!("{prefix}-{}", dice.uuid());
    let instance = joiner.instance.as_deref();
    if let Some(old_id) = instance.and_then(|instance| group.instance_member(instance)) {
        let old_id = old_id.to_owned();
        replace_static(group, turn, Joiner { member_id: id, ..joiner }, &old_id);
    } else if instance.is_none() && joiner.waiting.version >= MEMBER_ID_REQUIRED_VERSION {
        turn.renew_session(&group.id, &id, joiner.session_timeout_ms);
        refuse(turn, &joiner, ErrorCode::MemberIdRequired, &id);
        group.expect_joiner(id);
    } else {
        admit(group, turn, joiner, id);
    }
}

fn join_known(group: &mut Group, turn: &mut Turn<'_>, joiner: Joiner) {
    let id = joiner.member_id.clone();
    if group.is_pending(&id) {
        if joiner.instance.is_some() {
            // Static members are never given an id ahead; Kafka fails in the same words.
            refuse(turn, &joiner, ErrorCode::UnknownServerError, &id);
        } else {
            admit(group, turn, joiner, id);
        }
        return;
    }
    if let Err(error) = group.check_member(&id, joiner.instance.as_deref()) {
        refuse(turn, &joiner, error, &id);
        return;
    }
    let has_same_metadata =
        group.member(&id).is_some_and(|member| member.protocols == joiner.protocols);
    match group.state() {
        State::Preparing { .. } => readmit(group, turn, &joiner),
        // It did not get our answer, or wants only to know the generation: no reason to disturb.
        State::Completing { .. } if has_same_metadata => {
            turn.reply_join(joiner.waiting, joined(group, &id));
        }
        State::Stable { .. } if has_same_metadata && !group.is_leader(&id) => {
            turn.reply_join(joiner.waiting, joined(group, &id));
        }
        // A stable leader that joins again wants a new assignment, say because topics have grown.
        State::Completing { .. } | State::Stable { .. } => readmit(group, turn, &joiner),
        State::Empty => refuse(turn, &joiner, ErrorCode::UnknownMemberId, &id),
    }
}

/// A static member's new process takes over from the old one, which is fenced. `joiner.member_id`
/// is the new id.
fn replace_static(group: &mut Group, turn: &mut Turn<'_>, joiner: Joiner, old_id: &str) {
    let old_leader = group.leader().unwrap_or_default().to_owned();
    let id = joiner.member_id.clone();
    for wait in group.replace(old_id, &id) {
        fence(turn, wait, old_id);
    }
    turn.end_session(&group.id, old_id);
    turn.renew_session(&group.id, &id, joiner.session_timeout_ms);
    let parked_before = group.rejoin(&id, &joiner);
    assert!(parked_before.is_none(), "the old process's request was taken");
    match group.state() {
        State::Stable { .. } if group.choose_protocol() == group.protocol => {
            store_replacement(group, turn, &joiner, &old_leader);
        }
        State::Stable { .. } => rebalance(group, turn),
        // The leader may be assigning to the old id right now.
        State::Completing { .. } => prepare(group, turn),
        State::Preparing { .. } => complete_if_all_joined(group, turn),
        State::Empty => unreachable!("an empty group has no static member"),
    }
}

/// The new process gets the old one's place without a rebalance, once the new id is stored.
///
/// A leader must not assign again: from version 9 on it is told so, before it is told the leader's
/// former id, so that it takes itself for a follower.
fn store_replacement(group: &mut Group, turn: &mut Turn<'_>, joiner: &Joiner, old_leader: &str) {
    let id = &joiner.member_id;
    let waiting = group.take_join(id).expect("the replacement waits to join");
    let record = group_record(group);
    if !fits_a_batch(&record) {
        turn.reply_join(waiting, join_refused(ErrorCode::UnknownServerError, "", waiting.version));
        return;
    }
    let response = if waiting.version >= SKIP_ASSIGNMENT_VERSION {
        joined(group, id).with_skip_assignment(group.is_leader(id))
    } else {
        joined_without_members(group, id, old_leader)
    };
    let response = join_for_version(response, waiting.version);
    turn.append(vec![record], vec![(waiting.ticket, GroupResponse::Join(response))]);
}

fn fence(turn: &mut Turn<'_>, wait: Parked, old_id: &str) {
    match wait {
        Parked::Join(waiting) => {
            let refusal = join_refused(ErrorCode::FencedInstanceId, old_id, waiting.version);
            turn.reply_join(waiting, refusal);
        }
        Parked::Sync(waiting) => {
            let refusal = sync_refused(ErrorCode::FencedInstanceId);
            turn.reply(waiting.ticket, GroupResponse::Sync(refusal));
        }
    }
}

pub(super) fn refuse(turn: &mut Turn<'_>, joiner: &Joiner, error: ErrorCode, member_id: &str) {
    let waiting = joiner.waiting;
    turn.reply_join(waiting, join_refused(error, member_id, waiting.version));
}
