//! The group coordinator: owner of all groups and offsets of one partition of the offsets topic.
//!
//! Does: hand each request, alarm and record to the room that knows about it; apply what records
//! mean, the same way live and when loading.
//! Does not: know Kafka's rules; the rooms do.
//! Invariants: offsets change in `apply` only; a group that holds neither members nor offsets nor
//! pending ids may go at any time.
//! Apart because there must be one owner of the maps.

use std::collections::BTreeSet;
use std::time::Duration;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::ids::Offset;
use flumen_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, SyncGroupRequest,
};
use flumen_protocol::time::{Monotonic, Now};

use super::GroupConfig;
use super::admin::{check_delete, describe, list};
use super::classic::{Group, StateName};
use super::commit::{Accepted, check_commit, commit, delete_offsets, fetch, renews_session};
use super::join::{check_join, join, refuse};
use super::member::{Joiner, Waiting};
use super::offsets::{OffsetTable, Place};
use super::presence::{heartbeat, leave, sync};
use super::rebalance::{join_is_over, prepare, session_is_over, sync_is_over};
use super::requests::{
    GroupEffect, GroupRecord, GroupRequest, GroupResponse, commit_refused, delete_result,
    leave_refused, sync_refused,
};
use super::roster::Roster;
use super::stored::{ReplayError, Stored, group_gone_record, offset_gone_record, read};
use super::turn::Turn;
use crate::coordinator::Ticket;
use crate::coordinator::timers::{Alarm, Timers};
use crate::dice::Dice;
use crate::limits::{
    ALARMS_PER_TURN_MAX, COORDINATOR_GROUPS_BYTES_MAX, EXPIRY_GROUPS_PER_STEP, GROUPS_MAX,
};

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
    pub state: StateName,
    /// How many members it has.
    pub members: usize,
    /// Its generation.
    pub generation: i32,
}

/// All groups of one partition of the offsets topic.
#[derive(Clone, Debug)]
pub struct GroupCoordinator {
    config: GroupConfig,
    groups: Roster,
    offsets: OffsetTable,
    timers: Timers,
    /// The last group the expiry sweep under way has looked at.
    swept: Option<String>,
}

