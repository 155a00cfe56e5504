//! The group coordinator: owner of all groups and offsets of one partition of the offsets topic.
//!
//! Does: hand each request, alarm and record to the room that knows about it; apply what records
//! mean, the same way live and when loading.
//! Does not: know Kafka's rules; the rooms do.
//! Invariants: offsets change in `apply` only; a group that holds neither members nor offsets nor
//! pending ids may go at any time.
//! Apart because there must be one owner of the maps.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::{Offset, ProducerId};
use flumen_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, SyncGroupRequest,
};
use flumen_protocol::time::{Monotonic, Now, WallTrust};

use super::GroupConfig;
use super::admin::{check_delete, describe, list};
use super::allowance::GroupsRoom;
use super::any::GroupState;
use super::classic::{Group, StateName};
use super::commit::{Accepted, delete_offsets, fetch};
use super::consumer::{Consumers, Conversions, asker};
use super::join::{check_join, join, refuse};
use super::member::{Joiner, Waiting};
use super::offsets::{OffsetTable, Place};
use super::pending::PendingOffsets;
use super::presence::{heartbeat, leave, sync};
use super::rebalance::{join_is_over, prepare, session_is_over, sync_is_over, tell_some};
use super::requests::{
    GroupEffect, GroupRequest, GroupResponse, delete_result, leave_refused, sync_refused,
};
use super::roster::Roster;
use super::stored::{Stored, read};
use super::turn::Turn;
use crate::coordinator::Ticket;
use crate::coordinator::machine::{Machine, ReplayError, StateRecord};
use crate::coordinator::producer::Outcome;
use crate::coordinator::timers::{Alarm, Timers};
use crate::dice::Dice;
use crate::limits::{ALARM_EFFORT_PER_TURN_MAX, ALARMS_PER_TURN_MAX, EXPIRY_GROUPS_PER_STEP};
use crate::metadata::image::Image;

/// A committed offset, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommittedRow<'a> {
    /// Whose it is.
    pub group: &'a str,
    /// Of which topic.
    pub topic: &'a str,
    /// Of which of its partitions.
    pub partition: i32,
    /// The next record the group wants.
    pub offset: Offset,
}

/// A group, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRow<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its state.
    pub state: GroupState,
    /// How many members it has.
    pub members: usize,
    /// Its generation, or its epoch.
    pub generation: i32,
}

/// All groups of one partition of the offsets topic.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    pub(super) config: GroupConfig,
    /// Classic groups, and those only known by their offsets.
    pub(super) groups: Roster,
    /// Groups of the new kind. Invariant: no id is also in `groups`.
    pub(super) consumers: Consumers,
    /// Groups of either kind on their way to the other.
    pub(super) converting: Conversions,
    pub(super) offsets: OffsetTable,
    /// What transactions have written that have not ended.
    pub(super) pending: PendingOffsets,
    pub(super) timers: Timers,
    /// The cluster's metadata as it was learned last.
    pub(super) image: Arc<Image>,
    /// The last group the expiry sweep under way has looked at.
    swept: Option<String>,
    /// How many bytes all of it may weigh.
    pub(super) weight_max: usize,
}

impl Machine for GroupCoordinator {
    type Notice = Infallible;
    /// Offsets may be committed within transactions.
    const HAS_TRANSACTIONS: bool = true;

    fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: Roster::default(),
            consumers: Consumers::default(),
            converting: Conversions::default(),
            offsets: OffsetTable::default(),
            pending: PendingOffsets::default(),
            timers: Timers::default(),
            image: Arc::default(),
            swept: None,
            weight_max: usize::MAX,
        }
    }

    fn replay(
        &mut self,
        within: Option<ProducerId>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ReplayError> {
        match (within, read(key, value)?) {
            (Some(producer), Stored::Offset { place, committed }) => {
                self.apply_within(producer, place, committed);
            }
            (Some(_) | None, stored) => self.apply(stored),
        }
        Ok(())
    }

    fn ended(&mut self, producer: ProducerId, outcome: Outcome) {
        self.transaction_ended(producer, outcome);
    }

    /// Members' sessions begin now, and groups that are too large by a changed configuration rebalance.
    fn loaded(&mut self, now: Now, _out: &mut Vec<GroupEffect>) {
        let mut out = Vec::new();
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out: &mut out };
        self.groups.change_all(|group| {
            for member in group.members().values() {
                turn.renew_session(&group.id, &member.id, member.session_timeout_ms);
            }
            if group.members().len() > turn.config.max_size {
                prepare(group, &mut turn);
            }
        });
        assert!(out.is_empty(), "nobody has asked anything yet");
        self.consumers_loaded(now);
        self.arm_expiry(now);
    }

    fn handle(
        &mut self,
        now: Now,
        dice: &mut Dice,
        ticket: Ticket,
        request: GroupRequest,
        out: &mut Vec<GroupEffect>,
    ) {
        let Some(request) = self.wait_for_conversion(dice, ticket, request, out) else { return };
        let response = match request {
            GroupRequest::Join { request, version, client_id, client_host } => {
                let waiting = Waiting { ticket, version };
                let joiner = Joiner::new(&request, waiting, client_id, client_host);
                return self.join(now, dice, &request, joiner, out);
            }
            GroupRequest::Sync { request } => {
                if !self.sync_consumer_group(now, ticket, &request, out) {
                    self.sync(now, ticket, &request, out);
                }
                return;
            }
            GroupRequest::ConsumerHeartbeat { request, version, client_id, client_host } => {
                let asker = asker(&request, version, &client_id, &client_host);
                return self.consumer_heartbeat(now, dice, ticket, &asker, out);
            }
            GroupRequest::DescribeConsumer { group_id, version } => {
                self.describe_consumer_group(&group_id, version)
            }
            GroupRequest::CommitOffsets { request, version } => {
                return self.commit(now, ticket, (&request, version), out);
            }
            GroupRequest::CommitWithin { request, producer } => {
                return self.commit_within(now, ticket, (&request, producer), out);
            }
            GroupRequest::Delete { group_id } => return self.delete(now, ticket, &group_id, out),
            GroupRequest::DeleteOffsets { request } => {
                let group = self.any(&request.group_id);
                let known = (&self.offsets, &self.pending);
                let (gone, response) = delete_offsets(group, known, &request);
                return self.forget(gone, (ticket, GroupResponse::DeleteOffsets(response)), out);
            }
            GroupRequest::TopicsDeleted { names } => {
                return self.topics_deleted(ticket, &names, out);
            }
            GroupRequest::Heartbeat { request } => {
                let error = self
                    .heartbeat_consumer_group(now, &request, out)
                    .unwrap_or_else(|| self.heartbeat(now, &request, out));
                GroupResponse::Heartbeat(HeartbeatResponse::default().with_error_code(error.code()))
            }
            GroupRequest::Leave { request, version } => {
                if self.leave_consumer_group(now, ticket, (&request, version), out) {
                    return;
                }
                GroupResponse::Leave(self.leave(now, &request, version, out))
            }
            GroupRequest::FetchOffsets { request, require_stable } => {
                let group = self.any(&request.group_id);
                let pending = require_stable.then_some(&self.pending);
                GroupResponse::FetchOffsets(fetch(group, &self.offsets, pending, &request))
            }
            GroupRequest::Describe { group_id, version } => {
                self.describe_classic_group(&group_id, version)
            }
            GroupRequest::List { wanted } => {
                GroupResponse::List(list(self.groups.iter(), self.consumers.iter(), &wanted))
            }
        };
        out.push(GroupEffect::Reply { ticket, response });
    }

    /// A bounded number of things at a time.
    fn on_time(&mut self, now: Now, wall: WallTrust, out: &mut Vec<GroupEffect>) {
        // Taken first: what is armed meanwhile waits for the next turn, even if it is due at once.
        for alarm in self.take_due(now) {
            if self.put_off(now, &alarm) {
                continue;
            }
            let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
            let groups = &mut self.groups;
            match alarm {
                Alarm::Session { group, member } if self.consumers.contains(&group) => {
                    self.consumer_session_is_over(now, (&group, &member), out);
                }
                Alarm::Member { group, member, wait } => {
                    self.consumer_wait_is_over(now, (&group, &member, wait), out);
                }
                Alarm::Conversion { group } => self.go_on_converting(now, &group, out),
                Alarm::Patterns { group } => {
                    self.go_on(now, &group, out, |pen| pen.go_on_resolving());
                }
                Alarm::Assignment { group } => {
                    self.go_on(now, &group, out, |pen| pen.go_on_assigning());
                }
                Alarm::Session { group, member } => {
                    groups.change(&group, |group| session_is_over(group, &mut turn, &member));
                }
                Alarm::Join { group } => {
                    groups.change(&group, |group| join_is_over(group, &mut turn));
                }
                Alarm::Sync { group } => {
                    groups.change(&group, |group| sync_is_over(group, &mut turn));
                }
                Alarm::Telling { group } => {
                    groups.change(&group, |group| tell_some(group, &mut turn));
                }
                Alarm::Expiry => match wall {
                    WallTrust::Trusted => self.sweep(now, out),
                    WallTrust::Doubted => self.arm_expiry(now),
                },
            }
        }
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.next()
    }

    /// Those that wait with a group for others.
    fn weight_bytes(&self) -> usize {
        self.groups.bytes() + self.consumers.bytes() + self.offsets.bytes() + self.pending.bytes()
    }

    fn set_weight_max(&mut self, bytes: usize) {
        self.weight_max = bytes;
    }

    fn parked(&self, error: ErrorCode) -> Vec<(Ticket, GroupResponse)> {
        let members = self.groups.iter().flat_map(|group| group.members().values());
        let parked = members.flat_map(|member| member.refusals(error));
        parked.chain(self.converting.values().flat_map(|one| one.refusals(error))).collect()
    }
}

