//! SyncGroup, Heartbeat and LeaveGroup: what members do between two joins (G106, G107).
//!
//! Does: hand out assignments, renew sessions, let members go.
//! Does not: begin or end rebalances itself; `rebalance` does.
//! Invariants: an assignment leaves only with the record that holds it.
//! Apart because all three begin with the same check of member and generation.

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::leave_group_request::MemberIdentity;
use flumen_protocol::messages::leave_group_response::MemberResponse;
use flumen_protocol::messages::{
    HeartbeatRequest, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
};

use super::classic::{Group, State, StateName};
use super::member::Waiting;
use super::rebalance::{
    abandon_assignment, complete_if_all_joined, prepare, rebalance, remove_member, synced, tell,
};
use super::requests::{GroupResponse, sync_refused};
use super::stored::{fits_a_batch, group_record};
use super::turn::Turn;
use crate::coordinator::Ticket;
use crate::coordinator::timers::Alarm;

/// The first version that names members to leave; before it one member leaves by itself.
const LEAVE_MANY_VERSION: i16 = 3;

/// A member asks for its assignment; the leader brings everybody's.
pub(super) fn sync(
    group: &mut Group,
    turn: &mut Turn<'_>,
    ticket: Ticket,
    request: &SyncGroupRequest,
) {
    if let Err(error) = check_sync(group, request) {
        turn.reply(ticket, GroupResponse::Sync(sync_refused(error)));
        return;
    }
    let id: &str = &request.member_id;
    if let Some(unsynced) = group.unsynced() {
        unsynced.remove(id);
        if unsynced.is_empty() {
            turn.timers.cancel(&Alarm::Sync { group: group.id.clone() });
        }
    }
    match group.state() {
        State::Stable { .. } => {
            let response = synced(group, id);
            turn.reply(ticket, GroupResponse::Sync(response));
        }
        State::Completing { .. } => {
            let waiting = Waiting { ticket, version: 0 };
            if let Some(before) = group.park_sync(id, waiting) {
                let refusal = sync_refused(ErrorCode::RebalanceInProgress);
                turn.reply(before.ticket, GroupResponse::Sync(refusal));
            }
            if group.is_leader(id) {
                assign(group, turn, request);
            }
        }
        State::Empty | State::Preparing { .. } => unreachable!("refused by the check"),
    }
}

fn check_sync(group: &Group, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    if group.state_name() == StateName::Empty {
        return Err(ErrorCode::UnknownMemberId);
    }
    let instance = request.group_instance_id.as_deref();
    group.check_generation(&request.member_id, instance, request.generation_id)?;
    let differs = |said: Option<&str>, known: &Option<String>| {
        said.zip(known.as_deref()).is_some_and(|(said, known)| said != known)
    };
    if differs(request.protocol_type.as_deref(), &group.protocol_type)
        || differs(request.protocol_name.as_deref(), &group.protocol)
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    match group.state_name() {
        StateName::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
        StateName::Empty | StateName::CompletingRebalance | StateName::Stable => Ok(()),
    }
}

/// The leader's assignment is here: the group is stable, once it is stored.
fn assign(group: &mut Group, turn: &mut Turn<'_>, request: &SyncGroupRequest) {
    group.assign(request.assignments.iter().map(|one| (&*one.member_id, &one.assignment)));
    let record = group_record(group);
    if !fits_a_batch(&record) {
        abandon_assignment(group, turn, sync_refused(ErrorCode::UnknownServerError));
        prepare(group, turn);
        return;
    }
    let unsynced = group.unsynced().map(std::mem::take).unwrap_or_default();
    group.enter(State::Stable { unsynced }, turn.now.wall);
    turn.append(vec![record], Vec::new());
    tell(group, turn);
}

/// A member is alive.
pub(super) fn heartbeat(
    group: &Group,
    turn: &mut Turn<'_>,
    request: &HeartbeatRequest,
) -> ErrorCode {
    let id: &str = &request.member_id;
    let instance = request.group_instance_id.as_deref();
    if let Err(error) = group.check_generation(id, instance, request.generation_id) {
        return error;
    }
    let session_ms = group.member(id).map_or(0, |member| member.session_timeout_ms);
    turn.renew_session(&group.id, id, session_ms);
    match group.state_name() {
        StateName::Empty => ErrorCode::UnknownMemberId,
        StateName::PreparingRebalance => ErrorCode::RebalanceInProgress,
        StateName::CompletingRebalance | StateName::Stable => ErrorCode::None,
    }
}

/// Members leave by themselves or are taken out by an administrator.
pub(super) fn leave(
    group: &mut Group,
    turn: &mut Turn<'_>,
    request: &LeaveGroupRequest,
    version: i16,
) -> LeaveGroupResponse {
    if version < LEAVE_MANY_VERSION {
        let member = MemberIdentity::default().with_member_id(request.member_id.clone());
        let error = leave_one(group, turn, &member);
        end_leave(group, turn, error == ErrorCode::None);
        return LeaveGroupResponse::default().with_error_code(error.code());
    }
    let mut members = Vec::with_capacity(request.members.len());
    let mut has_left = false;
    for member in &request.members {
        let error = leave_one(group, turn, member);
        has_left |= error == ErrorCode::None;
        members.push(
            MemberResponse::default()
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
                .with_error_code(error.code()),
        );
    }
    end_leave(group, turn, has_left);
    LeaveGroupResponse::default().with_members(members)
}

fn leave_one(group: &mut Group, turn: &mut Turn<'_>, member: &MemberIdentity) -> ErrorCode {
    let id: &str = &member.member_id;
    let instance = member.group_instance_id.as_deref();
    if id.is_empty() {
        // An administrator names the instance, whoever holds its place.
        let held_by = instance.and_then(|instance| group.instance_member(instance));
        let Some(held_by) = held_by.map(str::to_owned) else { return ErrorCode::UnknownMemberId };
        remove_member(group, turn, &held_by);
    } else {
        if !group.is_pending(id)
            && let Err(error) = group.check_member(id, instance)
        {
            return error;
        }
        remove_member(group, turn, id);
    }
    ErrorCode::None
}

fn end_leave(group: &mut Group, turn: &mut Turn<'_>, has_left: bool) {
    if !has_left {
        return;
    }
    match group.state_name() {
        StateName::Stable | StateName::CompletingRebalance => rebalance(group, turn),
        StateName::PreparingRebalance => complete_if_all_joined(group, turn),
        StateName::Empty => {}
    }
}