impl GroupCoordinator {
    /// A coordinator without groups, to be filled by [`GroupCoordinator::replay`].
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: Roster::default(),
            offsets: OffsetTable::default(),
            timers: Timers::default(),
            swept: None,
        }
    }

    /// Applies a record of the log, oldest first.
    ///
    /// # Errors
    /// When it is none that Kafka writes; nothing has changed then.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), ReplayError> {
        let stored = read(key, value)?;
        self.apply(stored);
        Ok(())
    }

    /// The log has been replayed to its end: members' sessions begin now, and groups that are too
    /// large by a changed configuration rebalance.
    pub fn loaded(&mut self, now: Now) {
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
        self.arm_expiry(now);
    }

    /// Handles a request. It is answered now, with a later effect, or when its group moves on.
    pub fn handle(
        &mut self,
        now: Now,
        dice: &mut Dice,
        ticket: Ticket,
        request: GroupRequest,
        out: &mut Vec<GroupEffect>,
    ) {
        let response = match request {
            GroupRequest::Join { request, version, client_id, client_host } => {
                let waiting = Waiting { ticket, version };
                let joiner = Joiner::new(&request, waiting, client_id, client_host);
                let turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
                return join_group(&mut self.groups, turn, dice, &request, joiner);
            }
            GroupRequest::Sync { request } => return self.sync(now, ticket, &request, out),
            GroupRequest::CommitOffsets { request, version } => {
                return self.commit(now, ticket, (&request, version), out);
            }
            GroupRequest::Delete { group_id } => return self.delete(ticket, &group_id, out),
            GroupRequest::DeleteOffsets { request } => {
                let group = self.groups.get(&request.group_id);
                let (gone, response) = delete_offsets(group, &self.offsets, &request);
                return self.forget(gone, (ticket, GroupResponse::DeleteOffsets(response)), out);
            }
            GroupRequest::TopicsDeleted { names } => {
                return self.topics_deleted(ticket, &names, out);
            }
            GroupRequest::Heartbeat { request } => {
                let error = self.heartbeat(now, &request, out);
                let response = HeartbeatResponse::default().with_error_code(error.code());
                GroupResponse::Heartbeat(response)
            }
            GroupRequest::Leave { request, version } => {
                GroupResponse::Leave(self.leave(now, &request, version, out))
            }
            GroupRequest::FetchOffsets { request, .. } => {
                // Every answer waits for what was appended before it, and no transaction is open:
                // stable offsets are all there are.
                let group = self.groups.get(&request.group_id);
                GroupResponse::FetchOffsets(fetch(group, &self.offsets, &request))
            }
            GroupRequest::Describe { group_id, version } => {
                let group = self.groups.get(&group_id);
                GroupResponse::Describe(describe(group, &group_id, version))
            }
            GroupRequest::List { wanted } => GroupResponse::List(list(self.groups.iter(), &wanted)),
        };
        out.push(GroupEffect::Reply { ticket, response });
    }

    /// Does what has fallen due, a bounded number of things at a time.
    pub fn on_time(&mut self, now: Now, out: &mut Vec<GroupEffect>) {
        // Taken first: what is armed meanwhile waits for the next turn, even if it is due at once.
        let timers = &mut self.timers;
        let due: Vec<Alarm> = std::iter::from_fn(|| timers.take_due(now.monotonic))
            .take(ALARMS_PER_TURN_MAX)
            .collect();
        for alarm in due {
            let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
            let groups = &mut self.groups;
            match alarm {
                Alarm::Session { group, member } => {
                    groups.change(&group, |group| session_is_over(group, &mut turn, &member));
                }
                Alarm::Join { group } => {
                    groups.change(&group, |group| join_is_over(group, &mut turn));
                }
                Alarm::Sync { group } => {
                    groups.change(&group, |group| sync_is_over(group, &mut turn));
                }
                Alarm::Expiry => self.sweep(now, out),
            }
        }
    }

    /// When [`GroupCoordinator::on_time`] must be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.next()
    }

    /// Every request that is parked with a group: to be refused when the machine is dropped.
    #[must_use]
    pub fn parked(&self, error: ErrorCode) -> Vec<(Ticket, GroupResponse)> {
        let mut parked = Vec::new();
        for member in self.groups.iter().flat_map(|group| group.members().values()) {
            if let Some(Waiting { ticket, version }) = member.joining {
                let refusal = super::requests::join_refused(error, &member.id, version);
                parked.push((ticket, GroupResponse::Join(refusal)));
            }
            if let Some(Waiting { ticket, .. }) = member.syncing {
                parked.push((ticket, GroupResponse::Sync(sync_refused(error))));
            }
        }
        parked
    }

    /// The groups, for metrics.
    pub fn groups(&self) -> impl Iterator<Item = GroupRow<'_>> {
        self.groups.iter().map(|group| GroupRow {
            id: &group.id,
            state: group.state_name(),
            members: group.members().len(),
            generation: group.generation,
        })
    }

    /// The committed offsets, for metrics: with the partitions' ends they give the lag.
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
}