/// What metrics see.
impl GroupCoordinator {
    /// The groups.
    pub fn groups(&self) -> impl Iterator<Item = GroupRow<'_>> {
        let classic = self.groups.iter().map(|group| GroupRow {
            id: &group.id,
            state: GroupState::Classic(group.state_name()),
            members: group.members().len(),
            generation: group.generation,
        });
        let consumers = self.consumers.iter().map(|group| GroupRow {
            id: &group.id,
            state: GroupState::Consumer(group.state()),
            members: group.members().len(),
            generation: group.epoch(),
        });
        classic.chain(consumers)
    }

    /// The committed offsets: with the partitions' ends they give the lag.
    pub fn committed(&self) -> impl Iterator<Item = CommittedRow<'_>> {
        self.offsets.groups().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                partitions.iter().map(move |(partition, committed)| CommittedRow {
                    group,
                    topic,
                    partition: *partition,
                    offset: committed.offset,
                })
            })
        })
    }

    /// The committed offsets behind a group, topic and partition, in this order; `("", "", -1)` is before all.
    pub fn committed_after<'c>(
        &'c self,
        place: (&'c str, &'c str, i32),
    ) -> impl Iterator<Item = CommittedRow<'c>> {
        self.offsets.after(place).map(|(group, topic, partition, committed)| CommittedRow {
            group,
            topic,
            partition,
            offset: committed.offset,
        })
    }
}

/// Alarms.
impl GroupCoordinator {
    /// Takes out what is due, as much as may be done in one turn. What takes more effort than is left
    /// keeps its place, before everything behind it.
    fn take_due(&mut self, now: Now) -> Vec<Alarm> {
        let mut due = Vec::new();
        let mut effort_left = ALARM_EFFORT_PER_TURN_MAX;
        while due.len() < ALARMS_PER_TURN_MAX && self.timers.is_due(now.monotonic) {
            let alarm = self.timers.first().expect("an alarm is due");
            let effort = if self.must_wait(alarm) { 0 } else { self.effort(alarm) };
            let Some(left) = effort_left.checked_sub(effort) else { break };
            effort_left = left;
            due.extend(self.timers.take_due(now.monotonic));
        }
        due
    }
}

/// Requests that touch more than one group's state.
impl GroupCoordinator {
    fn describe_classic_group(&self, group_id: &str, version: i16) -> GroupResponse {
        let group = self.groups.get(group_id);
        let is_other_kind = self.consumers.contains(group_id);
        GroupResponse::Describe(describe(group, group_id, (version, is_other_kind)))
    }

