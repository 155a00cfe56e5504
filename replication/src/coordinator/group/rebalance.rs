//! How a group goes from one generation to the next.
//!
//! Does: begin a rebalance, end its join phase, answer those who waited for that, some a turn, and act
//! when a wait is over or a member is lost.
//! Does not: read requests; the rooms `join` and `presence` do and then call in here.
//! Invariants: whoever is taken out of a group while it waits is answered; every way into
//! `Preparing` has an end: all joined, or an alarm. A JoinGroup that is still parked when the next
//! rebalance begins is one for that.
//! Apart because joins, leaves and losses all end here.

use std::iter;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::classic::{Answerable, Group, InitialDelay, Parked, State, StateName};
use super::member::{Joiner, Member};
use super::requests::{GroupResponse, join_refused, sync_refused, text};
use super::stored::group_record;
use super::turn::Turn;
use crate::coordinator::timers::Alarm;
use crate::limits::GROUP_ANSWERS_PER_STEP;

/// How long a new member's JoinGroup may wait. It has no member id to send heartbeats with, and a
/// client that gave up cannot be told from one that waits; without a limit its retries would fill
/// the group. Kafka's value.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

/// Makes a joiner a member under `id` and moves the group on.
pub(super) fn admit(group: &mut Group, turn: &mut Turn<'_>, joiner: Joiner, id: String) {
    turn.renew_session(&group.id, &id, NEW_MEMBER_JOIN_TIMEOUT_MS);
    group.admit(joiner, id);
    rebalance(group, turn);
}

/// Lets a member join again and moves the group on.
pub(super) fn readmit(group: &mut Group, turn: &mut Turn<'_>, joiner: &Joiner) {
    if let Some(before) = group.rejoin(&joiner.member_id, joiner) {
        // The client sent the request twice and reads one answer; the first need not wait on.
        let refusal =
            join_refused(ErrorCode::RebalanceInProgress, &joiner.member_id, before.version);
        turn.reply_join(before, refusal);
    }
    rebalance(group, turn);
}

/// Begins a rebalance, or ends one that waited only for this.
pub(super) fn rebalance(group: &mut Group, turn: &mut Turn<'_>) {
    match group.state() {
        State::Empty | State::Completing { .. } | State::Stable { .. } => prepare(group, turn),
        State::Preparing { .. } => complete_if_all_joined(group, turn),
    }
}

/// Begins a rebalance: the next generation waits for its members.
pub(super) fn prepare(group: &mut Group, turn: &mut Turn<'_>) {
    let mut initial = None;
    match group.state_name() {
        StateName::CompletingRebalance => abandon_assignment(group, turn, rebalance_in_progress()),
        StateName::Empty => {
            let delay_ms = turn.config.initial_rebalance_delay_ms;
            let remaining_ms = (group.rebalance_timeout_ms() - delay_ms).max(0);
            initial = Some(InitialDelay { delay_ms, remaining_ms, grew: false });
        }
        // What they wait for is decided and on its way to the log.
        StateName::Stable => {
            let waiting = group.take_syncs();
            waiting.into_iter().for_each(|one| answer(group, turn, one));
        }
        StateName::PreparingRebalance => unreachable!("a rebalance does not begin twice"),
    }
    turn.timers.cancel(&Alarm::Sync { group: group.id.clone() });
    group.enter(State::Preparing { initial }, turn.now.wall);
    match initial {
        Some(initial) => arm_join(group, turn, initial.delay_ms),
        None if group.all_joined() => complete_join(group, turn),
        None => arm_join(group, turn, group.rebalance_timeout_ms()),
    }
}

/// Ends the join phase if nobody is missing. A first rebalance waits for members not known yet.
pub(super) fn complete_if_all_joined(group: &mut Group, turn: &mut Turn<'_>) {
    let can_end = matches!(group.state(), State::Preparing { initial: None });
    if can_end && group.all_joined() {
        complete_join(group, turn);
    }
}