/// Requests that touch more than one group's state.
impl GroupCoordinator {
    fn sync(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: &SyncGroupRequest,
        out: &mut Vec<GroupEffect>,
    ) {
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        let given: usize = request.assignments.iter().map(|one| one.assignment.len()).sum();
        let held = self.groups.get(&request.group_id).map_or(0, Group::assignments_bytes);
        if given > held && self.groups.bytes() - held + given > COORDINATOR_GROUPS_BYTES_MAX {
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
        let mut turn = Turn { config: &self.config, now, timers: &mut self.timers, out };
        let group = self.groups.get(&request.group_id);
        let mut checked = check_commit(group, request, version);
        if group.is_none() && self.groups.count() >= GROUPS_MAX {
            checked = checked.and(Err(ErrorCode::CoordinatorNotAvailable));
        }
        if let Err(error) = checked {
            let refusal = commit_refused(request, error);
            return turn.reply(ticket, GroupResponse::CommitOffsets(refusal));
        }
        if let Some(group) = group
            && let Some(session_ms) = renews_session(group, &request.member_id)
        {
            turn.renew_session(&group.id, &request.member_id, session_ms);
        }
        let (accepted, response) = commit(&self.offsets, &self.config, request, now.wall);
        let mut records = Vec::with_capacity(accepted.len());
        for Accepted { place, committed, record } in accepted {
            self.apply(Stored::Offset { place, committed });
            records.push(record);
        }
        append_or_reply(records, (ticket, GroupResponse::CommitOffsets(response)), out);
    }

    fn delete(&mut self, ticket: Ticket, group_id: &str, out: &mut Vec<GroupEffect>) {
        let error = check_delete(self.groups.get(group_id));
        let response = GroupResponse::Delete(delete_result(group_id, error));
        let mut records = Vec::new();
        if error == ErrorCode::None {
            let gone = self.offsets.places(group_id, |_, _| true);
            self.tombstone(gone, &mut records);
            self.tombstone_group(group_id.to_owned(), &mut records);
        }
        append_or_reply(records, (ticket, response), out);
    }

    fn topics_deleted(&mut self, ticket: Ticket, names: &[String], out: &mut Vec<GroupEffect>) {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let is_gone = |topic: &str| names.contains(topic);
        let mut gone = Vec::new();
        for (group, topics) in self.offsets.groups() {
            if topics.keys().any(|topic| is_gone(topic)) {
                gone.extend(self.offsets.places(group, |topic, _| is_gone(topic)));
            }
        }
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
        let step = self.groups.ids_behind(self.swept.take(), EXPIRY_GROUPS_PER_STEP);
        let mut records = Vec::new();
        for id in &step {
            let Some(group) = self.groups.get(id) else { continue };
            let is_unused = group.state_name() == StateName::Empty && group.pending().is_empty();
            let gone = self.offsets.expired(group, now.wall, self.config.offsets_retention_ms);
            self.tombstone(gone, &mut records);
            if is_unused && self.offsets.count(id) == 0 {
                self.tombstone_group(id.clone(), &mut records);
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

/// What records mean.
impl GroupCoordinator {
    fn apply(&mut self, stored: Stored) {
        match stored {
            Stored::Group(group) => {
                self.groups.put(*group);
            }
            Stored::GroupGone { id } => {
                let Some(group) = self.groups.take(&id) else { return };
                for member in group.members().keys().chain(group.pending()) {
                    let (group, member) = (id.clone(), member.clone());
                    self.timers.cancel(&Alarm::Session { group, member });
                }
            }
            Stored::Offset { place, committed } => {
                // A group that is only known by its offsets: a simple one, without a record.
                if !self.groups.contains(&place.group) {
                    self.groups.put(Group::new(&place.group, None));
                }
                self.offsets.put(place, committed);
            }
            Stored::OffsetGone { place } => self.offsets.remove(&place),
            Stored::Unknown => {}
        }
    }

    fn tombstone(&mut self, gone: Vec<Place>, records: &mut Vec<GroupRecord>) {
        for place in gone {
            records.push(offset_gone_record(&place));
            self.apply(Stored::OffsetGone { place });
        }
    }

    fn tombstone_group(&mut self, id: String, records: &mut Vec<GroupRecord>) {
        records.push(group_gone_record(&id));
        self.apply(Stored::GroupGone { id });
    }
}

/// A JoinGroup may create its group, if it comes without a member id.
fn join_group(
    groups: &mut Roster,
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
    if grows && groups.bytes() + joiner.weight_bytes() > COORDINATOR_GROUPS_BYTES_MAX {
        return refuse(&mut turn, &joiner, ErrorCode::CoordinatorNotAvailable, &member_id);
    }
    if groups.contains(group_id) {
        groups.change(group_id, |group| join(group, &mut turn, dice, joiner));
        return;
    }
    if !member_id.is_empty() {
        return refuse(&mut turn, &joiner, ErrorCode::UnknownMemberId, &member_id);
    }
    if groups.count() >= GROUPS_MAX {
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
    records: Vec<GroupRecord>,
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