    fn join(
        &mut self,
        now: Now,
        dice: &mut Dice,
        request: &JoinGroupRequest,
        joiner: Joiner,
        out: &mut Vec<GroupEffect>,
    ) {
        if check_join(request, &joiner, &self.config).is_ok()
            && self.join_consumer_group(now, dice, &request.group_id, &joiner, out)
        {
            return;
        }
        let room = self.groups_room();
        let turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        join_group((&mut self.groups, room), turn, dice, request, joiner);
    }

    fn sync(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: &SyncGroupRequest,
        out: &mut Vec<GroupEffect>,
    ) {
        let room = self.groups_room().bytes;
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        let given: usize = request.assignments.iter().map(|one| one.assignment.len()).sum();
        let held = self.groups.get(&request.group_id).map_or(0, Group::assignments_bytes);
        if given.saturating_sub(held) > room {
            let refusal = sync_refused(ErrorCode::CoordinatorNotAvailable);
            return turn.reply(ticket, GroupResponse::Sync(refusal));
        }
        let synced =
            self.groups.change(&request.group_id, |group| sync(group, &mut turn, ticket, request));
        if synced.is_none() {
            let refusal = sync_refused(unknown_group(&request.group_id));
            turn.reply(ticket, GroupResponse::Sync(refusal));
        }
    }

    fn heartbeat(
        &mut self,
        now: Now,
        request: &HeartbeatRequest,
        out: &mut Vec<GroupEffect>,
    ) -> ErrorCode {
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        match self.groups.get(&request.group_id) {
            Some(group) => heartbeat(group, &mut turn, request),
            None => unknown_group(&request.group_id),
        }
    }

    fn leave(
        &mut self,
        now: Now,
        request: &LeaveGroupRequest,
        version: i16,
        out: &mut Vec<GroupEffect>,
    ) -> LeaveGroupResponse {
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        let left = self
            .groups
            .change(&request.group_id, |group| leave(group, &mut turn, request, version));
        match left {
            Some(response) => response,
            None if version >= 3 && !request.group_id.is_empty() => {
                leave_refused(request, ErrorCode::UnknownMemberId)
            }
            None => {
                let error = unknown_group(&request.group_id);
                LeaveGroupResponse::default().with_error_code(error.code())
            }
        }
    }

    fn commit(
        &mut self,
        now: Now,
        ticket: Ticket,
        (request, version): (&OffsetCommitRequest, i16),
        out: &mut Vec<GroupEffect>,
    ) {
        let (accepted, response) = self.decide_commit(now, (request, Some(version)), out);
        let mut records = Vec::with_capacity(accepted.len());
        for Accepted { place, committed, record } in accepted {
            self.apply(Stored::Offset { place, committed });
            records.push(record);
        }
        append_or_reply(records, (ticket, GroupResponse::CommitOffsets(response)), out);
    }

    fn delete(&mut self, now: Now, ticket: Ticket, group_id: &str, out: &mut Vec<GroupEffect>) {
        let error = check_delete(self.any(group_id));
        let response = GroupResponse::Delete(delete_result(group_id, error));
        let mut records = Vec::new();
        if error == ErrorCode::None {
            let mut gone = self.offsets.places(group_id, |_, _| true);
            gone.extend(self.pending_only(self.pending.places(group_id)));
            self.tombstone(gone, &mut records);
            self.delete_group(now, group_id, &mut records, out);
        }
        append_or_reply(records, (ticket, response), out);
    }

    fn topics_deleted(&mut self, ticket: Ticket, names: &[String], out: &mut Vec<GroupEffect>) {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let is_gone = |topic: &str| names.contains(topic);
        let mut gone = Vec::new();
        for group in self.offsets.holders(&names) {
            gone.extend(self.offsets.places(group, |topic, _| is_gone(topic)));
        }
        let pending = self.pending.all_places().filter(|place| is_gone(&place.topic));
        gone.extend(self.pending_only(pending));
        self.forget(gone, (ticket, GroupResponse::TopicsDeleted(ErrorCode::None)), out);
    }