/// The join phase has lasted long enough.
pub(super) fn join_is_over(group: &mut Group, turn: &mut Turn<'_>) {
    match group.state_name() {
        StateName::PreparingRebalance => {}
        // The phase ended in the very turn its alarm fell due.
        StateName::Empty | StateName::CompletingRebalance | StateName::Stable => return,
    }
    let delay_max_ms = turn.config.initial_rebalance_delay_ms;
    if let Some(initial) = group.initial_delay()
        && initial.grew
        && initial.remaining_ms > 0
    {
        let delay_ms = delay_max_ms.min(initial.remaining_ms);
        let remaining_ms = (initial.remaining_ms - initial.delay_ms).max(0);
        *initial = InitialDelay { delay_ms, remaining_ms, grew: false };
        arm_join(group, turn, delay_ms);
        return;
    }
    complete_join(group, turn);
}

/// Ends the join phase: drops dynamic members that did not come, keeps static ones (G103), and
/// tells everybody the new generation.
fn complete_join(group: &mut Group, turn: &mut Turn<'_>) {
    turn.timers.cancel(&Alarm::Join { group: group.id.clone() });
    drop_absent_members(group, turn);
    if !group.elect_joined_leader() && !group.members().is_empty() {
        // Only static members, and none of them here. Their sessions will end, or they come.
        if let Some(initial) = group.initial_delay() {
            *initial = InitialDelay { remaining_ms: 0, ..*initial };
        }
        arm_join(group, turn, group.rebalance_timeout_ms());
        return;
    }
    group.next_generation(turn.now.wall);
    if group.state_name() == StateName::Empty {
        turn.append(vec![group_record(group)], Vec::new());
        return;
    }
    for away in group.members().values().filter(|member| member.joining.is_none()) {
        turn.renew_session(&group.id, &away.id, away.session_timeout_ms);
    }
    let timeout_ms = group.rebalance_timeout_ms();
    turn.arm(Alarm::Sync { group: group.id.clone() }, timeout_ms);
    tell(group, turn);
}

/// Answers everybody who waits for what the group has come to; many of them in later turns.
pub(super) fn tell(group: &mut Group, turn: &mut Turn<'_>) {
    if group.answerable_count() > GROUP_ANSWERS_PER_STEP {
        turn.arm(Alarm::Telling { group: group.id.clone() }, 0);
    } else {
        tell_some(group, turn);
    }
}

/// Answers some of those who wait and can be answered as the group stands now, the eldest first.
pub(super) fn tell_some(group: &mut Group, turn: &mut Turn<'_>) {
    for one in group.take_answerable(GROUP_ANSWERS_PER_STEP) {
        answer(group, turn, one);
    }
    if group.answerable_count() > 0 {
        turn.arm(Alarm::Telling { group: group.id.clone() }, 0);
    }
}

/// Tells a member the present generation, or its assignment. Now it must be heard of again.
fn answer(group: &Group, turn: &mut Turn<'_>, Answerable { id, parked, session_ms }: Answerable) {
    turn.renew_session(&group.id, &id, session_ms);
    match parked {
        Parked::Join(waiting) => turn.reply_join(waiting, joined(group, &id)),
        Parked::Sync(waiting) => {
            turn.reply(waiting.ticket, GroupResponse::Sync(synced(group, &id)));
        }
    }
}

fn drop_absent_members(group: &mut Group, turn: &mut Turn<'_>) {
    let is_absent = |member: &&Member| member.joining.is_none() && member.instance.is_none();
    let absent: Vec<String> = group
        .members()
        .values()
        .map(Box::as_ref)
        .filter(is_absent)
        .map(|member| member.id.clone())
        .collect();
    for id in &absent {
        group.remove(id);
        turn.end_session(&group.id, id);
    }
}

/// What a member of the current generation is told; the leader gets the list of members with it.
pub(super) fn joined(group: &Group, id: &str) -> JoinGroupResponse {
    let protocol = group.protocol.as_deref().unwrap_or_default();
    let mut response = joined_without_members(group, id, group.leader().unwrap_or_default());
    if group.is_leader(id) {
        let members = group.members_by_age();
        response.members = members.iter().map(|member| member.for_leader(protocol)).collect();
    }
    response
}