    /// Deletes these offsets and answers when that is committed.
    fn forget(
        &mut self,
        gone: Vec<Place>,
        reply: (Ticket, GroupResponse),
        out: &mut Vec<GroupEffect>,
    ) {
        let mut records = Vec::new();
        self.tombstone(gone, &mut records);
        append_or_reply(records, reply, out);
    }
}

/// Expiry.
impl GroupCoordinator {
    /// Looks at the next groups of a sweep: drops their expired offsets, and groups that are empty
    /// and hold no offsets any more.
    fn sweep(&mut self, now: Now, out: &mut Vec<GroupEffect>) {
        let last = self.swept.take();
        let mut step = self.consumers.ids_behind(last.as_ref(), EXPIRY_GROUPS_PER_STEP);
        step.extend(self.groups.ids_behind(last, EXPIRY_GROUPS_PER_STEP));
        step.sort_unstable();
        step.truncate(EXPIRY_GROUPS_PER_STEP);
        let mut records = Vec::new();
        for id in &step {
            let Some(group) = self.any(id) else { continue };
            let is_unused = group.is_unused();
            let is_held = self.pending.places(id).next().is_some();
            let mut gone = self.offsets.expired(group, now.wall, self.config.offsets_retention_ms);
            gone.retain(|place| !self.pending.contains(place));
            self.tombstone(gone, &mut records);
            if is_unused && !is_held && self.offsets.count(id) == 0 {
                self.delete_group(now, id, &mut records, out);
            }
        }
        if !records.is_empty() {
            out.push(GroupEffect::Append { records, replies: Vec::new() });
        }
        if step.len() == EXPIRY_GROUPS_PER_STEP {
            self.swept = step.last().cloned();
            self.timers.arm(Alarm::Expiry, now.monotonic);
        } else {
            self.arm_expiry(now);
        }
    }

    fn arm_expiry(&mut self, now: Now) {
        let interval = Duration::from_millis(self.config.offsets_retention_check_interval_ms);
        self.timers.arm(Alarm::Expiry, now.monotonic.after(interval));
    }
}

/// A JoinGroup may create its group, if it comes without a member id.
fn join_group(
    (groups, room): (&mut Roster, GroupsRoom),
    mut turn: Turn<'_>,
    dice: &mut Dice,
    request: &JoinGroupRequest,
    joiner: Joiner,
) {
    let group_id: &str = &request.group_id;
    let member_id = joiner.member_id.clone();
    if let Err(error) = check_join(request, &joiner, turn.config) {
        return refuse(&mut turn, &joiner, error, &member_id);
    }
    let known_bytes = groups.get(group_id).and_then(|group| group.joiner_bytes(&joiner));
    let grows = known_bytes.is_none_or(|bytes| joiner.weight_bytes() > bytes);
    if grows && joiner.weight_bytes() > room.bytes {
        return refuse(&mut turn, &joiner, ErrorCode::CoordinatorNotAvailable, &member_id);
    }
    if groups.contains(group_id) {
        groups.change(group_id, |group| join(group, &mut turn, dice, joiner));
        return;
    }
    if !member_id.is_empty() {
        return refuse(&mut turn, &joiner, ErrorCode::UnknownMemberId, &member_id);
    }
    if room.groups == 0 {
        return refuse(&mut turn, &joiner, ErrorCode::CoordinatorNotAvailable, "");
    }
    let mut group = Group::new(group_id, Some(turn.now.wall));
    join(&mut group, &mut turn, dice, joiner);
    // A refused join leaves nothing behind.
    if group.state_name() != StateName::Empty || !group.pending().is_empty() {
        groups.put(group);
    }
}

fn append_or_reply(
    records: Vec<StateRecord>,
    (ticket, response): (Ticket, GroupResponse),
    out: &mut Vec<GroupEffect>,
) {
    out.push(if records.is_empty() {
        GroupEffect::Reply { ticket, response }
    } else {
        GroupEffect::Append { records, replies: vec![(ticket, response)] }
    });
}

/// What members of an unknown group are told.
fn unknown_group(group_id: &str) -> ErrorCode {
    if group_id.is_empty() { ErrorCode::InvalidGroupId } else { ErrorCode::UnknownMemberId }
}