/// The same without the list, and with the leader said to be `leader`.
pub(super) fn joined_without_members(group: &Group, id: &str, leader: &str) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_member_id(text(id))
        .with_generation_id(group.generation)
        .with_protocol_type(group.protocol_type.as_deref().map(text))
        .with_protocol_name(group.protocol.as_deref().map(text))
        .with_leader(text(leader))
}

/// What a member of a stable group is told of its assignment.
pub(super) fn synced(group: &Group, id: &str) -> SyncGroupResponse {
    let assignment = group.member(id).map(|member| member.assignment.clone());
    SyncGroupResponse::default()
        .with_protocol_type(group.protocol_type.as_deref().map(text))
        .with_protocol_name(group.protocol.as_deref().map(text))
        .with_assignment(assignment.unwrap_or_default())
}

/// Takes back the assignment nobody has seen yet and answers those who wait for it.
pub(super) fn abandon_assignment(
    group: &mut Group,
    turn: &mut Turn<'_>,
    answer: SyncGroupResponse,
) {
    group.assign(iter::empty());
    for Answerable { id, parked, session_ms } in group.take_syncs() {
        turn.reply(parked.waiting().ticket, GroupResponse::Sync(answer.clone()));
        turn.renew_session(&group.id, &id, session_ms);
    }
}

fn rebalance_in_progress() -> SyncGroupResponse {
    sync_refused(ErrorCode::RebalanceInProgress)
}

/// Members had long enough to ask for their assignment: those who did not are dropped.
pub(super) fn sync_is_over(group: &mut Group, turn: &mut Turn<'_>) {
    if group.answerable_count() > 0 {
        // Not everybody knows yet that there is something to ask for.
        return turn.arm(Alarm::Sync { group: group.id.clone() }, 0);
    }
    let late: Vec<String> = group.unsynced().map(std::mem::take).into_iter().flatten().collect();
    if late.is_empty() {
        return;
    }
    for id in &late {
        group.remove(id);
        turn.end_session(&group.id, id);
    }
    prepare(group, turn);
}

/// A member, joined or pending, was silent for too long.
pub(super) fn session_is_over(group: &mut Group, turn: &mut Turn<'_>, id: &str) {
    if group.is_pending(id) {
        remove_member(group, turn, id);
        end_join_without(group, turn);
        return;
    }
    // Who waits for us may be silent; its session begins anew with our answer.
    if group.member(id).is_some_and(|member| !member.may_be_silent()) {
        remove_member(group, turn, id);
        match group.state_name() {
            StateName::Stable | StateName::CompletingRebalance => prepare(group, turn),
            StateName::PreparingRebalance => end_join_without(group, turn),
            StateName::Empty => {}
        }
    }
}

/// Somebody the join phase may have waited for is gone. A first rebalance goes on gathering those
/// who are not known yet, unless nobody is left to gather them for.
fn end_join_without(group: &mut Group, turn: &mut Turn<'_>) {
    let is_preparing = group.state_name() == StateName::PreparingRebalance;
    if is_preparing && group.members().is_empty() && group.all_joined() {
        complete_join(group, turn);
    } else {
        complete_if_all_joined(group, turn);
    }
}

/// Takes a member, or an id that was given out, out of the group. Answers what it has parked with
/// UNKNOWN_MEMBER_ID, so that it joins anew if it lives.
pub(super) fn remove_member(group: &mut Group, turn: &mut Turn<'_>, id: &str) {
    turn.end_session(&group.id, id);
    let Some(member) = group.remove(id) else { return };
    if let Some(waiting) = member.joining {
        turn.reply_join(waiting, join_refused(ErrorCode::UnknownMemberId, "", waiting.version));
    }
    if let Some(waiting) = member.syncing {
        let refusal = sync_refused(ErrorCode::UnknownMemberId);
        turn.reply(waiting.ticket, GroupResponse::Sync(refusal));
    }
}

fn arm_join(group: &Group, turn: &mut Turn<'_>, after_ms: i32) {
    turn.arm(Alarm::Join { group: group.id.clone() }, after_ms);
}
